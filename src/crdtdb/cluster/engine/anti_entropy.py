"""Anti-entropy of a node: compares clocks with its peers by digests, and starts exchanges with those that differ.

Rule 7: what no rumor brings, an exchange does.
"""

from __future__ import annotations

from random import Random

from crdtdb.causality import DotSet, Lineages
from crdtdb.cluster.engine.exchanges import Exchanges
from crdtdb.cluster.engine.heartbeats import Heartbeats
from crdtdb.cluster.engine.links import Link, Links
from crdtdb.gossip import GossipConfig
from crdtdb.store import Store
from crdtdb.wire.codec import clock_digest, history_digest
from crdtdb.wire.messages import LINEAGES_SINCE


class AntiEntropy:
    """Chooses which peer to exchange with, and when."""

    def __init__(
        self,
        store: Store,
        links: Links,
        exchanges: Exchanges,
        heartbeats: Heartbeats,
        config: GossipConfig,
        rng: Random,
    ) -> None:
        self._store, self._links, self._exchanges, self._heartbeats = store, links, exchanges, heartbeats
        self._config, self._rng = config, rng
        self._peer_digests: dict[str, bytes] = {}
        """The last digest that each peer sent."""
        self._digested: tuple[DotSet, Lineages, bytes, bytes] | None = None
        """A clock and its lineages, and the digests of these."""
        self._next_exchange = float("-inf")

    def digest(self, minor: int) -> bytes:
        """Return the digest of this node's clock; for a peer that knows of lineages, that of its history."""
        clock, lineages = self._store.replication.durable_clock(), self._store.root.lineages
        if self._digested is None or self._digested[:2] != (clock, lineages):
            self._digested = (clock, lineages, clock_digest(clock), history_digest(clock, lineages))
            self._heartbeats.clock_digest, self._heartbeats.history_digest = self._digested[2:]
        return self._digested[3] if minor >= LINEAGES_SINCE else self._digested[2]

    def heard(self, link: Link, digest: bytes) -> bool:
        """Take note of a peer's digest; return whether it is this node's own."""
        self._peer_digests[link.peer or "?"] = digest
        return digest == self.digest(link.minor)

    def digest_of(self, peer: str | None) -> bytes | None:
        """Return the last digest that a peer sent, None if it sent none."""
        return self._peer_digests.get(peer or "?")

    def forget(self, peer: str) -> None:
        """Drop what a peer said, whose last connection is gone."""
        self._peer_digests.pop(peer, None)

    def clear(self) -> None:
        """Drop what all peers said."""
        self._peer_digests.clear()

    def request(self, peer: str | None, now: float) -> None:
        """Start an exchange with a peer, if there is a way to it."""
        way = self._links.ways.get(peer or "?")
        if way is not None:
            self._exchanges.ask(way, now)

    def request_if_behind(self, peer: str | None, clock: DotSet, now: float) -> None:
        """Start an exchange with a peer whose clock has dots that this node lacks."""
        if not self._store.root.clock >= clock:
            self.request(peer, now)

    def tick(self, joining: bool, now: float) -> None:
        """Start an exchange with a peer whose digest differs, now and then; a node that is `joining` asks any."""
        if now < self._next_exchange:
            return
        self._next_exchange = now + self._config.exchange_interval * self._rng.uniform(0.7, 1.3)
        behind = sorted(
            name
            for name, way in self._links.ways.items()
            if self._peer_digests.get(name) != self.digest(way.minor) or joining
        )
        if behind:
            self._exchanges.ask(self._links.ways[self._rng.choice(behind)], now)
