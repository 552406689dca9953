"""Immutable root of the store: node clock, collections and their counts.

`StoreRoot` is one immutable value. A commit makes the next one and puts it in the place of the last when its rows are written,
so a reader sees what was committed and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

from msgspec import Struct

from crdtdb.backends import Reader
from crdtdb.causality import EMPTY, Dot, DotSet, Lineage, Lineages, Session
from crdtdb.crdts import Creations
from crdtdb.documents import Body, Leaf, State, Totals, totals
from crdtdb.documents.catalogue import Catalogue
from crdtdb.documents.local import LOCAL
from crdtdb.documents.schema import SCHEMA_ID
from crdtdb.store.layout import keys
from crdtdb.store.layout.records import StoreTables
from crdtdb.store.layout.rows import decode_row, encode_row
from crdtdb.wire.elements import dots_in, dots_out

NOBODY: Creations = frozenset()
_LIVE_MASK = (1 << 64) - 1
NO_LINEAGES = Lineages()


class CollectionStats(Struct, frozen=True, gc=False):
    """Local number and counts of a collection. `seq` is that of the last row in its changes feed.

    `sweep` is the highest stamp of a tombstone that was collected with its document: a new document gets another revision.
    """

    number: int
    documents: int = 0
    deleted: int = 0
    seq: int = 0
    sweep: int = 0
    conflicts: int = 0
    """Documents with more than one body, or a conflict of a field."""
    size: int = 0
    """Bytes of JSON in the visible bodies of all siblings."""
    live: int = 0
    """Sum over the live revisions of all documents, modulo 2^64: equal in two stores with equal views."""

    def row(self) -> list[int]:
        """Return what is kept under the collection's number."""
        return [self.documents, self.deleted, self.seq, self.sweep, self.conflicts, self.size, self.live]

    def changed(self, raw: bytes, old: Totals, after: State, seq: int) -> CollectionStats:
        """Return the counts after a document's change from the totals `old` to the state `after`, at `seq` in the feed."""
        new = totals(after)
        return CollectionStats(
            self.number,
            self.documents - old.live + new.live,
            self.deleted - old.deleted + new.deleted,
            seq,
            self.sweep,
            self.conflicts - old.conflicts + new.conflicts,
            self.size - old.size + new.size,
            (self.live + (new.revs - old.revs) * _place_number(raw)) & _LIVE_MASK,
        )

    def grown(self, raw: bytes, digest: bytes, size: int) -> CollectionStats:
        """Return the counts with one document more, which has a first revision and one body of this size."""
        return CollectionStats(
            self.number,
            self.documents + 1,
            self.deleted,
            self.seq + 1,
            self.sweep,
            self.conflicts,
            self.size + size,
            (self.live + (int.from_bytes(digest[:8], "big") + 1) * _place_number(raw)) & _LIVE_MASK,
        )


def _place_number(raw: bytes) -> int:
    """Return an odd number for an id, so that the same revisions in other documents have another sum."""
    return 2 * crc32(raw) + 1


def is_counted(doc_id: str) -> bool:
    """Whether a collection's counts include a document."""
    return doc_id != SCHEMA_ID and not doc_id.startswith(LOCAL)


class StoreRoot(Struct, frozen=True, gc=False):
    """Result of one commit. `residue` has the catalogue's dots beyond the node clock, `stable` the dots of every member.

    `lineages` are the sessions of the actors in the clock. `heard` has, for each actor, all dots that the context of a document
    may have beyond the node clock: up to the highest in the clock of a batch that was merged in part.
    """

    clock: DotSet
    names: Mapping[str, Creations]
    marks: frozenset[Dot]
    residue: DotSet
    collections: Mapping[str, CollectionStats]
    next_number: int
    stable: DotSet = EMPTY
    lineages: Lineages = NO_LINEAGES
    heard: DotSet = EMPTY

    def at(self, clock: DotSet) -> StoreRoot:
        """Return this with another node clock."""
        return StoreRoot(
            clock,
            self.names,
            self.marks,
            self.residue,
            self.collections,
            self.next_number,
            self.stable,
            self.lineages,
            self.heard,
        )

    def counting(self, name: str, counts: CollectionStats, clock: DotSet | None = None) -> StoreRoot:
        """Return this with other counts of one collection, and another node clock if one is given."""
        return StoreRoot(
            self.clock if clock is None else clock,
            self.names,
            self.marks,
            self.residue,
            {**self.collections, name: counts},
            self.next_number,
            self.stable,
            self.lineages,
            self.heard,
        )

    @property
    def reached(self) -> DotSet:
        """The node clock, with what contexts name beyond it. Only the highest dot of an actor matters, to compare lineages."""
        return self.clock | self.heard if self.heard else self.clock

    @property
    def catalogue(self) -> Catalogue:
        """The collections with their causal context."""
        return Catalogue(self.names, self.marks, self.clock | self.residue)

    def living(self, name: str, state: State) -> State:
        """Return what lives of a document's state; nearly always the state itself."""
        current = self.names.get(name, NOBODY)
        written: list[Leaf | Body] = [*state.leaves.values(), *state.bodies.values()]
        for one in written:
            if one.creations is not current and one.creations != current:
                break
        else:
            if not state.fields and not state.journals:
                return state
        return state.living(lambda creations: self.alive(name, creations))

    def alive(self, name: str, creations: Creations) -> bool:
        """Whether what was written under these creations still lives."""
        current = self.names.get(name, NOBODY)
        return creations is current or not creations.isdisjoint(current)


