"""The roster at rest: the members that a node knew when it last ran."""

from __future__ import annotations

from typing import NamedTuple

from crdtdb.limits import INCARNATION_MAX
from crdtdb.store import Store
from crdtdb.wire.cbor import decode_own, encode
from crdtdb.wire.items import members_in, members_out
from crdtdb.wire.messages import Member


class KeptRoster(NamedTuple):
    """The incarnation of this node, whether it ever joined completely, and the others."""

    incarnation: int
    joined: bool
    members: tuple[Member, ...]


def read_roster(store: Store) -> KeptRoster:
    """Return what the store keeps; an empty roster if it is new."""
    encoded = store.meta.roster()
    if encoded is None:
        return KeptRoster(0, False, ())
    incarnation, joined, members = decode_own(encoded)
    if incarnation >= INCARNATION_MAX:
        incarnation = 0  # others drove it there; that this node is alive the others learn when it greets
    others = tuple(
        one._replace(incarnation=0) if one.incarnation > INCARNATION_MAX else one for one in members_in(members)
    )
    return KeptRoster(incarnation, joined, others)


def keep_roster(store: Store, roster: KeptRoster) -> None:
    """Keep a roster."""
    store.meta.put_roster(encode([roster.incarnation, roster.joined, members_out(roster.members)]))
