"""Commands that replace siblings by one body."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from msgspec import Struct

from crdtdb.canonical_json import load
from crdtdb.database.commands.base import (
    NO_ATTACHMENTS,
    Attachments,
    as_published,
    attached,
)
from crdtdb.documents import (
    NOTHING_GIVEN,
    Given,
    Rev,
    Sight,
    State,
    Write,
    resolve,
    view,
)
from crdtdb.documents.attachments import attachments_in, with_attachments
from crdtdb.store import Transaction, Written


class Resolve(Struct, frozen=True, gc=False):
    """Replace siblings by one body: the one that `rev` names, those that were `seen`, or all that are there.

    `seen` may be revisions alone: then their values are read from the history, for comparing the fields with them.
    """

    collection: str
    doc_id: str
    text: bytes
    given: Given = NOTHING_GIVEN
    rev: Rev | None = None
    seen: Sight | tuple[Rev, ...] | None = None
    attachments: Attachments = NO_ATTACHMENTS
    exact: bool = False

    def apply(self, transaction: Transaction) -> Written:
        """Write the body. Raises NotFoundError if there is no live document, ConflictError if none of the seen is there."""
        return transaction.write(self.collection, self.doc_id, partial(self._change, transaction))

    def _change(self, transaction: Transaction, state: State, write: Write) -> State:
        text = self.text
        if self.attachments:
            siblings = view(state).siblings
            generation = siblings[0].leaf.rev.generation + 1 if siblings else 1
            brought = attached(transaction, self.attachments)
            text = with_attachments(text, brought, [attachments_in(one.text) for one in siblings], generation)
        if isinstance(self.seen, Sight):
            return resolve(state, write, text, self.given, rev=self.rev, seen=self.seen)
        if self.seen is not None:
            return resolve(state, write, text, self.given, seen=self._sight(transaction, self.seen))
        if self.rev is not None and self.exact and as_published(state, self.rev) is not None:
            return resolve(state, write, text, self.given, seen=self._sight(transaction, (self.rev,)))
        return resolve(state, write, text, self.given, rev=self.rev)

    def _sight(self, transaction: Transaction, revs: Collection[Rev]) -> Sight:
        """Return what the author of a resolution has read: revisions, and the value of the first that is known."""

        def read() -> Mapping[str, Any] | None:
            values = (transaction.read_then(self.collection, self.doc_id, rev) for rev in revs)
            return next((load(value.value) for value in values if value is not None), None)

        return Sight(revs, read)


class ResolveUnchanged(Struct, frozen=True, gc=False):
    """Replace all siblings by one body, if `listed` still returns the revisions that the body was made of."""

    collection: str
    doc_id: str
    text: bytes
    given: Given
    siblings: list[Rev]
    listed: Callable[[State], list[Rev]]
    attachments: Attachments = NO_ATTACHMENTS

    def apply(self, transaction: Transaction) -> Written:
        """Write the body, or nothing if the siblings are others by now."""

        def change(state: State, write: Write) -> State:
            if self.listed(state) != self.siblings:
                return state
            return resolve(state, write, self.text, self.given, seen=Sight(self.siblings))

        return transaction.write(self.collection, self.doc_id, change)
