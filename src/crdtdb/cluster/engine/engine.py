"""The engine of a node: events in, actions out. The anyio runtime drives it, and so does the simulator.

It dispatches, and leaves the work to its parts: membership, dialer, rumors, exchanges, greetings. It does use the store,
which blocks for as long as a disk does, so the runtime calls it in a worker thread, one call at a time. The time comes
with each call; the dice at the start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

from crdtdb import forks
from crdtdb.causality import DotSet, Lineages
from crdtdb.cluster.engine.actions import Action, Outbox
from crdtdb.cluster.engine.audits import Audits
from crdtdb.cluster.engine.boundary import Boundary
from crdtdb.cluster.engine.exchanges import Exchanges
from crdtdb.cluster.engine.handshakes import Handshakes, WhyRefused
from crdtdb.cluster.engine.heartbeats import Heartbeats
from crdtdb.cluster.engine.lineage_check import Histories
from crdtdb.cluster.engine.links import Link, Links
from crdtdb.cluster.engine.locks import Locks
from crdtdb.cluster.engine.maintenance import Upkeep
from crdtdb.cluster.engine.readiness import Readiness
from crdtdb.cluster.engine.saved_roster import KeptRoster, keep_roster, read_roster
from crdtdb.cluster.engine.system_collections import StatusPublisher
from crdtdb.cluster.engine.system_documents import Inspection
from crdtdb.database import Database
from crdtdb.errors import DotCollisionError, EncodingError, HistoryForkedError, ProtocolError, TooLargeError
from crdtdb.gossip import Dialer, GossipConfig, Membership, Rumors
from crdtdb.limits import INCARNATION_MAX
from crdtdb.security.peer import PeerIdentity
from crdtdb.store import Committed, ContentMissingError, MissingAncestorError, Told
from crdtdb.wire.codec import clock_digest, decode_message, history_digest, parcel_in
from crdtdb.wire.delta_batch import DeltaBatch
from crdtdb.wire.messages import (
    BOUNDED_SINCE,
    BRIEF_SINCE,
    LINEAGES_SINCE,
    LOCKS_SINCE,
    MINOR,
    PARTS_SINCE,
    Ack,
    Audit,
    BucketDots,
    BucketsRequest,
    BucketSums,
    Compare,
    DotsRequest,
    Fetch,
    LineagesMessage,
    Member,
    Message,
    PageCredit,
    PageMessage,
    Part,
    Piece,
    Ping,
    Probe,
    Retry,
    Rumor,
    Status,
    SyncHint,
    SyncRequest,
    UpToDate,
)

_RENEW_SECONDS = 60.0


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


class Engine:
    """One node. Not safe for threads, but for `committed`."""

    def __init__(
        self,
        database: Database,
        identity: NodeIdentity,
        config: GossipConfig,
        rng: Random,
        now: float,
        told: Told = lambda name: None,  # noqa: ARG005
        why_refused: WhyRefused = lambda certified: None,  # noqa: ARG005
    ) -> None:
        """`told` says what clients that may come back have read of a collection: beyond that tombstones are kept.

        `why_refused` says why a certificate doesn't count any more, if it doesn't. It is asked all the time.
        """
        forks.own(self)
        self._database, self.store = database, database.store
        self.identity, self._config, self._dice = identity, config, rng
        kept = read_roster(self.store)
        me = Member(
            identity.name,
            self.store.identity.store_id,
            self.store.actor,
            identity.address,
            kept.incarnation + 1,
            Status.ALIVE,
        )
        self.outbox = Outbox()
        self.membership = Membership(me, kept.members, config, rng, now)
        self.rumors = Rumors(config.rumor_fanout, rng)
        self.exchanges = Exchanges(
            self.store,
            config,
            self.outbox,
            self._completed,
            lambda finding: self.audits.found(finding),
            now,
            self._inspection,
            lambda link, clock, digest, now: self.histories.agreement(link, clock, digest, now),
        )
        self.readiness = Readiness(
            joining=(bool(identity.join) and not kept.joined)
            or (self.store.identity.entering and bool(identity.join or kept.members)),
            unsure=self.store.identity.why is None and not identity.offline,
            to_ask=frozenset(one.name for one in kept.members if one.name != identity.name),
            until=now + config.confirm_timeout,
        )
        if self.store.identity.entering and not self.readiness.joining:
            self.store.entered()  # there is nobody to be compared with
        self.upkeep = Upkeep(self.store, self.membership, config, self.outbox, told, now)
        self.links = Links(Dialer(config, rng), config, self.outbox, self._forgotten, identity.minor)
        self.boundary = Boundary(self.links, self.outbox)
        self.heartbeats = Heartbeats(self.links, self.membership.heard)
        self.histories = Histories(
            self.store, self.links, self.outbox, self._check_forkable, self.reset_identity, self._names_changed
        )
        self.handshakes = Handshakes(self, why_refused)
        self.showing = StatusPublisher(self.store, me.name, self.links, config.showing_interval, now)
        self.locks = Locks(self.store, me.name, self.upkeep.roster, self.links, rng, now)
        self.audits = Audits(self.exchanges, self.links, config, self.outbox, rng, now)
        self._digests: dict[str, bytes] = {}
        self._digested: tuple[DotSet, Lineages, bytes, bytes] | None = None
        self._told: dict[str, Status] = {one.name: one.status for one in kept.members}
        self._next_exchange = self._next_naming = now
        self._named_by: tuple[Any, Any, Any] = (None, None, None)
        self._committed: deque[Committed] = deque()
        self.rumors_received = self.rumors_new = 0
        """Rumors that were taken, and those of them that brought something new."""
        self.stopping = self.drew_store = self.drew_actor = False
        """Whether the store's id or its actor was drawn since the start: then no other node can have met it elsewhere."""
        self._now = now
        self._renews_from = float("-inf")
        self._keep_roster()
        self.store.listeners.append(self.committed)
        self._handlers: dict[type[Any], Callable[[Link, Any, float], None]] = {
            Ping: self._ping,
            Ack: self._ack,
            Probe: self._probe,
            SyncRequest: self._ask,
            PageMessage: self.exchanges.page,
            PageCredit: self.exchanges.more,
            UpToDate: self._same,
            Retry: self._busy,
            Rumor: self._rumor,
            Fetch: self.exchanges.fetch,
            Piece: self.exchanges.piece,
            Compare: self._compare,
            BucketSums: self.exchanges.sums,
            BucketDots: self.exchanges.sums,
            BucketsRequest: self.exchanges.list,
            DotsRequest: self.exchanges.list,
            Audit: lambda link, message, now: self.audits.asked_for(link.peer or "?"),  # noqa: ARG005
            SyncHint: lambda link, message, now: self._ask_by_name(link.peer, now),  # noqa: ARG005
            **(self.locks.handlers if identity.minor >= LOCKS_SINCE else {}),
            **({Part: self._part} if identity.minor >= PARTS_SINCE else {}),
            **({LineagesMessage: self._lineages} if identity.minor >= LINEAGES_SINCE else {}),
        }

    # Events

    def opened(self, number: int, address: str | None, certified: PeerIdentity | None, now: float) -> None:
        """A connection is there: dialed, if it has an address, or accepted."""
        self.handshakes.begin(self.links.opened(number, address, certified, now), now)

    def received(self, number: int, payload: bytes, now: float) -> None:
        """A payload came over a link. Whatever is wrong with it, the link is closed and the node goes on.

        Raises StoreError if this node's own disk fails.
        """
        link = self.links.get(number)
        if link is not None:
            self.boundary.frame(link, lambda: self._handle(link, decode_message(payload), now), now)

    def closed(self, number: int, now: float) -> None:
        """A connection is gone."""
        self.links.closed(number, now)

    def dial_failed(self, address: str, reason: str, now: float) -> None:
        """A connection could not be made."""
        self.links.failed(address, reason, now)

    def committed(self, committed: Committed) -> None:
        """The store committed. May be called from any thread; the next tick sees it."""
        self._committed.append(committed)

    def tick(self, now: float) -> None:
        """Time has passed: call it every tenth of a second or so, and soon after `committed`.

        Raises StoreError once the store has failed: the node is to end, and what was acknowledged is there when it is back.
        """
        self._now = now
        if self.stopping:
            return
        self.heartbeats.note_arrivals()
        if self.store.failure is not None:
            raise self.store.failure
        duty = self.boundary.duty
        self._spread_commits()
        self.dial(now)
        self.links.keep_alive(self.membership.news, now)
        for name, message in self.membership.tick(now):
            self.links.send_to(name, message)
        self.exchanges.tick(now)
        self._exchange(now)
        self.histories.tick()
        duty("spreading rumors", self._push_rumors, now)
        duty("resolving conflicts", self._settle, now)
        if self.readiness.give_up_asking(now):
            self._renew_actor("not every member could be asked whether it knows more of this node's actor")
        if self.readiness.may_be_named:
            self.readiness.named = True
            duty("naming members", lambda: self._name_members(now), now)
        if not self.readiness.joining:
            duty("counting acknowledgements", lambda: self.upkeep.tick(now, self.links.peers()), now)
            self.audits.ask(self.upkeep.returned(self.links.ways), True, lambda finding: None)  # noqa: ARG005
            duty("parting with strangers", lambda: self._part_with_strangers(now), now)
        self.handshakes.part_with_refused(now)
        self.audits.tick(self.readiness.joining, now)
        votes = self.readiness.ready and self.identity.minor >= LOCKS_SINCE
        duty("keeping locks", lambda: self.locks.tick(votes, now), now)
        if self.readiness.ready:
            duty("showing the node's state", lambda: self.showing.tick(now), now)
        if self.membership.changed:
            self._tell_of_members()
            self._keep_roster()

    @property
    def has_news(self) -> bool:
        """Whether there is something that shouldn't wait for the next tick. May be asked from any thread."""
        return bool(self._committed) or self.locks.has_orders

    @property
    def unspread(self) -> int:
        """How many commits wait to be spread. May be asked from any thread."""
        return len(self._committed)

    def work(self) -> bool:
        """Merge a slice, send each peer a page, sweep a little: a piece of what takes longer. Return whether there is more."""
        pages = self.exchanges.pump(self._for_link, self._now)
        swept = self.boundary.duty("sweeping", self.store.sweep, self._now)
        collected = self.boundary.duty("collecting garbage", self.upkeep.work, self._now)
        return (collected and not self.readiness.joining) or swept or pages

    def _for_link(self, number: int, act: Callable[[], None]) -> None:
        """Do what is due on a link, within the boundary."""
        link = self.links.get(number)
        if link is not None:
            self.boundary.frame(link, act, self._now)

    @property
    def wants_space(self) -> bool:
        """Whether `reclaim` is due. May be asked from any thread."""
        return self.store.collector.wants_space

    def reclaim(self) -> None:
        """Give the space of what was collected back to the disk. May be called from any thread, and takes long."""
        self.store.collector.reclaim()

    def stop(self, now: float) -> None:
        """Say goodbye: nobody needs to suspect a node that stops cleanly."""
        self.stopping = True
        if self.store.failure is None:
            self.boundary.duty("giving locks back", lambda: self.locks.stop(now), now)
            if self.readiness.ready:
                self.boundary.duty("showing that the node stops", lambda: self.showing.stop(now), now)
        self._spread_commits()
        self.boundary.duty("spreading rumors", self._push_rumors, now)
        self.links.close_all(Ping(0, (self.membership.leave(),)), now)
        self.exchanges.stop()
        self.store.listeners.remove(self.committed)

    def take(self) -> list[Action]:
        """Return the actions to perform, in order."""
        return self.outbox.take()

    # Entering

    def reset_identity(self, why: str, now: float) -> None:
        """Enter the cluster as a store that nobody knows, with all that this one holds. Rules 3, 10 and 12."""
        self.outbox.log("WARNING", f"this node enters as a new store, and is compared with the others first: {why}")
        self.store.reset_identity(why)
        self.drew_store = self.drew_actor = True
        self.locks.reset_identity(now)
        me = self.membership.me
        self.membership.me = me._replace(
            store_id=self.store.identity.store_id, actor=self.store.actor, incarnation=me.incarnation + 1
        )
        self.membership.changed = True
        self.readiness.sure()
        self.readiness.joining = True
        self.links.start_over(now)

    def _check_forkable(self) -> None:
        """Raise ProtocolError if nobody can know other writes of this node's actor, since it was drawn after the start.

        The peer may believe a rogue that forged them, so it isn't kept out. This node takes another actor, once in a minute.
        """
        if self.drew_actor:
            if self._now >= self._renews_from:
                self._renews_from = self._now + _RENEW_SECONDS
                self._renew_actor("others know of writes of it that were never made")
            raise ProtocolError("it tells of writes of this node that were never made: their actor is new")

    def _names_changed(self) -> None:
        """Begin all over what was counted and sent under other names."""
        self.exchanges.stop()
        self.exchanges.peer_clocks.clear()
        self.upkeep.names_changed()
        self._digests.clear()
        for link in self.links.greeted_links():
            link.agreed = link.minor < LINEAGES_SINCE

    def _renew_actor(self, why: str) -> None:
        self.store.renew_actor()
        self.drew_actor = True
        me = self.membership.me
        self.membership.me = me._replace(actor=self.store.actor, incarnation=me.incarnation + 1)
        self.membership.changed = True
        self.readiness.sure()
        self.outbox.log("WARNING", f"this node writes as a new actor from now on: {why}")

    # Messages

    def _handle(self, link: Link, message: Message, now: float) -> None:
        if link.peer is None:
            self.handshakes.take(link, message, now)
        else:
            self._dispatch(link, message, now)

    def _dispatch(self, link: Link, message: Message, now: float) -> None:
        handler = self._handlers.get(type(message))
        if handler is None:
            raise ProtocolError(f"a {type(message).__name__.lower()} after the handshake")
        link.heard = now
        if isinstance(message, PageMessage | UpToDate | BucketSums):
            self.readiness.peer_serves(link.peer or "?")
        self.membership.heard(link.peer or "?")
        handler(link, message, now)

    def _part(self, link: Link, part: Part, now: float) -> None:
        self.exchanges.heard(link.number, now)
        payload = link.assembly.add(part, now)
        if payload is not None:
            message = decode_message(payload)
            if isinstance(message, Part):
                raise ProtocolError("a part within a part")
            self._dispatch(link, message, now)

    def _ping(self, link: Link, message: Ping, now: float) -> None:
        self._learn(link, message.members, now)
        self.outbox.send(link.number, Ack(message.number, self.membership.news(), self._digest(link.minor)))

    def _ack(self, link: Link, message: Ack, now: float) -> None:
        self._learn(link, message.members, now)
        asked_by = self.membership.acknowledged(message.number)
        if asked_by is not None:
            number, theirs = asked_by
            asker = self.links.get(number)
            self.outbox.send(number, Ack(theirs, (), self._digest(asker.minor if asker is not None else 0)))
        else:
            self._digests[link.peer or "?"] = message.clock_digest
            if message.clock_digest == self._digest(link.minor):
                link.agreed = True
                self._acknowledged(link, self.store.durable_clock())

    def _same(self, link: Link, message: UpToDate, now: float) -> None:
        self.exchanges.same(link, message)
        if link.minor >= LINEAGES_SINCE:
            self.histories.unchanged(link, self._digest(link.minor), self._digests.get(link.peer or "?"), now)

    def _lineages(self, link: Link, message: LineagesMessage, now: float) -> None:
        if self.histories.heard(link, message, now):
            self._ask_by_name(link.peer, now)

    def _learn(self, link: Link, members: tuple[Member, ...], now: float) -> None:
        if link.minor >= BOUNDED_SINCE and any(one.incarnation > INCARNATION_MAX for one in members):
            raise EncodingError(f"an incarnation is at most {INCARNATION_MAX:,}")
        self.membership.learn(members, now, link.peer, self.links.is_connected)

    def _probe(self, link: Link, message: Probe, now: float) -> None:
        self._learn(link, message.members, now)
        for name, ping in self.membership.probe_for(link.number, message.number, message.name, now):
            self.links.send_to(name, ping)

    def _acknowledged(self, link: Link, clock: DotSet) -> None:
        if link.greeting is not None and link.agreed:
            self.exchanges.peer_clocks[link.greeting.name] = clock
            self.upkeep.acknowledged(link.greeting.name, link.greeting.store_id, clock)

    def _ask(self, link: Link, message: SyncRequest, now: float) -> None:
        self._acknowledged(link, message.clock)
        if self.readiness.joining:
            self.outbox.send(link.number, Retry(message.exchange, "joining"))
        else:
            self.exchanges.asked(link, message, now)
        if not self.store.root.clock >= message.clock:
            self._ask_by_name(link.peer, now)

    def _compare(self, link: Link, message: Compare, now: float) -> None:
        if self.readiness.joining:
            self.outbox.send(link.number, Retry(message.exchange, "joining"))
            return
        self.exchanges.asked_to_compare(link, message, now)
        if not self.store.root.clock >= message.clock:
            self._ask_by_name(link.peer, now)

    def _busy(self, link: Link, message: Retry, now: float) -> None:
        self.exchanges.busy(link, message, now)
        if message.reason != "joining":
            return
        others = [one.store_id for name, one in self.membership.others.items() if name in self.links.ways]
        first = all(self.membership.me.store_id < store_id for store_id in others)
        wanted = set(self.links.ways)
        if self.store.identity.entering:  # nobody is left who could know better
            wanted |= self.upkeep.roster.members().keys() - {self.membership.me.name}
        may_begin = first and (self.store.identity.entering or not self.store.root.clock)
        if self.readiness.peer_is_joining(link.peer or "?", wanted, may_begin):
            if self.store.identity.entering:
                self.store.entered()
            self.outbox.log("INFO", "all nodes here are joining: this one begins")

    def _rumor(self, link: Link, message: Rumor, now: float) -> None:
        parcel = parcel_in(message.parcel)
        agreed, lineages = self.histories.agreement(link, parcel.clock, message.lineages, now)
        if not agreed:
            return
        try:
            received = self.store.receive(parcel, inspect=self._inspection(link, parcel), lineages=lineages)
        except (MissingAncestorError, ContentMissingError):
            self._ask_by_name(link.peer, now)
            return
        except (DotCollisionError, HistoryForkedError, TooLargeError) as error:
            self.outbox.log("ERROR", f"a rumor from {link.peer} isn't taken: {error}")
            return
        self.rumors_received += 1
        self.rumors_new += bool(received.news)
        self.exchanges.news = self.exchanges.news or bool(received.news)
        self.rumors.heard(received.news, {*message.told, link.peer or "?"})

    def _inspection(self, link: Link, parcel: DeltaBatch) -> Inspection:
        """Return what looks at the documents of a parcel. Raises ProtocolError if the parcel itself can't be.

        Where this node drew its actor since it started, nobody can know more of its writes: that is no store that was put back.
        """
        mine = self.store.actor
        if parcel.clock.highest(mine) > self.store.root.clock.highest(mine):
            self._check_forkable()
        # Not its former actors: of those others could forge documents, and have it refused for passing them on.
        return Inspection({link.greeting.actor} if link.greeting is not None else set())

    def _ask_by_name(self, name: str | None, now: float) -> None:
        way = self.links.ways.get(name or "?")
        if way is not None:
            self.exchanges.ask(way, now)

    # Duties

    def dial(self, now: float) -> None:
        """Keep a connection to every member and every address to join at."""
        reach, wanted = self.identity.reach, set(self.identity.join)
        for name in self.membership.others:
            wanted |= {reach[name]} if name in reach else self.membership.addresses(name)
        for name in self.boundary.names_held_off(now):
            wanted -= self.membership.addresses(name)
        self.links.dial(wanted - {self.identity.address}, now)

    def _forgotten(self, link: Link) -> None:
        self.exchanges.closed(link.number)
        self.histories.forget(link)
        if link.peer is not None and link.peer not in self.links.ways:
            self._digests.pop(link.peer, None)

    def _exchange(self, now: float) -> None:
        if now < self._next_exchange:
            return
        self._next_exchange = now + self._config.exchange_interval * self._dice.uniform(0.7, 1.3)
        behind = sorted(
            name
            for name, way in self.links.ways.items()
            if self._digests.get(name) != self._digest(way.minor) or self.readiness.joining
        )
        if behind:
            self.exchanges.ask(self.links.ways[self._dice.choice(behind)], now)

    def _spread_commits(self) -> None:
        while self._committed:
            committed = self._committed.popleft()
            self.rumors.heard(committed.written, ())
            if committed.named:
                self.rumors.too_much()

    def _push_rumors(self) -> None:
        if not self.rumors or self.readiness.joining:
            return
        for places, peers, told in self.rumors.take(self.membership.me.name, self.links.ways):
            brief = all(self.links.ways[name].minor >= BRIEF_SINCE for name in peers)
            parcel = self.store.rumor(places, brief=brief)
            digest = self.store.root.lineages.digest(parcel_in(parcel).clock) if parcel is not None else None
            for name in peers:
                known = digest if self.links.ways[name].minor >= LINEAGES_SINCE else None
                self.links.send_to(name, Rumor(parcel, told, known) if parcel is not None else SyncHint())
        for name in self.rumors.take_overflow(self.links.ways):
            self.links.send_to(name, SyncHint())

    def _name_members(self, now: float) -> None:
        """Name who greeted and isn't in the roster: looked at when links or roster have changed, and now and then."""
        basis = (self.links.greeted_or_gone, self.upkeep.roster.entries(), self.membership.me)
        same = all(one is other or one == other for one, other in zip(basis, self._named_by, strict=True))
        if not same or now >= self._next_naming:
            self._named_by, self._next_naming = basis, now + self._config.stability_interval
            for name in self.upkeep.name_members(self.links.greetings()):
                self.links.send_to(name, SyncHint())

    def _part_with_strangers(self, now: float) -> None:
        """Forget members whom nobody but others speaks of, and close the links of those who were retired."""
        self.membership.forget_hearsay(self.upkeep.roster.entries().keys(), now)
        for entry in self.upkeep.roster.entries().values():
            if entry.retired and entry.store_id != self.membership.me.store_id:
                self.membership.forget(entry.name, entry.store_id)
        for link in self.links.greeted_links():
            if link.peer not in self.membership.others:
                self.links.close(link, now, f"closing the connection with {link}: it was retired")

    def _settle(self) -> None:
        if self.exchanges.news:
            self.exchanges.news = False
            self._database.settle()

    def _completed(self, peer: str) -> None:
        if self.readiness.joining and self.upkeep.is_member():
            self.readiness.joined()
            if self.store.identity.entering:
                self.store.entered()
            self.membership.changed = True
            self.outbox.log("INFO", f"joined the cluster by {peer}")

    def _tell_of_members(self) -> None:
        for name, one in self.membership.others.items():
            if self._told.get(name) is not one.status:
                self._told[name] = one.status
                level = "INFO" if one.status is Status.ALIVE else "WARNING"
                self.outbox.log(level, f"member {name} is {one.status.name.lower()}")

    def _keep_roster(self) -> None:
        self.membership.changed = False
        members = tuple(self.membership.others.values())
        keep_roster(self.store, KeptRoster(self.membership.me.incarnation, not self.readiness.joining, members))

    def _digest(self, minor: int) -> bytes:
        """Return what tells equal clocks from others, and to peers that know of lineages also equal histories."""
        clock, lineages = self.store.durable_clock(), self.store.root.lineages
        if self._digested is None or self._digested[:2] != (clock, lineages):
            self._digested = (clock, lineages, clock_digest(clock), history_digest(clock, lineages))
            self.heartbeats.clock_digest, self.heartbeats.history_digest = self._digested[2:]
        return self._digested[3] if minor >= LINEAGES_SINCE else self._digested[2]
