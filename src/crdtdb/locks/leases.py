"""Leases: what a node asks the voters for, on behalf of those who want a lock through it.

Two rounds: all members are asked for their promise, which also tells the highest token that a majority knows; then the next
token is written down at a majority, and with that the lease has begun. It is counted from before the second round was sent, and
ends here a little before it ends at any voter. The same second round renews it.

Who doesn't get a majority gives back what it got, and asks again when it is called or a moment later. So two who asked at the
same time, and got a part of the votes each, are ordered by their tickets in the next round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from crdtdb.limits import LOCK_SECONDS_MAX, LOCK_SECONDS_MIN, TOKEN_MAX
from crdtdb.locks.voter import HELD, Answer
from crdtdb.wire.messages import Ticket

if TYPE_CHECKING:
    from random import Random

_ROUND_SECONDS = 1.0
_AGAIN_SECONDS = (0.15, 0.45)
_AGAIN_SECONDS_MAX = 2.0
_DRIFT = 0.02
"""By how much two clocks may differ in speed: so much earlier a lease ends here."""


class Stage(Enum):
    """How far a request is."""

    WAITING = "waiting"
    ASKING = "asking"
    BEGINNING = "beginning"
    HELD = "held"
    OVER = "over"


class Vow(NamedTuple):
    """A request to a voter: a promise without a token, a lease with one."""

    number: int
    name: str
    ticket: Ticket
    token: int
    ttl: float


@dataclass(slots=True)
class Lease:
    """A request for a lock, and what came of it. Read it from any thread; only the engine changes it."""

    name: str
    ticket: Ticket
    ttl: float
    who: str
    """The holder's name, as it is published."""
    renewing: bool
    """Whether it goes on until it is released, or ends after `ttl` unless it is renewed."""
    give_up_at: float
    changed: Callable[[], None]
    """Called whenever the stage changes, by the engine."""
    stage: Stage = Stage.WAITING
    token: int = 0
    until: float = 0.0
    """When it ends here, unless it is renewed."""
    why: str = ""
    """Why it wasn't granted yet, or is over."""
    number: int = 0
    round_sent: float = 0.0
    next_round: float = 0.0
    rounds_lost: int = 0
    yes: set[str] = field(default_factory=set)
    no: dict[str, str] = field(default_factory=dict)
    highest: int = 0
    renew: bool = False

    def live(self, now: float) -> bool:
        """Whether the lease is held."""
        return self.stage is Stage.HELD and now < self.until


Send = Callable[[str, Vow], None]
"""Sends a request to the member of that name, this node among them."""


