"""The changes feed as CouchDB's protocol has it: rows of revisions, from a seq of whatever node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from crdtdb.canonical_json import dump
from crdtdb.causality import DotSet
from crdtdb.couchdb.revision_trees import Options, Tree, Trees
from crdtdb.couchdb.update_seq import ZERO, Seq, decode_seq, encode_seq, mark_of, seq_at_end
from crdtdb.database.queries.cursor import project
from crdtdb.documents import Rev, view
from crdtdb.documents.schema import SCHEMA_ID
from crdtdb.limits import ANSWER_PAGE_BYTES
from crdtdb.store import Record, Store

_PAGE = 1_000
_COUNTED_MAX = 1_000


class Wanted(NamedTuple):
    """What a reader of the feed wants in its rows, and which rows."""

    style_all: bool = False
    include_docs: bool = False
    options: Options = Options()
    keep: Callable[[Tree, Rev], bool] | None = None
    """Asked about each leaf that would stand in a row."""
    fields: tuple[str, ...] | None = None
    """What of a document its row shows, None for all."""
    ids: frozenset[str] | None = None
    seq_interval: int = 1


class ChangesFeed:
    """A reader's place in the feed of a collection, and the rows from there on."""

    def __init__(self, trees: Trees, since: str, wanted: Wanted) -> None:
        """Begin after `since`: a seq of any node, 0, or "now". Raises CouchError for what isn't one."""
        self._trees, self._wanted = trees, wanted
        self._store: Store = trees.store
        self._name = trees.name
        self._number = self._store.collection(self._name).number
        self.at = self._place(since)
        self.exhausted = False
        """Whether the last `take` came to the end of the feed."""
        self._skipping: DotSet | None = None
        self._told = 0
        self._settle()

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._name

    @property
    def last_seq(self) -> str:
        """How far the reader is."""
        return encode_seq(self.at)

    def _place(self, since: str) -> Seq:
        if since == "now":
            return seq_at_end(self._store, self._name, self._store.root)
        seq = decode_seq(since)
        if seq.creation is not None and seq.creation not in self._store.root.names[self._name]:
            return ZERO  # of a collection that has been dropped, or that isn't known here yet
        return seq

    def _settle(self) -> None:
        """Find the place of a seq that another store wrote: before the first change that its reader lacks."""
        seq, mark = self.at, mark_of(self._store, self._number)
        if not seq.mark or seq.mark == mark:
            self.at = seq._replace(mark=mark)
            return
        with self._store.durable_snapshot() as moment:
            number = moment.first_unseen(self._name, seq.clock) - 1
        self._skipping = seq.clock
        self.at = seq._replace(number=number, mark=mark)

    def take(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the next rows, at most `limit` and no more than a page of them, and move along.

        There are none only at the end of the feed.
        """
        while True:
            rows = self._page(limit)
            if rows or self.exhausted:
                return rows

    def _page(self, limit: int | None) -> list[dict[str, Any]]:
        most = _PAGE if limit is None else min(limit, _PAGE)
        rows: list[dict[str, Any]] = []
        size = 0
        self._begin_anew_if_dropped()
        fresh: list[str] = []
        with self._store.durable_snapshot() as moment:
            collection = moment.root.collections.get(self._name)
            if collection is None or collection.number != self._number:
                self.exhausted = True
                return rows
            creation = min(moment.root.names[self._name], default=None)
            self.at = self.at._replace(creation=creation)
            read = 0
            for seq, doc_id, record in moment.changes(self._name, self.at.number):
                if len(rows) >= most or read >= _PAGE or size >= ANSWER_PAGE_BYTES:
                    self.exhausted = False
                    break
                read += 1
                self.at = self.at._replace(number=seq)
                shown = view(record.state)
                if doc_id == SCHEMA_ID or not shown.leaves or not shown.complete or self._seen(record):
                    continue
                if not self._trees.published(doc_id, record, shown):
                    fresh.append(doc_id)  # comes again, as it is then, at the end of the feed
                    continue
                row = self._row(Tree(self._store, self._name, doc_id, record, shown))
                if row is not None:
                    rows.append(row)
                    size += len(dump(row["doc"])) if self._wanted.include_docs else 0
            else:
                self.exhausted = not fresh
                if self.exhausted:
                    self._skipping = None
                    self.at = seq_at_end(self._store, self._name, moment.root)
                    if rows:
                        rows[-1]["seq"] = self.last_seq
        if fresh:
            self._trees.publish(fresh)
        for row in rows:
            self._told += 1
            if (self._told - 1) % self._wanted.seq_interval:
                row["seq"] = None
        return rows

    def newest(self, limit: int | None) -> Iterator[dict[str, Any]]:
        """Yield the rows from the newest back to where the reader stands."""
        return islice(self._backwards(), limit)

    def _backwards(self) -> Iterator[dict[str, Any]]:
        for seq, doc_id, record in self._store.live_view().changes(self._name, self.at.number, reverse=True):
            for tree in self._trees.trees([(doc_id, record)]):
                self.at = self.at._replace(number=seq)
                row = self._row(tree)
                if row is not None:
                    yield row

    def pending(self) -> int:
        """Return how many changes are behind the reader's place: counted if they are few, otherwise at most that many."""
        moment = self._store.live_view()
        counted = moment.count_changes(self._name, self.at.number, _COUNTED_MAX)
        if counted < _COUNTED_MAX:
            return counted
        collection = moment.root.collections[self._name]
        return max(counted, min(collection.seq - self.at.number, collection.documents + collection.deleted))

    def _begin_anew_if_dropped(self) -> None:
        """A collection that was dropped and made anew is another, and its seqs begin again."""
        collection = self._store.root.collections.get(self._name)
        if collection is not None and collection.number != self._number:
            self._number = collection.number
            self.at = ZERO._replace(mark=mark_of(self._store, self._number))
            self._skipping = None

    @property
    def dropped(self) -> bool:
        """Whether the collection is gone."""
        return self._name not in self._store.root.collections

    def _seen(self, record: Record) -> bool:
        """Whether a reader who came from another node has all of a document."""
        return self._skipping is not None and all(dot in self._skipping for dot in record.state.dots())

    def _row(self, tree: Tree) -> dict[str, Any] | None:
        wanted = self._wanted
        if wanted.ids is not None and tree.doc_id not in wanted.ids:
            return None
        leaves = tree.leaves if wanted.style_all else tree.leaves[:1]
        if wanted.keep is not None:
            leaves = tuple(one for one in leaves if wanted.keep(tree, one.leaf.rev))
        if not leaves:
            return None
        row: dict[str, Any] = {
            "seq": self.last_seq,
            "id": tree.doc_id,
            "changes": [{"rev": str(one.leaf.rev)} for one in leaves],
        }
        if tree.deleted:
            row["deleted"] = True
        if wanted.include_docs:
            document = tree.document(None, wanted.options)
            row["doc"] = document if wanted.fields is None else project(document, wanted.fields)
        return row


def rows_of(feed: ChangesFeed, limit: int | None) -> Iterator[dict[str, Any]]:
    """Yield rows to the end of the feed, or until there are `limit`."""
    sent = 0
    while limit is None or sent < limit:
        rows = feed.take(None if limit is None else limit - sent)
        yield from rows
        sent += len(rows)
        if feed.exhausted:
            return
