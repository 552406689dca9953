"""Cluster simulation from one seed: production code, virtual I/O and time.

First faults: frames are lost, doubled, delayed past each other; nodes are cut off, killed with loss of what wasn't synced,
run out of disk, restarted; clocks disagree; all the while clients write. Then everything heals, and within a bounded time
all nodes must hold the same, every row must be where it belongs, and the oracle must find every acknowledged write.

    report = simulate(seed=7)

A seed that fails raises SimulationError, which has the whole schedule.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import count
from random import Random

from crdtdb.canonical_json import canonical
from crdtdb.cluster.engine.reconciliation import Finding
from crdtdb.couchdb import Trees, Writes, parse_document, put_local
from crdtdb.database import Database
from crdtdb.database.commands import Data
from crdtdb.documents import Rev
from crdtdb.errors import ConflictError, NotFoundError, StoreError
from crdtdb.gossip import GossipConfig
from crdtdb.store import Durability, Store
from crdtdb.testing.drop_clients import DropClients, check_whole
from crdtdb.testing.dropped_text_clients import DroppedTextClients
from crdtdb.testing.faults import heal, let_rogue_in, plan_faults, plan_rollbacks, put_rogue_out
from crdtdb.testing.field_clients import FieldClients
from crdtdb.testing.invariants import check_store
from crdtdb.testing.large_clients import LargeClients, work_takes_time
from crdtdb.testing.oracle import Acknowledged, check_effects, check_names, check_nothing_lost, check_nothing_rises
from crdtdb.testing.processor import TURN_SECONDS_MAX, Processor
from crdtdb.testing.query_clients import QueryClients, check_queries
from crdtdb.testing.resolving_clients import ResolvingClients
from crdtdb.testing.retired_editors import RetiredEditor
from crdtdb.testing.rogues import RogueMember
from crdtdb.testing.text_clients import TextClients
from crdtdb.testing.world import SimulatedNode, StoreFactory, World
from crdtdb.wire.messages import MINOR

_ROLLBACKS = 0.3
"""The part of the seeds in which files are put back in place."""

_IN_PIECES = 0.2
"""The part of the seeds in which pages are merged some documents at a time, and other frames come in between."""
_RESOLVED_A_SECOND = 3.0
"""How often people look at conflicts and resolve what they saw, beside the others."""
_TYPED_A_SECOND = 3.0
_DROPPING_A_SECOND = 3.0
_TYPED_AND_DROPPED_A_SECOND = 8.0


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


def simulate(
    seed: int,
    *,
    nodes: int | None = None,
    seconds: float = 8.0,
    heal_seconds: float = 60.0,
    writes_a_second: float = 12.0,
    make_store: StoreFactory = Store,
    queries: bool = False,
    rogue: bool = False,
) -> Report:
    """Run a cluster through faults and heal it. `nodes` is 3 to 7 by the seed, unless given.

    `make_store` makes the stores: give a broken one to see the simulator find it. With `queries` people also define indexes and
    ask through them. With `rogue` one more member goes mad, until the faults end: then it is stopped, and retired by another.
    Raises SimulationError.
    """
    rng = Random(seed)  # noqa: S311
    size = nodes or rng.randint(3, 7)
    world = World(
        rng,
        GossipConfig(collection_interval=3.0, tombstone_grace=0.0, comparison_timeout=15.0, showing_interval=2.0),
        make_store,
        queries=queries,
        minors=Random(f"{seed}/minors"),  # noqa: S311
    )
    pieces = Random(f"{seed}/pieces")  # noqa: S311
    if rogue:
        world.rogue = RogueMember("mad", Random(f"{seed}/rogue"))  # noqa: S311
    if pieces.random() < _IN_PIECES:
        world.pauses = pieces
        world.config = replace(world.config, updates_merged_at_once=pieces.randint(1, 4))
    if work_takes_time(seed):
        world.processor = Processor()
    try:
        with world.processor.metered() if world.processor is not None else nullcontext():
            return _run(world, seed, size, seconds, heal_seconds, writes_a_second)
    except Exception as error:
        schedule = "\n".join(world.schedule)
        raise SimulationError(
            f"seed {seed} with {size} nodes failed at {world.timeline.now:.3f} s: {type(error).__name__}: {error}\n{schedule}"
        ) from error


def _run(world: World, seed: int, size: int, seconds: float, heal_seconds: float, rate: float) -> Report:
    rng, rollbacks = world.rng, Random(f"{seed}/rollbacks")  # noqa: S311
    put_back = rollbacks.random() < _ROLLBACKS
    world.tags = Random(f"{seed}/tags")  # noqa: S311
    for number in range(size):
        durability: Durability = "buffered" if rng.random() < 0.25 else "sync"
        name = f"n{number + 1}"
        world.nodes[name] = SimulatedNode(world, name, durability)
        # Who tells no lineages can't tell two histories of one store apart.
        world.nodes[name].minor = world.draw_minor(MINOR if put_back else 1)
        world.nodes[name].disk.lies = rng.random() < 0.15
        world.honest = world.honest and not world.nodes[name].disk.lies
        one = world.nodes[name]
        disk = "a lying" if one.disk.lies else "an honest"
        world.note(f"{name} is {durability} on {disk} disk, its clock off by {one.skew:.1f} s, protocol 1.{one.minor}")
    for node in world.nodes.values():
        world.timeline.after(rng.uniform(0, 1.0), world.reviver(node))
    world.timeline.run(2.0)
    plan_faults(world, seconds)
    if put_back:
        plan_rollbacks(world, rollbacks, seconds)
    clients = Clients(world, rate, world.timeline.now + seconds)
    clients.next()
    ResolvingClients(world, seed, _RESOLVED_A_SECOND, world.timeline.now + seconds).next()
    TextClients(world, seed, _TYPED_A_SECOND, world.timeline.now + seconds).next()
    if world.processor is not None:
        LargeClients(world, seed, world.timeline.now + seconds).next()
    RetiredEditor(world, seed, seconds).plan()
    DropClients(world, seed, _DROPPING_A_SECOND, world.timeline.now + seconds).next()
    DroppedTextClients(world, seed, _TYPED_AND_DROPPED_A_SECOND, world.timeline.now + seconds).next()
    if world.rogue is not None:
        let_rogue_in(world, world.rogue, seconds)
    world.timeline.run(world.timeline.now + seconds)

    if world.rogue is not None:
        put_rogue_out(world, world.rogue)
    heal(world)
    healed = world.timeline.now
    world.timeline.run(healed + 3.0)
    if not world.timeline.run(healed + heal_seconds, lambda: _agree(world)):
        raise AssertionError(f"no agreement {heal_seconds:.0f} s after the faults ended: {_differences(world)}")
    took = world.timeline.now - healed
    _check(world)
    _check_audits(world)
    longest = world.longest_turn
    assert longest <= TURN_SECONDS_MAX, f"a turn of an engine took {longest:.2f} s, the limit is {TURN_SECONDS_MAX} s"
    at_rest = [node.database.store.root.clock for node in world.nodes.values() if node.database]
    world.timeline.run(world.timeline.now + 5.0)
    now = [node.database.store.root.clock for node in world.nodes.values() if node.database]
    assert now == at_rest, "a converged cluster at rest writes nothing"
    if seed % 4 == 0:  # it takes a while
        _check_cost(world)
    strangers = {actor for clock in now for actor in clock.actors} - world.actors
    assert not strangers, f"only nodes write as actors: {[actor.hex()[:8] for actor in strangers]}"
    odd = [line for line in world.schedule if re.search(r"a lock\w+ (after|before) the handshake", line)]
    assert not odd, f"a node sent what an older one doesn't know: {odd}"
    acks = sum(len(node.synced_acks) + len(node.unsynced_acks) for node in world.nodes.values())
    return Report(seed, size, acks, world.kills, world.frames, took, world.trace)


class Clients:
    """People who write to whatever node is up."""

    def __init__(self, world: World, rate: float, until: float) -> None:
        self._world, self._rate, self._until = world, rate, until
        self._bodies = count()
        self._fields = FieldClients(world)
        self._queries = QueryClients(world) if world.queries else None

    def next(self) -> None:
        """Write once, and plan the next write."""
        world, rng = self._world, self._world.rng
        if world.timeline.now >= self._until:
            return
        node = rng.choice(list(world.nodes.values()))
        if node.engine is not None and node.database is not None and node.engine.readiness.ready:
            try:
                self._write(node, node.database)
            except (ConflictError, NotFoundError):
                pass
            except StoreError as error:
                world.note(f"{node.name} dies: {error}")
                node.kill()
                world.timeline.after(rng.uniform(0.5, 3), world.reviver(node))
        world.timeline.after(rng.expovariate(self._rate), self.next)

    def _write(self, node: SimulatedNode, database: Database) -> None:
        rng = self._world.rng
        if rng.random() < 0.1:
            self._scrap(node, database)
            return
        if rng.random() < 0.12:
            self._couchdb(node, database)
            return
        if self._queries is not None and rng.random() < 0.1:
            self._queries.act(node, database)
            return
        if rng.random() < 0.4:
            self._fields.write(node, database)
            return
        notes = database.collection(rng.choice(["notes", "tasks"]))
        doc_id = rng.choice("abcdefgh")
        body = {"n": next(self._bodies) if rng.random() < 0.8 else rng.randint(-3, -1)}
        what = rng.choice(["put", "put", "put", "loser", "delete", "resolve", "resolve", "bulk"])
        current = notes.get(doc_id) if doc_id in notes else None
        if what == "delete" and current is not None:
            written = [notes.delete(doc_id, current.rev)]
        elif what == "resolve" and current is not None:
            written = [notes.resolve(doc_id, body)]
        elif what == "loser" and current is not None and current.conflicts:
            written = [notes.put(doc_id, body, rng.choice(current.conflicts))]
        elif what == "bulk":
            size = rng.choice([2, 3, 5, 8, 80])  # beyond what a rumor takes, now and then
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

    def _couchdb(self, node: SimulatedNode, database: Database) -> None:
        """Do what a client of CouchDB's protocol does: read, which publishes, attach a file, keep a checkpoint, push."""
        rng, what = self._world.rng, self._world.rng.choice(["read", "read", "attach", "local", "push"])
        if what == "read":
            names = [name for name in database.collections() if name != "scrap"]
            for name in names:
                trees = Trees(database.store, name)
                shown = [tree.document(None) for tree in trees.all("", None, False)]
                assert all(not visible.leaf.native for tree in trees.all("", None, False) for visible in tree.leaves)
                self._world.note(f"{node.name} reads {len(shown)} documents of {name}")
            return
        files, doc_id = Writes(database.store, "files"), rng.choice("abc")
        if what == "attach":
            tree = Trees(database.store, "files").find(doc_id)
            rev = tree.winner.leaf.rev if tree is not None and not tree.deleted else None
            data = rng.choice([b"same", rng.randbytes(rng.choice([10, 300_000]))])
            files.attach(doc_id, rev, rng.choice("xy"), Data("text/plain", data))
        elif what == "push":
            steps = "".join(f"{rng.randrange(3)}" for _ in range(rng.randint(1, 4)))
            digests = [steps[: len(steps) - back] for back in range(len(steps))]  # one rev has one line of ancestors
            revisions = {"start": len(digests), "ids": digests}
            document = parse_document({"_id": doc_id, "_revisions": revisions, "of": "/".join(digests)})
            database.store.submit(files.taking(document))
        else:
            database.create("files")
            put_local(database.store, "files", "_local/c", {"n": next(self._bodies)})
        self._world.note(f"{node.name} {what} files/{doc_id}")

    def _scrap(self, node: SimulatedNode, database: Database) -> None:
        """Write to a collection that is dropped now and then, so the oracle expects nothing of it; or drop it.

        All nodes must agree on what is left of it, and no row may remain of what isn't.
        """
        rng, scrap = self._world.rng, database.collection("scrap")
        if "scrap" in database and rng.random() < 0.3:
            database.drop("scrap")
            self._world.note(f"{node.name} drops scrap")
            return
        doc_id = rng.choice("abc")
        current = scrap.get(doc_id) if doc_id in scrap else None
        scrap.put(doc_id, {"n": next(self._bodies)}, current.rev if current is not None else None)
        self._world.note(f"{node.name} put scrap/{doc_id}")


