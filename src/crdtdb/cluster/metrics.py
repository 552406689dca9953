"""What a node counts and measures of itself: read when somebody asks, from what the engine and the store keep anyway."""

from __future__ import annotations

from collections.abc import Iterator

from crdtdb import __version__
from crdtdb.cluster.engine import Engine
from crdtdb.gossip.stability import len_of
from crdtdb.measuring import Measured
from crdtdb.store import Store

_WAITING_MAX = 100_000


def measured(engine: Engine, store: Store, now: float) -> Iterator[Measured]:
    """Yield the counters and gauges of a node. Names end in their unit; `now` is on the engine's clock."""
    yield Measured(
        "info", "Which crdtdb this is, on which backend.", 1, {"version": __version__, "backend": store.kind}
    )
    yield Measured("ready", "Whether writes are taken.", float(engine.readiness.ready))
    yield from _of_the_store(store)
    age = max(0.0, now - engine.upkeep.cut_since)
    yield Measured("stability_age_seconds", "Since the stable cut last moved, or covered everything.", age)
    yield from _of_the_members(engine, store)
    finished, received = engine.exchanges.finished, engine.exchanges.received_documents
    yield Measured("exchanges", "Exchanges that this node asked for and that came to an end.", finished, counts=True)
    again = engine.exchanges.asked_again
    yield Measured(
        "asked_again", "Exchanges begun anew, since a document didn't follow on what was here.", again, counts=True
    )
    yield Measured("received_documents", "Documents in pages of others.", received, counts=True)
    for kind, (messages, size) in sorted(engine.outbox.sent.items()):
        yield Measured("sent_messages", "Messages sent to other nodes.", messages, {"kind": kind}, counts=True)
        yield Measured("sent_bytes", "Their bytes.", size, {"kind": kind}, counts=True)
    yield Measured("rumors_received", "Parcels of fresh writes from peers.", engine.rumors_received, counts=True)
    yield Measured("rumors_new", "Those that brought something new.", engine.rumors_new, counts=True)
    yield Measured("unspread_commits", "Commits that gossip hasn't looked at yet.", engine.unspread)
    for stage, number in engine.locks.counts().items():
        yield Measured("locks", "Locks through this node, and promises to others.", number, {"stage": stage})
    yield Measured("subscribers", "Who follows changes by /_notify.", len(engine.showing.subscriptions.all()))
    renamed = engine.histories.renamed_sessions
    yield Measured("renamed_sessions", "Sessions renamed, since files were put back.", renamed, counts=True)
    for peer, times in sorted(engine.boundary.refused.items()):
        yield Measured("refused_frames", "Frames refused for what they said.", times, {"member": peer}, counts=True)
    for peer, finding in sorted(engine.audits.last.items()):
        wrong = len(finding.lost_here) + len(finding.lost_there) + len(finding.contradictory) + len(finding.rot_here)
        yield Measured("audit_findings", "What the last audit with a member found.", wrong, {"member": peer})


def _of_the_store(store: Store) -> Iterator[Measured]:
    held = store.held
    yield Measured("commits", "Batches written.", store.commits, counts=True)
    yield Measured("commit_seconds", "Time that writing them took, fsyncs included.", store.commit_seconds, counts=True)
    yield Measured("written_documents", "Documents written here.", store.written_documents, counts=True)
    yield Measured("read_documents", "Documents read one by one.", store.read_documents, counts=True)
    size = store.size
    if size is not None:
        yield Measured("store_bytes", "What the store takes on disk.", size)
    for name, collection in sorted(held.collections.items()):
        yield Measured("documents", "Documents that aren't deleted.", collection.documents, {"collection": name})
        yield Measured(
            "conflicts",
            "Documents with more than one body or a conflict of a field.",
            collection.conflicts,
            {"collection": name},
        )
        yield Measured("body_bytes", "JSON of the bodies that show.", collection.size, {"collection": name})
        yield Measured("tombstones", "Documents that are deleted.", collection.deleted, {"collection": name})
    unstable = len_of(held.clock - held.stable)
    yield Measured("writes", "Writes of all actors that this node holds or has seen replaced.", len_of(held.clock))
    yield Measured("unstable_writes", "Those that not every member has acknowledged.", unstable)
    for what, number in zip(("stability", "clients"), store.collector.waiting(_WAITING_MAX), strict=True):
        yield Measured("waiting_documents", "Documents that wait to be collected.", number, {"for": what})
    yield Measured(
        "collected_documents", "How often a document gave something up.", store.collector.collected, counts=True
    )


def _of_the_members(engine: Engine, store: Store) -> Iterator[Measured]:
    clock = store.held.clock
    yield Measured("links", "Connections with other nodes.", len(engine.links.greeted_links()))
    for member in sorted(engine.membership.everyone()):
        if member.name == engine.membership.me.name:
            continue
        labels = {"member": member.name}
        connected = float(member.name in engine.links.ways)
        yield Measured("member_connected", "Whether this node reaches a member.", connected, labels)
        theirs = engine.exchanges.peer_clocks.get(member.name)
        if theirs is not None:
            lacks, has_more = len_of(clock - theirs), len_of(theirs - clock)
            yield Measured("member_behind_writes", "Writes that a member lacks and this node has.", lacks, labels)
            yield Measured("member_ahead_writes", "Writes that a member has and this node lacks.", has_more, labels)
