"""How a node enters its cluster, and the store id and actor that it writes under. Rules 3, 10, 11 and 12.

A joiner is complete once an exchange has ended and the roster names it. A node whose store is a copy, whose actor others know
more of, or that was retired, takes a new identity and is compared with the others before it counts as one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.maintenance import Upkeep
from crdtdb.cluster.engine.readiness import Readiness
from crdtdb.errors import ProtocolError
from crdtdb.gossip import Membership
from crdtdb.store import Store
from crdtdb.wire.messages import Refusal

_RENEW_SECONDS = 60.0
_REJOIN_SECONDS = 60.0


class Entry:
    """The identity of one node, and its way into the cluster."""

    def __init__(
        self,
        store: Store,
        membership: Membership,
        upkeep: Upkeep,
        readiness: Readiness,
        outbox: Outbox,
        drop_session: Callable[[float], None],
    ) -> None:
        """`drop_session` ends what belongs to the former identity: promises of locks, and the connections."""
        self._store, self._membership, self._upkeep, self._outbox = store, membership, upkeep, outbox
        self._readiness, self._drop_session = readiness, drop_session
        self.drew_store = self.drew_actor = False
        """Whether the store's id or its actor was drawn since the start: then no other node can have met it elsewhere."""
        self._now = self._renews_from = self._rejoins_from = float("-inf")
        self._rejoin_pause = _REJOIN_SECONDS
        """For how long after a rejoin this node does not believe another refusal as retired."""

    def tick(self, now: float) -> None:
        """Take a new actor if not every member answered in time."""
        self._now = now
        if self._readiness.give_up_asking(now):
            self.renew_actor("not every member could be asked whether it knows more of this node's actor")

    # Identity

    def reset_identity(self, why: str, now: float) -> None:
        """Take a new store id and actor, keeping the data: the node is compared with the others before it rejoins."""
        self._outbox.log("WARNING", f"this node enters as a new store, and is compared with the others first: {why}")
        self._store.replication.reset_identity(why)
        self.drew_store = self.drew_actor = True
        me = self._membership.me
        self._membership.me = me._replace(
            store_id=self._store.identity.store_id, actor=self._store.actor, incarnation=me.incarnation + 1
        )
        self._membership.changed = True
        self._readiness.sure()
        self._readiness.joining = True
        self._drop_session(now)

    def renew_actor(self, why: str) -> None:
        """Write as a new actor from now on, with the same store id."""
        self._store.replication.renew_actor()
        self.drew_actor = True
        me = self._membership.me
        self._membership.me = me._replace(actor=self._store.actor, incarnation=me.incarnation + 1)
        self._membership.changed = True
        self._readiness.sure()
        self._outbox.log("WARNING", f"this node writes as a new actor from now on: {why}")

    def check_forkable(self) -> None:
        """Raise ProtocolError if no other history of this node's actor can exist, since it was drawn after the start.

        The peer may believe a rogue that forged them, so it isn't kept out. This node takes a new actor, at most once a minute.
        """
        if self.drew_actor:
            if self._now >= self._renews_from:
                self._renews_from = self._now + _RENEW_SECONDS
                self.renew_actor("others know of writes of it that were never made")
            raise ProtocolError("it tells of writes of this node that were never made: their actor is new")

    # Refusals

    def accepts_reset(self, code: int, now: float) -> bool:
        """Whether a refusal is a reason to enter as a new store.

        A rogue member must not cause that again and again. That its store is a copy can be true of a store that was here when
        the node started; if the id was drawn since, the other store is the copy, and enters. A refusal as retired is believed
        less and less often.
        """
        if code == Refusal.COPY:
            return not self.drew_store
        if code != Refusal.RETIRED or not self._readiness.rejoin or now < self._rejoins_from:
            return False
        self._rejoins_from, self._rejoin_pause = now + self._rejoin_pause, 2 * self._rejoin_pause
        return True

    def refused(self, code: int) -> None:
        """Take note of a refusal that isn't a reason to enter as a new store."""
        self._readiness.retired |= code == Refusal.RETIRED and not self._readiness.rejoin

    # Joining

    def exchange_completed(self, peer: str) -> None:
        """Take note that this node has all that a peer had: a joiner that the roster names is a member from now on."""
        if self._readiness.joining and self._upkeep.is_member():
            self._readiness.joined()
            self._count_as_member()
            self._membership.changed = True
            self._outbox.log("INFO", f"joined the cluster by {peer}")

    def peer_is_joining(self, peer: str, ways: Collection[str]) -> None:
        """Take note that a peer is joining as well: if all are, the node with the lowest store id forms the cluster."""
        me, entering = self._membership.me, self._store.identity.entering
        others = [member.store_id for name, member in self._membership.others.items() if name in ways]
        first = all(me.store_id < store_id for store_id in others)
        required = set(ways)
        if entering:  # no member is left that could know more
            required |= self._upkeep.roster.members().keys() - {me.name}
        may_begin = first and (entering or not self._store.root.clock)
        if self._readiness.peer_is_joining(peer, required, may_begin):
            self._count_as_member()
            self._outbox.log("INFO", "all nodes here are joining: this one begins")

    def _count_as_member(self) -> None:
        if self._store.identity.entering:
            self._store.replication.end_entry()
