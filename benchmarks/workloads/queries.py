"""Queries, views and replications with other servers, at growing numbers of documents, beside SQLite over the same JSON."""

from __future__ import annotations

import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio

import crdtdb
from benchmarks.results import Fact, Point, Result, Series
from benchmarks.runner import Given, Plan
from benchmarks.targets.embedded import BATCH
from benchmarks.targets.server import Nodes, Server
from crdtdb.couchdb.design_documents import Designs
from crdtdb.couchdb.replication import Endpoint, Peer, Replication, Wanted
from crdtdb.javascript import Scripts

_FOUND = 20
"""Documents that a query means, whatever the size."""
_PROBES = 200
_SCANS = 3
_PUTS = 500
_SIZE_MAX = 100_000
_PAGE = 20_000
FIND, SCAN, PUT_INDEXED, PUT_PLAIN = (
    f"find {_FOUND} through an index",
    f"find {_FOUND} without an index",
    "put, one index",
    "put, no index",
)
_MAP = "function (doc) { emit(doc.kind, doc.n) }"


def queries(result: Result, plan: Plan, tell: Callable[[str], None], sizes: list[int]) -> None:
    """Measure at each size; the largest with views and in SQLite only up to a bound, which keeps a run in minutes."""
    for size in sizes:
        tell(f"queries: {size:,} documents")
        with tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as folder:
            _ours(result, plan, size, Path(folder), tell)
            if size <= _SIZE_MAX:
                _sqlite(result, plan, size, Path(folder))
    _puts(result, plan, tell)


def _point(result: Result, curve: str, unit: str, size: int, value: float, *, flat: bool = False) -> None:
    result.points.append(Point(curve=curve, unit=unit, size=size, value=value, flat=flat))


