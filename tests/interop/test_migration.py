"""Moving documents between a node and pouchdb-server of npm, live, both ways: equal leaves, attachments and all."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from crdtdb.cli.demo.cluster import DemoCluster, free_ports, wait_until
from crdtdb.security.authority import issue
from tests.interop.stories import need_node
from tests.json_posts import HOOKS

SERVER = Path(__file__).parents[2] / "benchmarks" / "node_modules" / "pouchdb-server" / "bin" / "pouchdb-server"
pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    need_node()
    with DemoCluster(tmp_path_factory.mktemp("migration"), ("n1", "n2")) as made:
        issue(made.certs, "admin", "root")
        made.start_all()
        yield made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not SERVER.exists():
        pytest.skip("pouchdb-server isn't in benchmarks/node_modules: `make test` installs it by npm")
    (port,) = free_ports(1)
    command = [need_node(), str(SERVER), "--port", str(port), "--in-memory", "--no-stdout-logs"]
    folder = tmp_path_factory.mktemp("server")
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        assert wait_until(lambda: _answers(url), 30)
        yield url
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


def replicate(cluster: DemoCluster, source: str, target: str, *flags: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "crdtdb", "replicate", source, target, "--create-target", "--json", *flags]
    command += ["--url", cluster.url("n1"), "--certs", str(cluster.certs), "--as", "ada"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def leaves_there(url: str) -> dict[str, Any]:
    with httpx.Client(base_url=url, event_hooks=HOOKS) as client:
        return _leaves(lambda path, **query: client.get(path, params=query).json())


def leaves_here(cluster: DemoCluster, name: str) -> dict[str, Any]:
    return _leaves(lambda path, **query: cluster.ask("n1", "GET", name, *path.split("/", 1), **query))


def _leaves(ask: Any) -> dict[str, Any]:
    """Return the leaves of every document with their histories, and the contents of their attachments."""
    found = {}
    for row in ask("_changes", style="all_docs")["results"]:
        rows = ask(row["id"], open_revs="all", revs="true", attachments="true")
        leaves = [one["ok"] for one in rows]
        for one in leaves:
            for attachment in one.get("_attachments", {}).values():
                # The digest is of what each keeps, compressed or not.
                for told_by_one_alone in ("revpos", "length", "digest"):
                    attachment.pop(told_by_one_alone, None)
        found[row["id"]] = sorted(leaves, key=lambda one: str(one["_rev"]))
    return found


def fill(url: str, beginning: str, number: int) -> None:
    with httpx.Client(base_url=url) as client:
        docs: list[dict[str, Any]] = [
            {"_id": f"{beginning}{n:03}", "n": n, "text": "é" * (n % 50)} for n in range(number)
        ]
        assert client.post("_bulk_docs", json={"docs": docs}).status_code == 201
        conflict = [{"_id": f"{beginning}-conflict", "_rev": f"1-{one}", "who": one} for one in ("aa", "bb", "cc")]
        assert client.post("_bulk_docs", json={"docs": conflict, "new_edits": False}).status_code == 201
        made = client.put(
            f"{beginning}-file", json={"_attachments": {"a.txt": {"content_type": "text/plain", "data": "aGVsbG8="}}}
        )
        rev = made.json()["rev"]
        data = bytes(range(256)) * 2_000
        assert client.put(
            f"{beginning}-file/b.bin", params={"rev": rev}, content=data, headers={"content-type": "x/y"}
        ).is_success
        gone = client.put(f"{beginning}-gone", json={}).json()
        client.delete(f"{beginning}-gone", params={"rev": gone["rev"]})


def test_a_migration_from_another_server_and_back_while_both_are_written(cluster: DemoCluster, server: str) -> None:
    old = f"{server}/old"
    httpx.put(old).raise_for_status()
    fill(old, "first", 300)
    moved = replicate(cluster, old, "notes")
    assert (moved["docs_written"], moved["doc_write_failures"]) == (305, 0)
    assert leaves_here(cluster, "notes") == leaves_there(old)
    stop = Event()

    def write() -> None:
        for n in range(400):
            httpx.put(f"{old}/live{n:04}", json={"n": n}).raise_for_status()
            cluster.ask("n2", "PUT", "notes", f"here{n:04}", body={"n": n})
            if stop.is_set():
                return

    thread = Thread(target=write)
    thread.start()
    try:
        for _ in range(3):
            replicate(cluster, old, "notes")
            replicate(cluster, "notes", old)
    finally:
        stop.set()
        thread.join(30)
    cluster.wait_equal(["notes"])
    replicate(cluster, old, "notes")
    replicate(cluster, "notes", old)
    here, there = leaves_here(cluster, "notes"), leaves_there(old)
    assert here == there
    assert len([one for one in here if one.startswith("live")]) == len([one for one in here if one.startswith("here")])
    again = replicate(cluster, old, "notes")
    assert again["missing_found"] == 0


def admin(cluster: DemoCluster, node: str, method: str, path: str, **options: Any) -> Any:
    context = ssl.create_default_context(cafile=cluster.certs / "ca.pem")
    context.load_cert_chain(cluster.certs / "root.pem", cluster.certs / "root.key")
    answer = httpx.request(method, f"{cluster.url(node)}{path}", verify=context, timeout=20, **options)
    return answer.json()


def test_a_described_replication_goes_on_at_another_node_when_its_own_is_killed(
    cluster: DemoCluster, server: str
) -> None:
    lasting = f"{server}/lasting"
    httpx.put(lasting).raise_for_status()
    fill(lasting, "first", 20)
    spec = {"source": lasting, "target": "followed", "create_target": True, "continuous": True}
    assert admin(cluster, "n1", "PUT", "/_replicator/lasting", json=spec)["ok"]

    def runs(node: str) -> bool:
        return bool(admin(cluster, node, "GET", "/_scheduler/jobs")["jobs"])

    def count(node: str) -> int:
        try:
            found: int = cluster.ask(node, "GET", "followed")["doc_count"]
        except Exception:
            return 0
        return found

    assert wait_until(lambda: count("n1") >= 22 and count("n2") >= 22, 30)
    runner, other = ("n1", "n2") if runs("n1") else ("n2", "n1")
    assert not runs(other), "one of the nodes runs it, and not both"
    survivor = other
    cluster.kill(runner)
    cluster.start(runner, join=[survivor])
    cluster.wait_ready(runner)
    httpx.put(f"{lasting}/after", json={}).raise_for_status()
    assert wait_until(lambda: count(survivor) >= 23, 60)
    rev = admin(cluster, survivor, "GET", "/_replicator/lasting")["_rev"]
    assert admin(cluster, survivor, "DELETE", f"/_replicator/lasting?rev={rev}")["ok"]
    assert wait_until(lambda: not runs("n1") and not runs("n2"), 20)
