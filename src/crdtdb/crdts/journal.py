"""The journal of a text or list: its updates in the encoding of Yrs, each under the dot of its write.

    vector     actor -> counter      everything of this actor up to there is in
    updates    dot -> Update         those at hand; a store keeps the others in rows of their own
    snapshots  (vector, content)     many updates folded into one, at hand likewise

Updates are never removed by a context: they carry causality of their own, and whoever took one away could no longer read
those that build on it. What says whether a text is there are the dots of its field; the journal says what stands in it.

An update names the counter of the one before it by the same actor. So a journal knows whether what arrives connects with
what it has, and refuses what doesn't: a state is only held together with all the updates that its author had seen.

Source: Nicolaescu, Jahns, Derntl, Klamma, "Near Real-Time Peer-to-Peer Shared Editing on Extensible Data Types" (2016),
for the updates; Wuu and Bernstein, "Efficient Solutions to the Replicated Log and Dictionary Problems" (1984), for logs
under a version vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from crdtdb.causality import Actor, Dot
from crdtdb.errors import CrdtdbError

Vector = Mapping[Actor, int]

_NOTHING: Mapping[Dot, Update] = MappingProxyType({})


class GapError(CrdtdbError):
    """Updates that build on others which aren't here. Ask for the whole journal."""


class Update(NamedTuple):
    """What one write added. `after` is the counter of the same actor's update before it, 0 for its first."""

    after: int
    content: bytes


class Snapshot(NamedTuple):
    """All updates up to a vector, folded into one."""

    vector: Vector
    content: bytes


class Journal(NamedTuple):
    """What is known of one text or list. Values are never changed in place.

    `creations` are those of the collection that any of its writers saw: it lives while one of them does.
    """

    vector: Vector
    creations: frozenset[Dot]
    updates: Mapping[Dot, Update] = _NOTHING
    snapshots: tuple[Snapshot, ...] = ()

    def grown(self, dot: Dot, content: bytes, creations: frozenset[Dot]) -> Journal:
        """Return the journal with one more update, of a write that had seen all of it."""
        update = Update(self.vector.get(dot.actor, 0), content)
        return Journal(
            {**self.vector, dot.actor: dot.counter},
            self.creations | creations,
            {**self.updates, dot: update},
            self.snapshots,
        )

    def highest(self) -> Vector:
        """Return the highest counter of each actor among the updates at hand."""
        found: dict[Actor, int] = {}
        for actor, counter in self.updates:
            found[actor] = max(counter, found.get(actor, 0))
        return found

    def contents(self) -> Iterable[bytes]:
        """Return everything at hand: apply all of it, and it is the text."""
        yield from (snapshot.content for snapshot in self.snapshots)
        for dot in sorted(self.updates, key=lambda dot: (dot.counter, dot.actor)):
            yield self.updates[dot].content

    def checked(self) -> Journal:
        """Return this journal, as one that arrives where there is none. Raises GapError if its beginning is missing."""
        return join_journals(EMPTY_JOURNAL, self)


EMPTY_JOURNAL = Journal(MappingProxyType({}), frozenset())


def join_vectors(one: Vector, other: Vector) -> Vector:
    """Return the highest counter of each actor."""
    return {actor: max(one.get(actor, 0), other.get(actor, 0)) for actor in {**one, **other}}


def within(one: Vector, other: Vector) -> bool:
    """Whether the second vector covers the first."""
    return all(counter <= other.get(actor, 0) for actor, counter in one.items())


def upto(journal: Journal, vector: Vector) -> Mapping[Dot, Update]:
    """Return the updates at hand that a vector covers."""
    return {dot: one for dot, one in journal.updates.items() if dot.counter <= vector.get(dot.actor, 0)}


def join_journals(mine: Journal, theirs: Journal) -> Journal:
    """Return what both know. Raises GapError if something between them is missing."""
    snapshots = tuple(one for one in theirs.snapshots if not within(one.vector, mine.vector))
    reached = dict(mine.vector)
    for snapshot in snapshots:
        reached = dict(join_vectors(reached, snapshot.vector))
    new = {}
    for dot in sorted(theirs.updates, key=lambda dot: dot.counter):
        update = theirs.updates[dot]
        if dot.counter > mine.vector.get(dot.actor, 0):
            new[dot] = update
        if dot.counter > reached.get(dot.actor, 0):
            if update.after > reached.get(dot.actor, 0):
                raise GapError(f"the update {dot!r} builds on {update.after}, which isn't here")
            reached[dot.actor] = dot.counter
    if not within(theirs.vector, reached):
        raise GapError("the sender knows updates that neither came along nor are here")
    mine_left = tuple(one for one in mine.snapshots if one not in snapshots)
    return Journal(
        reached,
        mine.creations | theirs.creations,
        {**mine.updates, **new} if new else mine.updates,
        mine_left + snapshots,
    )
