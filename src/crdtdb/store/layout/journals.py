"""Rows of texts and lists: one per update, and a snapshot of folded updates.

A keystroke adds a row of its own size, independent of the text's. Beyond some hundreds of rows all are folded into a snapshot;
the newest stay beside it for a while, so that a peer that lacks a few gets these and not the whole text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from zlib import crc32

from crdtdb.backends import Reader
from crdtdb.canonical_json import load
from crdtdb.causality import EMPTY, Actor, Dot, DotSet
from crdtdb.crdts import (
    Address,
    Creations,
    Journal,
    Place,
    Sequence,
    Snapshot,
    Strand,
    Update,
    Vector,
    join_vectors,
    joined_vector,
    kind_of,
    within,
)
from crdtdb.documents.given import place
from crdtdb.limits import JOURNAL_UPDATES_KEPT, JOURNAL_UPDATES_MAX
from crdtdb.store.layout import keys
from crdtdb.store.layout.batch import Rows
from crdtdb.store.layout.records import Past, StoreTables
from crdtdb.store.layout.rows import decode_row, encode_row
from crdtdb.wire.elements import vector_in, vector_out

Scan = Callable[[bytes, bytes], Iterator[tuple[bytes, bytes]]]
_FOLD_ONE_IN = 256
_NOBODY: Creations = frozenset()


class JournalRows(NamedTuple):
    """One journal in a store: where its rows begin, and how to read them."""

    key: bytes
    tables: StoreTables
    scan: Scan

    @classmethod
    def of(cls, rows: Reader, tables: StoreTables, number: int, raw: bytes, address: Address) -> JournalRows:
        """Return a journal as a reader of rows sees it."""
        return cls(keys.journal(keys.journals(number, raw), address), tables, rows.scan)

    def all(self, creations: Creations = _NOBODY) -> Journal:
        """Return everything that the store has of the journal. `creations` are those of the rows that name none."""
        snapshots, updates = [], {}
        vectors: dict[Creations, Vector] = {}
        for key, value in self.scan(*keys.rest(self.key)):
            tail = key[len(self.key) :]
            if tail[:1] == b"0":
                snapshots.append(snapshot := self._snapshot(value))
                held, reached = snapshot.creations or creations, snapshot.vector
            else:
                dot = self._dot(tail)
                update = updates[dot] = self._update(value)
                held, reached = update.creations or creations, {dot.actor: dot.counter}
            vectors[held] = join_vectors(vectors.get(held, {}), reached)
        strands = {held: Strand(vector) for held, vector in vectors.items()} if vectors.keys() - {creations} else {}
        return Journal(joined_vector(vectors.values()), creations, updates, tuple(snapshots), strands)

    def living(self, journal: Journal) -> Journal:
        """Return everything that the store has of a journal, without what was written under dropped creations."""
        held, strands = self.all(journal.creations), journal.all_strands()
        return held.living(strands.__contains__) or Journal({}, journal.creations)

    def contents(self, journal: Journal) -> tuple[list[bytes], Vector]:
        """Return the contents to apply, those that the snapshots have left out, and the vector they lead to.

        No more than the journal's vector covers, unless that is folded into a snapshot already.
        """
        return _unfolded(self.living(journal), journal.vector)

    def then(self, seen: DotSet) -> list[bytes] | None:
        """Return the contents that a set of dots covers, None if they are folded with others."""
        held = self.all()
        if not all(
            within(snapshot.vector, {actor: seen.highest(actor) for actor in snapshot.vector})
            for snapshot in held.snapshots
        ):
            return None
        return _unfolded(held, {actor: seen.highest(actor) for actor in held.vector})[0]

    def lacking(self, journal: Journal, theirs: DotSet, missing: DotSet) -> Journal:
        """Return the journal with what a receiver lacks whose clock is `theirs`: the updates alone, if they connect."""
        updates: dict[Dot, Update] = {}
        strands = journal.all_strands()
        for held in sorted(strands, key=len, reverse=True):  # what lives longer first: the others name it
            for actor, highest in strands[held].vector.items():
                if Dot(actor, highest) in theirs:
                    continue
                chain: dict[Dot, Update] = {}
                last = 0
                for dot, update in self._updates(actor, missing):
                    if (update.creations or journal.creations) != held:
                        continue
                    if update.after == 0 or Dot(actor, update.after) in theirs:
                        chain = {}  # who holds an update holds all before it
                    elif update.after != last and Dot(actor, update.after) not in updates:
                        return self.whole(journal)
                    chain[dot], last = update, dot.counter
                if last != highest:
                    return self.whole(journal)
                updates.update(chain)
        return journal._replace(updates=updates, snapshots=())

    def whole(self, journal: Journal) -> Journal:
        """Return the journal with all that is in it."""
        held = self.living(journal)
        return journal._replace(updates=_not_folded(held), snapshots=held.snapshots)

    def since(self, journal: Journal, told: Vector) -> Journal:
        """Return the journal with the updates after a vector; with none if they don't connect with it."""
        updates: dict[Dot, Update] = {}
        for actor, highest in journal.vector.items():
            at = told.get(actor, 0)
            if at < highest:
                updates.update(self._living_updates(journal, actor, at + 1, highest))
        return journal._replace(updates=updates, snapshots=())

    def newest(self, journal: Journal, dot: Dot) -> Journal:
        """Return the journal with one update, if it is there."""
        updates = self._living_updates(journal, dot.actor, dot.counter, dot.counter)
        return journal._replace(updates=updates, snapshots=())

    def write(self, journal: Journal) -> Rows:
        """Return the rows of what came along with a journal."""
        rows: Rows = {self.key_of(dot): self.row_of(update) for dot, update in journal.updates.items()}
        if journal.snapshots:
            held = self.all()
            for creations in {snapshot.creations for snapshot in journal.snapshots}:
                parts = [one for one in (*held.snapshots, *journal.snapshots) if one.creations == creations]
                contents = [part.content for part in parts]
                content = contents[0] if len(contents) == 1 else Sequence.joined(*contents)
                rows.update(
                    self.snapshot_row(Snapshot(joined_vector(part.vector for part in parts), content, creations))
                )
        return rows

    def row_of(self, update: Update) -> bytes:
        """Write an update."""
        return encode_row([update.after, update.content, *self._number_of(update.creations)])

    def size(self) -> int:
        """Return how many bytes the rows of the journal have."""
        return sum(len(value) for _, value in self.scan(*keys.rest(self.key)))

    def removed(self, journal: Journal) -> Rows:
        """Return the rows that remove what the journal hasn't any more, since all its creations were dropped."""
        rows: Rows = {}
        strands = journal.all_strands()
        for key, value in self.scan(*keys.rest(self.key)):
            of_snapshot = key[len(self.key) :][:1] == b"0"
            creations = self._snapshot(value).creations if of_snapshot else self._update(value).creations
            if (creations or journal.creations) not in strands:
                rows[key] = None
        return rows

    def fold(self, kind_address: Address, journal: Journal) -> Rows:
        """Return the rows that fold the journal, none if there is little to fold."""
        held = self.living(journal)
        if len(held.updates) <= JOURNAL_UPDATES_MAX:
            return {}
        by_writer: dict[tuple[Actor, Creations | None], list[Dot]] = {}
        for dot in sorted(held.updates, key=lambda dot: dot.counter):
            by_writer.setdefault((dot.actor, held.updates[dot].creations), []).append(dot)
        rows: Rows = {}
        for dots in by_writer.values():
            rows.update(dict.fromkeys((self.key_of(dot) for dot in dots[:-JOURNAL_UPDATES_KEPT]), None))
        for creations, strand in held.all_strands().items():
            # What lives longer goes along: what is folded is to be whole, whatever is dropped before it.
            contents, _ = _unfolded(held.living(creations.__le__) or held, held.vector)
            folded = Sequence(kind_of(kind_address), contents).snapshot()
            own = None if creations == journal.creations else creations
            rows.update(self.snapshot_row(Snapshot(strand.vector, folded, own)))
        return rows

    def snapshot_row(self, snapshot: Snapshot) -> Rows:
        """Return the row of a snapshot."""
        number = self._number_of(snapshot.creations)
        vector = vector_out(snapshot.vector, self.tables.actor_number)
        return {keys.snapshot(self.key, *number): encode_row([vector, snapshot.content, *number])}

    def _number_of(self, creations: Creations | None) -> list[int]:
        return [self.tables.creations_number(creations)] if creations is not None else []

    def _updates(self, actor: Actor, dots: DotSet) -> list[tuple[Dot, Update]]:
        number = self.tables.known_actor_number(actor)
        found = []
        for first, last in dots.ranges(actor) if number is not None else ():
            start, stop = keys.update(self.key, number or 0, first), keys.update(self.key, number or 0, last + 1)
            for key, value in self.scan(start, stop):
                found.append((self._dot(key[len(self.key) :]), self._update(value)))
        return found

    def _living_updates(self, journal: Journal, actor: Actor, first: int, last: int) -> dict[Dot, Update]:
        strands, found = journal.all_strands(), self._updates(actor, DotSet({actor: ((first, last),)}))
        return {dot: update for dot, update in found if (update.creations or journal.creations) in strands}

    def _update(self, value: bytes) -> Update:
        after, content, *creations = decode_row(value)
        return Update(after, content, *map(self.tables.creations, creations))

    def _dot(self, tail: bytes) -> Dot:
        return Dot(self.tables.actor(int.from_bytes(tail[1:5], "big")), int.from_bytes(tail[5:], "big"))

    def key_of(self, dot: Dot) -> bytes:
        """Return the key of an update."""
        return keys.update(self.key, self.tables.actor_number(dot.actor), dot.counter)

    def _snapshot(self, value: bytes) -> Snapshot:
        vector, content, *creations = decode_row(value)
        return Snapshot(vector_in(vector, self.tables), content, *map(self.tables.creations, creations))


