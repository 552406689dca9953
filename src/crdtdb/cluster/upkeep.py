"""What keeps a cluster healthy for years: the roster is kept, acknowledgements are counted, and what is stable is collected."""

from __future__ import annotations

from collections.abc import Iterable

from crdtdb import __version__
from crdtdb.causality import Actor, DotSet
from crdtdb.cluster.actions import Outbox
from crdtdb.cluster.members import FORMER_MAX, Entry, Roster
from crdtdb.gossip import GossipConfig, Membership, Stability
from crdtdb.gossip.stability import len_of
from crdtdb.limits import AHEAD_RANGES_MAX
from crdtdb.store import Store, Told
from crdtdb.wire.messages import Member, Status


class Upkeep:
    """One node's duties that nobody asks for."""

    def __init__(
        self, store: Store, membership: Membership, config: GossipConfig, outbox: Outbox, told: Told, now: float
    ) -> None:
        """`told` returns what the clients of a collection have read of it, None if none is expected back."""
        self._store, self._membership, self._config, self._outbox, self._told = store, membership, config, outbox, told
        self.roster = Roster(store)
        self.stability = Stability(store.held.stable)
        self._actors: dict[str, set[Actor]] = {}
        """Every actor that was heard of, by the name of its node."""
        self._next_cut = now
        self._next_pass = now + config.collection_interval
        self._again = False
        self.cut_since = now
        """When the cut last covered everything, or moved."""

    def acknowledged(self, name: str, store_id: bytes, clock: DotSet) -> None:
        """Take note of a member's durable clock."""
        self.stability.acknowledged(name, store_id, clock)

    def greeted(self, name: str, store_id: bytes, actor: Actor, clock: DotSet) -> None:
        """Take note of who stands at the other end of a connection."""
        self._actors.setdefault(name, set()).add(actor)
        self.acknowledged(name, store_id, clock)

    def is_member(self) -> bool:
        """Whether this node is named in the roster, as far as it has it."""
        me = self._membership.me
        return self.roster.has(me.name, me.store_id)

    def name_members(self, peers: Iterable[str]) -> list[str]:
        """Write this node's own entry as it is now, and those of peers that have none; return whom it named."""
        me = self._membership.me
        known = self.roster.get(me.name)
        mine = Entry(me.name, me.store_id, me.actor, me.address, __version__).after(known)
        if known is None or known._replace(since=0, dot=None) != mine:
            self.roster.write(mine)
        named = []
        for name in peers:
            member = self._membership.others.get(name)
            if member is not None and member.status is Status.ALIVE and self._is_unknown(member):
                entry = Entry(member.name, member.store_id, member.actor, member.address)
                self.roster.write(entry.after(self.roster.get(name)))
                self._outbox.log("INFO", f"{name} is a member from now on")
                named.append(name)
        self._name_former()
        return named

    def _name_former(self) -> None:
        """Say which actors a node has written as, where it doesn't know that itself: a disk may lose what it had synced."""
        for one in self._membership.others.values():
            self._actors.setdefault(one.name, set()).add(one.actor)
        for name, actors in self._actors.items():
            entry, member = self.roster.get(name), self._membership.others.get(name)
            if entry is None or member is None or entry.actor != member.actor:
                continue
            unnamed = sorted(actors - {entry.actor, *entry.former})
            if unnamed:
                self.roster.write(entry._replace(former=(*entry.former, *unnamed)[-FORMER_MAX:]))

    def _is_unknown(self, member: Member) -> bool:
        known = self.roster.get(member.name)
        return known is None or known.retired or known.store_id != member.store_id

    def tick(self, now: float) -> None:
        """Count the acknowledgements, and keep the cut that they reach."""
        if now >= self._next_pass:
            self._next_pass = now + self._config.collection_interval
            self._again = True
        if now < self._next_cut:
            return
        self._next_cut = now + self._config.stability_interval
        me = self._membership.me
        others = {name: one.store_id for name, one in self.roster.members().items() if name != me.name}
        before = self.stability.cut
        mine = self._store.durable_clock()
        cut = self.stability.advance(others, mine, now)
        if cut is not before:
            self._store.reach_cut(cut)
        if cut is not before or cut >= mine:
            self.cut_since = now
        self._lose_what_nobody_holds(cut, mine)

    def _lose_what_nobody_holds(self, cut: DotSet, mine: DotSet) -> None:
        """Count as held what actors that write no more took with them: counters that were used and lost before they were told.

        What lies below a dot that every member has acknowledged is held by the actor itself, if that still writes: its own
        acknowledgement would have it. Above, an actor writes no more once the roster says so, as all members have it.
        """
        former: set[Actor] = set()
        for one in self.roster.entries().values():
            if one.dot is not None and one.dot in cut:
                former.update(one.former, (one.actor,) if one.retired else ())
        missing = (cut.gaps() - mine) | (mine.gaps() | self._store.unheld).restrict(former)
        few = [actor for actor in missing.actors if len(mine.ranges(actor)) < AHEAD_RANGES_MAX]
        lost = self.stability.held_by_nobody(missing.restrict(few))
        if lost:
            self._outbox.log("WARNING", f"{len_of(lost)} writes are lost: nobody holds them, and who made them is gone")
            self._store.lose(lost)

    def work(self) -> bool:
        """Collect a slice of what is stable; return whether there is more."""
        again, self._again = self._again, False
        return self._store.collect(self._told, again, self._config.tombstone_grace)
