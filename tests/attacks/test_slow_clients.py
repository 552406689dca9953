"""Clients that are silent or slow, against one listener whose bounds in time are short for the test."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from crdtdb.clock import monotonic_seconds
from crdtdb.http import connection, server
from crdtdb.http.server import HTTPServer
from crdtdb.security.authority import create_authority, issue
from crdtdb.security.tls import Credentials, certified_by
from tests.attacks.raw import answer, flood, many, plain, seconds_until_closed, secured, status
from tests.attacks.watch import at_once

pytestmark = pytest.mark.processes
START = b"GET / HTTP/1.1\r\nHost: n1\r\n"
_HEAD_SECONDS, _SLOW_SECONDS = 0.6, 0.5
_LATE = 8.0


class Listener:
    """A listener in a thread of its own, and what its application saw."""

    def __init__(self, certs: Path) -> None:
        self.certs = certs
        self.sent = 0
        self.went_away = Event()

        async def body(request: Request) -> Response:
            try:
                return PlainTextResponse(str(len(await request.body())))
            except ClientDisconnect:
                self.went_away.set()
                return Response(status_code=400)

        async def large(request: Request) -> Response:
            async def pieces() -> AsyncIterator[bytes]:
                for _ in range(200):
                    await asyncio.sleep(0)
                    self.sent += 100_000
                    yield b"x" * 100_000

            return StreamingResponse(pieces())

        async def late(request: Request) -> Response:
            await asyncio.sleep(_SLOW_SECONDS * 4)
            return PlainTextResponse(str(len(await request.body())))

        app = Starlette(
            routes=[
                Route("/", lambda request: PlainTextResponse("here")),
                Route("/body", body, methods=["POST"]),
                Route("/late", late, methods=["POST"]),
                Route("/large", large),
            ]
        )
        credentials = Credentials(certs, "n1")
        self.server = HTTPServer(app, "127.0.0.1", 0, credentials.http_server, certified_by)
        self._thread = Thread(target=lambda: asyncio.run(self.server.serve()))
        self._thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def connect(self) -> Any:
        """Connect by TLS."""
        return secured(self.server.port, self.certs)

    def end(self) -> None:
        """Stop the listener."""
        self.server.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    create_authority(folder)
    issue(folder, "node", "n1", ["127.0.0.1"])
    return folder


@pytest.fixture
def listener(certs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setattr(connection, "HEAD_SECONDS_MAX", _HEAD_SECONDS)
    monkeypatch.setattr(connection, "SLOW_SECONDS_MAX", _SLOW_SECONDS)
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS_MAX", _HEAD_SECONDS)
    made = Listener(certs)
    yield made
    made.end()


@pytest.fixture(autouse=True)
def serves_on() -> None:
    """There is no cluster here that must serve on."""


def test_silence_ends_a_connection(listener: Listener) -> None:
    waiting = [listener.connect(), listener.connect(), listener.connect(), plain(listener.server.port)]
    with many(list(waiting)):
        waiting[1].sendall(START)
        waiting[2].sendall(b"\r\n")
        assert max(at_once([lambda one=one: seconds_until_closed(one) for one in waiting])) < _LATE  # type: ignore[misc]


@pytest.mark.parametrize("piece", [b"x: y\r\n", b"x", b"\r\n"], ids=["headers", "a header", "empty lines"])
def test_a_head_that_comes_slowly(listener: Listener, piece: bytes) -> None:
    with listener.connect() as slow:
        slow.sendall(START if piece != b"\r\n" else piece)
        begun = monotonic_seconds()
        while flood(slow, piece, 1) and monotonic_seconds() - begun < _LATE:
            time.sleep(0.1)
        assert monotonic_seconds() - begun < _LATE


def test_a_second_head_that_comes_slowly(listener: Listener) -> None:
    with listener.connect() as slow:
        slow.sendall(START + b"\r\n" + START)
        found = answer(slow)
        assert found.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in found


def test_a_body_that_comes_slowly(listener: Listener) -> None:
    with listener.connect() as slow:
        slow.sendall(b"POST /body HTTP/1.1\r\nHost: n1\r\nContent-Length: 5000\r\n\r\n{")
        begun = monotonic_seconds()
        slow.settimeout(0.1)
        found = b""
        while not found and monotonic_seconds() - begun < _LATE:
            flood(slow, b" ", 1)
            try:
                found = slow.recv(1_000)
            except TimeoutError:
                continue
        assert found.startswith(b"HTTP/1.1 408 ")
        assert listener.went_away.wait(5), "what waits for the body is told"


def test_a_body_that_the_node_is_slow_to_read(listener: Listener) -> None:
    """The client isn't blamed: it would send if it were asked."""
    with listener.connect() as patient:
        patient.sendall(
            b"POST /late HTTP/1.1\r\nHost: n1\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 5\r\n\r\n"
        )
        assert patient.recv(1_000).startswith(b"HTTP/1.1 100 ")
        patient.sendall(b"12345")
        assert status(patient) == 200
    with listener.connect() as eager:
        eager.sendall(
            b"POST /late HTTP/1.1\r\nHost: n1\r\nConnection: close\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 200_000
        )
        time.sleep(_SLOW_SECONDS * 2)
        eager.sendall(b"x" * 1_800_000)
        assert status(eager) == 200


def test_the_rest_of_a_body_that_nobody_reads(listener: Listener) -> None:
    with listener.connect() as endless:
        endless.sendall(b"POST /nothing HTTP/1.1\r\nHost: n1\r\nTransfer-Encoding: chunked\r\n\r\n")
        begun = monotonic_seconds()
        while flood(endless, b"400\r\n" + b"x" * 1_024 + b"\r\n", 1) and monotonic_seconds() - begun < _LATE:
            time.sleep(0.05)
        assert monotonic_seconds() - begun < _LATE


def test_an_answer_that_nobody_reads(listener: Listener) -> None:
    opened: list[socket.socket] = []
    with many(opened):
        for _ in range(4):
            one = listener.connect()
            opened.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            one.sendall(b"GET /large HTTP/1.1\r\nHost: n1\r\n\r\n")
        deadline = monotonic_seconds() + _LATE
        while listener.server.measured()[0].value and monotonic_seconds() < deadline:
            time.sleep(0.05)
        assert listener.server.measured()[0].value == 0
        assert listener.sent < 4 * 200 * 100_000, "what isn't read isn't made either"


def test_one_who_reads_slowly_but_reads(listener: Listener) -> None:
    with listener.connect() as slow:
        slow.sendall(b"GET /large HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n")
        found = 0
        for _ in range(15):
            for _ in range(20):
                found += len(slow.recv(16_384))
            time.sleep(0.1)
        found += len(answer(slow))
        assert found > 200 * 100_000
