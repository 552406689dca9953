"""What clients of CouchDB's protocol still have to hear: a tombstone stays until each of them has read past it.

A client that replicates keeps a checkpoint in `_local/`, with the seq up to which it has read. While that record is young the
client may come back, and must find the deletion of what it holds, or it would go on with a document that is gone everywhere
else. One that replicates *to* a collection keeps a checkpoint there, too, with a seq of its own side: it holds what it
has sent, and may begin to read any day. So a collection with a young checkpoint of either kind keeps its tombstones for as
long as a checkpoint counts. Rule 9 of docs/explanation/replication.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from crdtdb.causality import Dot, DotSet
from crdtdb.clock import WallClock, wall_milliseconds
from crdtdb.couchdb.errors import CouchError
from crdtdb.couchdb.update_seq import decode_seq
from crdtdb.documents.local import LOCAL, locals_in
from crdtdb.documents.stamps import milliseconds
from crdtdb.limits import STAMP_AHEAD_MILLISECONDS_MAX
from crdtdb.store import ClientsRead, Store

_REMEMBERED_MILLISECONDS = 10_000


class Checkpoints:
    """The checkpoints of a store's collections."""

    def __init__(self, store: Store, ttl_seconds: float, wall: WallClock = wall_milliseconds) -> None:
        """A checkpoint that hasn't changed for `ttl_seconds` holds nothing back any more."""
        self._store, self._ttl, self._wall = store, ttl_seconds * 1000, wall
        self._known: dict[str, tuple[DotSet, int, ClientsRead | None]] = {}

    def told(self, name: str) -> ClientsRead | None:
        """Return what the clients with young checkpoints have read of a collection, None if there is no such client."""
        clock, now = self._store.root.clock, self._wall()
        known = self._known.get(name)
        if known is not None and known[0] is clock and now - known[1] < _REMEMBERED_MILLISECONDS:
            return known[2]
        read: ClientsRead | None = None
        for _, seen, _ in self.young(name):
            before = read.clock if read is not None else None
            both = before & seen if before is not None and seen is not None else before if seen is None else seen
            read = ClientsRead(both, int(self._ttl))
        self._known[name] = (clock, now, read)
        return read

    def young(self, name: str) -> Iterator[tuple[str, DotSet | None, float]]:
        """Yield the id, what was read, and the age in seconds of each checkpoint that holds something back.

        None was read of what a client has only written to.
        """
        held = self._store.root
        if name not in held.collections:
            return
        for doc_id, record in self._store.live_view().documents(name, LOCAL, LOCAL[:-1] + "0", local=True):
            age = self._wall() - max((milliseconds(leaf.stamp) for leaf in record.state.leaves.values()), default=0)
            if age > self._ttl or age < -STAMP_AHEAD_MILLISECONDS_MAX:
                continue
            for one in locals_in(record.state):
                value = one.value or {}
                said = value.get("last_seq", value.get("source_last_seq"))
                if said is not None:
                    yield doc_id, _read_in(said, held.names[name]), age / 1000


def _read_in(said: Any, creations: Collection[Dot]) -> DotSet | None:
    """Return what a checkpoint's seq says was read of a collection, None for a seq of the other side."""
    try:
        seq = decode_seq(str(said))
    except CouchError:
        return None
    return seq.clock if seq.mark and seq.creation in creations else None
