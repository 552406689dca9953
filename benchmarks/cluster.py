"""What three real nodes take for a lock, a write that needs one, and a notice: against a durable put over HTTP."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import httpx

from benchmarks.harness import ROUNDS
from crdtdb.cli.demo.cluster import DemoCluster, wait_until
from crdtdb.cluster.tls import Credentials

_TIMES = 20


def run() -> str:
    """Measure, and return the report."""
    with tempfile.TemporaryDirectory() as folder, DemoCluster(Path(folder)) as cluster:
        cluster.start_all()
        tls = Credentials(cluster.certs, "ada").http_client()
        clients = {name: httpx.Client(base_url=cluster.url(name), verify=tls, timeout=30) for name in cluster.names}
        try:
            return _measured(cluster, clients["n1"], clients["n2"])
        finally:
            for client in clients.values():
                client.close()


def _measured(cluster: DemoCluster, here: httpx.Client, there: httpx.Client) -> str:
    here.put("/notes").raise_for_status()
    cluster.wait_equal(["notes"])
    assert wait_until(lambda: _lock(here, "warm-up", 60) > 0, 20)
    token, numbers = _lock(here, "held", 300), count()

    def put(client: httpx.Client, headers: dict[str, str]) -> None:
        client.put(f"/notes/{next(numbers)}", json={"n": 1}, headers=headers).raise_for_status()

    def lock() -> None:
        name = f"lock{next(numbers)}"
        here.delete(f"/_locks/{name}", params={"token": _lock(here, name, 20)}).raise_for_status()

    with there.stream("GET", "/_notify", params={"collection": "notes"}) as answer:
        lines = answer.iter_lines()
        next(lines)
        base = _median(lambda: put(here, {}), lines)
        held = {"x-lock": f"held={token}"}
        rows = [
            ("put, durable, over HTTP", base),
            (
                "put that needs a lock held through the same node",
                _median(lambda: put(here, held), lines),
            ),
            (
                "put that needs a lock held through another node",
                _median(lambda: put(there, held), lines),
            ),
            ("put at one node, until another tells it", _median(lambda: put(here, {}), lines, waiting=True)),
            ("a lock, had and given back", _median(lock, iter(()))),
        ]
    head = ["## Three nodes over TLS", "", "| what | milliseconds | of a put |", "|---|---|---|"]
    return "\n".join([*head, *(f"| {what} | {1000 * took:.1f} | {took / base:.1f} |" for what, took in rows), ""])


def _lock(client: httpx.Client, name: str, ttl: float) -> int:
    answer = client.post("/_locks", json={"name": name, "ttl": ttl, "wait": 10})
    answer.raise_for_status()
    return int(answer.json()["token"])


def _median(act: Callable[[], None], lines: Iterator[str], *, waiting: bool = False) -> float:
    """Return the median time of what is done, or until a subscriber hears of it. Each of them is heard of once."""
    found = []
    for _ in range(_TIMES * ROUNDS // 2):
        began = time.perf_counter()
        act()
        acted = time.perf_counter()
        for line in lines:
            if line.startswith("data: "):
                break
        found.append((time.perf_counter() if waiting else acted) - began)
    return statistics.median(found)
