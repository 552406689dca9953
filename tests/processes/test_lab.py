"""Five real nodes in networks of their own, under partitions, delay, loss, SIGKILL and SIGSTOP, with clients at random nodes.

No acknowledged write is lost, no deleted document comes back, all hold the same within ten seconds of healing, and no garbage
stays once everything is stable. Who judges the history knows nothing of crdtdb.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from crdtdb.security.authority import create_authority, issue
from crdtdb.security.tls import Credentials
from tests.processes.judge import Did, judge
from tests.processes.lab import Lab, why_impossible

NAMES = ["n1", "n2", "n3", "n4", "n5"]
CONVERGED_SECONDS = 10.0
SHARED_MACHINE = 2.0
"""How many times as long it may take where the other tests run on the same cores."""
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(why_impossible() is not None, reason=f"THE NETWORK LAB WAS NOT RUN: {why_impossible()}"),
]


class Cluster:
    """Five nodes, each in a namespace; a sixth namespace is the clients'."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self.folder, self.lab, self.certs = folder, lab, folder / "certs"
        create_authority(self.certs)
        for name in NAMES:
            issue(self.certs, "node", name, [lab.addresses[name]])
        issue(self.certs, "client", "ada")
        self.tls = Credentials(self.certs, "ada").http_client()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        address = self.lab.addresses[name]
        join = ["--join", f"{self.lab.addresses['n1']}:7001"] if name != "n1" else []
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.lab.command(
                    name,
                    *(sys.executable, "-m", "crdtdb", "node", "--name", name, "--certs", str(self.certs)),
                    *("--data", str(self.folder / name), "--listen", f"{address}:7001", "--http", f"{address}:7101"),
                    *("--tombstone-grace", "0", *join),
                ),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def client(self, name: str, timeout: float) -> httpx.Client:
        return httpx.Client(base_url=f"https://{self.lab.addresses[name]}:7101", verify=self.tls, timeout=timeout)

    def get(self, name: str, path: str) -> Any:
        with self.client(name, 5) as client:
            return client.get(path).json()

    def signal(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(10)


class Client(threading.Thread):
    """Writes through random nodes, to documents of its own and to counters that all share."""

    def __init__(self, cluster: Cluster, number: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.cluster, self.number, self.rng = cluster, number, Random(seed * 100 + number)
        self.history: list[Did] = []
        self.stopping = False
        self._mine: dict[str, str | None] = {}

    def run(self) -> None:
        self.cluster.lab.enter("client")
        clients = {name: self.cluster.client(name, 2) for name in NAMES}
        value = 0
        while not self.stopping:
            value += 1
            self._once(clients[self.rng.choice(NAMES)], value)
            time.sleep(self.rng.expovariate(25))
        for client in clients.values():
            client.close()

    def _once(self, client: httpx.Client, value: int) -> None:
        if self.rng.random() < 0.2:
            counter = f"counter-{self.rng.randrange(3)}"
            body: dict[str, Any] = {"operations": [{"op": "increment", "path": ["n"], "by": 1}]}
            self._did("add", counter, 1, client, "POST", f"/counters/{counter}/_edit", body)
            return
        doc_id = f"c{self.number}-{value // 10 + self.rng.randrange(30)}"  # always some that are new, some that are old
        if doc_id in self._mine and self._mine[doc_id] is None:
            return  # nobody knows what it is
        rev = self._mine.get(doc_id)
        if rev and self.rng.random() < 0.3:
            gone = self._did("delete", doc_id, value, client, "DELETE", f"/notes/{doc_id}?rev={rev}", None)
            if gone is not None:
                self._mine[doc_id] = None  # a deleted document is left alone: it must not come back
            return
        body = {"value": value, **({"_rev": rev} if rev else {})}
        written = self._did("put", doc_id, value, client, "PUT", f"/notes/{doc_id}", body)
        if written is not None:
            self._mine[doc_id] = written

    def _did(
        self, what: str, doc_id: str, value: int, client: httpx.Client, method: str, url: str, body: Any
    ) -> str | None:
        rev, known = None, True
        try:
            answer = client.request(method, url, json=body)
            if answer.status_code < 300:
                rev = answer.json()["rev"]
            elif answer.status_code >= 500 and answer.status_code != 503:
                known = False
        except httpx.TransportError as error:
            known = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        self.history.append(Did(what, doc_id, value, rev, known))
        if not known and what != "add":
            self._mine[doc_id] = None
        return rev


def wait(condition: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return True
        except (httpx.TransportError, KeyError, json.JSONDecodeError):
            pass
        time.sleep(0.1)
    return False


def trouble(cluster: Cluster, rng: Random, until: float) -> list[str]:
    """Let things go wrong until then, and be well in the end, but for nodes that are about to start."""
    lab, told = cluster.lab, list[str]()
    while time.monotonic() < until:
        kind = rng.choice(["cut", "cut", "one way out", "weather", "kill", "stop", "calm"])
        name = rng.choice(NAMES)
        if kind == "cut":
            side = set(rng.sample(NAMES, rng.randint(1, 4)))
            lab.cut = {frozenset((a, b)) for a in side for b in set(NAMES) - side}
            told.append(f"cut off {sorted(side)}")
        elif kind == "one way out":
            lab.cut = {frozenset((name, other)) for other in NAMES if other not in (name, rng.choice(NAMES))}
            told.append(f"{name} hears few")
        elif kind == "weather":
            lab.delay, lab.loss = (0.0, rng.choice([0.0, 0.02, 0.1])), rng.choice([0.0, 0.02, 0.1])
            told.append(f"delay to {lab.delay[1]} s, loss {lab.loss}")
        elif kind == "calm":
            lab.cut, lab.delay, lab.loss = set(), (0.0, 0.0), 0.0
        elif kind == "kill":
            cluster.signal(name, signal.SIGKILL)
            cluster.processes[name].wait(10)
            told.append(f"{name} is killed")
            time.sleep(rng.uniform(0.1, 2))
            cluster.start(name)
        elif kind == "stop":
            cluster.signal(name, signal.SIGSTOP)
            told.append(f"{name} is stopped")
            time.sleep(rng.uniform(0.5, float(os.environ.get("CRDTDB_LAB_STOP", "4"))))
            cluster.signal(name, signal.SIGCONT)
        time.sleep(rng.uniform(0.3, 1.5))
    lab.cut, lab.delay, lab.loss = set(), (0.0, 0.0), 0.0
    return told


def play(cluster: Cluster, seed: int, seconds: float, patience: float = 1.0) -> None:
    for name in NAMES:
        cluster.start(name)
    assert wait(lambda: all(cluster.get(name, "/_up")["status"] == "ok" for name in NAMES), 30)
    with cluster.client("n1", 10) as first:
        first.put("/notes")
        first.put("/counters")
        assert first.put("/counters/_schema", json={"n": "counter"}).status_code < 300
        for number in range(3):
            assert first.put(f"/counters/counter-{number}", json={"n": 0}).status_code == 201
    assert wait(lambda: all("n" in cluster.get(name, "/counters/counter-2") for name in NAMES), 20)
    clients = [Client(cluster, number, seed) for number in range(4)]
    for one in clients:
        one.start()
    told = trouble(cluster, Random(seed), time.monotonic() + seconds)
    for one in clients:
        one.stopping = True
    for one in clients:
        one.join(30)
    assert wait(lambda: all(cluster.get(name, "/_up")["status"] == "ok" for name in NAMES), 30), told
    healed = time.monotonic()

    def equal() -> bool:
        return all(
            len({cluster.get(name, f"/{collection}/_digest")["digest"] for name in NAMES}) == 1
            for collection in ("notes", "counters")
        )

    assert wait(equal, 60), f"the nodes differ, after: {told}"
    took = time.monotonic() - healed
    assert took <= CONVERGED_SECONDS * patience, f"it took {took:.1f} s to converge, after: {told}"
    history = [did for one in clients for did in one.history]
    acknowledged = sum(one.rev is not None for one in history)
    assert acknowledged > 20 * seconds / 10, f"only {acknowledged} of {len(history)} writes were acknowledged: {told}"
    for name in NAMES:
        rows = cluster.get(name, "/notes/_all_docs?include_docs=true&conflicts=true")["rows"]
        found: dict[str, Any] = {
            row["id"]: {"value": row["doc"]["value"], "conflicts": row["doc"].get("_conflicts")} for row in rows
        }
        counters = {f"counter-{n}": cluster.get(name, f"/counters/counter-{n}")["n"] for n in range(3)}
        wrong = judge(history, found, counters)
        assert not wrong, f"{name}: {wrong}, after: {told}"

    def collected() -> bool:
        for name in NAMES:
            found = cluster.get(name, "/_cluster/stability")
            if found["waiting"] != {"stability": 0, "clients": 0} or found["stable"] != found["writes"]:
                return False
        return all(cluster.get(name, "/_cluster")["collections"]["notes"]["deleted"] == 0 for name in NAMES)

    assert wait(collected, 60), [cluster.get(name, "/_cluster/stability") for name in NAMES]
    assert cluster.lab.packets > 1_000
    sys.stdout.write(
        f"seed {seed}: {acknowledged} of {len(history)} writes acknowledged, converged after {took:.1f} s; "
        f"{cluster.lab.packets} packets, {cluster.lab.lost} lost; {'; '.join(told)}\n"
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Lab([*NAMES, "client"], seed=1) as lab:
        made = Cluster(tmp_path, lab)
        try:
            yield made
        finally:
            made.close()


@pytest.mark.timeout(240)
def test_five_nodes_in_networks_of_their_own(cluster: Cluster) -> None:
    cluster.lab.inside("client", lambda: play(cluster, int(os.environ.get("CRDTDB_LAB_SEED", "7")), 20, SHARED_MACHINE))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 106))
def test_five_nodes_for_minutes(cluster: Cluster, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRDTDB_LAB_STOP", "90")
    cluster.lab.inside("client", lambda: play(cluster, seed, 300))


def test_the_judge_finds_what_is_wrong() -> None:
    line = [Did("put", "a", 1, "1-x", True), Did("put", "a", 2, "2-x", True), Did("add", "c", 2, "2-y", True)]
    line += [Did("put", "b", 3, "1-z", True), Did("delete", "b", 4, "2-z", True), Did("put", "d", 5, None, False)]
    line += [Did("add", "c", 1, None, False), Did("put", "e", 6, None, True)]
    good: dict[str, Any] = {"a": {"value": 2}, "d": {"value": 5}}
    assert judge(line, good, {"c": 2}) == []
    assert judge(line, {"a": {"value": 2}}, {"c": 3}) == []
    lost: dict[str, Any] = {"a": {"value": 1}}
    assert "a shows 1" in judge(line, lost, {"c": 2})[0]
    assert "b shows 3" in judge(line, {**good, "b": {"value": 3}}, {"c": 2})[0]
    assert "e shows 6" in judge(line, {**good, "e": {"value": 6}}, {"c": 2})[0]
    assert "nobody made it" in judge(line, {**good, "z": {"value": 3}}, {"c": 2})[0]
    assert "conflicts" in judge(line, {**good, "a": {"value": 2, "conflicts": ["2-q"]}}, {"c": 2})[0]
    assert "shows 4" in judge(line, good, {"c": 4})[0]
    assert "shows 1" in judge(line, good, {"c": 1})[0]
