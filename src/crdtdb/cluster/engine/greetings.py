"""Handshakes: who is let in. Rule 16: a refusal carries its reason, and stands in both logs."""

from __future__ import annotations

from crdtdb.cluster.engine.roster import Roster
from crdtdb.gossip import Membership
from crdtdb.limits import INCARNATION_MAX
from crdtdb.security.peer import PeerIdentity
from crdtdb.wire.messages import MAJOR, Greeting, Member, Refusal, Refuse, Status


def refusal_of(
    greeting: Greeting, cluster: str, membership: Membership, roster: Roster, certified: PeerIdentity | None
) -> Refuse | None:
    """Return why a node isn't let in, None if it is."""
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
