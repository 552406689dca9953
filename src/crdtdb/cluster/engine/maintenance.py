"""Periodic maintenance: keeps the roster, counts acknowledgements, and collects what is stable."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from crdtdb import __version__
from crdtdb.causality import Actor, DotSet
from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.roster import FORMER_MAX, Entry, Roster
from crdtdb.errors import InvalidInputError, NotFoundError
from crdtdb.gossip import GossipConfig, Membership, Stability
from crdtdb.gossip.stability import Leaver, len_of
from crdtdb.limits import AHEAD_RANGES_MAX
from crdtdb.store import Store, Told
from crdtdb.wire.messages import Greeting

_EXPIRY_SECONDS_MAX = 3_600.0


class Upkeep:
    """Periodic maintenance of one node: acknowledgements, stability, expiry."""

    def __init__(
        self, store: Store, membership: Membership, config: GossipConfig, outbox: Outbox, told: Told, now: float
    ) -> None:
        """`told` returns what the clients of a collection have read of it, None if none is expected back."""
        self._store, self._membership, self._config, self._outbox, self._told = store, membership, config, outbox, told
        self.roster = Roster(store)
        self.stability = Stability(store.root.stable)
        self._actors: dict[str, set[Actor]] = {}
        """Every actor that was heard of, by the name of its node."""
        self._greetings: dict[str, Greeting] = {}
        """What members said of themselves when they last greeted."""
        self._absent: dict[str, float] = {}
        self._retired: set[str] = set()
        """Who was retired when that was last looked at."""
        self._looked_at: Mapping[str, Entry] | None = None
        self._returning: set[str] = set()
        self._next_cut = self._next_naming = now
        self._named_by: tuple[Any, Any, Any] = (None, None, None)
        """What the roster was last compared by."""
        self._next_pass = now + config.collection_interval
        self._again = False
        self._next_expiry = now
        self._expiring: list[tuple[str, bytes]] = []
        """Collections whose old revisions are being looked at, and the id behind which to go on."""
        self.cut_since = now
        """When the cut last covered everything, or moved."""

    def acknowledged(self, name: str, store_id: bytes, clock: DotSet) -> None:
        """Take note of a member's durable clock."""
        self.stability.acknowledged(name, store_id, clock)

    def greeted(self, greeting: Greeting) -> None:
        """Take note of a peer's greeting."""
        self._actors.setdefault(greeting.name, set()).add(greeting.actor)
        self._greetings[greeting.name] = greeting

    def names_changed(self) -> None:
        """Count acknowledgements again: dots have other names than what members acknowledged."""
        self.stability = Stability(self._store.root.stable)

    def has_gone_back(self, greeting: Greeting) -> bool:
        """Whether a store that was opened again lacks what it has acknowledged before."""
        last = self._greetings.get(greeting.name)
        if last is None or last.actor == greeting.actor:
            return False  # the same process: greetings may pass each other on the way
        acknowledged = self.stability.acknowledged_by(greeting.name, greeting.store_id)
        return acknowledged is not None and not greeting.clock >= acknowledged

    def is_member(self) -> bool:
        """Whether this node is named in the roster, as far as it has it."""
        me = self._membership.me
        return self.roster.has(me.name, me.store_id)

    def naming_is_due(self, greeted_or_gone: int, now: float) -> bool:
        """Whether to compare roster and greetings: links, roster or this node have changed since, or a while has passed.

        `greeted_or_gone` counts the changes of the links.
        """
        basis = (greeted_or_gone, self.roster.entries(), self._membership.me)
        same = all(new is old or new == old for new, old in zip(basis, self._named_by, strict=True))
        if same and now < self._next_naming:
            return False
        self._named_by, self._next_naming = basis, now + self._config.stability_interval
        return True

    def name_members(self, greetings: Mapping[str, Greeting]) -> list[str]:
        """Write this node's own entry as it is now, and those of peers that have none; return the names that were new.

        `greetings` are what those said of themselves who are connected: gossip may be older.
        """
        me = self._membership.me
        known = self.roster.get(me.name)
        mine = Entry(me.name, me.store_id, me.actor, me.address, __version__).after(known)
        if known is None or known._replace(dot=None, siblings=frozenset()) != mine:
            self.roster.write(mine)
        named = []
        for name, greeting in greetings.items():
            if self._is_unknown(greeting):
                entry = Entry(name, greeting.store_id, greeting.actor, greeting.address)
                self.roster.write(entry.after(self.roster.get(name)))
                self._outbox.log("INFO", f"{name} is a member from now on")
                named.append(name)
        self._name_former(greetings)
        return named

    def _name_former(self, greetings: Mapping[str, Greeting]) -> None:
        """Say which actors a node has written as, where it doesn't know that itself: a disk may lose what it had synced."""
        for one in self._membership.others.values():
            self._actors.setdefault(one.name, set()).add(one.actor)
        for name, actors in self._actors.items():
            entry, greeting = self.roster.get(name), greetings.get(name)
            if entry is None or greeting is None or entry.actor != greeting.actor:
                continue
            unnamed = sorted(actors - {entry.actor, *entry.former})
            if unnamed:
                self.roster.write(entry._replace(former=(*entry.former, *unnamed)[-FORMER_MAX:]))

    def _is_unknown(self, greeting: Greeting) -> bool:
        known = self.roster.get(greeting.name)
        return known is None or known.store_id != greeting.store_id

    def retire(self, name: str, force: bool = False, peers: Iterable[str] = ()) -> None:
        """Take a member out for good: no member waits for it any more, and it is refused until it enters as a new store.

        Raises NotFoundError if there is no such member, InvalidInputError if it is this node, or is there, unless by `force`.
        """
        entry = self.roster.get(name)
        if entry is None or entry.retired:
            names = ", ".join(sorted(self.roster.members()))
            raise NotFoundError(f"there is no member {name!r}: the members are {names}")
        if name == self._membership.me.name:
            raise InvalidInputError(f"{name!r} can't retire itself: stop it, and ask another member")
        if name in peers and not force:
            raise InvalidInputError(f"{name!r} is alive and connected: stop it first, or retire it by force")
        self.roster.write(entry._replace(retired=True))
        self._outbox.log("WARNING", f"{name} is retired")

    def _retire_the_absent(self, now: float, peers: list[str]) -> None:
        longest = self._config.member_absence_max
        others = [name for name in self.roster.members() if name != self._membership.me.name]
        for name in others:
            if name in peers:
                self._absent.pop(name, None)
            else:
                self._absent.setdefault(name, now)
        if longest is None or 2 * (len(set(others) & set(peers)) + 1) <= len(others) + 1:
            return
        for name in others:
            if now - self._absent.get(name, now) > longest:
                self._outbox.log("WARNING", f"{name} was away for over {longest:.0f} s")
                self.retire(name)
                del self._absent[name]

    def tick(self, now: float, peers: list[str]) -> None:
        """Count the acknowledgements, and keep the cut that they reach. `peers` are the names of those who are connected."""
        if now >= self._next_pass:
            self._next_pass = now + self._config.collection_interval
            self._again = True
        if self._config.history_retention is not None and now >= self._next_expiry:
            self._next_expiry = now + min(self._config.history_retention / 4, _EXPIRY_SECONDS_MAX)
            self._expiring = [(name, b"") for name in sorted(self._store.root.names)]
        self._look_who_returns()
        if now < self._next_cut:
            return
        self._next_cut = now + self._config.stability_interval
        self._retire_the_absent(now, peers)
        me = self._membership.me
        entries = {name: one for name, one in self.roster.entries().items() if name != me.name}
        others = {name: one.store_id for name, one in entries.items() if not one.retired}
        leavers = {name: Leaver(one.store_id, one.dot) for name, one in entries.items() if one.retired and one.dot}
        before = self.stability.cut
        mine = self._store.replication.durable_clock()
        cut = self.stability.advance(others, mine, now, leavers)
        if cut is not before:
            self._store.collector.reach_cut(cut)
        if cut is not before or cut >= mine:
            self.cut_since = now
        self._count_lost_writes(cut, mine)

    def _look_who_returns(self) -> None:
        entries = self.roster.entries()
        if entries is self._looked_at:
            return
        self._looked_at = entries
        retired = {name for name, one in entries.items() if one.retired}
        self._returning = (self._returning | self._retired) & (entries.keys() - retired)
        self._retired = retired

    def returned(self, peers: Container[str]) -> list[str]:
        """Return the members that were retired and have entered again, once they are complete and among the `peers`: each once.

        They may bring writes that this node has counted as lost. Its clock says that it holds them, so no exchange brings them.
        """
        complete = []
        for name in sorted(one for one in self._returning if one in peers):
            entry = self.roster.get(name)
            clock = self.stability.acknowledged_by(name, entry.store_id) if entry is not None else None
            if entry is not None and entry.dot is not None and clock is not None and entry.dot in clock:
                complete.append(name)
        self._returning.difference_update(complete)
        return complete

    def _count_lost_writes(self, cut: DotSet, mine: DotSet) -> None:
        """Count as held what actors that write no more took with them: counters that were used and lost before they were told.

        What lies below a dot that every member has acknowledged is held by the actor itself, if that still writes: its own
        acknowledgement would have it. Above, an actor writes no more once the roster says so, as all members have it.
        """
        former, may_return = set[Actor](), set[Actor]()
        for one in self.roster.entries().values():
            if one.retired:
                # with what no other member has: see `crdtdb.store.replication.reconciliation`
                may_return.update((one.actor, *one.former, *one.siblings, *self._actors.get(one.name, ())))
            elif one.dot is not None and one.dot in cut:
                former.update(one.former)
        missing = (cut.gaps() - mine) | (mine.gaps() | self._store.collector.unheld).restrict(former)
        missing = missing.restrict(set(missing.actors) - may_return)
        few = [actor for actor in missing.actors if len(mine.ranges(actor)) < AHEAD_RANGES_MAX]
        lost = self.stability.held_by_nobody(missing.restrict(few))
        if lost:
            self._outbox.log(
                "WARNING", f"{len_of(lost)} writes are lost: no member holds them, and their author is gone"
            )
            self._store.collector.lose(lost)

    def work(self) -> bool:
        """Collect a slice of what is stable; return whether there is more."""
        again, self._again = self._again, False
        return self._store.collector.collect(self._told, again, self._config.tombstone_grace) | self._expire()

    def _expire(self) -> bool:
        """Discard a slice of the replaced revisions that are too old; return whether there is more."""
        retention = self._config.history_retention
        if retention is None or not self._expiring:
            return False
        name, after = self._expiring.pop()
        if name in self._store.root.names:
            last = self._store.collector.expire(name, after, retention)
            if last is not None:
                self._expiring.append((name, last))
        return bool(self._expiring)
