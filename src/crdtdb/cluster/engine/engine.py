"""The engine of a node: events in, actions out. The anyio runtime drives it, and so does the simulator.

It dispatches: handshakes, membership, rumors, exchanges, locks and maintenance are parts of their own. It uses the store,
which blocks for as long as a disk does, so the runtime calls it in a worker thread, one call at a time. The time comes
with each call, the random numbers from an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from crdtdb import forks
from crdtdb.causality import DotSet
from crdtdb.cluster.engine.actions import Action, Outbox
from crdtdb.cluster.engine.anti_entropy import AntiEntropy
from crdtdb.cluster.engine.audits import Audits
from crdtdb.cluster.engine.boundary import Boundary
from crdtdb.cluster.engine.entry import Entry
from crdtdb.cluster.engine.exchanges import Exchanges
from crdtdb.cluster.engine.handshakes import Admission, HandshakePort, Handshakes, member_of
from crdtdb.cluster.engine.heartbeats import Heartbeats
from crdtdb.cluster.engine.intake import Intake
from crdtdb.cluster.engine.lineage_check import Histories
from crdtdb.cluster.engine.links import Link, Links
from crdtdb.cluster.engine.locks import Locks
from crdtdb.cluster.engine.maintenance import Upkeep
from crdtdb.cluster.engine.member_duties import MemberDuties
from crdtdb.cluster.engine.node_identity import (
    NO_HOST,
    HostPort,
    NodeIdentity,
    greeting_of,
    readiness_at_start,
    self_as_member,
)
from crdtdb.cluster.engine.pings import Pings
from crdtdb.cluster.engine.rumors import RumorSpreader
from crdtdb.cluster.engine.saved_roster import read_roster
from crdtdb.cluster.engine.system_collections import StatusPublisher
from crdtdb.database import Database
from crdtdb.errors import ProtocolError
from crdtdb.gossip import Dialer, GossipConfig, Membership, Rumors
from crdtdb.security.peer import PeerIdentity
from crdtdb.wire.codec import decode_message, is_known
from crdtdb.wire.messages import (
    LINEAGES_SINCE,
    LOCKS_SINCE,
    Ack,
    Audit,
    BucketSums,
    Compare,
    Greeting,
    LineagesMessage,
    Message,
    PageMessage,
    Part,
    Ping,
    Probe,
    Retry,
    Rumor,
    SyncHint,
    SyncRequest,
    UpToDate,
)

Handler = Callable[[Link, Any, float], None]


class Engine:
    """One node. Not safe for threads, except where a method says so."""

    def __init__(
        self,
        database: Database,
        identity: NodeIdentity,
        config: GossipConfig,
        rng: Random,
        now: float,
        host: HostPort = NO_HOST,
    ) -> None:
        """`now` is the time of a monotonic clock in seconds, as in all calls."""
        forks.own(self)
        self._database, self.store, self.identity = database, database.store, identity
        saved = read_roster(self.store)
        me = self_as_member(identity, self.store, saved)
        self._now, self.stopping = now, False
        self.outbox = Outbox()
        self.membership = Membership(me, saved.members, config, rng, now)
        self.readiness = readiness_at_start(identity, self.store, saved, now + config.confirm_timeout)
        if self.store.identity.entering and not self.readiness.joining:
            self.store.replication.end_entry()  # there is no member to reconcile with
        self.upkeep = Upkeep(self.store, self.membership, config, self.outbox, host.read_clock, now)
        self.links = Links(Dialer(config, rng), config, self.outbox, self._link_ended, identity.minor)
        self.boundary = Boundary(self.links, self.outbox)
        self.heartbeats = Heartbeats(self.links, self.membership.heard)
        self.entry = Entry(
            self.store, self.membership, self.upkeep, self.readiness, self.outbox, drop_session=self._drop_session
        )
        self.histories = Histories(
            self.store,
            self.links,
            self.outbox,
            self.entry.check_forkable,
            self.entry.reset_identity,
            self._names_changed,
        )
        self.intake = Intake(self.store, self.histories.agreement, self.entry.check_forkable)
        self.exchanges = Exchanges(self.store, config, self.outbox, self.intake, self.entry.exchange_completed, now)
        self.anti_entropy = AntiEntropy(self.store, self.links, self.exchanges, self.heartbeats, config, rng)
        self.pings = Pings(self.membership, self.links, self.outbox, self.anti_entropy, self._acknowledged_all)
        self.rumors = RumorSpreader(
            self.store,
            Rumors(config.rumor_fanout, rng),
            self.links,
            self.intake,
            self.outbox,
            self.anti_entropy.request,
        )
        admission = Admission(identity.cluster, self.membership, self.upkeep, self.boundary, host.why_refused)
        port = HandshakePort(partial(greeting_of, identity, self.membership, self.store), self._greeted, self._reached)
        self.handshakes = Handshakes(self.links, self.outbox, admission, self.entry, port)
        self.showing = StatusPublisher(self.store, me.name, self.links, config.showing_interval, now)
        self.locks = Locks(self.store, me.name, self.upkeep.roster, self.links, rng, now)
        self.audits = Audits(self.exchanges, self.links, config, self.outbox, rng, now)
        self.exchanges.audited = self.audits.found
        self.members = MemberDuties(self.store, self.membership, self.upkeep, self.links, self.outbox, saved)
        self.members.save(self.readiness.joining)
        self.store.notifier.listeners.append(self.rumors.committed)
        self._handlers = self._handler_table()

    def _handler_table(self) -> dict[type[Any], Handler]:
        """Return what handles each kind of message after the handshake. Kinds newer than this node's version have no row."""
        handlers: dict[type[Any], Handler] = {
            Ping: self.pings.ping,
            Ack: self.pings.ack,
            Probe: self.pings.probe,
            SyncRequest: self._sync_request,
            UpToDate: self._up_to_date,
            Retry: self._retry,
            Rumor: self.rumors.receive,
            Compare: self._compare,
            Audit: lambda link, message, now: self.audits.asked_for(link.peer or "?"),  # noqa: ARG005
            SyncHint: lambda link, message, now: self.anti_entropy.request(link.peer, now),  # noqa: ARG005
            **self.exchanges.handlers,
            **self.locks.handlers,
            Part: self._part,
            LineagesMessage: self._lineages,
        }
        minor = self.identity.minor
        return {message: handler for message, handler in handlers.items() if is_known(message, minor)}

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

    def tick(self, now: float) -> None:
        """Time has passed: call it every tenth of a second or so, and as soon as `has_news`.

        Raises StoreError once the store has failed: the node is to end, and what was acknowledged is there when it is back.
        """
        self._now = now
        if self.stopping:
            return
        self.heartbeats.note_arrivals()
        if self.store.failure is not None:
            raise self.store.failure
        self._gossip(now)
        self._maintain(now)

    def _gossip(self, now: float) -> None:
        """Keep the connections, and spread what is new."""
        duty = self.boundary.duty
        self.rumors.collect()
        self.dial(now)
        self.pings.tick(now)
        self.exchanges.tick(now)
        self.anti_entropy.tick(self.readiness.joining, now)
        self.histories.tick()
        duty("spreading rumors", self._push_rumors, now)
        duty("resolving conflicts", self._resolve_conflicts, now)

    def _maintain(self, now: float) -> None:
        """Do the duties that aren't about a message."""
        duty = self.boundary.duty
        self.entry.tick(now)
        if self.readiness.may_be_named:
            self.readiness.named = True
            duty("naming members", lambda: self.members.name_members(now), now)
        if not self.readiness.joining:
            duty("counting acknowledgements", lambda: self.upkeep.tick(now, self.links.peers()), now)
            self.audits.ask(self.upkeep.returned(self.links.ways), True, lambda finding: None)  # noqa: ARG005
            duty("disconnecting strangers", lambda: self.members.drop_strangers(now), now)
        self.handshakes.disconnect_refused(now)
        self.audits.tick(self.readiness.joining, now)
        votes = self.readiness.ready and self.identity.minor >= LOCKS_SINCE
        duty("keeping locks", lambda: self.locks.tick(votes, now), now)
        if self.readiness.ready:
            duty("publishing the node's state", lambda: self.showing.tick(now), now)
        self.members.save_changes(self.readiness.joining)

    @property
    def has_news(self) -> bool:
        """Whether there is something that shouldn't wait for the next tick. May be asked from any thread."""
        spreads = self.rumors.has_news and not self.readiness.joining
        return spreads or bool(self.rumors.unspread) or self.intake.news or self.locks.has_orders

    def on_news(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, from any thread, when another thread has brought something that shouldn't wait."""
        self.rumors.wake = self.locks.wake = wake

    def work(self) -> bool:
        """Merge a slice, send each peer a page, sweep a little: a piece of what takes longer. Return whether there is more."""
        pages = self.exchanges.pump(self._for_link, self._now)
        swept = self.boundary.duty("sweeping", self.store.sweeper.sweep, self._now)
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
        """Say goodbye, so that no member suspects a node that stops cleanly."""
        self.stopping = True
        if self.store.failure is None:
            self.boundary.duty("releasing locks", lambda: self.locks.stop(now), now)
            if self.readiness.ready:
                self.boundary.duty("publishing that the node stops", lambda: self.showing.stop(now), now)
        self.rumors.collect()
        self.boundary.duty("spreading rumors", self._push_rumors, now)
        self.links.close_all(Ping(0, (self.membership.leave(),)), now)
        self.exchanges.stop()
        self.store.notifier.listeners.remove(self.rumors.committed)

    def take(self) -> list[Action]:
        """Return the actions to perform, in order."""
        return self.outbox.take()

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

    def _up_to_date(self, link: Link, message: UpToDate, now: float) -> None:
        self.exchanges.same(link, message)
        if link.minor >= LINEAGES_SINCE:
            theirs = self.anti_entropy.digest_of(link.peer)
            self.histories.unchanged(link, self.anti_entropy.digest(link.minor), theirs, now)

    def _lineages(self, link: Link, message: LineagesMessage, now: float) -> None:
        if self.histories.heard(link, message, now):
            self.anti_entropy.request(link.peer, now)

    def _acknowledged(self, link: Link, clock: DotSet) -> None:
        if link.greeting is not None and link.agreed:
            self.exchanges.peer_clocks[link.greeting.name] = clock
            self.upkeep.acknowledged(link.greeting.name, link.greeting.store_id, clock)

    def _acknowledged_all(self, link: Link) -> None:
        """Take note that a peer has the same clock and history as this node."""
        link.agreed = True
        self._acknowledged(link, self.store.replication.durable_clock())

    def _sync_request(self, link: Link, message: SyncRequest, now: float) -> None:
        self._acknowledged(link, message.clock)
        if self.readiness.joining:
            self.outbox.send(link.number, Retry(message.exchange, "joining"))
        else:
            self.exchanges.asked(link, message, now)
        self.anti_entropy.request_if_behind(link.peer, message.clock, now)

    def _compare(self, link: Link, message: Compare, now: float) -> None:
        if self.readiness.joining:
            self.outbox.send(link.number, Retry(message.exchange, "joining"))
            return
        self.exchanges.asked_to_compare(link, message, now)
        self.anti_entropy.request_if_behind(link.peer, message.clock, now)

    def _retry(self, link: Link, message: Retry, now: float) -> None:
        self.exchanges.busy(link, message, now)
        if message.reason == "joining":
            self.entry.peer_is_joining(link.peer or "?", self.links.ways)

    # What the parts need of each other

    def _greeted(self, link: Link, greeting: Greeting, now: float) -> None:
        """Take over the greeting of a peer that was admitted."""
        self.membership.greeted(member_of(greeting), now)
        self.exchanges.peer_clocks[greeting.name] = greeting.clock
        self.upkeep.greeted(greeting)
        if self.histories.agreement(link, greeting.clock, greeting.lineages, now).agreed:
            link.agreed = True
            self.upkeep.acknowledged(greeting.name, greeting.store_id, greeting.clock)
        self.readiness.greeted(greeting.name)
        if link.address is not None:
            self.outbox.log("INFO", f"connected with {greeting.name} at {link.address}")
        self.dial(now)

    def _reached(self, link: Link, now: float) -> None:
        """Start gossip with a peer that this node has dialed."""
        self.outbox.send(link.number, Ping(0, self.membership.everyone()))
        self.exchanges.ask(link, now)

    def _link_ended(self, link: Link) -> None:
        self.exchanges.closed(link.number)
        self.histories.forget(link)
        if link.peer is not None and link.peer not in self.links.ways:
            self.anti_entropy.forget(link.peer)

    def _drop_session(self, now: float) -> None:
        """End what belongs to an identity that the node has given up."""
        self.locks.reset_identity(now)
        self.links.start_over(now)

    def _names_changed(self) -> None:
        """Start again with what was counted and sent under other names of dots."""
        self.exchanges.stop()
        self.exchanges.peer_clocks.clear()
        self.upkeep.names_changed()
        self.anti_entropy.clear()
        for link in self.links.greeted_links():
            link.agreed = link.minor < LINEAGES_SINCE

    # Duties

    def dial(self, now: float) -> None:
        """Keep a connection to every member and every address to join at."""
        reach, addresses = self.identity.reach, set(self.identity.join)
        for name in self.membership.others:
            addresses |= {reach[name]} if name in reach else self.membership.addresses(name)
        for name in self.boundary.names_held_off(now):
            addresses -= self.membership.addresses(name)
        self.links.dial(addresses - {self.identity.address}, now)

    def _push_rumors(self) -> None:
        if not self.readiness.joining:
            self.rumors.push(self.membership.me.name)

    def _resolve_conflicts(self) -> None:
        if self.intake.news:
            self.intake.news = False
            self._database.settle()
