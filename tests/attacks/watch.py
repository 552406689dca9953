"""What an attack must not change: memory, answers to others, and the heartbeat that other members hear."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx

from crdtdb.cli.demo.cluster import DemoCluster
from crdtdb.clock import monotonic_seconds
from crdtdb.security.tls import Credentials
from tests.json_posts import HOOKS

T = TypeVar("T")
MB = 1024 * 1024


def pid_of(cluster: DemoCluster, name: str) -> int:
    """Return the process id of a node."""
    return cluster.pid(name)


def resident_bytes(pid: int, peak: bool = False) -> int:
    """Return the resident memory of a process, or the most that it was since `forget_peak`."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def forget_peak(pid: int) -> None:
    """Let the peak of a process's memory begin at what it is now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Watch:
    """Watches one node while it is attacked. Use it in a `with`; its bounds are checked at the end."""

    def __init__(
        self,
        cluster: DemoCluster,
        name: str,
        *,
        growth_bytes_max: int,
        answer_seconds_max: float = 5.0,
        suspected_max: float = 0.3,
    ) -> None:
        """At most so much memory more, no answer to another client later than so many seconds, and other members in doubt
        about the node for at most a part of the time."""
        self._suspected_max = suspected_max
        self._cluster, self._name = cluster, name
        self._growth_max, self._seconds_max = growth_bytes_max, answer_seconds_max
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self.answers: list[float] = []
        self.refusals: list[str] = []
        self.heard: list[str] = []

    def __enter__(self) -> Self:
        self._pid = pid_of(self._cluster, self._name)
        forget_peak(self._pid)
        self._before = resident_bytes(self._pid)
        others = [name for name in self._cluster.names if name != self._name and self._cluster.running(name)]
        jobs: list[Callable[[], None]] = [self._ask, *((lambda other=other: self._listen(other)) for other in others)]
        self._threads = [threading.Thread(target=job) for job in jobs]
        for one in self._threads:
            one.start()
        return self

    def _client(self, name: str) -> httpx.Client:
        context = Credentials(self._cluster.certs, "ada").http_client()
        return httpx.Client(
            base_url=self._cluster.url(name), verify=context, timeout=20, trust_env=False, event_hooks=HOOKS
        )

    def _ask(self) -> None:
        """Ask the attacked node for little things, each time over a connection of its own, and keep how long it took."""
        while not self.answers or not self._ended.wait(0.1):
            begun = monotonic_seconds()
            try:
                with self._client(self._name) as client:
                    status = client.get("/_up").status_code
                    if status != 200:
                        self.refusals.append(f"status {status}")
            except httpx.HTTPError as error:
                self.refusals.append(repr(error))
            self.answers.append(monotonic_seconds() - begun)

    def _listen(self, other: str) -> None:
        """Keep what another member thinks of the attacked node."""
        with self._client(other) as client:
            while not self._ended.wait(0.1):
                try:
                    members = client.get("/_cluster").json()["members"]
                except httpx.HTTPError:
                    continue  # it isn't the one that is attacked: the machine is busy
                self.heard += [one["status"] for one in members if one["name"] == self._name]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for one in self._threads:
            one.join()
        if error is not None:
            return
        assert self._cluster.running(self._name), "the node has ended"
        grown = resident_bytes(self._pid, peak=True) - self._before
        assert grown <= self._growth_max, f"it took {grown / MB:.0f} MB more"
        assert self.refusals == []
        assert self.answers
        assert max(self.answers) <= self._seconds_max, f"another client waited {max(self.answers):.1f} s"
        assert set(self.heard) <= {"alive", "suspect"}, sorted(set(self.heard))
        suspected = self.heard.count("suspect") / max(1, len(self.heard))
        assert suspected <= self._suspected_max, f"suspected in {suspected:.0%} of the time"


def at_once(jobs: Sequence[Callable[[], T]] | Iterable[Callable[[], T]]) -> list[T]:
    """Do all of these at the same time, each in a thread; return what they return."""
    listed = list(jobs)
    with ThreadPoolExecutor(len(listed)) as pool:
        return [one.result() for one in [pool.submit(job) for job in listed]]


def client_of(cluster: DemoCluster, name: str, who: str = "ada") -> httpx.Client:
    """Return a client of a node, with a certificate."""
    context = Credentials(cluster.certs, who).http_client()
    limits = httpx.Limits(max_connections=200)
    return httpx.Client(
        base_url=cluster.url(name), verify=context, timeout=30, trust_env=False, limits=limits, event_hooks=HOOKS
    )


def fill(cluster: DemoCluster, collection: str, documents: list[dict[str, object]]) -> None:
    """Make a collection of documents on the first node, unless it is there."""
    with client_of(cluster, "n1") as client:
        if client.put(f"/{collection}").status_code == 201:
            for start in range(0, len(documents), 1_000):
                body = json.dumps({"docs": documents[start : start + 1_000]})
                assert client.post(f"/{collection}/_bulk_docs", content=body).status_code == 201
