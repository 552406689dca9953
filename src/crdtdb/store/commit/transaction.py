"""One commit in progress: documents over the root and the rows of a batch.

Several writers' work may go into one transaction, each behind a savepoint, so that one that fails leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from msgspec import Struct

from crdtdb.backends import Backend
from crdtdb.canonical_json import canonical_merged, canonical_of
from crdtdb.causality import EMPTY, Dot, DotSet
from crdtdb.crdts import (
    NO_FIELDS,
    Address,
    Journal,
    OpenSequence,
    Sequence,
)
from crdtdb.documents import NO_SCHEMA, Ancestor, Put, Rev, Schema, State, Write, first_digest
from crdtdb.documents.bounds import check_written
from crdtdb.documents.external_revisions import Read
from crdtdb.documents.schema import SCHEMA_ID, read_schema
from crdtdb.limits import AHEAD_RANGES_MAX, DOCUMENT_BYTES_MAX
from crdtdb.store.commit.document_rows import DocumentRows
from crdtdb.store.commit.ledger import Ledger, Origin
from crdtdb.store.layout import keys
from crdtdb.store.layout.batch import RowBatch
from crdtdb.store.layout.contents import Contents
from crdtdb.store.layout.history import HistoryRows
from crdtdb.store.layout.index_rows import Indexes
from crdtdb.store.layout.journals import value_then
from crdtdb.store.layout.records import (
    Record,
    StoreTables,
    decode_record,
    read_chain,
)
from crdtdb.store.root import StoreRoot
from crdtdb.wire.states import First, Older


class Written(Struct, frozen=True, gc=False):
    """A document after a write, and the dot of the write's leaf; None if the write changed nothing."""

    record: Record
    dot: Dot | None
    external: Rev | None = None
    """The revision that was made elsewhere, if the write added one: it may have been known before."""

    @property
    def state(self) -> State:
        """The document's state."""
        return self.record.state

    @property
    def rev(self) -> Rev:
        """The revision that the write made, or added. A write that changed nothing made none."""
        if self.external is not None:
            return self.external
        single = self.record.single
        if single is not None:
            return Rev(single.generation, single.digest)
        assert self.dot is not None
        return self.state.leaves[self.dot].rev


