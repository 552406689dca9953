"""What is cheap and what is dropped: TLS sessions resumed, connections kept, databases made and dropped many times."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import httpx
import pytest

from crdtdb.cli.demo.cluster import CLIENT, DemoCluster, wait_until
from crdtdb.errors import CrdtdbError
from crdtdb.security.tls import Credentials

pytestmark = pytest.mark.processes


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DemoCluster]:
    with DemoCluster(tmp_path, ("n1", "n2", "n3")) as made:
        made.start_all()
        yield made


def test_a_tls_session_is_resumed_with_its_certificate_and_connections_are_kept(cluster: DemoCluster) -> None:
    context = Credentials(cluster.certs, CLIENT).http_client()
    session: ssl.SSLSession | None = None
    reused = []
    for _ in range(3):
        with (
            socket.create_connection(("127.0.0.1", cluster.http["n1"])) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as secured,
        ):
            for _ in range(2):  # on one connection
                secured.sendall(b"GET /_all_dbs HTTP/1.1\r\nHost: n1\r\n\r\n")
                answer = b""
                while not answer.endswith(b"]\n"):
                    part = secured.recv(4096)
                    assert part, answer
                    answer += part
                assert answer.startswith(b"HTTP/1.1 200")
            reused.append(secured.session_reused)
            session = secured.session
    assert reused == [False, True, True]


@pytest.mark.parametrize("lives", [250, pytest.param(1_000, marks=pytest.mark.soak)])
def test_a_database_dropped_and_made_again_many_times_under_replication(cluster: DemoCluster, lives: int) -> None:
    """Whoever comes late, no document of an earlier life is in the last one, and nothing of them is left."""
    credentials, rng = Credentials(cluster.certs, CLIENT), random.Random(5)

    def noise() -> None:
        with httpx.Client(base_url=cluster.url("n2"), verify=credentials.http_client(), timeout=30) as client:
            while not done:
                client.post("/churn", json={"from": "n2"})

    done: list[bool] = []
    writer = Thread(target=noise)
    writer.start()
    clients = {
        name: httpx.Client(base_url=cluster.url(name), verify=credentials.http_client(), timeout=30)
        for name in cluster.names
    }
    try:
        for life in range(lives):
            client = clients[rng.choice(["n1", "n1", "n3"])]
            assert client.put("/churn").status_code in (201, 412)
            assert client.put(f"/churn/life{life}", json={"life": life}).status_code in (201, 404)
            assert client.delete("/churn").status_code in (200, 404)
    finally:
        done.append(True)
        writer.join()
    for name in cluster.names:  # those that met a drop made elsewhere at the same time
        try:
            cluster.ask(name, "DELETE", "churn")
        except CrdtdbError:
            continue
    for client in clients.values():
        client.close()
    gone = all(_gone(cluster, name) for name in cluster.names)
    assert gone, {name: cluster.ask(name, "GET", "_all_dbs") for name in cluster.names}
    cluster.ask("n1", "PUT", "churn")
    cluster.ask("n1", "PUT", "churn", "only", body={})
    cluster.wait_equal(["churn"])
    for name in cluster.names:
        assert [row["id"] for row in cluster.ask(name, "GET", "churn", "_all_docs")["rows"]] == ["only"]


def _gone(cluster: DemoCluster, name: str) -> bool:
    return wait_until(lambda: "churn" not in cluster.ask(name, "GET", "_all_dbs"), 20)
