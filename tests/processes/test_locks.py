"""Locks on real nodes: by HTTP, by the command, and in a service that runs a node of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest

from crdtdb.cli.demo.cluster import DemoCluster, wait_until
from crdtdb.config import NodeConfig
from crdtdb.errors import LockError
from crdtdb.node import serving
from crdtdb.security.tls import Credentials
from tests.processes.commands import command

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    """One for all tests here: each leaves it running for the next."""
    with DemoCluster(tmp_path_factory.mktemp("locks")) as made:
        made.start_all()
        made.wait_meshed()
        yield made


def client_of(cluster: DemoCluster, node: str) -> httpx.Client:
    tls = Credentials(cluster.certs, "ada").http_client()
    return httpx.Client(base_url=cluster.url(node), verify=tls, timeout=30)


def shown(cluster: DemoCluster, node: str) -> dict[str, str]:
    return {one["name"]: one["node"] for one in cluster.ask(node, "GET", "_locks")["locks"]}


def test_a_lease_is_the_clusters_and_a_write_may_require_it(cluster: DemoCluster) -> None:
    cluster.ask("n1", "PUT", "notes")
    with client_of(cluster, "n1") as n1, client_of(cluster, "n2") as n2, client_of(cluster, "n3") as n3:
        had = n1.post("/_locks", json={"name": "invoice/7", "ttl": 20, "wait": 10})
        assert had.status_code == 201, had.text
        token = had.json()["token"]
        assert n2.post("/_locks", json={"name": "invoice/7"}).status_code == 423
        # Its own writes go at once, those through another node after a majority was asked; an old token writes nothing.
        for node, doc_id in ((n1, "a"), (n2, "b"), (n3, "c")):
            written = node.put(f"/notes/{doc_id}", json={}, headers={"x-lock": f"invoice%2F7={token}"})
            assert written.status_code == 201, written.text
        stale = n2.put("/notes/d", json={}, headers={"x-lock": f"invoice%2F7={token - 1}"})
        assert (stale.status_code, stale.json()["error"]) == (412, "lock_lost")
        assert wait_until(lambda: shown(cluster, "n3").get("invoice/7") == "n1", 10)
        assert cluster.ask("n3", "GET", "system.locks", "invoice/7")["token"] == token
        assert n1.put("/_locks/invoice%2F7", json={"token": token}).status_code == 200
        assert n2.put("/_locks/invoice%2F7", json={"token": token}).status_code == 404
        assert n1.delete("/_locks/invoice%2F7", params={"token": token}).status_code == 200
        newer = n2.post("/_locks", json={"name": "invoice/7", "wait": 5})
        assert newer.status_code == 201, newer.text
        assert newer.json()["token"] > token


def test_a_lock_is_released_when_the_connection_ends(cluster: DemoCluster) -> None:
    with client_of(cluster, "n1") as holder:
        body = {"name": "x", "ttl": 300, "wait": 10, "hold": True}
        with holder.stream("POST", "/_locks", json=body) as answer:
            assert answer.status_code == 201
            lines = answer.iter_lines()
            assert '"ok":true' in next(lines)
            with client_of(cluster, "n2") as other:
                assert other.post("/_locks", json={"name": "x"}).status_code == 423
    with client_of(cluster, "n2") as other:
        assert other.post("/_locks", json={"name": "x", "wait": 10}).status_code == 201


def lock(cluster: DemoCluster, node: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "crdtdb", "lock", "--url", cluster.url(node)),
            *("--certs", str(cluster.certs), "--as", "ada", *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    said = process.communicate(timeout=60)
    return process.returncode, "".join(said)


def test_the_command_runs_another_while_it_holds_a_lock(cluster: DemoCluster, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    add = f"n=$(cat {ledger} 2>/dev/null || echo 0); sleep 0.2; echo $((n + 1)) > {ledger}; echo $CRDTDB_LOCK_TOKEN"
    workers = [lock(cluster, node, "ledger", "sh", "-c", add) for node in ("n1", "n2", "n3") for _ in range(2)]
    said = [worker.communicate(timeout=60) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 6, said
    assert ledger.read_text().strip() == "6"
    tokens = [int(out) for out, _ in said]
    assert len(set(tokens)) == 6
    assert end_of(lock(cluster, "n1", "ledger", "--", "sh", "-c", "exit 9"))[0] == 9
    code, said_of = end_of(lock(cluster, "n1", "ledger", "no-such-command"))
    assert (code, "can't run no-such-command" in said_of) == (2, True)
    assert end_of(lock(cluster, "n1", "ledger"))[0] == 2
    may_end = tmp_path / "may-end"
    slowly = f"trap 'while [ ! -e {may_end} ]; do sleep 0.1; done; exit 3' TERM; echo on; while :; do sleep 0.1; done"
    stopped = lock(cluster, "n1", "ledger", "sh", "-c", slowly)
    assert stopped.stdout is not None
    assert stopped.stdout.readline() == "on\n"
    stopped.terminate()
    code, said_of = end_of(lock(cluster, "n2", "--wait", "0", "ledger", "true"))
    may_end.touch()
    assert (code, "held through n1" in said_of) == (7, True), "it is held until the command has ended"
    assert end_of(stopped)[0] == 3
    assert wait_until(lambda: "ledger" not in shown(cluster, "n2"), 10)
    holder = lock(cluster, "n1", "ledger", "sleep", "60")
    assert wait_until(lambda: shown(cluster, "n2").get("ledger") == "n1", 10)
    code, said_of = end_of(lock(cluster, "n2", "--wait", "0", "ledger", "true"))
    assert (code, "held through n1" in said_of) == (7, True)
    code, said_locks = command(cluster, "n3", "locks", who="ada")
    assert (code, "ledger" in said_locks) == (0, True)
    # The node that granted it dies: the command is terminated, and others have the lock when its time is over.
    cluster.kill("n1")
    code, said_of = end_of(holder)
    assert (code, "was lost" in said_of) == (7, True)
    cluster.start("n1")
    cluster.wait_ready("n1")
    cluster.wait_meshed()


def test_a_node_that_is_stopped_for_longer_than_its_lease_has_lost_it(cluster: DemoCluster) -> None:
    with client_of(cluster, "n1") as n1, client_of(cluster, "n2") as n2:
        old = n1.post("/_locks", json={"name": "y", "ttl": 3, "wait": 10}).json()["token"]
        process = cluster.pid("n1")
        os.kill(process, signal.SIGSTOP)
        try:
            had = n2.post("/_locks", json={"name": "y", "ttl": 60, "wait": 20})
            assert had.status_code == 201, had.text
        finally:
            os.kill(process, signal.SIGCONT)
        assert had.json()["token"] > old
        assert wait_until(lambda: cluster.ask("n1", "GET", "_up")["status"] == "ok", 20)
        late = n1.put("/_locks/y", json={"token": old})
        assert late.status_code in (404, 412), late.text


def test_a_service_runs_a_node_of_its_own_and_holds_a_lock(cluster: DemoCluster, tmp_path: Path) -> None:
    from crdtdb.security.authority import issue

    issue(cluster.certs, "node", "n4", ["127.0.0.1"])
    config = NodeConfig(
        name="n4",
        data=str(tmp_path / "n4"),
        certs=str(cluster.certs),
        listen="127.0.0.1:0",
        http="127.0.0.1:0",
        join=(f"127.0.0.1:{cluster.gossip['n1']}",),
    )

    async def serve() -> None:
        async with serving(config) as node:
            with anyio.fail_after(30):
                while node.cluster.why_not_ready is not None:  # noqa: ASYNC110
                    await anyio.sleep(0.05)
            async with node.lock("x", ttl=20, wait=20) as lease:
                await node.database.collection("notes").put("service", {"token": lease.token})
                with pytest.raises(LockError, match="held through n4"):
                    async with node.lock("x", wait=0):
                        pytest.fail("two hold it")
            with pytest.raises(ZeroDivisionError):
                async with node.lock("x", wait=10):
                    _ = 1 / 0
            with pytest.raises(LockError, match="was lost"):
                async with node.lock("x", ttl=1, wait=10):
                    for name in cluster.names:
                        await anyio.to_thread.run_sync(cluster.kill, name)
                    await anyio.sleep(30)

    anyio.run(serve)
