"""Handshakes: two nodes exchange greetings, and each decides whether to admit the other.

Rule 16: a refusal carries its reason, and stands in both logs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.boundary import Boundary
from crdtdb.cluster.engine.entry import Entry
from crdtdb.cluster.engine.links import Link, Links
from crdtdb.cluster.engine.maintenance import Upkeep
from crdtdb.cluster.engine.roster import Roster
from crdtdb.errors import ProtocolError
from crdtdb.gossip import Membership
from crdtdb.limits import INCARNATION_MAX
from crdtdb.security.peer import PeerIdentity
from crdtdb.wire.messages import MAJOR, Greeting, Hello, Member, Message, Refusal, Refuse, Status, Welcome

WhyRefused = Callable[[PeerIdentity], str | None]
"""Returns why a certificate doesn't count (any more), None if it does."""

COPY = "its store lacks what it has acknowledged: it was restored, or has lost something"


class HandshakePort(NamedTuple):
    """What handshakes need of the engine."""

    greeting: Callable[[], Greeting]
    """Returns what this node says of itself."""
    greeted: Callable[[Link, Greeting, float], None]
    """Takes over a peer's greeting once the peer is admitted."""
    reached: Callable[[Link, float], None]
    """Starts gossip over a link that has become the way to a peer."""


class Admission:
    """Decides which peers this node admits."""

    def __init__(
        self, cluster: str, membership: Membership, upkeep: Upkeep, boundary: Boundary, why_refused: WhyRefused
    ) -> None:
        self._cluster, self._membership, self._upkeep, self._boundary = cluster, membership, upkeep, boundary
        self.why_refused = why_refused

    def certificate(self, certified: PeerIdentity | None) -> str | None:
        """Return why a connection with a certificate is refused, None if it isn't."""
        if certified is None:
            return None
        if certified.role != "node":
            return f"a {certified.role} certificate can't gossip"
        return self.why_refused(certified)

    def held_off(self, greeting: Greeting, now: float) -> Refuse | None:
        """Return the refusal of a peer that sent a bad frame lately."""
        seconds = self._boundary.held_off(greeting.name, now)
        if not seconds:
            return None
        reason = f"a frame of {greeting.name!r} was refused: no connection with it for another {seconds:.0f} s"
        return Refuse(Refusal.HELD_OFF, reason)

    def refusal(self, greeting: Greeting, certified: PeerIdentity | None) -> Refuse | None:
        """Return why a node isn't admitted, None if it is."""
        refusal = refusal_of(greeting, self._cluster, self._membership, self._upkeep.roster, certified)
        if refusal is None and self._upkeep.has_gone_back(greeting):
            return Refuse(Refusal.COPY, COPY)
        return refusal

    def has_precedence(self, greeting: Greeting) -> bool:
        """Whether a peer with a copy of this node's store keeps the identity: of the two one has to take another."""
        me = self._membership.me
        return greeting.store_id == me.store_id and greeting.actor < me.actor


