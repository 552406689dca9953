"""The exchange of two stores of one process, in both directions: afterwards they hold the same.

1. Histories: where the two hold different writes under the same dots, since one was put back from a backup and written again,
   one side renames its own. A store of whose actor the other knows more, or else, takes a new one. Rule 3.
2. Exchange: each brings over what it lacks; by comparison where it may lack what the other has collected. Rules 6 and 12.
3. Check: sums of the live revisions, kept by each commit, must be equal when the clocks are. If they aren't, something was lost
   or used twice in a way that nobody noticed, and the contents of both stores are compared and made equal.
"""

from __future__ import annotations

from typing import NamedTuple

from crdtdb.causality import DotSet
from crdtdb.database.pull import bring, pull
from crdtdb.database.repair import mend, summed
from crdtdb.errors import ConvergenceError, HistoryForkedError
from crdtdb.store.replication.reconciliation import Comparing, compare, differing
from crdtdb.store.root import StoreRoot
from crdtdb.store.store import Store

_ROUNDS_MAX = 100
_ATTEMPTS = 4


class Exchanged(NamedTuple):
    """What an exchange did: documents that came, documents that went, and the rest as `crdtdb.Synced` has it."""

    pulled: int
    pushed: int
    renamed: int
    new_actors: int
    mended: tuple[str, ...]


def synchronize(one: Store, other: Store) -> Exchanged:
    """Exchange what either of two stores lacks.

    Raises ConvergenceError if they differ all the same, and what `pull` raises.
    """
    pulled = pushed = renamed = new_actors = 0
    mended: tuple[str, ...] = ()
    for attempt in range(_ATTEMPTS):
        try:
            settled = settle_histories(one, other)
            renamed, new_actors = renamed + settled[0], new_actors + settled[1]
            pulled += _bring(one, other)
            pushed += _bring(other, one)
        except HistoryForkedError:  # what is here has changed meanwhile
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        for store in (one, other):
            while store.sweeper.sweep():
                pass
        if shows_the_same(one.root, other.root):
            return Exchanged(pulled, pushed, renamed, new_actors, mended)
        mended += mend(one, other)
    raise ConvergenceError(
        "the two stores hold different documents though each says that it has all that the other has, and comparing them "
        "didn't help: one of them is damaged. Restore it from a backup, or audit it"
    )


def shows_the_same(one: StoreRoot, other: StoreRoot) -> bool:
    """Whether two stores show the same, if their clocks are equal; one that has been written meanwhile may well differ."""
    return _shown(one) == _shown(other) if one.clock == other.clock else True


def _shown(root: StoreRoot) -> dict[str, tuple[int, int, int, int]]:
    return {name: (one.documents, one.conflicts, one.size, one.live) for name, one in root.collections.items()}


def settle_histories(one: Store, other: Store) -> tuple[int, int]:
    """Let either store rename what contradicts the other; return how many sessions were renamed, and actors taken.

    Raises HistoryForkedError if there is no end to it.
    """
    renamed = new_actors = 0
    for _ in range(_ROUNDS_MAX):
        here, there = one.replication.forks(other.root.reached, other.root.lineages)
        forked = {fork.actor for fork in (*here, *there)}
        new_actors += _take_new_actor(one, other, forked) + _take_new_actor(other, one, forked)
        for store, forks in ((one, here), (other, there)):
            for fork in forks:
                store.replication.rename(fork)
        renamed += len(here) + len(there)
        if not forked:
            return renamed, new_actors
    raise HistoryForkedError(f"the two stores hold different writes under the same names, after {_ROUNDS_MAX} rounds")


def _take_new_actor(store: Store, peer: Store, forked: set[bytes]) -> bool:
    gone_back = peer.root.reached.highest(store.actor) > store.root.clock.highest(store.actor)
    if gone_back or store.actor in forked:
        store.replication.renew_actor("another store knows other writes of the old one")
        return True
    return False


def _bring(receiver: Store, sender: Store) -> int:
    """Bring everything that one store lacks over from another; return how many documents came."""
    clock = receiver.root.clock
    if clock and (receiver.identity.entering or sender.replication.collected_since(clock)):
        return _enter(receiver, sender)
    return pull(receiver, sender)


def _enter(receiver: Store, sender: Store) -> int:
    """Take over what another store has, and give up what it has seen replaced or collected. Rule 12."""
    theirs = sender.replication.comparing(receiver.replication.durable_clock())
    mine: Comparing | None = None
    try:
        moved = bring(receiver, sender, theirs.outgoing, advance=False)
        mine = receiver.replication.comparing(DotSet())
        claiming = summed(theirs)
        if not claiming.rot:
            buckets = differing(summed(mine).sums, claiming.sums)
            root = {dot: place.hash for dot, place in theirs.dots_in(buckets).items()}
            difference = compare(mine.dots_in(buckets), root, mine.moment.root.clock, theirs.moment.root.clock)
            receiver.replication.discard(difference.here.items(), theirs.moment.root.clock)
        receiver.replication.advance(theirs.moment.root.clock)
        if receiver.identity.entering:
            receiver.replication.end_entry()
        return moved
    finally:
        theirs.close()
        if mine is not None:
            mine.close()
