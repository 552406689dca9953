"""What the bodies of all requests take in memory: each is charged for its bytes and for the values that they become.

A body may be as large as `request_bytes_max`, and `[{},{},…]` becomes twenty times its bytes. Few such requests at once would
take a node's memory, so beyond a bound on one the request is refused for good (413), and beyond a bound on all for now (503).
"""

from __future__ import annotations

from collections import Counter
from threading import Lock

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from crdtdb.cluster_port import WHO
from crdtdb.errors import TooLargeError, UnavailableError
from crdtdb.limits import (
    BODIES_FREE_BYTES,
    BODIES_MEMORY_BYTES_MAX,
    BODIES_OF_CLIENT_BYTES_MAX,
    BODY_MEMORY_BYTES_MAX,
    BODY_VALUE_BYTES,
    REQUEST_BYTES_MAX,
)

SHARE = "crdtdb.share"
"""The key in the ASGI scope under which a request's `Share` is."""


class Share:
    """What one request takes. Safe for threads."""

    def __init__(self, bodies: Bodies, client: str) -> None:
        """`client` is who asks: one client can't take what all may."""
        self._bodies, self._client, self._taken = bodies, client, 0
        self.request_bytes_max = bodies.request_bytes_max
        """How many bytes its JSON may have."""

    def hold(self, size: int) -> None:
        """Take as much as makes `size` bytes. Raises TooLargeError, UnavailableError."""
        most = self._bodies.of_one
        if size > most:
            raise TooLargeError(
                f"the request would take {size:,} bytes of memory, the limit is {most:,}: send less at a time"
            )
        more = max(0, size - BODIES_FREE_BYTES) - self._taken
        if more <= 0:
            return
        self._bodies.take(self._client, more)
        self._taken += more

    def hold_parsed(self, data: bytes) -> None:
        """Take what JSON takes when it is parsed, too. Raises TooLargeError, UnavailableError."""
        if len(data) > BODIES_FREE_BYTES:
            values = data.count(b",") + data.count(b"{") + data.count(b"[")
            self.hold(len(data) + values * BODY_VALUE_BYTES)

    def release(self) -> None:
        """Give all back: the request has ended."""
        self._bodies.give_back(self._client, self._taken)
        self._taken = 0


def share_of(request: Request) -> Share:
    """Return a request's share."""
    share: Share = request.scope[SHARE]
    return share


class Bodies:
    """Gives each request its share, and takes it back at its end."""

    def __init__(self, app: ASGIApp, request_bytes_max: int = REQUEST_BYTES_MAX) -> None:
        """The bounds are such that a request of `request_bytes_max` without many values, or two, may pass."""
        self._app, self._lock = app, Lock()
        self.request_bytes_max = request_bytes_max
        self.of_one = max(BODY_MEMORY_BYTES_MAX, 2 * request_bytes_max)
        self._of_client = max(BODIES_OF_CLIENT_BYTES_MAX, self.of_one)
        self._of_all = max(BODIES_MEMORY_BYTES_MAX, 2 * self.of_one)
        self._taken: Counter[str] = Counter()
        """How many bytes the requests of each client take now, beyond a little that each may have."""

    def take(self, client: str, more: int) -> None:
        """Count what a client takes more. Raises UnavailableError."""
        with self._lock:
            if self._taken[client] + more > self._of_client or self._taken.total() + more > self._of_all:
                raise UnavailableError("too many large requests at the same time: try again in a moment")
            self._taken[client] += more

    def give_back(self, client: str, less: int) -> None:
        """Count what a client takes less."""
        with self._lock:
            self._taken[client] -= less
            if not self._taken[client]:
                del self._taken[client]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        who = scope.get(WHO)
        share = Share(self, who.name if who is not None else "")
        try:
            await self._app({**scope, SHARE: share}, receive, send)
        finally:
            share.release()
