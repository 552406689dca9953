"""Votes: what each member promises to those who want a lock. A majority of promises is a lease.

A voter promises a lock to one request at a time, for as long as that one's lease lasts, and remembers it through a restart.
Any two majorities of one roster share a voter, so no two leases of one lock are held at once. A token that grows with each
lease, one more than the highest that a majority knows, tells the newer from the older wherever an old holder may still act.

Requests are served in the order of their tickets: when and where they were made. A voter that is asked out of turn says so,
and calls who is next when the lock is free.

A roster that changes by one member at a time keeps that property, since a majority before and one after still share a voter.
Where it changes by more, or a voter has lost its promises, it makes new ones only when every other member has told it theirs,
or when the longest lease has run out. A promise counts only between nodes that agree on who the members are.

Sources: Gray, Cheriton, "Leases" (1989); Lamport, "Time, Clocks, and the Ordering of Events" (1978), for the tickets; Ongaro,
"Consensus: Bridging Theory and Practice" (2014), section 4, for changes of one member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from crdtdb.limits import LOCK_SECONDS_MAX, LOCK_WAITING_MAX, LOCKS_MAX, TOKEN_JUMP_MAX
from crdtdb.wire.messages import Ticket

HELD = "it is held through"
ASKING_SECONDS = 5.0
"""How long a promise lasts whose lease hasn't begun, and a request keeps its turn without asking again."""


class Vote(NamedTuple):
    """A promise: until then no other ticket gets this voter's vote. `token` is 0 until the lease has begun."""

    ticket: Ticket
    token: int
    ttl: float
    until: float


class Answer(NamedTuple):
    """What a voter answers: whether it agrees, the highest token it knows, and why not."""

    granted: bool
    token: int
    reason: str = ""


class Kept(NamedTuple):
    """What a voter keeps through a restart."""

    highest: int = 0
    rosters: tuple[frozenset[bytes], ...] = ()
    """The rosters under which its promises may have been made; none if it has none."""
    votes: Mapping[str, Vote] = {}


