"""Rows of one commit in progress, over those of the backend.

Several writers' rows may go into one batch, each behind a mark to which it can be rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator

from crdtdb.backends import Reader
from crdtdb.store.layout import keys

Rows = dict[bytes, bytes | None]
"""Rows to be written; None removes one."""


class RowBatch:
    """Reads see earlier writes of the batch. Nothing reaches the backend until `all_rows` is written to it."""

    def __init__(self, backend: Reader) -> None:
        self._backend = backend
        self.changes: Rows = {}
        """Rows written since the last mark."""
        self._kept: Rows = {}
        self._present: dict[bytes, bool] = {}

    @property
    def committed(self) -> Reader:
        """The rows as they were before this batch."""
        return self._backend

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key."""
        if key in self.changes:
            return self.changes[key]
        if key in self._kept:
            return self._kept[key]
        return self._backend.get(key)

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield a range."""
        rows: Rows = dict(self._backend.scan(start, stop))
        for written in (self._kept, self.changes):
            rows.update((key, value) for key, value in written.items() if start <= key < stop)
        for key in sorted(rows):
            value = rows[key]
            if value is not None:
                yield key, value

    def mark(self) -> None:
        """Set the place to which `rollback` returns."""
        self._kept.update(self.changes)
        self.changes = {}

    def rollback(self) -> None:
        """Discard what was written since the last mark."""
        self.changes = {}

    def all_rows(self) -> Rows:
        """Return every row."""
        if not self._kept:
            return self.changes
        self.mark()
        return self._kept

    def remove(self, beginning: bytes) -> None:
        """Remove all rows whose keys begin so."""
        for key, _ in self._backend.scan(*keys.rest(beginning)):
            self.changes[key] = None
        for key in [key for key in self.changes if key.startswith(beginning)]:
            self.changes[key] = None

    def has_any(self, beginning: bytes) -> bool:
        """Whether there is any row that begins so, asked once: to look for rows among many that were removed costs much."""
        found = self._present.get(beginning)
        if found is None:
            found = self._present[beginning] = any(True for _ in self._backend.scan(*keys.rest(beginning)))
        return found
