"""One commit while it is being made: documents, over what is held and the rows of a batch.

Several writers' work may go into one transaction, each behind a savepoint, so that one that fails leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Collection as Collected
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from crdtdb.backends import Backend
from crdtdb.canonical_json import canonical_merged, canonical_of
from crdtdb.causality import EMPTY, Dot, DotSet
from crdtdb.crdts import (
    EMPTY_JOURNAL,
    NO_FIELDS,
    Address,
    Journal,
    OpenSequence,
    Sequence,
)
from crdtdb.documents import NO_SCHEMA, NONE, Ancestor, Put, Rev, Schema, State, Write, first_digest, totals
from crdtdb.documents.attachments import may_have_attachments
from crdtdb.documents.bounds import check_written
from crdtdb.documents.external_revisions import Read
from crdtdb.documents.garbage import has_garbage
from crdtdb.documents.local import LOCAL, locals_in, read_local
from crdtdb.documents.schema import SCHEMA_ID, read_schema
from crdtdb.limits import AHEAD_RANGES_MAX, DOCUMENT_BYTES_MAX, LARGE_DOCUMENT_BYTES, SWEEP_MAX
from crdtdb.store.commit.ledger import Ledger, Origin
from crdtdb.store.commit.texts import Texts
from crdtdb.store.layout import keys
from crdtdb.store.layout.contents import Contents
from crdtdb.store.layout.history import HistoryRows
from crdtdb.store.layout.index_rows import Index, Indexes, is_design, is_indexed, shown, slice_of
from crdtdb.store.layout.journals import at_rest, value_then
from crdtdb.store.layout.records import (
    Record,
    StoreTables,
    decode_past,
    decode_record,
    encode_record,
    first_record,
    read_chain,
)
from crdtdb.store.layout.view_rows import Emission, ViewState, put_emissions, read_view
from crdtdb.store.root import CollectionStats, StoreRoot, is_counted
from crdtdb.wire.states import First, Older

Emitted = Iterable[tuple[bytes, list[Emission]]]
"""What each document emits, by the UTF-8 of its id."""


class Written(Struct, frozen=True, gc=False):
    """A document after a write, and the dot of the leaf that the write made; None if it changed nothing."""

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


class Transaction(Ledger):
    """Documents, over the rows of one commit and what is held."""

    def __init__(
        self, backend: Backend, root: StoreRoot, tables: StoreTables, origin: Origin, indexes: Indexes
    ) -> None:
        super().__init__(backend, root, tables, origin, indexes)
        self._changed: list[tuple[int, str, Record]] = []
        """The documents that were saved, where an index may have to follow."""
        self.written: list[tuple[str, str]] = []
        """The documents that were written here, not received: what a rumor is made of."""
        self._saved_bytes = 0
        """Of the row of the document that was saved last."""
        self.declared: set[int] = set()
        """The numbers of collections whose schema was written."""
        self.opened: Texts | None = None
        """The texts and lists that were opened or grew; None if no document had one."""
        self.released: set[bytes] = set()
        """The contents of attachments that lost a reference."""
        self.designed: set[int] = set()
        """The numbers of collections whose design documents changed."""

    @property
    def texts(self) -> Texts:
        """The texts and lists of this transaction."""
        if self.opened is None:
            self.opened = Texts(self._tables, self.scan, self._origin.sequences, self._origin.session.tag)
        return self.opened

    @property
    def contents(self) -> Contents:
        """The contents of attachments as this transaction sees and changes them."""
        return Contents(self.get, self.scan, lambda: self.rows, self._origin.draw, self.released)

    def end(self) -> None:
        """Let go of the documents: their paths read through this transaction, and would keep it and its rows for ever.

        Python's collector can't see through values that are declared to be in no circle, as states are.
        """
        self._changed, self.opened = [], None

    def savepoint(self) -> Callable[[], None]:
        """Keep what was written so far; return what takes the transaction back to here."""
        self.mark()
        root, touched, written, swept = self.root, set(self.touched), len(self.written), len(self.swept)
        named, changed, indexes, dropped = (
            self.named,
            len(self._changed),
            self.indexing.indexes,
            len(self.indexing.dropped),
        )

        def rollback() -> None:
            self.rollback()
            self.root, self.touched, self.named = root, touched, named
            del self.written[written:], self.swept[swept:], self._changed[changed:], self.indexing.dropped[dropped:]
            self.indexing.indexes = indexes
            if self.opened is not None:
                self.opened.opened.clear()  # what failed may have changed one of them

        return rollback

    # Documents

    def load(self, name: str, doc_id: str) -> Record:
        """Return a document, or an empty one with the context that says what was here before."""
        collection, raw = self.root.collections.get(name), doc_id.encode()
        value = self.get(keys.document(collection.number, raw)) if collection is not None else None
        if collection is None or value is None:
            return self._nothing()
        return self._decoded(name, keys.document(collection.number, raw), value)

    def _nothing(self) -> Record:
        return Record.of(0, State({}, {}, NO_FIELDS, self.root.clock))

    def _decoded(self, name: str, key: bytes, value: bytes) -> Record:
        record = decode_record(value, self.root.clock, self._tables, self.get, key)
        living = self.root.living(name, record.stored)
        return record if living is record.stored else Record.of(record.seq, living, record.residue, record.stored)

    def older(self, name: str, doc_id: str) -> Older:
        """Return what reads the ancestors of a document's revisions, for a path that came without them."""

        def reader(rev: Rev) -> Callable[[], Iterable[Ancestor]]:
            def read() -> Iterable[Ancestor]:
                collection = self.root.collections.get(name)
                if collection is None:
                    return ()
                history = keys.history(collection.number, doc_id.encode())
                return read_chain(self.get, self._tables, history, rev)

            return read

        return reader

    def write(self, name: str, doc_id: str, change: Callable[[State, Write], State]) -> Written:
        """Apply one local write to a document of a collection, which is made if need be.

        Raises whatever `change` raises, TooLargeError for what would be too large, and SystemCollectionError.
        """
        return self._write(name, doc_id, change, check_written)

    def rewrite(self, name: str, doc_id: str, change: Callable[[State, Write], State]) -> Written:
        """Write anew what was accepted before, under dots of this store, however large it is."""
        return self._write(name, doc_id, change, lambda *_: None)

    def _write(
        self,
        name: str,
        doc_id: str,
        change: Callable[[State, Write], State],
        check: Callable[[str, State, State], None],
    ) -> Written:
        began = self._origin.large.seconds()
        self._check_writable(name, doc_id)
        self.create(name)
        root, raw = self.root, doc_id.encode()
        collection = root.collections[name]
        key = keys.document(collection.number, raw)
        value = self.get(key)
        if value is None and type(change) is Put and change.may_be_first:
            first = self._write_first(name, doc_id, key, change.text)
            if first is not None:
                return first
        before = self._decoded(name, key, value) if value is not None else self._nothing()
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
        after = change(before.state, write)
        if after is before.state:
            return Written(Record.of(before.seq, after), None)
        check(doc_id, before.state, after)
        if write.opened:
            self.texts.check_size(collection.number, raw, before.state, after, write)
        if before.residue:
            self.advance(DotSet({actor: ((counter + 1, write.counter),)}))
        else:  # the document's context is the node clock, before and after
            self.root = root.at(after.context)
        self.save(name, doc_id, before, after, before.residue)
        if write.opened:
            self.texts.leave(collection.number, raw, after, write)
        self.written.append((name, doc_id))
        self.note_size(name, doc_id, after, began)
        return Written(Record.of(0, after), write.dot)

    def note_size(self, name: str, doc_id: str, after: State, began: float) -> None:
        """Take note of how large the document is that was saved last, and of how long it took since `began`."""
        size = self._saved_bytes + sum(len(one) for journal in after.journals.values() for one in journal.contents())
        self._origin.large.note(name, doc_id, size, len(after.leaves), began)

    @property
    def seconds(self) -> float:
        """The time, by a clock that only goes forward."""
        return self._origin.large.seconds()

    def _write_first(self, name: str, doc_id: str, key: bytes, text: bytes) -> Written | None:
        """Write a document with a body alone where nothing was, as most are, without making a state of it.

        None, and nothing is written, if more would come of it.
        """
        actor, root = self._origin.actor, self.root
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
        record = self._save_first(name, doc_id, key, first, EMPTY)
        self.written.append((name, doc_id))
        return Written(record, dot)

    def take_first(self, name: str, doc_id: str, first: First, theirs: DotSet) -> bool:
        """Take in the first revision of a document that was made elsewhere, if there is nothing here; return whether it was so.

        `theirs` is what its context has of its actor beyond what this store's clock is about to have. False, and nothing is
        taken in, if there is more to it than to put it there.
        """
        collection, clock = self.root.collections.get(name), self.root.clock
        if collection is None or doc_id[0] == "_" or self.root.names[name] != first.creations:
            return False
        key = keys.document(collection.number, doc_id.encode())
        many = len(clock.ranges(first.dot.actor)) >= AHEAD_RANGES_MAX
        if many or first.dot in clock or self.get(key) is not None:
            return False
        self.observe(first.stamp)
        self._save_first(name, doc_id, key, first, theirs)
        return True

    def _save_first(self, name: str, doc_id: str, key: bytes, first: First, residue: DotSet) -> Record:
        collection, clock = self.root.collections[name], self.root.clock.add(first.dot)
        rest = residue if residue and not clock >= residue else EMPTY
        row, record = first_record(collection.seq + 1, first, rest, clock, self._tables)
        if len(row) >= LARGE_DOCUMENT_BYTES:
            self._origin.large.note(name, doc_id, len(row), 1, self.seconds)
        self._put_new(name, collection, key, first.dot, row, first.text)
        self.root = self.root.counting(name, collection.grown(key[5:], first.digest, len(first.text)), clock)
        self._follow(collection.number, doc_id, record)
        return record

    def save(self, name: str, doc_id: str, before: Record, after: State, residue: DotSet) -> None:
        """Put a document in the place of what was there: its row, its log, its feed, its past and the counts."""
        collection, raw = self.collection(name), doc_id.encode()
        number, local = collection.number, doc_id.startswith(LOCAL)
        rest = uncovered(residue, self.root.clock) if residue else EMPTY
        if not before.seq and doc_id[0] != "_":
            dot = after.written_once()
            if dot is not None:
                row = encode_record(collection.seq + 1, after, rest, self._tables)
                self._saved_bytes = len(row)
                self._put_new(name, collection, keys.document(number, raw), dot, row, after.bodies[dot].text)
                self.root = self.root.counting(name, collection.changed(raw, NONE, after, collection.seq + 1))
                self._follow(number, doc_id, Record.of(0, after))
                return
        self._log_changed(before.stored, after, keys.place(number, raw))
        counted = totals(before.stored)  # before its history goes: that says which of its leaves is hidden
        self._refer(number, raw, before.state, after)  # first: what this needs, nothing that goes may take along
        if before.seq:
            self._leave(number, raw, before, after)
        history = HistoryRows(keys.history(number, raw), self._tables, self.get)
        self.rows.update(history.kept(before.state, after))
        self.rows.update(history.kept_hidden(before.state, after))
        if local:
            self._forget_covered(history, after)
        seq = 0 if local else collection.seq + 1
        stored = self._without_updates(name, number, raw, before.state, after) if after.journals else after
        row = keys.document(number, raw)
        if after.leaves or after.bodies or after.fields:
            encoded = self.rows[row] = encode_record(seq, stored, rest, self._tables)
            self._saved_bytes = len(encoded)
            if not local:
                self.rows[keys.change(number, seq)] = raw
        else:
            self.rows[row] = None
            self._saved_bytes = 0
            self.remove(keys.journals(number, raw))
        self.await_collection(number, raw, after)
        if local:
            return
        if is_counted(doc_id):
            collection = collection.changed(raw, counted, after, seq)
        else:
            collection = replace(collection, seq=seq)
            self.declared.add(number)  # what isn't counted and has a row in the feed is the schema
        self.root = self.root.counting(name, collection)
        self.touched.add(name)
        self._follow(number, doc_id, Record.of(seq, stored))

    def _put_new(self, name: str, collection: CollectionStats, key: bytes, dot: Dot, row: bytes, text: bytes) -> None:
        """Put a document that was written once where nothing was: most are. It has no past, and nothing to be collected."""
        rows, number, place = self.rows, collection.number, key[1:]
        raw = place[4:]
        if may_have_attachments(text):
            self.contents.refer(number, raw, [text])
        rows[keys.log(self._tables.actor_number(dot.actor), dot.counter)] = place
        rows[key] = row
        rows[keys.change(number, collection.seq + 1)] = raw
        self.touched.add(name)

    # Indexes

    def _follow(self, number: int, doc_id: str, after: Record) -> None:
        """Take note of a document that indexes must follow. They do at the end of the commit: it may change once more."""
        if (doc_id[0] == "_" and is_design(doc_id)) or (self.indexing.indexes.get(number) and is_indexed(doc_id)):
            self._changed.append((number, doc_id, after))

    def index(self) -> None:
        """Let the indexes follow what was saved. To be called once, when all work is done."""
        if not self._changed:
            return
        living = {one.number for one in self.root.collections.values()}
        latest = {(number, doc_id): record for number, doc_id, record in self._changed if number in living}
        for (number, doc_id), record in latest.items():
            if is_design(doc_id):
                self.indexing.redefine(self, number, doc_id, self._shown(number, doc_id, record), self._next_index)
                self.designed.add(number)
        for (number, doc_id), record in latest.items():
            if is_indexed(doc_id) and self.indexing.indexes.get(number):
                self.indexing.enter(self, number, doc_id.encode(), self._shown(number, doc_id, record))

    def build(self, name: str, index: Index) -> None:
        """Enter the next documents of an index that is being built."""
        collection = self.root.collections.get(name)
        kept = self.indexing.indexes.get(index.collection, ())
        now = next((one for one in kept if one.number == index.number), None)
        if collection is None or collection.number != index.collection or now is None or now.cursor is None:
            return  # it was dropped meanwhile, or somebody else has built it
        found: list[tuple[bytes, dict[str, object] | None]] = []
        for raw in slice_of(self._backend, now):
            doc_id = raw.decode()
            record = self.load(name, doc_id) if is_indexed(doc_id) else self._nothing()
            found.append((raw, self._shown(index.collection, doc_id, record)))
        self.indexing.build(self, now, found)

    def put_emissions(
        self, name: str, collection: int, signature: bytes, since: int, seq: int, emitted: Emitted
    ) -> ViewState | None:
        """Put what documents emit in a view that has come to the seq `since`, and has come to `seq` then.

        None, and nothing is written, if the collection was dropped meanwhile, or somebody else has moved the view.
        """
        now = self.root.collections.get(name)
        if now is None or now.number != collection:
            return None
        before = read_view(self.get, collection, signature)
        if before is None:
            before = ViewState(self._next_index())
        return put_emissions(self, collection, signature, before, seq, emitted) if before.seq == since else None

    def drop_views(self, name: str, keep: Collected[bytes]) -> None:
        """Drop the views of a collection, but for those of these signatures."""
        found = self.root.collections.get(name)
        if found is not None:
            self.indexing.drop_views(self, found.number, keep)

    def reader(self, name: str, doc_id: str) -> OpenSequence:
        """Return what opens the texts and lists of a document to be read, and leaves them as they are."""
        return partial(self._look, self.collection(name).number, doc_id.encode())

    def _shown(self, number: int, doc_id: str, record: Record) -> dict[str, object] | None:
        return shown(doc_id, record, partial(self._look, number, doc_id.encode()))

    def _look(self, number: int, raw: bytes, address: Address, journal: Journal, _: bytes) -> Sequence:
        return self.texts.look((number, raw, address), journal)

    def _leave(self, number: int, raw: bytes, before: Record, after: State) -> None:
        """Remove what a document's last change left, and what it had before all of it was dropped."""
        self.rows[keys.change(number, before.seq)] = None
        if before.stored is before.state:
            return
        if before.stored.leaves and not before.state.leaves:
            self.remove(keys.history(number, raw))
            bodies = [*before.state.bodies.values(), *after.bodies.values()]
            self.contents.keep_only(number, raw, (body.text for body in bodies))
        for address, journal in before.stored.journals.items():
            living = before.state.journals.get(address)
            if living is None:
                self.remove(keys.journal(keys.journals(number, raw), address))
            elif living is not journal:
                self.rows.update(self.texts.journal(number, raw, address).removed(living))

    def _refer(self, number: int, raw: bytes, before: State, after: State) -> None:
        """Note which contents of attachments new bodies have."""
        texts = [body.text for dot, body in after.bodies.items() if dot not in before.bodies]
        if any(map(may_have_attachments, texts)):
            self.contents.refer(number, raw, texts)

    def _without_updates(self, name: str, number: int, raw: bytes, before: State, after: State) -> State:
        """Put the updates of texts and lists into rows of their own; return what stands in the document's row."""
        for address, journal in after.journals.items():
            if journal.updates or journal.snapshots:
                known = before.journals.get(address, EMPTY_JOURNAL)
                self.rows.update(self.texts.keep((number, raw, address), name, known, journal))
        return replace(after, journals={address: at_rest(journal) for address, journal in after.journals.items()})

    def await_collection(self, number: int, raw: bytes, state: State) -> None:
        """Line a document up for collection, if it has something to give up once that is stable."""
        if not has_garbage(state):
            return
        newest = sorted(state.leaves, key=lambda dot: (state.leaves[dot].stamp, dot), reverse=True)
        dot = next((dot for dot in (*newest, *state.dots()) if dot not in self.root.stable), None)
        if dot is None:
            self.rows[keys.due(number, raw)] = b""
        else:
            self.rows[keys.waiting(self._tables.actor_number(dot.actor), dot.counter)] = keys.place(number, raw)

    def shrink(self, name: str, doc_id: str, before: Record, after: State) -> None:
        """Put what collection leaves of a document in its place. It is no change: its row in the feed stays as it is."""
        collection, raw = self.collection(name), doc_id.encode()
        self._log(set(before.stored.dots()) - set(after.dots()), None)
        row = keys.document(collection.number, raw)
        for address in before.state.journals.keys() - after.journals.keys():
            self.remove(keys.journal(keys.journals(collection.number, raw), address))
        if after.leaves or after.bodies or after.fields:
            self.rows.update(self.history(name, doc_id).kept(before.state, after))
            stored = replace(after, journals={one: at_rest(root) for one, root in after.journals.items()})
            encoded = self.rows[row] = encode_record(before.seq, stored, EMPTY, self._tables)
            self._origin.large.note(name, doc_id, len(encoded), len(after.leaves), self.seconds)
            return
        self.rows[row] = None
        self._origin.large.note(name, doc_id, 0, 0, self.seconds)
        self.remove(keys.history(collection.number, raw))
        if self.has_any(keys.journals(collection.number, b"")[:5]):
            self.remove(keys.journals(collection.number, raw))
        if self.has_any(keys.references(collection.number, b"")[:5]):
            self.contents.keep_only(collection.number, raw, ())
        if before.seq:
            self.rows[keys.change(collection.number, before.seq)] = None
        counted = is_counted(doc_id) and bool(before.stored.leaves)
        self.root = self.root.counting(
            name,
            replace(
                collection,
                deleted=collection.deleted - counted,
                sweep=min(max(collection.sweep, *(leaf.stamp for leaf in before.state.leaves.values()), 0), SWEEP_MAX),
            ),
        )

    def fold(self, name: str, doc_id: str, address: Address) -> None:
        """Fold a journal that has much to fold. What it holds stays the same."""
        collection = self.root.collections.get(name)
        journal = self.load(name, doc_id).state.journals.get(address) if collection is not None else None
        if collection is not None and journal is not None:
            self.rows.update(self.texts.journal(collection.number, doc_id.encode(), address).fold(address, journal))

    def history(self, name: str, doc_id: str) -> HistoryRows:
        """Return the replaced revisions of a document."""
        return HistoryRows(keys.history(self.collection(name).number, doc_id.encode()), self._tables, self.get)

    def opener(self, name: str, doc_id: str) -> OpenSequence:
        """Return what opens the texts and lists of a document as this transaction sees them."""
        return partial(self._open, self.collection(name).number, doc_id.encode())

    def _open(self, number: int, raw: bytes, address: Address, journal: Journal, writer: bytes) -> Sequence:
        return self.texts.open(number, raw, address, journal, writer)

    def read_then(self, name: str, doc_id: str, rev: Rev) -> Read | None:
        """Return a replaced revision as its author read it, None if that isn't known any more."""
        past = self.history(name, doc_id).past(rev)
        if past is None or past.seen is None or not past.known:
            return None
        number = self.collection(name).number
        found, folded = value_then(past, partial(self.texts.journal, number, doc_id.encode()))
        return Read(canonical_merged(found), past.seen, folded)

    def _forget_covered(self, history: HistoryRows, after: State) -> None:
        """Of a local record keep the newest that is served, and those after it."""
        found = any(one.clock <= self.root.clock for one in locals_in(after))
        for key, value in sorted(self.scan(*keys.rest(history.beginning)), reverse=True):
            if found:
                self.rows[key] = None
            else:
                past = decode_past(key, value, history.beginning, self._tables)
                record = read_local(past.rev, past.text) if past.text is not None else None
                found = record is not None and record.clock <= self.root.clock

    def schema(self, name: str) -> Schema:
        """Return the schema of a collection."""
        return self._schema(name, self.root.collections[name].number)

    def _schema(self, name: str, number: int) -> Schema:
        if number in self.declared:
            return read_schema(self.load(name, SCHEMA_ID).state)
        schema = self._origin.schemas.known.get(number)
        return schema if schema is not None else self._origin.schemas.read(name, number, self.get)


def uncovered(context: DotSet, clock: DotSet) -> DotSet:
    """Return the actors of a context of which the clock doesn't cover all, with all their ranges.

    Not the difference: a clock with many gaps would leave as many ranges beside every document.
    """
    return DotSet({actor: ranges for actor, ranges in context.items() if not clock >= DotSet({actor: ranges})})
