"""How long writers wait while something large goes on beside them: an exchange, a compaction, a collection."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable

import crdtdb
from benchmarks.results import Result, Series, percentiles
from benchmarks.runner import Plan, fill
from benchmarks.targets.embedded import EmbeddedSession
from crdtdb.database.pull import pull
from crdtdb.store import ClientsRead

_SECONDS = 2.0
_PAUSE = 0.001
"""A writer that waits a little between two writes, as those of a service do: one that never waits measures itself."""


def tails(result: Result, plan: Plan, tell: Callable[[str], None]) -> None:
    """Measure a writer alone, and beside each of the others."""
    size = max(1_000, int(20_000 * plan.share))
    given = plan.source.take(size)
    with tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as folder:
        session = EmbeddedSession(f"{folder}/data", "sync")
        fill(session, given)
        for doc_id, _ in given[: size // 2]:  # something to collect
            session.collection.delete(doc_id, session.collection.get(doc_id).rev)
        store = session.database.store

        def exchange(stop: threading.Event) -> None:
            while not stop.is_set():
                with crdtdb.open("memory:", durability="buffered") as other:
                    pull(other.store, store)

        def compaction(stop: threading.Event) -> None:
            while not stop.is_set():
                session.database.compact("bench")

        def collection(stop: threading.Event) -> None:
            store.collector.reach_cut(store.root.clock)
            while not stop.is_set() and store.collector.collect(lambda _: ClientsRead(store.root.clock)):
                pass

        beside: dict[str, Callable[[threading.Event], None]] = {
            "alone": lambda stop: None,  # noqa: ARG005
            "beside exchanges": exchange,
            "beside a collection": collection,
            "beside a compaction": compaction,
        }
        for name, other in beside.items():
            tell(f"tail latency: {name}")
            each = _written(session, other, f"{name}-")
            result.series.append(
                Series(
                    workload=f"a writer, {name}",
                    target="crdtdb, leveldb",
                    durability="fsync",
                    unit="documents/s",
                    documents=size,
                    values=[len(each) / sum(each)],
                    latencies=percentiles(each),
                )
            )
        session.close()


def _written(session: EmbeddedSession, other: Callable[[threading.Event], None], prefix: str) -> list[float]:
    stop, each = threading.Event(), []
    thread = threading.Thread(target=other, args=(stop,))
    thread.start()
    until, number = time.monotonic() + _SECONDS, 0
    while time.monotonic() < until:
        began = time.perf_counter()
        session.put(f"{prefix}{number}", {"n": number, "text": "x" * 800})
        each.append(time.perf_counter() - began)
        number += 1
        time.sleep(_PAUSE)
    stop.set()
    thread.join()
    return each