class Leases:
    """The leases that are wanted and held through one node."""

    def __init__(
        self, me: str, send: Send, free: Callable[[str, Ticket, bool], None], rng: Random, numbers: Iterator[int]
    ) -> None:
        """`free` gives every member's vote back, `(lock, ticket, whether it still waits)`."""
        self._me, self._send, self._free, self._rng, self._numbers = me, send, free, rng, numbers
        self._all: dict[Ticket, Lease] = {}
        self._by_number: dict[int, Lease] = {}

    def __len__(self) -> int:
        return len(self._all)

    def all(self) -> list[Lease]:
        """Return every lease that isn't over."""
        return list(self._all.values())

    def held(self, name: str, now: float) -> Lease | None:
        """Return the lease of a lock that is held through this node. May be asked from any thread."""
        return next((one for one in self.all() if one.name == name and one.live(now)), None)

    def want(self, lease: Lease) -> None:
        """Begin to ask for a lock."""
        self._all[lease.ticket] = lease

    def renew(self, lease: Lease) -> None:
        """Ask for another `ttl` from now on."""
        lease.renew = True

    def release(self, lease: Lease, why: str = "it was released") -> None:
        """End a request or a lease."""
        if lease.stage is not Stage.OVER:
            self._end(lease, why)

    def called(self, name: str) -> None:
        """A voter says that the lock is free and this node's request next."""
        for lease in self._all.values():
            if lease.name == name and lease.stage is Stage.WAITING:
                lease.next_round, lease.rounds_lost = 0.0, 0

    def tick(self, members: Iterable[str], now: float) -> None:
        """Begin the rounds that are due, and end what is over."""
        everyone = sorted(members)
        for lease in list(self._all.values()):
            if lease.stage is Stage.HELD:
                self._keep(lease, everyone, now)
            elif lease.stage is Stage.WAITING:
                if now >= lease.give_up_at and (lease.number or not everyone):
                    self._end(lease, lease.why or "this node isn't a member of its cluster yet")
                elif everyone and now >= lease.next_round:
                    lease.stage = Stage.ASKING
                    self._round(lease, everyone, now)
            elif now - lease.round_sent > _ROUND_SECONDS:
                silent = len(everyone) - len(lease.yes) - len(lease.no)
                self._fail(lease, f"{silent} of {len(everyone)} members didn't answer", now)

    def answered(self, number: int, member: str, answer: Answer, members: Iterable[str], now: float) -> None:
        """A voter's answer is here."""
        lease = self._by_number.get(number)
        everyone = set(members)
        if lease is None or lease.number != number or member not in everyone:
            return
        if answer.granted:
            lease.yes.add(member)
            lease.highest = max(lease.highest, answer.token)
        else:
            lease.no[member] = answer.reason
        needed = len(everyone) // 2 + 1
        if len(lease.yes) >= needed:
            self._won(lease, sorted(everyone), now)
        elif len(everyone) - len(lease.no) < needed and lease.stage is not Stage.HELD:
            self._fail(lease, _most_said(lease.no.values()), now)

    def _won(self, lease: Lease, members: list[str], now: float) -> None:
        if lease.stage is Stage.ASKING and lease.highest >= TOKEN_MAX:
            self._fail(lease, "there are no tokens left: a member has lied about them", now)
            return
        if lease.stage is Stage.ASKING:
            lease.stage, lease.token = Stage.BEGINNING, lease.highest + 1
            self._round(lease, members, now)
            return
        until = lease.round_sent + lease.ttl * (1 - _DRIFT)
        if lease.stage is Stage.BEGINNING and now < until:
            lease.stage, lease.until = Stage.HELD, until
            lease.changed()
        elif lease.stage is Stage.HELD and now < lease.until:
            lease.until = max(lease.until, until)

    def _keep(self, lease: Lease, members: list[str], now: float) -> None:
        if now >= lease.until:
            self._end(
                lease, "no majority of the members could be asked in time" if lease.renewing else "its time is over"
            )
        elif lease.renew or (lease.renewing and now - lease.round_sent >= lease.ttl / 3):
            lease.renew = False
            self._round(lease, members, now)

    def _round(self, lease: Lease, members: list[str], now: float) -> None:
        self._by_number.pop(lease.number, None)
        lease.number, lease.round_sent = next(self._numbers), now
        lease.yes, lease.no = set(), {}
        if lease.stage is Stage.ASKING:
            lease.highest = 0
        self._by_number[lease.number] = lease
        vow = Vow(lease.number, lease.name, lease.ticket, lease.token, lease.ttl)
        for member in sorted(members, key=lambda one: one == self._me):  # this node's own vote last: it answers at once
            self._send(member, vow)

    def _fail(self, lease: Lease, why: str, now: float) -> None:
        lease.stage, lease.why, lease.token = Stage.WAITING, why, 0
        pause = self._rng.uniform(*_AGAIN_SECONDS) * 2 ** min(lease.rounds_lost, 4)
        lease.next_round = now + min(pause, _AGAIN_SECONDS_MAX)
        lease.rounds_lost += 1
        self._by_number.pop(lease.number, None)
        self._free(lease.name, lease.ticket, True)

    def _end(self, lease: Lease, why: str) -> None:
        self._all.pop(lease.ticket, None)
        self._by_number.pop(lease.number, None)
        lease.stage, lease.why = Stage.OVER, why
        self._free(lease.name, lease.ticket, False)
        lease.changed()


def check_ttl(ttl: float) -> bool:
    """Whether a lease may live that long."""
    return LOCK_SECONDS_MIN <= ttl <= LOCK_SECONDS_MAX


def _most_said(reasons: Iterable[str]) -> str:
    """Return what tells most: who holds it, else what most members say."""
    counted: dict[str, int] = {}
    for reason in reasons:
        counted[reason] = counted.get(reason, 0) + 1
    return max(counted, key=lambda one: (one.startswith(HELD), counted[one], one), default="nobody answered")
