"""The initiator's side of an exchange over one link: takes pages, merges them in slices, and fetches what they refer to.

Rule 5: the clock advances with the last slice of the last page and never before. A page that is missing, doubled or out of
order ends the exchange: what was merged is kept, and another exchange begins later.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from crdtdb.causality import DotSet
from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.content_fetch import ContentFetch
from crdtdb.cluster.engine.intake import Intake
from crdtdb.cluster.engine.links import Link
from crdtdb.cluster.engine.page_merging import Merging
from crdtdb.cluster.engine.reconciliation import Finding, ReconciliationInitiator
from crdtdb.cluster.engine.transitions import Machine
from crdtdb.errors import DotCollisionError, EncodingError, HistoryForkedError, TooLargeError
from crdtdb.gossip import Asking, GossipConfig
from crdtdb.store import ContentMissingError, MissingAncestorError, Store
from crdtdb.wire.messages import BucketDots, BucketSums, PageCredit, PageMessage, Piece


class Pull(Enum):
    """What an initiator waits for."""

    WAITING = auto()
    """Nothing to merge is here."""
    MERGING = auto()
    """A slice of a page can be merged."""
    FETCHING = auto()
    """The next slice waits for the contents of attachments."""


class PullEvent(Enum):
    """What happens to an initiator."""

    PAGE = auto()
    DRAINED = auto()
    """No page is left to be merged."""
    MISSING = auto()
    """Contents that a slice refers to aren't here."""
    FETCHED = auto()


_PULL = {
    (Pull.WAITING, PullEvent.PAGE): Pull.MERGING,
    (Pull.MERGING, PullEvent.PAGE): Pull.MERGING,
    (Pull.FETCHING, PullEvent.PAGE): Pull.FETCHING,
    (Pull.MERGING, PullEvent.DRAINED): Pull.WAITING,
    (Pull.MERGING, PullEvent.MISSING): Pull.FETCHING,
    (Pull.FETCHING, PullEvent.FETCHED): Pull.MERGING,
}


class Outcome(Enum):
    """What a step of an exchange comes to."""

    CONTINUES = auto()
    COMPLETE = auto()
    """All that the peer had is here."""
    BROKEN = auto()
    """It ends, and another may begin."""
    UNCONNECTED = auto()
    """A document doesn't follow on what is here: it is to be asked for in more bytes."""
    REJECTED = auto()
    """What the peer sends contradicts what is here: `error` says how."""


class ExchangeParts(NamedTuple):
    """What the exchanges of one node share."""

    store: Store
    config: GossipConfig
    outbox: Outbox
    intake: Intake


