"""Audits: reconciles with the members, one after the other, on request of an operator or a peer, and now and then."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from threading import Lock
from typing import NamedTuple

from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.exchanges import Exchanges
from crdtdb.cluster.engine.links import Links
from crdtdb.cluster.engine.reconciliation import Finding
from crdtdb.gossip import GossipConfig
from crdtdb.wire.messages import Audit

Found = Callable[[Finding], None]
_TRIES = 3


class _Asked(NamedTuple):
    peer: str
    repair: bool
    found: Found
    tries: int = 1


class Audits:
    """The audits that wait, and the one that is under way."""

    def __init__(
        self, exchanges: Exchanges, links: Links, config: GossipConfig, outbox: Outbox, rng: Random, now: float
    ) -> None:
        self._exchanges, self._links, self._config, self._outbox, self._rng = exchanges, links, config, outbox, rng
        self._waiting: deque[_Asked] = deque()
        self._lock = Lock()
        self._running: _Asked | None = None
        self._next = now + config.audit_interval * rng.uniform(0.5, 1.5)
        self.last: dict[str, Finding] = {}
        """The newest finding, by peer."""

    def ask(self, peers: list[str], repair: bool, found: Found) -> None:
        """Compare with some peers, soon. May be called from any thread; `found` is called for each, by the engine."""
        with self._lock:
            self._waiting.extend(_Asked(peer, repair, found) for peer in peers)

    def asked_for(self, peer: str) -> None:
        """Audit with a peer, which found that this node has lost documents."""
        with self._lock:
            if len(self._waiting) < 100:
                self._waiting.append(_Asked(peer, True, lambda finding: None))  # noqa: ARG005

    def found(self, finding: Finding) -> None:
        """Take the finding of an audit."""
        running, self._running = self._running, None
        if running is not None and finding.failed is not None and running.tries < _TRIES:
            with self._lock:
                self._waiting.append(running._replace(tries=running.tries + 1))
            return
        self.last[finding.peer] = finding
        if finding.failed is None and not finding.clean:
            self._outbox.log(
                "ERROR",
                f"the audit with {finding.peer} found {len(finding.lost_here)} documents lost here and "
                f"{len(finding.lost_there)} there, {len(finding.contradictory)} that contradict each other, and "
                f"{len(finding.rot_here)} rows here that don't agree; {len(finding.mended)} are mended",
            )
        if running is None:
            return
        if running.repair and (finding.lost_there or not finding.claims):
            self._links.send_to(finding.peer, Audit())
        running.found(finding)

    def tick(self, joining: bool, now: float) -> None:
        """Begin what waits, if nothing is under way. A node that is `joining` is compared anyway, and asks for no audit."""
        if self._config.audit_interval and now >= self._next:
            self._next = now + self._config.audit_interval * self._rng.uniform(0.5, 1.5)
            if self._links.ways:
                self.ask([self._rng.choice(sorted(self._links.ways))], False, lambda finding: None)  # noqa: ARG005
        with self._lock:
            if self._running is not None or not self._waiting:
                return
            self._running = asked = self._waiting.popleft()
        way = self._links.ways.get(asked.peer)
        if joining:
            self._running = None
            asked.found(Finding(asked.peer, failed="the node is joining its cluster"))
        elif way is None:
            self._running = None
            asked.found(Finding(asked.peer, failed="it isn't connected"))
        elif not self._exchanges.compare(way, now, audit=True, repair=asked.repair):
            self._running = None
            with self._lock:
                self._waiting.appendleft(asked)  # an exchange is under way: when that is over
