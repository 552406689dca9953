"""Whoever isn't a node of the cluster is refused, the refusal is logged, and the node serves on."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from crdtdb.causality import EMPTY
from crdtdb.cli.demo.cluster import DemoCluster, wait_until
from crdtdb.security.authority import create_authority, issue
from crdtdb.security.certificates import cluster_of, read_certificate
from crdtdb.wire.codec import decode_message, encode_message
from crdtdb.wire.frames import frame
from crdtdb.wire.messages import Greeting, Hello, Refusal, Refuse, Welcome

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    with DemoCluster(tmp_path_factory.mktemp("cluster"), ("n1", "n2", "n3")) as cluster:
        cluster.start("n1")
        cluster.start("n2", ["n1"])
        for name in ("n1", "n2"):
            cluster.wait_ready(name)
        cluster.ask("n1", "PUT", "notes")
        yield cluster


@pytest.fixture(autouse=True)
def serves_on(node: DemoCluster) -> Iterator[None]:
    """After each of them the node answers clients, and its peer."""
    yield
    written = node.ask("n1", "POST", "notes", body={"still": "here"})
    assert wait_until(lambda: node.ask("n2", "GET", "notes", written["id"])["still"] == "here", 10)


def connect(node: DemoCluster, certs: Path, name: str | None) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if name is not None:
        context.load_cert_chain(certs / f"{name}.pem", certs / f"{name}.key")
    raw = socket.create_connection(("127.0.0.1", node.gossip["n1"]), timeout=15)
    return context.wrap_socket(raw)


def greeting(node: DemoCluster, **changes: object) -> Greeting:
    cluster = cluster_of(read_certificate(node.certs / "ca.pem"))
    usual = Greeting(1, 0, cluster, "n3", os.urandom(16), os.urandom(16), "127.0.0.1:1", 1, EMPTY)
    return usual._replace(**changes)  # type: ignore[arg-type]


def answer(connection: ssl.SSLSocket) -> object:
    """Return the message that the node sends, None if it closes the connection."""
    try:
        head = connection.recv(4)
        if not head:
            return None
        payload = b""
        while len(payload) < int.from_bytes(head, "big"):
            payload += connection.recv(65_536)
        return decode_message(payload)
    except (ConnectionError, ssl.SSLError):
        return None


def says(node: DemoCluster, *words: str) -> bool:
    def found() -> bool:
        return any(all(word in line for word in words) for line in node.log("n1").read_text().splitlines())

    return wait_until(found, 5)


def test_a_stranger_to_the_authority(node: DemoCluster, tmp_path: Path) -> None:
    create_authority(tmp_path / "other")
    issue(tmp_path / "other", "node", "n3")
    for name in ("n3", None):
        try:
            with connect(node, tmp_path / "other", name) as connection:
                connection.sendall(frame(encode_message(Hello(greeting(node)))))
                assert answer(connection) is None
        except (ConnectionError, ssl.SSLError):
            pass
    assert says(node, "TLS handshake failed", "verify failed")


def test_an_expired_certificate(node: DemoCluster, tmp_path: Path) -> None:
    for file in ("ca.pem", "ca.key"):
        (tmp_path / file).write_bytes((node.certs / file).read_bytes())
    issue(tmp_path, "node", "n3", days=-0.01)
    try:
        with connect(node, tmp_path, "n3") as connection:
            assert answer(connection) is None
    except (ConnectionError, ssl.SSLError):
        pass
    assert says(node, "TLS handshake failed", "expired")


def test_a_client_certificate_cannot_gossip(node: DemoCluster) -> None:
    with connect(node, node.certs, "ada") as connection:
        found = answer(connection)
        assert isinstance(found, Refuse)
        assert found.code == Refusal.CERTIFICATE
        assert answer(connection) is None
    assert says(node, "refusing ada", "a client certificate can't gossip")


def foreign_certificate(certs: Path, into: Path) -> None:
    """Sign a certificate with the cluster's authority that names a host, as one for a web server does, and no node."""
    authority = x509.load_pem_x509_certificate((certs / "ca.pem").read_bytes())
    signer = serialization.load_pem_private_key((certs / "ca.key").read_bytes(), None)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "n3")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("n3")]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    (into / "web.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain, pkcs8 = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    (into / "web.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))


