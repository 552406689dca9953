"""Cache of open texts and lists, which saves rebuilding them from rows.

Each sequence is valid for one vector; for another vector it is rebuilt. A writer takes the sequence out, and puts it back when
the commit is written; after a failed commit it is discarded, so the cache never has a write that the disk lacks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple, TypeVar

from crdtdb.crdts import Address, Sequence, Vector
from crdtdb.limits import OPEN_SEQUENCES_BYTES_MAX, OPEN_SEQUENCES_MAX

T = TypeVar("T")

Slot = tuple[int, bytes, Address]
"""A collection's number, a document's id and the address in it."""


class Open(NamedTuple):
    """Open sequence with its vector, its writer and its approximate size in memory, in bytes."""

    sequence: Sequence
    vector: Vector
    writer: bytes
    size: int


class OpenSequences:
    """Least-recently-used cache of open sequences, bounded in number and bytes. Thread-safe."""

    def __init__(self, number_max: int = OPEN_SEQUENCES_MAX, bytes_max: int = OPEN_SEQUENCES_BYTES_MAX) -> None:
        self._number_max, self._bytes_max = number_max, bytes_max
        self._open: OrderedDict[Slot, Open] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def take(self, slot: Slot, vector: Vector, writer: bytes | None = None) -> Sequence | None:
        """Take a sequence out; None unless there is one at this vector and, for an edit, of this writer."""
        with self._lock:
            found = self._open.pop(slot, None)
            if found is None:
                return None
            self._size -= found.size
            return found.sequence if found.vector == vector and writer in (None, found.writer) else None

    def read(self, slot: Slot, vector: Vector, look: Callable[[Sequence], T]) -> tuple[T] | None:
        """Return the result of `look` on the open sequence at this vector, under the lock of the cache."""
        with self._lock:
            found = self._open.get(slot)
            if found is None or found.vector != vector:
                return None
            self._open.move_to_end(slot)
            return (look(found.sequence),)

    def keep(self, slot: Slot, opened: Open) -> None:
        """Put a sequence in, in place of an older one."""
        with self._lock:
            before = self._open.pop(slot, None)
            self._open[slot] = opened
            self._size += opened.size - (before.size if before is not None else 0)
            while len(self._open) > self._number_max or (self._size > self._bytes_max and len(self._open) > 1):
                self._size -= self._open.popitem(last=False)[1].size

    def __len__(self) -> int:
        return len(self._open)
