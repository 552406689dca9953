"""Making two stores equal that differ though their clocks don't: by what they hold, not by what they say.

That happens where one dot was used for two contents and nothing tells which store was put back (stores from before lineages
were kept, a machine that was set back while it ran), or where rows were lost. Of two contents under one dot one is written
again under a dot of its own, so both stay, as concurrent versions. What only one of the two shows was lost by the other, and
comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from crdtdb.causality import Dot, DotSet
from crdtdb.documents import merge
from crdtdb.store.commit.transaction import Transaction
from crdtdb.store.replication.reconciliation import Comparing, Place, Summing, compare, differing, discard
from crdtdb.store.store import Store
from crdtdb.wire.delta_batch import DeltaBatch

_STEP_DOCUMENTS = 1_000

Documents = Mapping[tuple[str, str], list[Dot]]


def mend(one: Store, other: Store) -> tuple[str, ...]:
    """Let two stores that have exchanged all they say go a step towards each other.

    Returns the documents that changed, as `collection/id`. Afterwards they are to exchange what they have again.
    """
    mine, theirs = one.replication.comparing(DotSet()), other.replication.comparing(DotSet())
    try:
        here, there = _differing(mine, theirs)
        hashes = {dot: place.hash for dot, place in there.items()}
        found = compare(here, hashes, mine.moment.root.clock, theirs.moment.root.clock)
        if found.contradictory:
            return _keep_both(one, theirs, found.contradictory)
        lost_there = [dot for dots in found.here.values() for dot in dots]
        return (*_bring_back(one, theirs, found.there), *_bring_back(other, mine, lost_there))
    finally:
        mine.close()
        theirs.close()


def summed(comparing: Comparing) -> Summing:
    """Return the sums of a store at one moment."""
    summing = Summing(comparing.moment)
    while summing.step(_STEP_DOCUMENTS):
        pass
    return summing


def _differing(mine: Comparing, theirs: Comparing) -> tuple[dict[Dot, Place], dict[Dot, Place]]:
    buckets = differing(summed(mine).sums, summed(theirs).sums)
    return mine.dots_in(buckets), theirs.dots_in(buckets)


def _keep_both(store: Store, other: Comparing, twice: Documents) -> tuple[str, ...]:
    """Write what the other store has something else for under the same dots again, under new ones, and take in the other's.

    That is one commit: who held neither under those dots, and had seen them, would say that both were replaced.
    """
    dots = {dot for some in twice.values() for dot in some}
    parcels = list(_parcels(other, dots))

    def work(transaction: Transaction) -> list[tuple[str, str]]:
        clock = transaction.ledger.root.clock
        for (name, doc_id), some in twice.items():
            discard(transaction, name, doc_id, some, clock - DotSet.of(some), clock)
        for parcel in parcels:
            for shipped in parcel.documents:
                record = transaction.load(shipped.name, shipped.doc_id)
                state, _ = parcel.state(shipped, transaction.older(shipped.name, shipped.doc_id))
                back = DotSet.of(dot for dot in state.dots() if dot in dots)
                mine = replace(record.state, context=record.state.context - back)
                transaction.documents.save(shipped.name, shipped.doc_id, record, merge(mine, state), record.residue)
        return list(twice)

    return tuple("/".join(where) for where in store.submit(work))


def _parcels(other: Comparing, dots: Iterable[Dot]) -> Iterator[DeltaBatch]:
    outgoing = other.documents_with(dots)
    while True:
        page = outgoing.next_page()
        yield DeltaBatch(page.parcel)
        if page.last:
            return


def _bring_back(store: Store, other: Comparing, lost: list[Dot]) -> tuple[str, ...]:
    changed: list[str] = []
    for parcel in _parcels(other, lost) if lost else ():
        changed += ["/".join(where) for where in store.replication.restore_lost(parcel, lost, repair=True).mended]
    return tuple(changed)
