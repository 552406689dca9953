"""What nodes say of themselves in the system collections, for people and programs to read.

`system.collections` says of each collection what all nodes hold when they hold the same. The first of the members that see each
other writes it, and only when something has changed, so a cluster at rest writes nothing. `system.notifys` says who follows
changes where. Each node says its own, and the first takes away what others said who are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from threading import Lock
from typing import Any

from crdtdb.cluster.engine.links import Links
from crdtdb.database.system_collection import Check, SystemCollection
from crdtdb.documents.schema import as_tree
from crdtdb.errors import InvalidDocumentError
from crdtdb.store import SYSTEM, Store

COLLECTIONS = "system.collections"
NOTIFYS = "system.notifys"
_GONE_SECONDS = 30.0
_OWN_SECONDS = 1.0


def check_shown(doc_id: str, body: dict[str, Any]) -> None:  # noqa: ARG001
    """Raise InvalidDocumentError unless a document says which node shows it."""
    if type(body["node"]) is not str:
        raise InvalidDocumentError("`node` is the name of a node")


class SystemDocument:
    """One system collection in which each node says its own, under `node`."""

    def __init__(self, store: Store, name: str, me: str, links: Links, check: Check = check_shown) -> None:
        self._kept, self._me, self._links = SystemCollection(store, name, check), me, links
        self._gone: dict[str, float] = {}

    def bodies(self) -> dict[str, dict[str, Any]]:
        """Return the documents of all nodes."""
        return dict(self._kept.bodies())

    def show(
        self,
        mine: Mapping[str, dict[str, Any]],
        now: float,
        is_over: Callable[[str, dict[str, Any]], bool] | None = None,
    ) -> None:
        """Say what is this node's, and no more what was; take away what is over of nodes that are gone.

        What those said is over after half a minute, or when `is_over` says so.
        """
        said = self.bodies()
        peers = {self._me, *self._links.peers()}
        self._gone = {
            one["node"]: self._gone.get(one["node"], now) for one in said.values() if one["node"] not in peers
        }
        for doc_id, body in mine.items():
            if said.get(doc_id) != {"node": self._me, **body}:
                self._kept.say(doc_id, {"node": self._me, **body})
        for doc_id, body in said.items():
            if doc_id in mine:
                continue
            node = body["node"]
            if node == self._me:
                self._kept.delete(doc_id)
            elif node in self._gone and self._me == min(peers):
                over = is_over(doc_id, body) if is_over is not None else now - self._gone[node] > _GONE_SECONDS
                if over:
                    self._kept.delete(doc_id)


class Subscriptions:
    """Who follows changes through this node. Safe for threads."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._all: dict[str, dict[str, Any]] = {}
        self._numbers = count(1)
        self._lock = Lock()

    def add(self, who: str, patterns: list[dict[str, Any]], by: str) -> str:
        """Take note of a subscriber, `by` which kind of connection; return what it is taken out by."""
        with self._lock:
            name = f"{self._me}.{next(self._numbers)}"
            self._all[name] = {"for": who, "patterns": patterns, "by": by}
        return name

    def remove(self, name: str) -> None:
        """Take a subscriber out."""
        with self._lock:
            self._all.pop(name, None)

    def all(self) -> dict[str, dict[str, Any]]:
        """Return every subscriber."""
        with self._lock:
            return dict(self._all)


class StatusPublisher:
    """What a node shows of itself and of its collections."""

    def __init__(self, store: Store, me: str, links: Links, interval: float, now: float) -> None:
        """`interval` is how often the collections are looked at, in seconds."""
        self._store, self._me, self._links, self._interval = store, me, links, interval
        self.subscriptions = Subscriptions(me)
        self._notifys = SystemDocument(store, NOTIFYS, me, links)
        self._collections = SystemCollection(store, COLLECTIONS)
        self._next_own, self._next_all = now, now + interval

    def tick(self, now: float) -> None:
        """Say what has changed."""
        if now >= self._next_own:
            self._next_own = now + _OWN_SECONDS
            self._show_subscriptions(self.subscriptions.all(), now)
        if now >= self._next_all:
            self._next_all = now + self._interval
            if self._is_first():
                self._show_collections()

    @property
    def current(self) -> bool:
        """Whether this node has nothing new to say of the collections."""
        return not self._is_first() or dict(self._collections.bodies()) == self._all()

    def stop(self, now: float) -> None:
        """Take back what ends with this node."""
        self._show_subscriptions({}, now)

    def _show_subscriptions(self, mine: Mapping[str, dict[str, Any]], now: float) -> None:
        if mine or NOTIFYS in self._store.root.names:
            self._notifys.show(mine, now)

    def _show_collections(self) -> None:
        now, said = self._all(), dict(self._collections.bodies())
        for name, body in now.items():
            if said.get(name) != body:
                self._collections.say(name, body)
        for name in sorted(said.keys() - now.keys()):
            self._collections.delete(name)

    def _is_first(self) -> bool:
        return self._me == min((self._me, *self._links.peers()))

    def _all(self) -> dict[str, dict[str, Any]]:
        return {name: self._described(name) for name in sorted(self._store.root.names) if not name.startswith(SYSTEM)}

    def _described(self, name: str) -> dict[str, Any]:
        counts = self._store.root.collections[name]
        return {
            "documents": counts.documents,
            "deleted": counts.deleted,
            "conflicts": counts.conflicts,
            "bytes": counts.size,
            "schema": as_tree(self._store.schema(name)),
        }
