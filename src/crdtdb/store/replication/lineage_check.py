"""Detects two stores that use the same dots for different writes. Rule 3."""

from __future__ import annotations

from crdtdb.causality import DotSet, Lineage, Lineages
from crdtdb.errors import HistoryForkedError
from crdtdb.store.commit.ledger import Ledger


def unknown(clock: DotSet) -> Lineages:
    """Return the lineages of a peer that tells none: of what its clock covers nothing is known."""
    return Lineages({actor: Lineage((), 0) for actor in clock.actors})


def learn(ledger: Ledger, clock: DotSet, lineages: Lineages) -> None:
    """Take over what a store of this clock knows of the sessions in which its actors wrote, before anything of it is merged.

    Raises HistoryForkedError if it contradicts what is known here, or covers writes of this store's actor that aren't here.
    """
    held, actor = ledger.root, ledger.actor
    if clock.highest(actor) > held.clock.highest(actor):
        raise HistoryForkedError(
            f"the other side knows {clock.highest(actor)} writes of this store, and here are "
            f"{held.clock.highest(actor)}: the store was put back from a backup. It must take a new actor first"
        )
    here, there = held.lineages.forks(held.clock, lineages, clock)
    if here or there:
        raise HistoryForkedError(
            f"the two sides hold different writes of {(here or there)[0]}: a store was put back from a backup and written "
            "again. One side must rename its writes first"
        )
    ledger.learn_lineages(held.lineages.joined(held.clock, lineages, clock))
