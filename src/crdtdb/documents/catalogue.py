"""Collections: each name holds an add-wins set of *creation* dots.

    names  name -> creations
    marks  the dots of the last drops

A drop removes the creations that it saw, so one that was made at the same time elsewhere stays; two nodes that create
a name at the same time have one collection. What was dropped leaves no tombstone: a creation that the context covers and
the catalogue doesn't hold is dead. The drop itself needs a dot that travels, which is its mark; the next drop replaces it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from crdtdb.causality import EMPTY, Dot, DotSet
from crdtdb.crdts import Creations


class Catalogue(NamedTuple):
    """One replica's knowledge of which collections there are. Values are never changed in place."""

    names: Mapping[str, Creations]
    marks: frozenset[Dot]
    context: DotSet

    def dots(self) -> Iterator[Dot]:
        """Yield every dot that the catalogue holds."""
        for creations in self.names.values():
            yield from creations
        yield from self.marks

    def created(self, name: str, dot: Dot) -> Catalogue:
        """Return the catalogue after `dot` created the collection."""
        creations = self.names.get(name, frozenset()) | {dot}
        return Catalogue({**self.names, name: creations}, self.marks, self.context.add(dot))

    def dropped(self, name: str, dot: Dot) -> Catalogue:
        """Return the catalogue after `dot` dropped every creation of the name that is known here."""
        names = {other: creations for other, creations in self.names.items() if other != name}
        return Catalogue(names, frozenset({dot}), self.context.add(dot))

    def learned(self, name: str, creations: Creations) -> Catalogue:
        """Return the catalogue with those of the creations that it had never heard of.

        A document that arrives ahead of the catalogue's own news brings its collection along.
        """
        unknown = frozenset(dot for dot in creations if dot not in self.context)
        if not unknown:
            return self
        held = self.names.get(name, frozenset()) | unknown
        return Catalogue({**self.names, name: held}, self.marks, self.context | DotSet.of(unknown))


NO_COLLECTIONS = Catalogue({}, frozenset(), EMPTY)


def merge_catalogues(mine: Catalogue, theirs: Catalogue) -> Catalogue:
    """Return the join of two catalogues, by the rule by which documents merge."""
    names: dict[str, Creations] = {}
    for name in {*mine.names, *theirs.names}:
        creations = _join(
            mine.names.get(name, frozenset()), mine.context, theirs.names.get(name, frozenset()), theirs.context
        )
        if creations:
            names[name] = creations
    return Catalogue(
        names, _join(mine.marks, mine.context, theirs.marks, theirs.context), mine.context | theirs.context
    )


def _join(mine: frozenset[Dot], seen_here: DotSet, theirs: frozenset[Dot], seen_there: DotSet) -> frozenset[Dot]:
    kept = {dot for dot in mine if dot in theirs or dot not in seen_there}
    kept.update(dot for dot in theirs if dot not in seen_here)
    return frozenset(kept)
