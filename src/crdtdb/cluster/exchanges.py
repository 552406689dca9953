"""Performs exchanges on the store: asks peers for what is missing, and answers them from snapshots."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from crdtdb.causality import DotSet
from crdtdb.cluster.actions import Outbox
from crdtdb.cluster.fetching import Fetching
from crdtdb.cluster.links import Link
from crdtdb.errors import DotCollisionError, NotFoundError, TooLargeError
from crdtdb.gossip import Asking, GossipConfig, PageFlow
from crdtdb.store import ContentMissingError, JunctionMissingError, Outgoing, Store
from crdtdb.wire.messages import Ask, Busy, Fetch, More, PageOf, Piece, Same, parcel_in

_ALARM_SECONDS = 60.0
_PIECES_MAX = 16
"""Sent for one request: four megabytes."""


class Exchanges:
    """All exchanges of one node, those that it asked for and those that it answers."""

    def __init__(self, store: Store, config: GossipConfig, outbox: Outbox, completed: Callable[[str], None]) -> None:
        """`completed` is told the name of a peer when this node has all that the peer had."""
        self._store, self._config, self._outbox, self._completed = store, config, outbox, completed
        self._numbers = count(1)
        self._asking: dict[int, Asking] = {}
        self._answering: dict[int, tuple[PageFlow, Outgoing]] = {}
        self._fetching: dict[int, Fetching] = {}
        self._alarmed: dict[str, float] = {}
        self.peer_clocks: dict[str, DotSet] = {}
        """The last clock that each peer said it has."""
        self.received_documents = 0
        self.finished = 0
        self.news = False
        """Whether something arrived since somebody last looked."""

    # Asking

    def ask(self, link: Link, now: float, whole: bool = False) -> None:
        """Ask a peer for everything that this node lacks, unless that is under way."""
        peer = link.peer or "?"
        busy = link.number in self._asking or len(self._asking) >= self._config.exchanges_at_once
        if busy or now < self._alarmed.get(peer, now):
            return
        clock = self._store.durable_clock()
        asking = Asking(next(self._numbers), peer, now, whole=whole)
        self._asking[link.number] = asking
        self._outbox.send(link.number, Ask(asking.exchange, clock, whole))

    def page(self, link: Link, message: PageOf, now: float) -> None:
        """Merge a page. Raises EncodingError if it can't be read."""
        asking = self._asking.get(link.number)
        if asking is None or asking.exchange != message.exchange:
            return
        if not asking.take(message.number, now):
            self._give_up(link.number)  # lost, doubled or out of order: begin anew when the time comes
            return
        fetching = self._fetching.get(link.number)
        if fetching is not None:
            fetching.pages.append(message)
        else:
            self._merge(link, asking, message, now)

    def _merge(self, link: Link, asking: Asking, message: PageOf, now: float) -> bool:
        """Merge a page that all before it have made way for; return whether the next may be."""
        parcel = parcel_in(message.parcel)
        try:
            received = self._store.receive(parcel, message.last)
        except ContentMissingError as error:
            fetching = Fetching(self._store, asking.exchange, message, error.missing)
            self._fetching[link.number] = fetching
            self._outbox.send(link.number, fetching.next())
            return False
        except JunctionMissingError:
            self._give_up(link.number)
            self.ask(link, now, whole=True)
            return False
        except (DotCollisionError, TooLargeError) as error:
            self._give_up(link.number)
            self._alarmed[asking.peer] = now + _ALARM_SECONDS
            self._outbox.log("ERROR", f"the exchange with {asking.peer} is stopped for a minute: {error}")
            return False
        self.received_documents += received.documents
        self.news = self.news or bool(received.news)
        if message.last:
            del self._asking[link.number]
            self.peer_clocks[asking.peer] = parcel.clock
            self._finish(asking.peer)
        else:
            self._outbox.send(link.number, More(message.exchange, asking.wanted(self._config.pages_ahead)))
        return True

    def piece(self, link: Link, message: Piece, now: float) -> None:
        """Take a piece of a content that a page waits for. Raises ProtocolError for one that isn't what it should be."""
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
            while fetching.pages:
                if not self._merge(link, asking, fetching.pages.popleft(), now):
                    again = self._fetching.get(link.number)
                    if again is not None:
                        again.pages.extend(fetching.pages)
                    return

    def _give_up(self, number: int) -> None:
        self._asking.pop(number, None)
        fetching = self._fetching.pop(number, None)
        if fetching is not None:
            fetching.stop()

    def same(self, link: Link, message: Same) -> None:
        """Take note that nothing is missing."""
        asking = self._asking.get(link.number)
        if asking is not None and asking.exchange == message.exchange:
            del self._asking[link.number]
            self._finish(asking.peer)

    def busy(self, link: Link, message: Busy) -> None:
        """Take note that the peer doesn't answer now."""
        asking = self._asking.get(link.number)
        if asking is not None and asking.exchange == message.exchange:
            del self._asking[link.number]

    def _finish(self, peer: str) -> None:
        self.finished += 1
        self._completed(peer)

    # Answering

    def asked(self, link: Link, message: Ask, now: float) -> None:
        """Answer a clock."""
        self._stop_answering(link.number)
        self.peer_clocks[link.peer or "?"] = message.clock
        outgoing = self._store.outgoing(message.clock, message.whole)
        if outgoing.nothing:
            outgoing.close()
            self._outbox.send(link.number, Same(message.exchange))
            return
        flow = PageFlow(message.exchange, self._config.pages_ahead, now)
        self._answering[link.number] = (flow, outgoing)

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

    def more(self, link: Link, message: More, now: float) -> None:
        """Let further pages go out."""
        answering = self._answering.get(link.number)
        if answering is not None and answering[0].exchange == message.exchange:
            answering[0].more(message.wanted, now, self._config.pages_ahead)

    def pump(self) -> bool:
        """Send one page to each peer that waits for one; return whether there is more to send."""
        for number, (flow, outgoing) in list(self._answering.items()):
            if flow.may_send:
                page = outgoing.next_page()
                self._outbox.send(number, PageOf(flow.exchange, flow.sent, page.last, page.parcel))
                flow.sent += 1
                if page.last:
                    self._stop_answering(number)
        return any(flow.may_send for flow, _ in self._answering.values())

    def tick(self, now: float) -> None:
        """Give up what has been silent for too long."""
        for number, asking in list(self._asking.items()):
            if now - asking.heard > self._config.exchange_timeout:
                self._give_up(number)
        for number, (flow, _) in list(self._answering.items()):
            if now - flow.heard > self._config.exchange_timeout:
                self._stop_answering(number)

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
        answering = self._answering.pop(number, None)
        if answering is not None:
            answering[1].close()
