"""Commands that write one leaf: put, delete, edit, attach, purge."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from crdtdb.canonical_json import canonical_of
from crdtdb.crdts import Draft
from crdtdb.database.commands.base import (
    NO_ATTACHMENTS,
    Attachments,
    Data,
    Uploaded,
    as_published,
    new,
    with_new,
)
from crdtdb.database.commands.imports import ImportRevision, without_parent
from crdtdb.documents import (
    NO_BODY,
    NOTHING_GIVEN,
    Given,
    Rev,
    State,
    VisibleLeaf,
    Write,
    child_digest,
    delete,
    edit,
    put,
    view,
)
from crdtdb.documents import Put as PutChange
from crdtdb.documents.attachment_edits import attach_to
from crdtdb.documents.attachments import Stub
from crdtdb.documents.external_revisions import ExternalRevision
from crdtdb.documents.fields import Plain
from crdtdb.documents.purging import purge
from crdtdb.errors import ConflictError, NotFoundError
from crdtdb.limits import REVS_LIMIT
from crdtdb.store import Transaction, Written


class Put(Struct, frozen=True, gc=False):
    """Replace a document by a body, or create it. `given` are the values of field types that stood in the body."""

    collection: str
    doc_id: str
    text: bytes
    rev: Rev | None = None
    given: Given = NOTHING_GIVEN
    attachments: Attachments = NO_ATTACHMENTS
    ancestors: tuple[str, ...] = ()
    exact: bool = False

    def apply(self, transaction: Transaction) -> Written:
        """Write the body. Raises ConflictError if `rev` isn't a leaf, or is None and there is a live document."""
        change: Callable[[State, Write], State]
        if self.attachments or (self.exact and self.rev is not None):
            change = partial(self._change, transaction)
        else:
            change = PutChange(self.rev, self.text, self.given, self.exact)
        try:
            return transaction.write(self.collection, self.doc_id, change)
        except ConflictError:
            if not self.exact:
                raise
            state = transaction.load(self.collection, self.doc_id).state
            leaf = as_published(state, self.rev)
            if leaf is not None:
                return self._on_published(leaf).apply(transaction)
            if self.rev is None or state.leaves:
                raise
            return without_parent(self, deleted=False).apply(transaction)

    def _change(self, transaction: Transaction, state: State, write: Write) -> State:
        if self.exact:
            _check_live(self, state)
        text = with_new(transaction, self, self.text, state)
        return put(state, write, self.rev, text, self.given, exact=self.exact)

    def _on_published(self, leaf: VisibleLeaf) -> ImportRevision:
        """Return the write on a leaf that is named as it was published, though fields have been edited since.

        Its author has read what the leaf was then. So it is a child made elsewhere: its fields are compared with those.
        """
        parent = leaf.leaf.rev
        digest = child_digest(parent, deleted=False, body=canonical_of(self.text))
        steps = tuple(step.digest for step in leaf.leaf.path.all()[: REVS_LIMIT - 1])
        child = ExternalRevision(Rev(parent.next_generation, digest), (parent.digest, *steps), self.text, False)
        brought = {
            name: attachment if isinstance(attachment, Stub) else attachment._replace(revpos=child.rev.generation)
            for name, attachment in self.attachments.items()
        }
        return ImportRevision(self.collection, self.doc_id, child, brought)


class PutIfAbsent(Struct, frozen=True, gc=False):
    """Create a document unless there is a live one."""

    collection: str
    doc_id: str
    text: bytes
    given: Given = NOTHING_GIVEN
    attachments: Attachments = NO_ATTACHMENTS

    def apply(self, transaction: Transaction) -> Written:
        """Write the body, or nothing."""

        def change(state: State, write: Write) -> State:
            return put(state, write, None, self.text, self.given) if view(state).deleted else state

        return transaction.write(self.collection, self.doc_id, change)


