"""What three nodes take for a lock, a write that needs one, and a notice, beside a durable put over HTTP."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count

import httpx

from benchmarks.results import Fact, Result
from benchmarks.runner import Plan
from benchmarks.targets.server import Nodes
from crdtdb.cli.demo.cluster import wait_until

_TIMES = 40


def cluster(nodes: Nodes, result: Result, plan: Plan, tell: Callable[[str], None]) -> None:
    """Measure on three running nodes."""
    tell("locks and notices")
    running, times = nodes.cluster, max(5, int(_TIMES * plan.share))
    assert running is not None
    assert nodes.tls is not None
    with (
        httpx.Client(base_url=running.url("n1"), verify=nodes.tls, timeout=30) as here,
        httpx.Client(base_url=running.url("n2"), verify=nodes.tls, timeout=30) as there,
    ):
        here.put("/notes").raise_for_status()
        running.wait_equal(["notes"])
        assert wait_until(lambda: _lock(here, "warm-up", 60) > 0, 20)
        for what, took in _measured(here, there, times):
            result.facts.append(Fact(name=f"{what}, 3 nodes", value=took, unit="ms", note=f"median of {times}"))
        here.delete("/notes")


def _measured(here: httpx.Client, there: httpx.Client, times: int) -> Iterator[tuple[str, float]]:
    token, numbers = _lock(here, "held", 300), count()
    held = {"x-lock": f"held={token}"}

    def put(client: httpx.Client, headers: dict[str, str]) -> None:
        client.put(f"/notes/{next(numbers)}", json={"n": 1}, headers=headers).raise_for_status()

    def lock() -> None:
        name = f"lock{next(numbers)}"
        here.delete(f"/_locks/{name}", params={"token": _lock(here, name, 20)}).raise_for_status()

    with there.stream("GET", "/_notify", params={"collection": "notes"}) as answer:
        lines = answer.iter_lines()
        next(lines)
        yield "a put over HTTP", _median(lambda: put(here, {}), lines, times)
        yield "a put that needs a lock held through the same node", _median(lambda: put(here, held), lines, times)
        yield "a put that needs a lock held through another node", _median(lambda: put(there, held), lines, times)
        yield "a put, until another node tells of it", _median(lambda: put(here, {}), lines, times, waiting=True)
        yield "a lock, had and given back", _median(lock, iter(()), times)


def _lock(client: httpx.Client, name: str, ttl: float) -> int:
    answer = client.post("/_locks", json={"name": name, "ttl": ttl, "wait": 10})
    answer.raise_for_status()
    return int(answer.json()["token"])


def _median(act: Callable[[], None], lines: Iterator[str], times: int, *, waiting: bool = False) -> float:
    """Return the median time, in milliseconds, of what is done, or until a subscriber hears of it."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        acted = time.perf_counter()
        for line in lines:
            if line.startswith("data: "):
                break
        found.append((time.perf_counter() if waiting else acted) - began)
    return 1e3 * statistics.median(found)
