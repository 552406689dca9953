"""What a store sends to another, and what it does with what it receives. Rules 4 to 6 of docs/explanation/replication.md.

The answer to a clock is read from one snapshot: every document with a live dot that the clock lacks, in the order of the
dot log, a page at a time. A document is sent at its smallest missing dot and nowhere else, so nothing need be remembered
between pages but a place in the log; which documents were met last is, so that none is decoded for each of its dots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

from msgspec.structs import replace

from crdtdb.backends import Snapshot
from crdtdb.causality import EMPTY, Actor, Dot, DotSet, Lineages
from crdtdb.crdts import Creations, GapError, Journal, Journals, Strand, Vector
from crdtdb.documents import Ancestor, Leaf, Rev, State, merge
from crdtdb.documents.attachments import Content
from crdtdb.documents.bounds import bodies_bytes
from crdtdb.documents.catalogue import Catalogue, merge_catalogues
from crdtdb.documents.delta_states import Successor, successor_of
from crdtdb.documents.fields import fields_bytes
from crdtdb.documents.local import LOCAL
from crdtdb.errors import EncodingError, TooLargeError
from crdtdb.limits import (
    AHEAD_RANGES_MAX,
    CLOCK_ACTORS_MAX,
    CLOCK_RANGES_MAX,
    PAGE_BYTES_TARGET,
    PAGE_DOCUMENTS_MAX,
    REVS_LIMIT,
)
from crdtdb.store.commit.document_rows import uncovered
from crdtdb.store.commit.ledger import SYSTEM
from crdtdb.store.commit.transaction import Transaction
from crdtdb.store.layout import keys
from crdtdb.store.layout.contents import ContentMissingError
from crdtdb.store.layout.history import MissingAncestorError
from crdtdb.store.layout.journals import JournalRows
from crdtdb.store.layout.places import RecentPlaces
from crdtdb.store.layout.records import StoreTables, decode_past, first_of, read_chain, record_of
from crdtdb.store.layout.rows import decode_row
from crdtdb.store.replication.lineage_check import learn, unknown
from crdtdb.store.root import NOBODY, StoreRoot
from crdtdb.wire.cbor import decode
from crdtdb.wire.delta_batch import Closed, DeltaBatch, NotFollowingError, ParcelWriter, Shipped, Steps
from crdtdb.wire.states import First


class Page(NamedTuple):
    """A part of the answer. With the last one the receiver's clock may advance to the parcel's."""

    parcel: list[Any]
    documents: int
    last: bool
    size: int
    """About how many bytes it has."""


class _Found(NamedTuple):
    """A document that is to be sent: its first revision, if there is no more to it, or else its state."""

    name: str
    doc_id: str
    state: First | State
    residue: DotSet
    steps: Steps
    closed: tuple[Closed, ...]
    told: Successor | None = None
    """What of it is told to somebody who has the rest."""

    @property
    def size(self) -> int:
        """How many bytes it is about."""
        if type(self.state) is First:
            return len(self.state.text)
        if self.told is not None:
            return len(self.told.text or b"") + _bytes_of(self.told.journals)
        return bodies_bytes(self.state) + fields_bytes(self.state.fields) + _bytes_of(self.state.journals)

    def add_to(self, writer: ParcelWriter) -> None:
        """Put it into a parcel."""
        if type(self.state) is First:
            writer.add_first(self.name, self.doc_id, self.state, self.closed)
        elif self.told is not None:
            writer.add_successor(self.name, self.doc_id, self.told, self.state.journals)
        else:
            writer.add(self.name, self.doc_id, self.state, self.residue, self.steps, self.closed)


class Outgoing:
    """The answer to one clock. Hold it no longer than needed, and close it: it holds a snapshot."""

    def __init__(
        self,
        snapshot: Snapshot,
        root: StoreRoot,
        tables: StoreTables,
        theirs: DotSet,
        whole: bool,
        catalogue: bool = False,
        closed: bool = False,
        brief: bool = False,
    ) -> None:
        """`whole`, `closed` and `brief` as `Store.outgoing` has them; with `catalogue` that goes along in any case."""
        self._snapshot, self._root, self._tables = snapshot, root, tables
        self._theirs, self._whole, self._closed, self._brief = theirs, whole, closed, brief
        self.knows_strands = True
        """Whether the receiver knows that the updates of one journal may have several sets of creations: protocol 1.4."""
        self._missing = root.clock - theirs
        self._names = {collection.number: name for name, collection in root.collections.items()}
        self._histories: dict[bytes, bool] = {}
        """Whether a collection has older revisions of any document: asked once, since most documents have none."""
        self._met = RecentPlaces()
        self._documents = self._walk()
        self._ahead: _Found | None = None
        self._catalogue_due = catalogue or whole or any(dot in self._missing for dot in root.catalogue.dots())

    @property
    def lineages(self) -> Lineages:
        """In which sessions the actors of the snapshot's clock wrote."""
        return self._root.lineages

    @property
    def lineages_digest(self) -> bytes:
        """What tells the lineages behind the snapshot's clock from others."""
        return self._root.lineages.digest(self._root.clock)

    @property
    def nothing(self) -> bool:
        """Whether the other side lacks no dot of this one."""
        return not self._missing

    def next_page(self) -> Page:
        """Return the next part of the answer. After the last one there is no other."""
        writer = ParcelWriter(self.knows_strands)
        if self._catalogue_due:
            sweeps = {name: one.sweep for name, one in self._root.collections.items()}
            writer.add_catalogue(self._root.catalogue, self._root.residue, sweeps)
            self._catalogue_due = False
        found = self._ahead or next(self._documents, None)
        while found is not None and writer.size < PAGE_BYTES_TARGET and len(writer) < PAGE_DOCUMENTS_MAX:
            if len(writer) and found.size > PAGE_BYTES_TARGET:
                break  # a large document goes alone, or with it the page might not fit a frame
            found.add_to(writer)
            found = next(self._documents, None)
        self._ahead = found
        if found is None:
            self.close()
        return Page(writer.finish(self._root.clock), len(writer), found is None, writer.size)

    def close(self) -> None:
        """Let go of the snapshot."""
        self._documents = iter(())
        self._snapshot.close()

    def _walk(self) -> Iterator[_Found]:
        for actor, ranges in sorted(self._missing.items()):
            number = self._tables.known_actor_number(actor)
            if number is None:
                continue
            for first, last in ranges:
                for key, value in self._snapshot.scan(keys.log(number, first), keys.log(number, last + 1)):
                    if value and value not in self._met:
                        found = self._document(Dot(actor, int.from_bytes(key[5:], "big")), value)
                        if found is not None:
                            yield found

    def _document(self, dot: Dot, place: bytes) -> _Found | None:
        number, raw = keys.read_place(place)
        name = self._names.get(number)
        key = keys.document(number, raw)
        value = self._snapshot.get(key) if name is not None else None
        if name is None or value is None:
            return None
        history = keys.history(number, raw)
        encoded = decode_row(value)
        first = first_of(encoded, self._root.clock, self._tables)
        if first is not None and first.creations == self._root.names[name]:
            closed = self._closed_revs(history, frozenset([Rev(1, first.digest.hex())])) if self._closed else ()
            return _Found(name, raw.decode(), first, EMPTY, _no_steps, closed)
        self._met.add(place)
        record = record_of(encoded, self._root.clock, self._tables, self._snapshot.get, key)
        if dot != min(root for root in record.state.dots() if root in self._missing):
            return None
        living = self._root.living(name, record.state)
        if living.journals:
            living = replace(living, journals=self._journals(number, raw, living.journals))
        closed = self._closed_revs(history, _on_paths(living)) if self._closed and living.leaves else ()
        steps = self._steps(history)
        told = None
        if self._brief and not record.residue and not closed:
            told = successor(name, raw.decode(), living, steps, self._theirs)
        return _Found(name, raw.decode(), living, record.residue, steps, closed, told)

    def _closed_revs(self, history: bytes, on_paths: Set[Rev]) -> tuple[Closed, ...]:
        """Return the revisions that are known and lie on no leaf's path, newest first: branches that were collected."""
        collection = history[:5]
        if collection not in self._histories:
            self._histories[collection] = any(True for _ in self._snapshot.scan(*keys.rest(collection)))
        if not self._histories[collection]:
            return ()
        found: list[Closed] = []
        for key, value in self._snapshot.scan(*keys.rest(history), reverse=True):
            past = decode_past(key, value, history, self._tables)
            if past.rev not in on_paths and len(found) < REVS_LIMIT:
                found.append(Closed(past.rev, past.parent.digest if past.parent is not None else None))
        return tuple(found)

    def _journals(self, number: int, raw: bytes, journals: Journals) -> Journals:
        """Return the journals of a document with the updates that the receiver lacks."""
        shipped = {}
        for address, journal in journals.items():
            rows = JournalRows.of(self._snapshot, self._tables, number, raw, address)
            shipped[address] = (
                rows.whole(journal) if self._whole else rows.lacking(journal, self._theirs, self._missing)
            )
        return shipped

    def _steps(self, history: bytes) -> Steps:
        if self._whole:
            return lambda leaf: (leaf.path.all(), False)
        return path_until(
            lambda step: step.dot is not None and step.dot in self._theirs,
            lambda rev: read_chain(self._snapshot.get, self._tables, history, rev),
        )


