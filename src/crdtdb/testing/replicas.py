"""Replica of the pure core without a store, for laws and scenarios.

ada, bob = Replica("ada"), Replica("bob")
ada.put("a", {"title": "x"})
bob.hear(ada)
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from hashlib import blake2b
from itertools import count

from crdtdb.canonical_json import canonical, load
from crdtdb.causality import ACTOR_BYTES, Dot
from crdtdb.crdts import Creations, Draft, Field, catalogue
from crdtdb.documents import (
    NO_SCHEMA,
    NOTHING,
    DocumentView,
    Rev,
    Schema,
    Sight,
    State,
    Write,
    delete,
    edit,
    merge,
    put,
    resolve,
    view,
)
from crdtdb.documents.fields import reading, whole
from crdtdb.documents.given import take_given

CREATION: Creations = frozenset({Dot(b"\0" * ACTOR_BYTES, 1)})


class Replica:
    """One node's documents, and its counter for all of them."""

    def __init__(self, name: str, schema: Schema = NO_SCHEMA) -> None:
        """Draw an actor that follows from the name, so that every run is the same."""
        self.name, self.schema = name, schema
        self.actor = blake2b(name.encode(), digest_size=ACTOR_BYTES).digest()
        self.counter = 0
        self.states: dict[str, State] = {}
        self._ticks = count(1)

    def state(self, doc_id: str = "a") -> State:
        """Return what this replica knows of a document."""
        return self.states.get(doc_id, NOTHING)

    def view(self, doc_id: str = "a") -> DocumentView:
        """Return what a document shows here."""
        return view(self.state(doc_id))

    def put(self, doc_id: str, body: object, rev: Rev | None = None) -> Rev:
        """Put on the winner, or on the leaf `rev`."""
        named = rev or self._winner(doc_id)
        plain, given = take_given(body)  # type: ignore[arg-type]
        return self._write(doc_id, lambda state, write: put(state, write, named, canonical(plain), given))

    def delete(self, doc_id: str, rev: Rev | None = None) -> Rev:
        """Delete the winner, or the leaf `rev`."""
        named = rev or self._winner(doc_id)
        return self._write(doc_id, lambda state, write: delete(state, write, named))

    def resolve(self, doc_id: str, body: object, *, rev: Rev | None = None, seen: Collection[Rev] | None = None) -> Rev:
        """Replace the siblings that were seen, the sibling `rev` alone, or all of them."""
        plain, given = take_given(body)  # type: ignore[arg-type]
        sight = Sight(seen) if seen is not None else None
        return self._write(
            doc_id, lambda state, write: resolve(state, write, canonical(plain), given, rev=rev, seen=sight)
        )

    def edit(self, doc_id: str, change: Callable[[Draft], None], rev: Rev | None = None) -> Rev:
        """Edit the fields of the winner, or of the leaf `rev`."""
        return self._write(doc_id, lambda state, write: edit(state, write, lambda draft, _: change(draft), rev))

    def apply(self, doc_id: str, path: str, operation: str, **arguments: object) -> Rev:
        """Apply one operation to the field at a path, its keys between dots."""
        return self.edit(doc_id, lambda draft: catalogue.apply(draft.at(_path(path)), operation, arguments))

    def make(self, doc_id: str, path: str, field: Field) -> Rev:
        """Make a field, or bring it to a value."""
        return self.edit(doc_id, lambda draft: catalogue.put(draft.at(_path(path)), field))

    def increment(self, doc_id: str, field: str, by: int, rev: Rev | None = None) -> Rev:
        """Increment a counter, which is made if need be."""

        def change(draft: Draft) -> None:
            catalogue.apply(draft.at(_path(field)), "increment", {"by": by}, kind="counter")

        return self.edit(doc_id, change, rev or self._winner(doc_id))

    def field(self, doc_id: str, path: str) -> object:
        """Return what the field at a path shows, None if there is none."""
        spot = reading(self.state(doc_id).fields, self.state(doc_id).journals).at(_path(path))
        return catalogue.value(spot) if catalogue.shown_kind(spot) else None

    def count(self, doc_id: str, field: str) -> int:
        """Return what a counter shows, 0 if there is none."""
        found = self.field(doc_id, field)
        return found if isinstance(found, int) else 0

    def values(self, doc_id: str = "a") -> list[object]:
        """Return each sibling with what the fields show, the winner first."""
        state = self.state(doc_id)
        return [
            whole(sibling.text or b"{}", reading(state.fields, state.journals))
            for sibling in self.view(doc_id).siblings
        ]

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
        write = Write(doc_id, self.actor, self.counter, next(self._ticks), CREATION, schema=self.schema)
        before = self.state(doc_id)
        after = change(before, write)
        self.states[doc_id], self.counter = after, write.counter
        assert write.dot is not None
        return next(visible.rev for visible in view(after).leaves if visible.leaf.rev == after.leaves[write.dot].rev)


def _path(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))
