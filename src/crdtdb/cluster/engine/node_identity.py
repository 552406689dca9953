"""Who a node is when it starts: its name and addresses, its entry as a member, and what it has to do before it takes writes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from crdtdb.cluster.engine.handshakes import WhyRefused
from crdtdb.cluster.engine.readiness import Readiness
from crdtdb.cluster.engine.saved_roster import KeptRoster
from crdtdb.gossip import Membership
from crdtdb.store import Store, Told
from crdtdb.wire.messages import MAJOR, MINOR, Greeting, Member, Status


class NodeIdentity(NamedTuple):
    """What a node is called, where it listens for others, and which nodes it is to join."""

    cluster: str
    name: str
    address: str
    join: tuple[str, ...] = ()
    reach: Mapping[str, str] = MappingProxyType({})
    """Names of members, and the addresses under which this node reaches them: through a tunnel, say."""
    offline: bool = False
    """Whether to take writes without asking the others first."""
    rejoin: bool = False
    """Whether to come back as a new store if the others have retired this node."""
    minor: int = MINOR
    """The minor version of the protocol that it speaks: less than it could, for tests of what an upgrade node by node does."""


class HostPort(NamedTuple):
    """What the engine needs of the process around it."""

    read_clock: Told
    """Returns what clients that may come back have read of a collection: tombstones beyond are kept."""
    why_refused: WhyRefused
    """Returns why a certificate doesn't count any more, None if it does. It is called all the time."""


NO_HOST = HostPort(lambda name: None, lambda certified: None)  # noqa: ARG005
"""No client comes back, and every certificate counts."""


def self_as_member(identity: NodeIdentity, store: Store, saved: KeptRoster) -> Member:
    """Return the entry that a node that starts has in its own roster."""
    incarnation = saved.incarnation + 1
    return Member(identity.name, store.identity.store_id, store.actor, identity.address, incarnation, Status.ALIVE)


def greeting_of(identity: NodeIdentity, membership: Membership, store: Store) -> Greeting:
    """Return what a node says of itself in a handshake."""
    me, clock = membership.me, store.replication.durable_clock()
    return Greeting(
        MAJOR,
        identity.minor,
        identity.cluster,
        me.name,
        me.store_id,
        me.actor,
        me.address,
        me.incarnation,
        clock,
        store.root.lineages.digest(clock),
    )


def readiness_at_start(identity: NodeIdentity, store: Store, saved: KeptRoster, until: float) -> Readiness:
    """Return what has to happen before the node takes writes; members are asked about its actor `until` then."""
    entering = store.identity.entering and bool(identity.join or saved.members)
    return Readiness(
        joining=entering or (bool(identity.join) and not saved.joined),
        unsure=store.identity.why is None and not identity.offline,
        to_ask=frozenset(member.name for member in saved.members if member.name != identity.name),
        until=until,
        rejoin=identity.rejoin,
    )
