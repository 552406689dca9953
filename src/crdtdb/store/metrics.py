"""Counters of a store since it was opened, and its large or slow documents."""

from __future__ import annotations

from collections.abc import Callable

from crdtdb.store.large_documents import LargeDocument, LargeDocuments
from crdtdb.store.root import StoreRoot


class StoreMetrics:
    """Counters of a store since it was opened."""

    def __init__(self, large: LargeDocuments, root: Callable[[], StoreRoot]) -> None:
        """`large` collects large documents; `root` returns the root of the last commit."""
        self._large, self._root = large, root
        self.commits = 0
        """Batches written to the backend."""
        self.commit_seconds = 0.0
        """Seconds that the backend took to write them."""
        self.written_documents = 0
        """Documents written here, not received."""
        self.read_documents = 0
        """Documents read by id. Threads that read at the same moment may count once."""

    def large_documents(self) -> list[LargeDocument]:
        """Return the documents that are large or slow, as far as they were written or merged since the store was opened."""
        names = self._root().names
        return [document for document in self._large.worst() if document.name in names]