def read_root(rows: Reader, tables: StoreTables) -> StoreRoot:
    """Read it from a store, new or old."""
    clock, stable = _dots_at(rows, b"k", tables), _dots_at(rows, b"y", tables)
    lineages, heard = _lineages_at(rows, tables), _dots_at(rows, b"w", tables)
    encoded = rows.get(keys.CATALOGUE)
    if encoded is None:
        return StoreRoot(clock, {}, frozenset(), EMPTY, {}, 1, stable, lineages, heard)
    names, marks, residue, next_number = decode_row(encoded)
    collections = {}
    for name, _, number in names:
        counts = rows.get(keys.counts(number))
        collections[name] = CollectionStats(number, *(decode_row(counts) if counts is not None else ()))
    return StoreRoot(
        clock,
        {name: tables.creations(creations) for name, creations, _ in names},
        frozenset(Dot(tables.actors[actor], counter) for actor, counter in marks),
        dots_in(residue, tables),
        collections,
        next_number,
        stable,
        lineages,
        heard,
    )


def _lineages_at(rows: Reader, tables: StoreTables) -> Lineages:
    found = {}
    for key, value in rows.scan(*keys.rest(b"z")):
        known, *flat = decode_row(value)
        sessions = tuple(Session(first, tag) for first, tag in zip(flat[::2], flat[1::2], strict=True))
        found[tables.actors[int.from_bytes(key[1:], "big")]] = Lineage(sessions, known)
    return Lineages(found)


def lineage_row(lineage: Lineage) -> bytes:
    """Write an actor's lineage."""
    return encode_row([lineage.known, *(part for session in lineage.sessions for part in session)])


def _dots_at(rows: Reader, prefix: bytes, tables: StoreTables) -> DotSet:
    ranges = {}
    for key, value in rows.scan(*keys.rest(prefix)):
        flat = decode_row(value)
        ranges[tables.actors[int.from_bytes(key[1:], "big")]] = tuple(zip(flat[::2], flat[1::2], strict=True))
    return DotSet(ranges)


def root_rows(before: StoreRoot, after: StoreRoot, tables: StoreTables) -> dict[bytes, bytes | None]:
    """Return the rows that differ."""
    rows: dict[bytes, bytes | None] = {}
    if after.clock is not before.clock:
        _put_dots(rows, keys.clock, before.clock, after.clock, tables)
    if after.stable is not before.stable:
        _put_dots(rows, keys.stable, before.stable, after.stable, tables)
    if after.heard is not before.heard:
        _put_dots(rows, keys.heard, before.heard, after.heard, tables)
    if after.lineages is not before.lineages:
        for actor, lineage in after.lineages.items():
            if actor not in before.lineages or before.lineages.of(actor) != lineage:
                rows[keys.lineage(tables.actor_number(actor))] = lineage_row(lineage)
    if _is_renamed(before, after):
        rows[keys.CATALOGUE] = encode_row(_catalogue_out(after, tables))
    if after.collections is not before.collections:
        for name, counts in after.collections.items():
            if before.collections.get(name) is not counts:
                rows[keys.counts(counts.number)] = encode_row(counts.row())
    return rows


def _is_renamed(before: StoreRoot, after: StoreRoot) -> bool:
    """Whether the row of the catalogue differs. Nearly all commits keep its values, the same objects."""
    return (
        (after.names is not before.names and after.names != before.names)
        or (after.marks is not before.marks and after.marks != before.marks)
        or (after.residue is not before.residue and after.residue != before.residue)
        or after.next_number != before.next_number
    )


def _put_dots(
    rows: dict[bytes, bytes | None], key: Callable[[int], bytes], before: DotSet, after: DotSet, tables: StoreTables
) -> None:
    for actor, ranges in after.items():
        if before.ranges(actor) != ranges:
            rows[key(tables.actor_number(actor))] = encode_row([bound for pair in ranges for bound in pair])


def _catalogue_out(root: StoreRoot, tables: StoreTables) -> list[Any]:
    return [
        [
            [name, tables.creations_number(creations), root.collections[name].number]
            for name, creations in root.names.items()
        ],
        [[tables.actor_number(dot.actor), dot.counter] for dot in root.marks],
        dots_out(root.residue, tables.actor_number),
        root.next_number,
    ]
