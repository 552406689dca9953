"""Before a client is known: floods of connections, heads without an end, and too few file descriptors."""

from __future__ import annotations

import json
import resource
import socket
import time
from pathlib import Path

import pytest

from crdtdb.cli.demo.cluster import DemoCluster, wait_until
from crdtdb.limits import HEAD_BYTES_MAX, HEADERS_MAX
from crdtdb.security.admission import Connections
from tests.attacks.raw import flood, many, plain, status, tls
from tests.attacks.watch import MB, Watch, at_once, client_of, pid_of

pytestmark = pytest.mark.processes
START = b"GET / HTTP/1.1\r\nHost: n1\r\n"


def test_a_flood_of_idle_tls_connections(cluster: DemoCluster) -> None:
    """More than there may be: the oldest make room, and clients are answered all the while."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4_096), hard))
    opened: list[socket.socket] = []
    with Watch(cluster, "n1", growth_bytes_max=200 * MB), many(opened):
        for _ in range(8):
            opened += at_once([lambda: tls(cluster)] * 140)
        with client_of(cluster, "n1") as client:
            assert client.get("/_all_dbs").status_code == 200


def test_a_flood_of_connections_without_tls(cluster: DemoCluster) -> None:
    for port in (cluster.http["n1"], cluster.gossip["n1"]):
        opened: list[socket.socket] = []
        with Watch(cluster, "n1", growth_bytes_max=100 * MB), many(opened):
            opened += [plain(port) for _ in range(600)]
            time.sleep(0.5)


@pytest.mark.parametrize(
    ("piece", "expected"),
    [(b"x: y\r\n" * 10_000, 431), (b"x" * 60_000, 431), (b"long: " + b"y" * 60_000, 431)],
    ids=["many headers", "a long name", "a long value"],
)
def test_a_head_without_an_end(cluster: DemoCluster, piece: bytes, expected: int) -> None:
    with Watch(cluster, "n1", growth_bytes_max=60 * MB, answer_seconds_max=3):
        for _ in range(3):
            with tls(cluster) as connection:
                connection.sendall(START)
                flood(connection, piece, 64 * MB // len(piece))
        with tls(cluster) as connection:  # small enough for the answer to come whole
            connection.sendall(START + piece[: HEAD_BYTES_MAX // 2] + piece[: HEAD_BYTES_MAX // 2] + b"z" * 10_000)
            assert status(connection) == expected


def test_a_target_without_an_end(cluster: DemoCluster) -> None:
    with tls(cluster) as connection:
        connection.sendall(b"GET /" + b"a" * (HEAD_BYTES_MAX + 100))
        assert status(connection) in (414, 431)


def test_heads_within_the_bounds_are_answered(cluster: DemoCluster) -> None:
    headers = b"".join(b"x%d: %b\r\n" % (n, b"y" * 250) for n in range(HEADERS_MAX - 10))
    with tls(cluster, who="ada") as connection:
        connection.sendall(START + headers + b"Connection: close\r\n\r\n")
        assert status(connection) == 200


def test_requests_that_are_piled_up(cluster: DemoCluster) -> None:
    with Watch(cluster, "n1", growth_bytes_max=60 * MB), tls(cluster) as connection:
        flood(connection, (START + b"\r\n") * 1_000, 200)


def test_trailers_without_an_end(cluster: DemoCluster) -> None:
    start = b"POST /_session HTTP/1.1\r\nHost: n1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"
    with Watch(cluster, "n1", growth_bytes_max=60 * MB), tls(cluster) as connection:
        connection.sendall(start)
        flood(connection, b"x: y\r\n" * 1_000, 5_000)


def test_a_large_body_before_anybody_has_logged_in(cluster: DemoCluster) -> None:
    start = b"POST /_session HTTP/1.1\r\nHost: n1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Watch(cluster, "n1", growth_bytes_max=60 * MB):
        for _ in range(4):
            with tls(cluster) as connection:
                connection.sendall(start)
                flood(connection, b"10000\r\n" + b"x" * 65_536 + b"\r\n", 256)


@pytest.fixture
def narrow(tmp_path: Path) -> DemoCluster:
    return DemoCluster(tmp_path, ("n1",))


def test_a_node_with_few_file_descriptors(narrow: DemoCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has less than clients want, and loses them all: it accepts again when there are some."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with narrow as cluster:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, before[1]))
        try:
            cluster.start("n1")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        resource.prlimit(pid_of(cluster, "n1"), resource.RLIMIT_NOFILE, (128, 128))
        cluster.wait_ready("n1")
        cluster.ask("n1", "PUT", "notes")
        opened: list[socket.socket] = []
        with many(opened):
            for port in (cluster.http["n1"], cluster.gossip["n1"]):
                opened += [plain(port) for _ in range(300)]
            time.sleep(1)
            assert cluster.running("n1")
        # Fewer than are open by now, as if something else had taken them.
        resource.prlimit(pid_of(cluster, "n1"), resource.RLIMIT_NOFILE, (20, 128))
        with many(opened := [plain(cluster.http["n1"]) for _ in range(30)] + [plain(cluster.gossip["n1"])]):
            time.sleep(1)
            assert cluster.running("n1")
        resource.prlimit(pid_of(cluster, "n1"), resource.RLIMIT_NOFILE, (128, 128))
        assert wait_until(lambda: cluster.ask("n1", "POST", "notes", body={"still": "here"})["ok"], 15)
        log = cluster.log("n1").read_text()
        assert 0 < log.count("no connection can be accepted for now") <= 4
        assert "Traceback" not in log
        assert cluster.stop("n1") == 0


def test_the_idle_make_room_and_the_busy_stay() -> None:
    closed: list[str] = []
    table = Connections("test", 4, 3)

    def admit(host: str, name: str) -> object:
        return table.admit(host, lambda: closed.append(name))

    first, second = table.admit("10.0.0.1", lambda: closed.append("a")), admit("10.0.0.1", "b")
    assert first is not None
    assert second is not None
    first.busy()
    assert admit("10.0.0.1", "c")
    assert admit("10.0.0.1", "d")
    assert closed == ["b"], "of this address, the one that was idle for longest"
    assert admit("10.0.0.2", "e")
    assert admit("10.0.0.3", "f")
    assert closed == ["b", "c"], "of the address that has most"
    assert len(table) == 4
    first.idle()
    first.remove()
    first.remove()
    first.busy()
    assert len(table) == 3


def test_where_all_are_busy_others_are_refused() -> None:
    table = Connections("test", 2, 2)
    for host in ("10.0.0.1", "10.0.0.2"):
        admitted = table.admit(host, lambda: None)
        assert admitted is not None
        admitted.busy()
    assert table.admit("10.0.0.3", lambda: None) is None
    assert json.dumps(len(table)) == "2"
