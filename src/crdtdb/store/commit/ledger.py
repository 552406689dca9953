"""Collections, node clock and dot log of one commit, over its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from msgspec.structs import replace

from crdtdb.causality import Actor, Dot, DotSet, Lineages, Session
from crdtdb.documents import State
from crdtdb.documents.catalogue import Catalogue
from crdtdb.documents.garbage import has_garbage
from crdtdb.documents.local import LOCAL
from crdtdb.errors import NotFoundError, SystemCollectionError
from crdtdb.limits import SWEEP_MAX
from crdtdb.store.commit.schemas import Schemas
from crdtdb.store.large_documents import LargeDocuments
from crdtdb.store.layout import keys
from crdtdb.store.layout.batch import RowBatch
from crdtdb.store.layout.index_rows import Indexes, Indexing
from crdtdb.store.layout.records import StoreTables, encode_sweep
from crdtdb.store.open_sequences import OpenSequences
from crdtdb.store.root import CollectionStats, StoreRoot

SYSTEM = "system."
"""Prefix of the names of system collections."""


class Origin(NamedTuple):
    """Environment of a store's transactions: actor, clock, randomness, open texts and schemas."""

    actor: Actor
    draw: Callable[[int], bytes]
    stamp: Callable[[], int]
    observe: Callable[[int], None]
    sequences: OpenSequences
    schemas: Schemas
    session: Session
    """The session in which the actor writes: that of this store since it was opened, or since it took the actor."""
    large: LargeDocuments


