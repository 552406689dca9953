"""Handshakes: two nodes say who they are, and each decides whether to go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from crdtdb.cluster.engine.greetings import member_of, refusal_of
from crdtdb.cluster.engine.links import Link
from crdtdb.errors import ProtocolError
from crdtdb.security.peer import PeerIdentity
from crdtdb.wire.messages import MAJOR, Greeting, Hello, Message, Ping, Refusal, Refuse, Welcome

if TYPE_CHECKING:
    from crdtdb.cluster.engine.engine import Engine

WhyRefused = Callable[[PeerIdentity], str | None]
"""Returns why a certificate doesn't count (any more), None if it does."""


_REJOIN_SECONDS = 60.0


class Handshakes:
    """What a node says to who is new at the other end of a link, and what it makes of the answer."""

    def __init__(self, engine: Engine, why_refused: WhyRefused) -> None:
        self._engine, self._why_refused = engine, why_refused
        self._rejoins_from, self._rejoin_pause = float("-inf"), _REJOIN_SECONDS
        """From when on this node believes again that it was retired, and how long it doesn't after that."""

    def begin(self, link: Link, now: float) -> None:
        """A connection is there. Who dialed speaks first."""
        if link.certified is not None:
            why = self._why_refused(link.certified)
            if link.certified.role != "node":
                why = f"a {link.certified.role} certificate can't gossip"
            if why is not None:
                self._turn_away(link, why, now)
                return
        if link.address is not None:
            self._engine.outbox.send(link.number, Hello(self._greeting()))

    def take(self, link: Link, message: Message, now: float) -> None:
        """Something came before the handshake was over. Raises ProtocolError for what isn't part of one."""
        engine = self._engine
        if isinstance(message, Refuse) and link.address is not None:
            self._refused(link, message, now)
        elif isinstance(message, Hello) and link.address is None:
            if self._admitted(link, message.greeting, now):
                engine.outbox.send(link.number, Welcome(self._greeting()))
                self._introduce(link, message.greeting, now)
        elif isinstance(message, Welcome) and link.address is not None:
            if self._admitted(link, message.greeting, now):
                self._reached(link, message.greeting, now)
        else:
            raise ProtocolError(f"a {type(message).__name__.lower()} before the handshake")

    def part_with_refused(self, now: float) -> None:
        """Close the connections of those whose certificates don't count any more."""
        for link in self._engine.links.all():
            why = self._why_refused(link.certified) if link.certified is not None else None
            if why is not None:
                self._engine.links.close(link, now, f"closing the connection with {link}: {why}")

    def _greeting(self) -> Greeting:
        me, clock = self._engine.membership.me, self._engine.store.durable_clock()
        return Greeting(
            MAJOR,
            self._engine.identity.minor,
            self._engine.identity.cluster,
            me.name,
            me.store_id,
            me.actor,
            me.address,
            me.incarnation,
            clock,
            self._engine.store.root.lineages.digest(clock),
        )

    def _admitted(self, link: Link, greeting: Greeting, now: float) -> bool:
        engine = self._engine
        kept_out = engine.boundary.held_off(greeting.name, now)
        if kept_out:
            reason = f"a frame of {greeting.name!r} was refused: no connection with it for another {kept_out:.0f} s"
            if link.address is None:
                engine.outbox.send(link.number, Refuse(Refusal.HELD_OFF, reason))
            engine.links.close(link, now)
            return False
        refusal = refusal_of(greeting, engine.identity.cluster, engine.membership, engine.upkeep.roster, link.certified)
        if refusal is None and engine.upkeep.has_gone_back(greeting):
            refusal = Refuse(
                Refusal.COPY, "its store lacks what it has acknowledged: it was restored, or has lost something"
            )
        if refusal is None:
            return True
        if refusal.code != Refusal.SELF:
            engine.outbox.log("WARNING", f"refusing {link}, which calls itself {greeting.name!r}: {refusal.reason}")
        me = engine.membership.me
        if greeting.store_id == me.store_id and greeting.actor < me.actor and not engine.drew_store:
            engine.reset_identity(f"{greeting.name!r} runs with a copy of its store", now)  # one of the two has to
            return False
        if link.address is None:
            engine.outbox.send(link.number, refusal)
        engine.links.close(link, now)
        return False

    def _turn_away(self, link: Link, reason: str, now: float) -> None:
        self._engine.outbox.log("WARNING", f"refusing {link}: {reason}")
        self._engine.outbox.send(link.number, Refuse(Refusal.CERTIFICATE, reason))
        self._engine.links.close(link, now)

    def _refused(self, link: Link, refusal: Refuse, now: float) -> None:
        engine = self._engine
        address = link.address or "?"
        if refusal.code == Refusal.SELF:
            engine.links.ignore(address)
        elif self._is_to_enter(refusal, now):
            engine.reset_identity(refusal.reason, now)
            return
        else:
            engine.readiness.retired |= refusal.code == Refusal.RETIRED and not engine.identity.rejoin
            engine.outbox.log("ERROR", f"{address} refuses this node: {refusal.reason}")
        engine.links.close(link, now)

    def _is_to_enter(self, refusal: Refuse, now: float) -> bool:
        """Whether this node takes a refusal as the reason to enter as a new store.

        A member that lies must not make it do so again and again. That its store is a copy can be true of a store that was here
        when the node started; if it drew the store's id since, the other one is the copy, and enters. That it was retired it
        believes less and less often.
        """
        if refusal.code == Refusal.COPY:
            return not self._engine.drew_store
        if refusal.code != Refusal.RETIRED or not self._engine.identity.rejoin or now < self._rejoins_from:
            return False
        self._rejoins_from, self._rejoin_pause = now + self._rejoin_pause, 2 * self._rejoin_pause
        return True

    def _reached(self, link: Link, greeting: Greeting, now: float) -> None:
        engine = self._engine
        if not engine.links.reached(link, greeting.name, now):
            return
        self._introduce(link, greeting, now)
        if engine.links.get(link.number) is None:
            return  # what it said made this node begin anew
        engine.outbox.send(link.number, Ping(0, engine.membership.everyone()))
        engine.exchanges.ask(link, now)

    def _introduce(self, link: Link, greeting: Greeting, now: float) -> None:
        engine = self._engine
        engine.links.introduced(link, greeting)
        engine.links.close_older(greeting.name, now)
        engine.membership.greeted(member_of(greeting), now)
        engine.exchanges.peer_clocks[greeting.name] = greeting.clock
        engine.upkeep.greeted(greeting)
        if engine.histories.agreement(link, greeting.clock, greeting.lineages, now).agreed:
            link.agreed = True
            engine.upkeep.acknowledged(greeting.name, greeting.store_id, greeting.clock)
        engine.readiness.greeted(greeting.name)
        if link.address is not None:
            engine.outbox.log("INFO", f"connected with {greeting.name} at {link.address}")
        engine.dial(now)