class Delete(Struct, frozen=True, gc=False):
    """Delete a sibling. A tombstone may have a value, as CouchDB's can."""

    collection: str
    doc_id: str
    rev: Rev | None
    text: bytes = NO_BODY
    attachments: Attachments = NO_ATTACHMENTS
    ancestors: tuple[str, ...] = ()
    exact: bool = False

    def apply(self, transaction: Transaction) -> Written:
        """Write the tombstone. Raises ConflictError if `rev` isn't a sibling, NotFoundError if there is no document."""
        try:
            return transaction.write(self.collection, self.doc_id, partial(self._change, transaction))
        except (ConflictError, NotFoundError):
            if not self.exact:
                raise
            state = transaction.load(self.collection, self.doc_id).state
            leaf = as_published(state, self.rev)
            if leaf is not None:
                return replace(self, rev=leaf.rev).apply(transaction)
            if state.leaves:
                raise
            return without_parent(self, deleted=True).apply(transaction)

    def _change(self, transaction: Transaction, state: State, write: Write) -> State:
        if self.exact:
            _check_live(self, state)
            if self.rev is None and state.leaves:
                raise ConflictError(self.doc_id, None, tuple(str(sibling.rev) for sibling in view(state).siblings))
        text = with_new(transaction, self, self.text, state)
        return delete(state, write, self.rev, text if text != NO_BODY else None, exact=self.exact)


def _check_live(command: Put | Delete, state: State) -> None:
    """Raise ConflictError if an exact command names a tombstone."""
    shown = view(state)
    leaf = shown.find(command.rev) if command.rev is not None else None
    if leaf is not None and leaf.leaf.deleted:
        raise ConflictError(command.doc_id, str(command.rev), tuple(str(sibling.rev) for sibling in shown.siblings))


class Edit(Struct, frozen=True, gc=False):
    """Change fields and plain values of a document by a function of its draft."""

    collection: str
    doc_id: str
    play: Callable[[Draft, Plain], None]
    rev: Rev | None = None
    attachments: Attachments = NO_ATTACHMENTS

    def apply(self, transaction: Transaction) -> Written:
        """Play the edit. Raises ConflictError if `rev` isn't current, GapError if the places it means are gone."""
        return transaction.write(
            self.collection, self.doc_id, lambda state, write: edit(state, write, self.play, self.rev)
        )


class Attach(Struct, frozen=True, gc=False):
    """Put an attachment into a document, in the place of one with the same name; or remove it, if `attachment` is None.

    An exact one creates the document if it is new or deleted.
    """

    collection: str
    doc_id: str
    name: str
    attachment: Data | Uploaded | None
    rev: Rev | None = None
    exact: bool = False

    @property
    def attachments(self) -> Attachments:
        """The attachment."""
        return {self.name: self.attachment} if self.attachment is not None else NO_ATTACHMENTS

    def apply(self, transaction: Transaction) -> Written:
        """Write the document with the attachment, or without. Raises NotFoundError, ConflictError."""

        def change(state: State, write: Write) -> State:
            content = new(transaction, self.attachment) if self.attachment is not None else None
            leaf = as_published(state, self.rev) if self.exact else None
            return attach_to(
                self.name, content, leaf.rev if leaf is not None else self.rev, state, write, exact=self.exact
            )

        return transaction.write(self.collection, self.doc_id, change)


class Purge(Struct, frozen=True, gc=False):
    """Remove leaves with their history, on all nodes, as if they had never been."""

    collection: str
    doc_id: str
    revs: list[Rev]
    attachments: Attachments = NO_ATTACHMENTS

    def leaves(self, transaction: Transaction) -> list[Rev]:
        """Return those of the revisions that are leaves."""
        leaves = {leaf.leaf.rev for leaf in view(transaction.load(self.collection, self.doc_id).state).leaves}
        return [rev for rev in self.revs if rev in leaves]

    def apply(self, transaction: Transaction) -> Written:
        """Remove those of the revisions that are leaves."""
        revs = self.leaves(transaction)
        if not revs:
            return Written(transaction.load(self.collection, self.doc_id), None)
        return transaction.write(self.collection, self.doc_id, lambda state, write: purge(state, write, revs))
