"""Pings, acknowledgements and probes of members: failure detection by SWIM, and the news of members that ride along.

Source: Das, Gupta, Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol" (2002).
"""

from __future__ import annotations

from collections.abc import Callable

from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.anti_entropy import AntiEntropy
from crdtdb.cluster.engine.links import Link, Links
from crdtdb.errors import EncodingError
from crdtdb.gossip import Membership
from crdtdb.limits import INCARNATION_MAX
from crdtdb.wire.messages import BOUNDED_SINCE, Ack, Member, Ping, Probe


class Pings:
    """Keeps links alive, and carries the messages of membership. An acknowledgement brings the digest of a clock."""

    def __init__(
        self,
        membership: Membership,
        links: Links,
        outbox: Outbox,
        anti_entropy: AntiEntropy,
        acknowledged_all: Callable[[Link], None],
    ) -> None:
        """`acknowledged_all` is called for a link whose peer has the same clock and history as this node."""
        self._membership, self._links, self._outbox = membership, links, outbox
        self._anti_entropy, self._acknowledged_all = anti_entropy, acknowledged_all

    def tick(self, now: float) -> None:
        """Ping quiet links and probe members, as is due."""
        self._links.keep_alive(self._membership.news, now)
        for name, message in self._membership.tick(now):
            self._links.send_to(name, message)

    def ping(self, link: Link, message: Ping, now: float) -> None:
        """Acknowledge a ping."""
        self._learn(link, message.members, now)
        digest = self._anti_entropy.digest(link.minor)
        self._outbox.send(link.number, Ack(message.number, self._membership.news(), digest))

    def ack(self, link: Link, message: Ack, now: float) -> None:
        """Take an acknowledgement, and pass it on if another member asked for the probe."""
        self._learn(link, message.members, now)
        requested_by = self._membership.acknowledged(message.number)
        if requested_by is not None:
            number, theirs = requested_by
            requester = self._links.get(number)
            digest = self._anti_entropy.digest(requester.minor if requester is not None else 0)
            self._outbox.send(number, Ack(theirs, (), digest))
        elif self._anti_entropy.heard(link, message.clock_digest):
            self._acknowledged_all(link)

    def probe(self, link: Link, message: Probe, now: float) -> None:
        """Ping a member for another one."""
        self._learn(link, message.members, now)
        for name, ping in self._membership.probe_for(link.number, message.number, message.name, now):
            self._links.send_to(name, ping)

    def _learn(self, link: Link, members: tuple[Member, ...], now: float) -> None:
        if link.minor >= BOUNDED_SINCE and any(member.incarnation > INCARNATION_MAX for member in members):
            raise EncodingError(f"an incarnation is at most {INCARNATION_MAX:,}")
        self._membership.learn(members, now, link.peer, self._links.is_connected)
