"""Storage port: an ordered byte map with range reads and atomic batches.

A backend knows nothing of documents. Its whole acceptance test is `crdtdb.testing.backend_suite`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol, Self

Batch = Mapping[bytes, bytes | None]
"""Key -> value to put, or None to remove. Applied as a whole or not at all."""


class Capabilities(NamedTuple):
    """What a backend can promise.

    `durable` is whether a durable write outlives a loss of power. `place` names where the data lies, so that a copy of
    it can be told from the original; None where there is no such thing.
    """

    name: str
    durable: bool
    place: str | None


class Reader(Protocol):
    """What can be read: the backend itself, or a snapshot of it."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, None if there is none.

        Raises StoreCorruptedError if what lies there isn't what was written.
        """
        ...

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values with `start <= key < stop`, ascending, or descending if `reverse`.

        A scan of the backend itself may or may not see what is written while it runs; a key that was there before and
        stays is always seen.
        """
        ...


class Snapshot(Reader, Protocol):
    """The backend as it was at one moment. Holds resources until it is closed."""

    def close(self) -> None:
        """Release the snapshot. Closing twice does no harm."""
        ...


class Backend(Reader, Protocol):
    """Ordered bytes to bytes. Every method may be called from any thread.

    In a child that is forked from the process that opened it, no store calls it any more. That the child drops it, or ends,
    must do nothing to the files: `crdtdb.forks` has what is needed.
    """

    @classmethod
    def open(cls, location: str) -> Self:
        """Open or make the store at `location`, the part of the URL after the scheme.

        Raises StoreLockedError, StoreCorruptedError, StorePermissionError, StoreFullError or StoreError.
        """
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this backend promises."""
        ...

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Apply a batch atomically; if `durable`, return only when it would outlive a loss of power.

        Raises StoreFullError or StoreError. After an error nothing of the batch is seen by a reader, and the backend
        may refuse further writes until it is opened again.
        """
        ...

    def flush(self) -> None:
        """Return when every batch that was applied before would outlive a loss of power."""
        ...

    def snapshot(self) -> Snapshot:
        """Return the backend as it is now."""
        ...

    def size(self) -> int | None:
        """Return how many bytes the store takes on disk, None if it lies on none."""
        ...

    def close(self) -> None:
        """Flush and close. Closing twice does no harm; any other call afterwards raises StoreClosedError."""
        ...