class Handshakes:
    """The handshakes of one node."""

    def __init__(self, links: Links, outbox: Outbox, admission: Admission, entry: Entry, port: HandshakePort) -> None:
        self._links, self._outbox, self._admission, self._entry, self._port = links, outbox, admission, entry, port

    def begin(self, link: Link, now: float) -> None:
        """A connection is there. The side that dialed speaks first."""
        reason = self._admission.certificate(link.certified)
        if reason is not None:
            self._outbox.log("WARNING", f"refusing {link}: {reason}")
            self._outbox.send(link.number, Refuse(Refusal.CERTIFICATE, reason))
            self._links.close(link, now)
        elif link.address is not None:
            self._outbox.send(link.number, Hello(self._port.greeting()))

    def take(self, link: Link, message: Message, now: float) -> None:
        """Handle a message before the handshake is over. Raises ProtocolError for one that isn't part of a handshake."""
        if isinstance(message, Refuse) and link.address is not None:
            self._refused(link, message, now)
        elif isinstance(message, Hello) and link.address is None:
            if self._admits(link, message.greeting, now):
                self._outbox.send(link.number, Welcome(self._port.greeting()))
                self._introduce(link, message.greeting, now)
        elif isinstance(message, Welcome) and link.address is not None:
            if self._admits(link, message.greeting, now):
                self._reached(link, message.greeting, now)
        else:
            raise ProtocolError(f"a {type(message).__name__.lower()} before the handshake")

    def disconnect_refused(self, now: float) -> None:
        """Close the connections of peers whose certificates don't count any more."""
        for link in self._links.all():
            reason = self._admission.why_refused(link.certified) if link.certified is not None else None
            if reason is not None:
                self._links.close(link, now, f"closing the connection with {link}: {reason}")

    def _admits(self, link: Link, greeting: Greeting, now: float) -> bool:
        refusal = self._admission.held_off(greeting, now)
        if refusal is None:
            refusal = self._admission.refusal(greeting, link.certified)
            if refusal is None:
                return True
            if refusal.code != Refusal.SELF:
                self._outbox.log("WARNING", f"refusing {link}, which calls itself {greeting.name!r}: {refusal.reason}")
            if self._admission.has_precedence(greeting) and self._entry.accepts_reset(Refusal.COPY, now):
                self._entry.reset_identity(f"{greeting.name!r} runs with a copy of its store", now)
                return False
        if link.address is None:
            self._outbox.send(link.number, refusal)
        self._links.close(link, now)
        return False

    def _refused(self, link: Link, refusal: Refuse, now: float) -> None:
        """Handle a refusal by the peer: enter as a new store, or close the link."""
        if refusal.code == Refusal.SELF:
            self._links.ignore(link.address or "?")
        elif self._entry.accepts_reset(refusal.code, now):
            self._entry.reset_identity(refusal.reason, now)
            return
        else:
            self._entry.refused(refusal.code)
            self._outbox.log("ERROR", f"{link.address} refuses this node: {refusal.reason}")
        self._links.close(link, now)

    def _reached(self, link: Link, greeting: Greeting, now: float) -> None:
        if not self._links.reached(link, greeting.name, now):
            return
        self._introduce(link, greeting, now)
        if self._links.get(link.number) is not None:  # else the greeting made this node enter as a new store
            self._port.reached(link, now)

    def _introduce(self, link: Link, greeting: Greeting, now: float) -> None:
        self._links.introduced(link, greeting)
        self._links.close_older(greeting.name, now)
        self._port.greeted(link, greeting, now)


def refusal_of(
    greeting: Greeting, cluster: str, membership: Membership, roster: Roster, certified: PeerIdentity | None
) -> Refuse | None:
    """Return why a node isn't admitted, None if it is."""
    if greeting.major != MAJOR:
        return Refuse(
            Refusal.PROTOCOL, f"protocol {greeting.major}.{greeting.minor}, this node speaks {MAJOR}.x: upgrade"
        )
    if greeting.cluster != cluster:
        return Refuse(Refusal.CLUSTER, f"cluster {greeting.cluster!r}, this node is of {cluster!r}")
    if certified is not None and certified.who != (greeting.cluster, "node", greeting.name):
        return Refuse(
            Refusal.CERTIFICATE,
            f"the certificate is for {certified.role} {certified.name!r} of cluster {certified.cluster!r}, "
            f"not for node {greeting.name!r}",
        )
    if greeting.store_id == membership.me.store_id:
        if greeting.actor == membership.me.actor:
            return Refuse(Refusal.SELF, "that is this node itself")
        return Refuse(Refusal.COPY, f"its store is a copy of that of {membership.me.name!r}")
    if any(one.retired and one.store_id == greeting.store_id for one in roster.entries().values()):
        return Refuse(Refusal.RETIRED, f"{greeting.name!r} was retired: to come back, start it once with --rejoin")
    if greeting.name == membership.me.name:
        return Refuse(Refusal.NAME_TAKEN, f"the name {greeting.name!r} is taken by the node at {membership.me.address}")
    holder = membership.others.get(greeting.name)
    if roster.has(greeting.name, greeting.store_id):
        return None
    if holder is not None and holder.store_id != greeting.store_id and holder.status is not Status.DEAD:
        return Refuse(
            Refusal.NAME_TAKEN, f"the name {greeting.name!r} is taken by a node with another store, at {holder.address}"
        )
    return None


def member_of(greeting: Greeting) -> Member:
    """Return the roster's entry of a node that was greeted."""
    return Member(
        greeting.name,
        greeting.store_id,
        greeting.actor,
        greeting.address,
        min(greeting.incarnation, INCARNATION_MAX),  # an older version may have been driven beyond
        Status.ALIVE,
    )
