"""A JSON merge patch (RFC 7396) as a command: it is applied to the document as the transaction finds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from crdtdb.canonical_json import load
from crdtdb.database.commands.base import (
    NO_ATTACHMENTS,
    Attachments,
    as_published,
)
from crdtdb.database.commands.edits import Put
from crdtdb.database.validation import check_whole
from crdtdb.documents import (
    NO_BODY,
    DocumentView,
    Rev,
    State,
    view,
)
from crdtdb.documents.alternatives import find_alternative, value_with
from crdtdb.documents.fields import reading, whole
from crdtdb.errors import ConflictError, NotFoundError
from crdtdb.store import Transaction, Written


class MergePatch(Struct, frozen=True, gc=False):
    """Change some values of a document by a JSON merge patch (RFC 7396), on the revision `rev` or on the winner."""

    collection: str
    doc_id: str
    patch: Mapping[str, Any]
    rev: Rev | None = None
    exact: bool = False
    attachments: Attachments = NO_ATTACHMENTS

    def apply(self, transaction: Transaction) -> Written:
        """Write the patched body. Raises NotFoundError, ConflictError if `rev` isn't current, InvalidDocumentError."""
        state = transaction.load(self.collection, self.doc_id).state
        shown = view(state)
        if shown.deleted:
            raise NotFoundError(
                f"there is no document {self.doc_id!r} in {self.collection!r} to patch", deleted=bool(shown.leaves)
            )
        rev = shown.siblings[0].rev if self.rev is None else self.rev
        text, given = check_whole(merge_patch(self._value(transaction, state, shown, rev), self.patch))
        return Put(self.collection, self.doc_id, text, rev, given, exact=self.exact).apply(transaction)

    def _value(self, transaction: Transaction, state: State, shown: DocumentView, rev: Rev) -> Mapping[str, Any]:
        """Return the value of a revision: a sibling, a value that a field hides, or a leaf as it was published."""
        leaf, draft = shown.find(rev), None
        if state.fields:
            draft = reading(state.fields, state.journals, transaction.reader(self.collection, self.doc_id))
        if leaf is not None and not leaf.leaf.deleted:
            text = leaf.text or NO_BODY
            value: Mapping[str, Any] = load(text) if draft is None else whole(text, draft)
            return value
        text = shown.siblings[0].text or NO_BODY
        hidden = find_alternative(draft, text, rev) if draft is not None else None
        if hidden is not None and draft is not None:
            return value_with(hidden, draft, text)
        published = self.exact and as_published(state, rev) is not None
        read = transaction.read_then(self.collection, self.doc_id, rev) if published else None
        if read is None:
            raise ConflictError(self.doc_id, str(rev), tuple(str(sibling.rev) for sibling in shown.siblings))
        published_value: Mapping[str, Any] = load(read.value)
        return published_value


def merge_patch(value: Any, patch: Any) -> Any:
    """Return a value with a patch applied: objects are merged, null removes, everything else replaces. RFC 7396."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(value) if isinstance(value, Mapping) else {}
    for key, change in patch.items():
        if change is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), change)
    return merged
