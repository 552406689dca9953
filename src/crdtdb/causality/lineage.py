"""Lineages: the sessions of an actor, to detect two histories under its name.

    session   (first, tag)     the first counter that an actor used after its store was opened, and 16 bytes drawn then
    lineage   sessions of one actor, ascending; known up to a counter

A store that is put back from a backup opens again, so what it writes then belongs to another session than what it wrote
the first time, though both use the same counters. Two stores whose lineages of an actor agree up to the smaller counter
hold the same writes under its dots. Where they part the later session loses: its writes are renamed from (actor, counter)
to (tag, counter), which every holder can do by itself, with the same result. So a tag is the actor that the session would
have been, and a chain of sessions under one actor is short for a chain of actors.

What was written before lineages were kept belongs to session (0, b"").

Source: Parker et al., "Detection of Mutual Inconsistency in Distributed Systems" (1983), for version vectors, which a store
that goes back in time breaks; Li, Krohn, Mazières, Shasha, "Secure Untrusted Data Repository (SUNDR)" (2004), for hash chains
over histories beside the versions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import NamedTuple

from crdtdb.causality.dots import Actor, Dot
from crdtdb.causality.dotset import DotSet

TAG_BYTES = 16
_DIGEST_BYTES = 8
_LAST = (1 << 63) - 1


class Session(NamedTuple):
    """One session of an actor. They compare by first counter, then tag: the greater of two that contradict is renamed."""

    first: int
    tag: bytes


UNTOLD = Session(0, b"")
"""The session of writes from before lineages were kept."""


class Lineage:
    """The sessions of one actor, ascending. Immutable.

    `known` is the counter up to which they are known, None if that is all that its holder has of the actor.
    """

    __slots__ = ("_chain", "known", "sessions")

    def __init__(self, sessions: tuple[Session, ...] = (), known: int | None = None) -> None:
        self.sessions, self.known = sessions, known
        self._chain: list[bytes] | None = None

    def reach(self, highest: int) -> int:
        """Return the counter up to which a store with the actor's dots up to `highest` knows the sessions."""
        return highest if self.known is None else min(self.known, highest)

    def at(self, counter: int) -> Session:
        """Return the session of a counter."""
        place = bisect_right(self.sessions, (counter, b"\xff" * TAG_BYTES))
        return self.sessions[place - 1] if place else UNTOLD

    def upto(self, counter: int) -> tuple[Session, ...]:
        """Return the sessions that begin no later than at a counter."""
        return self.sessions[: bisect_right(self.sessions, (counter, b"\xff" * TAG_BYTES))]

    def chained(self, counter: int) -> bytes:
        """Return a hash of the sessions up to a counter, each chained to those before."""
        if self._chain is None:
            chain = [b""]
            for first, tag in self.sessions:
                chain.append(blake2b(b"%b%d:%b" % (chain[-1], first, tag), digest_size=_DIGEST_BYTES).digest())
            self._chain = chain
        return self._chain[len(self.upto(counter))]

    def begun(self, session: Session) -> Lineage:
        """Return the lineage with one more session, of whose actor its holder has everything."""
        return Lineage((*self.upto(session.first - 1), session))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lineage) and (self.sessions, self.known) == (other.sessions, other.known)

    def __hash__(self) -> int:
        return hash((self.sessions, self.known))

    def __repr__(self) -> str:
        shown = ", ".join(f"{first}:{tag.hex()[:8]}" for first, tag in self.sessions)
        return f"Lineage({shown}{'' if self.known is None else f', known to {self.known}'})"


_NO_SESSIONS = Lineage()


class Fork(NamedTuple):
    """A session of an actor that contradicts what another store holds: its writes are to be renamed."""

    actor: Actor
    session: Session

    def renamed(self, dot: Dot) -> Dot:
        """Return the name of a dot after the renaming."""
        return Dot(self.session.tag, dot[1]) if dot[0] == self.actor and dot[1] >= self.session.first else dot

    def renamed_dots(self, dots: DotSet) -> DotSet:
        """Return a set with the dots of the session, and of those that followed on it, renamed."""
        if dots.highest(self.actor) < self.session.first:
            return dots
        branch = dots & self.branch
        return (dots - branch) | DotSet({self.session.tag: branch.ranges(self.actor)})

    @property
    def branch(self) -> DotSet:
        """The dots that are renamed."""
        return DotSet({self.actor: ((self.session.first, _LAST),)})

    def __str__(self) -> str:
        return f"{self.actor.hex()[:8]} from write {self.session.first} on"


