"""A cluster from one seed: production gossip, engine and store on a virtual network, clock and disk.

First faults: frames are lost, doubled, delayed past each other; nodes are cut off, killed with loss of what wasn't synced,
run out of disk, restarted; clocks disagree; all the while clients write. Then everything heals, and within a bounded time
all nodes must hold the same, every row must be where it belongs, and the oracle must find every acknowledged write.

    report = simulate(seed=7)

A seed that fails raises SimulationError, which has the whole schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import combinations, count
from random import Random

from crdtdb.cluster.actions import Close, Dial, Log, Send
from crdtdb.cluster.engine import Engine, NodeIdentity
from crdtdb.database import Database
from crdtdb.documents import Rev
from crdtdb.documents.json import canonical
from crdtdb.errors import ConflictError, NotFoundError, StoreError
from crdtdb.gossip import GossipConfig
from crdtdb.store import Durability, Store
from crdtdb.testing.invariants import check_store
from crdtdb.testing.oracle import Acknowledged, check_nothing_lost
from crdtdb.testing.virtual import Timeline, VirtualDisk, Weather

_EPOCH_MILLISECONDS = 1_700_000_000_000
_TICK = 0.1

StoreFactory = Callable[..., Store]


class SimulationError(AssertionError):
    """A seed for which the cluster failed. Its text has the seed, the reason and the schedule."""


@dataclass
class Report:
    """What happened in a simulation that went well."""

    seed: int
    nodes: int
    acknowledged: int
    kills: int
    frames: int
    healed_in: float
    """Virtual seconds from the end of the faults until all nodes held the same."""
    trace: str
    """A digest of everything that happened: equal for equal seeds."""


class SimulatedNode:
    """One node: a disk that outlives it, and an engine while it runs."""

    def __init__(self, world: World, name: str, durability: Durability) -> None:
        self.world, self.name, self.durability = world, name, durability
        self.disk = VirtualDisk()
        self.skew = world.dice.uniform(-30, 30)
        self.engine: Engine | None = None
        self.database: Database | None = None
        self._life = 0
        self.synced_acks: list[Acknowledged] = []
        self.unsynced_acks: list[tuple[int, Acknowledged]] = []

    @property
    def up(self) -> bool:
        return self.engine is not None

    def start(self) -> None:
        """Open the store and begin; if the disk fails, try again a little later."""
        try:
            self._start()
        except StoreError as error:
            self.world.note(f"{self.name} can't start: {error}")
            self.kill()
            self.world.timeline.after(0.5, self.world.reviver(self))

    def _start(self) -> None:
        world = self.world
        self._life += 1
        store = world.make_store(self.disk.open(), self.durability, self.wall, world.dice.randbytes)
        self.database = Database(store)
        others = [name for name in world.nodes if name != self.name]
        join = tuple(others[:1]) if self.name != "n1" else ()
        self.engine = Engine(
            self.database,
            NodeIdentity("virtual", self.name, self.name, join),
            world.config,
            Random(world.dice.random()),  # noqa: S311
            world.timeline.now,
        )
        self._tick(self._life)

    def wall(self) -> int:
        return _EPOCH_MILLISECONDS + int((self.world.timeline.now + self.skew) * 1000)

    def kill(self) -> None:
        """The power goes."""
        if self.database is None:
            return
        lost_from = self.disk.syncs
        self.disk.lose(self.world.dice)
        # What a buffered node acknowledged since its last sync may be gone: that is what buffered means.
        if not self.disk.lies:
            self.synced_acks += [ack for syncs, ack in self.unsynced_acks if syncs < lost_from]
        self.unsynced_acks = []
        self.engine = self.database = None
        self._life += 1
        self.world.drop_links(self.name)

    def stop(self) -> None:
        """A clean stop."""
        if self.engine is None or self.database is None:
            return
        try:
            self.engine.stop(self.world.timeline.now)
            self.perform()
            self.database.close()
        except StoreError as error:
            self.world.note(f"{self.name} dies while it stops: {error}")
            self.kill()
            return
        self.engine = self.database = None
        self._life += 1
        self.world.drop_links(self.name)

    def _tick(self, life: int) -> None:
        if life != self._life or self.engine is None:
            return
        self.step(lambda engine, now: engine.tick(now))
        self.world.timeline.after(self.world.dice.uniform(0.5, 1.5) * _TICK, lambda: self._tick(life))

    def step(self, act: Callable[[Engine, float], None]) -> None:
        """Let the engine have an event, and do what it wants done. A failing disk ends the node."""
        if self.engine is None:
            return
        try:
            act(self.engine, self.world.timeline.now)
            self.perform()
            while self.engine.work():
                self.perform()
            self.perform()
        except StoreError as error:
            self.world.note(f"{self.name} dies: {error}")
            self.kill()
            self.world.timeline.after(1.0, self.world.reviver(self))

    def perform(self) -> None:
        """Do what the engine wants done."""
        assert self.engine is not None
        for action in self.engine.take():
            if isinstance(action, Send):
                self.world.send(self, action.link, action.payload)
            elif isinstance(action, Dial):
                self.world.dial(self, action.address)
            elif isinstance(action, Close):
                self.world.close_link(action.link)
            elif isinstance(action, Log) and action.level in ("WARNING", "ERROR"):
                self.world.note(f"{self.name} {action.level.lower()}: {action.text}")

    def acknowledge(self, ack: Acknowledged) -> None:
        """Remember what a client was told."""
        if self.durability == "sync" and not self.disk.lies:
            self.synced_acks.append(ack)
        else:
            self.unsynced_acks.append((self.disk.syncs, ack))


@dataclass
class World:
    """Everything in a simulation."""

    dice: Random
    config: GossipConfig
    make_store: StoreFactory
    timeline: Timeline = field(default_factory=Timeline)
    weather: Weather = field(default_factory=Weather)
    nodes: dict[str, SimulatedNode] = field(default_factory=dict)
    links: dict[int, tuple[str, str]] = field(default_factory=dict)
    schedule: list[str] = field(default_factory=list)
    frames: int = 0
    kills: int = 0
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _trace: blake2b = field(default_factory=lambda: blake2b(digest_size=8))

    def note(self, text: str) -> None:
        """Write a line of the schedule."""
        self.schedule.append(f"{self.timeline.now:8.3f}  {text}")
        self._trace.update(self.schedule[-1].encode())

    @property
    def trace(self) -> str:
        self._trace.update(b"%d" % self.frames)
        return self._trace.hexdigest()

    # The network

    def dial(self, node: SimulatedNode, address: str) -> None:
        """Connect two nodes, if both are there."""

        def connect() -> None:
            other = self.nodes[address]
            if not node.up:
                return
            if not other.up or not self.weather.passes(node.name, address):
                node.step(lambda engine, now: engine.dial_failed(address, "unreachable", now))
                return
            number = next(self._numbers)
            self.links[number] = (node.name, address)
            node.step(lambda engine, now: engine.opened(number, address, None, now))
            other.step(lambda engine, now: engine.opened(number, None, None, now))

        self.timeline.after(self.dice.uniform(0.5, 2) * self.weather.delay, connect)

    def send(self, node: SimulatedNode, link: int, payload: bytes) -> None:
        """Carry a payload to the other end, perhaps."""
        ends = self.links.get(link)
        if ends is None:
            return
        other = self.nodes[ends[1] if ends[0] == node.name else ends[0]]
        self.frames += 1
        copies = 2 if self.dice.random() < self.weather.doubling else 1
        for _ in range(copies):
            if self.dice.random() >= self.weather.loss and self.weather.passes(*ends):
                delay = self.dice.expovariate(1 / self.weather.delay)
                self.timeline.after(delay, lambda: self._deliver(other, link, payload))

    def _deliver(self, other: SimulatedNode, link: int, payload: bytes) -> None:
        if link in self.links and self.weather.passes(*self.links[link]):
            other.step(lambda engine, now: engine.received(link, payload, now))

    def close_link(self, link: int) -> None:
        """End a connection; both ends learn of it after a while."""
        ends = self.links.pop(link, None)
        for name in ends or ():
            self.timeline.after(
                self.dice.uniform(0, 0.2),
                lambda name=name: self.nodes[name].step(lambda e, now: e.closed(link, now)),  # type: ignore[misc]
            )

    def drop_links(self, name: str) -> None:
        """End all connections of a node that is gone."""
        for link, ends in list(self.links.items()):
            if name in ends:
                self.close_link(link)

    def reviver(self, node: SimulatedNode) -> Callable[[], None]:
        """Return what starts a node again, if it is down by then."""

        def revive() -> None:
            if not node.up:
                self.note(f"{node.name} starts")
                node.start()

        return revive


def simulate(
    seed: int,
    *,
    nodes: int | None = None,
    seconds: float = 8.0,
    heal_seconds: float = 60.0,
    writes_a_second: float = 12.0,
    make_store: StoreFactory = Store,
) -> Report:
    """Run a cluster through faults and heal it. `nodes` is 3 to 7 by the seed, unless given.

    `make_store` makes the stores: give a broken one to see the simulator find it. Raises SimulationError.
    """
    dice = Random(seed)  # noqa: S311
    size = nodes or dice.randint(3, 7)
    world = World(dice, GossipConfig(), make_store)
    try:
        return _run(world, seed, size, seconds, heal_seconds, writes_a_second)
    except Exception as error:
        schedule = "\n".join(world.schedule)
        raise SimulationError(
            f"seed {seed} with {size} nodes failed at {world.timeline.now:.3f} s: {type(error).__name__}: {error}\n{schedule}"
        ) from error


def _run(world: World, seed: int, size: int, seconds: float, heal_seconds: float, rate: float) -> Report:
    dice = world.dice
    for number in range(size):
        durability: Durability = "buffered" if dice.random() < 0.25 else "sync"
        name = f"n{number + 1}"
        world.nodes[name] = SimulatedNode(world, name, durability)
        world.nodes[name].disk.lies = dice.random() < 0.15
        disk = "a lying" if world.nodes[name].disk.lies else "an honest"
        world.note(f"{name} is {durability} on {disk} disk, its clock off by {world.nodes[name].skew:.1f} s")
    for node in world.nodes.values():
        world.timeline.after(dice.uniform(0, 1.0), world.reviver(node))
    world.timeline.run(2.0)
    _plan_faults(world, seconds)
    clients = Clients(world, rate, world.timeline.now + seconds)
    clients.next()
    world.timeline.run(world.timeline.now + seconds)

    _heal(world)
    healed = world.timeline.now
    world.timeline.run(healed + 3.0)
    if not world.timeline.run(healed + heal_seconds, lambda: _agree(world)):
        raise AssertionError(f"no agreement {heal_seconds:.0f} s after the faults ended: {_differences(world)}")
    took = world.timeline.now - healed
    _check(world)
    at_rest = [node.database.store.held.clock for node in world.nodes.values() if node.database]
    world.timeline.run(world.timeline.now + 5.0)
    now = [node.database.store.held.clock for node in world.nodes.values() if node.database]
    assert now == at_rest, "a converged cluster at rest writes nothing"
    acks = sum(len(node.synced_acks) + len(node.unsynced_acks) for node in world.nodes.values())
    return Report(seed, size, acks, world.kills, world.frames, took, world.trace)


class Clients:
    """People who write to whatever node is up."""

    def __init__(self, world: World, rate: float, until: float) -> None:
        self._world, self._rate, self._until = world, rate, until
        self._bodies = count()

    def next(self) -> None:
        """Write once, and plan the next write."""
        world, dice = self._world, self._world.dice
        if world.timeline.now >= self._until:
            return
        node = dice.choice(list(world.nodes.values()))
        if node.engine is not None and node.database is not None and node.engine.readiness.ready:
            try:
                self._write(node, node.database)
            except (ConflictError, NotFoundError):
                pass
            except StoreError as error:
                world.note(f"{node.name} dies: {error}")
                node.kill()
                world.timeline.after(dice.uniform(0.5, 3), world.reviver(node))
        world.timeline.after(dice.expovariate(self._rate), self.next)

    def _write(self, node: SimulatedNode, database: Database) -> None:
        dice = self._world.dice
        if dice.random() < 0.1:
            self._scrap(node, database)
            return
        notes = database.collection(dice.choice(["notes", "tasks"]))
        doc_id = dice.choice("abcdefgh")
        body = {"n": next(self._bodies) if dice.random() < 0.8 else dice.randint(-3, -1)}
        what = dice.choice(["put", "put", "put", "loser", "delete", "resolve", "resolve", "bulk"])
        current = notes.get(doc_id) if doc_id in notes else None
        if what == "delete" and current is not None:
            written = [notes.delete(doc_id, current.rev)]
        elif what == "resolve" and current is not None:
            written = [notes.resolve(doc_id, body)]
        elif what == "loser" and current is not None and current.conflicts:
            written = [notes.put(doc_id, body, dice.choice(current.conflicts))]
        elif what == "bulk":
            size = dice.choice([2, 3, 5, 8, 80])  # beyond what a rumor takes, now and then
            results = notes.bulk([{"_id": f"bulk{next(self._bodies)}", **body} for _ in range(size)])
            written = [one for one in results if not isinstance(one, Exception)]
        else:
            written = [notes.put(doc_id, body, current.rev if current is not None else None)]
        for document in written:
            text = None if document.deleted else canonical(dict(document))
            ack = Acknowledged(
                node.name, self._world.timeline.now, notes.name, document.id, Rev.parse(document.rev), text
            )
            node.acknowledge(ack)
        self._world.note(
            f"{node.name} {what} {notes.name}/{written[0].id} {written[0].rev[:10]}, {len(written)} documents"
        )

    def _scrap(self, node: SimulatedNode, database: Database) -> None:
        """Write to a collection that is dropped now and then, so nothing in it is owed to anybody; or drop it.

        All nodes must agree on what is left of it, and no row may remain of what isn't.
        """
        dice, scrap = self._world.dice, database.collection("scrap")
        if "scrap" in database and dice.random() < 0.3:
            database.drop("scrap")
            self._world.note(f"{node.name} drops scrap")
            return
        doc_id = dice.choice("abc")
        current = scrap.get(doc_id) if doc_id in scrap else None
        scrap.put(doc_id, {"n": next(self._bodies)}, current.rev if current is not None else None)
        self._world.note(f"{node.name} put scrap/{doc_id}")


def _plan_faults(world: World, seconds: float) -> None:
    dice, timeline = world.dice, world.timeline
    world.weather.loss = dice.choice([0, 0, 0.02, 0.1, 0.3])
    world.weather.doubling = dice.choice([0, 0, 0.05, 0.2])
    world.weather.delay = dice.choice([0.001, 0.01, 0.05, 0.2])
    world.note(f"weather: {world.weather}")
    for _ in range(dice.randint(2, 8)):
        fault = dice.choice([_cut, _cut, _kill, _kill, _restart, _fill_disk, _mend])
        timeline.after(dice.uniform(0, seconds * 0.95), lambda fault=fault: fault(world))  # type: ignore[misc]


def _cut(world: World) -> None:
    names = list(world.nodes)
    side = set(world.dice.sample(names, world.dice.randint(1, len(names) - 1)))
    world.weather.cut = {frozenset(pair) for pair in combinations(names, 2) if (pair[0] in side) != (pair[1] in side)}
    world.note(f"the network is cut: {sorted(side)} | {sorted(set(names) - side)}")
    for link, ends in list(world.links.items()):
        if not world.weather.passes(*ends) and world.dice.random() < 0.5:
            world.close_link(link)  # the other half stay half open


def _mend(world: World) -> None:
    world.weather.cut = set()
    world.note("the network is whole")


def _kill(world: World) -> None:
    node = world.dice.choice(list(world.nodes.values()))
    if node.up:
        world.note(f"{node.name} is killed")
        world.kills += 1
        node.kill()
        world.timeline.after(world.dice.uniform(0.1, 4), world.reviver(node))


def _restart(world: World) -> None:
    node = world.dice.choice(list(world.nodes.values()))
    if node.up:
        world.note(f"{node.name} is stopped")
        node.stop()
        world.timeline.after(world.dice.uniform(0.1, 4), world.reviver(node))


def _fill_disk(world: World) -> None:
    node = world.dice.choice(list(world.nodes.values()))
    node.disk.full_in = world.dice.randint(0, 20)
    world.note(f"{node.name}: the disk will be full after {node.disk.full_in} writes")


def _heal(world: World) -> None:
    world.weather.loss = world.weather.doubling = 0.0
    world.weather.delay = 0.005
    world.weather.cut = set()
    for node in world.nodes.values():
        node.disk.full_in = None
        if not node.up:
            node.start()
    world.note("everything heals")


def _agree(world: World) -> bool:
    stores = [node.database.store for node in world.nodes.values() if node.database is not None]
    ready = all(node.engine is not None and node.engine.readiness.ready for node in world.nodes.values())
    return ready and len(stores) == len(world.nodes) and len({store.held.clock for store in stores}) == 1


def _differences(world: World) -> str:
    return "; ".join(
        f"{name}: {node.database.store.held.clock}, ways {sorted(node.engine.links.ways)}, {node.engine.readiness}"
        for name, node in world.nodes.items()
        if node.database is not None and node.engine is not None
    )


def _check(world: World) -> None:
    names = sorted({name for node in world.nodes.values() if node.database for name in node.database.collections()})
    acknowledged = [ack for node in world.nodes.values() for ack in node.synced_acks]
    acknowledged += [ack for node in world.nodes.values() for _, ack in node.unsynced_acks]
    for name in names:
        digests = {
            one: node.database.collection(name).digest()
            for one, node in world.nodes.items()
            if node.database is not None
        }
        assert len(set(digests.values())) == 1, f"equal clocks, but {name!r} differs: {digests}"
    for node in world.nodes.values():
        assert node.database is not None
        check_store(node.database.store)
        check_nothing_lost(node.database.store, acknowledged)
