"""A member gone mad, over real TLS: a valid node certificate, and frames that no sound node sends."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from crdtdb.cli.demo.cluster import DemoCluster, wait_until
from crdtdb.security.authority import issue
from crdtdb.security.certificates import cluster_of, read_certificate
from crdtdb.testing.rogues import bend, mutate
from crdtdb.wire.codec import decode_message, encode_message
from crdtdb.wire.frames import frame
from crdtdb.wire.messages import Hello, Member, Ping, Rumor, Status, Welcome
from tests.attacks.raw import secured
from tests.attacks.watch import MB, Watch, client_of
from tests.cluster.rogue import Peer, Rogue
from tests.cluster.test_rogues import MALFORMED, parcel

pytestmark = pytest.mark.processes
ROGUES = [f"mad{number}" for number in range(8)]
SECONDS = 4.0


@pytest.fixture(scope="module")
def rogues(cluster: DemoCluster) -> Iterator[list[Rogue]]:
    """Members with certificates of their own: whoever is refused is kept out for a while. In the end they are retired."""
    for name in ROGUES:
        issue(cluster.certs, "node", name)
    yield [Rogue(name, seed) for seed, name in enumerate(ROGUES)]
    with client_of(cluster, "n2", "root") as client:
        for name in ROGUES:
            assert client.post("/_cluster/retire", json={"name": name, "force": True}).status_code in (200, 404)


@pytest.fixture(autouse=True)
def stays_whole(cluster: DemoCluster, rogues: list[Rogue]) -> Iterator[None]:
    """After each attack the three are members of each other, exchange, and start again."""
    yield
    for name in cluster.names:
        members = {one["name"]: one for one in cluster.ask(name, "GET", "_cluster")["members"]}
        for other in cluster.names:
            assert wait_until(lambda: is_well(cluster, name, other), 15), (name, members.get(other))
    written = cluster.ask("n2", "POST", "after", body={"from": "n2"})
    assert wait_until(lambda: cluster.ask("n1", "GET", "after", written["id"])["from"] == "n2", 15)
    assert "Traceback" not in cluster.log("n1").read_text()
    assert "(at crdtdb." not in cluster.log("n1").read_text(), "an error that nobody expected"


def is_well(cluster: DemoCluster, name: str, other: str) -> bool:
    found = [one for one in cluster.ask(name, "GET", "_cluster")["members"] if one["name"] == other]
    return bool(found) and found[0]["status"] == "alive" and found[0]["connected"]


def enter(cluster: DemoCluster, rogue: Rogue) -> ssl.SSLSocket | None:
    """Greet n1; None if it keeps the rogue out."""
    connection = secured(cluster.gossip["n1"], cluster.certs, rogue.name)
    clustered = cluster_of(read_certificate(cluster.certs / "ca.pem"))
    greeting = rogue.greeting()._replace(cluster=clustered, address="127.0.0.1:1")
    try:
        connection.sendall(frame(encode_message(Hello(greeting))))
        size = int.from_bytes(connection.recv(4), "big")
        payload = b""
        while len(payload) < size:
            payload += connection.recv(65_536)
        if isinstance(decode_message(payload), Welcome):
            return connection
    except (ConnectionError, ssl.SSLError, ValueError):
        pass
    connection.close()
    return None


def send(connection: socket.socket, *payloads: bytes) -> None:
    """Send frames until the other side has had enough."""
    with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
        for payload in payloads:
            connection.sendall(frame(payload))
        connection.settimeout(0.3)
        while connection.recv(65_536):
            pass
    connection.close()


def test_frames_with_one_thing_changed(cluster: DemoCluster, rogues: list[Rogue]) -> None:
    stand_in = Peer("n1")
    until = time.monotonic() + SECONDS
    entered = 0
    with Watch(cluster, "n1", growth_bytes_max=150 * MB):
        while time.monotonic() < until:
            for rogue in rogues:
                connection = enter(cluster, rogue)
                if connection is None:
                    continue
                entered += 1
                rogue.rename(rogue.rng.random() < 0.5)
                valid = [encode_message(rogue.message(stand_in.engine, 1)) for _ in range(4)]
                send(connection, *((mutate if rogue.rng.random() < 0.9 else bend)(one, rogue.rng) for one in valid))
    assert entered >= len(rogues)


def test_documents_of_the_database_itself(cluster: DemoCluster, rogues: list[Rogue]) -> None:
    with Watch(cluster, "n1", growth_bytes_max=150 * MB):
        for number, (name, doc_id, body) in enumerate(MALFORMED.values()):
            rogue = rogues[number % len(rogues)]
            connection = enter(cluster, rogue)
            if connection is not None:
                text = json.dumps(body).encode()
                author = rogue.actor if number % 2 else b"somebody else".ljust(16)
                send(connection, encode_message(Rumor(parcel(name, f"{doc_id}{number}", text, author, number + 1), ())))
    assert cluster.stop("n1") == 0
    cluster.start("n1", ["n2"])
    cluster.wait_ready("n1")


def test_lies_about_members(cluster: DemoCluster, rogues: list[Rogue]) -> None:
    """Incarnations at their end, wrong addresses, the dead that live, and 4,096 members that don't exist."""
    nodes = {name: cluster.ask("n1", "GET", "system.nodes", name) for name in ("n2", "n3")}
    lies = []
    for name, one in nodes.items():
        known = Member(name, bytes.fromhex(one["store"]), bytes.fromhex(one["actor"]), "127.0.0.1:1", 0, Status.DEAD)
        lies += [known._replace(incarnation=at) for at in (900, 2**53 - 1)]
        lies += [known._replace(incarnation=2**53 - 2, status=Status.ALIVE), known._replace(store_id=bytes(16))]
    made_up = [
        Member(f"x{n}", n.to_bytes(16, "big"), n.to_bytes(16, "big"), f"127.0.0.1:{n % 1_000 + 1}", 1, Status.ALIVE)
        for n in range(4_000)
    ]
    with Watch(cluster, "n1", growth_bytes_max=150 * MB):
        for rogue in rogues:
            connection = enter(cluster, rogue)
            if connection is not None:
                send(connection, *(encode_message(Ping(0, (*lies, *made_up[at::8]))) for at in range(8)))
