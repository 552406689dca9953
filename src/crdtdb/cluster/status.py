"""What a node says of its cluster, to operators and to the HTTP API."""

from __future__ import annotations

from typing import Any

from crdtdb.causality import DotSet
from crdtdb.cluster.engine import Engine
from crdtdb.store import Store


class ClusterStatus:
    """Reads the engine while it runs; changes nothing."""

    def __init__(self, cluster: str, engine: Engine, store: Store) -> None:
        self.cluster = cluster
        self._engine, self._store = engine, store

    @property
    def why_not_ready(self) -> str | None:
        """Why writes aren't taken yet, None if they are."""
        readiness = self._engine.readiness
        return None if readiness.ready else readiness.why_not

    @property
    def stopping(self) -> bool:
        """Whether the node is about to end."""
        return self._engine.stopping

    def status(self) -> dict[str, Any]:
        """Return the members and the collections as this node sees them.

        `behind` counts the writes of others that a member has and this node lacks, `ahead` those that it lacks and this node
        has, as of the last word from it; null before the first.
        """
        engine, held = self._engine, self._store.held
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
                    "behind": count_dots(theirs - held.clock) if theirs is not None else None,
                    "ahead": count_dots(held.clock - theirs) if theirs is not None else None,
                }
            )
        return {
            "cluster": self.cluster,
            "name": engine.membership.me.name,
            "ready": self.why_not_ready is None,
            "waiting_for": self.why_not_ready,
            "backend": self._store.kind,
            "members": members,
            "collections": {
                name: {"documents": one.documents, "deleted": one.deleted, "seq": one.seq}
                for name, one in sorted(held.collections.items())
            },
            "exchanges": engine.exchanges.finished,
            "documents_received": engine.exchanges.received_documents,
            "sent": {
                kind: {"messages": counts[0], "bytes": counts[1]} for kind, counts in list(engine.outbox.sent.items())
            },
        }

    def name_of(self, actor: str) -> str:
        """Return the name of the node that an actor belongs to; the actor itself if the roster doesn't know it."""
        for member in self._engine.membership.everyone():
            if member.actor.hex() == actor:
                return member.name
        return actor


def count_dots(dots: DotSet) -> int:
    """Return how many dots a set holds."""
    return sum(last - first + 1 for _, ranges in dots.items() for first, last in ranges)