def _pages(plan: Plan, size: int) -> Iterator[Given]:
    """Yield documents, some thousand at a time, of which any `kind` has `_FOUND`."""
    for at in range(0, size, _PAGE):
        page = plan.source.take(min(_PAGE, size - at), seed=at)
        yield [(doc_id, {**body, "kind": (at + n) % max(1, size // _FOUND)}) for n, (doc_id, body) in enumerate(page)]


def _ours(result: Result, plan: Plan, size: int, folder: Path, tell: Callable[[str], None]) -> None:
    with crdtdb.open(str(folder / "data"), durability="buffered") as db:
        notes = db["bench"]
        for page in _pages(plan, size):
            for at in range(0, len(page), BATCH):
                notes.bulk([{"_id": doc_id, **body} for doc_id, body in page[at : at + BATCH]])

        def find(kind: int) -> int:
            return sum(1 for _ in notes.find({"kind": kind}))

        _point(result, f"{SCAN}, crdtdb", "ms", size, 1e3 * _median(find, size, _SCANS))
        began = time.perf_counter()
        notes.create_index(["kind"])
        _point(
            result,
            "build an index, for each document",
            "µs",
            size,
            1e6 * (time.perf_counter() - began) / size,
            flat=True,
        )
        _point(result, f"{FIND}, crdtdb", "µs", size, 1e6 * _median(find, size, _PROBES), flat=True)
        if size <= _SIZE_MAX:
            tell(f"views: {size:,} documents")
            _views(result, db, size)


def _views(result: Result, db: crdtdb.Database, size: int) -> None:
    python = db["bench"].view("kind", lambda doc: [(doc["kind"], doc["n"])], reduce="_sum")
    began = time.perf_counter()
    for _ in python.rows(limit=1):
        pass
    _point(
        result,
        "build a view in Python, for each document",
        "µs",
        size,
        1e6 * (time.perf_counter() - began) / size,
        flat=True,
    )
    db["bench"].put("_design/bench", {"views": {"kind": {"map": _MAP, "reduce": "_sum"}}})
    scripts = Scripts()
    try:
        designs = Designs(db.store, scripts)
        view = designs.view("bench", designs.get("bench", "_design/bench").view("kind"))
        began = time.perf_counter()
        view.update()
        took = time.perf_counter() - began
        _point(result, "build a view in JavaScript, for each document", "µs", size, 1e6 * took / size, flat=True)
        began = time.perf_counter()
        for _ in view.reduced():
            pass
        _point(
            result,
            "reduce a view by _sum, for each row",
            "µs",
            size,
            1e6 * (time.perf_counter() - began) / size,
            flat=True,
        )
    finally:
        scripts.close()


def _sqlite(result: Result, plan: Plan, size: int, folder: Path) -> None:
    """The same in SQLite: the documents as JSON, and an index over an expression of it."""
    with _database(folder / "sqlite.db") as db:
        for page in _pages(plan, size):
            db.executemany("INSERT INTO docs VALUES (?, ?)", [(doc_id, json.dumps(body)) for doc_id, body in page])

        def find(kind: int) -> int:
            rows = db.execute("SELECT id, body FROM docs WHERE json_extract(body, '$.kind') = ?", (kind,))
            return sum(1 for _, body in rows if json.loads(body))

        _point(result, f"{SCAN}, SQLite", "ms", size, 1e3 * _median(find, size, _SCANS))
        db.execute("CREATE INDEX by_kind ON docs (json_extract(body, '$.kind'))")
        _point(result, f"{FIND}, SQLite", "µs", size, 1e6 * _median(find, size, _PROBES), flat=True)


@contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE docs (id TEXT PRIMARY KEY, body TEXT)")
    try:
        yield db
    finally:
        db.close()


def _median(find: Callable[[int], int], size: int, number: int) -> float:
    rng, kinds, times = Random(1), max(1, size // _FOUND), []
    for _ in range(number):
        kind = rng.randrange(kinds)
        began = time.perf_counter()
        found = find(kind)
        times.append(time.perf_counter() - began)
        assert found >= _FOUND, f"{found} were found"
    return statistics.median(times)


def _puts(result: Result, plan: Plan, tell: Callable[[str], None]) -> None:
    """Put documents into a collection with an index and into one without, in turns."""
    series = {
        name: Series(
            workload=name, target="crdtdb, leveldb", durability="buffered", unit="puts/s", documents=_PUTS, values=[]
        )
        for name in (PUT_PLAIN, PUT_INDEXED)
    }
    for number in range(plan.rounds + 1):
        for name, one in series.items():
            tell(f"{name}, round {number}")
            given = plan.source.take(_PUTS, seed=number)
            took = _putting(given, indexed=name == PUT_INDEXED)
            if number:
                one.values.append(_PUTS / took)
    result.series += series.values()


def _putting(given: Given, *, indexed: bool) -> float:
    with (
        tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as folder,
        crdtdb.open(folder, durability="buffered") as db,
    ):
        db["bench"].put("first", {"n": 0})
        if indexed:
            db["bench"].create_index(["n"])
        began = time.perf_counter()
        for doc_id, body in given:
            db["bench"].put(doc_id, body)
        return time.perf_counter() - began


def migrations(result: Result, plan: Plan, tell: Callable[[str], None], servers: list[Server]) -> None:
    """Replicate from a node to another server and back, by the replicator of `crdtdb replicate`."""
    size = max(BATCH, int(3_000 * plan.share))
    node = next(one for one in servers if isinstance(one, Nodes))
    for other in servers:
        if other is node:
            continue
        out, back = (_series(way, other, size) for way in ("replicate out", "replicate in"))
        for number in range(plan.rounds + 1):
            tell(f"replications with {other.name}, round {number}")
            with node.open(Path()) as here, other.open(Path()) as there, node.open(Path()) as again:
                given = plan.source.take(size, seed=number)
                for at in range(0, size, BATCH):
                    here.bulk(given[at : at + BATCH])
                mine, theirs, returned = (_peer(one.url, one.database, one.tls) for one in (here, there, again))
                for series, source, target in ((out, mine, theirs), (back, theirs, returned)):
                    began = time.perf_counter()
                    written = anyio.run(_replicate, source, target)
                    if number:
                        series.values.append(written / (time.perf_counter() - began))
                    assert written == size, f"{written} of {size} came over"
        result.series += [out, back]
        result.facts.append(Fact(name=f"documents replicated with {other.name}", value=size, unit="documents"))


def _series(workload: str, other: Server, size: int) -> Series:
    return Series(
        workload=workload, target=other.name, durability=other.durability, unit="documents/s", documents=size, values=[]
    )


def _peer(url: str, database: str, tls: Any) -> Peer:
    return Peer(f"{url}/{database}", verify=tls if tls is not None else True)


async def _replicate(source: Peer, target: Peer) -> int:
    async with Endpoint(source) as one, Endpoint(target) as other:
        return (await Replication(one, other, Wanted()).run()).docs_written
