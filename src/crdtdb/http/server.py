"""uvicorn inside the node's own task group: no signal handlers, and the client's certificate in every scope.

A listener without TLS has no certificates, and serves health checks alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette

from crdtdb import forks
from crdtdb.cluster_port import Metric
from crdtdb.errors import ConfigurationError
from crdtdb.http.connection import BoundedProtocol, CertifiedSocket, PeerOf
from crdtdb.limits import (
    CLOSE_SECONDS_MAX,
    CONNECTIONS_MAX,
    CONNECTIONS_OF_ADDRESS_MAX,
    HANDSHAKE_SECONDS_MAX,
    SHUTDOWN_SECONDS_MAX,
)
from crdtdb.security.admission import Admitted, Connections, accept_all, connections_within
from crdtdb.security.peer import PeerIdentity

_SOCKET_BYTES_MAX = 1024 * 1024
_log = logging.getLogger("crdtdb.http")


def _nobody(ssl_object: object) -> None:
    """Return None: a connection without TLS has no certified peer."""


class HTTPServer:
    """One listener: HTTPS, or HTTP without a context."""

    def __init__(
        self,
        app: Starlette,
        host: str,
        port: int,
        make_context: Callable[[], Any] | None = None,
        peer_of: PeerOf = _nobody,
    ) -> None:
        """Bind the port, 0 for any that is free. `make_context` returns its SSL context; without one there is no TLS.

        Raises ConfigurationError if the port can't be had.
        """
        self._socket = _bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws=type("Socket", (CertifiedSocket,), {"peer_of": staticmethod(peer_of)}),
            ws_max_size=_SOCKET_BYTES_MAX,
            ws_max_queue=16,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(SHUTDOWN_SECONDS_MAX) - 2,
            ssl_context_factory=None if make_context is None else lambda config, default: make_context(),  # noqa: ARG005
        )
        log = logging.getLogger("uvicorn.error")
        log.setLevel(logging.WARNING)
        log.addFilter(_worth_telling)
        self._server = _Server(config, peer_of)
        forks.own(self, HTTPServer._leave_to_parent)

    async def serve(self) -> None:
        """Serve until stopped."""
        await self._server.serve(sockets=[self._socket])

    @property
    def started(self) -> bool:
        """Whether the port is open."""
        return self._server.started

    def measured(self) -> list[Metric]:
        """Return what is counted of the connections."""
        return [Metric("http_sockets", "Open connections with clients.", len(self._server.server_state.connections))]

    def disconnect(self, why_refused: Callable[[PeerIdentity], str | None]) -> None:
        """Close the connections of those whose certificates don't count any more, whatever they are being answered."""
        for connection in list(self._server.server_state.connections):
            certified: PeerIdentity | None = getattr(connection, "peer", None)
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
        """Finish what is being answered, and end. Waiting feeds end when their notifier is stopped."""
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
    """Accepts connections itself, so that they are bounded before TLS begins."""

    def __init__(self, config: uvicorn.Config, peer_of: PeerOf) -> None:
        super().__init__(config)
        self._peer_of = peer_of
        self._connections = Connections(
            "HTTP", connections_within(CONNECTIONS_MAX), connections_within(CONNECTIONS_OF_ADDRESS_MAX)
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self.servers = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the node listens to signals itself

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        for listener in sockets or ():
            listener.setblocking(False)
            listener.listen(self.config.backlog)
            self._begin(accept_all("HTTP", partial(loop.sock_accept, listener), self._take))
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and let answers under way end."""
        for task in self._tasks:
            task.cancel()
        await super().shutdown(sockets)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _take(self, accepted: tuple[socket.socket, Any]) -> None:
        connected, address = accepted
        admitted = self._connections.admit(address[0], connected.close)
        if admitted is None:
            connected.close()
            return
        admitted.close = self._begin(self._secure(connected, admitted)).cancel  # type: ignore[assignment]

    async def _secure(self, connected: socket.socket, admitted: Admitted) -> None:
        """Do the TLS handshake; from then on the protocol has the connection."""
        try:
            with contextlib.suppress(OSError):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                partial(
                    BoundedProtocol,
                    admitted,
                    self._peer_of,
                    config=self.config,
                    server_state=self.server_state,
                    app_state=self.lifespan.state,
                ),
                connected,
                ssl=self.config.ssl,
                ssl_handshake_timeout=HANDSHAKE_SECONDS_MAX if self.config.ssl is not None else None,
                ssl_shutdown_timeout=CLOSE_SECONDS_MAX if self.config.ssl is not None else None,
            )
            admitted.close = transport.abort
        except OSError as error:  # TLS's own errors, and timeouts, are some
            _log.debug("a TLS handshake failed: %s", error)
            admitted.remove()
            connected.close()
        except BaseException:
            admitted.remove()
            connected.close()
            raise
