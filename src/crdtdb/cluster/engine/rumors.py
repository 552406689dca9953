"""Rumor duty of a node: pushes fresh commits to some peers at once, and merges what they push.

A rumor is an optimization: what one doesn't bring, the next exchange does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.intake import Intake
from crdtdb.cluster.engine.links import Link, Links
from crdtdb.errors import DotCollisionError, HistoryForkedError, TooLargeError
from crdtdb.gossip import Rumors
from crdtdb.store import Committed, ContentMissingError, MissingAncestorError, Store
from crdtdb.wire.codec import parcel_in
from crdtdb.wire.messages import BRIEF_SINCE, LINEAGES_SINCE, STRANDS_SINCE, Rumor, SyncHint

RequestExchange = Callable[[str | None, float], None]
"""Starts an exchange with a peer, given by its name, if there is a way to it."""


class RumorSpreader:
    """The rumors of one node. Not safe for threads, but for `committed`."""

    def __init__(
        self,
        store: Store,
        rumors: Rumors,
        links: Links,
        intake: Intake,
        outbox: Outbox,
        request_exchange: RequestExchange,
    ) -> None:
        self._store, self._rumors, self._links, self._intake = store, rumors, links, intake
        self._outbox, self._request_exchange = outbox, request_exchange
        self._committed: deque[Committed] = deque()
        self.wake: Callable[[], None] = lambda: None
        """Called, from any thread, when there are commits to spread."""
        self.received = self.new = 0
        """Rumors that were merged, and those of them that brought something new."""

    def committed(self, committed: Committed) -> None:
        """Take note of a commit. May be called from any thread."""
        if committed.written or committed.named:
            self._committed.append(committed)
            if len(self._committed) == 1:  # the first since `collect` wakes for those that follow
                self.wake()

    @property
    def has_news(self) -> bool:
        """Whether rumors wait to be pushed."""
        return bool(self._rumors)

    @property
    def unspread(self) -> int:
        """How many commits wait to be spread. May be asked from any thread."""
        return len(self._committed)

    def collect(self) -> None:
        """Turn the commits since the last tick into rumors."""
        while self._committed:
            committed = self._committed.popleft()
            self._rumors.heard(committed.written, ())
            if committed.named:
                self._rumors.too_much()

    def push(self, me: str) -> None:
        """Send the rumors that wait to some peers."""
        if not self._rumors:
            return
        ways = self._links.ways
        for places, peers, informed in self._rumors.take(me, ways):
            minor = min((ways[name].minor for name in peers), default=0)
            replication = self._store.replication
            batch = replication.rumor(places, brief=minor >= BRIEF_SINCE, knows_strands=minor >= STRANDS_SINCE)
            digest = self._store.root.lineages.digest(parcel_in(batch).clock) if batch is not None else None
            for name in peers:
                lineages = digest if ways[name].minor >= LINEAGES_SINCE else None
                self._links.send_to(name, Rumor(batch, informed, lineages) if batch is not None else SyncHint())
        for name in self._rumors.take_overflow(ways):
            self._links.send_to(name, SyncHint())

    def receive(self, link: Link, message: Rumor, now: float) -> None:
        """Merge a rumor, and push on what is new. One that can't be merged starts an exchange, or is rejected."""
        batch = parcel_in(message.parcel)
        agreed, lineages = self._intake.agree(link, batch.clock, message.lineages, now)
        if not agreed:
            return
        try:
            received = self._intake.merge(link, batch, lineages)
        except (MissingAncestorError, ContentMissingError):
            self._request_exchange(link.peer, now)
            return
        except (DotCollisionError, HistoryForkedError, TooLargeError) as error:
            self._outbox.log("ERROR", f"rejected rumor from {link.peer}: {error}")
            return
        self.received += 1
        self.new += bool(received.news)
        self._rumors.heard(received.news, {*message.told, link.peer or "?"})
