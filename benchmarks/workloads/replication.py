"""Replication: from store to store, from node to node, and the bytes that a difference costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import crdtdb
from benchmarks.documents import Document
from benchmarks.results import Fact, Result, Series
from benchmarks.runner import Given, Plan, fill
from benchmarks.targets.embedded import BATCH, EmbeddedSession
from benchmarks.targets.server import Nodes, ServerSession
from crdtdb.canonical_json import canonical
from crdtdb.cli.demo.cluster import wait_until
from crdtdb.database import Database
from crdtdb.database.pull import pull
from crdtdb.store import Store
from crdtdb.store.layout import keys
from crdtdb.wire.cbor import encode
from crdtdb.wire.codec import encode_message
from crdtdb.wire.messages import PageMessage, SyncRequest, UpToDate

METADATA = "causal metadata of a document at rest"
BULK, PULL, NODES = "bulk, to compare", "store to store", "node to node"
FRAME_HEAD_BYTES = 4


def store_to_store(result: Result, plan: Plan, tell: Callable[[str], None]) -> None:
    """Replicate one store to an empty one in the same process, beside writing the same documents in bulk."""
    size = max(BATCH, int(20_000 * plan.share))
    bulked, pulled = _series(BULK, "buffered", size), _series(PULL, "buffered", size)
    for number in range(plan.rounds + 1):
        tell(f"store to store, round {number}")
        given = plan.source.take(size, seed=number)
        with tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as folder:
            one, other = (EmbeddedSession(f"{folder}/{name}", "buffered") for name in ("one", "other"))
            began = time.perf_counter()
            fill(one, given)
            filled = time.perf_counter()
            pull(other.database.store, one.database.store)
            done = time.perf_counter()
            one.close()
            other.close()
        if number:
            bulked.values.append(size / (filled - began))
            pulled.values.append(size / (done - filled))
    result.series += [bulked, pulled]


def node_to_node(result: Result, plan: Plan, tell: Callable[[str], None]) -> None:
    """Cut two nodes apart, write at one of them, join them again: from the first document's arrival to the last one's."""
    size = max(BATCH, int(20_000 * plan.share))
    bulked, moved = _series(BULK, "fsync", size), _series(NODES, "fsync", size)
    nodes = Nodes(2)
    with tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as folder, nodes.running(Path(folder)):
        for number in range(plan.rounds + 1):
            tell(f"node to node, round {number}")
            given = plan.source.take(size, seed=number)
            if number:
                bulked.values.append(_bulk(given))
            rate = _move(nodes, given)
            if number:
                moved.values.append(rate)
    result.series += [bulked, moved]


def _bulk(given: Given) -> float:
    with tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as folder:
        session = EmbeddedSession(folder, "sync")
        began = time.perf_counter()
        fill(session, given)
        took = time.perf_counter() - began
        session.close()
    return len(given) / took


def _move(nodes: Nodes, given: Given) -> float:
    cluster = nodes.cluster
    assert cluster is not None
    with nodes.open(Path()) as here:
        assert wait_until(lambda: here.database in cluster.ask("n2", "GET", "_all_dbs"), 30)
        cluster.cables.cut({"n1"})
        try:
            for at in range(0, len(given), BATCH):
                here.bulk(given[at : at + BATCH])
        finally:
            cluster.cables.mend()
        there = ServerSession(cluster.url("n2"), here.database, nodes.tls)
        try:
            began, count = 0.0, 0
            first = 0
            while count < len(given):
                count = there.ask("GET", f"/{here.database}")["doc_count"]
                if count and not began:
                    began, first = time.perf_counter(), count
                time.sleep(0.01)
            return (len(given) - first) / (time.perf_counter() - began)
        finally:
            there.close()


def bytes_on_the_wire(result: Result, plan: Plan, tell: Callable[[str], None]) -> None:
    """Count the bytes of an exchange: for nothing, and for some changed documents among many."""
    tell("bytes on the wire")
    size, changed = max(1_000, int(20_000 * plan.share)), 100
    given = plan.source.take(size)
    with crdtdb.open("memory:") as one, crdtdb.open("memory:") as other:
        _fill(one, given)
        crdtdb.sync(one, other)
        nothing = exchange_bytes(other.store, one.store)
        encoded = change(one, given, changed)
        shipped = exchange_bytes(other.store, one.store)
    result.facts += [
        Fact(name="exchange with nothing new", value=nothing, unit="bytes", note="both ways, one round trip"),
        Fact(
            name=f"exchange of {changed} changed documents of {size:,}",
            value=shipped / encoded,
            unit="of their encoded size",
        ),
    ]


def at_rest(result: Result, tell: Callable[[str], None]) -> None:
    """Count what the store keeps of a document beside its id and its JSON."""
    tell("bytes at rest")
    number = 1_000
    with crdtdb.open("memory:") as db:
        db["bench"].bulk([{"_id": f"{n:08}", "n": n} for n in range(number)])
        collection = db.store.collection("bench").number
        rows = list(db.store._backend.scan(b"", b"\xff" * 8))
    texts = sum(len(canonical({"n": n})) for n in range(number))
    own = sum(len(value) for key, value in rows if key.startswith(keys.document(collection, b"")))
    others = sum(len(key) + len(value) for key, value in rows if key[:1] in (b"s", b"l"))
    result.facts += [
        Fact(name=METADATA, value=(own - texts) / number, unit="bytes", note="its revision among them"),
        Fact(name="rows of a document in the dot log and the changes feed", value=others / number, unit="bytes"),
    ]


def change(database: Database, given: Given, changed: int) -> int:
    """Change some documents, evenly spread; return the bytes of all that is in them: id, rev and body."""
    notes, encoded = database["bench"], 0
    for doc_id, _ in given[:: max(1, len(given) // changed)][:changed]:
        before = notes.get(doc_id)
        after = notes.put(doc_id, {**before, "n": -1}, before.rev)
        encoded += len(encode([after.id, after.rev, dict(after)]))
    return encoded


def exchange_bytes(receiver: Store, sender: Store) -> int:
    """Return the bytes that both sides would send, and let nothing come of it."""
    return sum(exchange_frames(receiver, sender))


def exchange_frames(receiver: Store, sender: Store) -> Iterator[int]:
    """Yield the sizes of the frames that both sides would send, and let nothing come of it."""
    outgoing = sender.replication.outgoing(receiver.root.clock, brief=True)
    yield len(encode_message(SyncRequest(1, receiver.root.clock, False, brief=True))) + FRAME_HEAD_BYTES
    if outgoing.nothing:
        yield len(encode_message(UpToDate(1))) + FRAME_HEAD_BYTES
        return
    number, last = 0, False
    while not last:
        page = outgoing.next_page()
        last = page.last
        yield len(encode_message(PageMessage(1, number, last, page.parcel))) + FRAME_HEAD_BYTES
        number += 1


def _fill(database: Database, given: list[tuple[str, Document]]) -> None:
    for at in range(0, len(given), BATCH):
        database["bench"].bulk([{"_id": doc_id, **body} for doc_id, body in given[at : at + BATCH]])


def _series(workload: str, durability: str, documents: int) -> Series:
    return Series(
        workload=workload,
        target="crdtdb",
        durability=durability,  # type: ignore[arg-type]
        unit="documents/s",
        documents=documents,
        values=[],
    )
