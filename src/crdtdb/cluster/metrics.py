"""Metrics of a node, read on request from what the engine and the store keep anyway."""

from __future__ import annotations

from collections.abc import Iterator

from crdtdb import __version__
from crdtdb.cluster.engine.engine import Engine
from crdtdb.cluster_port import Metric
from crdtdb.gossip.stability import len_of
from crdtdb.store import Store

_WAITING_MAX = 100_000


def measured(engine: Engine, store: Store, now: float) -> Iterator[Metric]:
    """Yield the counters and gauges of a node. Names end in their unit; `now` is on the engine's clock."""
    yield Metric("info", "Which crdtdb this is, on which backend.", 1, {"version": __version__, "backend": store.kind})
    yield Metric("ready", "Whether writes are taken.", float(engine.readiness.ready))
    yield from _of_the_store(store)
    age = max(0.0, now - engine.upkeep.cut_since)
    yield Metric("stability_age_seconds", "Since the stable cut last moved, or covered everything.", age)
    yield from _of_the_members(engine, store)
    finished, received = engine.exchanges.finished, engine.exchanges.received_documents
    yield Metric("exchanges", "Exchanges that this node asked for and that came to an end.", finished, counts=True)
    again = engine.exchanges.asked_again
    yield Metric(
        "asked_again",
        "Exchanges repeated in full, since a document didn't follow on what was here.",
        again,
        counts=True,
    )
    yield Metric("received_documents", "Documents in pages of others.", received, counts=True)
    for kind, (messages, size) in sorted(engine.outbox.sent.items()):
        yield Metric("sent_messages", "Messages sent to other nodes.", messages, {"kind": kind}, counts=True)
        yield Metric("sent_bytes", "Their bytes.", size, {"kind": kind}, counts=True)
    yield Metric("rumors_received", "Parcels of fresh writes from peers.", engine.rumors.received, counts=True)
    yield Metric("rumors_new", "Those that brought something new.", engine.rumors.new, counts=True)
    yield Metric("unspread_commits", "Commits that gossip hasn't looked at yet.", engine.rumors.unspread)
    for stage, number in engine.locks.counts().items():
        yield Metric("locks", "Locks through this node, and promises to others.", number, {"stage": stage})
    yield Metric("subscribers", "Who follows changes by /_notify.", len(engine.showing.subscriptions.all()))
    renamed = engine.histories.renamed_sessions
    yield Metric("renamed_sessions", "Sessions renamed, since files were put back.", renamed, counts=True)
    for peer, times in sorted(engine.boundary.refused.items()):
        yield Metric("refused_frames", "Frames refused for what they said.", times, {"member": peer}, counts=True)
    for peer, finding in sorted(engine.audits.last.items()):
        wrong = len(finding.lost_here) + len(finding.lost_there) + len(finding.contradictory) + len(finding.rot_here)
        yield Metric("audit_findings", "What the last audit with a member found.", wrong, {"member": peer})


def _of_the_store(store: Store) -> Iterator[Metric]:
    held = store.root
    yield Metric("commits", "Batches written.", store.metrics.commits, counts=True)
    yield Metric(
        "commit_seconds", "Time that writing them took, fsyncs included.", store.metrics.commit_seconds, counts=True
    )
    yield Metric("written_documents", "Documents written here.", store.metrics.written_documents, counts=True)
    yield Metric("read_documents", "Documents read one by one.", store.metrics.read_documents, counts=True)
    size = store.size
    if size is not None:
        yield Metric("store_bytes", "What the store takes on disk.", size)
    for name, collection in sorted(held.collections.items()):
        yield Metric("documents", "Documents that aren't deleted.", collection.documents, {"collection": name})
        yield Metric(
            "conflicts",
            "Documents with more than one body or a conflict of a field.",
            collection.conflicts,
            {"collection": name},
        )
        yield Metric("body_bytes", "JSON of the bodies that show.", collection.size, {"collection": name})
        yield Metric("tombstones", "Documents that are deleted.", collection.deleted, {"collection": name})
    unstable = len_of(held.clock - held.stable)
    yield Metric("writes", "Writes of all actors that this node holds or has seen replaced.", len_of(held.clock))
    yield Metric("unstable_writes", "Those that not every member has acknowledged.", unstable)
    for what, number in zip(("stability", "clients"), store.collector.waiting(_WAITING_MAX), strict=True):
        yield Metric("waiting_documents", "Documents that wait to be collected.", number, {"for": what})
    yield Metric(
        "collected_documents", "How often a document gave something up.", store.collector.collected, counts=True
    )


def _of_the_members(engine: Engine, store: Store) -> Iterator[Metric]:
    clock = store.root.clock
    yield Metric("links", "Connections with other nodes.", len(engine.links.greeted_links()))
    for member in sorted(engine.membership.everyone()):
        if member.name == engine.membership.me.name:
            continue
        labels = {"member": member.name}
        connected = float(member.name in engine.links.ways)
        yield Metric("member_connected", "Whether this node reaches a member.", connected, labels)
        theirs = engine.exchanges.peer_clocks.get(member.name)
        if theirs is not None:
            lacks, has_more = len_of(clock - theirs), len_of(theirs - clock)
            yield Metric("member_behind_writes", "Writes that a member lacks and this node has.", lacks, labels)
            yield Metric("member_ahead_writes", "Writes that a member has and this node lacks.", has_more, labels)
