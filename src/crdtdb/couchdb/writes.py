"""Writing: a client of CouchDB's protocol names one leaf and replaces that one, or brings revisions made elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeVar

from crdtdb.canonical_json import load
from crdtdb.couchdb.design_rules import check_design
from crdtdb.couchdb.errors import CouchError
from crdtdb.couchdb.parsing import Attachment, Follows, ParsedDocument, compressed
from crdtdb.couchdb.validation import DocumentValidator
from crdtdb.database.commands import (
    Attach,
    Attachments,
    Command,
    Committer,
    Delete,
    ImportRevision,
    MergePatch,
    Purge,
    Put,
    Resolve,
)
from crdtdb.documents import Rev
from crdtdb.documents.attachments import Stub
from crdtdb.errors import CrdtdbError, InvalidInputError
from crdtdb.query.definitions import DESIGN
from crdtdb.store import Store, Transaction, Written

T = TypeVar("T")
Outcome = tuple[str, Rev | str | None] | CrdtdbError
"""The id and the new revision of a document that was written; or the error that refused it."""


class Purged(NamedTuple):
    """The revisions that were purged, by the ids of their documents."""

    revs: dict[str, list[str]]


class Writes:
    """The writes of clients of CouchDB's protocol to one collection."""

    def __init__(self, store: Store, name: str, guard: DocumentValidator | None = None, designs: bool = True) -> None:
        """Write through `guard`, if there is one. Without `designs` design documents are refused."""
        self._store, self._name, self._designs = store, name, designs
        self._committer = guard or Committer(store)
        self.guarded = guard is not None
        """Whether validation functions are asked first, which may take long."""

    def submit(self, work: Callable[[Transaction], T]) -> T:
        """Commit what `writing`, `taking` or `patching` returned. Raises what it raises; CouchError, ScriptError if guarded."""
        return self._committer.submit(work)

    def writing(self, document: ParsedDocument) -> Callable[[Transaction], Rev]:
        """Return the write of a document. It raises ConflictError, NotFoundError, MissingStubError, TooLargeError."""
        return _revision(self._edit(document))

    def taking(self, document: ParsedDocument) -> Callable[[Transaction], Rev]:
        """Return the import of a revision that was made elsewhere."""
        return _revision(self._import(document))

    def patching(self, doc_id: str, patch: Mapping[str, Any], rev: Rev | None) -> Callable[[Transaction], Rev]:
        """Return the write of a JSON merge patch. It raises ConflictError, NotFoundError, InvalidDocumentError."""
        self._check(doc_id)
        return _revision(MergePatch(self._name, doc_id, patch, rev, exact=True))

    def bulk(self, documents: list[ParsedDocument | CrdtdbError], new_edits: bool) -> list[Outcome]:
        """Write many documents in one commit; each has its own outcome, and an error in the place of one is its outcome."""
        make = self._edit if new_edits else self._import
        commands = [_or_error(make, document) for document in documents]
        return [_named_outcome(*pair) for pair in zip(commands, self._committer.submit_each(commands), strict=True)]

    def attach(self, doc_id: str, rev: Rev | None, name: str, attachment: Attachment | None) -> Rev:
        """Put one attachment into a document, which is created if need be; or remove it, if None is given.

        Raises ConflictError, NotFoundError.
        """
        brought = _brought({name: attachment}) if attachment is not None else {}
        new = brought.get(name)
        assert not isinstance(new, Stub)
        return self.submit(_revision(Attach(self._name, doc_id, name, new, rev, exact=True)))

    def resolve(self, document: ParsedDocument, rev: Rev | None = None, seen: Collection[Rev] | None = None) -> Rev:
        """Replace the siblings that were seen by one body, which may keep the attachments of any.

        `rev` means one sibling alone; without either, all that are there are replaced. Raises NotFoundError, ConflictError.
        """
        document = compressed(document)
        named = tuple(seen) if seen is not None and rev is None else None
        command = Resolve(
            self._name,
            document.doc_id,
            document.text,
            rev=rev,
            seen=named,
            attachments=_brought(document.attachments),
            exact=True,
        )
        return self.submit(_revision(command))

    def purge(self, revs: Mapping[str, list[Rev]]) -> Purged:
        """Remove leaves with their history, everywhere; return which. Validation functions aren't asked, as in CouchDB."""
        commands = [Purge(self._name, doc_id, named) for doc_id, named in revs.items()]

        def work(transaction: Transaction) -> Purged:
            purged = {}
            for command in commands:
                purged[command.doc_id] = [str(rev) for rev in command.leaves(transaction)]
                command.apply(transaction)
            return Purged(purged)

        return self._store.submit(work)

    def _check(self, doc_id: str) -> None:
        if doc_id.startswith(DESIGN) and not self._designs:
            raise CouchError(403, "forbidden", "Design documents are written by an admin of the collection.")

    def _edit(self, document: ParsedDocument) -> Command:
        """Return the write of a document. Raises CouchError, InvalidInputError."""
        self._check(document.doc_id)
        doc_id, text, rev, attachments = document.doc_id, document.text, document.rev, _brought(document.attachments)
        if doc_id.startswith(DESIGN) and not document.deleted:
            check_design(load(text))
        if document.deleted:
            return Delete(self._name, doc_id, rev, text, attachments, document.ancestors, exact=True)
        return Put(self._name, doc_id, text, rev, attachments=attachments, ancestors=document.ancestors, exact=True)

    def _import(self, document: ParsedDocument) -> Command:
        """Return the import of a revision that was made elsewhere. Raises CouchError, InvalidInputError."""
        self._check(document.doc_id)
        return ImportRevision(self._name, document.doc_id, document.external(), _brought(document.attachments))


def _or_error(
    make: Callable[[ParsedDocument], Command], document: ParsedDocument | CrdtdbError
) -> Command | CrdtdbError:
    try:
        return document if isinstance(document, CrdtdbError) else make(compressed(document))
    except CrdtdbError as error:
        return error


def _named_outcome(command: Command | CrdtdbError, outcome: Written | CrdtdbError) -> Outcome:
    if isinstance(command, CrdtdbError):
        return command
    return outcome if isinstance(outcome, CrdtdbError) else (command.doc_id, outcome.rev)


def _revision(command: Command) -> Callable[[Transaction], Rev]:
    return lambda transaction: command.apply(transaction).rev


def _brought(attachments: Mapping[str, Attachment]) -> Attachments:
    """Return attachments whose bytes are at hand. Raises InvalidInputError if the data of one didn't come."""
    brought = {}
    for name, attachment in attachments.items():
        if isinstance(attachment, Follows):
            raise InvalidInputError(f"the data of attachment {name[:80]!r} doesn't follow in this request")
        brought[name] = attachment
    return brought
