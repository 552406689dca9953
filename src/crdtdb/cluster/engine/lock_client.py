"""The desk at which those who aren't the engine ask for locks: requests, and services that run a node in their own process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crdtdb import forks
from crdtdb.clock import monotonic_seconds
from crdtdb.cluster.engine.engine import Engine
from crdtdb.locks.leases import Lease


class LockClient:
    """Locks of one node, from any thread. What comes of an order stands in its lease."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        forks.own(self)

    def want(self, name: str, ttl: float, wait: float, who: str, renewing: bool, changed: Callable[[], None]) -> Lease:
        """Ask for a lock. Raises InvalidInputError, UnavailableError; see `Locks.want`."""
        return self._engine.locks.want(name, ttl, wait, who, renewing, changed)

    def renew(self, lease: Lease) -> None:
        """Ask for another time to live."""
        self._engine.locks.renew(lease)

    def release(self, lease: Lease) -> None:
        """Give a lock back, or stop asking for it."""
        self._engine.locks.release(lease)

    def held(self, name: str, token: int) -> Lease:
        """Return the lease of a lock that is held through this node under a token. Raises NotFoundError, LockError."""
        return self._engine.locks.held(name, token, monotonic_seconds())

    def is_live(self, name: str, token: int, done: Callable[[bool | None], None]) -> bool:
        """Return whether a token is that of a lease through this node; if not, `done` hears what a majority says."""
        return self._engine.locks.is_live(name, token, monotonic_seconds(), done)

    def seconds_left(self, lease: Lease) -> float:
        """Return for how long a lease is still held; 0 if it isn't."""
        now = monotonic_seconds()
        return lease.until - now if lease.live(now) else 0.0

    def overview(self) -> list[dict[str, Any]]:
        """Return who holds what, and who waits for it here."""
        return self._engine.locks.overview()