def _no_steps(_: Leaf) -> tuple[Sequence[Ancestor], bool]:
    return (), False


def _on_paths(state: State) -> set[Rev]:
    """Return the revisions of the leaves, and all that lie on their paths."""
    found = {leaf.rev for leaf in state.leaves.values()}
    for leaf in state.leaves.values():
        top = leaf.rev.generation
        found.update(Rev(top - 1 - back, step.digest) for back, step in enumerate(leaf.path.all()))
    return found


def successor(name: str, doc_id: str, state: State, steps: Steps, seen: DotSet) -> Successor | None:
    """Return a document as the successor of what somebody holds who has `seen` these dots; None if it can't be told so.

    Its journals have the updates that aren't seen.
    """
    if len(state.leaves) != 1 or not state.fields:
        return None
    (leaf,) = state.leaves.values()
    return successor_of(name, doc_id, state, steps(leaf)[0], seen, state.journals)


class _NoSnapshot:
    """Stands in where nothing will be read."""

    def get(self, key: bytes) -> bytes | None:  # noqa: ARG002
        return None

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:  # noqa: ARG002
        return iter(())

    def close(self) -> None:
        pass


NO_SNAPSHOT = _NoSnapshot()


def path_until(enough: Callable[[Ancestor], bool], older: Callable[[Rev], Iterator[Ancestor]]) -> Steps:
    """Return what takes of a path the steps up to the first that is enough."""

    def steps(leaf: Leaf) -> tuple[Sequence[Ancestor], bool]:
        parent = leaf.path.parent
        if parent is None:
            return (), False
        taken = [parent]
        if leaf.path.complete and len(leaf.path.known) == 1:
            return taken, False
        if enough(parent):
            return taken, True
        for step in older(Rev(leaf.rev.generation - 1, parent.digest)):
            taken.append(step)
            if enough(step):
                return taken, True
            if len(taken) == REVS_LIMIT:
                break
        return taken, False

    return steps