def _agree(world: World) -> bool:
    stores = [node.database.store for node in world.nodes.values() if node.database is not None]
    ready = all(node.engine is not None and node.engine.readiness.ready for node in world.nodes.values())
    if not ready or len(stores) != len(world.nodes) or len({store.root.clock for store in stores}) != 1:
        return False
    # And all that is to be collected is: everything is stable. And all that is to be said of the collections is said.
    if not all(store.root.stable >= store.root.clock for store in stores):
        return False
    # What has seen writes of a rogue that no member holds waits for it to come back, as for every retired member.
    if world.rogue is None and not all(store.collector.waiting(1) == (0, 0) for store in stores):
        return False
    return all(node.engine is not None and node.engine.showing.current for node in world.nodes.values())


def _differences(world: World) -> str:
    def of(node: SimulatedNode) -> str:
        if node.database is None or node.engine is None:
            return "down"
        store = node.database.store
        return (
            f"{store.root.clock}, not stable {store.root.clock - store.root.stable}, waiting {store.collector.waiting(9)}, "
            f"ways {sorted(node.engine.links.ways)}, {node.engine.readiness}"
        )

    return "; ".join(f"{name}: {of(node)}" for name, node in world.nodes.items())


def _check_cost(world: World) -> None:
    """What goes over the wire follows what is missing: a node that lacks a document gets that one, not all."""

    def received() -> int:
        return sum(node.engine.exchanges.received_documents for node in world.nodes.values() if node.engine is not None)

    away, writer, *others = world.rng.sample(sorted(world.nodes), len(world.nodes))
    world.weather.cut = {frozenset((away, name)) for name in (writer, *others)}
    before, database = received(), world.nodes[writer].database
    assert database is not None
    database.collection("notes").upsert("cost", lambda body: {"n": len(body)})
    world.timeline.run(world.timeline.now + 3.0)
    world.weather.cut = set()
    assert world.timeline.run(world.timeline.now + 60.0, lambda: _agree(world)), "one document doesn't arrive"
    cost = received() - before
    assert cost <= 12, f"one document was written, and {cost} travelled in pages"


