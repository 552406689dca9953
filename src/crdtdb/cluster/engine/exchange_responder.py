"""The responder's side of an exchange over one link: sends pages from a snapshot, and sums in a reconciliation."""

from __future__ import annotations

from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.reconciliation import ReconciliationResponder
from crdtdb.gossip import PageFlow
from crdtdb.limits import PART_BYTES_MIN
from crdtdb.store import Outgoing
from crdtdb.wire.messages import BucketsRequest, DotsRequest, PageCredit, PageMessage


class ExchangeResponder:
    """One exchange that this node answers."""

    def __init__(
        self,
        link: int,
        flow: PageFlow,
        outgoing: Outgoing,
        lineages: bytes | None,
        reconciliation: ReconciliationResponder | None = None,
    ) -> None:
        """`lineages` is the digest of those behind the snapshot, None if the peer doesn't know of lineages."""
        self._link, self.flow, self._outgoing, self._lineages = link, flow, outgoing, lineages
        self.reconciliation = reconciliation

    @property
    def may_send(self) -> bool:
        """Whether a page may go out now."""
        sums_are_next = self.reconciliation is not None and self.reconciliation.waits
        return self.flow.may_send and not sums_are_next

    def credit(self, message: PageCredit, now: float, pages_ahead: int) -> None:
        """Let further pages go out."""
        self.flow.more(message.wanted, now, pages_ahead)

    def send_page(self, outbox: Outbox) -> bool:
        """Send the next page; return whether that ends the exchange."""
        page = self._outgoing.next_page()
        outbox.send(self._link, PageMessage(self.flow.exchange, self.flow.sent, page.last, page.parcel, self._lineages))
        self.flow.went_out(page.size > PART_BYTES_MIN)
        return page.last and (self.reconciliation is None or not self.reconciliation.page_ended())

    def send_sums(self, outbox: Outbox) -> None:
        """Sum the snapshot a little further; send the sums once they are complete."""
        for message in self.reconciliation.step() if self.reconciliation is not None else ():
            outbox.send(self._link, message)

    def request(self, message: BucketsRequest | DotsRequest, now: float, outbox: Outbox, pages_ahead: int) -> None:
        """Send the dots of buckets, or the documents that the initiator has lost."""
        if self.reconciliation is None or self.reconciliation.exchange != message.exchange:
            return
        self.flow.heard = now
        if isinstance(message, BucketsRequest):
            for answer in self.reconciliation.list(message):
                outbox.send(self._link, answer)
        elif self.reconciliation.wanted(message):
            self.flow.more(self.flow.sent + pages_ahead, now, pages_ahead)
            lost = self.reconciliation.outgoing
            lost.knows_strands = self._outgoing.knows_strands
            self._outgoing = lost

    def close(self) -> None:
        """Release the snapshot."""
        self._outgoing.close()
        if self.reconciliation is not None:
            self.reconciliation.close()
