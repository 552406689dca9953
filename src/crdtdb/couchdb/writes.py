"""Writing: a client of CouchDB's protocol names one leaf and replaces that one, or brings revisions made elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from crdtdb.canonical_json import canonical_of, load
from crdtdb.couchdb.errors import CouchError
from crdtdb.couchdb.parsing import Attachment, Data, Follows, ParsedDocument, Uploaded, compressed
from crdtdb.couchdb.validation import DocumentValidator
from crdtdb.documents import (
    NO_BODY,
    Put,
    Rev,
    Sight,
    State,
    VisibleLeaf,
    Write,
    child_digest,
    delete,
    put,
    resolve,
    view,
)
from crdtdb.documents.attachment_edits import attach_to
from crdtdb.documents.attachments import Attached, New, Stub, attachments_in, with_attachments
from crdtdb.documents.external_revisions import ExternalRevision, take
from crdtdb.documents.purging import purge
from crdtdb.errors import ConflictError, CrdtdbError, InvalidInputError, MissingStubError, NotFoundError
from crdtdb.limits import REVS_LIMIT
from crdtdb.query.definitions import DESIGN
from crdtdb.store import Store, Transaction, Upload
from crdtdb.store.commit.imports import grouped, import_revisions

T = TypeVar("T")
Outcome = tuple[str, Rev | str | None] | CrdtdbError
"""The id and the new revision of a document that was written, None if there is none to tell; or what refused it."""


class Purged(NamedTuple):
    """The revisions that were purged, by the ids of their documents."""

    revs: dict[str, list[str]]


class Writes:
    """The writes to one collection. Whatever fails leaves nothing behind."""

    def __init__(self, store: Store, name: str, guard: DocumentValidator | None = None, designs: bool = True) -> None:
        """Of a `guard`, if there is one, every write is asked first. Without `designs` design documents may not be written."""
        self._store, self._name, self._guard, self._designs = store, name, guard, designs

    def _check(self, doc_id: str) -> None:
        if doc_id.startswith(DESIGN) and not self._designs:
            raise CouchError(403, "forbidden", "Design documents are written by an admin of the collection.")

    @property
    def guarded(self) -> bool:
        """Whether somebody is asked first."""
        return self._guard is not None

    def submit(self, work: Callable[[Transaction], T]) -> T:
        """Commit what `writing` or `taking` returned, if nobody has anything against it. Raises RefusedError, ScriptError."""
        return self._store.submit(work) if self._guard is None else self._guard.submit(work)

    def writing(self, document: ParsedDocument) -> Callable[[Transaction], Rev]:
        """Return what writes one document. It raises ConflictError, NotFoundError, MissingStubError, TooLargeError."""
        return lambda transaction: self._one(transaction, document)[1]

    def taking(self, document: ParsedDocument) -> Callable[[Transaction], Rev]:
        """Return what takes one revision that was made elsewhere."""
        foreign = document.foreign()

        def work(transaction: Transaction) -> Rev:
            self._foreign(transaction, document, foreign)
            return foreign.rev

        return work

    def bulk(self, documents: list[ParsedDocument | CrdtdbError], new_edits: bool) -> list[Outcome]:
        """Write many documents in one commit; each has an outcome of its own."""
        ready = [one if isinstance(one, CrdtdbError) else compressed(one) for one in documents]

        def work(chosen: list[ParsedDocument | CrdtdbError], transaction: Transaction) -> list[Outcome]:
            together = self._together(chosen) if not new_edits else {}
            outcomes: dict[int, Outcome] = {}
            for place, document in enumerate(chosen):
                if isinstance(document, CrdtdbError):
                    outcomes[place] = document
                elif place in together:
                    revisions = [one for at in together[place] if isinstance(one := chosen[at], ParsedDocument)]
                    taken = self._import_plain(transaction, revisions)
                    outcomes.update(zip(together[place], taken, strict=True))
                elif place not in outcomes:
                    outcomes[place] = self._outcome(transaction, document, new_edits)
            return [outcomes[place] for place in range(len(chosen))]

        if self._guard is None:
            return self._store.submit(partial(work, ready))
        return self._guard.bulk(ready, lambda chosen: partial(work, chosen))

    def attach(self, doc_id: str, rev: Rev | None, name: str, attachment: Attachment | None) -> Rev:
        """Put one attachment into a document, which is made if need be; or take it away, if None is given.

        Raises ConflictError, NotFoundError.
        """

        def change(transaction: Transaction, state: State, write: Write) -> State:
            new = self._attached(transaction, {name: attachment})[name] if attachment is not None else None
            assert not isinstance(new, Stub)
            leaf = _as_published(state, rev)
            return attach_to(name, new, leaf.rev if leaf is not None else rev, state, write, exact=True)

        def work(transaction: Transaction) -> Rev:
            written = transaction.write(self._name, doc_id, partial(change, transaction))
            return written.rev

        return self.submit(work)

    def resolve(self, document: ParsedDocument, rev: Rev | None = None, seen: Collection[Rev] | None = None) -> Rev:
        """Replace the siblings that were seen by one body, which may keep the attachments of any.

        `rev` means one sibling alone; without either, all that are there are replaced. Raises NotFoundError, ConflictError.
        """
        document = compressed(document)

        def work(transaction: Transaction) -> Rev:
            def change(state: State, write: Write) -> State:
                siblings = view(state).siblings
                generation = siblings[0].leaf.rev.generation + 1 if siblings else 1
                attached = self._attached(transaction, document.attachments)
                text = with_attachments(
                    document.text, attached, [attachments_in(one.text) for one in siblings], generation
                )
                if rev is None and seen is None:
                    return resolve(state, write, text)
                if rev is not None and _as_published(state, rev) is None:
                    return resolve(state, write, text, rev=rev)
                revs = seen if rev is None and seen is not None else [rev] if rev is not None else []
                sight = Sight(revs, partial(_value_read, transaction, self._name, document.doc_id, revs))
                return resolve(state, write, text, seen=sight)

            written = transaction.write(self._name, document.doc_id, change)
            return written.rev

        return self.submit(work)

    def purge(self, revs: Mapping[str, list[Rev]]) -> Purged:
        """Forget revisions that are leaves, everywhere; return which."""

        def work(transaction: Transaction) -> Purged:
            gone: dict[str, list[str]] = {}
            for doc_id, wanted in revs.items():
                before = {one.leaf.rev for one in view(transaction.load(self._name, doc_id).state).leaves}
                purged = [rev for rev in wanted if rev in before]
                if purged:
                    transaction.write(self._name, doc_id, partial(_purge, purged))
                gone[doc_id] = [str(rev) for rev in purged]
            return Purged(gone)

        return self._store.submit(work)

    # Inside

    def _outcome(self, transaction: Transaction, document: ParsedDocument, new_edits: bool) -> Outcome:
        try:
            if new_edits:
                return self._one(transaction, document)
            foreign = document.foreign()
            self._foreign(transaction, document, foreign)
        except CrdtdbError as error:
            if isinstance(error, MissingStubError):
                raise  # as in CouchDB: the whole request is refused
            if isinstance(error, ConflictError | NotFoundError | InvalidInputError):
                self._let_go(transaction, document)
            return error
        return document.doc_id, foreign.rev

    def _together(self, documents: list[ParsedDocument | CrdtdbError]) -> dict[int, list[int]]:
        """Return the places of the revisions of each document that comes several times, by the first of them.

        Such revisions are taken together, never with attachments.
        """
        read = {place: one for place, one in enumerate(documents) if not isinstance(one, CrdtdbError)}
        alone = {one.doc_id for one in read.values() if one.attachments or one.rev is None or one.doc_id[:1] == "_"}
        named = grouped((place, one.doc_id) for place, one in read.items())
        return {places[0]: places for doc_id, places in named if len(places) > 1 and doc_id not in alone}

    def _import_plain(self, transaction: Transaction, documents: list[ParsedDocument]) -> list[Outcome]:
        """Take some revisions of one document; return their outcomes."""
        doc_id = documents[0].doc_id
        revisions = [_without_empty_text(one.foreign()) for one in documents]
        taken = import_revisions(transaction, self._name, doc_id, revisions)
        return [
            outcome if isinstance(outcome, CrdtdbError) else (doc_id, foreign.rev)
            for foreign, outcome in zip(revisions, taken, strict=True)
        ]

    def _one(self, transaction: Transaction, document: ParsedDocument) -> tuple[str, Rev]:
        self._check(document.doc_id)
        rev = document.rev

        def change(state: State, write: Write) -> State:
            shown = view(state)
            target = shown.find(rev) if rev is not None else shown.winner
            if rev is not None and target is not None and target.leaf.deleted:
                raise ConflictError(document.doc_id, str(rev), tuple(str(one.rev) for one in shown.siblings))
            if document.deleted and rev is None and state.leaves:
                raise ConflictError(document.doc_id, None, tuple(str(one.rev) for one in shown.siblings))
            if plain:
                return put(state, write, rev, document.text, exact=True)
            generation = target.leaf.rev.generation + 1 if target is not None else 1
            parents = [attachments_in(target.text)] if target is not None else []
            attached = self._attached(transaction, document.attachments)
            text = with_attachments(document.text, attached, parents, generation)
            if document.deleted:
                return delete(state, write, rev, text if text != NO_BODY else None, exact=True)
            return put(state, write, rev, text, exact=True)

        plain = not document.deleted and not document.attachments
        todo = Put(rev, document.text, exact=True) if plain and rev is None else change
        try:
            written = transaction.write(self._name, document.doc_id, todo)
        except (ConflictError, NotFoundError):
            state = transaction.load(self._name, document.doc_id).state
            leaf = _as_published(state, rev)
            if leaf is not None:
                return document.doc_id, self._on_published(transaction, document, leaf)
            if not state.leaves and (rev is not None or document.deleted):
                return document.doc_id, self._without_parent(transaction, document)
            raise
        return document.doc_id, written.rev

    def _without_parent(self, transaction: Transaction, document: ParsedDocument) -> Rev:
        """Write a document that isn't there as CouchDB does: on a parent that isn't known, or as one that begins deleted."""
        parent = document.rev
        text = document.text if not document.deleted or document.text != NO_BODY else None
        digest = child_digest(parent, deleted=document.deleted, body=canonical_of(text) if text is not None else None)
        line = (parent.digest, *document.ancestors) if parent is not None else ()
        child = ExternalRevision(
            Rev(parent.next_generation if parent is not None else 1, digest), line, document.text, document.deleted
        )
        self._foreign(transaction, document, child)
        return child.rev

    def _on_published(self, transaction: Transaction, document: ParsedDocument, leaf: VisibleLeaf) -> Rev:
        """Write on a leaf under the name that it was published with, though fields have been edited since.

        What its reader was told is what it had then. So a put is taken as a child made elsewhere is: its fields are compared
        with those.
        """
        if document.deleted:
            return self._one(transaction, document._replace(rev=leaf.rev))[1]
        parent = leaf.leaf.rev
        digest = child_digest(parent, deleted=False, body=canonical_of(document.text))
        steps = tuple(step.digest for step in leaf.leaf.path.all()[: REVS_LIMIT - 1])
        child = ExternalRevision(Rev(parent.next_generation, digest), (parent.digest, *steps), document.text, False)
        brought = {
            name: one._replace(revpos=child.rev.generation)
            for name, one in document.attachments.items()
            if isinstance(one, Data | Uploaded)
        }
        self._foreign(transaction, document._replace(attachments={**document.attachments, **brought}), child)
        return child.rev

    def _foreign(self, transaction: Transaction, document: ParsedDocument, foreign: ExternalRevision) -> None:
        self._check(document.doc_id)
        transaction.create(self._name)
        history = transaction.history(self._name, document.doc_id)
        read = partial(transaction.read_then, self._name, document.doc_id)

        def change(state: State, write: Write) -> State:
            attached = self._attached(transaction, document.attachments, foreign=True)
            parents = self._attachments_before(transaction, state, foreign, document)
            text = with_attachments(document.text, attached, parents, foreign.rev.generation)
            return take(state, write, _without_empty_text(foreign._replace(text=text)), history.known, read)

        written = transaction.write(self._name, document.doc_id, change)
        if written.dot is None and not foreign.deleted and not document.attachments:
            transaction.rows.update(history.filled(foreign.rev, document.text))
        if written.dot is None:
            self._let_go(transaction, document)

    def _attachments_before(
        self, transaction: Transaction, state: State, foreign: ExternalRevision, document: ParsedDocument
    ) -> list[Mapping[str, Any]]:
        """Return the attachments of the revisions that one made elsewhere may keep files of, the nearest first."""
        if not any(isinstance(one, Stub) for one in document.attachments.values()):
            return []
        line = foreign.line()
        leaves = sorted(view(state).leaves, key=lambda one: (one.leaf.rev not in line, one.leaf.rev))
        history = transaction.history(self._name, document.doc_id)
        older = [past.text for rev in line if (past := history.past(rev)) is not None]
        return [attachments_in(text) for text in [*(one.text for one in leaves), *older]]

    @staticmethod
    def _attached(transaction: Transaction, attachments: Mapping[str, Attachment], foreign: bool = False) -> Attached:
        """Keep the bytes that came with a document, and return what is to stand in its body."""
        attached: dict[str, New | Stub] = {}
        for name, one in attachments.items():
            if isinstance(one, Data):
                attached[name] = New(
                    one.content_type, transaction.contents.add(one.data), _revpos(one, foreign), one.decoded_length
                )
            elif isinstance(one, Uploaded):
                upload: Upload = one.upload
                transaction.contents.adopt(upload.blob, upload.content)
                attached[name] = New(one.content_type, upload.content, _revpos(one, foreign), one.decoded_length)
            elif isinstance(one, Stub):
                attached[name] = one
            else:
                assert isinstance(one, Follows)
                raise InvalidInputError(f"the data of attachment {name[:80]!r} doesn't follow in this request")
        return attached

    @staticmethod
    def _let_go(transaction: Transaction, document: ParsedDocument) -> None:
        for one in document.attachments.values():
            if isinstance(one, Data):
                transaction.contents.forget(one.data)


def _without_empty_text(foreign: ExternalRevision) -> ExternalRevision:
    """Return a revision as it is kept: a deletion has a value only if there is something in it."""
    return foreign._replace(text=None) if foreign.deleted and foreign.text == NO_BODY else foreign


def _revpos(one: Data | Uploaded, foreign: bool) -> int | None:
    """Return the generation that attached new bytes: the node's own, but where a revision was made elsewhere.

    A revision that changes the bytes and leaves the `revpos` as it was would make a CouchDB keep the old ones.
    """
    return (one.revpos or 0) if foreign else None


def _as_published(state: State, rev: Rev | None) -> VisibleLeaf | None:
    """Return the live leaf of this name if it shows under another by now: fields have been edited since it was published."""
    shown = view(state)
    if rev is None or shown.find(rev) is not None:
        return None
    leaf = shown.leaf(rev)
    return leaf if leaf is not None and not leaf.leaf.deleted and not leaf.leaf.native else None


def _value_read(transaction: Transaction, name: str, doc_id: str, revs: Collection[Rev]) -> Mapping[str, Any] | None:
    """Return the value of the first of some revisions that is known as it was read, None if none is."""
    found = (transaction.read_then(name, doc_id, rev) for rev in revs)
    return next((load(one.value) for one in found if one is not None), None)


def _purge(revs: list[Rev], state: State, write: Write) -> State:
    return purge(state, write, revs)