class Received(NamedTuple):
    """What a parcel brought: how many documents, and those of them that told something new."""

    documents: int
    news: list[tuple[str, str]]


Inspect = Callable[[str, str, State], None]
"""Given the collection, the id and the state of a document that a peer sent, raises an error if the peer is to be refused."""


def trust(name: str, doc_id: str, state: State) -> None:
    """Inspect nothing."""


def receive(
    transaction: Transaction,
    parcel: DeltaBatch,
    advance: bool,
    inspect: Inspect = trust,
    lineages: Lineages | None = None,
) -> Received:
    """Merge a parcel into the store. With `advance` it is the last page: the clock takes over the sender's.

    `inspect` looks at what comes for the database itself: system collections and local records. `lineages` are the sender's,
    None if it is of a version that keeps none.

    Raises MissingAncestorError if a path continues what isn't here, ContentMissingError with all contents of attachments that
    the parcel's documents refer to and that aren't here, HistoryForkedError, DotCollisionError, EncodingError; then nothing of
    the parcel is kept. However large a document becomes, it is merged: see `crdtdb.documents.bounds`.
    """
    learn(transaction.ledger, parcel.clock, lineages if lineages is not None else unknown(parcel.clock))
    own = transaction.ledger.root.clock.highest(transaction.ledger.actor)
    if parcel.catalogue is not None:
        names, marks, residue, sweeps = parcel.catalogue
        theirs = Catalogue(names, marks, parcel.clock | residue)
        transaction.ledger.set_catalogue(merge_catalogues(transaction.ledger.root.catalogue, theirs))
        for name, sweep in sweeps.items():
            transaction.ledger.learn_sweep(name, sweep)
    news = []
    beyond: dict[Actor, DotSet] = {}
    missing: dict[bytes, Content] = {}
    for shipped in parcel.documents:
        try:
            if _receive_document(transaction, parcel, shipped, advance, beyond, inspect):
                news.append((shipped.name, shipped.doc_id))
        except ContentMissingError as error:  # all at once: a page has as many attachments as documents, or more
            missing.update((content.sha256, content) for content in error.missing)
    if missing:
        raise ContentMissingError(list(missing.values()))
    if advance:
        transaction.ledger.advance(parcel.clock)
    if transaction.ledger.root.clock.highest(transaction.ledger.actor) > own:
        raise EncodingError("it names writes of this store that the sender's own clock doesn't cover")
    _check_size(transaction.ledger.root.clock)
    return Received(len(parcel.documents), news)


