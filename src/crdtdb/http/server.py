"""uvicorn inside the node's own task group: no signal handlers, and the client's certificate in every scope."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from crdtdb import forks
from crdtdb.certified import Certified
from crdtdb.errors import ConfigurationError
from crdtdb.http.port import PEER
from crdtdb.limits import CONNECTIONS_MAX, SHUTDOWN_SECONDS_MAX
from crdtdb.measuring import Measured

_SOCKET_BYTES_MAX = 1024 * 1024
_log = logging.getLogger("crdtdb.http")

PeerOf = Callable[[Any], Certified | None]
"""Given the connection's ssl object, returns who is certified at its other end, or None."""


class HTTPServer:
    """One HTTPS listener."""

    def __init__(self, app: Starlette, host: str, port: int, make_context: Callable[[], Any], peer_of: PeerOf) -> None:
        """Bind the port, 0 for any that is free. `make_context` returns its SSL context.

        Raises ConfigurationError if the port can't be had.
        """
        self._app = app
        self._socket = _bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=_protocol(peer_of),
            ws=_socket_protocol(peer_of),
            ws_max_size=_SOCKET_BYTES_MAX,
            ws_max_queue=16,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=int(SHUTDOWN_SECONDS_MAX) - 2,
            ssl_context_factory=lambda config, default: make_context(),  # noqa: ARG005
        )
        log = logging.getLogger("uvicorn.error")
        log.setLevel(logging.WARNING)
        log.addFilter(_worth_telling)
        self._server = _Server(config)
        forks.own(self, HTTPServer._leave_to_parent)

    async def serve(self) -> None:
        """Serve until stopped."""
        await self._server.serve(sockets=[self._socket])

    @property
    def started(self) -> bool:
        """Whether the port is open."""
        return self._server.started

    def measured(self) -> list[Measured]:
        """Return what is counted of the connections."""
        return [Measured("http_sockets", "Open connections with clients.", len(self._server.server_state.connections))]

    def part_with(self, why_refused: Callable[[Certified], str | None]) -> None:
        """Close the connections of those whose certificates don't count any more, whatever they are being answered."""
        for connection in list(self._server.server_state.connections):
            certified: Certified | None = getattr(connection, "peer", None)
            why = why_refused(certified) if certified is not None else None
            if why is not None:
                _log.warning("closing a connection: %s", why)
                getattr(connection, "transport").abort()  # noqa: B009 - uvicorn's types don't name it

    def _leave_to_parent(self) -> None:
        """Drop the sockets of a forked child: it must not answer the clients, nor keep the port."""
        for connection in self._server.server_state.connections:
            forks.drop_socket(getattr(connection, "transport").get_extra_info("socket").fileno())  # noqa: B009 - as above
        forks.drop_socket(self._socket.fileno())

    def stop(self) -> None:
        """Finish what is being answered, and end."""
        self._app.state.bell.stop()
        self._server.should_exit = True


def _worth_telling(record: logging.LogRecord) -> bool:
    """Leave out that no request had to be cancelled: idle clients that keep a connection open are no error."""
    return not (str(record.msg).startswith("Cancel ") and record.args == (0,))


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"can't listen on {host}:{port}: {error.strerror or error}. Is another node, or another server, running there?"
        ) from error
    return bound


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the node listens to signals itself


def _protocol(peer_of: PeerOf) -> type[asyncio.Protocol]:
    class CertifiedProtocol(HttpToolsProtocol):
        peer: Certified | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.peer = peer_of(transport.get_extra_info("ssl_object"))

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope[PEER] = self.peer  # type: ignore[literal-required]

    return CertifiedProtocol


def _socket_protocol(peer_of: PeerOf) -> type[asyncio.Protocol]:
    class CertifiedSocket(WebSocketsSansIOProtocol):
        peer: Certified | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.peer = peer_of(transport.get_extra_info("ssl_object"))

        async def run_asgi(self) -> None:
            self.scope[PEER] = self.peer  # type: ignore[literal-required]
            await super().run_asgi()

    return CertifiedSocket
