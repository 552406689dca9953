"""Merges the batches of other stores. Rules 4 to 6."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from crdtdb.causality import EMPTY, Actor, DotSet, Lineages
from crdtdb.crdts import Creations, GapError, Journal, Strand, Vector
from crdtdb.documents import State, merge
from crdtdb.documents.attachments import Content
from crdtdb.documents.catalogue import Catalogue, merge_catalogues
from crdtdb.documents.local import LOCAL
from crdtdb.errors import EncodingError, TooLargeError
from crdtdb.limits import (
    AHEAD_RANGES_MAX,
    CLOCK_ACTORS_MAX,
    CLOCK_RANGES_MAX,
)
from crdtdb.store.commit.document_rows import uncovered
from crdtdb.store.commit.ledger import SYSTEM
from crdtdb.store.commit.transaction import Transaction
from crdtdb.store.layout.contents import ContentMissingError
from crdtdb.store.layout.history import MissingAncestorError
from crdtdb.store.replication.lineage_check import learn, unknown
from crdtdb.store.root import NOBODY
from crdtdb.wire.cbor import decode
from crdtdb.wire.delta_batch import DeltaBatch, NotFollowingError, Shipped
from crdtdb.wire.states import First


class Received(NamedTuple):
    """Result of a merge: the number of documents in the parcel, and those that changed."""

    documents: int
    news: list[tuple[str, str]]


Inspect = Callable[[str, str, State], None]
"""Given a received document's collection, id and state, raises an error to refuse the peer."""


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

    `inspect` checks documents of system collections and local records. `lineages` are the sender's, None if its version has
    none.

    Raises MissingAncestorError if a path continues a revision that isn't here, ContentMissingError with all attachment contents
    that the parcel's documents need and the store lacks, HistoryForkedError, DotCollisionError or EncodingError; then nothing
    is written. Documents of any size are merged: see `crdtdb.documents.bounds`.
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
    elif news or parcel.catalogue is not None:
        transaction.ledger.hear(parcel.clock)
    if transaction.ledger.root.clock.highest(transaction.ledger.actor) > own:
        raise EncodingError("the parcel names writes of this store that the sender's own clock doesn't cover")
    _check_size(transaction.ledger.root.clock)
    return Received(len(parcel.documents), news)


def _check_size(clock: DotSet) -> None:
    """Raise TooLargeError if the clock doesn't fit the handshake with a peer."""
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
    """Merge one document of a parcel; return whether it changed.

    `beyond` caches the parcel's clock restricted to each actor.
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
    """Return the newest stamp of a removed leaf without a successor: another node has collected its whole document.

    A new document under that id must get another revision than the deleted one.
    """
    if not before.leaves:
        return 0
    gone = before.leaves.keys() - merged.leaves.keys()
    named = merged.actors() if gone else ()
    return max((before.leaves[dot].stamp for dot in gone if dot.actor not in named), default=0)


def _learn(transaction: Transaction, name: str, state: State, clock: DotSet) -> None:
    """Record creations that arrived with a document before the catalogue did, if the collection isn't here.

    Raises MissingAncestorError if it is here and the sender, by its `clock`, has more of these creations: an exchange sends the
    catalogue first. A drop here covers only the known creations, and would remove a document that survives under the others;
    and their author may have dropped the known ones, so that the text of a dropped document would continue in a new one.
    """
    known, catalogue = transaction.ledger.root.names.get(name, NOBODY), transaction.ledger.root.catalogue
    strange = [one for one in _creations(state) if one != known and any(dot not in catalogue.context for dot in one)]
    if not strange:
        return
    unknown = frozenset(dot for one in strange for dot in one if dot not in catalogue.context)
    if known and (any(dot in clock for dot in unknown) or any(known.isdisjoint(one) for one in strange)):
        raise MissingAncestorError(f"{name!r} was also created by {sorted(unknown)}, which aren't known here yet")
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
