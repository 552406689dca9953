"""Set of dots, as ranges of counters per actor.

    actor -> ((first, last), (first, last), ...)     ascending, disjoint, never adjacent

One shape serves every place where causality is recorded. A *version vector* is the case in which each actor has one
range that begins at 1. A *node clock* is a version vector whose later ranges are the dots that came ahead of their
turn. A *context* is the set that a state has seen. The *clock* of a leaf leaves out a sibling of the same actor by a
gap between two ranges, where a plain version vector would have claimed it.

The union is a join: associative, commutative, idempotent. Sets are immutable; every operation returns a new one.

Source: Malkhi and Terry, "Concise Version Vectors in WinFS" (2005), for vectors with exceptions; Gonçalves, Almeida,
Baquero, Fonte, "DottedDB" (2017), for one such clock per node.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, KeysView, Mapping

from msgspec import Struct

from crdtdb.causality.dots import Actor, Dot

Range = tuple[int, int]
Ranges = tuple[Range, ...]

_UNBOUNDED = 1 << 63


class DotSet(Struct, frozen=True, eq=False, gc=False):
    """An immutable set of dots.

    It takes ranges as they are: ascending, disjoint, not adjacent, counters from 1. Use `from_ranges` for input that isn't
    checked.
    """

    _ranges: Mapping[Actor, Ranges] = {}

    @classmethod
    def of(cls, dots: Iterable[Dot]) -> DotSet:
        """Return the set of these dots, given in any order, any number of times."""
        counters: dict[Actor, list[Range]] = {}
        for actor, counter in dots:
            counters.setdefault(actor, []).append((counter, counter))
        return cls({actor: _normal(ranges) for actor, ranges in sorted(counters.items())})

    @classmethod
    def from_ranges(cls, ranges: Mapping[Actor, Iterable[Range]]) -> DotSet:
        """Return the set of all dots in these ranges, which may overlap and come in any order.

        Raises ValueError if a range is empty or begins below 1.
        """
        checked: dict[Actor, Ranges] = {}
        for actor, given in ranges.items():
            pairs = list(given)
            for first, last in pairs:
                if first < 1 or last < first:
                    raise ValueError(
                        f"{first}..{last} is not a range of counters: the first must be 1 or more, "
                        "and not above the last"
                    )
            if pairs:
                checked[actor] = _normal(pairs)
        return cls(checked)

    @classmethod
    def vector(cls, counters: Mapping[Actor, int]) -> DotSet:
        """Return the set of all dots that this version vector covers."""
        return cls({actor: ((1, counter),) for actor, counter in counters.items() if counter > 0})

    def version_vector(self) -> dict[Actor, int]:
        """Return, for each actor, the highest counter up to which nothing is missing."""
        return {actor: ranges[0][1] for actor, ranges in self._ranges.items() if ranges[0][0] == 1}

    @property
    def actors(self) -> KeysView[Actor]:
        """The actors of which the set holds a dot."""
        return self._ranges.keys()

    def ranges(self, actor: Actor) -> Ranges:
        """Return the ranges of counters held of this actor, ascending."""
        return self._ranges.get(actor, ())

    def items(self) -> Iterable[tuple[Actor, Ranges]]:
        """Return each actor with its ranges."""
        return self._ranges.items()

    def highest(self, actor: Actor) -> int:
        """Return the highest counter held of this actor, 0 if none."""
        ranges = self._ranges.get(actor)
        return ranges[-1][1] if ranges else 0

    def tops(self) -> DotSet:
        """Return, for each actor, all dots up to the highest that is held: the gaps as if they were."""
        return DotSet({actor: ((1, ranges[-1][1]),) for actor, ranges in self._ranges.items()})

    def __contains__(self, dot: Dot) -> bool:
        ranges = self._ranges.get(dot[0])
        if not ranges:
            return False
        counter = dot[1]
        first, last = ranges[0]
        if counter <= last:
            return counter >= first
        at = bisect_right(ranges, (counter, _UNBOUNDED)) - 1
        return counter <= ranges[at][1]

    def is_up_to(self, dot: Dot) -> bool:
        """Whether this holds the dots of one actor up to this one, and nothing else."""
        return len(self._ranges) == 1 and self._ranges.get(dot[0]) == ((1, dot[1]),)

    def add(self, dot: Dot) -> DotSet:
        """Return this set with one more dot."""
        actor, counter = dot
        ranges = self._ranges.get(actor)
        if ranges is None:
            added: Ranges = ((counter, counter),)
        elif ranges[-1][1] == counter - 1:
            added = (*ranges[:-1], (ranges[-1][0], counter)) if len(ranges) > 1 else ((ranges[0][0], counter),)
        else:
            added = _union(ranges, ((counter, counter),))
        return DotSet({**self._ranges, actor: added})

    def __or__(self, other: DotSet) -> DotSet:
        if not other._ranges or other is self:
            return self
        if not self._ranges:
            return other
        joined = dict(self._ranges)
        for actor, ranges in other._ranges.items():
            mine = joined.get(actor)
            if mine is None:
                joined[actor] = ranges
            elif mine != ranges:
                joined[actor] = _union(mine, ranges)
        return DotSet(joined)

    def __sub__(self, other: DotSet) -> DotSet:
        rest: dict[Actor, Ranges] = {}
        for actor, ranges in self._ranges.items():
            left = _difference(ranges, other._ranges.get(actor, ()))
            if left:
                rest[actor] = left
        return DotSet(rest)

    def __and__(self, other: DotSet) -> DotSet:
        if other is self:
            return self
        return self - (self - other)

    def __ge__(self, other: DotSet) -> bool:
        """Whether this set covers every dot of the other."""
        if self is other:
            return True
        for actor, theirs in other._ranges.items():
            mine = self._ranges.get(actor, ())
            if mine != theirs and _difference(theirs, mine):
                return False
        return True

    def gaps(self) -> DotSet:
        """Return the dots below the highest of each actor that aren't here."""
        return self.tops() - self

    def restrict(self, actors: Iterable[Actor]) -> DotSet:
        """Return the dots of these actors alone."""
        return DotSet({actor: self._ranges[actor] for actor in sorted(actors) if actor in self._ranges})

    def dots(self) -> Iterator[Dot]:
        """Yield every dot, in the order of actors and counters. Costs a step for each counter."""
        for actor in sorted(self._ranges):
            for first, last in self._ranges[actor]:
                for counter in range(first, last + 1):
                    yield Dot(actor, counter)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DotSet) and self._ranges == other._ranges

    def __ne__(self, other: object) -> bool:  # msgspec's compares identities
        return not self == other

    def __hash__(self) -> int:
        return hash(frozenset(self._ranges.items()))

    def __repr__(self) -> str:
        def shown(ranges: Ranges) -> str:
            return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)

        inside = " ".join(f"{actor.hex()[:8]}:{shown(self._ranges[actor])}" for actor in sorted(self._ranges))
        return f"{{{inside}}}"


EMPTY = DotSet()


def _normal(ranges: Iterable[Range]) -> Ranges:
    """Sort, and merge what overlaps or touches."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return tuple(merged)


def _union(mine: Ranges, theirs: Ranges) -> Ranges:
    if len(mine) == 1 and len(theirs) == 1:
        (a, b), (c, d) = mine[0], theirs[0]
        if c <= b + 1 and a <= d + 1:
            return ((min(a, c), max(b, d)),)
    return _normal((*mine, *theirs))


def _difference(mine: Ranges, theirs: Ranges) -> Ranges:
    """Return what `mine` holds and `theirs` doesn't, by one walk over both."""
    rest: list[Range] = []
    at = 0
    for first, last in mine:
        start = first
        while at < len(theirs) and theirs[at][1] < start:
            at += 1
        look = at
        while look < len(theirs) and theirs[look][0] <= last:
            if theirs[look][0] > start:
                rest.append((start, theirs[look][0] - 1))
            start = theirs[look][1] + 1
            look += 1
        if start <= last:
            rest.append((start, last))
    return tuple(rest)
