"""Storage port: an ordered byte map with range reads and atomic batches.

A backend knows nothing of documents. Its whole acceptance test is `crdtdb.testing.backend_suite`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol, Self

Batch = Mapping[bytes, bytes | None]
"""Key -> value to put, or None to remove. Applied as a whole or not at all."""


class Capabilities(NamedTuple):
    """Guarantees of a backend.

    `durable` is whether a durable write survives a loss of power. `place` identifies the location of the data, to distinguish
    a copy from the original; None if the backend has no location.
    """

    name: str
    durable: bool
    place: str | None


class Reader(Protocol):
    """Read access to the backend itself, or to a snapshot of it."""

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
        """Release the snapshot. A second call does nothing."""
        ...


class Backend(Reader, Protocol):
    """Ordered map of bytes to bytes. Every method may be called from any thread.

    In a child that is forked from the process that opened it, no store calls it any more. That the child drops it, or ends,
    must do nothing to the files: `crdtdb.forks` has what is needed.
    """

    @classmethod
    def open(cls, location: str) -> Self:
        """Open or create the store at `location`, the part of the URL after the scheme.

        Raises StoreLockedError, StoreCorruptedError, StorePermissionError, StoreFullError or StoreError.
        """
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Guarantees of this backend."""
        ...

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Apply a batch atomically; if `durable`, return only when it would survive a loss of power.

        Raises StoreFullError or StoreError. After an error nothing of the batch is seen by a reader, and the backend
        may refuse further writes until it is opened again.
        """
        ...

    def flush(self) -> None:
        """Block until every earlier batch would survive a loss of power."""
        ...

    def snapshot(self) -> Snapshot:
        """Return the backend as it is now."""
        ...

    def size(self) -> int | None:
        """Return the bytes of the store on disk, None for a store in memory."""
        ...

    def close(self) -> None:
        """Flush and close. A second call does nothing; any other call afterwards raises StoreClosedError."""
        ...
