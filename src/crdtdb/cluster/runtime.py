"""The anyio runtime of a node's gossip: listens, dials, keeps time, and does what the engine wants done.

The engine runs in a worker thread, one event at a time, since it waits for the disk; everything else happens here. A turn
of it may take as long as a document needs that is at its bounds. What arrives meanwhile waits for its turn, but is read, and
pings are answered.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import NamedTuple, TypeVar

import anyio
from anyio.abc import Listener, SocketAttribute, SocketListener, SocketStream, TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream
from anyio.streams.stapled import MultiListener
from anyio.streams.tls import TLSAttribute, TLSStream

from crdtdb import forks
from crdtdb.aio.notifier import Waiter, ringing
from crdtdb.clock import monotonic_seconds
from crdtdb.cluster.connection import Connection
from crdtdb.cluster.engine.actions import Close, Dial, Log, Send
from crdtdb.cluster.engine.engine import Engine
from crdtdb.cluster_port import Metric
from crdtdb.errors import ConfigurationError
from crdtdb.limits import (
    ARRIVED_FRAMES_MAX,
    CONNECT_SECONDS_MAX,
    CONNECTIONS_MAX,
    HANDSHAKE_SECONDS_MAX,
    PART_BYTES_MIN,
    STRANGERS_MAX,
    STRANGERS_OF_ADDRESS_MAX,
    UNACKNOWLEDGED_SECONDS_MAX,
)
from crdtdb.security.admission import Admitted, Connections, accept_all, connections_within
from crdtdb.security.peer import PeerIdentity
from crdtdb.security.tls import Credentials, TLSError, certified_by
from crdtdb.threads import GOSSIP, HOUSEKEEPING

_log = logging.getLogger("crdtdb.cluster")
TICK_SECONDS = 0.1
_BATCH_SECONDS = 0.02
"""What comes so soon after news waits, so that it goes out together."""
_LONG_TURN_SECONDS = 2.0
"""After this long in one turn the peers are pinged aside: they close a connection that is silent for `silence_timeout`."""


T = TypeVar("T")


class _Arrived(NamedTuple):
    """A frame that waits for its turn, and what is set when it has had it."""

    payload: bytes
    handled: anyio.Event


_FOREIGN = PeerIdentity("", "foreign", "a stranger")
"""The identity of a certificate that names no member: refused as one of another role."""


class Runtime:
    """Runs one engine until it is stopped."""

    def __init__(self, engine: Engine, credentials: Credentials) -> None:
        self.engine = engine
        self._credentials = credentials
        self._connections: dict[int, Connection] = {}
        self._numbers = count(1)
        self._turn = anyio.Lock()
        self._turn_began: float | None = None
        self.longest_turn = 0.0
        """Seconds that the engine took for one event at most."""
        self._work = anyio.Event()
        self._news = Waiter()
        self._tasks: TaskGroup | None = None
        self._listener: Listener[SocketStream] | None = None
        forks.own(self, Runtime._leave_to_parent)
        self._connections_max = connections_within(CONNECTIONS_MAX)
        self._strangers = Connections(
            "gossip", connections_within(STRANGERS_MAX), connections_within(STRANGERS_OF_ADDRESS_MAX)
        )

    @staticmethod
    async def listen(host: str, port: int) -> Listener[SocketStream]:
        """Bind the gossip port, 0 for any that is free. Raises ConfigurationError if it can't be had."""
        try:
            multi = await anyio.create_tcp_listener(local_host=host, local_port=port)
        except OSError as error:
            raise ConfigurationError(
                f"can't listen on {host}:{port}: {error.strerror or error}. Is another node running there?"
            ) from error
        return multi

    async def run(self, listener: Listener[SocketStream]) -> None:
        """Serve until stopped."""
        self._listener = listener
        self.engine.on_news(ringing(self._news))
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._serve, listener)
            tasks.start_soon(self._keep_time)
            tasks.start_soon(self._keep_working)
            tasks.start_soon(self._keep_alive)

    async def stop(self) -> None:
        """Say goodbye to the peers, and close."""
        await self._event(lambda now: self.engine.stop(now))
        for connection in list(self._connections.values()):
            connection.finish()
        with anyio.move_on_after(1):
            while self._connections:  # noqa: ASYNC110 - each ends in a task of its own
                await anyio.sleep(0.01)
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def _leave_to_parent(self) -> None:
        """Drop the sockets of a forked child: it must not say goodbye to the peers, nor keep the port."""
        for connection in self._connections.values():
            forks.drop_socket(connection.socket.fileno())
        if self._listener is not None:
            forks.drop_socket(self._listener.extra(SocketAttribute.raw_socket).fileno())  # noqa: S610 - anyio's `extra`

    def measured(self) -> list[Metric]:
        """Return what is counted of the connections."""
        connections = list(self._connections.values())
        waiting = sum(connection.waiting for connection in connections)
        return [
            Metric("gossip_sockets", "Open connections with nodes, greeted or not.", len(connections)),
            Metric("gossip_frames_waiting", "Frames that wait to be sent.", waiting),
            Metric(
                "gossip_longest_turn_seconds",
                "The longest that the engine took for one thing since it was asked last.",
                self._take_longest_turn(),
            ),
            Metric(
                "gossip_pings_answered_aside_total",
                "Pings that were answered while the engine was busy.",
                self.engine.heartbeats.answered_aside,
                counts=True,
            ),
        ]

    def _take_longest_turn(self) -> float:
        longest, self.longest_turn = self.longest_turn, 0.0
        return longest

    # Events in

    async def _event(self, act: Callable[[float], None]) -> None:
        await self._in_turn(lambda: act(monotonic_seconds()))
        self._work.set()

    async def _in_turn(self, act: Callable[[], T]) -> T:
        async with self._turn:
            began = self._turn_began = monotonic_seconds()
            try:
                result = await GOSSIP.run(act)
            finally:
                self._turn_began = None
                self.longest_turn = max(self.longest_turn, monotonic_seconds() - began)
            self._perform()
        if self.engine.has_news:
            self._news.ring()
        return result

    async def _keep_alive(self) -> None:
        """Ping the peers while the engine is in a long turn, and can't."""
        while True:
            await anyio.sleep(_LONG_TURN_SECONDS / 2)
            began = self._turn_began
            if began is not None and monotonic_seconds() - began > _LONG_TURN_SECONDS:
                for number, payload in self.engine.heartbeats.pings():
                    self._send(Send(number, payload, urgent=True))

    async def _keep_time(self) -> None:
        """Tick every tenth of a second, and as soon as there is news."""
        while True:
            self._news.arm()
            urgent, began = self.engine.has_news, monotonic_seconds()
            await self._event(self.engine.tick)
            if urgent:
                await anyio.sleep(_BATCH_SECONDS)
            if not self.engine.has_news:
                await self._news.wait(max(0.0, began + TICK_SECONDS - monotonic_seconds()))

    async def _keep_working(self) -> None:
        while True:
            await self._work.wait()
            self._work = anyio.Event()
            more = True
            while more:
                more = await self._in_turn(self.engine.work)
            if self.engine.wants_space:
                await HOUSEKEEPING.run(self.engine.reclaim)  # beside everything else

    # Actions out

    def _perform(self) -> None:
        for action in self.engine.take():
            if isinstance(action, Send):
                self._send(action)
            elif isinstance(action, Dial):
                self._start(self._dial, action.address)
            elif isinstance(action, Close):
                connection = self._connections.get(action.link)
                if connection is not None:
                    connection.finish()
            elif isinstance(action, Log):
                _log.log(logging.getLevelNamesMapping()[action.level], "%s", action.text)

    def _send(self, action: Send) -> None:
        connection = self._connections.get(action.link)
        if connection is None:
            return
        try:
            connection.send(action.payload, action.urgent)
        except anyio.WouldBlock:
            _log.warning("closing a connection: the other side reads too slowly")
            connection.finish()
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass

    def _start(self, task: Callable[[str], object], address: str) -> None:
        if self._tasks is not None:
            self._tasks.start_soon(task, address)  # type: ignore[arg-type]

    # Connections

    async def _serve(self, listener: Listener[SocketStream]) -> None:
        async with listener, anyio.create_task_group() as tasks:

            def take(stream: SocketStream) -> None:
                tasks.start_soon(self._accept, stream)

            for each in listener.listeners if isinstance(listener, MultiListener) else (listener,):
                assert isinstance(each, SocketListener)
                tasks.start_soon(partial(accept_all, "gossip", each.accept, take))

    async def _accept(self, stream: SocketStream) -> None:
        with anyio.CancelScope() as scope:
            await self._admit(stream, scope.cancel)
        if scope.cancelled_caught:
            await anyio.aclose_forcefully(stream)

    async def _admit(self, stream: SocketStream, close: Callable[[], None]) -> None:
        """Carry a connection that came in, for as long as nothing speaks against it."""
        host = _host_of(stream)
        stranger = self._strangers.admit(host, close) if len(self._connections) < self._connections_max else None
        if stranger is None:
            _log.warning("refusing a connection from %s: there are too many already", host)
            await anyio.aclose_forcefully(stream)
            return
        try:
            await self._secure(stream, stranger)
        finally:
            stranger.remove()

    async def _secure(self, stream: SocketStream, stranger: Admitted) -> None:
        _notice_silence(stream)
        try:
            with anyio.fail_after(HANDSHAKE_SECONDS_MAX):
                secured = await TLSStream.wrap(
                    stream, server_side=True, ssl_context=self._credentials.gossip_server(), standard_compatible=False
                )
        except (TLSError, OSError, anyio.BrokenResourceError, anyio.EndOfStream, TimeoutError) as error:
            _log.warning("refusing a connection: the TLS handshake failed: %s", _said(error))
            await anyio.aclose_forcefully(stream)
            return
        await self._carry(secured, None, stranger)

    async def _dial(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        try:
            with anyio.fail_after(HANDSHAKE_SECONDS_MAX):
                with anyio.fail_after(CONNECT_SECONDS_MAX):
                    stream = await anyio.connect_tcp(host.strip("[]"), int(port))
                _notice_silence(stream)
                try:
                    secured = await TLSStream.wrap(
                        stream,
                        server_side=False,
                        ssl_context=self._credentials.gossip_client(),
                        hostname=host.strip("[]"),
                        standard_compatible=False,
                    )
                except BaseException:
                    await anyio.aclose_forcefully(stream)
                    raise
        except (TLSError, OSError, anyio.BrokenResourceError, anyio.EndOfStream, TimeoutError, ValueError) as error:
            reason = _said(error)
            await self._event(lambda now: self.engine.dial_failed(address, reason, now))
            return
        await self._carry(secured, address)

    async def _carry(self, stream: TLSStream, address: str | None, stranger: Admitted | None = None) -> None:
        number = next(self._numbers)
        connection = self._connections[number] = Connection(stream)
        said = certified_by(stream.extra(TLSAttribute.ssl_object))  # noqa: S610 - anyio's `extra`, not Django's
        certified = said if said is not None else _FOREIGN

        arrived, waiting = anyio.create_memory_object_stream[_Arrived](ARRIVED_FRAMES_MAX)

        async def received(payload: bytes) -> None:
            self._hear(number, payload)
            if not self.engine.links.greeted(number):
                await self._event(lambda now: self.engine.received(number, payload, now))
                if self.engine.links.greeted(number):
                    connection.greeted()
                    if stranger is not None:
                        stranger.remove()
                return
            frame = _Arrived(payload, anyio.Event())
            await arrived.send(frame)
            if len(payload) > 2 * PART_BYTES_MIN:
                await frame.handled.wait()

        try:
            await self._event(lambda now: self.engine.opened(number, address, certified, now))
            async with anyio.create_task_group() as tasks, arrived:
                tasks.start_soon(self._handle, number, waiting)
                reason = await connection.run(received)
                arrived.close()
            _log.debug("connection %d: %s", number, reason)
            if reason.startswith("a frame"):
                _log.warning("closing the connection with %s: %s", certified.name, reason)
        finally:
            self._connections.pop(number, None)
            with anyio.CancelScope(shield=True):
                await self._event(lambda now: self.engine.closed(number, now))

    def _hear(self, number: int, payload: bytes) -> None:
        """Take note of a sign of life, and give one at once if the engine is busy."""
        self.engine.heartbeats.arrived(number, monotonic_seconds())
        if self._turn.locked():
            answer = self.engine.heartbeats.answer(number, payload)
            if answer is not None:
                self._send(Send(number, answer, urgent=True))

    async def _handle(self, number: int, waiting: MemoryObjectReceiveStream[_Arrived]) -> None:
        """Hand the frames of a connection to the engine, in their order."""
        async with waiting:
            async for frame in waiting:
                await self._event(partial(self.engine.received, number, frame.payload))
                frame.handled.set()


def _notice_silence(stream: SocketStream) -> None:
    """Let the kernel end a connection whose other end doesn't acknowledge: it would try for a quarter of an hour."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        raw: socket.socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's `extra`, not Django's
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNACKNOWLEDGED_SECONDS_MAX * 1000))


def _host_of(stream: SocketStream) -> str:
    """Return the host at the other end, "?" if it has gone already."""
    address = stream.extra(SocketAttribute.remote_address, "?")  # noqa: S610 - anyio's `extra`, not Django's
    return address if isinstance(address, str) else str(address[0])


def _said(error: BaseException) -> str:
    """Return what went wrong, in words: TLS errors come wrapped, and some have no text of their own."""
    cause = error.__cause__ or error
    if isinstance(cause, TimeoutError):
        return "nothing came in time"
    if isinstance(cause, (anyio.EndOfStream, anyio.BrokenResourceError)):
        return "closed by the other side"
    return str(cause) or type(cause).__name__
