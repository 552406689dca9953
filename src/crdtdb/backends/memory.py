"""In-memory backend for tests, the simulator and temporary stores."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from threading import Lock
from typing import Self

from crdtdb import forks
from crdtdb.backends.protocol import Batch, Capabilities
from crdtdb.errors import StoreClosedError

_CAPABILITIES = Capabilities("memory", durable=False, place=None)


class _Rows:
    """Key -> value with the keys in order, sorted at the next scan."""

    def __init__(self, values: dict[bytes, bytes] | None = None) -> None:
        self.values = values if values is not None else {}
        self.shared = False
        self._order: list[bytes] | None = None
        self._guard = Lock()

    def copy(self) -> _Rows:
        return _Rows(dict(self.values))

    def apply(self, batch: Batch) -> None:
        with self._guard:
            for key, value in batch.items():
                if value is None:
                    if self.values.pop(key, None) is not None:
                        self._order = None
                else:
                    if self._order is not None and key not in self.values:
                        self._order = None
                    self.values[key] = value

    def scan(self, start: bytes, stop: bytes, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        with self._guard:
            if self._order is None:
                self._order = sorted(self.values)
            keys = self._order[bisect_left(self._order, start) : bisect_left(self._order, stop)]
        for key in forks.in_this_process(reversed(keys) if reverse else keys):
            value = self.values.get(key)
            if value is not None:
                yield key, value


class _MemorySnapshot:
    def __init__(self, rows: _Rows) -> None:
        self._rows: _Rows | None = rows
        forks.own(self)

    def get(self, key: bytes) -> bytes | None:
        return self._open().values.get(key)

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return self._open().scan(start, stop, reverse)

    def close(self) -> None:
        self._rows = None

    def _open(self) -> _Rows:
        if self._rows is None:
            raise StoreClosedError("the snapshot is closed")
        return self._rows


class MemoryBackend:
    """Ordered map of bytes to bytes in a dict."""

    def __init__(self) -> None:
        self._rows: _Rows | None = _Rows()
        self._guard = Lock()
        forks.own(self)

    @classmethod
    def open(cls, location: str) -> Self:  # noqa: ARG003
        """Create an empty store; the location has no meaning."""
        return cls()

    @property
    def capabilities(self) -> Capabilities:
        """Not durable, and without a place."""
        return _CAPABILITIES

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, None if there is none."""
        return self._open().values.get(key)

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values in the range."""
        return self._open().scan(start, stop, reverse)

    def write(self, batch: Batch, *, durable: bool) -> None:  # noqa: ARG002
        """Apply a batch."""
        with self._guard:
            rows = self._open()
            if rows.shared:
                rows = self._rows = rows.copy()
            rows.apply(batch)

    def flush(self) -> None:
        """Do nothing: no row is durable."""
        self._open()

    def size(self) -> None:
        """Return None: the store has no bytes on disk."""

    def snapshot(self) -> _MemorySnapshot:
        """Return the rows as they are; the next write copies them."""
        with self._guard:
            rows = self._open()
            rows.shared = True
            return _MemorySnapshot(rows)

    def close(self) -> None:
        """Discard all rows."""
        self._rows = None

    def _open(self) -> _Rows:
        if self._rows is None:
            raise StoreClosedError("the store is closed")
        return self._rows
