"""What goes wrong in a replication."""

from __future__ import annotations

from crdtdb.errors import CrdtdbError


class ReplicationError(CrdtdbError):
    """A replication can't go on: a database isn't there, nobody may read or write it, or it doesn't speak the protocol."""


class PeerError(CrdtdbError):
    """A database didn't answer, or not now: it's worth trying again."""