def _check_size(clock: DotSet) -> None:
    """Raise TooLargeError if no peer could be greeted any more with this clock."""
    ranges = sum(len(of_actor) for _, of_actor in clock.items())
    if len(clock.actors) > CLOCK_ACTORS_MAX or ranges > CLOCK_RANGES_MAX:
        raise TooLargeError(
            f"the node clock would have {len(clock.actors):,} actors and {ranges:,} ranges, the limits are "
            f"{CLOCK_ACTORS_MAX:,} and {CLOCK_RANGES_MAX:,}"
        )


def _receive_document(
    transaction: Transaction,
    parcel: DeltaBatch,
    shipped: Shipped,
    advance: bool,
    beyond: dict[Actor, DotSet],
    inspect: Inspect,
) -> bool:
    """Merge one document of a parcel; return whether it brought something new.

    `beyond` keeps, for the documents of one parcel, what its clock has of an actor.
    """
    read = parcel.first(shipped)
    inspected = shipped.doc_id.startswith(LOCAL) or shipped.name.startswith(SYSTEM)
    if type(read) is First and not inspected:
        actor = read.dot.actor
        if not advance and actor not in beyond:
            beyond[actor] = parcel.clock.restrict([actor])
        if transaction.take_first(shipped.name, shipped.doc_id, read, beyond.get(actor, EMPTY)):
            return True
    began = transaction.seconds
    record = transaction.load(shipped.name, shipped.doc_id)
    older = transaction.older(shipped.name, shipped.doc_id)
    try:
        encoded = decode(shipped.encoded) if type(read) is First else read
        state, context = parcel.read(shipped, encoded, older, record.state)
    except NotFollowingError as error:
        raise MissingAncestorError(str(error)) from error
    if inspected:
        inspect(shipped.name, shipped.doc_id, state)
    _learn(transaction, shipped.name, state, parcel.clock)
    try:
        merged = merge(record.state, transaction.ledger.root.living(shipped.name, state))
    except GapError as error:
        raise MissingAncestorError(f"document {shipped.doc_id!r}: {error}") from error
    _count_as_held(transaction, state)
    transaction.ledger.observe(max((leaf.stamp for leaf in state.leaves.values()), default=0))
    changed = _differ(record.state, merged)
    if changed:
        seen = uncovered(context, parcel.clock) if advance else context
        transaction.documents.save(shipped.name, shipped.doc_id, record, merged, record.residue | seen)
        transaction.documents.note_size(shipped.name, shipped.doc_id, merged, began)
        transaction.ledger.learn_sweep(shipped.name, _swept(record.state, merged))
    if shipped.closed and shipped.name in transaction.ledger.root.collections:
        transaction.rows.changes.update(transaction.history(shipped.name, shipped.doc_id).named(shipped.closed, merged))
    return changed


