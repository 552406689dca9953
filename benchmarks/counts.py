"""What each operation costs in things that can be counted: calls of the backend, rows, bytes, fsyncs, frames on the wire.

A machine may be noisy; counts aren't. They are kept in `counts.json`, and a test compares: whoever changes what an operation
costs sees it, and keeps the new counts (`python -m benchmarks compare --keep`) in the same commit, or mends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec

import crdtdb
from benchmarks.workloads.replication import exchange_frames
from crdtdb.backends import Snapshot
from crdtdb.backends.memory import MemoryBackend
from crdtdb.backends.protocol import Batch
from crdtdb.database import Database
from crdtdb.store import Store

KEPT = Path(__file__).with_suffix(".json")
_WALL_MILLISECONDS = 1_700_000_000_000
_BODY = {"title": "a document", "text": "lorem ipsum " * 70, "n": 1}
_MANY = 100


class Counts(msgspec.Struct):
    """What was counted during one operation."""

    gets: int = 0
    scans: int = 0
    rows_read: int = 0
    batches: int = 0
    fsyncs: int = 0
    rows_written: int = 0
    bytes_written: int = 0
    frames: int = 0
    bytes_sent: int = 0


class CountingBackend(MemoryBackend):
    """A store in memory that counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()

    def get(self, key: bytes) -> bytes | None:
        self.counts.gets += 1
        return super().get(key)

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        self.counts.scans += 1
        for row in super().scan(start, stop, reverse=reverse):
            self.counts.rows_read += 1
            yield row

    def write(self, batch: Batch, *, durable: bool) -> None:
        self.counts.batches += 1
        self.counts.fsyncs += durable
        self.counts.rows_written += len(batch)
        self.counts.bytes_written += sum(len(key) + len(value or b"") for key, value in batch.items())
        super().write(batch, durable=durable)

    def snapshot(self) -> Snapshot:  # type: ignore[override]
        return _CountingSnapshot(super().snapshot(), self.counts)


class _CountingSnapshot:
    def __init__(self, snapshot: Snapshot, counts: Counts) -> None:
        self._snapshot, self._counts = snapshot, counts

    def get(self, key: bytes) -> bytes | None:
        self._counts.gets += 1
        return self._snapshot.get(key)

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        self._counts.scans += 1
        for row in self._snapshot.scan(start, stop, reverse=reverse):
            self._counts.rows_read += 1
            yield row

    def close(self) -> None:
        self._snapshot.close()


def count() -> dict[str, Counts]:
    """Return what each operation costs now."""
    return {name: _counted(prepare, act) for name, (prepare, act) in _OPERATIONS.items()}


def kept() -> dict[str, Counts]:
    """Return what each operation cost when the counts were kept."""
    return msgspec.json.decode(KEPT.read_bytes(), type=dict[str, Counts])


def keep(counts: dict[str, Counts]) -> None:
    """Keep counts, to be compared with."""
    KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(counts), indent=1) + b"\n")


def differences(now: dict[str, Counts], then: dict[str, Counts]) -> list[str]:
    """Return a line for each count that isn't what it was."""
    lines = []
    for name in [*now, *(name for name in then if name not in now)]:
        new, old = now.get(name), then.get(name)
        if new is None or old is None:
            lines.append(f"{name}: {'is new' if old is None else 'is gone'}")
            continue
        for field in Counts.__struct_fields__:
            before, after = getattr(old, field), getattr(new, field)
            if before != after:
                lines.append(f"{name}: {field} {before:,} -> {after:,}")
    return lines


class Bench:
    """A database over a counting backend, and another one that received what it had when it was prepared."""

    def __init__(self, seed: int) -> None:
        self.backend = CountingBackend()
        self.database = _database(self.backend, seed)
        self.other = _database(MemoryBackend(), seed + 1)
        self.rev = ""

    @property
    def notes(self) -> Any:
        return self.database["notes"]


def _database(backend: MemoryBackend, seed: int) -> Database:
    return Database(Store(backend, wall=lambda: _WALL_MILLISECONDS, draw=Random(seed).randbytes))


Step = Callable[[Bench], object]


def _counted(prepare: Step, act: Step) -> Counts:
    bench = Bench(7)
    bench.notes.put("warm", {"n": 0})
    prepare(bench)
    bench.backend.counts = Counts()
    act(bench)
    return bench.backend.counts


