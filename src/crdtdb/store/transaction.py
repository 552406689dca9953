"""One commit while it is being made: rows and held values over what the backend has.

Several writers' work may go into one transaction, each behind a savepoint, so that one that fails leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from crdtdb.backends import Backend
from crdtdb.causality import EMPTY, Actor, Dot, DotSet
from crdtdb.crdts import (
    EMPTY_JOURNAL,
    NO_FIELDS,
    Address,
    heads,
)
from crdtdb.documents import NO_SCHEMA, Ancestor, Leaf, Rev, Schema, State, Write, shows
from crdtdb.documents.catalogue import Catalogue
from crdtdb.documents.fields import reading, sequences_shown, value_without_sequences
from crdtdb.documents.foreign import Read
from crdtdb.documents.schema import SCHEMA_ID, read_schema
from crdtdb.errors import CrdtdbError, NotFoundError, TooLargeError
from crdtdb.jsontext import canonical
from crdtdb.limits import DOCUMENT_LEAVES_MAX
from crdtdb.store import keys
from crdtdb.store.held import Collection, Held
from crdtdb.store.journals import at_rest, value_then
from crdtdb.store.records import (
    Record,
    StoreTables,
    decode_past,
    decode_record,
    encode_past,
    encode_record,
    encode_sweep,
    read_chain,
)
from crdtdb.store.sequences import OpenSequences
from crdtdb.store.texts import Texts
from crdtdb.wire.states import Older


class JunctionMissingError(CrdtdbError):
    """A received path continues a revision that isn't here. Ask again for the whole path."""


class Origin(NamedTuple):
    """What a store gives its transactions: who writes and at what time, the texts that are open, the schemas it has read."""

    actor: Actor
    stamp: Callable[[], int]
    observe: Callable[[int], None]
    sequences: OpenSequences
    schema: Callable[[str, int, Callable[[bytes], bytes | None]], Schema]


class Written(NamedTuple):
    """A document after a write, and the dot of the leaf that the write made; None if it changed nothing."""

    state: State
    dot: Dot | None


