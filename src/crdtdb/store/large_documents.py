"""Reports large or slow documents before they delay a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from crdtdb.limits import LARGE_DOCUMENT_BYTES, LARGE_DOCUMENT_LEAVES, LARGE_DOCUMENTS_MAX, SLOW_DOCUMENT_SECONDS


class LargeDocument(NamedTuple):
    """A document as its last write or merge left it, and how long that took, in seconds."""

    name: str
    doc_id: str
    size: int
    """Bytes of its row, and of the updates of texts and lists that the last write or merge brought."""
    leaves: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"document {self.name}/{self.doc_id} is large: {self.leaves:,} leaves, {self.size:,} bytes, and its last write "
            f"or merge took {self.seconds:.2f} s. Resolve its conflicts, or divide it"
        )


class LargeDocuments:
    """Keeps the slowest documents. One thread at a time records, any thread reads."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """`seconds` is a clock that only goes forward."""
        self.seconds = seconds
        self._found: dict[tuple[str, str], LargeDocument] = {}

    def note(self, name: str, doc_id: str, size: int, leaves: int, began: float) -> None:
        """Record a document whose write or merge began at `began`, in seconds."""
        took = self.seconds() - began
        if size < LARGE_DOCUMENT_BYTES and leaves < LARGE_DOCUMENT_LEAVES and took < SLOW_DOCUMENT_SECONDS:
            if self._found:
                self._found.pop((name, doc_id), None)
            return
        self._found[name, doc_id] = LargeDocument(name, doc_id, size, leaves, took)
        if len(self._found) > LARGE_DOCUMENTS_MAX:
            least = min(self._found.values(), key=lambda one: (one.seconds, one.size))
            del self._found[least.name, least.doc_id]

    def worst(self) -> list[LargeDocument]:
        """Return the recorded documents, the slowest first."""
        found = list(self._found.values())  # at once: another thread may add to them
        return sorted(found, key=lambda one: (one.seconds, one.size), reverse=True)
