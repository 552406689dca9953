"""The exchanges of a node: those that it asked for, one initiator a link, and those that it answers, one responder a link."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from crdtdb.causality import DotSet
from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.exchange_initiator import ExchangeInitiator, ExchangeParts, Outcome
from crdtdb.cluster.engine.exchange_responder import ExchangeResponder
from crdtdb.cluster.engine.intake import Intake
from crdtdb.cluster.engine.links import Link
from crdtdb.cluster.engine.reconciliation import Finding, Pace, ReconciliationInitiator, ReconciliationResponder
from crdtdb.errors import NotFoundError
from crdtdb.gossip import Asking, Form, GossipConfig, PageFlow
from crdtdb.store import Outgoing, Store
from crdtdb.wire.messages import (
    BRIEF_SINCE,
    CLOSED_SINCE,
    LINEAGES_SINCE,
    STRANDS_SINCE,
    BucketDots,
    BucketsRequest,
    BucketSums,
    Compare,
    DotsRequest,
    Fetch,
    PageCredit,
    PageMessage,
    Piece,
    Retry,
    SyncRequest,
    UpToDate,
)

Guard = Callable[[int, Callable[[], None]], None]
"""Does something for a link, given by its number."""

COMPARE = "compare"
"""Why an exchange isn't answered: what the initiator lacks was collected, so clocks alone can't tell what it is to give up."""
_ALARM_SECONDS = 60.0
_PIECES_MAX = 16
"""Sent for one request: four megabytes."""


class _Behind(NamedTuple):
    """An audit that waits until this node has all that the initiator had."""

    link: Link
    message: Compare
    since: float


class Exchanges:
    """All exchanges of one node."""

    def __init__(
        self,
        store: Store,
        config: GossipConfig,
        outbox: Outbox,
        intake: Intake,
        completed: Callable[[str], None],
        now: float = 0.0,
    ) -> None:
        """`completed` is called with the name of a peer when this node has all that it had."""
        self._parts = ExchangeParts(store, config, outbox, intake)
        self._store, self._config, self._outbox, self._completed = store, config, outbox, completed
        self.audited: Callable[[Finding], None] = lambda finding: None  # noqa: ARG005
        """Called with what an audit has found."""
        self._pace = Pace(config.audit_documents_a_second, now)
        self._numbers, self._turns = count(1), count(1)
        self._initiators: dict[int, ExchangeInitiator] = {}
        self._responders: dict[int, ExchangeResponder] = {}
        self._behind: dict[int, _Behind] = {}
        self._alarmed: dict[str, float] = {}
        self.peer_clocks: dict[str, DotSet] = {}
        """The last clock that each peer said it has."""
        self.received_documents = 0
        self.finished = 0
        self.asked_again = 0
        """How often documents had to be asked for in more bytes, since they didn't follow on what was here."""
        self.handlers: dict[type[Any], Callable[[Link, Any, float], None]] = {
            PageMessage: self.page,
            PageCredit: self._credit,
            Fetch: self._fetch,
            Piece: self._piece,
            BucketSums: self._summary,
            BucketDots: self._summary,
            BucketsRequest: self._request,
            DotsRequest: self._request,
        }
        """What handles messages of exchanges, but for those that only the engine can judge."""

    # As the initiator

    def ask(self, link: Link, now: float, form: Form = Form.BRIEF) -> None:
        """Ask a peer for everything that this node lacks, unless that is under way."""
        peer = link.peer or "?"
        if self._store.identity.entering:
            if not any(initiator.reconciliation for initiator in self._initiators.values()):  # with one peer is enough
                self.compare(link, now)
            return
        busy = link.number in self._initiators or len(self._initiators) >= self._config.exchanges_at_once
        if busy or now < self._alarmed.get(peer, now):
            return
        clock = self._store.replication.durable_clock()
        if form is Form.BRIEF and link.minor < BRIEF_SINCE:
            form = Form.PLAIN
        asking = Asking(next(self._numbers), peer, now, form=form)
        self._initiators[link.number] = ExchangeInitiator(link, asking, self._parts)
        self._outbox.send(link.number, SyncRequest(asking.exchange, clock, form is Form.WHOLE, form is Form.BRIEF))

    def compare(self, link: Link, now: float, *, audit: bool = False, repair: bool = True) -> bool:
        """Ask a peer for everything that this node lacks, and reconcile the stores; return whether that begins now."""
        if link.number in self._initiators:
            return False
        asking = Asking(next(self._numbers), link.peer or "?", now, form=Form.WHOLE)
        reconciliation = ReconciliationInitiator(asking.exchange, asking.peer, self._store, audit=audit, repair=repair)
        self._initiators[link.number] = ExchangeInitiator(link, asking, self._parts, reconciliation)
        self._outbox.send(link.number, reconciliation.ask())
        return True

    def page(self, link: Link, message: PageMessage, now: float) -> None:
        """Take a page, and merge its first slice if none waits before it. Raises EncodingError if it can't be read."""
        initiator = self._initiator(link.number, message.exchange)
        if initiator is not None:
            if initiator.waits:
                initiator.turn = next(self._turns)
            self._conclude(initiator, initiator.page(message, now), now)

    def _piece(self, link: Link, message: Piece, now: float) -> None:
        initiator = self._initiators.get(link.number)
        if initiator is not None:
            self._conclude(initiator, initiator.piece(message, now), now)

    def _summary(self, link: Link, message: BucketSums | BucketDots, now: float) -> None:
        initiator = self._initiators.get(link.number)
        if initiator is not None:
            self._conclude(initiator, initiator.summary(message, now), now)

    def heard(self, number: int, now: float) -> None:
        """Take note that a part of something came over a link: what is asked for there is on its way."""
        initiator = self._initiators.get(number)
        if initiator is not None:
            initiator.asking.heard = now

    def same(self, link: Link, message: UpToDate) -> None:
        """Take note that nothing is missing."""
        initiator = self._initiator(link.number, message.exchange)
        if initiator is not None:
            self.give_up(link.number)
            self._finish(initiator.asking.peer)

    def busy(self, link: Link, message: Retry, now: float) -> None:
        """Take note that the peer doesn't answer now; or not before the stores are reconciled."""
        if self._initiator(link.number, message.exchange) is not None:
            self.give_up(link.number)
            if message.reason == COMPARE:
                self.compare(link, now)

    def give_up(self, number: int) -> None:
        """End what was asked for over a link: what is merged is kept, what waits is dropped."""
        initiator = self._initiators.pop(number, None)
        cut_off = initiator.close() if initiator is not None else None
        if cut_off is not None:
            self.audited(cut_off)

    def _initiator(self, number: int, exchange: int) -> ExchangeInitiator | None:
        initiator = self._initiators.get(number)
        return initiator if initiator is not None and initiator.asking.exchange == exchange else None

    def _conclude(self, initiator: ExchangeInitiator, outcome: Outcome, now: float) -> None:
        """Do what follows from a step of an initiator."""
        link, asking = initiator.link, initiator.asking
        self.received_documents += initiator.take_received()
        if outcome is Outcome.CONTINUES:
            return
        if outcome is Outcome.COMPLETE and initiator.reconciliation is not None:
            self._reconciled(initiator, initiator.reconciliation)
            return
        self.give_up(link.number)
        if outcome is Outcome.COMPLETE:
            self.peer_clocks[asking.peer] = initiator.clock
            self._finish(asking.peer)
        elif outcome is Outcome.UNCONNECTED and asking.form is not Form.WHOLE:
            self.asked_again += 1
            self.ask(link, now, Form(asking.form + 1))
        elif outcome is Outcome.REJECTED:
            self._alarmed[asking.peer] = now + _ALARM_SECONDS
            self._outbox.log("ERROR", f"the exchange with {asking.peer} is stopped for a minute: {initiator.error}")

    def _reconciled(self, initiator: ExchangeInitiator, reconciliation: ReconciliationInitiator) -> None:
        """Take note that a reconciliation is over, and all that it found is mended."""
        peer = initiator.asking.peer
        del self._initiators[initiator.link.number]
        reconciliation.close()
        self._parts.intake.news = True
        if reconciliation.audit:
            self.audited(reconciliation.finding)
            return
        if reconciliation.finding.mended:
            stale = len(reconciliation.finding.mended)
            self._outbox.log("WARNING", f"{stale} documents here were out of date, and are now as {peer} has them")
        self._store.replication.advance(initiator.clock)
        self.peer_clocks[peer] = initiator.clock
        self._finish(peer)

    def _finish(self, peer: str) -> None:
        self.finished += 1
        self._completed(peer)

    # As the responder

    def asked(self, link: Link, message: SyncRequest, now: float) -> None:
        """Answer a clock."""
        self._stop_answering(link.number)
        self.peer_clocks[link.peer or "?"] = message.clock
        if message.clock and self._store.replication.collected_since(message.clock):
            self._outbox.send(link.number, Retry(message.exchange, COMPARE))
            return
        closed = link.minor >= CLOSED_SINCE and not message.clock  # who has nothing doesn't know what was collected
        outgoing = self._store.replication.outgoing(message.clock, message.whole, closed, message.brief)
        if outgoing.nothing:
            outgoing.close()
            self._outbox.send(link.number, UpToDate(message.exchange))
            return
        self._respond(link, PageFlow(message.exchange, self._config.pages_ahead, now), outgoing)

    def asked_to_compare(self, link: Link, message: Compare, now: float) -> None:
        """Answer with pages, then with sums. In an audit the initiator's clock is to be covered first."""
        self._stop_answering(link.number)
        if message.audit and not self._store.root.clock >= message.clock:
            self._behind[link.number] = _Behind(link, message, now)
            return
        comparing = self._store.replication.comparing(message.clock, closed=link.minor >= CLOSED_SINCE)
        reconciliation = ReconciliationResponder(message.exchange, comparing, audit=message.audit)
        flow = PageFlow(message.exchange, self._config.pages_ahead, now)
        self._respond(link, flow, comparing.outgoing, reconciliation)

    def _respond(
        self, link: Link, flow: PageFlow, outgoing: Outgoing, reconciliation: ReconciliationResponder | None = None
    ) -> None:
        outgoing.knows_strands = link.minor >= STRANDS_SINCE
        lineages = outgoing.lineages_digest if link.minor >= LINEAGES_SINCE else None
        self._responders[link.number] = ExchangeResponder(link.number, flow, outgoing, lineages, reconciliation)

    def _request(self, link: Link, message: BucketsRequest | DotsRequest, now: float) -> None:
        responder = self._responders.get(link.number)
        if responder is not None:
            responder.request(message, now, self._outbox, self._config.pages_ahead)

    def _fetch(self, link: Link, message: Fetch, now: float) -> None:
        """Send pieces of a content."""
        responder = self._responders.get(link.number)
        if responder is not None and responder.flow.exchange == message.exchange:
            responder.flow.heard = now
        for number in range(message.number, message.number + min(message.pieces, _PIECES_MAX)):
            try:
                content, last = self._store.attachments.piece(message.sha256, number)
            except NotFoundError:
                self._outbox.send(link.number, Piece(message.exchange, message.sha256, number, True, None))
                return
            self._outbox.send(link.number, Piece(message.exchange, message.sha256, number, last, content))
            if last:
                return

    def _credit(self, link: Link, message: PageCredit, now: float) -> None:
        responder = self._responders.get(link.number)
        if responder is not None and responder.flow.exchange == message.exchange:
            responder.credit(message, now, self._config.pages_ahead)

    # Work

    def pump(self, guard: Guard, now: float) -> bool:
        """Merge one slice of one page, and send one page to each peer that waits for one; return whether there is more to do.

        `guard` does what is due on a link: what goes wrong there is no matter of the others.
        """
        mergeable = self._mergeable()
        if mergeable:
            initiator = min(mergeable, key=lambda each: each.turn)
            initiator.turn = next(self._turns)  # the next time it is another's turn
            guard(initiator.link.number, lambda: self._conclude(initiator, initiator.merge(now), now))
        for number, responder in list(self._responders.items()):
            guard(number, partial(self._answer, number, responder))
        for number, each in list(self._initiators.items()):
            if each.reconciliation is not None:
                guard(number, partial(self._reconcile, each, each.reconciliation))
        return (
            any(self._has_more(responder) for responder in self._responders.values())
            or any(
                self._goes_on(each.reconciliation)
                for each in self._initiators.values()
                if each.reconciliation is not None
            )
            or bool(self._mergeable())
        )

    def _mergeable(self) -> list[ExchangeInitiator]:
        return [initiator for initiator in self._initiators.values() if initiator.can_merge]

    def _answer(self, number: int, responder: ExchangeResponder) -> None:
        reconciliation = responder.reconciliation
        if reconciliation is not None and reconciliation.waits:
            if self._may_step(reconciliation):
                responder.send_sums(self._outbox)
        elif responder.may_send and responder.send_page(self._outbox):
            self._stop_answering(number)

    def _reconcile(self, initiator: ExchangeInitiator, reconciliation: ReconciliationInitiator) -> None:
        if self._may_step(reconciliation):
            initiator.reconcile()

    def _has_more(self, responder: ExchangeResponder) -> bool:
        reconciliation = responder.reconciliation
        return responder.may_send or (reconciliation is not None and self._goes_on(reconciliation))

    def _may_step(self, reconciliation: ReconciliationResponder | ReconciliationInitiator) -> bool:
        """Whether a reconciliation may go on now: an audit reads no faster than it should."""
        if not reconciliation.audit or not reconciliation.summing:
            return True
        if not self._pace.allows:
            return False
        self._pace.take()
        return True

    def _goes_on(self, reconciliation: ReconciliationResponder | ReconciliationInitiator) -> bool:
        return reconciliation.busy and (not reconciliation.audit or not reconciliation.summing or self._pace.allows)

    def tick(self, now: float) -> None:
        """Give up what has been silent for too long."""
        self._pace.refill(now)
        for number, initiator in list(self._initiators.items()):
            if now - initiator.asking.heard > self._patience(initiator.reconciliation):
                self.give_up(number)
        for number, responder in list(self._responders.items()):
            if now - responder.flow.heard > self._patience(responder.reconciliation):
                self._stop_answering(number)
        for number, (link, message, since) in list(self._behind.items()):
            if self._store.root.clock >= message.clock:
                del self._behind[number]
                self.asked_to_compare(link, message, now)
            elif now - since > self._config.exchange_timeout:
                del self._behind[number]
                self._outbox.send(number, Retry(message.exchange, "behind"))

    def _patience(self, reconciliation: object | None) -> float:
        """Return how long a silence may last: a reconciliation reads all that is here."""
        return self._config.comparison_timeout if reconciliation is not None else self._config.exchange_timeout

    def closed(self, link: int) -> None:
        """Forget a link."""
        self.give_up(link)
        self._stop_answering(link)

    def stop(self) -> None:
        """End all exchanges."""
        for number in list(self._initiators):
            self.give_up(number)
        for number in list(self._responders):
            self._stop_answering(number)

    def _stop_answering(self, number: int) -> None:
        responder = self._responders.pop(number, None)
        self._behind.pop(number, None)
        if responder is not None:
            responder.close()
