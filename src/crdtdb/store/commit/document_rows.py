"""Rows of a commit's documents: dot log, feed, history, journals and counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from crdtdb.causality import EMPTY, Dot, DotSet
from crdtdb.crdts import Address, Journal, Sequence
from crdtdb.documents import NONE, State, totals
from crdtdb.documents.attachments import may_have_attachments
from crdtdb.documents.local import LOCAL
from crdtdb.limits import LARGE_DOCUMENT_BYTES, SWEEP_MAX
from crdtdb.store.commit.ledger import Ledger, Origin
from crdtdb.store.commit.texts import Texts
from crdtdb.store.layout import keys
from crdtdb.store.layout.batch import RowBatch
from crdtdb.store.layout.contents import Contents
from crdtdb.store.layout.history import HistoryRows, superseded
from crdtdb.store.layout.index_rows import is_design, is_indexed, shown
from crdtdb.store.layout.journals import at_rest
from crdtdb.store.layout.records import Record, StoreTables, encode_record, first_record
from crdtdb.store.root import CollectionStats, is_counted
from crdtdb.wire.states import First


class DocumentRows:
    """Saves documents in a batch of rows, in place of their old states, and counts them in the ledger."""

    def __init__(self, rows: RowBatch, ledger: Ledger, tables: StoreTables, origin: Origin) -> None:
        self._rows, self._ledger, self._tables, self._origin = rows, ledger, tables, origin
        self.followed: list[tuple[int, str, Record]] = []
        """The saved documents of collections with indexes."""
        self.declared: set[int] = set()
        """The numbers of collections whose schema was written."""
        self.opened: Texts | None = None
        """The texts and lists that were opened or grew; None if no document had one."""
        self.released: set[bytes] = set()
        """The contents of attachments that lost a reference."""
        self._saved_bytes = 0
        """Of the row of the document that was saved last."""

    @property
    def texts(self) -> Texts:
        """The texts and lists of this commit."""
        if self.opened is None:
            self.opened = Texts(self._tables, self._rows.scan, self._origin.sequences, self._origin.session.tag)
        return self.opened

    @property
    def contents(self) -> Contents:
        """The contents of attachments as this commit sees and changes them."""
        rows = self._rows
        return Contents(rows.get, rows.scan, lambda: rows.changes, self._origin.draw, self.released)

    def savepoint(self) -> Callable[[], None]:
        """Return a function that undoes later changes, except those of rows and ledger."""
        followed = len(self.followed)

        def rollback() -> None:
            del self.followed[followed:]
            if self.opened is not None:
                self.opened.opened.clear()  # what failed may have changed one of them

        return rollback

    # Saving

    def save(self, name: str, doc_id: str, before: Record, after: State, residue: DotSet) -> None:
        """Save a document in place of its old state: row, dot log, feed, history and counts."""
        ledger, raw = self._ledger, doc_id.encode()
        collection = ledger.collection(name)
        rest = uncovered(residue, ledger.root.clock) if residue else EMPTY
        if not before.seq and doc_id[0] != "_":
            dot = after.written_once()
            if dot is not None:
                self._save_new(name, raw, dot, after, rest)
                return
        number = collection.number
        ledger.log_changed(before.stored, after, keys.place(number, raw))
        counted = totals(before.stored)  # before its history goes: that says which of its leaves is hidden
        self._refer(number, raw, before.state, after)  # first: what this needs, nothing that goes may take along
        if before.seq:
            self._remove_last(number, raw, before, after)
        self._put_history(number, raw, before.state, after)
        seq = 0 if doc_id.startswith(LOCAL) else collection.seq + 1
        stored = after
        if after.journals:
            stored = self.texts.put_updates(self._rows.changes, name, (number, raw), before.state, after)
        self._put_row(number, raw, seq, stored, rest)
        ledger.await_collection(number, raw, after)
        if not seq:
            return
        if is_counted(doc_id):
            collection = collection.changed(raw, counted, after, seq)
        else:
            collection = replace(collection, seq=seq)
            self.declared.add(number)  # what isn't counted and has a row in the feed is the schema
        ledger.root = ledger.root.counting(name, collection)
        ledger.touched.add(name)
        self._follow(number, doc_id, Record.of(seq, stored))

    def _save_new(self, name: str, raw: bytes, dot: Dot, after: State, rest: DotSet) -> None:
        """Save a document with one write under an id without a document."""
        ledger = self._ledger
        collection = ledger.root.collections[name]
        row = encode_record(collection.seq + 1, after, rest, self._tables)
        self._saved_bytes = len(row)
        self._put_new(collection, keys.document(collection.number, raw), dot, row, after.bodies[dot].text)
        ledger.root = ledger.root.counting(name, collection.changed(raw, NONE, after, collection.seq + 1))
        ledger.touched.add(name)
        self._follow(collection.number, raw.decode(), Record.of(0, after))

    def save_first(self, name: str, key: bytes, first: First, residue: DotSet) -> Record:
        """Save the first revision of a document, with one body, under a key where nothing was; return its record."""
        ledger = self._ledger
        root = ledger.root
        collection, clock = root.collections[name], root.clock.add(first.dot)
        rest = EMPTY if residue is EMPTY or clock >= residue else residue
        row, record = first_record(collection.seq + 1, first, rest, clock, self._tables)
        raw = key[5:]
        if len(row) >= LARGE_DOCUMENT_BYTES:
            self._origin.large.note(name, raw.decode(), len(row), 1, self._origin.large.seconds())
        self._put_new(collection, key, first.dot, row, first.text)
        ledger.root = root.counting(name, collection.grown(raw, first.digest, len(first.text)), clock)
        ledger.touched.add(name)
        if ledger.indexing.indexes:
            self._follow(collection.number, raw.decode(), record)
        return record

    def _put_new(self, collection: CollectionStats, key: bytes, dot: Dot, row: bytes, text: bytes) -> None:
        """Put the rows of a document with one write, as most have. It has no history and no garbage."""
        rows, number, place = self._rows.changes, collection.number, key[1:]
        raw = place[4:]
        if may_have_attachments(text):
            self.contents.refer(number, raw, [text])
        rows[keys.log(self._tables.actor_number(dot.actor), dot.counter)] = place
        rows[key] = row
        rows[keys.change(number, collection.seq + 1)] = raw

    def _put_row(self, number: int, raw: bytes, seq: int, stored: State, rest: DotSet) -> None:
        """Put a document's row and that of its change; without a seq it has none in the feed."""
        rows, key = self._rows.changes, keys.document(number, raw)
        if stored.leaves or stored.bodies or stored.fields:
            encoded = rows[key] = encode_record(seq, stored, rest, self._tables)
            self._saved_bytes = len(encoded)
            if seq:
                rows[keys.change(number, seq)] = raw
        else:
            rows[key] = None
            self._saved_bytes = 0
            self._rows.remove(keys.journals(number, raw))

    def _put_history(self, number: int, raw: bytes, before: State, after: State) -> None:
        """Put the rows of the revisions that a write replaces; of a local record, remove the rows that are never served."""
        rows = self._rows
        history = HistoryRows(keys.history(number, raw), self._tables, rows.get)
        rows.changes.update(history.kept(before, after))
        rows.changes.update(history.kept_hidden(before, after))
        if raw.startswith(LOCAL.encode()):
            rows.changes.update(superseded(history, rows.scan, self._ledger.root.clock, after))

    def _remove_last(self, number: int, raw: bytes, before: Record, after: State) -> None:
        """Remove the row of a document's last change, and what it had before all of it was dropped."""
        self._rows.changes[keys.change(number, before.seq)] = None
        if before.stored is before.state:
            return
        if before.stored.leaves and not before.state.leaves:
            self._rows.remove(keys.history(number, raw))
            bodies = [*before.state.bodies.values(), *after.bodies.values()]
            self.contents.keep_only(number, raw, (body.text for body in bodies))
        for address, journal in before.stored.journals.items():
            living = before.state.journals.get(address)
            if living is None:
                self._rows.remove(keys.journal(keys.journals(number, raw), address))
            elif living is not journal:
                self._rows.changes.update(self.texts.journal(number, raw, address).removed(living))

    def _refer(self, number: int, raw: bytes, before: State, after: State) -> None:
        """Record the attachment contents of new bodies."""
        texts = [body.text for dot, body in after.bodies.items() if dot not in before.bodies]
        if any(map(may_have_attachments, texts)):
            self.contents.refer(number, raw, texts)

    def note_size(self, name: str, doc_id: str, after: State, began: float) -> None:
        """Record the size of the last saved document, and the seconds since `began`."""
        updates = sum(len(content) for journal in after.journals.values() for content in journal.contents())
        self._origin.large.note(name, doc_id, self._saved_bytes + updates, len(after.leaves), began)

    # Collection

    def shrink(self, name: str, doc_id: str, before: Record, after: State) -> None:
        """Save a document after garbage collection. That is no change: its row in the feed stays as it is."""
        number, raw = self._ledger.collection(name).number, doc_id.encode()
        self._ledger.log(set(before.stored.dots()) - set(after.dots()), None)
        large = self._origin.large
        for address in before.state.journals.keys() - after.journals.keys():
            self._rows.remove(keys.journal(keys.journals(number, raw), address))
        if after.leaves or after.bodies or after.fields:
            history = HistoryRows(keys.history(number, raw), self._tables, self._rows.get)
            self._rows.changes.update(history.kept(before.state, after))
            stored = replace(after, journals={address: at_rest(root) for address, root in after.journals.items()})
            row = encode_record(before.seq, stored, EMPTY, self._tables)
            self._rows.changes[keys.document(number, raw)] = row
            large.note(name, doc_id, len(row), len(after.leaves), large.seconds())
        else:
            self._remove_whole(name, doc_id, before)
            large.note(name, doc_id, 0, 0, large.seconds())

    def _remove_whole(self, name: str, doc_id: str, before: Record) -> None:
        """Remove all rows of a document after the collection of its whole state."""
        rows, ledger, raw = self._rows, self._ledger, doc_id.encode()
        collection = ledger.collection(name)
        number = collection.number
        rows.changes[keys.document(number, raw)] = None
        rows.remove(keys.history(number, raw))
        if rows.has_any(keys.journals(number, b"")[:5]):
            rows.remove(keys.journals(number, raw))
        if rows.has_any(keys.references(number, b"")[:5]):
            self.contents.keep_only(number, raw, ())
        if before.seq:
            rows.changes[keys.change(number, before.seq)] = None
        counted = is_counted(doc_id) and bool(before.stored.leaves)
        newest = max((leaf.stamp for leaf in before.state.leaves.values()), default=0)
        sweep = min(max(collection.sweep, newest, 0), SWEEP_MAX)
        ledger.root = ledger.root.counting(name, replace(collection, deleted=collection.deleted - counted, sweep=sweep))

    # Indexes

    def _follow(self, number: int, doc_id: str, after: Record) -> None:
        """Record a document for the indexes. They are updated at the end of the commit, since it may change once more."""
        if doc_id[0] == "_":
            if is_design(doc_id):
                self.followed.append((number, doc_id, after))
        elif self._ledger.indexing.indexes.get(number) and is_indexed(doc_id):
            self.followed.append((number, doc_id, after))

    def shown(self, number: int, doc_id: str, record: Record) -> dict[str, object] | None:
        """Return the value of a document for indexes, None if it is deleted."""
        return shown(doc_id, record, partial(self.look, number, doc_id.encode()))

    def look(self, number: int, raw: bytes, address: Address, journal: Journal, _: bytes) -> Sequence:
        """Return a text or list to be read."""
        return self.texts.look((number, raw, address), journal)


def uncovered(context: DotSet, clock: DotSet) -> DotSet:
    """Return the actors of a context of which the clock doesn't cover all, with all their ranges.

    Not the difference: a clock with many gaps would leave as many ranges beside every document.
    """
    return DotSet({actor: ranges for actor, ranges in context.items() if not clock >= DotSet({actor: ranges})})
