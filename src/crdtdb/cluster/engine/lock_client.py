"""Thread-safe lock API for HTTP requests and embedding services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crdtdb import forks
from crdtdb.clock import monotonic_seconds
from crdtdb.cluster.engine.locks import Locks
from crdtdb.locks.leases import Lease


class LockClient:
    """The locks of one node, for any thread. The outcome of a request stands in its lease."""

    def __init__(self, locks: Locks) -> None:
        self._locks = locks
        forks.own(self)

    def want(self, name: str, ttl: float, wait: float, who: str, renewing: bool, changed: Callable[[], None]) -> Lease:
        """Ask for a lock. Raises InvalidInputError, UnavailableError; see `Locks.want`."""
        return self._locks.want(name, ttl, wait, who, renewing, changed)

    def renew(self, lease: Lease) -> None:
        """Ask for another time to live."""
        self._locks.renew(lease)

    def release(self, lease: Lease) -> None:
        """Give a lock back, or stop asking for it."""
        self._locks.release(lease)

    def held(self, name: str, token: int) -> Lease:
        """Return the lease of a lock that is held through this node under a token. Raises NotFoundError, LockError."""
        return self._locks.held(name, token, monotonic_seconds())

    def is_live(self, name: str, token: int, done: Callable[[bool | None], None]) -> bool:
        """Return whether a token is that of a lease through this node; if not, `done` hears what a majority says."""
        return self._locks.is_live(name, token, monotonic_seconds(), done)

    def seconds_left(self, lease: Lease) -> float:
        """Return for how long a lease is still held; 0 if it isn't."""
        now = monotonic_seconds()
        return lease.until - now if lease.live(now) else 0.0

    def overview(self) -> list[dict[str, Any]]:
        """Return who holds what, and who waits for it here."""
        return self._locks.overview()