class Ledger:
    """The root of a store as a commit changes it: node clock, catalogue, counts; and the log of live dots in its rows."""

    def __init__(self, rows: RowBatch, root: StoreRoot, tables: StoreTables, origin: Origin, indexes: Indexes) -> None:
        self.rows = rows
        self.indexing = Indexing(indexes)
        self._tables, self._origin = tables, origin
        self.root = root
        self.touched: set[str] = set()
        """The collections whose changes feed has new rows."""
        self.swept: list[int] = []
        """The numbers of collections with rows left to sweep."""
        self.named = False
        """Whether a collection was made or dropped here, not received."""
        self._seeding = False

    def savepoint(self) -> Callable[[], None]:
        """Return a function that undoes later changes, except those of rows."""
        root, touched, named, indexes = self.root, set(self.touched), self.named, self.indexing.indexes
        swept, dropped = len(self.swept), len(self.indexing.dropped)

        def rollback() -> None:
            self.root, self.touched, self.named, self.indexing.indexes = root, touched, named, indexes
            del self.swept[swept:], self.indexing.dropped[dropped:]

        return rollback

    # Collections

    @contextmanager
    def seeding(self) -> Iterator[None]:
        """Permit writes to system collections within the block; clients may only read them."""
        self._seeding = True
        try:
            yield
        finally:
            self._seeding = False

    def check_writable(self, name: str, doc_id: str = "") -> None:
        """Raise SystemCollectionError for a document that only the database itself writes."""
        if name.startswith(SYSTEM) and not self._seeding and not doc_id.startswith(LOCAL):
            raise SystemCollectionError(f"{name!r} is read-only: only the database itself writes it")

    def collection(self, name: str) -> CollectionStats:
        """Return a collection's counts. Raises NotFoundError."""
        found = self.root.collections.get(name)
        if found is None:
            raise NotFoundError(f"there is no collection {name!r}")
        return found

    def create(self, name: str) -> bool:
        """Create a collection if it doesn't exist; return whether it was created. Raises SystemCollectionError."""
        if name in self.root.names:
            return False
        self.check_writable(name)
        dot = self._next_dot()
        self.advance(DotSet.of([dot]))
        self.set_catalogue(self.root.catalogue.created(name, dot))
        self.named = True
        return True

    def drop(self, name: str) -> None:
        """Drop a collection with all its documents. Raises NotFoundError, SystemCollectionError."""
        self.collection(name)
        self.check_writable(name)
        dot = self._next_dot()
        self.advance(DotSet.of([dot]))
        self.set_catalogue(self.root.catalogue.dropped(name, dot))
        self.named = True

    def set_catalogue(self, catalogue: Catalogue) -> None:
        """Replace the catalogue: number new collections, and queue dropped ones for the sweep."""
        before = self.root
        collections, next_number = dict(before.collections), before.next_number
        for name, creations in before.names.items():
            now = catalogue.names.get(name)
            if now is None:
                number = collections.pop(name).number
                self.rows.changes[keys.counts(number)] = None
                self._sweep(number, None)
                self.indexing.drop_all(self.rows, number)
            elif creations - now:
                self._sweep(collections[name].number, name)
        for name in catalogue.names:
            if name not in collections:
                collections[name] = CollectionStats(next_number)
                next_number += 1
                self.touched.add(name)
        gone, new = set(before.catalogue.dots()), set(catalogue.dots())
        self.log(gone - new, None)
        self.log(new - gone, b"")
        clock = before.clock | DotSet.of(sorted(new))  # in one order: a clock travels as it was put together
        self.root = StoreRoot(
            clock,
            catalogue.names,
            catalogue.marks,
            catalogue.context - clock,
            collections,
            next_number,
            before.stable,
            before.lineages,
            before.heard,
        )

    def _sweep(self, number: int, name: str | None) -> None:
        self.rows.changes[keys.sweep(number)] = encode_sweep(name, b"")
        self.swept.append(number)

    def next_index(self) -> int:
        """Return a number for a new index or view."""
        number = self.root.next_number
        self.root = replace(self.root, next_number=number + 1)
        return number

    # What is held

    def learn_sweep(self, name: str, sweep: int) -> None:
        """Raise a collection's sweep stamp to that of another store."""
        collection = self.root.collections.get(name)
        sweep = min(sweep, SWEEP_MAX)
        if collection is not None and sweep > collection.sweep:
            self.root = self.root.counting(name, replace(collection, sweep=sweep))

    @property
    def actor(self) -> Actor:
        """The actor that the store writes as."""
        return self._origin.actor

    def learn_lineages(self, lineages: Lineages) -> None:
        """Replace the lineages by those joined with a peer's."""
        if lineages is not self.root.lineages:
            self.root = replace(self.root, lineages=lineages)

    def begin_session(self) -> bool:
        """Record the session of this store if it has written in it; return whether the session has begun."""
        actor, session = self._origin.actor, self._origin.session
        begun = self.root.clock.highest(actor) >= session.first
        if begun:
            self.learn_lineages(self.root.lineages.put(actor, self.root.lineages.of(actor).begun(session)))
        return begun

    def reach_cut(self, cut: DotSet) -> None:
        """Advance the stable cut: the dots of every member. It never moves back."""
        if not self.root.stable >= cut:
            self.root = replace(self.root, stable=self.root.stable | cut)

    def stamp(self) -> int:
        """Return the next hybrid timestamp, later than those of all writes here."""
        return self._origin.stamp()

    def observe(self, stamp: int) -> None:
        """Advance the hybrid clock to a received timestamp."""
        self._origin.observe(stamp)

    def advance(self, dots: DotSet) -> None:
        """Add dots to the node clock: their effects are here."""
        self.root = self.root.at(self.root.clock | dots)

    def hear(self, clock: DotSet) -> None:
        """Note up to where contexts may name writes now: a batch of this clock was merged, and the node clock is behind."""
        root = self.root
        ahead = {}
        for actor in clock.actors:
            highest = clock.highest(actor)
            if highest > root.clock.highest(actor) and highest > root.heard.highest(actor):
                ahead[actor] = ((1, highest),)
        if ahead:
            self.root = replace(root, heard=root.heard | DotSet(ahead))

    def await_collection(self, number: int, raw: bytes, state: State) -> None:
        """Queue a document for collection, if it will have garbage once its dots are stable."""
        if not has_garbage(state):
            return
        newest = sorted(state.leaves, key=lambda dot: (state.leaves[dot].stamp, dot), reverse=True)
        dot = next((dot for dot in (*newest, *state.dots()) if dot not in self.root.stable), None)
        if dot is None:
            self.rows.changes[keys.due(number, raw)] = b""
        else:
            self.rows.changes[keys.waiting(self._tables.actor_number(dot.actor), dot.counter)] = keys.place(number, raw)

    def log_changed(self, before: State, after: State, place: bytes) -> None:
        """Add new live dots to the log, and remove dots that are no longer live."""
        root, living = before.dots(), set(after.dots())
        if root:
            self.log(set(root) - living, None)
            living.difference_update(root)
        self.log(living, place)

    def log(self, dots: Iterable[Dot], value: bytes | None) -> None:
        """Put the places of dots in the log; None removes them."""
        rows, number = self.rows.changes, self._tables.actor_number
        for actor, counter in sorted(dots):
            rows[keys.log(number(actor), counter)] = value

    def _next_dot(self) -> Dot:
        return Dot(self._origin.actor, self.root.clock.highest(self._origin.actor) + 1)
