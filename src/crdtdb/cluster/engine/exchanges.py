"""Performs exchanges on the store: asks peers for what is missing, and answers them from snapshots."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from crdtdb.causality import DotSet
from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.content_fetch import Fetching
from crdtdb.cluster.engine.intake import Intake
from crdtdb.cluster.engine.links import Link
from crdtdb.cluster.engine.page_merging import Merging
from crdtdb.cluster.engine.reconciliation import Finding, Pace, ReconciliationInitiator, ReconciliationResponder
from crdtdb.errors import DotCollisionError, EncodingError, HistoryForkedError, NotFoundError, TooLargeError
from crdtdb.gossip import Asking, Form, GossipConfig, PageFlow
from crdtdb.limits import PART_BYTES_MIN
from crdtdb.store import ContentMissingError, MissingAncestorError, Outgoing, Store
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
"""Why an exchange isn't answered: what the asker lacks was collected, so clocks alone can't tell what he is to give up."""
_ALARM_SECONDS = 60.0
_PIECES_MAX = 16
"""Sent for one request: four megabytes."""


class Exchanges:
    """All exchanges of one node, those that it asked for and those that it answers."""

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
        self._intake = intake
        self.audited: Callable[[Finding], None] = lambda finding: None  # noqa: ARG005
        """Called with what an audit has found."""
        self._pace = Pace(config.audit_documents_a_second, now)
        self._store, self._config, self._outbox, self._completed = store, config, outbox, completed
        self._numbers = count(1)
        self._asking: dict[int, Asking] = {}
        self._answering: dict[int, tuple[PageFlow, Outgoing]] = {}
        self._digests: dict[int, bytes] = {}
        """Those of the lineages behind the snapshots that are sent."""
        self._merging: dict[int, Merging] = {}
        """By link, the link whose turn it is first."""
        self._fetching: dict[int, Fetching] = {}
        self._comparing: dict[int, ReconciliationInitiator] = {}
        self._compared: dict[int, ReconciliationResponder] = {}
        self._behind: dict[int, tuple[Link, Compare, float]] = {}
        """Audits that wait until this node has all that the asker had."""
        self._alarmed: dict[str, float] = {}
        self.peer_clocks: dict[str, DotSet] = {}
        """The last clock that each peer said it has."""
        self.received_documents = 0
        self.finished = 0
        self.asked_again = 0
        """How often documents had to be asked for in more bytes, since they didn't follow on what was here."""
        self.handlers: dict[type[Any], Callable[[Link, Any, float], None]] = {
            PageMessage: self.page,
            PageCredit: self.more,
            Fetch: self.fetch,
            Piece: self.piece,
            BucketSums: self.sums,
            BucketDots: self.sums,
            BucketsRequest: self.list,
            DotsRequest: self.list,
        }
        """What handles messages of exchanges, but for those that only the engine can judge."""

    # Asking

    def ask(self, link: Link, now: float, form: Form = Form.BRIEF) -> None:
        """Ask a peer for everything that this node lacks, unless that is under way."""
        peer = link.peer or "?"
        if self._store.identity.entering:
            if not self._comparing:  # with one peer is enough
                self.compare(link, now)
            return
        busy = link.number in self._asking or len(self._asking) >= self._config.exchanges_at_once
        if busy or now < self._alarmed.get(peer, now):
            return
        clock = self._store.replication.durable_clock()
        if form is Form.BRIEF and link.minor < BRIEF_SINCE:
            form = Form.PLAIN
        asking = Asking(next(self._numbers), peer, now, form=form)
        self._asking[link.number] = asking
        self._outbox.send(link.number, SyncRequest(asking.exchange, clock, form is Form.WHOLE, form is Form.BRIEF))

    def compare(self, link: Link, now: float, *, audit: bool = False, repair: bool = True) -> bool:
        """Ask a peer for everything that this node lacks, and compare what both hold; return whether that begins now."""
        if link.number in self._asking:
            return False
        asking = Asking(next(self._numbers), link.peer or "?", now, form=Form.WHOLE)
        self._asking[link.number] = asking
        comparison = ReconciliationInitiator(asking.exchange, asking.peer, self._store, audit=audit, repair=repair)
        self._comparing[link.number] = comparison
        self._outbox.send(link.number, comparison.ask())
        return True

    def page(self, link: Link, message: PageMessage, now: float) -> None:
        """Take a page, and merge its first slice if none waits before it. Raises EncodingError if it can't be read."""
        asking = self._asking.get(link.number)
        if asking is None or asking.exchange != message.exchange:
            return
        if not asking.take(message.number, now):
            self._give_up(link.number)  # lost, doubled or out of order: begin anew when the time comes
            return
        merging = self._merging.setdefault(link.number, Merging(link, self._config.updates_merged_at_once))
        if len(merging) > 2 * self._config.pages_ahead:
            raise EncodingError("more pages than were wanted")
        merging.add(message)
        if len(merging) == 1:
            self._merge(link.number, now)

    def _merge(self, number: int, now: float) -> None:
        """Merge the next slice that came over a link."""
        asking, merging = self._asking[number], self._merging[number]
        link, message, parcel = merging.link, merging.page, merging.next_slice
        asking.heard = max(asking.heard, now)
        last = message.last and merging.in_last_slice
        comparison = self._comparing.get(number)
        agreed, lineages = self._intake.agree(link, parcel.clock, message.lineages, now)
        if not agreed:
            self._give_up(number)
            return
        try:
            if comparison is not None and comparison.done:
                comparison.take_back(parcel)
            else:
                advance = last and comparison is None
                received = self._intake.merge(link, parcel, lineages, advance=advance)
                self.received_documents += received.documents
        except ContentMissingError as error:
            fetching = self._fetching[number] = Fetching(self._store, asking.exchange, error.missing)
            self._outbox.send(number, fetching.next())
        except MissingAncestorError:
            self._give_up(number)
            if asking.form is not Form.WHOLE:
                self.asked_again += 1
                self.ask(link, now, Form(asking.form + 1))
        except (DotCollisionError, HistoryForkedError, TooLargeError) as error:
            self._give_up(number)
            self._alarmed[asking.peer] = now + _ALARM_SECONDS
            self._outbox.log("ERROR", f"the exchange with {asking.peer} is stopped for a minute: {error}")
        else:
            if merging.merged():
                self._merged(number, asking, message, parcel.clock)

    def _merged(self, number: int, asking: Asking, message: PageMessage, clock: DotSet) -> None:
        """Take note that a page is merged: let others come, or end."""
        asking.merged += 1
        if not self._merging[number]:
            del self._merging[number]
        comparison = self._comparing.get(number)
        if not message.last:
            self._outbox.send(number, PageCredit(message.exchange, asking.wanted(self._config.pages_ahead)))
        elif comparison is None:
            self._give_up(number)
            self.peer_clocks[asking.peer] = clock
            self._finish(asking.peer)
        elif comparison.done:
            self._agreed(number)
        else:
            comparison.paged(clock)

    def piece(self, link: Link, message: Piece, now: float) -> None:
        """Take a piece of a content that a page waits for. Raises EncodingError for one that isn't what it should be."""
        asking, fetching = self._asking.get(link.number), self._fetching.get(link.number)
        if asking is None or fetching is None or fetching.exchange != message.exchange or fetching.done():
            return
        if message.content is None:  # its document has changed since: the next exchange says how
            self._give_up(link.number)
            return
        asking.heard = now
        if fetching.take(message):
            self._outbox.send(link.number, fetching.next())
        if fetching.done():
            del self._fetching[link.number]
            self._merge(link.number, now)

    def heard(self, number: int, now: float) -> None:
        """Take note that a part of something came over a link: what is asked for there is on its way."""
        asking = self._asking.get(number)
        if asking is not None:
            asking.heard = now

    def _agreed(self, number: int) -> None:
        """Take note that a comparison is over, and all that it found is mended."""
        comparison, asking = self._comparing.pop(number), self._asking.pop(number)
        comparison.close()
        self._intake.news = True
        if comparison.audit:
            self.audited(comparison.finding)
            return
        if comparison.finding.mended:
            stale = len(comparison.finding.mended)
            self._outbox.log(
                "WARNING", f"{stale} documents here were out of date, and are now as {asking.peer} has them"
            )
        self._store.replication.advance(comparison.clock)
        self.peer_clocks[asking.peer] = comparison.clock
        self._finish(asking.peer)

    def _give_up(self, number: int) -> None:
        """End an exchange: what is merged is kept, what waits is dropped."""
        self._asking.pop(number, None)
        self._merging.pop(number, None)
        comparison = self._comparing.pop(number, None)
        if comparison is not None:
            comparison.close()
            if comparison.audit:
                comparison.finding.failed = "it was cut off"
                self.audited(comparison.finding)
        fetching = self._fetching.pop(number, None)
        if fetching is not None:
            fetching.stop()

    def same(self, link: Link, message: UpToDate) -> None:
        """Take note that nothing is missing."""
        asking = self._asking.get(link.number)
        if asking is not None and asking.exchange == message.exchange:
            self._give_up(link.number)
            self._finish(asking.peer)

    def sums(self, link: Link, message: BucketSums | BucketDots, now: float) -> None:
        """Take in what a comparison is told of the other side."""
        asking, comparison = self._asking.get(link.number), self._comparing.get(link.number)
        if asking is None or comparison is None or comparison.exchange != message.exchange:
            return
        asking.heard = now
        if isinstance(message, BucketSums):
            comparison.sums(message)
        elif not comparison.dots(message):
            self._give_up(link.number)  # as with pages: begin anew when the time comes

    def busy(self, link: Link, message: Retry, now: float) -> None:
        """Take note that the peer doesn't answer now; or not before what both hold is compared."""
        asking = self._asking.get(link.number)
        if asking is not None and asking.exchange == message.exchange:
            self._give_up(link.number)
            if message.reason == COMPARE:
                self.compare(link, now)

    def _finish(self, peer: str) -> None:
        self.finished += 1
        self._completed(peer)

    # Answering

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
        flow = PageFlow(message.exchange, self._config.pages_ahead, now)
        self._answer_later(link, flow, outgoing)

    def asked_to_compare(self, link: Link, message: Compare, now: float) -> None:
        """Answer with pages, then with sums. In an audit the asker's clock is to be covered first."""
        self._stop_answering(link.number)
        if message.audit and not self._store.root.clock >= message.clock:
            self._behind[link.number] = (link, message, now)
            return
        comparing = self._store.replication.comparing(message.clock, closed=link.minor >= CLOSED_SINCE)
        self._compared[link.number] = ReconciliationResponder(message.exchange, comparing, audit=message.audit)
        flow = PageFlow(message.exchange, self._config.pages_ahead, now)
        self._answer_later(link, flow, comparing.outgoing)

    def _answer_later(self, link: Link, flow: PageFlow, outgoing: Outgoing) -> None:
        """Let pages go out as the peer wants them, with the digest of the lineages behind them, if it knows of these."""
        outgoing.knows_strands = link.minor >= STRANDS_SINCE
        self._answering[link.number] = (flow, outgoing)
        if link.minor >= LINEAGES_SINCE:
            self._digests[link.number] = outgoing.lineages_digest

    def list(self, link: Link, message: BucketsRequest | DotsRequest, now: float) -> None:
        """Send the dots of buckets, or the documents that were lost."""
        answering, compared = self._answering.get(link.number), self._compared.get(link.number)
        if answering is None or compared is None or compared.exchange != message.exchange:
            return
        flow, _ = answering
        flow.heard = now
        if isinstance(message, BucketsRequest):
            for one in compared.list(message):
                self._outbox.send(link.number, one)
        else:
            compared.wanted(message)
            compared.outgoing.knows_strands = link.minor >= STRANDS_SINCE
            flow.more(flow.sent + self._config.pages_ahead, now, self._config.pages_ahead)
            self._answering[link.number] = (flow, compared.outgoing)

    def fetch(self, link: Link, message: Fetch, now: float) -> None:
        """Send pieces of a content."""
        answering = self._answering.get(link.number)
        if answering is not None and answering[0].exchange == message.exchange:
            answering[0].heard = now
        for number in range(message.number, message.number + min(message.pieces, _PIECES_MAX)):
            try:
                content, last = self._store.attachments.piece(message.sha256, number)
            except NotFoundError:
                self._outbox.send(link.number, Piece(message.exchange, message.sha256, number, True, None))
                return
            self._outbox.send(link.number, Piece(message.exchange, message.sha256, number, last, content))
            if last:
                return

    def more(self, link: Link, message: PageCredit, now: float) -> None:
        """Let further pages go out."""
        answering = self._answering.get(link.number)
        if answering is not None and answering[0].exchange == message.exchange:
            answering[0].more(message.wanted, now, self._config.pages_ahead)

    def pump(self, guard: Guard, now: float) -> bool:
        """Merge one slice of one page, and send one page to each peer that waits for one; return whether there is more to do.

        `guard` does what is due on a link: what goes wrong there is no matter of the others.
        """
        for number in self._mergeable()[:1]:
            self._merging[number] = self._merging.pop(number)  # the next time it is another's turn
            guard(number, partial(self._merge, number, now))
        for number in list(self._answering):
            guard(number, partial(self._answer, number))
        for number in list(self._comparing):
            guard(number, partial(self._compare_further, number))
        return (
            any(flow.may_send and number not in self._compared for number, (flow, _) in self._answering.items())
            or any(
                self._goes_on(one) or (not one.waits and self._answering[n][0].may_send)
                for n, one in self._compared.items()
            )
            or any(self._goes_on(comparison) for comparison in self._comparing.values())
            or bool(self._mergeable())
        )

    def _mergeable(self) -> tuple[int, ...]:
        """Return the links of which a slice can be merged now: a page whose contents are fetched waits."""
        return tuple(number for number in self._merging if number not in self._fetching)

    def _answer(self, number: int) -> None:
        flow, outgoing = self._answering[number]
        compared = self._compared.get(number)
        if compared is not None and compared.waits:
            if self._may_step(compared):
                for message in compared.step():
                    self._outbox.send(number, message)
        elif flow.may_send:
            page = outgoing.next_page()
            digest = self._digests.get(number)
            self._outbox.send(number, PageMessage(flow.exchange, flow.sent, page.last, page.parcel, digest))
            flow.went_out(page.size > PART_BYTES_MIN)
            if page.last and (compared is None or not compared.page_ended()):
                self._stop_answering(number)

    def _compare_further(self, number: int) -> None:
        comparison = self._comparing[number]
        for message in comparison.step() if self._may_step(comparison) else ():
            self._outbox.send(number, message)

    def _may_step(self, comparison: ReconciliationResponder | ReconciliationInitiator) -> bool:
        """Whether a comparison may go on now: an audit reads no faster than it should."""
        if not comparison.audit or not comparison.summing:
            return True
        if not self._pace.allows:
            return False
        self._pace.take()
        return True

    def _goes_on(self, comparison: ReconciliationResponder | ReconciliationInitiator) -> bool:
        return comparison.busy and (not comparison.audit or not comparison.summing or self._pace.allows)

    def tick(self, now: float) -> None:
        """Give up what has been silent for too long."""
        self._pace.refill(now)
        for number, asking in list(self._asking.items()):
            if now - asking.heard > self._patience(number in self._comparing):
                self._give_up(number)
        for number, (flow, _) in list(self._answering.items()):
            if now - flow.heard > self._patience(number in self._compared):
                self._stop_answering(number)
        for number, (link, message, since) in list(self._behind.items()):
            if self._store.root.clock >= message.clock:
                del self._behind[number]
                self.asked_to_compare(link, message, now)
            elif now - since > self._config.exchange_timeout:
                del self._behind[number]
                self._outbox.send(number, Retry(message.exchange, "behind"))

    def _patience(self, comparing: bool) -> float:
        """Return how long a silence may last: who compares reads all that he has."""
        return self._config.comparison_timeout if comparing else self._config.exchange_timeout

    def closed(self, link: int) -> None:
        """Forget a link."""
        self._give_up(link)
        self._stop_answering(link)

    def stop(self) -> None:
        """Let go of everything."""
        for number in list(self._asking):
            self._give_up(number)
        for number in list(self._answering):
            self._stop_answering(number)

    def _stop_answering(self, number: int) -> None:
        answering, compared = self._answering.pop(number, None), self._compared.pop(number, None)
        self._behind.pop(number, None)
        self._digests.pop(number, None)
        if answering is not None:
            answering[1].close()
        if compared is not None:
            compared.close()