class Lineages:
    """The lineage of every actor, as far as one store knows it. Immutable."""

    __slots__ = ("_of",)

    def __init__(self, of: Mapping[Actor, Lineage] | None = None) -> None:
        self._of: Mapping[Actor, Lineage] = of if of is not None else {}

    def of(self, actor: Actor) -> Lineage:
        """Return an actor's lineage."""
        return self._of.get(actor, _NO_SESSIONS)

    def items(self) -> Iterator[tuple[Actor, Lineage]]:
        """Yield each actor of which something is known, with its lineage."""
        return iter(self._of.items())

    def __contains__(self, actor: object) -> bool:
        return actor in self._of

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lineages) and self._of == other._of

    def __hash__(self) -> int:
        return hash(frozenset(self._of.items()))

    def put(self, actor: Actor, lineage: Lineage) -> Lineages:
        """Return these with another lineage of one actor."""
        return Lineages({**self._of, actor: lineage})

    def digest(self, clock: DotSet) -> bytes:
        """Return an eight-byte digest of the sessions of a clock, equal for stores with the same sessions."""
        hashed = blake2b(digest_size=_DIGEST_BYTES)
        for actor in sorted(clock.actors):
            highest, lineage = clock.highest(actor), self.of(actor)
            reach = lineage.reach(highest)
            if reach < highest or lineage.upto(reach):
                hashed.update(b"%b%d:%b" % (actor, reach if reach < highest else 0, lineage.chained(reach)))
        return hashed.digest()

    def joined(self, clock: DotSet, theirs: Lineages, their_clock: DotSet) -> Lineages:
        """Return the join of two lineages, each for the actors of its clock, where they don't contradict."""
        joined = dict(self._of)
        for actor in their_clock.actors:
            highest, their_highest = clock.highest(actor), their_clock.highest(actor)
            mine, other = self.of(actor), theirs.of(actor)
            reach, their_reach = mine.reach(highest), other.reach(their_highest)
            known = max(reach, their_reach)
            sessions = other.upto(their_reach) if their_reach > reach else mine.sessions
            learned = Lineage(sessions, None if known >= max(highest, their_highest) else known)
            if learned != mine:
                joined[actor] = learned
        return self if all(self._of.get(actor) is one for actor, one in joined.items()) else Lineages(joined)

    def without(self, fork: Fork) -> Lineages:
        """Return these after a renaming: the session, and those that followed on it, are another actor's."""
        actor, (first, tag) = fork.actor, fork.session
        mine = self.of(actor)
        kept = Lineage(tuple(session for session in mine.sessions if session.first < first), mine.known)
        moved = tuple(session for session in mine.sessions if session.first >= first)
        return Lineages({**self._of, actor: kept, tag: Lineage(moved, mine.known)})

    def forks(self, clock: DotSet, theirs: Lineages, their_clock: DotSet) -> tuple[list[Fork], list[Fork]]:
        """Compare with the lineages of another store; return the forks to rename here, and those to rename there."""
        here: list[Fork] = []
        there: list[Fork] = []
        renamed = self._renamed() | theirs._renamed()
        for actor in clock.actors:
            highest, their_highest = clock.highest(actor), their_clock.highest(actor)
            mine, other = self.of(actor), theirs.of(actor)
            reach, their_reach = mine.reach(highest), other.reach(their_highest)
            fork = _parting(mine, other, min(reach, their_reach))
            if fork is not None:
                loser, of_mine = fork
                (here if of_mine else there).append(Fork(actor, loser))
            elif renamed:
                here += _first_renamed(actor, mine.upto(reach), renamed)
                there += _first_renamed(actor, other.upto(their_reach), renamed)
        return here, there

    def is_renamed(self, actor: Actor) -> bool:
        """Whether an actor was a session of another, before a store met a contradiction: no store writes as it."""
        sessions = self.of(actor).sessions
        return bool(sessions) and sessions[0].tag == actor

    def _renamed(self) -> set[Actor]:
        return set(filter(self.is_renamed, self._of))


def _first_renamed(actor: Actor, sessions: tuple[Session, ...], renamed: set[Actor]) -> list[Fork]:
    found = next((session for session in sessions if session.tag != actor and session.tag in renamed), None)
    return [Fork(actor, found)] if found is not None else []


def _parting(mine: Lineage, other: Lineage, reach: int) -> tuple[Session, bool] | None:
    """Return the session that loses where two lineages part no later than at a counter, and whether it is of the first."""
    if reach <= 0 or mine.chained(reach) == other.chained(reach):
        return None
    for counter in sorted({one.first for lineage in (mine, other) for one in lineage.upto(reach)}):
        one, two = mine.at(counter), other.at(counter)
        if one != two:
            return max((one, True), (two, False))
    return None
