"""What replication costs: bytes for a difference, bytes for nothing, documents a second, metadata at rest."""

from __future__ import annotations

import tempfile
from pathlib import Path

import crdtdb
from benchmarks.harness import Row, rates, report
from benchmarks.library import DOCUMENT
from crdtdb.store import Store, keys, pull
from crdtdb.wire.cbor import encode
from crdtdb.wire.codec import encode_message
from crdtdb.wire.messages import Ask, PageOf, Same


def run() -> str:
    """Measure, and return the report."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rows = [_speed(place)]
    facts = [*_difference(), *_at_rest()]
    lines = ["| what | measured | wanted |", "|---|---|---|", *facts]
    return report("Store to store", rows) + "\n" + "\n".join(lines) + "\n"


def _speed(place: Path) -> Row:
    number, rounds = 5_000, [0]

    def bulk() -> int:
        rounds[0] += 1
        with crdtdb.open(str(place / f"bulk{rounds[0]}"), durability="buffered") as db:
            for at in range(0, number, 500):
                db["notes"].bulk([{"_id": f"{n:08}", **DOCUMENT} for n in range(at, at + 500)])
        return number

    source = crdtdb.open("memory:")
    for at in range(0, number, 500):
        source["notes"].bulk([{"_id": f"{n:08}", **DOCUMENT} for n in range(at, at + 500)])

    def replicate() -> int:
        rounds[0] += 1
        with crdtdb.open(str(place / f"target{rounds[0]}"), durability="buffered") as target:
            return pull(target.store, source.store)

    return Row("store to store, against bulk put", *rates(replicate, bulk, 3), "/s", "0.5 to 0.8")


def _difference() -> list[str]:
    one, other = crdtdb.open("memory:"), crdtdb.open("memory:")
    one["notes"].bulk([{"_id": f"{n:08}", **DOCUMENT} for n in range(20_000)])
    crdtdb.sync(one, other)
    nothing = _bytes_of_exchange(other.store, one.store)
    changed = [
        one["notes"].put(f"{n:08}", {**DOCUMENT, "n": -n}, one["notes"].get(f"{n:08}").rev)
        for n in range(0, 20_000, 200)
    ]
    shipped = _bytes_of_exchange(other.store, one.store)
    encoded = sum(len(encode([doc.id, doc.rev, dict(doc)])) for doc in changed)
    return [
        f"| bytes for {len(changed)} changed of 20,000, of their encoded size | {shipped / encoded:.2f} | 1.1 to 1.3 |",
        f"| bytes when nothing changed, both ways | {nothing} | 300 to 1,000 |",
    ]


def _bytes_of_exchange(receiver: Store, sender: Store) -> int:
    """Return the bytes of both ways, frames included."""
    outgoing = sender.outgoing(receiver.held.clock)
    total = len(encode_message(Ask(1, receiver.held.clock, False))) + 4
    if outgoing.nothing:
        return total + len(encode_message(Same(1))) + 4
    number = 0
    while True:
        page = outgoing.next_page()
        total += len(encode_message(PageOf(1, number, page.last, page.parcel))) + 4
        number += 1
        if page.last:
            return total


def _at_rest() -> list[str]:
    """Everything that the store keeps for a document, less its id and its JSON."""
    with crdtdb.open("memory:") as db:
        number = 1_000
        db["notes"].bulk([{"_id": f"{n:08}", "n": n} for n in range(number)])
        collection = db.store.collection("notes").number
        records = feed = log = payload = 0
        for key, value in db.store._backend.scan(b"", b"\xff" * 8):
            if key.startswith(keys.document(collection, b"")):
                records += len(value)
            elif key[:1] == b"s":
                feed += len(key) + len(value)
            elif key[:1] == b"l":
                log += len(key) + len(value)
        payload = sum(len(encode({"n": n})) for n in range(number))
    return [
        f"| causal metadata and revision in a document's row, bytes | {(records - payload) / number:.0f} | 40 to 120 |",
        f"| its rows in the dot log and the changes feed, bytes | {(feed + log) / number:.0f} | – |",
    ]