def _not_folded(held: Journal) -> Mapping[Dot, Update]:
    """Return the updates that no snapshot of their strand has."""
    folded = {snapshot.creations: snapshot.vector for snapshot in held.snapshots}
    return {
        dot: update
        for dot, update in held.updates.items()
        if dot.counter > folded.get(update.creations, {}).get(dot.actor, 0)
    }


def _unfolded(held: Journal, upto: Vector) -> tuple[list[bytes], Vector]:
    """Return the contents to apply up to a vector, and the vector they lead to."""
    chosen = {dot: one for dot, one in _not_folded(held).items() if dot.counter <= upto.get(dot.actor, 0)}
    reached = joined_vector(snapshot.vector for snapshot in held.snapshots)
    for dot in chosen:
        reached = join_vectors(reached, {dot.actor: dot.counter})
    return list(Journal(reached, _NOBODY, chosen, held.snapshots).contents()), reached


def value_then(past: Past, rows: Callable[[Address], JournalRows]) -> tuple[dict[str, Any], frozenset[Place]]:
    """Return the value of a replaced revision, with its texts and lists as they were.

    Those that have been folded with later updates are left out, and their paths are returned.
    """
    value: dict[str, Any] = load(past.text or b"{}")
    folded = set()
    for address in past.sequences:
        contents = rows(address).then(past.seen or EMPTY)
        if contents is None:
            folded.add(address.path)
        else:
            place(value, address.path, Sequence(kind_of(address), contents).value())
    return value, frozenset(folded)


def at_rest(journal: Journal) -> Journal:
    """Return a journal as a document's row has it: without what stands in rows of its own."""
    return journal._replace(updates={}, snapshots=()) if journal.updates or journal.snapshots else journal


def is_to_fold(journal: Journal) -> bool:
    """Whether to check if a journal has much to fold: a sample of its new updates decides, so none need be counted."""
    return bool(journal.snapshots) or any(
        crc32(b"%b%d" % (dot.actor, dot.counter)) % _FOLD_ONE_IN == 0 for dot in journal.updates
    )
