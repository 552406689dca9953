"""Signs of life on a path of their own: a node that works on a large document answers pings all the same.

The engine does one thing at a time, and a thing may take seconds: a document at its bounds has to be decoded and merged whole.
Its runtime asks here whenever a frame arrives while the engine is in a turn, from another thread than the engine's. So nothing
here waits for the store, nor touches what the engine changes: a ping is answered at once, with the last digest that the engine
gave and without news of members. The ping itself waits for its turn as all frames do, and is answered once more then, which
tells nothing new. And the engine hears of each arrival before it judges by the clock who was silent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from crdtdb.cluster.engine.links import Link, Links
from crdtdb.errors import CrdtdbError
from crdtdb.wire.codec import decode_message, encode_message
from crdtdb.wire.messages import LINEAGES_SINCE, Ack, Ping

_PING_BYTES_MAX = 1024 * 1024
_PING_KIND = encode_message(Ping(0, ()))[:2]


class Heartbeats:
    """Answers pings and notes arrivals while the engine is busy."""

    def __init__(self, links: Links, heard: Callable[[str], None]) -> None:
        """`heard` takes note of a sign of life of a member; it is called by the engine's own thread."""
        self._links, self._heard = links, heard
        self._arrivals: deque[tuple[int, float]] = deque()
        self.clock_digest = bytes(8)
        """That of the last durable clock that the engine looked at: the next may cover more."""
        self.history_digest: bytes | None = None
        """The same for peers that know of lineages."""
        self.answered_aside = 0
        """Pings that were answered while the engine was busy."""

    def arrived(self, number: int, now: float) -> None:
        """Take note that something came over a link. May be called from any thread."""
        self._arrivals.append((number, now))

    def answer(self, number: int, payload: bytes) -> bytes | None:
        """Return the answer to a payload if it is a ping over a link that has greeted, else None. From any thread."""
        link = self._links.get(number)
        if link is None or link.peer is None or payload[:2] != _PING_KIND or len(payload) > _PING_BYTES_MAX:
            return None
        try:
            message = decode_message(payload)
        except CrdtdbError:
            return None  # the engine says what is wrong with it
        if not isinstance(message, Ping):
            return None
        self.answered_aside += 1
        newer = self.history_digest if link.minor >= LINEAGES_SINCE else None
        return encode_message(Ack(message.number, (), newer or self.clock_digest))

    def pings(self) -> list[tuple[int, bytes]]:
        """Return a ping for each link that this node dialed, to be sent when the engine is busy for long. From any thread."""
        payload = encode_message(Ping(0, ()))
        return [(link.number, payload) for link in self._links.greeted_links() if link.address is not None]

    def note_arrivals(self) -> None:
        """Tell the engine's parts what came while it was busy. Called by the engine before it looks at the time."""
        while self._arrivals:
            number, at = self._arrivals.popleft()
            link: Link | None = self._links.get(number)
            if link is not None and link.peer is not None:
                link.heard = max(link.heard, at)
                self._heard(link.peer)