def test_a_certificate_of_the_authority_that_names_nobody(node: DemoCluster, tmp_path: Path) -> None:
    """Its name can't be compared with the one in a greeting, so it could call itself anything."""
    foreign_certificate(node.certs, tmp_path)
    with connect(node, tmp_path, "web") as connection:
        connection.sendall(frame(encode_message(Hello(greeting(node)))))
        found = answer(connection)
        assert isinstance(found, Refuse)
        assert found.code == Refusal.CERTIFICATE
    assert says(node, "refusing a stranger", "a foreign certificate can't gossip")


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"cluster": "another"}, Refusal.CLUSTER, "cluster 'another'"),
        ({"major": 2}, Refusal.PROTOCOL, "protocol 2.0"),
        ({"name": "n2"}, Refusal.CERTIFICATE, "not for node 'n2'"),
        ({"name": "n1"}, Refusal.CERTIFICATE, "not for node 'n1'"),
    ],
)
def test_a_greeting_that_does_not_fit(node: DemoCluster, changes: dict[str, object], code: Refusal, words: str) -> None:
    with connect(node, node.certs, "n3") as connection:
        connection.sendall(frame(encode_message(Hello(greeting(node, **changes)))))
        found = answer(connection)
        assert isinstance(found, Refuse)
        assert (found.code, words in found.reason) == (code, True), found
        assert answer(connection) is None
    assert says(node, "refusing n3", words)


def test_a_name_that_is_taken(node: DemoCluster) -> None:
    """A second store with the certificate of n2, while the first is alive."""
    with connect(node, node.certs, "n2") as connection:
        connection.sendall(frame(encode_message(Hello(greeting(node, name="n2")))))
        found = answer(connection)
        assert isinstance(found, Refuse)
        assert found.code == Refusal.NAME_TAKEN
    assert says(node, "refusing n2", "is taken by a node with another store")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xff\xff\xff" + b"x" * 100, "4,294,967,295 bytes"),
        (b"\0\0\0\0", "0 bytes"),
        (frame(b"\x9f\x00"), "not CBOR"),
        (frame(b"GET / HTTP/1.1"), "closing the connection with n3"),
        (frame(b"\x82\x18\x63\x00"), "kind 99"),
        (frame(b"\x83\x03\x01\x80"), "a ping before the handshake"),
        (frame(b"\x81\x00"), "closing the connection with n3"),
    ],
    ids=["4 GB", "empty", "indefinite CBOR", "HTTP", "unknown kind", "too early", "half a hello"],
)
def test_garbage_after_the_tls_handshake(node: DemoCluster, data: bytes, words: str) -> None:
    with connect(node, node.certs, "n3") as connection:
        connection.sendall(data)
        assert answer(connection) is None
    assert says(node, "closing the connection", words)


def test_garbage_after_the_greeting(node: DemoCluster) -> None:
    """Its certificate is its own: a name whose frames were refused is kept out for a while, and other tests use n3's."""
    issue(node.certs, "node", "n4")
    with connect(node, node.certs, "n4") as connection:
        connection.sendall(frame(encode_message(Hello(greeting(node, name="n4")))))
        assert isinstance(answer(connection), Welcome)
        connection.sendall(b"\x7f\xff\xff\xff")
        assert answer(connection) is None
    assert says(node, "2,147,483,647 bytes")


def test_plain_text_on_the_gossip_port(node: DemoCluster) -> None:
    with socket.create_connection(("127.0.0.1", node.gossip["n1"]), timeout=15) as raw:
        raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
        try:
            while raw.recv(1000):
                pass
        except ConnectionError:
            pass
    assert says(node, "TLS handshake failed")


def test_half_a_handshake_is_not_held_open_for_ever(node: DemoCluster) -> None:
    began = time.monotonic()
    silent = [socket.create_connection(("127.0.0.1", node.gossip["n1"]), timeout=15) for _ in range(20)]
    greeted = connect(node, node.certs, "n3")  # TLS is there, and then nothing
    try:
        for one in silent:
            assert one.recv(1) == b""
        assert answer(greeted) is None
    finally:
        for raw in (*silent, greeted):
            raw.close()
    assert 5 < time.monotonic() - began < 15
    assert says(node, "TLS handshake failed: nothing came in time")
    assert says(node, "no handshake in time")
