"""The changes feed of one collection: each document once, at its last change, in the order of the changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Collection as Some

from crdtdb.database.document import Change, Document
from crdtdb.database.feeds.cursor import FeedCursor
from crdtdb.database.reader import DocumentReader
from crdtdb.documents import view
from crdtdb.store import Record, Store


class Feed:
    """A place in the changes feed of one collection."""

    def __init__(
        self,
        store: Store,
        name: str,
        since: int = 0,
        ids: Some[str] | None = None,
        where: Callable[[Document], bool] | None = None,
    ) -> None:
        """Begin after the seq `since`; `ids` and `where` choose the changes."""
        self._ids, self._where = ids, where
        self._reader, self._cursor = DocumentReader(store, name), FeedCursor.here(store, name, since)

    @property
    def since(self) -> int:
        """The seq of the last change that was read."""
        return self._cursor.seq

    def poll(self) -> Iterator[Change]:
        """Yield the changes up to now, and move along."""
        for seq, doc_id, record in self._cursor.read():
            if self._ids is not None and doc_id not in self._ids:
                continue
            change = self._change(seq, doc_id, record)
            if change is not None and (self._where is None or self._where(change.doc)):
                yield change

    def _change(self, seq: int, doc_id: str, record: Record) -> Change | None:
        shown = view(record.state) if record.single is None else None
        document = self._reader.latest(doc_id, record, shown)
        if document is None:
            return None
        leaves = tuple(str(leaf.rev) for leaf in shown.leaves) if shown is not None else (document.rev,)
        return Change(seq, doc_id, document.rev, document.deleted, leaves, document)

    def wait(self, timeout: float | None) -> bool:
        """Wait until there may be changes; return False if `timeout` seconds passed without.

        Raises StoreClosedError when the database is closed.
        """
        return self._cursor.wait(timeout)
