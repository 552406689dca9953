"""The rows of texts and lists: one for each update, and one for a snapshot of those that were folded.

A keystroke adds a row of its own size, whatever the text's. Beyond some hundreds of rows all are folded into a snapshot; the
newest stay beside it for a while, so that a peer that lacks a few gets these and not the whole text.
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
    Journal,
    Place,
    Sequence,
    Snapshot,
    Update,
    Vector,
    join_vectors,
    kind_of,
    within,
)
from crdtdb.documents.fields import place
from crdtdb.limits import JOURNAL_UPDATES_KEPT, JOURNAL_UPDATES_MAX
from crdtdb.store.layout import keys
from crdtdb.store.layout.batch import Rows
from crdtdb.store.layout.records import Past, StoreTables
from crdtdb.store.layout.rows import decode_row, encode_row
from crdtdb.wire.states import vector_in, vector_out

Scan = Callable[[bytes, bytes], Iterator[tuple[bytes, bytes]]]
_FOLD_ONE_IN = 256


class JournalRows(NamedTuple):
    """One journal in a store: where its rows begin, and how to read them."""

    key: bytes
    tables: StoreTables
    scan: Scan

    @classmethod
    def of(cls, rows: Reader, tables: StoreTables, number: int, raw: bytes, address: Address) -> JournalRows:
        """Return a journal as a reader of rows sees it."""
        return cls(keys.journal(keys.journals(number, raw), address), tables, rows.scan)

    def all(self) -> Journal:
        """Return everything that the store has of the journal."""
        snapshots, updates = [], {}
        vector: Mapping[Actor, int] = {}
        for key, value in self.scan(*keys.rest(self.key)):
            tail = key[len(self.key) :]
            if tail == b"0":
                snapshots.append(self._snapshot(value))
                vector = join_vectors(vector, snapshots[0].vector)
            else:
                dot = self._dot(tail)
                after, content = decode_row(value)
                updates[dot] = Update(after, content)
                vector = join_vectors(vector, {dot.actor: dot.counter})
        return Journal(vector, frozenset(), updates, tuple(snapshots))

    def contents(self, upto: Vector | None = None) -> tuple[list[bytes], Vector]:
        """Return the contents to apply, those that the snapshot has left out, and the vector they lead to.

        With `upto` no more than a vector covers, unless that is folded into the snapshot already.
        """
        held = self.all()
        base = held.snapshots[0].vector if held.snapshots else {}
        chosen = {
            dot: update
            for dot, update in held.updates.items()
            if dot.counter > base.get(dot.actor, 0) and (upto is None or dot.counter <= upto.get(dot.actor, 0))
        }
        reached = base
        for dot in chosen:
            reached = join_vectors(reached, {dot.actor: dot.counter})
        return list(Journal(reached, frozenset(), chosen, held.snapshots).contents()), reached

    def then(self, seen: DotSet) -> list[bytes] | None:
        """Return the contents that somebody had seen, None if they are folded with others."""
        held = self.all()
        if not all(within(one.vector, {actor: seen.highest(actor) for actor in one.vector}) for one in held.snapshots):
            return None
        return self.contents({actor: seen.highest(actor) for actor in held.vector})[0]

    def lacking(self, journal: Journal, theirs: DotSet, missing: DotSet) -> Journal:
        """Return the journal with what a receiver lacks whose clock is `theirs`: the updates alone, if they connect."""
        updates: dict[Dot, Update] = {}
        for actor, highest in journal.vector.items():
            if Dot(actor, highest) in theirs:
                continue
            chain: dict[Dot, Update] = {}
            last = 0
            for dot, update in self._updates(actor, missing):
                if update.after == 0 or Dot(actor, update.after) in theirs:
                    chain = {}  # who holds an update holds all before it
                elif update.after != last:
                    return self.whole(journal)
                chain[dot], last = update, dot.counter
            if last != highest:
                return self.whole(journal)
            updates.update(chain)
        return journal._replace(updates=updates, snapshots=())

    def whole(self, journal: Journal) -> Journal:
        """Return the journal with all that is in it."""
        held = self.all()
        if not held.snapshots:
            return journal._replace(updates=held.updates, snapshots=())
        base = held.snapshots[0].vector
        rest = {dot: update for dot, update in held.updates.items() if dot.counter > base.get(dot.actor, 0)}
        return journal._replace(updates=rest, snapshots=held.snapshots)

    def since(self, journal: Journal, told: Vector) -> Journal:
        """Return the journal with the updates after a vector; with none if they don't connect with it."""
        updates: dict[Dot, Update] = {}
        for actor, highest in journal.vector.items():
            at = told.get(actor, 0)
            if at < highest:
                updates.update(self._updates(actor, DotSet({actor: ((at + 1, highest),)})))
        return journal._replace(updates=updates, snapshots=())

    def newest(self, journal: Journal, dot: Dot) -> Journal:
        """Return the journal with one update, if it is there."""
        return journal._replace(
            updates=dict(self._updates(dot.actor, DotSet({dot.actor: ((dot.counter, dot.counter),)}))), snapshots=()
        )

    def write(self, journal: Journal) -> Rows:
        """Return the rows of what came along with a journal."""
        rows: Rows = {
            self._key_of(dot): encode_row([update.after, update.content]) for dot, update in journal.updates.items()
        }
        if journal.snapshots:
            held = self.all()
            merged = Journal({}, frozenset(), {}, (*held.snapshots, *journal.snapshots))
            rows.update(self._snapshot_row(_joined(merged.snapshots), merged))
        return rows

    def size(self) -> int:
        """Return how many bytes the rows of the journal have."""
        return sum(len(value) for _, value in self.scan(*keys.rest(self.key)))

    def fold(self, kind_address: Address) -> Rows:
        """Return the rows that fold the journal, none if there is little to fold."""
        held = self.all()
        if len(held.updates) <= JOURNAL_UPDATES_MAX:
            return {}
        by_actor: dict[Actor, list[Dot]] = {}
        for dot in sorted(held.updates, key=lambda dot: dot.counter):
            by_actor.setdefault(dot.actor, []).append(dot)
        rows: Rows = {}
        for dots in by_actor.values():
            rows.update(dict.fromkeys((self._key_of(dot) for dot in dots[:-JOURNAL_UPDATES_KEPT]), None))
        contents, vector = self.contents()
        folded = Sequence(kind_of(kind_address), contents).snapshot()
        rows[keys.snapshot(self.key)] = encode_row([vector_out(vector, self.tables.actor_number), folded])
        return rows

    def _snapshot_row(self, vector: Vector, merged: Journal) -> Rows:
        contents = list(merged.contents())
        content = contents[0] if len(contents) == 1 else Sequence.joined(*contents)
        return {keys.snapshot(self.key): encode_row([vector_out(vector, self.tables.actor_number), content])}

    def _updates(self, actor: Actor, dots: DotSet) -> list[tuple[Dot, Update]]:
        number = self.tables.known_actor_number(actor)
        found = []
        for first, last in dots.ranges(actor) if number is not None else ():
            start, stop = keys.update(self.key, number or 0, first), keys.update(self.key, number or 0, last + 1)
            for key, value in self.scan(start, stop):
                after, content = decode_row(value)
                found.append((self._dot(key[len(self.key) :]), Update(after, content)))
        return found

    def _dot(self, tail: bytes) -> Dot:
        return Dot(self.tables.actor(int.from_bytes(tail[1:5], "big")), int.from_bytes(tail[5:], "big"))

    def _key_of(self, dot: Dot) -> bytes:
        return keys.update(self.key, self.tables.actor_number(dot.actor), dot.counter)

    def _snapshot(self, value: bytes) -> Snapshot:
        vector, content = decode_row(value)
        return Snapshot(vector_in(vector, self.tables), content)


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
    """Whether it is time to look if a journal has much to fold: by lot over its new updates, so nobody need count them."""
    return bool(journal.snapshots) or any(
        crc32(b"%b%d" % (dot.actor, dot.counter)) % _FOLD_ONE_IN == 0 for dot in journal.updates
    )


def _joined(snapshots: tuple[Snapshot, ...]) -> Vector:
    joined: Vector = {}
    for snapshot in snapshots:
        joined = join_vectors(joined, snapshot.vector)
    return joined
