"""Simulated nodes: production engines and stores on virtual disk and network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import count
from random import Random
from typing import TypeVar

from crdtdb.causality import Dot
from crdtdb.cluster.engine.actions import Close, Dial, Log, Send
from crdtdb.cluster.engine.engine import Engine
from crdtdb.cluster.engine.node_identity import NO_HOST, NodeIdentity
from crdtdb.cluster.engine.reconciliation import Finding
from crdtdb.couchdb import Checkpoints
from crdtdb.database import Database
from crdtdb.errors import StoreError
from crdtdb.gossip import GossipConfig
from crdtdb.security.peer import PeerIdentity
from crdtdb.store import Durability, Store
from crdtdb.store.identity import NOISE_BYTES
from crdtdb.testing.oracle import Acknowledged, Graves, Origins
from crdtdb.testing.processor import Processor
from crdtdb.testing.rogues import RogueMember
from crdtdb.testing.virtual import Timeline, VirtualDisk, Weather
from crdtdb.wire.messages import MINOR

_EPOCH_MILLISECONDS = 1_700_000_000_000
_TICK = 0.1
_WORK_PAUSE_SECONDS_MAX = 0.02
_MINOR_BY_DICE = 3

T = TypeVar("T")
StoreFactory = Callable[..., Store]


class SimulatedNode:
    """One node: a disk that outlives it, and an engine while it runs."""

    def __init__(self, world: World, name: str, durability: Durability) -> None:
        self.world, self.name, self.durability = world, name, durability
        self.disk = VirtualDisk(name)
        self.copies: list[tuple[float, VirtualDisk]] = []
        """Older copies of the disk, and when they were taken."""
        self.skew = world.rng.uniform(-30, 30)
        self.engine: Engine | None = None
        self.database: Database | None = None
        self.minor = MINOR
        """The minor version of the protocol that it speaks; when it starts again it may have been upgraded."""
        self.offline = False
        """Whether it takes writes without asking the others first, when it starts the next time."""
        self._life = 0
        self._busy_until = 0.0
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
        if self._life:
            self.minor = world.draw_minor(self.minor)
        self._life += 1
        store = world.make_store(self.disk.open(), self.durability, self.wall, world.draw)
        self.database = Database(store)
        others = [name for name in world.nodes if name != self.name]
        join = tuple(others[:1]) if self.name != "n1" else ()
        self.engine = Engine(
            self.database,
            NodeIdentity("virtual", self.name, self.name, join, rejoin=True, minor=self.minor, offline=self.offline),
            world.config,
            Random(world.rng.random()),  # noqa: S311
            world.timeline.now,
            NO_HOST._replace(read_clock=Checkpoints(store, world.checkpoint_ttl, self.wall).told),
        )
        world.actors |= {store.actor, store.tag}
        world.graves.watch(store)
        world.origins.watch(store)
        self._tick(self._life)

    def wall(self) -> int:
        return _EPOCH_MILLISECONDS + int((self.world.timeline.now + self.skew) * 1000)

    def kill(self) -> None:
        """The power goes."""
        if self.database is None:
            return
        lost_from = self.disk.syncs
        self.disk.lose(self.world.rng)
        # What a buffered node acknowledged since its last sync may be gone: that is what buffered means.
        if not self.disk.lies:
            self.synced_acks += [ack for syncs, ack in self.unsynced_acks if syncs < lost_from]
        self.unsynced_acks = []
        self.engine = self.database = None
        self._life += 1
        self.world.drop_links(self.name)

    def rewind(self) -> None:
        """Put an older copy of the disk in its place. Writes acknowledged since need not survive."""
        at, disk = self.world.rng.choice(self.copies)
        self.kill()
        self.put_back(at, disk)

    def put_back(self, at: float, disk: VirtualDisk) -> None:
        """Put a copy of the disk that was taken at some time in its place; writes acknowledged since need not survive."""
        self.disk = disk.copy(self.name)
        self.synced_acks = [ack for ack in self.synced_acks if ack.at <= at]
        self.unsynced_acks = [(syncs, ack) for syncs, ack in self.unsynced_acks if ack.at <= at]

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
        if self.busy_for > 0:
            self.world.timeline.after(self.busy_for, lambda: self._tick(life))
            return
        self.step(lambda engine, now: engine.tick(now))
        self.world.timeline.after(self.world.rng.uniform(0.5, 1.5) * _TICK, lambda: self._tick(life))

    def _work_on(self, life: int) -> None:
        """Go on with work that takes longer, unless the node has ended meanwhile."""
        if life == self._life and self.busy_for > 0:
            self.world.timeline.after(self.busy_for, partial(self._work_on, life))
        elif life == self._life:
            self.step(lambda engine, now: None)  # noqa: ARG005

    def step(self, act: Callable[[Engine, float], None]) -> None:
        """Pass an event to the engine and run its actions. A disk failure ends the node."""
        if self.engine is None:
            return
        store = self.engine.store
        try:
            engine = self.engine
            self._turn(lambda: act(engine, self.world.timeline.now))
            self.world.actors |= {store.actor, store.tag}
            self.perform()
            while self._turn(self.engine.work):
                self.perform()
                if self.world.pauses is not None:  # others have their turn before the work goes on
                    pause = self.world.pauses.uniform(0, _WORK_PAUSE_SECONDS_MAX)
                    self.world.timeline.after(pause, partial(self._work_on, self._life))
                    break
            self.perform()
            self._check_faults()
        except StoreError as error:
            self.world.note(f"{self.name} dies: {error}")
            self.world.actors |= {
                store.actor,
                store.tag,
            }  # it may have drawn one, and written under it, before the disk failed
            self.kill()
            self.world.timeline.after(1.0, self.world.reviver(self))

    def _check_faults(self) -> None:
        """Whatever a node contains, an unexpected error is a fault in the code."""
        rogue = self.world.rogue
        honest = rogue is None or rogue.name != self.name
        faults = self.engine.boundary.faults if self.engine is not None and honest else []
        assert not faults, f"{self.name} contained unexpected errors: {faults}"

    def _turn(self, act: Callable[[], T]) -> T:
        """Let the engine do one thing, and be busy for as long as that takes."""
        processor, now = self.world.processor, self.world.timeline.now
        if processor is None:
            return act()
        processor.take()  # what a client's write took is no turn
        result = act()
        seconds = processor.take()
        self.world.longest_turn = max(self.world.longest_turn, seconds)
        self._busy_until = max(self._busy_until, now) + seconds
        return result

    @property
    def busy_for(self) -> float:
        """For how many seconds the engine is still busy."""
        return max(0.0, self._busy_until - self.world.timeline.now)

    def hear_aside(self, link: int, payload: bytes) -> None:
        """Do what the runtime does with a frame that comes while the engine is busy: it waits, and a ping is answered."""
        if self.engine is not None:
            self.engine.heartbeats.arrived(link, self.world.timeline.now)
            answer = self.engine.heartbeats.answer(link, payload)
            if answer is not None:
                self.world.send(self, link, answer)

    def perform(self) -> None:
        """Run the engine's actions."""
        assert self.engine is not None
        for action in self.engine.take():
            if isinstance(action, Send):
                self.world.send(self, action.link, action.payload)
            elif isinstance(action, Dial):
                self.world.dial(self, action.address)
            elif isinstance(action, Close):
                # What was sent before still arrives.
                self.world.timeline.after(
                    5 * self.world.weather.delay,
                    lambda link=action.link: self.world.close_link(link),  # type: ignore[misc]
                )
            elif isinstance(action, Log) and action.level in ("WARNING", "ERROR"):
                self.world.note(f"{self.name} {action.level.lower()}: {action.text}")

    def acknowledge(self, ack: Acknowledged) -> None:
        """Record a response to a client."""
        if self.durability == "sync" and not self.disk.lies:
            self.synced_acks.append(ack)
        else:
            self.unsynced_acks.append((self.disk.syncs, ack))