class Voter:
    """One member's votes. `keep` is called before an answer is given, and returns when what it was given is durable."""

    def __init__(self, kept: Kept, keep: Callable[[Kept, str | None], None], now: float) -> None:
        """Go on with what was kept: leases start over, since it is unknown how long the node was away.

        `keep` is given all that is to be kept and the name of the lock that changed, None if it is something else.
        """
        self._keep = keep
        self.highest = kept.highest
        self.votes = {name: vote._replace(until=now + _length(vote)) for name, vote in kept.votes.items()}
        self._waiting: dict[str, dict[Ticket, float]] = {}
        self._recent = dict.fromkeys(kept.rosters, now + LOCK_SECONDS_MAX)
        """Rosters under which a lease may have begun that isn't over, and until when."""
        self._roster: frozenset[bytes] = frozenset()
        self._unheard: set[bytes] = set()
        self._held_off_until = now
        self._may_end_early = True

    # The roster

    def members_are(self, roster: frozenset[bytes], me: bytes, now: float) -> None:
        """Take note of the members' store ids."""
        if roster == self._roster:
            return
        before, self._roster = self._roster, roster
        if before:
            self._recent[before] = now + LOCK_SECONDS_MAX
        self._recent = {one: until for one, until in self._recent.items() if until > now}
        known = [one for one in self._recent if me in one]
        if not known or any(len(one ^ roster) > 1 for one in self._recent):
            self._unheard = set(roster - {me})
            self._held_off_until = now + LOCK_SECONDS_MAX
            self._may_end_early = all(len(one - roster) <= len(one) // 2 for one in self._recent)
        self._recent[roster] = now + LOCK_SECONDS_MAX
        self._save(None)
        self._end_early(now)

    @property
    def unheard(self) -> frozenset[bytes]:
        """The store ids of members that are still to tell what they have promised."""
        return frozenset(self._unheard)

    def told(self, store_id: bytes, votes: Mapping[str, Vote], highest: int, now: float) -> None:
        """A member tells what it has promised, under the same roster as this one's."""
        self.highest = max(self.highest, highest)
        for name, vote in votes.items():
            if name not in self.votes and len(self.votes) >= LOCKS_MAX:
                continue
            mine = self._vote(name, now)
            if mine is None or (mine.token, mine.ticket) < (vote.token, vote.ticket):
                self._set(name, vote._replace(until=now + _length(vote)))
        self._unheard.discard(store_id)
        self._end_early(now)

    def held_off(self, now: float) -> bool:
        """Whether this voter makes no new promises yet."""
        return now < self._held_off_until

    def is_plausible(self, token: int) -> bool:
        """Whether a token that another member tells can be one: a token is no more than one above all before it.

        One that can't be moves the highest known a step towards it: if others believe it, this voter will in the end.
        """
        if token <= self.highest + TOKEN_JUMP_MAX:
            return True
        self.highest += TOKEN_JUMP_MAX
        return False

    # Requests

    def ask(self, name: str, ticket: Ticket, ttl: float, now: float) -> Answer:
        """Handle the request for a lock."""
        if self.held_off(now):
            return Answer(False, self.highest, "this member doesn't know yet what the others have promised")
        waiting = self._waiting.setdefault(name, {})
        if ticket not in waiting and len(waiting) >= LOCK_WAITING_MAX:
            return Answer(False, self.highest, f"{LOCK_WAITING_MAX:,} wait for it already")
        waiting[ticket] = now + ASKING_SECONDS
        vote = self._vote(name, now)
        if vote is not None and vote.ticket != ticket:
            return Answer(False, self.highest, f"{HELD} {vote.ticket.node}")
        if self._first(name, now) != ticket:
            return Answer(False, self.highest, "others came before")
        if vote is None:
            if len(self.votes) >= LOCKS_MAX:
                return Answer(False, self.highest, f"{LOCKS_MAX:,} locks are held already")
            self._set(name, Vote(ticket, 0, ttl, now + ASKING_SECONDS))
        return Answer(True, self.highest)

    def hold(self, name: str, ticket: Ticket, token: int, ttl: float, now: float) -> Answer:
        """A lease begins or goes on: also where this voter never promised it, or no longer does, and no other ticket has it."""
        vote = self._vote(name, now)
        if vote is not None and vote.ticket != ticket:
            return Answer(False, self.highest, f"{HELD} {vote.ticket.node}")
        if name not in self.votes and len(self.votes) >= LOCKS_MAX:
            return Answer(False, self.highest, f"{LOCKS_MAX:,} locks are held already")
        self.highest = max(self.highest, token)
        changed = vote is None or (vote.token, vote.ttl) != (token, ttl)
        held = Vote(ticket, token, ttl, now + ttl)
        if changed:
            self._set(name, held)
        else:
            self.votes[name] = held
        self._drop_waiting(name, ticket)
        return Answer(True, self.highest)

    def check(self, name: str, token: int, now: float) -> Answer:
        """Handle the question whether a token is the current one."""
        vote = self._vote(name, now)
        if vote is not None and vote.token == token > 0:
            return Answer(True, self.highest)
        return Answer(False, self.highest, "the lease is over" if vote is None else f"{HELD} {vote.ticket.node}")

    def free(self, name: str, ticket: Ticket, waits: bool, now: float) -> str | None:
        """A request gives its vote back, and goes on waiting or not; return the node that is to be called, if any."""
        vote = self.votes.get(name)
        if vote is not None and vote.ticket == ticket:
            self._set(name, None)
        if not waits:
            self._drop_waiting(name, ticket)
        first = self._first(name, now)
        return first.node if first not in (None, ticket) and self._vote(name, now) is None else None

    def tick(self, now: float) -> list[tuple[str, str]]:
        """Let promises end; return the nodes to be called, each with the lock."""
        over = [name for name, vote in self.votes.items() if vote.until <= now]
        for name in over:
            self._set(name, None)
        calls = [(node, name) for name in over if (node := self._next(name, now)) is not None]
        for name in list(self._waiting):
            self._first(name, now)
        return calls

    def waiting(self, name: str, now: float) -> list[Ticket]:
        """Return who waits for a lock, in the order in which they are served. May be asked from any thread."""
        return sorted(ticket for ticket, until in dict(self._waiting.get(name, {})).items() if until > now)

    def _end_early(self, now: float) -> None:
        if not self._unheard and self._may_end_early:
            self._held_off_until = now

    def _next(self, name: str, now: float) -> str | None:
        first = self._first(name, now)
        return first.node if first is not None and self._vote(name, now) is None else None

    def _first(self, name: str, now: float) -> Ticket | None:
        """Return who is served next, and forget those who have stopped asking."""
        waiting = {one: until for one, until in self._waiting.get(name, {}).items() if until > now}
        if waiting:
            self._waiting[name] = waiting
            return min(waiting)
        self._waiting.pop(name, None)
        return None

    def _drop_waiting(self, name: str, ticket: Ticket) -> None:
        waiting = self._waiting.get(name, {})
        waiting.pop(ticket, None)
        if not waiting:
            self._waiting.pop(name, None)

    def _vote(self, name: str, now: float) -> Vote | None:
        vote = self.votes.get(name)
        return vote if vote is not None and vote.until > now else None

    def _set(self, name: str, vote: Vote | None) -> None:
        if vote is None:
            self.votes.pop(name, None)
        else:
            self.votes[name] = vote
        self._save(name)

    def _save(self, name: str | None) -> None:
        self._keep(Kept(self.highest, tuple(self._recent), self.votes), name)


def _length(vote: Vote) -> float:
    return vote.ttl if vote.token else ASKING_SECONDS
