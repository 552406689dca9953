"""Revisions by their names: each with the value that its author left, or none where that isn't known any more.

What shows now may be more than any author wrote: edits of fields merge into every sibling. That has a name of its own, see
`Shown.rev`. The name of a write goes on to mean what was written: the store keeps the value of a leaf when it begins to show
something else, and when it is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crdtdb.canonical_json import canonical_merged
from crdtdb.crdts import Draft, OpenSequence, open_at_hand
from crdtdb.database.document import (
    Document,
    Revision,
    Sibling,
    alternative_named,
    alternatives_of,
    document_of,
    document_with,
    siblings_of,
)
from crdtdb.documents import DocumentView, Rev, VisibleLeaf, view
from crdtdb.documents.fields import reading, whole
from crdtdb.documents.stamps import milliseconds
from crdtdb.errors import NotFoundError
from crdtdb.store import Past, Record, Store


def siblings_one_by_one(store: Store, name: str, doc_id: str) -> Iterator[Sibling]:
    """Yield all bodies that a document has, and then what is kept beside its fields, each read at its turn.

    Together they may be larger than memory. Raises NotFoundError at the first step if there are none.
    """
    record = store.read(name, doc_id)
    shown = view(record.state) if record is not None else None
    if shown is None or shown.deleted:
        raise NotFoundError(f"there is no document {doc_id!r} in {name!r}", deleted=record is not None)
    assert record is not None
    opener = _opener(store, name, doc_id, record)
    yield from siblings_of(record.state, shown, opener)
    yield from alternatives_of(record.state, shown, opener)


def revisions_one_by_one(store: Store, name: str, doc_id: str) -> Iterator[Revision]:
    """Yield every revision of a document that is known, the newest first: what shows, what was written, names of ancestors.

    Each is read at its turn: together they may be larger than memory. What is collected meanwhile is left out.
    Raises NotFoundError at the first step if there was never such a document.
    """
    record = store.read(name, doc_id)
    if record is None:
        raise NotFoundError(f"there is no document {doc_id!r} in {name!r}")
    shown = view(record.state)
    draft = reading(record.state.fields, record.state.journals, _opener(store, name, doc_id, record))
    shows: dict[Rev, VisibleLeaf] = {}
    for one in (*shown.siblings, *shown.leaves):
        shows.setdefault(one.rev, one)
    own = {one.leaf.rev: one for one in shown.leaves}
    replaced = {past.rev for past in store.past(name, doc_id)}
    for rev in sorted(shows.keys() | own.keys() | replaced, reverse=True):
        past = store.revision(name, doc_id, rev) if rev in replaced else None
        was = _as_it_was(past, store.value_of(name, doc_id, past)) if past is not None else None
        if rev in shows:
            told = _as_it_shows(shows[rev], draft)
            if was is not None and told.body is None and not told.deleted:  # a branch whose body was replaced
                told = told._replace(body=was.body)
            yield told
        elif was is not None:
            yield was
        elif rev in own:
            yield _described(rev, own[rev], leaf=False, body=None)


def _opener(store: Store, name: str, doc_id: str, record: Record) -> OpenSequence:
    return store.opener(name, doc_id) if record.state.journals else open_at_hand


def revision(
    store: Store,
    name: str,
    doc_id: str,
    record: Record,
    shown: DocumentView,
    rev: Rev,
    opener: OpenSequence,
    *,
    conflicts: bool,
    crdt: bool,
) -> Document:
    """Return one revision of a document. Raises NotFoundError if its value isn't known; `conflicts`, `crdt` as in `get`."""
    found = shown.find(rev)
    own = shown.leaf(rev)
    if found is None and own is not None and own.leaf.deleted:
        found = own
    if found is not None and (found.text is not None or found.leaf.deleted):
        return document_of(doc_id, record.state, shown, found, opener, with_conflicts=conflicts, with_fields=crdt)
    other = alternative_named(record.state, shown, rev, opener)
    if other is not None:
        return document_with(doc_id, record.state, shown, other, opener)
    past = store.revision(name, doc_id, rev)
    value = store.value_of(name, doc_id, past) if past is not None else None
    if past is not None and (value is not None or past.deleted):
        return Document(doc_id, str(rev), canonical_merged(value or {}), (), past.deleted, record.state)
    if own is not None and own.rev != rev:
        why = f"isn't held here: with edits of fields that its author hadn't seen it shows as {own.rev}"
    else:
        why = "isn't held here" if past is not None or own is not None else "isn't known"
    raise NotFoundError(f"document {doc_id!r} in {name!r}: the value of revision {rev} {why}")


def _as_it_shows(shown: VisibleLeaf, draft: Draft) -> Revision:
    readable = shown.text is not None and not shown.leaf.deleted
    return _described(shown.rev, shown, leaf=True, body=whole(shown.text or b"{}", draft) if readable else None)


def _described(rev: Rev, shown: VisibleLeaf, *, leaf: bool, body: dict[str, Any] | None) -> Revision:
    parent = shown.leaf.path.parent
    above = str(Rev(rev.generation - 1, parent.digest)) if parent is not None else None
    return Revision(str(rev), above, shown.leaf.deleted, leaf, milliseconds(shown.leaf.stamp), body)


def _as_it_was(past: Past, body: dict[str, Any] | None) -> Revision:
    above = str(Rev(past.rev.generation - 1, past.parent.digest)) if past.parent is not None else None
    return Revision(str(past.rev), above, past.deleted, False, milliseconds(past.stamp), body)