class ExchangeInitiator:
    """One exchange that this node asked for."""

    def __init__(
        self, link: Link, asking: Asking, parts: ExchangeParts, reconciliation: ReconciliationInitiator | None = None
    ) -> None:
        self.link, self.asking, self._parts, self.reconciliation = link, asking, parts, reconciliation
        self._machine = Machine(_PULL, Pull.WAITING)
        self._merging = Merging(link, parts.config.updates_merged_at_once)
        self._fetch: ContentFetch | None = None
        self.clock = DotSet()
        """Once it is complete, the clock of the peer's snapshot."""
        self._received_documents = 0
        self.turn = 0
        """The order in which the links have their turn to merge."""
        self.error: Exception | None = None

    @property
    def can_merge(self) -> bool:
        """Whether a slice can be merged now."""
        return self._machine.state is Pull.MERGING

    @property
    def waits(self) -> bool:
        """Whether there is nothing to merge."""
        return self._machine.state is Pull.WAITING

    def page(self, message: PageMessage, now: float) -> Outcome:
        """Take a page, and merge its first slice if none waits before it. Raises EncodingError if it can't be read."""
        if not self.asking.take(message.number, now):
            return Outcome.BROKEN  # lost, doubled or out of order
        if len(self._merging) > 2 * self._parts.config.pages_ahead:
            raise EncodingError("more pages than were wanted")
        self._merging.add(message)
        self._machine.step(PullEvent.PAGE)
        return self.merge(now) if len(self._merging) == 1 else Outcome.CONTINUES

    def merge(self, now: float) -> Outcome:
        """Merge the next slice."""
        message, batch = self._merging.page, self._merging.next_slice
        self.asking.heard = max(self.asking.heard, now)
        last = message.last and self._merging.in_last_slice
        agreed, lineages = self._parts.intake.agree(self.link, batch.clock, message.lineages, now)
        if not agreed:
            return Outcome.BROKEN
        try:
            if self.reconciliation is not None and self.reconciliation.done:
                self.reconciliation.restore(batch)
            else:
                advance = last and self.reconciliation is None
                received = self._parts.intake.merge(self.link, batch, lineages, advance=advance)
                self._received_documents += received.documents
        except ContentMissingError as error:
            self._machine.step(PullEvent.MISSING)
            self._fetch = ContentFetch(self._parts.store, self.asking.exchange, error.missing)
            self._parts.outbox.send(self.link.number, self._fetch.next())
            return Outcome.CONTINUES
        except MissingAncestorError:
            return Outcome.UNCONNECTED
        except (DotCollisionError, HistoryForkedError, TooLargeError) as error:
            self.error = error
            return Outcome.REJECTED
        return self._page_merged(message, batch.clock) if self._merging.merged() else Outcome.CONTINUES

    def _page_merged(self, message: PageMessage, clock: DotSet) -> Outcome:
        """Let other pages come, or end."""
        self.asking.merged += 1
        if not self._merging:
            self._machine.step(PullEvent.DRAINED)
        if not message.last:
            credit = PageCredit(message.exchange, self.asking.wanted(self._parts.config.pages_ahead))
            self._parts.outbox.send(self.link.number, credit)
        elif self.reconciliation is None:
            self.clock = clock
            return Outcome.COMPLETE
        elif self.reconciliation.done:
            self.clock = self.reconciliation.clock
            return Outcome.COMPLETE
        else:
            self.reconciliation.paged(clock)
        return Outcome.CONTINUES

    def take_received(self) -> int:
        """Return how many documents were merged since this was called last."""
        received, self._received_documents = self._received_documents, 0
        return received

    def piece(self, message: Piece, now: float) -> Outcome:
        """Take a piece of a content that a page waits for. Raises EncodingError for one that isn't what it should be."""
        fetch = self._fetch
        if fetch is None or fetch.exchange != message.exchange:
            return Outcome.CONTINUES
        if message.content is None:  # its document has changed since: the next exchange says how
            return Outcome.BROKEN
        self.asking.heard = now
        if fetch.take(message):
            self._parts.outbox.send(self.link.number, fetch.next())
        if not fetch.done():
            return Outcome.CONTINUES
        self._fetch = None
        self._machine.step(PullEvent.FETCHED)
        return self.merge(now)

    def summary(self, message: BucketSums | BucketDots, now: float) -> Outcome:
        """Take sums or dots of the responder's documents."""
        if self.reconciliation is None or self.reconciliation.exchange != message.exchange:
            return Outcome.CONTINUES
        self.asking.heard = now
        if isinstance(message, BucketSums):
            self.reconciliation.sums(message)
        elif not self.reconciliation.dots(message):
            return Outcome.BROKEN
        return Outcome.CONTINUES

    def reconcile(self) -> None:
        """Sum or mend a little further."""
        for message in self.reconciliation.step() if self.reconciliation is not None else ():
            self._parts.outbox.send(self.link.number, message)

    def close(self) -> Finding | None:
        """Discard what waits; what is merged is kept. Return the finding of an audit that was cut off."""
        finding = None
        if self.reconciliation is not None:
            self.reconciliation.close()
            if self.reconciliation.audit:
                finding = self.reconciliation.finding
                finding.failed = "it was cut off"
        if self._fetch is not None:
            self._fetch.stop()
        return finding
