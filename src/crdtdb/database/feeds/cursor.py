"""A place in the changes of one collection: the feed of a collection has one, a watch one for each collection."""

from __future__ import annotations

from collections.abc import Iterator

from crdtdb.documents.schema import SCHEMA_ID
from crdtdb.store import Record, Store


class FeedCursor:
    """The last change that was read: `seq`, in the collection with the local number `number`.

    A collection that was dropped and created again has another number, and is read from its beginning.
    """

    __slots__ = ("_name", "_store", "number", "seq")

    def __init__(self, store: Store, name: str, number: int | None, seq: int) -> None:
        """Stand behind the change `seq`; `number` is None if there is no such collection."""
        self._store, self._name, self.number, self.seq = store, name, number, seq

    @classmethod
    def here(cls, store: Store, name: str, seq: int | None = None) -> FeedCursor:
        """Return a cursor in the collection that has this name now, behind `seq`; behind its last change if that is None."""
        collection = store.root.collections.get(name)
        if collection is None:
            return cls(store, name, None, seq or 0)
        return cls(store, name, collection.number, collection.seq if seq is None else seq)

    def read(self) -> Iterator[tuple[int, str, Record]]:
        """Yield seq, id and row of each document that changed since, and move along: a reader that stops goes on from there.

        The schema is left out.
        """
        collection = self._store.root.collections.get(self._name)
        number = collection.number if collection is not None else None
        if number != self.number:
            self.number, self.seq = number, 0
        if collection is None:
            return
        if collection.seq > self.seq:
            for seq, doc_id, record in self._store.live_view().changes(self._name, self.seq):
                self.seq = seq
                if doc_id != SCHEMA_ID:
                    yield seq, doc_id, record
        self.seq = max(self.seq, collection.seq)

    def wait(self, timeout: float | None) -> bool:
        """Wait until there may be more to read; return False if `timeout` seconds passed without.

        Raises StoreClosedError when the store is closed.
        """
        return self._store.notifier.wait_for_change(self._name, self.number, self.seq, timeout)
