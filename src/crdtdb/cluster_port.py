"""What the HTTP API asks of the cluster: ports that the node fills, and the form of a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from crdtdb.locks.leases import Lease
from crdtdb.security.peer import PeerIdentity

PEER = "crdtdb.peer"
"""The key in the ASGI scope under which the server puts what the client's certificate says, a `PeerIdentity`, or None."""
WHO = "crdtdb.who"
"""The key in the ASGI scope under which the routes find the `Principal` of the request; None at `/_session` without one."""


class LocksPort(Protocol):
    """The locks of the cluster as a request sees them."""

    def want(self, name: str, ttl: float, wait: float, who: str, renewing: bool, changed: Callable[[], None]) -> Lease:
        """Ask for a lock, for so long; `changed` is called from any thread. Raises InvalidInputError, UnavailableError."""
        ...

    def renew(self, lease: Lease) -> None:
        """Ask for another time to live."""
        ...

    def release(self, lease: Lease) -> None:
        """Give a lock back, or stop asking for it."""
        ...

    def held(self, name: str, token: int) -> Lease:
        """Return the lease that is held through this node. Raises NotFoundError, LockError."""
        ...

    def is_live(self, name: str, token: int, done: Callable[[bool | None], None]) -> bool:
        """Return whether a token is that of a lease through this node; if not, `done` hears what a majority says."""
        ...

    def seconds_left(self, lease: Lease) -> float:
        """Return for how long a lease is still held; 0 if it isn't."""
        ...

    def overview(self) -> list[dict[str, Any]]:
        """Return who holds what."""
        ...


class SubscriptionsPort(Protocol):
    """Who follows changes through this node, for others to see."""

    def add(self, who: str, patterns: list[dict[str, Any]], by: str) -> str:
        """Take note of a subscriber, `by` which kind of connection; return what it is taken out by."""
        ...

    def remove(self, name: str) -> None:
        """Take a subscriber out."""
        ...


class ClusterPort(Protocol):
    """The cluster as a request sees it."""

    @property
    def cluster(self) -> str:
        """The id of the cluster."""
        ...

    @property
    def why_not_ready(self) -> str | None:
        """Why writes aren't taken yet, None if they are."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether the node is about to end: feeds that wait for more are to end too."""
        ...

    @property
    def locks(self) -> LocksPort:
        """The locks."""
        ...

    @property
    def subscriptions(self) -> SubscriptionsPort:
        """Who follows changes."""
        ...

    def all_speak(self, minor: int) -> bool:
        """Return whether no connected member speaks an older minor version of the protocol."""
        ...

    def why_refused(self, certified: PeerIdentity) -> str | None:
        """Return why a certificate doesn't count (any more), None if it does."""
        ...

    def revoke(self, serial: str, name: str, role: str, why: str, by: str) -> bool:
        """Revoke a certificate for good; return whether it wasn't yet. Raises InvalidInputError."""
        ...

    def status(self) -> dict[str, Any]:
        """Return what `GET /_cluster` answers."""
        ...

    def stability(self) -> dict[str, Any]:
        """Return what `GET /_cluster/stability` answers."""
        ...

    def retire(self, name: str, force: bool) -> None:
        """Take a member out for good. Raises NotFoundError, InvalidInputError."""
        ...

    def audit(self, repair: bool, members: list[str] | None) -> list[dict[str, Any]]:
        """Compare with members, with all if none are given, and wait for what was found. Raises NotFoundError."""
        ...

    def measured(self) -> Iterable[Metric]:
        """Return what the node counts and measures."""
        ...

    def name_of(self, actor: str) -> str:
        """Return the name of the node that an actor, in hexadecimal, belongs to; the actor itself if it isn't known."""
        ...


class Metric(NamedTuple):
    """One value of a metric, with its labels. `counts` is whether it only ever grows."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = MappingProxyType({})
    counts: bool = False
