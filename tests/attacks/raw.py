"""Connections of an attacker: raw sockets, with TLS or without, that send what no client sends."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crdtdb.cli.demo.cluster import DemoCluster
from crdtdb.clock import monotonic_seconds


def tls(cluster: DemoCluster, name: str = "n1", who: str | None = None) -> ssl.SSLSocket:
    """Connect with a node's HTTPS port, without a certificate unless `who` is given."""
    return secured(cluster.http[name], cluster.certs, who)


def secured(port: int, certs: Path, who: str | None = None) -> ssl.SSLSocket:
    """Connect with a port by TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if who is not None:
        context.load_cert_chain(certs / f"{who}.pem", certs / f"{who}.key")
    raw = plain(port)
    try:
        return context.wrap_socket(raw)
    except BaseException:
        raw.close()
        raise


def plain(port: int, timeout: float = 20) -> socket.socket:
    """Connect with a port, without TLS."""
    return socket.create_connection(("127.0.0.1", port), timeout=timeout)


@contextmanager
def many(opened: list[socket.socket]) -> Iterator[None]:
    """Close these connections in the end."""
    try:
        yield
    finally:
        for one in opened:
            with contextlib.suppress(OSError):
                one.close()


def answer(connection: socket.socket) -> bytes:
    """Return all that comes until the node closes the connection, or breaks it."""
    found = bytearray()
    try:
        while data := connection.recv(65_536):
            found += data
    except (ConnectionError, ssl.SSLError):
        pass
    return bytes(found)


def status(connection: socket.socket) -> int | None:
    """Return the status of the answer that comes before the connection is closed, None if none does."""
    found = answer(connection)
    return int(found.split(b" ")[1]) if found.startswith(b"HTTP/1.1 ") else None


def seconds_until_closed(connection: socket.socket) -> float:
    """Return how long it takes until the node closes a connection."""
    begun = monotonic_seconds()
    answer(connection)
    return monotonic_seconds() - begun


def flood(connection: socket.socket, piece: bytes, pieces: int) -> int:
    """Send a piece so many times, or until the node closes; return how many bytes were sent."""
    sent = 0
    with contextlib.suppress(OSError):
        for _ in range(pieces):
            connection.sendall(piece)
            sent += len(piece)
    return sent