class Transaction:
    """Reads see what the transaction wrote. Nothing reaches the backend until the committer writes `rows`."""

    def __init__(self, backend: Backend, held: Held, tables: StoreTables, origin: Origin) -> None:
        self._backend, self._tables, self._origin = backend, tables, origin
        self.held = held
        self.rows: dict[bytes, bytes | None] = {}
        self._kept: dict[bytes, bytes | None] = {}
        self.touched: set[str] = set()
        """The collections whose changes feed has new rows."""
        self.written: list[tuple[str, str]] = []
        """The documents that were written here, not received: what a rumor is made of."""
        self.swept: list[int] = []
        self.declared: set[int] = set()
        """The numbers of collections whose schema was written."""
        self.texts = Texts(tables, self._scan, origin.sequences, origin.actor)
        self.named = False
        """Whether a collection was made or dropped here, not received."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key as this transaction sees it."""
        if key in self.rows:
            return self.rows[key]
        if key in self._kept:
            return self._kept[key]
        return self._backend.get(key)

    def savepoint(self) -> Callable[[], None]:
        """Keep what was written so far; return what takes the transaction back to here."""
        self._kept.update(self.rows)
        self.rows = {}
        held, touched, written, swept = self.held, set(self.touched), len(self.written), len(self.swept)
        named = self.named

        def rollback() -> None:
            self.rows = {}
            self.held, self.touched, self.named = held, touched, named
            del self.written[written:], self.swept[swept:]
            self.texts.opened.clear()  # what failed may have changed one of them

        return rollback

    def all_rows(self) -> dict[bytes, bytes | None]:
        """Return every row of the transaction."""
        if not self._kept:
            return self.rows
        self._kept.update(self.rows)
        self.rows = {}
        return self._kept

    # Collections

    def collection(self, name: str) -> Collection:
        """Return a collection that exists. Raises NotFoundError."""
        found = self.held.collections.get(name)
        if found is None:
            raise NotFoundError(f"there is no collection {name!r}")
        return found

    def create(self, name: str) -> bool:
        """Make a collection if it doesn't exist; return whether it didn't."""
        if name in self.held.names:
            return False
        dot = self._next_dot()
        self.advance(DotSet.of([dot]))
        self.set_catalogue(self.held.catalogue.created(name, dot))
        self.named = True
        return True

    def drop(self, name: str) -> None:
        """Drop a collection with all its documents. Raises NotFoundError."""
        self.collection(name)
        dot = self._next_dot()
        self.advance(DotSet.of([dot]))
        self.set_catalogue(self.held.catalogue.dropped(name, dot))
        self.named = True

    def set_catalogue(self, catalogue: Catalogue) -> None:
        """Take over a catalogue: number what is new in it, and leave what is gone to the sweep."""
        before = self.held
        collections, next_number = dict(before.collections), before.next_number
        for name, creations in before.names.items():
            now = catalogue.names.get(name)
            if now is None:
                number = collections.pop(name).number
                self.rows[keys.counts(number)] = None
                self._sweep(number, None)
            elif creations - now:
                self._sweep(collections[name].number, name)
        for name in catalogue.names:
            if name not in collections:
                collections[name] = Collection(next_number)
                next_number += 1
                self.touched.add(name)
        gone, new = set(before.catalogue.dots()), set(catalogue.dots())
        self._log(gone - new, None)
        self._log(new - gone, b"")
        clock = before.clock | DotSet.of(new)
        self.held = Held(clock, catalogue.names, catalogue.marks, catalogue.context - clock, collections, next_number)

    def _sweep(self, number: int, name: str | None) -> None:
        self.rows[keys.sweep(number)] = encode_sweep(name, b"")
        self.swept.append(number)

    # Documents

    def load(self, name: str, doc_id: str) -> Record:
        """Return a document, or an empty one with the context that says what was here before."""
        collection = self.held.collections.get(name)
        if collection is None:
            return self._never()
        raw = doc_id.encode()
        value = self.get(keys.document(collection.number, raw))
        if value is None:
            return self._never()
        history = keys.history(collection.number, raw)
        record = decode_record(value, self.held.clock, self._tables, self.get, history)
        living = self.held.living(name, record.state)
        return record if living is record.state else record._replace(state=living)

    def older(self, name: str, doc_id: str) -> Older:
        """Return what reads the ancestors of a document's revisions, for a path that came without them."""

        def reader(rev: Rev) -> Callable[[], Iterable[Ancestor]]:
            def read() -> Iterable[Ancestor]:
                collection = self.held.collections.get(name)
                if collection is None:
                    return ()
                history = keys.history(collection.number, doc_id.encode())
                return read_chain(self.get, self._tables, history, rev)

            return read

        return reader

    def _never(self) -> Record:
        empty = State({}, {}, NO_FIELDS, self.held.clock)
        return Record(0, empty, EMPTY, empty)

    def write(self, name: str, doc_id: str, change: Callable[[State, Write], State]) -> Written:
        """Apply one local write to a document of a collection, which is made if need be.

        Raises whatever `change` raises, and TooLargeError beyond the limit of leaves.
        """
        self.create(name)
        before = self.load(name, doc_id)
        actor = self._origin.actor
        counter = self.held.clock.highest(actor)
        number = self.held.collections[name].number
        write = Write(
            doc_id,
            actor,
            counter,
            self._origin.stamp(),
            self.held.names[name],
            schema=self.schema(name) if doc_id != SCHEMA_ID else NO_SCHEMA,
            open_sequence=partial(self.texts.open, number, doc_id.encode()),
        )
        after = change(before.state, write)
        if after is before.state:
            return Written(after, None)
        if len(after.leaves) > DOCUMENT_LEAVES_MAX:
            raise TooLargeError(
                f"document {doc_id!r} would have {len(after.leaves)} leaves, the limit is {DOCUMENT_LEAVES_MAX}: "
                "resolve its conflicts first"
            )
        self.texts.check_size(number, doc_id.encode(), after, write)
        if before.residue:
            self.advance(DotSet({actor: ((counter + 1, write.counter),)}))
        else:  # the document's context is the node clock, before and after
            self.held = self.held.at(after.context)
        self.save(name, doc_id, before, after, before.residue)
        self.texts.leave(number, doc_id.encode(), after, write)
        self.written.append((name, doc_id))
        return Written(after, write.dot)

    def save(self, name: str, doc_id: str, before: Record, after: State, residue: DotSet) -> None:
        """Put a document in the place of what was there: its row, its log, its feed, its past and the counts."""
        collection, raw = self.collection(name), doc_id.encode()
        held, living = set(before.stored.dots()), set(after.dots())
        if held:
            self._log(held - living, None)
        self._log(living - held, keys.place(collection.number, raw))
        if before.seq:
            self.rows[keys.change(collection.number, before.seq)] = None
            if before.stored.leaves and not before.state.leaves:
                self._forget(keys.history(collection.number, raw))
            for address in before.stored.journals.keys() - before.state.journals.keys():
                self._forget(keys.journal(keys.journals(collection.number, raw), address))
        self._keep_history(collection.number, raw, before.state, after)
        seq = collection.seq + 1
        row = keys.document(collection.number, raw)
        for address, journal in after.journals.items():
            if journal.updates or journal.snapshots:
                slot = (collection.number, raw, address)
                self.rows.update(
                    self.texts.keep(slot, name, before.state.journals.get(address, EMPTY_JOURNAL), journal)
                )
        if after.leaves or after.bodies or after.fields:
            stored = after._replace(journals={one: at_rest(held) for one, held in after.journals.items()})
            self.rows[row] = encode_record(seq, stored, uncovered(residue, self.held.clock), self._tables)
            self.rows[keys.change(collection.number, seq)] = raw
        else:
            self.rows[row] = None
            self._forget(keys.journals(collection.number, raw))
        if doc_id == SCHEMA_ID:
            self.declared.add(collection.number)
        counted = doc_id != SCHEMA_ID
        was_live, is_live = counted and shows(before.stored), counted and shows(after)
        was_gone = counted and bool(before.stored.leaves) and not was_live
        is_gone = counted and bool(after.leaves) and not is_live
        counts = Collection(
            collection.number,
            collection.documents + is_live - was_live,
            collection.deleted + is_gone - was_gone,
            seq,
        )
        self.held = self.held.counting(name, counts)
        self.touched.add(name)

    def fold(self, name: str, doc_id: str, address: Address) -> None:
        """Fold a journal that has much to fold. What it holds stays the same."""
        collection = self.held.collections.get(name)
        if collection is not None and address in self.load(name, doc_id).state.journals:
            self.rows.update(self.texts.journal(collection.number, doc_id.encode(), address).fold(address))

    def _scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield a range as this transaction sees it."""
        rows: dict[bytes, bytes | None] = dict(self._backend.scan(start, stop))
        for written in (self._kept, self.rows):
            rows.update((key, value) for key, value in written.items() if start <= key < stop)
        for key in sorted(rows):
            value = rows[key]
            if value is not None:
                yield key, value

    def history(self, name: str, doc_id: str) -> tuple[Callable[[Rev], bool], Callable[[Rev], Read | None]]:
        """Return what tells whether a replaced revision of a document is known, and what reads one as its author did."""
        collection = self.held.collections.get(name)
        if collection is None:
            return (lambda _: False), (lambda _: None)
        history = keys.history(collection.number, doc_id.encode())

        def known(rev: Rev) -> bool:
            return self.get(keys.revision(history, *rev)) is not None

        def read(rev: Rev) -> Read | None:
            key = keys.revision(history, *rev)
            value = self.get(key)
            past = decode_past(key, value, history, self._tables) if value is not None else None
            if past is None or past.text is None or past.seen is None:
                return None
            rows = partial(self.texts.journal, collection.number, doc_id.encode())
            found, folded = value_then(past, rows)
            return Read(canonical(found), past.seen, folded)

        return known, read

    def schema(self, name: str) -> Schema:
        """Return the schema of a collection."""
        number = self.held.collections[name].number
        if number in self.declared:
            return read_schema(self.load(name, SCHEMA_ID).state)
        return self._origin.schema(name, number, self.get)

    def observe(self, stamp: int) -> None:
        """Let the clock of this store's stamps follow one made elsewhere."""
        self._origin.observe(stamp)

    def advance(self, dots: DotSet) -> None:
        """Count these dots as held: their effect is here."""
        self.held = self.held.at(self.held.clock | dots)

    def _keep_history(self, number: int, raw: bytes, before: State, after: State) -> None:
        """Write a row for each revision that is no leaf any more, and for the ancestors that came with a new one."""
        history = keys.history(number, raw)
        for dot, leaf in before.leaves.items():
            if dot not in after.leaves:
                key = keys.revision(history, *leaf.rev)
                body = before.bodies.get(leaf.body_dot)
                text = None if leaf.deleted or body is None else body.text
                if text is not None or self._text_of(key, history) is None:
                    value = self._value_of(before, leaf, text)
                    self.rows[key] = encode_past(leaf.path.parent, self._tables, leaf.deleted, leaf.stamp, dot, *value)
        for dot, leaf in after.leaves.items():
            if dot not in before.leaves:
                self._keep_path(history, leaf, after)

    def _value_of(
        self, before: State, leaf: Leaf, text: bytes | None
    ) -> tuple[bytes | None, DotSet | None, list[Address]]:
        """Return the value of a revision that is being replaced, what its author had seen, and its texts and lists.

        Of these the journals keep what they were: reading them here would cost each keystroke as much as they are long. If the
        fields have changed since the revision was written, its body is all that is known.
        """
        if not before.fields:
            return text, EMPTY, []
        if text is None or not all(head in leaf.clock for head in heads(before.fields)):
            return text, None, []
        draft = reading(before.fields, before.journals)
        return value_without_sequences(text, draft), leaf.clock, sequences_shown(draft)

    def _keep_path(self, history: bytes, leaf: Leaf, after: State) -> None:
        """Write the rows of a path as far as none are there."""
        known = leaf.path.known
        for back, step in enumerate(known):
            rev = Rev(leaf.rev.generation - 1 - back, step.digest)
            key = keys.revision(history, *rev)
            if self.get(key) is not None:
                return
            if back + 1 < len(known):
                parent: Ancestor | None = known[back + 1]
            elif leaf.path.complete:
                parent = None
            else:
                # What follows is expected to be here; a leaf that stays, hidden, has no row of its own yet.
                twin = next((other for other in after.leaves.values() if other.rev == rev), None)
                if twin is None:
                    raise JunctionMissingError(f"the ancestors of {rev} aren't here")
                parent = twin.path.parent
            self.rows[key] = encode_past(parent, self._tables, dot=step.dot)

    def _forget(self, beginning: bytes) -> None:
        for key, _ in self._backend.scan(*keys.rest(beginning)):
            self.rows[key] = None
        for key in [key for key in self.rows if key.startswith(beginning)]:
            self.rows[key] = None

    def _text_of(self, key: bytes, history: bytes) -> bytes | None:
        value = self.get(key)
        return decode_past(key, value, history, self._tables).text if value is not None else None

    def _log(self, dots: Iterable[Dot], value: bytes | None) -> None:
        for actor, counter in dots:
            self.rows[keys.log(self._tables.actor_number(actor), counter)] = value

    def _next_dot(self) -> Dot:
        return Dot(self._origin.actor, self.held.clock.highest(self._origin.actor) + 1)


def uncovered(context: DotSet, clock: DotSet) -> DotSet:
    """Return the actors of a context of which the clock doesn't cover all, with all their ranges.

    Not the difference: a clock with many gaps would leave as many ranges beside every document.
    """
    return DotSet({actor: ranges for actor, ranges in context.items() if not clock >= DotSet({actor: ranges})})