class Transaction:
    """Documents of one commit, over its `rows` and its `ledger`: the clock, the catalogue and the log of live dots."""

    def __init__(
        self, backend: Backend, root: StoreRoot, tables: StoreTables, origin: Origin, indexes: Indexes
    ) -> None:
        self._tables, self._origin = tables, origin
        self.rows = RowBatch(backend)
        """The rows of the commit, over those of the backend."""
        self.ledger = Ledger(self.rows, root, tables, origin, indexes)
        """Node clock, catalogue, counts and dot log, as the commit leaves them."""
        self.documents = DocumentRows(self.rows, self.ledger, tables, origin)
        """Rows of documents: what was saved, and which texts are open."""
        self.written: list[tuple[str, str]] = []
        """The documents written here, not received: contents of the next rumor."""
        self.designed: set[int] = set()
        """The numbers of collections whose design documents changed."""

    @property
    def contents(self) -> Contents:
        """The contents of attachments as this transaction sees and changes them."""
        return self.documents.contents

    def end(self) -> None:
        """Discard the documents: their paths read through this transaction, and would keep it and its rows for ever.

        Python's collector can't see through values that are declared to be in no circle, as states are.
        """
        self.documents.followed, self.documents.opened = [], None

    def savepoint(self) -> Callable[[], None]:
        """Keep what was written so far; return what rolls the transaction back to here."""
        self.rows.mark()
        rollbacks, written = [self.ledger.savepoint(), self.documents.savepoint()], len(self.written)

        def rollback() -> None:
            self.rows.rollback()
            for undo in rollbacks:
                undo()
            del self.written[written:]

        return rollback

    # Documents

    def load(self, name: str, doc_id: str) -> Record:
        """Return a document; if there is none, an empty one whose context covers earlier writes."""
        collection, raw = self.ledger.root.collections.get(name), doc_id.encode()
        value = self.rows.get(keys.document(collection.number, raw)) if collection is not None else None
        if collection is None or value is None:
            return self._nothing()
        return self._decoded(name, keys.document(collection.number, raw), value)

    def _nothing(self) -> Record:
        return Record.of(0, State({}, {}, NO_FIELDS, self.ledger.root.clock))

    def _decoded(self, name: str, key: bytes, value: bytes) -> Record:
        record = decode_record(value, self.ledger.root.clock, self._tables, self.rows.get, key)
        living = self.ledger.root.living(name, record.stored)
        return record if living is record.stored else Record.of(record.seq, living, record.residue, record.stored)

    def older(self, name: str, doc_id: str) -> Older:
        """Return a reader of the ancestors of a document's revisions, for a path that arrived without them."""

        def reader(rev: Rev) -> Callable[[], Iterable[Ancestor]]:
            def read() -> Iterable[Ancestor]:
                collection = self.ledger.root.collections.get(name)
                if collection is None:
                    return ()
                history = keys.history(collection.number, doc_id.encode())
                return read_chain(self.rows.get, self._tables, history, rev)

            return read

        return reader

    def write(self, name: str, doc_id: str, change: Callable[[State, Write], State]) -> Written:
        """Apply one local write to a document of a collection, which is made if need be.

        Raises whatever `change` raises, TooLargeError for what would be too large, and SystemCollectionError.
        """
        return self._write(name, doc_id, change, check_written)

    def rewrite(self, name: str, doc_id: str, change: Callable[[State, Write], State]) -> Written:
        """Rewrite accepted contents under dots of this store, without bounds on their size."""
        return self._write(name, doc_id, change, lambda *_: None)

    def _write(
        self,
        name: str,
        doc_id: str,
        change: Callable[[State, Write], State],
        check: Callable[[str, State, State], None],
    ) -> Written:
        self.ledger.check_writable(name, doc_id)
        if name not in self.ledger.root.names:
            self.ledger.create(name)
        root, raw = self.ledger.root, doc_id.encode()
        collection = root.collections[name]
        key = keys.document(collection.number, raw)
        value = self.rows.get(key)
        if value is None and type(change) is Put and change.may_be_first:
            first = self._write_first(name, doc_id, key, change.text)
            if first is not None:
                return first
        began = self._origin.large.seconds()
        before = self._decoded(name, key, value) if value is not None else self._nothing()
        state, residue = before.state, before.residue
        actor = self._origin.actor
        counter = root.clock.highest(actor)
        write = Write(
            doc_id,
            actor,
            counter,
            self._origin.stamp(),
            root.names[name],
            collection.sweep,
            self._schema(name, collection.number) if doc_id != SCHEMA_ID else NO_SCHEMA,
            partial(self._open, collection.number, raw),
            self._origin.session,
        )
        after = change(state, write)
        if after is state:
            return Written(Record.of(before.seq, after), None)
        check(doc_id, state, after)
        if write.opened:
            self.documents.texts.check_size(collection.number, raw, state, after, write)
        if residue:
            self.ledger.advance(DotSet({actor: ((counter + 1, write.counter),)}))
        else:  # the document's context is the node clock, before and after
            self.ledger.root = root.at(after.context)
        self.documents.save(name, doc_id, before, after, residue)
        if write.opened:
            self.documents.texts.leave(collection.number, raw, after, write)
        self.written.append((name, doc_id))
        self.documents.note_size(name, doc_id, after, began)
        return Written(Record.of(0, after), write.dot)

    @property
    def seconds(self) -> float:
        """The time, by a clock that only goes forward."""
        return self._origin.large.seconds()

    def _write_first(self, name: str, doc_id: str, key: bytes, text: bytes) -> Written | None:
        """Write a document with a body alone where nothing was, as most are, without making a state of it.

        None, and nothing is written, if more would come of it.
        """
        actor, root = self._origin.actor, self.ledger.root
        collection, ranges = root.collections[name], root.clock.ranges(actor)
        if (
            doc_id[0] == "_"
            or len(text) > DOCUMENT_BYTES_MAX
            or len(ranges) > 1
            or (ranges and ranges[0][0] != 1)
            or self._schema(name, collection.number)
        ):
            return None
        dot = Dot(actor, ranges[0][1] + 1 if ranges else 1)
        digest = first_digest(canonical_of(text), collection.sweep)
        first = First(dot, digest, self._origin.stamp(), root.names[name], text)
        record = self.documents.save_first(name, key, first, EMPTY)
        self.written.append((name, doc_id))
        return Written(record, dot)

    def take_first(self, name: str, doc_id: str, first: First, theirs: DotSet) -> bool:
        """Take in the first revision of a document that was made elsewhere, if there is nothing here; return whether it was so.

        `theirs` is what its context has of its actor beyond what this store's clock is about to have. False, and nothing is
        taken in, if there is more to it than to put it there.
        """
        collection, clock = self.ledger.root.collections.get(name), self.ledger.root.clock
        if collection is None or doc_id[0] == "_" or self.ledger.root.names[name] != first.creations:
            return False
        key = keys.document(collection.number, doc_id.encode())
        many = len(clock.ranges(first.dot.actor)) >= AHEAD_RANGES_MAX
        if many or first.dot in clock or self.rows.get(key) is not None:
            return False
        self.ledger.observe(first.stamp)
        self.documents.save_first(name, key, first, theirs)
        return True

    def reader(self, name: str, doc_id: str) -> OpenSequence:
        """Return a function that opens the texts and lists of a document, for reading only."""
        return partial(self.documents.look, self.ledger.collection(name).number, doc_id.encode())

    def fold(self, name: str, doc_id: str, address: Address) -> None:
        """Fold a journal that has much to fold. Its contents stay the same."""
        collection = self.ledger.root.collections.get(name)
        journal = self.load(name, doc_id).state.journals.get(address) if collection is not None else None
        if collection is not None and journal is not None:
            rows = self.documents.texts.journal(collection.number, doc_id.encode(), address)
            self.rows.changes.update(rows.fold(address, journal))

    def history(self, name: str, doc_id: str) -> HistoryRows:
        """Return the replaced revisions of a document."""
        return HistoryRows(
            keys.history(self.ledger.collection(name).number, doc_id.encode()), self._tables, self.rows.get
        )

    def opener(self, name: str, doc_id: str) -> OpenSequence:
        """Return a function that opens the texts and lists of a document as this transaction sees them."""
        return partial(self._open, self.ledger.collection(name).number, doc_id.encode())

    def _open(self, number: int, raw: bytes, address: Address, journal: Journal, writer: bytes) -> Sequence:
        return self.documents.texts.open(number, raw, address, journal, writer)

    def read_then(self, name: str, doc_id: str, rev: Rev) -> Read | None:
        """Return a replaced revision as its author read it, None if that isn't known any more."""
        past = self.history(name, doc_id).past(rev)
        if past is None or past.seen is None or not past.known:
            return None
        number = self.ledger.collection(name).number
        found, folded = value_then(past, partial(self.documents.texts.journal, number, doc_id.encode()))
        return Read(canonical_merged(found), past.seen, folded)

    def schema(self, name: str) -> Schema:
        """Return the schema of a collection."""
        return self._schema(name, self.ledger.root.collections[name].number)

    def _schema(self, name: str, number: int) -> Schema:
        if number in self.documents.declared:
            return read_schema(self.load(name, SCHEMA_ID).state)
        schema = self._origin.schemas.known.get(number)
        return schema if schema is not None else self._origin.schemas.read(name, number, self.rows.get)
