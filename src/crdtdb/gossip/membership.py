"""Membership: the roster, and who of it is alive.

In each period one member is pinged. If it doesn't answer, others are asked to try; if they don't hear from it either it
is suspected, and if it doesn't refute that in time it counts as dead. News of members travels along with the pings. A
dead member stays in the roster: it comes back by a higher incarnation, and only an operator takes it out for good.

A member may be mad, so what counts is who says something. What a member says of itself, over a connection that its certificate
vouches for, is taken as it is. What others say of a member that is connected here isn't believed, but passed on to it, so that
it can refute; of any other member it is believed if its incarnation is plausible. Members of whom others alone speak are
forgotten after a minute, unless the roster that is replicated names them, and the address at which a member was last met is
tried beside the one that is told.

Source: Das, Gupta, Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol" (2002).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from math import ceil, log2
from typing import TYPE_CHECKING, Any

from crdtdb.gossip.config import GossipConfig
from crdtdb.limits import INCARNATION_JUMP_MAX, INCARNATION_MAX, MEMBERS_MAX
from crdtdb.wire.messages import Member, Message, Ping, Probe, Status

if TYPE_CHECKING:
    from random import Random

Sends = list[tuple[str, Message]]
HEARSAY_SECONDS = 60.0
"""For how many seconds a member known from hearsay alone is kept."""


@dataclass(slots=True)
class _Probing:
    name: str
    number: int
    sent: float
    indirect: bool = False


class Membership:
    """One node's view of the members. Messages that it returns are (name of a member, message)."""

    def __init__(self, me: Member, known: Iterable[Member], config: GossipConfig, rng: Random, now: float) -> None:
        """Begin with the members that were known when the node last ran: each is suspect until it is heard."""
        self.me = me
        self._config, self._rng = config, rng
        self.others: dict[str, Member] = {
            one.name: one._replace(status=max(one.status, Status.SUSPECT)) for one in known if one.name != me.name
        }
        self._deadlines = {
            name: now + config.suspicion for name, one in self.others.items() if one.status is Status.SUSPECT
        }
        self._news: dict[str, int] = {}
        """Members whose entry changed, and how often that was passed on."""
        self._forgotten: set[tuple[str, bytes]] = set()
        self._met: dict[str, Member] = {}
        """What members said of themselves when they last greeted."""
        self._heard_of = dict.fromkeys(self.others, now)
        """When this node first heard of a member."""
        self._accusations: dict[str, Member] = {}
        """What others say of members that are connected here, to be passed on to these."""
        self._round: list[str] = []
        self._probing: _Probing | None = None
        self._next_probe = now
        self._numbers = 0
        self._relays: dict[int, tuple[Any, int, float]] = {}
        self.changed = False
        """Whether the roster is to be saved."""

    def alive(self) -> list[str]:
        """Return the others that aren't dead."""
        return [name for name, one in self.others.items() if one.status is not Status.DEAD]

    def everyone(self) -> tuple[Member, ...]:
        """Return every member, this node too."""
        return (self.me, *self.others.values())

    def greeted(self, member: Member, now: float) -> None:
        """Take a member at its word: it stands at the other end of a connection."""
        if member.name not in self.others and len(self.others) >= MEMBERS_MAX - 1:
            self._make_room()
        self._met[member.name] = member
        self._accusations.pop(member.name, None)
        self._set(member._replace(status=Status.ALIVE), now)

    def forget(self, name: str, store_id: bytes) -> None:
        """Take a member out for good: what others still say of it isn't news any more."""
        self._forgotten.add((name, store_id))
        known = self.others.get(name)
        if known is not None and known.store_id == store_id:
            self._drop(name)

    def forget_hearsay(self, named: Set[str], now: float) -> None:
        """Drop the members that this node has never met and that the roster doesn't name, once they had time to appear.

        `named` are the names in the replicated roster. A node that exists greets, and is a member again.
        """
        for name, since in list(self._heard_of.items()):
            if name in self._met or name in named:
                del self._heard_of[name]
            elif now - since > HEARSAY_SECONDS:
                self._drop(name)

    def addresses(self, name: str) -> set[str]:
        """Return where another member may be reached: where it is said to be, and where it was last met."""
        return {one.address for one in (self.others.get(name), self._met.get(name)) if one is not None}

    def leave(self) -> Member:
        """Return the entry that tells the others of a clean stop."""
        return self.me._replace(status=Status.DEAD)

    def learn(
        self,
        news: Iterable[Member],
        now: float,
        teller: str | None = None,
        connected: Callable[[str], bool] = lambda name: False,  # noqa: ARG005
    ) -> None:
        """Take over what a member, the `teller`, says of members, as far as it is newer and plausible.

        `connected` is whether a member is at the other end of a connection of this node.
        """
        for member in news:
            if member.name == self.me.name:
                self._hear_of_me(member)
            elif not self._is_news(member, teller):
                continue
            elif member.status is not Status.ALIVE and member.name != teller and connected(member.name):
                self._accusations[member.name] = member
                self._news[member.name] = 0
            else:
                self._set(member, now)

    def _is_news(self, member: Member, teller: str | None) -> bool:
        known = self.others.get(member.name)
        if (member.name, member.store_id) in self._forgotten or member.incarnation > INCARNATION_MAX:
            return False
        if known is None:
            return len(self.others) < MEMBERS_MAX - 1
        plausible = member.name == teller or member.incarnation - known.incarnation <= INCARNATION_JUMP_MAX
        return plausible and _newer(member, known)

    def heard(self, name: str) -> None:
        """Take note of a sign of life: any message of a member."""
        known = self.others.get(name)
        if known is not None and known.status is not Status.ALIVE:
            # Known here alone: only the member itself may tell the others, by a higher incarnation.
            self.others[name] = known._replace(status=Status.ALIVE)
            self._deadlines.pop(name, None)
        if self._probing is not None and self._probing.name == name:
            self._probing = None

    def acknowledged(self, number: int) -> tuple[Any, int] | None:
        """Take note of an answer; return the link and number to pass it on to, if it was requested by another member."""
        if self._probing is not None and self._probing.number == number:
            name, self._probing = self._probing.name, None
            self.heard(name)
        relay = self._relays.pop(number, None)
        return relay[:2] if relay is not None else None

    def probe_for(self, asker: Any, number: int, name: str, now: float) -> Sends:
        """Ping a member for another node."""
        if name not in self.others or len(self._relays) > 1000:
            return []
        self._numbers += 1
        self._relays[self._numbers] = (asker, number, now)
        return [(name, Ping(self._numbers, self.news()))]

    def news(self) -> tuple[Member, ...]:
        """Return what to pass on: the entries that were passed on least, each log n times in all."""
        often = 3 * ceil(log2(len(self.others) + 2))
        chosen = sorted(self._news, key=lambda name: self._news[name])[: self._config.updates_in_message]
        for name in chosen:
            self._news[name] += 1
            if self._news[name] >= often:
                del self._news[name]
        told = tuple(self._told(name) for name in chosen)
        for name in self._accusations.keys() - self._news.keys():
            del self._accusations[name]
        return told

    def _told(self, name: str) -> Member:
        if name == self.me.name:
            return self.me
        return self._accusations.get(name) or self.others[name]

    def tick(self, now: float) -> Sends:
        """Return the pings that are due."""
        self._bury(now)
        self._relays = {
            number: relay for number, relay in self._relays.items() if now - relay[2] < self._config.ping_interval
        }
        probing = self._probing
        if probing is not None:
            if now - probing.sent >= self._config.ping_interval:
                self._probing = None
                self._suspect(probing.name, now)
            elif not probing.indirect and now - probing.sent >= self._config.ping_timeout:
                probing.indirect = True
                return self._ask_others(probing)
            else:
                return []
        if now < self._next_probe:
            return []
        self._next_probe = now + self._config.ping_interval * self._rng.uniform(0.8, 1.2)
        target = self._next_target()
        if target is None:
            return []
        self._numbers += 1
        self._probing = _Probing(target, self._numbers, now)
        return [(target, Ping(self._numbers, self.news()))]

    def _ask_others(self, probing: _Probing) -> Sends:
        others = sorted(name for name in self.alive() if name != probing.name)
        chosen = self._rng.sample(others, min(self._config.indirect_probes, len(others)))
        return [(name, Probe(probing.number, probing.name, self.news())) for name in chosen]

    def _next_target(self) -> str | None:
        """Go through all members in random order, so that none waits longer than a round."""
        living = set(self.alive())
        while self._round:
            name = self._round.pop()
            if name in living:
                return name
        self._round = sorted(living)
        self._rng.shuffle(self._round)
        return self._round.pop() if self._round else None

    def _suspect(self, name: str, now: float) -> None:
        known = self.others.get(name)
        if known is not None and known.status is Status.ALIVE:
            self._set(known._replace(status=Status.SUSPECT), now)

    def _bury(self, now: float) -> None:
        for name, deadline in list(self._deadlines.items()):
            if now >= deadline:
                self._set(self.others[name]._replace(status=Status.DEAD), now)

    def _hear_of_me(self, member: Member) -> None:
        """Refute a claim that this node isn't alive by a higher incarnation, if the claim is plausible."""
        mine = member.store_id == self.me.store_id
        if mine and (member.status is not Status.ALIVE or member.incarnation > self.me.incarnation):
            if 0 <= member.incarnation - self.me.incarnation <= INCARNATION_JUMP_MAX:
                self.me = self.me._replace(incarnation=min(member.incarnation + 1, INCARNATION_MAX))
                self.changed = True
            self._news[self.me.name] = 0

    def _drop(self, name: str) -> None:
        for table in (self.others, self._news, self._deadlines, self._met, self._heard_of, self._accusations):
            table.pop(name, None)
        self.changed = True

    def _make_room(self) -> None:
        """Drop a member known from hearsay, if there is one, to make room for one that greeted."""
        name = next((name for name in self._heard_of if name not in self._met), None)
        if name is not None:
            self._drop(name)

    def _set(self, member: Member, now: float) -> None:
        if self.others.get(member.name) == member:
            return
        if member.name not in self.others:
            self._heard_of[member.name] = now
        self.others[member.name] = member
        self._accusations.pop(member.name, None)
        self._news[member.name] = 0
        self.changed = True
        if member.status is Status.SUSPECT:
            self._deadlines.setdefault(member.name, now + self._config.suspicion)
        else:
            self._deadlines.pop(member.name, None)


def _newer(member: Member, known: Member) -> bool:
    """Whether an entry replaces another of the same name. A new store takes a name over only from a dead one."""
    if member.store_id != known.store_id:
        return known.status is Status.DEAD and member.status is not Status.DEAD
    return (member.incarnation, member.status) > (known.incarnation, known.status)
