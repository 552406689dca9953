"""What a node says of its cluster, to operators and to the HTTP API."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import fields
from queue import Empty, Queue
from typing import Any, Protocol

from crdtdb import forks
from crdtdb.causality import DotSet
from crdtdb.clock import iso, monotonic_seconds, wall_milliseconds
from crdtdb.cluster.engine.engine import Engine
from crdtdb.cluster.engine.lock_client import LockClient
from crdtdb.cluster.engine.reconciliation import Finding
from crdtdb.cluster.metrics import measured
from crdtdb.cluster_port import Metric
from crdtdb.errors import NotFoundError, UnavailableError
from crdtdb.gossip import Holder
from crdtdb.gossip.stability import len_of
from crdtdb.security.certificates import EXPIRY_WARNING_DAYS
from crdtdb.security.peer import PeerIdentity
from crdtdb.security.revocation import Access
from crdtdb.security.tls import Credentials
from crdtdb.store import Store

_WAITING_MAX = 10_000
_LARGE_WARNED = 5


class Checkpoints(Protocol):
    """What clients of CouchDB's protocol have still to read."""

    def young(self, name: str) -> Iterator[tuple[str, DotSet | None, float]]:
        """Yield the id, what was read, and the age in seconds of each checkpoint that holds something back.

        None was read of what a client has only written to.
        """
        ...


