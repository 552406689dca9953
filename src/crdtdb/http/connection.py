"""One HTTP connection: uvicorn's protocol, with bounds on what comes before a request is known, and on slow clients.

Nothing is known of a client until its request's head is there, so the head is bounded in bytes, in headers and in time. A body
must come at some speed, and an answer be read at some; else the connection is closed. Time is that of the event loop.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from fcntl import ioctl
from http import HTTPStatus
from termios import TIOCOUTQ
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from crdtdb.cluster_port import PEER
from crdtdb.limits import (
    CLOSE_SECONDS_MAX,
    HEAD_BYTES_MAX,
    HEAD_SECONDS_MAX,
    HEADERS_MAX,
    PIPELINED_REQUESTS_MAX,
    SLOW_BYTES_MIN,
    SLOW_SECONDS_MAX,
)
from crdtdb.security.admission import Admitted
from crdtdb.security.peer import PeerIdentity

PeerOf = Callable[[Any], PeerIdentity | None]
"""Given the connection's ssl object, returns the certified identity at its other end, or None."""


class TooMuchError(Exception):
    """Carries the status for a request whose head is beyond a bound out of the parser."""


class BoundedProtocol(HttpToolsProtocol):
    """An HTTP connection that is closed when the client is too slow, or sends too much before it is known."""

    def __init__(self, admitted: Admitted, peer_of: PeerOf, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.admitted, self._peer_of = admitted, peer_of
        self.peer: PeerIdentity | None = None
        self._status = HTTPStatus.BAD_REQUEST
        self._in_head = True
        self._begun = False
        self._unparsed = self._head_bytes = self._body_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    # The connection

    def connection_made(self, transport: Any) -> None:
        """Begin, with little time for a first request."""
        super().connection_made(transport)
        self.peer = self._peer_of(transport.get_extra_info("ssl_object"))
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_timers()
        self.admitted.remove()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and look whether the head of a request has become too long."""
        if self.transport.is_closing():
            return
        self._unparsed += len(data) if self._in_head else 0
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if self._in_head and self._unparsed > HEAD_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._in_head and not self._is_answering and self._head_timer is None:
            self._expect_head()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; it counts as busy from now on."""
        self._stop_timers()
        super().handle_websocket_upgrade()
        protocol = self.transport.get_protocol()
        assert isinstance(protocol, CertifiedSocket)
        protocol.admitted = self.admitted
        self.admitted.busy()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # A request's head

    def _expect_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(HEAD_SECONDS_MAX, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._begun or not self._in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self._close()  # it has asked for nothing

    def on_message_begin(self) -> None:
        """Begin a request, if not too many wait already."""
        if len(self.pipeline) >= PIPELINED_REQUESTS_MAX:
            raise self._too_much(HTTPStatus.TOO_MANY_REQUESTS)
        super().on_message_begin()
        self._begun, self._head_bytes = True, 0
        self.scope[PEER] = self.peer  # type: ignore[literal-required]

    def on_url(self, url: bytes) -> None:
        """Take a part of the request's target."""
        self._count_head(len(url), HTTPStatus.REQUEST_URI_TOO_LONG)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer of a body in chunks."""
        self._count_head(len(name) + len(value), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if len(self.headers) >= HEADERS_MAX:
            raise self._too_much(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        super().on_header(name, value)

    def _count_head(self, more: int, status: HTTPStatus) -> None:
        self._head_bytes += more
        if self._head_bytes > HEAD_BYTES_MAX:
            raise self._too_much(status)

    def _too_much(self, status: HTTPStatus) -> TooMuchError:
        self._status = status
        return TooMuchError(status.phrase)

    def on_headers_complete(self) -> None:
        """Begin to answer; from now on the body must come."""
        self._in_head, self._begun, self._unparsed, self._body_bytes = False, False, 0, 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self.admitted.busy()
        super().on_headers_complete()
        self._expect_body()

    # Its body

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request: what comes now is the next one's head."""
        self._in_head = True
        self._stop(self._body_timer)
        self._body_timer = None
        super().on_message_complete()

    def _expect_body(self) -> None:
        self._stop(self._body_timer)
        self._body_timer = self.loop.call_later(SLOW_SECONDS_MAX, self._look_at_body, self._body_bytes)

    def _look_at_body(self, before: int) -> None:
        self._body_timer = None
        waits_for_us = self.flow.read_paused or (self._is_answering and self.cycle.waiting_for_100_continue)
        if waits_for_us or self._body_bytes - before >= SLOW_BYTES_MIN:
            self._expect_body()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    # Its answer

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of a body that isn't read any more."""
        super().on_response_complete()
        if self.transport.is_closing() or self._is_answering:
            return
        self.admitted.idle()
        if self._begun or not self._in_head:
            self._expect_head()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self._stop(self._write_timer)
        self._write_timer = None
        super().resume_writing()

    def _expect_reading(self) -> None:
        self._write_timer = self.loop.call_later(SLOW_SECONDS_MAX, self._look_at_reading, self._unread())

    def _unread(self) -> int:
        """Return how many bytes the client hasn't acknowledged: here, and in the kernel, which takes some megabytes at once."""
        try:
            in_kernel = ioctl(self.transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4))
        except OSError:
            in_kernel = bytes(4)
        return self.transport.get_write_buffer_size() + int.from_bytes(in_kernel, sys.byteorder)

    def _look_at_reading(self, before: int) -> None:
        if before - self._unread() >= SLOW_BYTES_MIN:
            self._expect_reading()
        else:
            self._write_timer = None
            self.transport.abort()

    # The end

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser refused, with the status that fits."""
        self._refuse(self._status, msg)

    def _refuse(self, status: HTTPStatus, reason: str = "") -> None:
        """Answer that a request is refused, unless its answer has begun, and close."""
        if not (self._is_answering and self.cycle.response_started):
            content = f'{{"error":"bad_request","reason":"{reason or status.phrase}"}}\n'.encode()
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, status.phrase.encode(), len(content), content)
            )
        if self._is_answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._close()

    def _close(self) -> None:
        self._stop_timers()
        self.transport.close()
        self.loop.call_later(CLOSE_SECONDS_MAX, self.transport.abort)  # a client needn't take part in closing

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._body_timer, self._write_timer):
            self._stop(timer)
        self._head_timer = self._body_timer = self._write_timer = None


class CertifiedSocket(WebSocketsSansIOProtocol):
    """A WebSocket with the client's certificate in its scope."""

    peer_of: PeerOf
    admitted: Admitted | None = None
    peer: PeerIdentity | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        super().connection_made(transport)
        self.peer = type(self).peer_of(transport.get_extra_info("ssl_object"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self.admitted is not None:
            self.admitted.remove()
        super().connection_lost(exc)

    async def run_asgi(self) -> None:
        """Answer."""
        self.scope[PEER] = self.peer  # type: ignore[literal-required]
        await super().run_asgi()
