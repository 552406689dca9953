"""Revisions by their names: each with the value that its author left, or none where that isn't known any more.

What shows now may be more than any author wrote: edits of fields merge into every sibling. That has a name of its own, see
`Shown.rev`. The name of a write goes on to mean what was written: the store keeps the value of a leaf when it begins to show
something else, and when it is replaced.
"""

from __future__ import annotations

from typing import Any

from crdtdb.crdts import Draft, OpenSequence
from crdtdb.document import Document, Revision, alternative_named, document_of, document_with
from crdtdb.documents import Rev, Shown, View, view
from crdtdb.documents.fields import reading, whole
from crdtdb.documents.stamps import milliseconds
from crdtdb.errors import NotFoundError
from crdtdb.jsontext import canonical_merged
from crdtdb.store import Past, Record, Store


def all_revisions(store: Store, name: str, doc_id: str, record: Record, opener: OpenSequence) -> list[Revision]:
    """Return every revision of a document that is known: what shows, what was written, and the names of ancestors."""
    state = record.state
    shown = view(state)
    draft = reading(state.fields, state.journals, opener)
    found: dict[Rev, Revision] = {}
    for one in (*shown.siblings, *shown.leaves):
        found.setdefault(one.rev, _as_it_shows(one, draft))
    for past in store.past(name, doc_id):
        was = _as_it_was(past, store.value_of(name, doc_id, past))
        shows = found.setdefault(past.rev, was)
        if shows.body is None and not shows.deleted:  # a branch whose body was replaced
            found[past.rev] = shows._replace(body=was.body)
    for one in shown.leaves:
        found.setdefault(one.leaf.rev, _described(one.leaf.rev, one, leaf=False, body=None))
    return [found[rev] for rev in sorted(found, reverse=True)]


def revision(
    store: Store,
    name: str,
    doc_id: str,
    record: Record,
    shown: View,
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


def _as_it_shows(shown: Shown, draft: Draft) -> Revision:
    readable = shown.text is not None and not shown.leaf.deleted
    return _described(shown.rev, shown, leaf=True, body=whole(shown.text or b"{}", draft) if readable else None)


def _described(rev: Rev, shown: Shown, *, leaf: bool, body: dict[str, Any] | None) -> Revision:
    parent = shown.leaf.path.parent
    above = str(Rev(rev.generation - 1, parent.digest)) if parent is not None else None
    return Revision(str(rev), above, shown.leaf.deleted, leaf, milliseconds(shown.leaf.stamp), body)


def _as_it_was(past: Past, body: dict[str, Any] | None) -> Revision:
    above = str(Rev(past.rev.generation - 1, past.parent.digest)) if past.parent is not None else None
    return Revision(str(past.rev), above, past.deleted, False, milliseconds(past.stamp), body)
