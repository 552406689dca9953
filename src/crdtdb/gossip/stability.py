"""Stability: which writes every member holds for good, so that what they replaced may be forgotten. Rule 8.

A member acknowledges by its durable clock. A write is stable here when every member of the roster has acknowledged it, and
this node's own clock covers *the whole* of each of these acknowledgements, whichever actors they name. Without the second
half something written by a member before it acknowledged may still be under way, and need what was collected.

So an acknowledgement counts when it is covered, and not before; while newer ones keep coming ahead of this node's clock, the
oldest that isn't covered yet is kept until it is.

A member that is retired counts until every other member has acknowledged the retirement. Who hasn't heard of it still takes
its edits, and those may be made on what would be collected here. Who has heard refuses them, and what it took before is part of
its acknowledgement.

Source: Wuu and Bernstein, "Efficient Solutions to the Replicated Log and Dictionary Problems" (1984); Baquero, Almeida, Shoker,
"Pure Operation-Based Replicated Data Types" (2017), causal stability.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from crdtdb.causality import EMPTY, Dot, DotSet


class Leaver(NamedTuple):
    """A member that was retired: its store, and the write that says so."""

    store_id: bytes
    retirement: Dot


NO_LEAVERS: Mapping[str, Leaver] = MappingProxyType({})


class Holder(NamedTuple):
    """A member that holds the cut back: how many writes it hasn't acknowledged, and since when it lacks any (in seconds)."""

    name: str
    writes: int
    since: float
    heard: bool
    """Whether it has ever acknowledged anything to this node since that started."""


@dataclass(slots=True)
class _Acknowledged:
    store_id: bytes
    taken: DotSet = EMPTY
    """What counts: the newest acknowledgement that this node covers."""
    waiting: DotSet | None = None
    newest: DotSet | None = None
    behind_since: float | None = None
    heard: bool = False

    def take(self, mine: DotSet) -> None:
        if self.waiting is not None and mine >= self.waiting:
            self.taken, self.waiting = self.taken | self.waiting, None
        if self.newest is not None:
            if mine >= self.newest:
                self.taken, self.waiting, self.newest = self.taken | self.newest, None, None
            elif self.waiting is None:
                self.waiting, self.newest = self.newest, None


class Stability:
    """What one node knows of the acknowledgements of the others."""

    def __init__(self, cut: DotSet = EMPTY) -> None:
        """Go on from the cut that was reached before: it never moves back."""
        self.cut = cut
        self._members: dict[str, _Acknowledged] = {}

    def acknowledged(self, name: str, store_id: bytes, clock: DotSet) -> None:
        """Take note of a member's durable clock."""
        known = self._members.get(name)
        if known is None or known.store_id != store_id:
            known = self._members[name] = _Acknowledged(store_id)
        known.newest, known.heard = clock, True
        if known.waiting is None:
            known.waiting = clock

    def advance(
        self, roster: Mapping[str, bytes], mine: DotSet, now: float, leavers: Mapping[str, Leaver] = NO_LEAVERS
    ) -> DotSet:
        """Return the cut for a roster of the other members, by name with their store ids, and this node's durable clock.

        `leavers` are those that were retired, by name.
        """
        cut = mine
        for name, store_id in roster.items():
            cut = self._count(name, store_id, mine, now, cut)
        for name, leaver in leavers.items():
            if any(leaver.retirement not in self._members[other].taken for other in roster):
                cut = self._count(name, leaver.store_id, mine, now, cut)
            else:
                self._members.pop(name, None)
        for name in self._members.keys() - roster.keys() - leavers.keys():
            del self._members[name]
        if not self.cut >= cut:
            self.cut |= cut
        return self.cut

    def _count(self, name: str, store_id: bytes, mine: DotSet, now: float, cut: DotSet) -> DotSet:
        """Return what is left of a cut when one more member counts."""
        known = self._members.get(name)
        if known is None or known.store_id != store_id:
            known = self._members[name] = _Acknowledged(store_id)
        known.take(mine)
        if known.taken >= mine:
            known.behind_since = None
        elif known.behind_since is None:
            known.behind_since = now
        return cut & known.taken if cut else cut

    def holders(self, mine: DotSet) -> list[Holder]:
        """Return who holds the cut back, the longest first."""
        found = [
            Holder(name, len_of(mine - one.taken), one.behind_since, one.heard)
            for name, one in self._members.items()
            if one.behind_since is not None
        ]
        return sorted(found, key=lambda holder: (holder.since, holder.name))

    def held_by_nobody(self, dots: DotSet) -> DotSet:
        """Return those of the dots that no member has ever said it holds; none while one member hasn't said anything."""
        for one in self._members.values():
            if not one.heard:
                return EMPTY
            for clock in (one.taken, one.waiting, one.newest):
                if clock is not None:
                    dots -= clock
        return dots

    def acknowledged_by(self, name: str, store_id: bytes) -> DotSet | None:
        """Return the newest that a member's store has acknowledged, None if it never acknowledged anything."""
        known = self._members.get(name)
        if known is None or known.store_id != store_id or not known.heard:
            return None
        return known.newest or known.waiting or known.taken


def len_of(dots: DotSet) -> int:
    """Return how many dots a set has, without a step for each."""
    return sum(last - first + 1 for _, ranges in dots.items() for first, last in ranges)
