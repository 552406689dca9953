"""Incremental garbage collector: tombstones, bodies, expired history. Each slice is a commit of its own."""

from __future__ import annotations

from itertools import islice

from crdtdb.causality import EMPTY, DotSet
from crdtdb.clock import WallClock
from crdtdb.store.commit.core import StoreCore
from crdtdb.store.gc.compaction import forget_values, replaced_values
from crdtdb.store.gc.tombstones import Resting, Rules, Told, collect_slice
from crdtdb.store.layout import keys

_RECLAIM_DOCUMENTS = 10_000


class Collector:
    """Collects stable garbage, expires and compacts old revisions, and reclaims disk space."""

    def __init__(self, core: StoreCore, wall: WallClock) -> None:
        self._core, self._rows, self._tables, self._submit, self._wall = (
            core,
            core.backend,
            core.tables,
            core.submit,
            wall,
        )
        self._collect_from: bytes | None = b""
        self._cuts = self._reclaimed_at = 0
        self._resting = Resting()
        self.unheld = EMPTY
        """Dots in the contexts of documents due for collection that the node clock didn't cover at the last look."""
        self.collected = 0
        """How many times a document lost garbage since the store was opened."""

    def reach_cut(self, cut: DotSet) -> None:
        """Record the stable cut: the dots that every member of the cluster has durably."""
        if not self._core.root.stable >= cut:
            self._submit(lambda transaction: transaction.ledger.reach_cut(cut))
            self._cuts += 1
            if self._collect_from is None:
                self._collect_from = b""

    def lose(self, dots: DotSet) -> None:
        """Add dots to the node clock that no member holds, and no actor will write again. Rule 10."""
        self._submit(lambda transaction: transaction.ledger.advance(dots))
        self.unheld -= dots

    def collect(self, told: Told, again: bool = False, grace: float = 0.0) -> bool:
        """Remove a slice of the stable garbage; return whether there is more to look at.

        A pass begins when the cut has moved, or with `again`. `told` gives the clock that a collection's clients have read.
        Tombstones younger than `grace` seconds stay.
        """
        if again and self._collect_from is None:
            self._collect_from = b""
        start = self._collect_from
        if start is None:
            return False
        if start == b"":
            self._cuts = 0
        rules = Rules(told, int(grace * 1000), self._wall(), self._resting)
        done = self._submit(lambda transaction: collect_slice(transaction, self._rows, self._tables, rules, start))
        self._collect_from = done.after
        if done.after is None:
            self._resting.end_pass(rules.now)
            self._collect_from = b"" if self._cuts else None  # the cut has moved meanwhile
        self.collected += done.collected
        self.unheld |= done.unheld
        return self._collect_from is not None

    @property
    def wants_space(self) -> bool:
        """Whether enough was collected since the last time for the backend to reclaim disk space."""
        return self._collect_from is None and self.collected - self._reclaimed_at >= _RECLAIM_DOCUMENTS

    def reclaim(self) -> None:
        """Reclaim the space of removed rows, if the backend supports it. May take long; other work continues."""
        self._reclaimed_at = self.collected
        reclaim = getattr(self._rows, "reclaim", None)
        if reclaim is not None:
            reclaim()

    def waiting(self, most: int) -> tuple[int, int]:
        """Return how many documents with garbage wait for a stable dot, and how many for clients, up to `most` each."""
        return (
            sum(1 for _ in islice(self._rows.scan(*keys.rest(b"g")), most)),
            sum(1 for _ in islice(self._rows.scan(*keys.rest(b"G")), most)),
        )

    def compact(self, name: str) -> None:
        """Drop the values of a collection's replaced revisions, in slices, while other work continues."""
        after: bytes | None = b""
        while after is not None:
            after = self._forget(name, after, None)

    def expire(self, name: str, after: bytes, seconds: float) -> bytes | None:
        """Drop a slice of the values of replaced, stable revisions older than `seconds`.

        Begins at the key `after`, b"" for all; returns the key to continue from, None if there are no more.
        """
        return self._forget(name, after, self._wall() - int(seconds * 1000))

    def _forget(self, name: str, after: bytes, before: int | None) -> bytes | None:
        root = self._core.root
        collection = root.collections.get(name)
        if collection is None:
            return None
        due = replaced_values(self._rows, self._tables, collection.number, root.stable, after, before)
        if due:
            self._submit(lambda transaction: forget_values(transaction, self._tables, name, collection.number, due))
        return due.after
