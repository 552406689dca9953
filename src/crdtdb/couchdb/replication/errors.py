"""What goes wrong in a replication."""

from __future__ import annotations

from crdtdb.errors import CrdtdbError


class ReplicationError(CrdtdbError):
    """A replication can't go on: a database isn't there, nobody may read or write it, or it doesn't speak the protocol."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """`status` is that of the answer that says so."""
        super().__init__(message)
        self.status = status


class PeerError(CrdtdbError):
    """A database didn't answer, or not now: it's worth trying again."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """`status` is that of the answer, None if there was none."""
        super().__init__(message)
        self.status = status


class UnreadableAnswerError(PeerError):
    """What a database answered isn't JSON that can be read: perhaps for the sake of one document in it."""


class ReplacedDatabaseError(CrdtdbError):
    """A database of a continuous replication was dropped and made again, or isn't there for now."""
