"""What the HTTP API needs to know of a cluster. The node fills it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from crdtdb.certified import Certified
from crdtdb.measuring import Measured

PEER = "crdtdb.peer"
"""The key in the ASGI scope under which the server puts what the client's certificate says, a `Certified`, or None."""


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

    def why_refused(self, certified: Certified) -> str | None:
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

    def measured(self) -> Iterable[Measured]:
        """Return what the node counts and measures."""
        ...

    def name_of(self, actor: str) -> str:
        """Return the name of the node that an actor, in hexadecimal, belongs to; the actor itself if it isn't known."""
        ...
