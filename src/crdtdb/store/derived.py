"""Rows of indexes and views, derived from documents and never replicated."""

from __future__ import annotations

from collections.abc import Set

from crdtdb.store.commit.core import StoreCore
from crdtdb.store.commit.derived_rows import Emitted, ViewKey, build_slice, drop_views, move_view
from crdtdb.store.commit.transaction import Transaction
from crdtdb.store.layout.index_rows import Index, Indexes, drop_slice, pending_drops, read_indexes
from crdtdb.store.layout.view_rows import ViewState, read_view


class Derived:
    """Indexes, updated in each commit, and views, updated by each query."""

    def __init__(self, core: StoreCore) -> None:
        self._core, self._rows, self._submit = core, core.backend, core.submit
        self.all: Indexes = read_indexes(core.backend)
        """The indexes by the numbers of their collections, as the last commit left them."""
        self._drops = pending_drops(core.backend)
        self._designs: dict[int, int] = {}

    def committed(self, transaction: Transaction) -> None:
        """Apply a commit's changes of indexes, before the next commit."""
        self.all = transaction.ledger.indexing.indexes
        for number in transaction.ledger.indexing.dropped:
            if number not in self._drops:
                self._drops.append(number)
        for number in transaction.designed:
            self._designs[number] = self._designs.get(number, 0) + 1

    def indexes(self, name: str) -> tuple[Index, ...]:
        """Return the indexes of a collection, including unfinished ones."""
        collection = self._core.root.collections.get(name)
        return self.all.get(collection.number, ()) if collection is not None else ()

    def designs(self, name: str) -> tuple[int, int] | None:
        """Return a value that changes with each design document of a collection; None if there is no collection."""
        collection = self._core.root.collections.get(name)
        return (collection.number, self._designs.get(collection.number, 0)) if collection is not None else None

    # Work that waits

    def work(self) -> bool:
        """Remove a slice of an index that was dropped, or else build a slice of a new one; return whether there is more."""
        if not self._drops:
            return self.build()
        number = self._drops[0]
        if self._submit(lambda transaction: drop_slice(transaction.rows, self._rows, number)) and number in self._drops:
            self._drops.remove(number)
        return self.waits

    def build(self, name: str | None = None) -> bool:
        """Build a slice of an index, of any collection or this one; return whether there is more to build."""
        unbuilt = self._unbuilt(name)
        if unbuilt is not None:
            self._submit(lambda transaction: build_slice(transaction, *unbuilt))
        return self._unbuilt(name) is not None

    @property
    def waits(self) -> bool:
        """Whether there is something to remove, or to build."""
        return bool(self._drops) or self._unbuilt() is not None

    def _unbuilt(self, name: str | None = None) -> tuple[str, Index] | None:
        if not any(self.all.values()):
            return None
        collections = self._core.root.collections
        for one in collections if name is None else (name,):
            for index in self.indexes(one):
                if index.cursor is not None:
                    return one, index
        return None

    # Views

    def view(self, name: str, signature: bytes) -> ViewState | None:
        """Return a view's position in the changes feed, None before its first query."""
        collection = self._core.root.collections.get(name)
        return read_view(self._rows.get, collection.number, signature) if collection is not None else None

    def put_emissions(self, view: ViewKey, since: int, seq: int, emitted: Emitted) -> ViewState | None:
        """Put the rows that documents emit into a view, and move it from the seq `since` to `seq`.

        None, and nothing is written, if the collection was dropped meanwhile, or another thread has moved the view.
        """
        return self._submit(lambda transaction: move_view(transaction, view, since, seq, emitted))

    def drop_views(self, name: str, keep: Set[bytes] = frozenset()) -> None:
        """Drop the views of a collection, but for those of these signatures."""
        self._submit(lambda transaction: drop_views(transaction, name, keep))