def _swept(before: State, merged: State) -> int:
    """Return the newest stamp of a leaf that is gone and that nothing left names: its document was collected elsewhere, whole.

    What is made here under its id must carry another name than what was known there as deleted.
    """
    if not before.leaves:
        return 0
    gone = before.leaves.keys() - merged.leaves.keys()
    named = merged.actors() if gone else ()
    return max((before.leaves[dot].stamp for dot in gone if dot.actor not in named), default=0)


def _bytes_of(journals: Journals) -> int:
    return sum(len(content) for journal in journals.values() for content in journal.contents())


def _learn(transaction: Transaction, name: str, state: State, clock: DotSet) -> None:
    """Take note of creations that came with a document before the catalogue's own news, if the collection isn't here.

    Raises MissingAncestorError if it is, and the sender, whose `clock` comes along, can tell more of them: an exchange brings
    the catalogue first. A drop here sees what is known here, and would take a document that lives on under the others;
    and their author may have dropped what is known here, so that a text of a dropped document would go on in a new one.
    """
    known, catalogue = transaction.ledger.root.names.get(name, NOBODY), transaction.ledger.root.catalogue
    strange = [one for one in _creations(state) if one != known and any(dot not in catalogue.context for dot in one)]
    if not strange:
        return
    unknown = frozenset(dot for one in strange for dot in one if dot not in catalogue.context)
    if known and (any(dot in clock for dot in unknown) or any(known.isdisjoint(one) for one in strange)):
        raise MissingAncestorError(f"{name!r} was also made by {sorted(unknown)}, of which nothing is known here yet")
    transaction.ledger.set_catalogue(catalogue.learned(name, unknown))


def _creations(state: State) -> set[Creations]:
    found = {leaf.creations for leaf in state.leaves.values()}
    found.update(body.creations for body in state.bodies.values())
    found.update(delta.creations for deltas in state.fields.values() for delta in deltas.values())
    found.update(held for journal in state.journals.values() for held in journal.all_strands())
    return found


def _count_as_held(transaction: Transaction, state: State) -> None:
    """Add the live dots of a received state to the node clock, ahead of their turn if need be.

    An actor with too many gaps gets no further ones: its dots wait in the context of their documents.
    """
    clock = transaction.ledger.root.clock
    news = {dot for dot in state.dots() if dot not in clock}
    full = {dot.actor for dot in news if len(clock.ranges(dot.actor)) >= AHEAD_RANGES_MAX}
    if len(news) == 1 and not full:
        transaction.ledger.root = transaction.ledger.root.at(clock.add(news.pop()))
    elif news:
        transaction.ledger.advance(DotSet.of(dot for dot in news if dot.actor not in full))


def _differ(mine: State, merged: State) -> bool:
    if mine.leaves.keys() != merged.leaves.keys() or mine.bodies.keys() != merged.bodies.keys():
        return True
    return {address: deltas.keys() for address, deltas in mine.fields.items()} != {
        address: deltas.keys() for address, deltas in merged.fields.items()
    } or {address: _reach(journal) for address, journal in mine.journals.items()} != {
        address: _reach(journal) for address, journal in merged.journals.items()
    }


def _reach(journal: Journal) -> tuple[Vector, Creations, Mapping[Creations, Strand]]:
    return journal.vector, journal.creations, journal.strands
