"""Resolutions: a body replaces the siblings that its author has read, and no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from crdtdb.database.commands import Resolve, ResolveUnchanged
from crdtdb.database.document import Document, Seen, Sibling
from crdtdb.database.validation import check_rev, check_whole
from crdtdb.documents import NO_BODY, Rev, Sight, State, view
from crdtdb.documents.alternatives import alternatives
from crdtdb.documents.fields import reading
from crdtdb.errors import InvalidInputError

Choice = Callable[[list[Sibling]], Mapping[str, Any] | None]
"""Makes one body of the siblings; None leaves them as they are."""


def resolution(collection: str, doc_id: str, body: Mapping[str, Any], rev: str | None, seen: Seen | None) -> Resolve:
    """Return the command that replaces what was seen by a body. Raises InvalidInputError, InvalidDocumentError."""
    if rev is not None and seen is not None:
        raise InvalidInputError(
            f"document {doc_id!r}: give `rev`, for one sibling, or `seen`, for several, and not both"
        )
    if rev is None and seen is None and isinstance(body, Document) and body.id == doc_id:
        seen = body
    (text, given), named = check_whole(body), check_rev(rev)
    return Resolve(collection, doc_id, text, given, named, check_seen(doc_id, seen) if seen is not None else None)


def resolution_of_all(
    collection: str, doc_id: str, body: Mapping[str, Any], siblings: list[Rev], listed: Callable[[State], list[Rev]]
) -> ResolveUnchanged:
    """Return the command that replaces all siblings by a body, and writes nothing if `listed` returns others by then."""
    return ResolveUnchanged(collection, doc_id, *check_whole(body), siblings, listed)


def bodies_listed(state: State) -> list[Rev]:
    """Return the revisions of the siblings that have bodies of their own."""
    return [sibling.rev for sibling in view(state).siblings]


def all_listed(state: State) -> list[Rev]:
    """Return the revisions of all siblings, including those of the values that fields hide."""
    shown = view(state)
    if shown.deleted or not state.fields:
        return bodies_listed(state)
    bodies = [sibling.text or NO_BODY for sibling in shown.siblings]
    hidden = alternatives(reading(state.fields, state.journals), bodies[0], bodies)
    return [*bodies_listed(state), *(alternative.rev for alternative in hidden)]


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
