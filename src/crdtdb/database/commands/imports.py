"""The import of a revision that was made elsewhere, under its own name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from msgspec import Struct

from crdtdb.canonical_json import canonical_of
from crdtdb.database.commands.base import (
    NO_ATTACHMENTS,
    Attachments,
    RevisedCommand,
    attached,
    discard,
)
from crdtdb.documents import (
    NO_BODY,
    Rev,
    State,
    Write,
    child_digest,
    view,
)
from crdtdb.documents.attachments import Stub, attachments_in, with_attachments
from crdtdb.documents.external_revisions import ExternalRevision, take
from crdtdb.store import Transaction, Written


class ImportRevision(Struct, frozen=True, gc=False):
    """Add a revision that was made elsewhere, under its own name: CouchDB's `new_edits=false`."""

    collection: str
    doc_id: str
    revision: ExternalRevision
    attachments: Attachments = NO_ATTACHMENTS

    def apply(self, transaction: Transaction) -> Written:
        """Add the revision; nothing, if it is known. Raises InvalidInputError, NotFoundError for a missing stub."""
        transaction.ledger.create(self.collection)
        history = transaction.history(self.collection, self.doc_id)
        read = partial(transaction.read_then, self.collection, self.doc_id)
        revision = self.revision

        def change(state: State, write: Write) -> State:
            brought = attached(transaction, self.attachments, external=True)
            text = revision.text
            if brought:
                parents = self._parents(transaction, state)
                text = with_attachments(text or NO_BODY, brought, parents, revision.rev.generation)
            return take(state, write, without_empty_text(revision._replace(text=text)), history.known, read)

        written = transaction.write(self.collection, self.doc_id, change)
        if written.dot is not None:
            return Written(written.record, written.dot, revision.rev)
        if revision.text is not None and not revision.deleted and not self.attachments:
            transaction.rows.changes.update(history.filled(revision.rev, revision.text))
        discard(transaction, self)
        return Written(written.record, None, revision.rev)

    def _parents(self, transaction: Transaction, state: State) -> list[Mapping[str, Any]]:
        """Return the attachments of the revisions whose contents a stub may keep, the nearest first."""
        if not any(isinstance(attachment, Stub) for attachment in self.attachments.values()):
            return []
        line = self.revision.line()
        leaves = sorted(view(state).leaves, key=lambda leaf: (leaf.leaf.rev not in line, leaf.leaf.rev))
        history = transaction.history(self.collection, self.doc_id)
        older = [past.text for rev in line if (past := history.past(rev)) is not None]
        return [attachments_in(text) for text in [*(leaf.text for leaf in leaves), *older]]


def without_empty_text(revision: ExternalRevision) -> ExternalRevision:
    """Return a revision as it is kept: a tombstone has a value only if there is something in it."""
    return revision._replace(text=None) if revision.deleted and revision.text == NO_BODY else revision


def without_parent(command: RevisedCommand, *, deleted: bool) -> ImportRevision:
    """Return the write of a document that isn't there as CouchDB does it: as a child of a parent that isn't known.

    Without a parent it is a document that begins as a tombstone.
    """
    parent = command.rev
    text = None if deleted and command.text == NO_BODY else command.text
    digest = child_digest(parent, deleted=deleted, body=canonical_of(text) if text is not None else None)
    line = (parent.digest, *command.ancestors) if parent is not None else ()
    rev = Rev(parent.next_generation if parent is not None else 1, digest)
    child = ExternalRevision(rev, line, command.text, deleted)
    return ImportRevision(command.collection, command.doc_id, child, command.attachments)
