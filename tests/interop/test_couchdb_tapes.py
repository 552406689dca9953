"""Recorded conversations of replicators with CouchDB, played to a node, and served to its own replicator."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crdtdb.cli.demo.cluster import DemoCluster
from crdtdb.security.authority import issue
from tests.interop.couchdb_corpus import folder, program

pytestmark = pytest.mark.processes

TAPES = (
    "couchdb-pulls",
    "couchdb-pulls-again",
    "couchdb-pulls-continuously",
    "couchdb-pushes",
    "crdtdb-pulls",
    "crdtdb-pushes",
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    folder()
    with DemoCluster(tmp_path_factory.mktemp("tapes"), ("n1",)) as cluster:
        issue(cluster.certs, "admin", "root")
        cluster.start_all()
        yield cluster


def node_of(cluster: DemoCluster) -> Any:
    """Return the node as the programs of the corpus see a server."""
    certs: Path = cluster.certs
    return program(folder(), "replay").Server(
        cluster.url("n1"), cert=str(certs / "root.pem"), key=str(certs / "root.key"), ca=str(certs / "ca.pem")
    )


def tape_of(name: str) -> Any:
    return json.loads((folder() / "tapes" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", TAPES)
def test_a_node_answers_a_replicator_as_couchdb_did(cluster: DemoCluster, name: str) -> None:
    player = program(folder(), "tape").Player(tape_of(name), node_of(cluster))
    try:
        found = player.run()
    finally:
        player.close()
    assert player.checked > 20
    assert not found, "\n".join(f"{n} {what}: CouchDB {want}, here {have}" for n, what, want, have in found)


@pytest.fixture
def served() -> Iterator[tuple[str, io.StringIO]]:
    """Serve the documents of a tape as CouchDB would; return where, and the log."""
    log, servers, ready = io.StringIO(), list[Any](), threading.Event()

    def known(server: Any) -> None:
        servers.append(server)
        ready.set()

    thread = threading.Thread(
        target=program(folder(), "tape").serve, args=(tape_of("crdtdb-pulls"), 0, False, log, known), daemon=True
    )
    thread.start()
    assert ready.wait(10)
    yield f"http://127.0.0.1:{servers[0].server_address[1]}", log
    servers[0].shutdown()
    thread.join(10)


def test_crdtdb_replicates_from_couchdb_and_to_it(cluster: DemoCluster, served: tuple[str, io.StringIO]) -> None:
    url, log = served
    leaves = program(folder(), "tape").leaves
    expected = tape_of("couchdb-pushes")["result"]["tapetarget"]
    for source, target in ((f"{url}/tapesource", "pulled"), ("pulled", f"{url}/pushed")):
        done = replicate(cluster, source, target, "--create-target")
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{log.getvalue()}"
    assert leaves(node_of(cluster), "pulled") == expected
    assert leaves(program(folder(), "replay").Server(url), "pushed") == expected
    again = replicate(cluster, f"{url}/tapesource", "pulled")
    assert again.returncode == 0
    assert json.loads(again.stdout)["missing_checked"] == 0


def replicate(cluster: DemoCluster, source: str, target: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "crdtdb", "replicate", source, target, "--json", *flags]
    command += ["--url", cluster.url("n1"), "--certs", str(cluster.certs), "--as", "root"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
