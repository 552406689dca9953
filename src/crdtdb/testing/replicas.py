"""A replica without a store: the pure core alone, for laws and stories.

ada, bob = Replica("ada"), Replica("bob")
ada.put("a", {"title": "x"})
bob.hear(ada)
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from itertools import count

from crdtdb.causality import ACTOR_BYTES, Dot
from crdtdb.documents import NOTHING, Creations, Rev, State, View, Write, delete, edit, merge, put, resolve, view
from crdtdb.documents.json import canonical, load

CREATION: Creations = frozenset({Dot(b"\0" * ACTOR_BYTES, 1)})


class Replica:
    """One node's documents, and its counter for all of them."""

    def __init__(self, name: str) -> None:
        """Draw an actor that follows from the name, so that every run is the same."""
        self.name = name
        self.actor = blake2b(name.encode(), digest_size=ACTOR_BYTES).digest()
        self.counter = 0
        self.states: dict[str, State] = {}
        self._ticks = count(1)

    def state(self, doc_id: str = "a") -> State:
        """Return what this replica knows of a document."""
        return self.states.get(doc_id, NOTHING)

    def view(self, doc_id: str = "a") -> View:
        """Return what a document shows here."""
        return view(self.state(doc_id))

    def put(self, doc_id: str, body: object, rev: Rev | None = None) -> Rev:
        """Put on the winner, or on the leaf `rev`."""
        named = rev or self._winner(doc_id)
        return self._write(doc_id, lambda state, write: put(state, write, named, canonical(body)))

    def delete(self, doc_id: str, rev: Rev | None = None) -> Rev:
        """Delete the winner, or the leaf `rev`."""
        named = rev or self._winner(doc_id)
        return self._write(doc_id, lambda state, write: delete(state, write, named))

    def resolve(self, doc_id: str, body: object) -> Rev:
        """Replace all siblings."""
        return self._write(doc_id, lambda state, write: resolve(state, write, canonical(body)))

    def increment(self, doc_id: str, field: str, by: int, rev: Rev | None = None) -> Rev:
        """Edit a field that counts: the smallest CRDT, one number a delta."""
        named = rev or self._winner(doc_id)
        assert named is not None, f"{doc_id} has no leaf to edit"
        return self._write(doc_id, lambda state, write: edit(state, write, named, {field: b"%d" % by}))

    def count(self, doc_id: str, field: str) -> int:
        """Return the value of such a field."""
        return sum(int(delta.content) for delta in self.state(doc_id).fields.get(field, {}).values())

    def hear(self, other: Replica, doc_id: str | None = None) -> None:
        """Merge what another replica knows of one document, or of all."""
        for one in [doc_id] if doc_id is not None else list(other.states):
            self.states[one] = merge(self.state(one), other.state(one))

    def bodies(self, doc_id: str = "a") -> list[object]:
        """Return the body of each sibling, the winner's first."""
        return [load(shown.text or b"{}") for shown in self.view(doc_id).siblings]

    def _winner(self, doc_id: str) -> Rev | None:
        shown = self.view(doc_id)
        return shown.winner.rev if shown.winner is not None else None

    def _write(self, doc_id: str, change: Callable[[State, Write], State]) -> Rev:
        write = Write(doc_id, self.actor, self.counter, next(self._ticks), CREATION)
        before = self.state(doc_id)
        after = change(before, write)
        first = Dot(self.actor, self.counter + 1)
        self.states[doc_id], self.counter = after, write.counter
        return after.leaves[first].rev
