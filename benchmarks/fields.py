"""What fields cost: a real editing trace against bare pycrdt, and the bytes of one keystroke, one increment, one add."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pycrdt

import crdtdb
from benchmarks.harness import Row, rates, report
from crdtdb.backends.protocol import Batch
from crdtdb.database import Database
from crdtdb.wire.codec import encode_message
from crdtdb.wire.messages import PageOf

_EDITS_A_COMMIT = 100
_ROUNDS = 3


def run() -> str:
    """Measure, and return the report."""
    return "\n".join([_trace(), _sizes()])


def _trace() -> str:
    folder = os.environ.get("CRDTDB_TRACES")
    if folder is None:
        return "## A real editing trace\n\nNot measured: CRDTDB_TRACES names no folder with automerge-paper.json.gz.\n"
    with gzip.open(Path(folder) / "automerge-paper.json.gz") as file:
        found = json.load(file)
    patches = [patch for one in found["txns"] for patch in one["patches"]]

    def bare() -> int:
        """Yrs alone, a transaction for each hundred edits, its updates kept as they come."""
        document: pycrdt.Doc[Any] = pycrdt.Doc()
        document["text"] = text = pycrdt.Text()
        updates: list[bytes] = []
        document.observe(lambda event: updates.append(event.update))
        for start in range(0, len(patches), _EDITS_A_COMMIT):
            with document.transaction():
                for at, removed, added in patches[start : start + _EDITS_A_COMMIT]:
                    if removed:
                        del text[at : at + removed]
                    if added:
                        text.insert(at, added)
        assert str(text) == found["endContent"]
        return len(patches)

    def ours(durability: Any) -> Callable[[], int]:
        def run_once() -> int:
            with tempfile.TemporaryDirectory() as place, crdtdb.open(place + "/data", durability=durability) as db:
                _play(db, patches)
                assert db["notes"].get("paper")["body"] == found["endContent"]
            return len(patches)

        return run_once

    rows = [
        Row(
            f"automerge-paper, one commit per {_EDITS_A_COMMIT} edits, {durability}, against bare pycrdt in memory",
            *rates(ours(durability), bare, _ROUNDS),
            "edits/s",
            "0.67 to 0.9",
        )
        for durability in ("buffered", "sync")
    ]
    return report("A real editing trace", rows)


def _play(db: Database, patches: list[Any]) -> None:
    notes = db["notes"]
    notes.put("paper", {"body": crdtdb.Text()})
    for start in range(0, len(patches), _EDITS_A_COMMIT):
        with notes.edit("paper") as document:
            body = document["body"]
            for at, removed, added in patches[start : start + _EDITS_A_COMMIT]:
                if removed:
                    body.delete(at, removed)
                if added:
                    body.insert(at, added)


def _sizes() -> str:
    """Bytes of one edit: the update itself, all rows of its commit, and the whole frame that tells a peer of it."""
    lines = [
        "## One edit",
        "",
        "| edit | its delta | rows of the commit | frame to a peer | milliseconds |",
        "|---|---|---|---|---|",
    ]
    cases: list[tuple[str, dict[str, Any], Callable[[Any], None]]] = [
        (
            f"a keystroke in a text of {length:,} characters",
            {"body": crdtdb.Text("lorem ipsum " * (length // 12))},
            lambda document, at=length // 2: document["body"].insert(at, "x"),  # type: ignore[misc]
        )
        for length in (1_200, 1_200_000)
    ]
    cases.append(("an increment", {"likes": crdtdb.Counter()}, lambda document: document["likes"].increment()))
    for size in (10, 1_000):
        tags = crdtdb.Set([f"element {n}" for n in range(size)])
        cases.append((f"an add to a set of {size:,}", {"tags": tags}, lambda document: document["tags"].add("x")))
    for what, body, edit in cases:
        lines.append(f"| {what} | {_size(body, edit)} |")
    return "\n".join([*lines, ""])


def _size(body: dict[str, Any], edit: Callable[[Any], None]) -> str:
    with crdtdb.open("memory:") as db, crdtdb.open("memory:") as other:
        notes = db["notes"]
        notes.put("a", body)
        for _ in range(2):
            with notes.edit("a") as document:
                edit(document)
        crdtdb.sync(db, other)
        batches: list[Batch] = []
        backend = db.store._backend
        write = backend.write

        def spy(batch: Batch, *, durable: bool) -> None:
            batches.append(dict(batch))
            write(batch, durable=durable)

        backend.write = spy  # type: ignore[method-assign]
        began = time.perf_counter()
        with notes.edit("a") as document:
            edit(document)
        took = time.perf_counter() - began
        outgoing = db.store.outgoing(other.store.held.clock)
        frame = len(encode_message(PageOf(1, 0, True, outgoing.next_page().parcel)))
        outgoing.close()
        rows = sum(len(key) + len(value or b"") for key, value in batches[0].items())
        updates = [value for key, value in batches[0].items() if key.startswith(b"t") and value is not None]
        delta = f"{len(updates[0])} bytes" if updates else "in the row"
        return f"{delta} | {rows:,} bytes | {frame:,} bytes | {took * 1e3:.2f}"