@dataclass
class World:
    """Everything in a simulation."""

    rng: Random
    config: GossipConfig
    make_store: StoreFactory
    timeline: Timeline = field(default_factory=Timeline)
    weather: Weather = field(default_factory=Weather)
    nodes: dict[str, SimulatedNode] = field(default_factory=dict)
    links: dict[int, tuple[str, str]] = field(default_factory=dict)
    schedule: list[str] = field(default_factory=list)
    graves: Graves = field(default_factory=Graves)
    origins: Origins = field(default_factory=Origins)
    tags: Random = field(default_factory=lambda: Random(0))  # noqa: S311
    checkpoint_ttl: float = 60.0
    frames: int = 0
    kills: int = 0
    findings: list[Finding] = field(default_factory=list)
    """What audits have found."""
    retired: bool = False
    """Whether a node has been retired by another."""
    actors: set[bytes] = field(default_factory=set)
    """Every actor that a node has ever written as."""
    queries: bool = False
    """Whether people define indexes, and ask through them."""
    dropped: set[Dot] = field(default_factory=set)
    """The creations of collections that a drop has seen."""
    honest: bool = True
    """Whether no disk has lost what it had synced."""
    rogue: RogueMember | None = None
    """The member that has gone mad."""
    minors: Random = field(default_factory=lambda: Random(0))  # noqa: S311
    """Draws the newest versions of the protocol: dice of their own, so that a new one leaves the older histories alone."""
    processor: Processor | None = None
    """What work costs, where it costs anything."""
    longest_turn: float = 0.0
    pauses: Random | None = None
    """Draws how long work that takes longer pauses between its pieces, where it does: dice of their own."""
    """Virtual seconds that an engine took for one thing at most."""
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _trace: blake2b = field(default_factory=lambda: blake2b(digest_size=8))

    def draw_minor(self, least: int) -> int:
        """Draw a minor version of the protocol that a node speaks, not below `least`."""
        drawn = self.rng.randint(min(least, _MINOR_BY_DICE), _MINOR_BY_DICE)
        return self.minors.randint(max(drawn, least), MINOR) if drawn == _MINOR_BY_DICE else drawn

    def note(self, text: str) -> None:
        """Write a line of the schedule."""
        self.schedule.append(f"{self.timeline.now:8.3f}  {text}")
        self._trace.update(self.schedule[-1].encode())

    @property
    def trace(self) -> str:
        self._trace.update(b"%d" % self.frames)
        return self._trace.hexdigest()

    def draw(self, size: int) -> bytes:
        """Draw random bytes for a store. The noise of its sessions comes from dice of its own, so that each has some."""
        return self.tags.randbytes(size) if size == NOISE_BYTES else self.rng.randbytes(size)

    # The network

    def dial(self, node: SimulatedNode, address: str) -> None:
        """Connect two nodes, if both are there."""

        def connect() -> None:
            other = self.nodes.get(address)
            if not node.up:
                return
            if other is None or not other.up or not self.weather.passes(node.name, address):
                node.step(lambda engine, now: engine.dial_failed(address, "unreachable", now))
                return
            number = next(self._numbers)
            self.links[number] = (node.name, address)
            there, here = self._certified(address), self._certified(node.name)
            node.step(lambda engine, now: engine.opened(number, address, there, now))
            other.step(lambda engine, now: engine.opened(number, None, here, now))

        self.timeline.after(self.rng.uniform(0.5, 2) * self.weather.delay, connect)

    def _certified(self, name: str) -> PeerIdentity | None:
        """Return a node's certificate: only a rogue would call itself anything else."""
        return PeerIdentity("virtual", "node", name) if self.rogue is not None else None

    def send(self, node: SimulatedNode, link: int, payload: bytes) -> None:
        """Carry a payload to the other end, perhaps."""
        ends = self.links.get(link)
        if ends is None:
            return
        other = self.nodes.get(ends[1] if ends[0] == node.name else ends[0])
        if other is None:
            return
        if self.rogue is not None and self.rogue.name == node.name:
            payload = self.rogue.speak(payload)
        self.frames += 1
        copies = 2 if self.rng.random() < self.weather.doubling else 1
        for _ in range(copies):
            if self.rng.random() >= self.weather.loss and self.weather.passes(*ends):
                delay = self.rng.expovariate(1 / self.weather.delay)
                self.timeline.after(delay, lambda: self._deliver(other, link, payload))

    def _deliver(self, other: SimulatedNode, link: int, payload: bytes) -> None:
        if link not in self.links or not self.weather.passes(*self.links[link]):
            return
        if other.busy_for > 0:
            other.hear_aside(link, payload)
            self.timeline.after(other.busy_for, lambda: self._arrive(other, link, payload))
        else:
            self._arrive(other, link, payload)

    def _arrive(self, other: SimulatedNode, link: int, payload: bytes) -> None:
        if link in self.links:
            other.step(lambda engine, now: engine.received(link, payload, now))

    def close_link(self, link: int) -> None:
        """End a connection; both ends learn of it after a while."""
        ends = self.links.pop(link, None)
        for name in ends or ():
            self.timeline.after(
                self.rng.uniform(0, 0.2),
                lambda name=name: self._end(name, link),  # type: ignore[misc]
            )

    def _end(self, name: str, link: int) -> None:
        node = self.nodes.get(name)
        if node is not None:
            node.step(lambda engine, now: engine.closed(link, now))

    def drop_links(self, name: str) -> None:
        """End all connections of a node that is gone."""
        for link, ends in list(self.links.items()):
            if name in ends:
                self.close_link(link)

    def reviver(self, node: SimulatedNode) -> Callable[[], None]:
        """Return what starts a node again, if it is down by then, and wasn't put out."""

        def revive() -> None:
            if not node.up and self.nodes.get(node.name) is node:
                self.note(f"{node.name} starts")
                node.start()

        return revive
