"""How costs grow with the number of documents: one store is filled further and further, and measured at each size.

What should be flat: a put, a get, opening, an exchange with nothing new, the bytes of an exchange for a difference. What a
document costs, on disk and in memory, is divided by their number, so that it should be flat as well.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import crdtdb
from benchmarks.results import Fact, Point, Result
from benchmarks.runner import Given, Plan, fill
from benchmarks.targets.embedded import EmbeddedSession
from benchmarks.workloads.replication import change, exchange_bytes
from crdtdb.causality import ACTOR_BYTES, DotSet

_PROBES = 300
_CHANGED = 100
_PAGES_AT_ONCE = 50_000
_SETTLING_SECONDS = 60
_ACTORS = (1, 10, 100, 1_000)

_OPENED = """
import sys, crdtdb, os
url, ids = sys.argv[1], sys.argv[2:]
def resident(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
with crdtdb.open(url) as db:
    for one in ids: db["bench"].get(one)
    print(resident())
"""


def growth(result: Result, plan: Plan, tell: Callable[[str], None], sizes: list[int]) -> None:
    """Measure at each size."""
    with tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as folder:
        session = EmbeddedSession(f"{folder}/data", "buffered")
        given: Given = []
        for number, size in enumerate(sizes):
            tell(f"growth: {size:,} documents")
            for at in range(len(given), size, _PAGES_AT_ONCE):
                more = plan.source.take(min(size - at, _PAGES_AT_ONCE), seed=1_000_000 * (number + 1) + at)
                fill(session, more)
                given += [(doc_id, {}) for doc_id, _ in more]
            _let_settle(Path(folder) / "data")
            _measure(result, plan, session, given, Path(folder), number)
        session.close()


def clocks(result: Result, plan: Plan, tell: Callable[[str], None]) -> None:
    """Measure what the number of actors costs whose writes a store holds: each member is one, and each that it was before."""
    for actors in _ACTORS:
        tell(f"growth: {actors:,} actors")
        took, exchanged = _with_actors(plan, actors)
        for curve, unit, value in (
            ("put, by actors in the node clock", "µs", took),
            ("bytes of an exchange with nothing new, by actors", "bytes", exchanged),
        ):
            result.points.append(Point(curve=curve, unit=unit, size=actors, value=value))


def _with_actors(plan: Plan, actors: int) -> tuple[float, int]:
    rng, fresh = Random(actors), plan.source.take(_PROBES, seed=actors)
    clock = DotSet.vector({rng.randbytes(ACTOR_BYTES): 1_000 for _ in range(actors)})
    with tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as folder, crdtdb.open("memory:") as other:
        session = EmbeddedSession(f"{folder}/data", "buffered")
        store = session.database.store
        store.replication.advance(clock)
        took = _median(lambda: None, lambda: session.put(*fresh.pop()))
        other.store.replication.advance(store.root.clock)
        exchanged = exchange_bytes(other.store, store)
        session.close()
    return took, exchanged


def _measure(result: Result, plan: Plan, session: EmbeddedSession, given: Given, folder: Path, number: int) -> None:
    size, rng = len(given), Random(number)

    def point(curve: str, unit: str, value: float, *, flat: bool = True) -> None:
        result.points.append(Point(curve=curve, unit=unit, size=size, value=value, flat=flat))

    chosen = [doc_id for doc_id, _ in rng.sample(given, _PROBES)]
    point("get", "µs", _median(lambda: session.get(chosen[0]), lambda: session.get(chosen.pop())))
    fresh = plan.source.take(_PROBES, seed=-1 - number)
    point("put", "µs", _median(lambda: None, lambda: session.put(*fresh.pop())))
    session.database.store.flush()
    probe = given[0][0]
    times = []
    for _ in range(3):
        began = time.perf_counter()
        session.reopen(probe)
        times.append(time.perf_counter() - began)
    point("open and read one", "ms", 1e3 * statistics.median(times))
    _exchanges(point, session, given)
    point("bytes on disk for each document", "bytes", _bytes_in(folder / "data") / size)
    memory = _memory(session, [doc_id for doc_id, _ in rng.sample(given, _PROBES)])
    point("memory of a process with the store open", "MiB", memory / 2**20)
    result.facts.append(
        Fact(
            name=f"memory with {size:,} documents open", value=memory / 2**20, unit="MiB", note=f"after {_PROBES} reads"
        )
    )


def _let_settle(place: Path) -> None:
    """Wait until LevelDB has put what was written where it belongs: until then it holds each write up for a millisecond."""
    until, unchanged, before = time.monotonic() + _SETTLING_SECONDS, 0, -1
    while unchanged < 5 and time.monotonic() < until:
        time.sleep(0.1)
        now = _bytes_in(place)
        unchanged, before = (unchanged + 1, before) if now == before else (0, now)


def _exchanges(point: Callable[[str, str, float], None], session: EmbeddedSession, given: Given) -> None:
    """Exchange with a store that holds the same but for a few documents: all that it needs is a clock that says so."""
    store = session.database.store
    with crdtdb.open("memory:") as other:
        other.store.replication.advance(store.root.clock)
        times = []
        for _ in range(_PROBES):
            began = time.perf_counter()
            assert store.replication.outgoing(other.store.root.clock).nothing
            times.append(time.perf_counter() - began)
        point("exchange with nothing new", "µs", 1e6 * statistics.median(times))
        point("bytes of an exchange with nothing new", "bytes", exchange_bytes(other.store, store))
        encoded = change(session.database, given, _CHANGED)
        began = time.perf_counter()
        shipped = exchange_bytes(other.store, store)
        point(f"exchange of {_CHANGED} changed documents", "ms", 1e3 * (time.perf_counter() - began))
        point(f"bytes for {_CHANGED} changed documents, of their size", "", shipped / encoded)


def _median(warm: Callable[[], object], act: Callable[[], object]) -> float:
    warm()
    times = []
    for _ in range(_PROBES):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return 1e6 * statistics.median(times)


def _memory(session: EmbeddedSession, ids: list[str]) -> int:
    """Return the memory of a fresh process that opens the store and reads some documents: all that is resident."""
    session.database.close()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _OPENED, session.url, *ids], capture_output=True, text=True, check=True, timeout=600
        )
    finally:
        session.open()
    return int(done.stdout)


def _bytes_in(folder: Path) -> int:
    total = 0
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # LevelDB removes files while they are being looked at
            total += file.stat().st_size
    return total
