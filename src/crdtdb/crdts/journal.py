"""Journal of a text or list: Yrs updates, each under the dot of its write.

    vector     actor -> counter      everything of this actor up to there is in
    updates    dot -> Update         those at hand; a store keeps the others in rows of their own
    snapshots  (vector, content)     many updates folded into one, at hand likewise
    strands    creations -> Strand   if they were written under several sets of creations: how far each goes

Updates are never removed by a context: they carry causality of their own, and without one of them a store could no longer read
those that build on it. What says whether a text is there are the dots of its field; the journal says what stands in it.

An update names the counter of the one before it by the same actor. So a journal knows whether what arrives connects with
what it has, and refuses what doesn't: a state is only held together with all the updates that its author had seen.

A *strand* is what was written under one set of creations of the collection, and goes when all of these are dropped. So no
update may build on a strand that can go before its own. Who writes under creations that another strand hasn't puts a copy of
the whole text into the update, and the update before it is one of a strand that lives as long.

Source: Nicolaescu, Jahns, Derntl, Klamma, "Near Real-Time Peer-to-Peer Shared Editing on Extensible Data Types" (2016),
for the updates; Wuu and Bernstein, "Efficient Solutions to the Replicated Log and Dictionary Problems" (1984), for logs
under a version vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from crdtdb.causality import Actor, Dot
from crdtdb.errors import CrdtdbError

Vector = Mapping[Actor, int]

_NOTHING: Mapping[Dot, Update] = MappingProxyType({})


class GapError(CrdtdbError):
    """Updates build on others that aren't here. Request the whole journal."""


Creations = frozenset[Dot]
"""The creations of the collection that a writer saw. Its writes live while one of them does."""


class Update(NamedTuple):
    """Update of one write. `after` is the counter of the same actor's previous update, 0 for its first.

    `creations` are those under which it was written, None if they are the journal's.
    """

    after: int
    content: bytes
    creations: Creations | None = None


class Snapshot(NamedTuple):
    """All updates up to a vector, folded into one. `creations` as an update has them."""

    vector: Vector
    content: bytes
    creations: Creations | None = None


class Strand(NamedTuple):
    """How far the updates under one set of creations go, and how far those of other strands are copied into them."""

    vector: Vector
    copied: Vector = MappingProxyType({})


class Journal(NamedTuple):
    """State of one text or list. Immutable.

    `creations` are those of every update that names none. `strands` is empty if there are no others.
    """

    vector: Vector
    creations: Creations
    updates: Mapping[Dot, Update] = _NOTHING
    snapshots: tuple[Snapshot, ...] = ()
    strands: Mapping[Creations, Strand] = MappingProxyType({})

    def all_strands(self) -> Mapping[Creations, Strand]:
        """Return the strands, even if there is only one."""
        return self.strands or ({self.creations: Strand(self.vector)} if self.vector else {})

    def grown(self, dot: Dot, content: bytes, creations: Creations, *, whole: bool = False) -> Journal:
        """Return the journal with one more update, of a write that had seen all of it; it takes the place of the write's last.

        `whole` says that all of the text stands in it.
        """
        creations = creations or self.creations  # an edit that is only tried has none
        strands = dict(self.all_strands())
        earlier, base = self.updates.get(dot), self.creations if self.vector else creations
        before = max((one.vector.get(dot.actor, 0) for held, one in strands.items() if held >= creations), default=0)
        own = None if creations == base else creations
        update = Update(before if earlier is None else earlier.after, content, own)
        vector = {**self.vector, dot.actor: dot.counter}
        updates = {**self.updates, dot: update}
        if not self.strands and own is None:
            return Journal(vector, base, updates, self.snapshots)
        strand = strands.get(creations, Strand({}))
        copied = join_vectors(strand.copied, self.vector) if whole else strand.copied
        strands[creations] = Strand({**strand.vector, dot.actor: dot.counter}, copied)
        return Journal(vector, base, updates, self.snapshots, strands)

    def outlives_none_of(self, creations: Creations) -> bool:
        """Whether nothing in it can go before what is written under these creations, unless it is copied there."""
        copied = self._copied_into(creations)
        return all(held >= creations or within(strand.vector, copied) for held, strand in self.all_strands().items())

    def parts(self) -> Iterable[Creations]:
        """Yield the creations of its strands, but for those all of which was copied into one that lives as long."""
        for held, strand in self.all_strands().items():
            if not self.strands or not within(strand.vector, self._copied_into(held, itself=False)):
                yield held

    def _copied_into(self, creations: Creations, *, itself: bool = True) -> Vector:
        copied: Vector = {}
        for held, strand in self.strands.items():
            if held > creations or (itself and held == creations):
                copied = join_vectors(copied, strand.copied)
        return copied

    def living(self, alive: Callable[[Creations], bool]) -> Journal | None:
        """Return the journal without the strands of which all creations were dropped, None if that is all of it."""
        strands = self.strands
        if not strands:
            return self if alive(self.creations) else None
        kept = {held: strand for held, strand in strands.items() if alive(held)}
        if len(kept) == len(strands):
            return self
        if not kept:
            return None
        return Journal(
            joined_vector(strand.vector for strand in kept.values()),
            self.creations,
            {dot: one for dot, one in self.updates.items() if (one.creations or self.creations) in kept},
            tuple(snapshot for snapshot in self.snapshots if (snapshot.creations or self.creations) in kept),
            {} if kept.keys() == {self.creations} else kept,
        )

    def highest(self) -> Vector:
        """Return the highest counter of each actor among the updates at hand."""
        found: dict[Actor, int] = {}
        for actor, counter in self.updates:
            found[actor] = max(counter, found.get(actor, 0))
        return found

    def contents(self) -> Iterable[bytes]:
        """Return the contents of all updates and snapshots here: applied together they are the text."""
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


