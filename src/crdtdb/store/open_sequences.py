"""Cache of open texts and lists, which saves rebuilding them from rows.

Each stands under the vector of what it holds: for another vector it is made again. A writer takes one out, and it
comes back when the commit is written; after a commit that failed it doesn't, so no text in memory has what the disk hasn't.
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
    """An open sequence, what it holds, who writes in it and about how large it is in memory."""

    sequence: Sequence
    vector: Vector
    writer: bytes
    size: int


class OpenSequences:
    """The most recently used ones, bounded in number and bytes. Safe for threads."""

    def __init__(self, number_max: int = OPEN_SEQUENCES_MAX, bytes_max: int = OPEN_SEQUENCES_BYTES_MAX) -> None:
        self._number_max, self._bytes_max = number_max, bytes_max
        self._open: OrderedDict[Slot, Open] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def take(self, slot: Slot, vector: Vector, writer: bytes | None = None) -> Sequence | None:
        """Take one out; None if there is none that holds just this and, to be edited, is written by this writer."""
        with self._lock:
            found = self._open.pop(slot, None)
            if found is None:
                return None
            self._size -= found.size
            return found.sequence if found.vector == vector and writer in (None, found.writer) else None

    def read(self, slot: Slot, vector: Vector, look: Callable[[Sequence], T]) -> tuple[T] | None:
        """Return what `look` makes of one that holds just this, while nobody can take it out."""
        with self._lock:
            found = self._open.get(slot)
            if found is None or found.vector != vector:
                return None
            self._open.move_to_end(slot)
            return (look(found.sequence),)

    def keep(self, slot: Slot, opened: Open) -> None:
        """Put one in, in the place of what is there."""
        with self._lock:
            before = self._open.pop(slot, None)
            self._open[slot] = opened
            self._size += opened.size - (before.size if before is not None else 0)
            while len(self._open) > self._number_max or (self._size > self._bytes_max and len(self._open) > 1):
                self._size -= self._open.popitem(last=False)[1].size

    def __len__(self) -> int:
        return len(self._open)
