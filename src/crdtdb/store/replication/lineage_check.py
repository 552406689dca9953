"""Detects two stores that use the same dots for different writes. Rule 3."""

from __future__ import annotations

from crdtdb.causality import DotSet, Lineage, Lineages
from crdtdb.errors import HistoryForkedError
from crdtdb.store.commit.ledger import Ledger


def unknown(clock: DotSet) -> Lineages:
    """Return the lineages of a peer that sends none: unknown for every actor of its clock."""
    return Lineages({actor: Lineage((), 0) for actor in clock.actors})


def learn(ledger: Ledger, clock: DotSet, lineages: Lineages) -> None:
    """Merge the lineages of a peer with this clock, before any of its documents.

    Raises HistoryForkedError if they contradict the store's own, or the clock covers writes of its actor that aren't here.
    """
    held, actor = ledger.root, ledger.actor
    if clock.highest(actor) > held.clock.highest(actor):
        raise HistoryForkedError(
            f"the peer has {clock.highest(actor)} writes of this store, and the store itself "
            f"{held.clock.highest(actor)}: the store was put back from a backup. It must take a new actor first"
        )
    here, there = held.lineages.forks(held.reached, lineages, clock)
    if here or there:
        raise HistoryForkedError(
            f"the two stores hold different writes of {(here or there)[0]}: a store was put back from a backup and written "
            "again. One store must rename its writes first"
        )
    ledger.learn_lineages(held.lineages.joined(held.reached, lineages, clock))