def joined_vector(vectors: Iterable[Vector]) -> Vector:
    """Return the highest counter of each actor in any of them."""
    joined: Vector = {}
    for vector in vectors:
        joined = join_vectors(joined, vector)
    return joined


def within(one: Vector, other: Vector) -> bool:
    """Whether the second vector covers the first."""
    return all(counter <= other.get(actor, 0) for actor, counter in one.items())


def upto(journal: Journal, vector: Vector) -> Mapping[Dot, Update]:
    """Return the updates at hand that a vector covers."""
    return {dot: one for dot, one in journal.updates.items() if dot.counter <= vector.get(dot.actor, 0)}


def join_journals(mine: Journal, theirs: Journal) -> Journal:
    """Return the join of two journals. Raises GapError if updates between them are missing."""
    if mine.strands or theirs.strands or (mine.vector and mine.creations != theirs.creations):
        return _Join(mine, theirs).joined()
    snapshots = tuple(snapshot for snapshot in theirs.snapshots if not within(snapshot.vector, mine.vector))
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
    mine_left = tuple(snapshot for snapshot in mine.snapshots if snapshot not in snapshots)
    return Journal(
        reached,
        theirs.creations,
        {**mine.updates, **new} if new else mine.updates,
        mine_left + snapshots,
    )


class _Join:
    """The join of two journals that have several strands together.

    A journal that has one may come from a version that knows no strands, and then have updates of any under the creations of
    all. So of such a journal only that is taken which is in none of the strands that are here.
    """

    def __init__(self, mine: Journal, theirs: Journal) -> None:
        self._mine, self._theirs = mine, theirs
        self._base = mine.creations if mine.vector else theirs.creations
        self._before = {held: strand.vector for held, strand in mine.all_strands().items()}
        self._reached: dict[Creations, Vector] = dict(self._before)
        self._blurred = not theirs.strands

    def joined(self) -> Journal:
        """Return the join. Raises GapError."""
        theirs = self._theirs
        snapshots = tuple(self._taken_snapshots())
        updates = {**self._mine.updates, **self._taken_updates()}
        for held, strand in theirs.all_strands().items():
            if not within(strand.vector, self._there(self._reached, held)):
                raise GapError("the sender knows updates that neither came along nor are here")
        strands = {
            held: Strand(vector, join_vectors(self._copied(self._mine, held), self._copied(theirs, held)))
            for held, vector in self._reached.items()
            if vector
        }
        mine_left = tuple(snapshot for snapshot in self._mine.snapshots if snapshot not in snapshots)
        return Journal(
            joined_vector(self._reached.values()),
            self._base,
            updates,
            mine_left + snapshots,
            {} if strands.keys() == {self._base} else strands,
        )

    def _taken_snapshots(self) -> Iterable[Snapshot]:
        for one in self._theirs.snapshots:
            held = one.creations or self._theirs.creations
            if not within(one.vector, self._there(self._before, held)):
                self._reached[held] = join_vectors(self._reached.get(held, {}), one.vector)
                yield one._replace(creations=self._named(held))

    def _taken_updates(self) -> Mapping[Dot, Update]:
        taken = {}
        for dot in sorted(self._theirs.updates, key=lambda dot: (dot.counter, dot.actor)):
            update = self._theirs.updates[dot]
            held = self._continued(dot.actor, update) or update.creations or self._theirs.creations
            if dot.counter <= self._there(self._before, held).get(dot.actor, 0):
                continue
            reached = self._there(self._reached, held).get(dot.actor, 0)
            if dot.counter > reached < update.after:
                raise GapError(f"the update {dot!r} builds on {update.after}, which isn't here")
            after = min(update.after, self._longer(held).get(dot.actor, 0)) if self._blurred else update.after
            taken[dot] = Update(after, update.content, self._named(held))
            self._reached[held] = join_vectors(self._reached.get(held, {}), {dot.actor: dot.counter})
        return taken

    def _continued(self, actor: Actor, update: Update) -> Creations | None:
        """Return the strand here that an update goes on with which names none. Elsewhere it would seem to build on nothing.

        Who lacks the update before it must find that out, or the text would never show what builds on that.
        """
        if not self._blurred or not update.after:
            return None
        ends = [held for held, vector in self._reached.items() if vector.get(actor) == update.after]
        return max(ends, key=lambda held: (len(held), sorted(held)), default=None)

    def _there(self, vectors: Mapping[Creations, Vector], held: Creations) -> Vector:
        """Return how far those strands here go that have what one of theirs has, and live as long.

        What an actor adds to one of these has all that the same actor had added to a strand that can go before.
        """
        return joined_vector(one for other, one in vectors.items() if self._blurred or other >= held)

    def _longer(self, held: Creations) -> Vector:
        """Return how far the strands go that live as long: an update names one of these as that before it, and no other."""
        return joined_vector(one for other, one in self._reached.items() if other >= held)

    def _named(self, held: Creations) -> Creations | None:
        return None if held == self._base else held

    @staticmethod
    def _copied(journal: Journal, held: Creations) -> Vector:
        return journal.strands[held].copied if held in journal.strands else {}
