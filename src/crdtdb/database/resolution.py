"""Resolving: a body takes the place of the siblings that its author saw, and of no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from crdtdb.database.document import Document, Seen, Sibling
from crdtdb.database.validation import check_rev, check_whole
from crdtdb.documents import NO_BODY, Rev, Sight, State, Write, resolve, view
from crdtdb.documents.alternatives import alternatives
from crdtdb.documents.fields import reading
from crdtdb.errors import InvalidInputError

Choice = Callable[[list[Sibling]], Mapping[str, Any] | None]
"""Makes one body of the siblings; None leaves them."""

Change = Callable[[State, Write], State]


def resolution(doc_id: str, body: Mapping[str, Any], rev: str | None, seen: Seen | None) -> Change:
    """Return the write that puts a body in the place of what was seen. Raises InvalidInputError and what bad input raises."""
    if rev is not None and seen is not None:
        raise InvalidInputError(
            f"document {doc_id!r}: give `rev`, for one sibling, or `seen`, for several, and not both"
        )
    if rev is None and seen is None and isinstance(body, Document) and body.id == doc_id:
        seen = body
    (text, given), named = check_whole(body), check_rev(rev)
    sight = check_seen(doc_id, seen) if seen is not None else None
    return lambda state, write: resolve(state, write, text, given, rev=named, seen=sight)


def resolution_of_all(body: Mapping[str, Any], siblings: list[Rev], listed: Callable[[State], list[Rev]]) -> Change:
    """Return the write that puts a body in the place of all siblings, and does nothing if others are `listed` by then."""
    text, given = check_whole(body)

    def unless_changed(state: State, write: Write) -> State:
        if listed(state) != siblings:
            return state
        return resolve(state, write, text, given, seen=Sight(siblings))

    return unless_changed


def bodies_listed(state: State) -> list[Rev]:
    """Return the names of the siblings that have bodies of their own."""
    return [one.rev for one in view(state).siblings]


def all_listed(state: State) -> list[Rev]:
    """Return the names of all siblings, those for what is kept beside fields included."""
    shown = view(state)
    if shown.deleted or not state.fields:
        return bodies_listed(state)
    draft, bodies = reading(state.fields, state.journals), [one.text or NO_BODY for one in shown.siblings]
    return [*bodies_listed(state), *(one.rev for one in alternatives(draft, bodies[0], bodies))]


def check_seen(doc_id: str, seen: Seen) -> Sight:
    """Return what the author of a resolution has read. Raises InvalidInputError, InvalidRevError."""
    items = [seen] if isinstance(seen, Document | Sibling | str) else list(seen)
    revs: list[str] = []
    for item in items:
        if isinstance(item, Document) and item.id != doc_id:
            raise InvalidInputError(f"document {doc_id!r} is to be resolved, and what was seen is document {item.id!r}")
        if isinstance(item, Document):
            revs += (item.rev, *item.conflicts)
        else:
            revs.append(item.rev if isinstance(item, Sibling) else item)
    if not revs:
        raise InvalidInputError(f"document {doc_id!r}: `seen` names no revision, so there is nothing to replace")
    read = next((item for item in items if not isinstance(item, str)), None)
    return Sight(tuple(Rev.parse(rev) for rev in dict.fromkeys(revs)), lambda: read.body if read is not None else None)