def _nothing(_: Bench) -> None:
    pass


def _put(bench: Bench) -> None:
    bench.rev = bench.notes.put("a", _BODY).rev


def _fields(bench: Bench) -> None:
    bench.notes.put("a", {"likes": crdtdb.Counter(0), "text": crdtdb.Text("lorem ipsum " * 1_000)})
    _keystroke(bench)


def _keystroke(bench: Bench) -> None:
    with bench.notes.edit("a") as edit:
        edit["text"].insert(500, "x")


def _increment(bench: Bench) -> None:
    with bench.notes.edit("a") as edit:
        edit["likes"].increment()


def _many(bench: Bench) -> None:
    bench.notes.bulk([{"_id": f"{n:05}", **_BODY} for n in range(_MANY)])


def _indexed(bench: Bench) -> None:
    bench.notes.create_index(["n"], ddoc="d", name="n")


def _tenths(bench: Bench) -> None:
    bench.notes.bulk([{"_id": f"{n:05}", **_BODY, "n": n % 10} for n in range(_MANY)])


def _indexed_many(bench: Bench) -> None:
    _tenths(bench)
    _indexed(bench)


def _conflict(bench: Bench) -> None:
    _put(bench)
    crdtdb.sync(bench.database, bench.other)
    bench.other["notes"].put("a", {"n": 1}, bench.rev)
    bench.notes.put("a", {"n": 2}, bench.rev)
    crdtdb.sync(bench.database, bench.other)


def _equal(bench: Bench) -> None:
    _many(bench)
    crdtdb.sync(bench.database, bench.other)


def _ahead(bench: Bench) -> None:
    _equal(bench)
    for n in range(10):
        one = bench.notes.get(f"{n:05}")
        bench.notes.put(one.id, {**one, "n": 2}, one.rev)


def _typed(bench: Bench) -> None:
    _fields(bench)
    crdtdb.sync(bench.database, bench.other)
    _keystroke(bench)


def _send(bench: Bench) -> None:
    """Send what the other lacks, as a node would: the frames both ways."""
    counts = bench.backend.counts
    for frame in exchange_frames(bench.other.store, bench.database.store):
        counts.frames += 1
        counts.bytes_sent += frame


def _receive(bench: Bench) -> None:
    crdtdb.sync(bench.other, bench.database)


def _other_has_many(bench: Bench) -> None:
    bench.other["notes"].bulk([{"_id": f"{n:05}", **_BODY} for n in range(_MANY)])


def _open(bench: Bench) -> None:
    _database(bench.backend, 3)["notes"].get("00001")


_OPERATIONS: dict[str, tuple[Step, Step]] = {
    "put a new document": (_nothing, _put),
    "put over the last": (_put, lambda bench: bench.notes.put("a", {**_BODY, "n": 2}, bench.rev)),
    "get": (_put, lambda bench: bench.notes.get("a")),
    "get what isn't there": (_put, lambda bench: "b" in bench.notes),
    "delete": (_put, lambda bench: bench.notes.delete("a", bench.rev)),
    f"bulk of {_MANY}": (_nothing, _many),
    "increment a counter": (_fields, _increment),
    "a keystroke in 12 kB of text": (_fields, _keystroke),
    "read a conflict": (_conflict, lambda bench: bench.notes.siblings("a")),
    "resolve a conflict": (_conflict, lambda bench: bench.notes.resolve("a", {"n": 3})),
    f"read {_MANY} changes": (_many, lambda bench: list(bench.notes.changes(since=0))),
    f"list {_MANY} documents": (_many, lambda bench: list(bench.notes.all())),
    "open, and read one": (_many, _open),
    "put a new document, one index": (_indexed, _put),
    f"find 10 of {_MANY} through an index": (_indexed_many, lambda bench: list(bench.notes.find({"n": 5}))),
    f"find 10 of {_MANY} without an index": (_tenths, lambda bench: list(bench.notes.find({"n": 5}))),
    f"build an index over {_MANY}": (_tenths, _indexed),
    "send nothing new": (_equal, _send),
    f"send 10 changed of {_MANY}": (_ahead, _send),
    "send a keystroke": (_typed, _send),
    f"receive {_MANY}": (_other_has_many, _receive),
}
