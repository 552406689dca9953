"""Faults of a simulated cluster, each injected at random."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import combinations
from random import Random

from crdtdb.errors import InvalidInputError, NotFoundError, StoreError
from crdtdb.limits import DOCUMENT_DEPTH_MAX, DOCUMENT_ID_BYTES_MAX
from crdtdb.testing.rogues import RogueMember
from crdtdb.testing.virtual import VirtualDisk
from crdtdb.testing.world import SimulatedNode, World


def plan_faults(world: World, seconds: float) -> None:
    """Choose the weather, and what goes wrong when."""
    rng, timeline = world.rng, world.timeline
    world.weather.loss = rng.choice([0, 0, 0.02, 0.1, 0.3])
    world.weather.doubling = rng.choice([0, 0, 0.05, 0.2])
    world.weather.delay = rng.choice([0.001, 0.01, 0.05, 0.2])
    world.note(f"weather: {world.weather}")
    for _ in range(rng.randint(2, 8)):
        fault = rng.choice(_FAULTS)
        timeline.after(rng.uniform(0, seconds * 0.95), lambda fault=fault: fault(world))  # type: ignore[misc]


def plan_rollbacks(world: World, rng: Random, seconds: float) -> None:
    """Put files back in place: stop a node, copy its disk, go on, and later put the copy where the disk was.

    Nothing tells the store but what others know. Until they meet it may write alone.
    """
    for _ in range(rng.randint(1, 3)):
        node = rng.choice(list(world.nodes.values()))
        at = rng.uniform(0, seconds * 0.5)
        world.timeline.after(at, partial(_copy_at_rest, world, rng, node, rng.uniform(0.1, seconds * 0.45)))


def _copy_at_rest(world: World, rng: Random, node: SimulatedNode, later: float) -> None:
    if not node.up:
        return
    node.stop()
    copied, disk = world.timeline.now, node.disk.copy(node.name)
    world.note(f"{node.name} is stopped, and its disk is copied")
    world.timeline.after(rng.uniform(0.05, 0.5), world.reviver(node))
    for _ in range(rng.choice([1, 1, 2])):
        world.timeline.after(later, partial(_put_back, world, rng, node, copied, disk))
        later += rng.uniform(0.2, 1.5)


def _put_back(world: World, rng: Random, node: SimulatedNode, copied: float, disk: VirtualDisk) -> None:
    if rng.random() < 0.5:
        node.stop()
    else:
        node.kill()
    world.honest = False
    node.put_back(copied, disk)
    node.offline = rng.random() < 0.7
    alone = {frozenset((node.name, other)) for other in world.nodes if other != node.name and rng.random() < 0.8}
    world.weather.cut = world.weather.cut | alone
    world.note(f"{node.name}: its disk is put back as it was at {copied:.3f} s{', offline' if node.offline else ''}")
    world.timeline.after(rng.uniform(0.01, 0.3), world.reviver(node))
    world.timeline.after(rng.uniform(0.3, 2.5), partial(_meet, world, alone))


def _meet(world: World, alone: set[frozenset[str]]) -> None:
    world.weather.cut = world.weather.cut - alone


def _cut(world: World) -> None:
    names = list(world.nodes)
    side = set(world.rng.sample(names, world.rng.randint(1, len(names) - 1)))
    world.weather.cut = {frozenset(pair) for pair in combinations(names, 2) if (pair[0] in side) != (pair[1] in side)}
    world.note(f"the network is cut: {sorted(side)} | {sorted(set(names) - side)}")
    for link, ends in list(world.links.items()):
        if not world.weather.passes(*ends) and world.rng.random() < 0.5:
            world.close_link(link)  # the other half stay half open


def _mend(world: World) -> None:
    world.weather.cut = set()
    world.note("the network is whole")


def _kill(world: World) -> None:
    node = world.rng.choice(list(world.nodes.values()))
    if node.up:
        world.note(f"{node.name} is killed")
        world.kills += 1
        node.kill()
        world.timeline.after(world.rng.uniform(0.1, 4), world.reviver(node))


def _restart(world: World) -> None:
    node = world.rng.choice(list(world.nodes.values()))
    if node.up:
        world.note(f"{node.name} is stopped")
        node.stop()
        world.timeline.after(world.rng.uniform(0.1, 4), world.reviver(node))


def _retire(world: World) -> None:
    """Retire a node that is there or not; it comes back, as a store that enters again.

    That happens once: two halves that retire each other are two clusters.
    """
    if world.retired:
        return
    names = list(world.nodes)
    name, by = world.rng.sample(names, 2)
    engine = world.nodes[by].engine
    if engine is None or not engine.readiness.ready:
        return
    try:
        engine.upkeep.retire(name, force=True)
    except (InvalidInputError, NotFoundError, StoreError):
        return
    world.retired = True
    world.note(f"{by} retires {name}")


def _copy(world: World) -> None:
    node = world.rng.choice(list(world.nodes.values()))
    node.copies.append((world.timeline.now, node.disk.copy(None)))
    world.note(f"{node.name}: the disk is copied")


def _rewind(world: World) -> None:
    copied = [node for node in world.nodes.values() if node.copies]
    if copied:
        node = world.rng.choice(copied)
        world.note(f"{node.name} gets an older copy of its disk")
        world.honest = False
        node.rewind()
        world.timeline.after(world.rng.uniform(0.1, 2), world.reviver(node))


def _clone(world: World) -> None:
    """Start another node from a copy of a disk."""
    if len(world.nodes) >= 8:
        return
    original = world.rng.choice(list(world.nodes.values()))
    name = f"n{len(world.nodes) + 1}"
    clone = world.nodes[name] = SimulatedNode(world, name, "sync")
    clone.disk = original.disk.copy(name)
    world.note(f"{name} is a clone of {original.name}")
    world.timeline.after(world.rng.uniform(0.1, 2), world.reviver(clone))


def _audit(world: World) -> None:
    node = world.rng.choice(list(world.nodes.values()))
    if node.engine is not None:
        world.note(f"{node.name} audits")
        node.engine.audits.ask(sorted(node.engine.links.ways), True, world.findings.append)


def _fill_disk(world: World) -> None:
    node = world.rng.choice(list(world.nodes.values()))
    node.disk.full_in = world.rng.randint(0, 20)
    world.note(f"{node.name}: the disk will be full after {node.disk.full_in} writes")


def heal(world: World) -> None:
    """Let everything be well again."""
    world.weather.loss = world.weather.doubling = 0.0
    world.weather.delay = 0.005
    world.weather.cut = set()
    for node in world.nodes.values():
        node.disk.full_in = None
        if not node.up:
            node.start()
    world.note("everything heals")


def let_rogue_in(world: World, rogue: RogueMember, seconds: float) -> None:
    """A member joins and is mad: it speaks nonsense among what it should say, and writes nonsense."""
    node = world.nodes[rogue.name] = SimulatedNode(world, rogue.name, "sync")
    world.note(f"{rogue.name} joins, and is mad")
    world.reviver(node)()
    until = world.timeline.now + seconds

    def write() -> None:
        if node.database is not None and node.engine is not None and node.engine.readiness.ready:
            rogue.write_nonsense(node.database.store)
        if world.timeline.now < until:
            world.timeline.after(0.5, write)

    write()


def put_rogue_out(world: World, rogue: RogueMember) -> None:
    """Its certificate is revoked: no member hears of it any more, and a member retires it, if it ever was one."""
    node = world.nodes[rogue.name]
    node.kill()
    del world.nodes[rogue.name]
    world.note(f"{rogue.name} is put out")

    def retire() -> None:  # again and again: a member that heard of it late may have named it after the first
        for other in world.nodes.values():
            engine = other.engine
            if engine is not None and engine.readiness.ready:
                with suppress(NotFoundError, StoreError):
                    engine.upkeep.retire(rogue.name, force=True)
        world.timeline.after(2.0, retire)

    world.timeline.after(4.0, retire)


def _join(world: World) -> None:
    """A new node joins, and is killed while its bootstrap is under way, or not."""
    if len(world.nodes) >= 8:
        return
    name = f"n{len(world.nodes) + 1}"
    joiner = world.nodes[name] = SimulatedNode(world, name, "sync")
    world.note(f"{name} is new")
    world.reviver(joiner)()
    if world.rng.random() < 0.5:

        def die() -> None:
            if joiner.up:
                world.note(f"{name} is killed, {joiner.engine.readiness.why_not if joiner.engine is not None else ''}")
                world.kills += 1
                joiner.kill()
                world.timeline.after(world.rng.uniform(0.1, 2), world.reviver(joiner))

        world.timeline.after(world.rng.uniform(0.05, 0.8), die)


def _exceed(world: World) -> None:
    """A client sends what is beyond a bound: it is refused by name, or the connection closed, and the node lives on."""
    node = world.rng.choice(list(world.nodes.values()))
    if node.engine is None or node.database is None or not node.engine.readiness.ready:
        return
    world.note(f"{node.name} is given too much")
    deep: object = 1
    for _ in range(DOCUMENT_DEPTH_MAX + 1):
        deep = [deep]
    for doc_id, body in (("x" * (DOCUMENT_ID_BYTES_MAX + 1), {}), ("deep", {"deep": deep})):
        try:
            node.database.collection("notes").put(doc_id, body)
        except InvalidInputError:
            continue
        except StoreError:
            return  # the disk is full, say
        raise AssertionError(f"{doc_id[:20]} is beyond a bound, and was taken")
    garbage = world.rng.choice([b"\x81" * 40 + b"\0", world.rng.randbytes(30), b"\x9b" + b"\xff" * 8, b""])
    links = [link for link, ends in world.links.items() if node.name in ends]
    if links and node.engine is not None:
        link = world.rng.choice(links)
        node.step(lambda engine, now: engine.received(link, garbage, now))
        assert node.engine is None or node.engine.links.get(link) is None, "garbage, and the connection goes on"


def _jump(world: World) -> None:
    """A clock is set, forth or back."""
    node = world.rng.choice(list(world.nodes.values()))
    node.skew += world.rng.choice([-3_600, -20, 20, 3_600]) * world.rng.random()
    world.note(f"{node.name}: its clock is set, and off by {node.skew:.1f} s now")


_FAULTS: tuple[Callable[[World], None], ...] = (
    *(_cut, _cut, _kill, _kill, _restart, _fill_disk, _mend, _retire, _copy, _rewind, _clone, _audit),
    *(_join, _exceed, _jump),
)
