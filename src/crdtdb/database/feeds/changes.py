"""The changes feed of a collection, followed from a place in it: a log with a bell.

The log says what changed; the bell only wakes who waits. Each document is in it once, at its last change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Collection as Some

from crdtdb.database.document import Change, Document
from crdtdb.database.reader import DocumentReader
from crdtdb.documents import view
from crdtdb.documents.schema import SCHEMA_ID
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
        """Begin after the seq `since`; `ids` and `where` choose what is taken."""
        self._store, self._name, self._ids, self._where = store, name, ids, where
        self._reader = DocumentReader(store, name)
        self._number = self._number_now()
        self.since = since

    def take(self) -> Iterator[Change]:
        """Yield what changed after the place where the feed stands, and move it along."""
        if self._number_now() != self._number:
            self._number, self.since = self._number_now(), 0  # dropped, and perhaps made anew: its seqs begin again
        if self._number is None:
            return
        top = self._store.collection(self._name).seq
        for seq, doc_id, record in self._store.live_view().changes(self._name, self.since):
            self.since = seq
            if doc_id == SCHEMA_ID or (self._ids is not None and doc_id not in self._ids):
                continue
            change = self._change(seq, doc_id, record)
            if change is not None and (self._where is None or self._where(change.doc)):
                yield change
        self.since = max(self.since, top)

    def _change(self, seq: int, doc_id: str, record: Record) -> Change | None:
        shown = view(record.state) if record.single is None else None
        document = self._reader.latest(doc_id, record, shown)
        if document is None:
            return None
        leaves = tuple(str(leaf.rev) for leaf in shown.leaves) if shown is not None else (document.rev,)
        return Change(seq, doc_id, document.rev, document.deleted, leaves, document)

    def wait(self, timeout: float | None) -> bool:
        """Wait until there may be more to take; False if `timeout` seconds passed without.

        Raises StoreClosedError when the database is closed.
        """
        return self._store.notifier.wait_for_change(self._name, self._number, self.since, timeout)

    def _number_now(self) -> int | None:
        found = self._store.root.collections.get(self._name)
        return found.number if found is not None else None