class ClusterStatus:
    """Reads the engine while it runs, and hands on what an administrator wants of the cluster."""

    def __init__(
        self,
        cluster: str,
        engine: Engine,
        store: Store,
        access: Access,
        credentials: Credentials,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.cluster = cluster
        self._engine, self._store, self._checkpoints = engine, store, checkpoints
        self._access, self._credentials = access, credentials
        self.also_measured: list[Callable[[], Iterable[Metric]]] = []
        """What else is asked for metrics: the parts that the engine doesn't know."""
        self.locks = LockClient(engine.locks)
        self.subscriptions = engine.showing.subscriptions
        forks.own(self)

    @property
    def name(self) -> str:
        """The name of this node."""
        return self._engine.membership.me.name

    @property
    def why_not_ready(self) -> str | None:
        """Why writes aren't taken yet, None if they are."""
        readiness = self._engine.readiness
        return None if readiness.ready else readiness.why_not

    @property
    def stopping(self) -> bool:
        """Whether the node is about to end."""
        return self._engine.stopping

    def all_speak(self, minor: int) -> bool:
        """Return whether no connected member speaks an older minor version of the protocol."""
        return all(link.minor >= minor for link in list(self._engine.links.ways.values()))

    def why_refused(self, certified: PeerIdentity) -> str | None:
        """Return why a certificate doesn't count (any more), None if it does."""
        return self._access.why_refused(certified)

    def revoke(self, serial: str, name: str, role: str, why: str, by: str) -> bool:
        """Revoke a certificate for good; return whether it wasn't yet. Raises InvalidInputError."""
        return self._access.revocations.revoke(serial, name, role, why, by, wall_milliseconds())

    def status(self) -> dict[str, Any]:
        """Return the members and the collections as this node sees them.

        `behind` counts the writes of others that a member has and this node lacks, `ahead` those that it lacks and this node
        has, as of the last word from it; null before the first.
        """
        engine, held = self._engine, self._store.root
        ways = engine.links.ways.keys()
        members = []
        for member in sorted(engine.membership.everyone()):
            me = member.name == engine.membership.me.name
            theirs = held.clock if me else engine.exchanges.peer_clocks.get(member.name)
            members.append(
                {
                    "name": member.name,
                    "address": member.address,
                    "status": member.status.name.lower(),
                    "me": me,
                    "connected": me or member.name in ways,
                    "actor": member.actor.hex(),
                    "behind": len_of(theirs - held.clock) if theirs is not None else None,
                    "ahead": len_of(held.clock - theirs) if theirs is not None else None,
                }
            )
        return {
            "cluster": self.cluster,
            "name": engine.membership.me.name,
            "ready": self.why_not_ready is None,
            "waiting_for": self.why_not_ready,
            "backend": self._store.kind,
            "certificates": {what: iso(int(until * 1000)) for what, until in self._credentials.expiries().items()},
            "warnings": self._warnings(),
            "large_documents": [
                {
                    "collection": one.name,
                    "id": one.doc_id,
                    "bytes": one.size,
                    "leaves": one.leaves,
                    "seconds": one.seconds,
                }
                for one in self._store.metrics.large_documents()
            ],
            "members": members,
            "collections": {
                name: {
                    "documents": one.documents,
                    "deleted": one.deleted,
                    "conflicts": one.conflicts,
                    "bytes": one.size,
                    "seq": one.seq,
                }
                for name, one in sorted(held.collections.items())
            },
            "exchanges": engine.exchanges.finished,
            "documents_received": engine.exchanges.received_documents,
            "sent": {
                kind: {"messages": counts[0], "bytes": counts[1]} for kind, counts in list(engine.outbox.sent.items())
            },
        }

    def _warnings(self) -> list[str]:
        """Return what an operator should see to: certificates that expire, here and of the peers, and large documents."""
        found = self._credentials.expiring()
        for link in self._engine.links.greeted_links():
            left = (link.certified.expires - wall_milliseconds() / 1000) / 86_400 if link.certified is not None else 365
            if link.address is not None and left < EXPIRY_WARNING_DAYS:
                found.append(f"the certificate of {link.peer} expires in {max(0, round(left))} days")
        return found + [str(one) for one in self._store.metrics.large_documents()[:_LARGE_WARNED]]

    def stability(self) -> dict[str, Any]:
        """Return how far the cut is, what waits, and who holds it back, the longest first."""
        engine, held = self._engine, self._store.root
        now = monotonic_seconds()
        unstable, unread = self._store.collector.waiting(_WAITING_MAX)
        return {
            "writes": len_of(held.clock),
            "stable": len_of(held.stable),
            "waiting": {"stability": unstable, "clients": unread},
            "collected": self._store.collector.collected,
            "held_back_by": [
                {
                    "name": one.name,
                    "writes": one.writes,
                    "seconds": max(0.0, now - one.since),
                    "why": self._why(one, engine.links.ways.keys()),
                }
                for one in engine.upkeep.stability.holders(held.clock)
            ],
            "clients": [
                {"collection": name, "checkpoint": doc_id, "seconds": age}
                for name in sorted(held.names)
                for doc_id, seen, age in self._checkpoints.young(name)
                if seen is None or not seen >= held.stable
            ]
            if self._checkpoints is not None
            else [],
        }

    def _why(self, one: Holder, connected: Collection[str]) -> str:
        if one.name not in connected:
            return "it isn't connected: `crdtdb retire` if it won't come back"
        return "it is behind" if one.heard else "it hasn't acknowledged anything yet"

    def retire(self, name: str, force: bool) -> None:
        """Take a member out for good. Raises NotFoundError, InvalidInputError."""
        self._engine.upkeep.retire(name, force, self._engine.links.peers())

    def audit(self, repair: bool, members: list[str] | None) -> list[dict[str, Any]]:
        """Compare with members, and wait for what was found. Raises NotFoundError for a name that isn't a member's."""
        me = self._engine.membership.me.name
        known = [name for name in self._engine.upkeep.roster.members() if name != me]
        for name in members or ():
            if name not in known:
                raise NotFoundError(f"there is no other member {name!r}: there are {', '.join(known) or 'none'}")
        wanted = members if members is not None else known
        found: Queue[Finding] = Queue()
        self._engine.audits.ask(wanted, repair, found.put)
        return [self._told(self._next(found), repair) for _ in wanted]

    def _next(self, found: Queue[Finding]) -> Finding:
        while True:
            try:
                return found.get(timeout=1)
            except Empty:
                if self.stopping:
                    raise UnavailableError("the node is stopping: ask another one") from None

    def _told(self, finding: Finding, repair: bool) -> dict[str, Any]:
        told = {field.name: getattr(finding, field.name) for field in fields(finding)}
        rest = set(finding.lost_here) - set(finding.mended)
        sent = repair or not finding.lost_there
        mended_all = not rest and sent and finding.failed is None and not finding.contradictory and not finding.rot_here
        return {**told, "clean": finding.clean and finding.failed is None, "mended_all": mended_all}

    def measured(self) -> list[Metric]:
        """Return what the node counts and measures."""
        expiries = [
            Metric(
                "certificate_expires_seconds", "When a certificate expires, in seconds since 1970.", at, {"of": what}
            )
            for what, at in self._credentials.expiries().items()
        ]
        also = [one for ask in self.also_measured for one in ask()]
        return [*measured(self._engine, self._store, monotonic_seconds()), *expiries, *also]

    def name_of(self, actor: str) -> str:
        """Return the name of the node that an actor belongs to; the actor itself if the roster doesn't know it."""
        for member in self._engine.membership.everyone():
            if member.actor.hex() == actor:
                return member.name
        return actor