def _check_audits(world: World) -> None:
    """All hold the same, so no audit finds anything now; and none found anything before, unless a disk lost something."""
    found: list[Finding] = []
    engine = world.rng.choice(list(world.nodes.values())).engine
    assert engine is not None
    wanted = len(engine.links.ways)
    engine.audits.ask(sorted(engine.links.ways), False, found.append)
    done = world.timeline.run(world.timeline.now + 60, lambda: len(found) == wanted)
    assert done, f"{len(found)} of {wanted} audits came to an end"
    assert all(one.clean and one.failed is None for one in found), f"an audit at rest: {found}"
    if world.honest:
        wrong = [one for one in world.findings if not one.clean]
        assert not wrong, f"an audit found what wasn't lost: {wrong}"


def _check(world: World) -> None:
    names = sorted({name for node in world.nodes.values() if node.database for name in node.database.store.root.names})
    acknowledged = [ack for node in world.nodes.values() for ack in node.synced_acks]
    acknowledged += [ack for node in world.nodes.values() for _, ack in node.unsynced_acks]
    acknowledged = [ack for ack in acknowledged if not ack.creations or ack.creations - world.dropped]
    for name in names:
        digests = {
            one: node.database.collection(name).digest()
            for one, node in world.nodes.items()
            if node.database is not None
        }
        assert len(set(digests.values())) == 1, f"equal clocks, but {name!r} differs: {digests}"
    shown = []
    for node in world.nodes.values():
        assert node.database is not None
        check_store(node.database.store)
        check_whole(node.database.store)
        if world.queries:
            check_queries(node.database)
        check_nothing_lost(node.database.store, acknowledged, world.graves)
        check_nothing_rises(node.database.store, world.graves)
        check_effects(node.database.store, acknowledged)
        shown.append({name: {doc.id: dict(doc) for doc in node.database.collection(name).all()} for name in names})
    databases = [node.database for node in world.nodes.values() if node.database is not None]
    check_names(databases, lambda name, doc_id, rev: world.origins.in_part(name, doc_id, rev, world.dropped))
    assert all(reading == shown[0] for reading in shown), (
        f"equal clocks and digests, but documents read differently: {shown}"
    )
