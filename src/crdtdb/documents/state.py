"""Document state: three dot stores under one causal context, and their merge.

    leaves   dot -> Leaf     the revisions that no other write has replaced
    bodies   dot -> Body     plain JSON, a multi-value register
    fields   address -> dot -> Delta     what each CRDT inside the document is made of
    journals address -> Journal          the updates of texts and lists, which no context removes
    context  DotSet          every dot that this state has seen, held or replaced

A dot that the context covers and a store doesn't hold was removed by a write that had seen it. That is the whole merge rule:
it needs no clock, no tombstone and no randomness, and mints no dot. It is associative, commutative and idempotent, so
replicas converge in any order and number of exchanges.

Source: Almeida, Shoker, Baquero, "Delta State Replicated Data Types" (2018), dot stores; Preguiça et al. as in
`crdtdb.causality.dots`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from msgspec import Struct

from crdtdb.causality import EMPTY, Actor, Dot, DotSet
from crdtdb.crdts import NO_FIELDS, NO_JOURNALS, Creations, Fields, Journals, join_fields, merge_journals
from crdtdb.documents.revisions import Path, Rev
from crdtdb.errors import DotCollisionError


class Leaf(Struct, frozen=True, gc=False):
    """A revision that no other replaces.

    `clock` holds the writes to this document that it descends from, itself included; it never changes, merge doesn't
    use it, it tells a reader what is older and what is concurrent. `body_dot` names the body that it shows, and
    `body_rev` the revision that set it. `stamp` is a hybrid logical clock, for people and for last-write-wins. `native` says
    that it is an edit of fields alone, which no client of revision trees has read.
    """

    rev: Rev
    path: Path
    clock: DotSet
    deleted: bool
    body_dot: Dot
    body_rev: Rev
    stamp: int
    creations: Creations
    native: bool = False


class Body(Struct, frozen=True, gc=False):
    """Plain JSON as it was written, and the creations that its writer saw."""

    text: bytes
    creations: Creations


_V = TypeVar("_V", Leaf, Body)


class State(Struct, frozen=True, gc=False):
    """One replica's knowledge of one document. Values are never changed in place."""

    leaves: Mapping[Dot, Leaf]
    bodies: Mapping[Dot, Body]
    fields: Fields
    context: DotSet
    journals: Journals = NO_JOURNALS

    def dots(self) -> list[Dot]:
        """Return the live dots, those that a store of this state still holds; some of them more than once."""
        found = [*self.leaves, *self.bodies]
        for deltas in self.fields.values():
            found += deltas
        return found

    def written_once(self) -> Dot | None:
        """Return the one dot of a document that was written once: a live leaf with a body of its own, and nothing else."""
        if len(self.leaves) != 1 or len(self.bodies) != 1 or self.fields or self.journals:
            return None
        ((dot, leaf),) = self.leaves.items()
        return dot if leaf.rev.generation == 1 and not leaf.deleted and dot in self.bodies else None

    def actors(self) -> set[Actor]:
        """Return every actor of whose writes this state holds or has replaced something.

        Whatever a state has removed was a leaf's ancestor or travelled with one, so the clocks of the leaves name its
        actor. Hence the part of a node clock that concerns this document is its restriction to these actors.
        """
        found = {dot.actor for dot in self.dots()}
        for journal in self.journals.values():
            found.update(journal.vector)
        for leaf in self.leaves.values():
            found.update(leaf.clock.actors)
        return found

    def clock(self) -> DotSet:
        """Return the join of the clocks of all leaves and of the dots of all fields."""
        joined = EMPTY
        for leaf in self.leaves.values():
            joined |= leaf.clock
        if self.fields:
            joined |= DotSet.of(dot for deltas in self.fields.values() for dot in deltas)
        return joined

    def fields_seen(self) -> DotSet:
        """Return every dot of the fields here: the context of a reader."""
        dots = DotSet.of(dot for deltas in self.fields.values() for dot in deltas)
        for journal in self.journals.values():
            dots |= DotSet.vector(dict(journal.vector))
        return dots

    def living(self, alive: Callable[[Creations], bool]) -> State:
        """Return this state without what was written under creations that have all been dropped."""
        if (
            all(alive(leaf.creations) for leaf in self.leaves.values())
            and all(alive(body.creations) for body in self.bodies.values())
            and all(alive(delta.creations) for deltas in self.fields.values() for delta in deltas.values())
            and all(journal.living(alive) is journal for journal in self.journals.values())
        ):
            return self
        fields = {
            address: {dot: delta for dot, delta in deltas.items() if alive(delta.creations)}
            for address, deltas in self.fields.items()
        }
        return State(
            {dot: leaf for dot, leaf in self.leaves.items() if alive(leaf.creations)},
            {dot: body for dot, body in self.bodies.items() if alive(body.creations)},
            {address: deltas for address, deltas in fields.items() if deltas},
            self.context,
            {
                address: living
                for address, journal in self.journals.items()
                if (living := journal.living(alive)) is not None
            },
        )


NOTHING = State({}, {}, NO_FIELDS, EMPTY)


def merge(mine: State, theirs: State) -> State:
    """Return the join of two states of one document.

    Raises DotCollisionError if one dot names two contents; GapError if updates of a text or list are missing between the two.
    """
    return State(
        _join(mine.leaves, mine.context, theirs.leaves, theirs.context),
        _join(mine.bodies, mine.context, theirs.bodies, theirs.context),
        join_fields(mine.fields, mine.context, theirs.fields, theirs.context),
        mine.context | theirs.context,
        merge_journals(mine.journals, theirs.journals),
    )


def _join(mine: Mapping[Dot, _V], seen_here: DotSet, theirs: Mapping[Dot, _V], seen_there: DotSet) -> dict[Dot, _V]:
    """Keep a dot that both hold, and one that a single side holds and the other has never seen."""
    kept: dict[Dot, _V] = {}
    for dot, value in mine.items():
        if dot in theirs:
            _same(dot, value, theirs[dot])
            kept[dot] = value
        elif dot not in seen_there:
            kept[dot] = value
    for dot, value in theirs.items():
        if dot not in mine and dot not in seen_here:
            kept[dot] = value
    return kept


def _same(dot: Dot, mine: Leaf | Body, theirs: Leaf | Body) -> None:
    if isinstance(mine, Leaf) and isinstance(theirs, Leaf):
        equal = (mine.rev, mine.deleted, mine.native, mine.body_dot) == (
            theirs.rev,
            theirs.deleted,
            theirs.native,
            theirs.body_dot,
        )
    else:
        equal = isinstance(mine, Body) and isinstance(theirs, Body) and mine.text == theirs.text
    if not equal:
        raise DotCollisionError(
            f"dot {dot!r} names two contents: a counter of this actor was used twice. Both are kept "
            "where they are; stop the node that was restored or copied without a new actor"
        )
