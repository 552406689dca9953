"""Texts: what real people typed, against Yrs by itself, and the bytes of one edit."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pycrdt

import crdtdb
from benchmarks.results import Durability, Fact, Result, Series
from benchmarks.runner import Plan
from benchmarks.workloads.replication import FRAME_HEAD_BYTES
from crdtdb.backends.protocol import Batch
from crdtdb.database import Database
from crdtdb.wire.codec import encode_message
from crdtdb.wire.messages import PageMessage

_EDITS_A_COMMIT = 100
_TRACE_ROUNDS = 2
TRACE = f"automerge-paper, a commit for each {_EDITS_A_COMMIT} edits"
_Patches = list[tuple[int, int, str]]


def trace(result: Result, plan: Plan, tell: Callable[[str], None]) -> None:
    """Replay 259,778 edits of a real author."""
    folder = os.environ.get("CRDTDB_TRACES")
    if folder is None:
        result.skipped["editing trace"] = "CRDTDB_TRACES names no folder with automerge-paper.json.gz"
        return
    with gzip.open(Path(folder) / "automerge-paper.json.gz") as file:
        found = json.load(file)
    patches: _Patches = [tuple(patch) for one in found["txns"] for patch in one["patches"]]
    patches = patches[: max(_EDITS_A_COMMIT, int(len(patches) * min(1.0, plan.share)))]
    players: dict[tuple[str, Durability], Callable[[], str]] = {
        ("pycrdt, in memory", "none"): lambda: _bare(patches),
        ("crdtdb, leveldb", "buffered"): lambda: _ours(patches, "buffered"),
        ("crdtdb, leveldb", "fsync"): lambda: _ours(patches, "sync"),
    }
    series = {
        who: Series(workload=TRACE, target=who[0], durability=who[1], unit="edits/s", documents=1, values=[])
        for who in players
    }
    for number in range(min(plan.rounds, _TRACE_ROUNDS)):  # each takes long enough to need no warming up
        ends = set()
        for who, play in players.items():
            tell(f"editing trace: {who[0]}, {who[1]}, round {number + 1}")
            began = time.perf_counter()
            ends.add(play())
            series[who].values.append(len(patches) / (time.perf_counter() - began))
        assert len(ends) == 1, "the trace ends in different texts"
    result.series += series.values()


def _bare(patches: _Patches) -> str:
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
    return str(text)


def _ours(patches: _Patches, durability: Literal["sync", "buffered"]) -> str:
    with (
        tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as place,
        crdtdb.open(place + "/data", durability=durability) as db,
    ):
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
        return str(notes.get("paper")["body"])


def edits(result: Result, plan: Plan, tell: Callable[[str], None]) -> None:  # noqa: ARG001
    """Count the bytes of one edit: all rows of its commit, and the whole frame that tells a peer of it."""
    tell("bytes of one edit")
    cases: list[tuple[str, dict[str, Any], Callable[[Any], None]]] = [
        (
            f"a keystroke in a text of {length:,} characters",
            {"body": crdtdb.Text("lorem ipsum " * (length // 12))},
            lambda document, at=length // 2: document["body"].insert(at, "x"),  # type: ignore[misc]
        )
        for length in (1_200, 1_048_800)
    ]
    cases.append(("an increment", {"likes": crdtdb.Counter()}, lambda document: document["likes"].increment()))
    for size in (10, 1_000):
        tags = crdtdb.Set([f"element {n}" for n in range(size)])
        cases.append((f"an add to a set of {size:,}", {"tags": tags}, lambda document: document["tags"].add("x")))
    for what, body, edit in cases:
        rows, frame = _size(body, edit)
        result.facts += [
            Fact(name=f"{what}, shipped", value=frame, unit="bytes", note="the whole frame"),
            Fact(name=f"{what}, written", value=rows, unit="bytes", note="all rows of the commit"),
        ]


def _size(body: dict[str, Any], edit: Callable[[Any], None]) -> tuple[int, int]:
    with crdtdb.open("memory:") as db, crdtdb.open("memory:") as other:
        notes = db["notes"]
        notes.put("a", body)
        for _ in range(2):
            with notes.edit("a") as document:
                edit(document)
        crdtdb.sync(db, other)
        batches = _spied(db)
        with notes.edit("a") as document:
            edit(document)
        outgoing = db.store.replication.outgoing(other.store.root.clock, brief=True)
        frame = len(encode_message(PageMessage(1, 0, True, outgoing.next_page().parcel))) + FRAME_HEAD_BYTES
        outgoing.close()
        return sum(len(key) + len(value or b"") for key, value in batches[0].items()), frame


def _spied(db: Database) -> list[Batch]:
    batches: list[Batch] = []
    backend = db.store._backend
    write = backend.write

    def spy(batch: Batch, *, durable: bool) -> None:
        batches.append(dict(batch))
        write(batch, durable=durable)

    backend.write = spy  # type: ignore[method-assign]
    return batches
