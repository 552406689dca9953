"""A collection: documents by id. Each call is one commit or one read; it may be used from any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Some
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from crdtdb import forks
from crdtdb.crdts import GapError
from crdtdb.database.commands import (
    Command,
    CommandFactory,
    Committer,
    Edit,
    Outcome,
)
from crdtdb.database.document import Change, Document, Revision, Seen, Sibling
from crdtdb.database.editing import DocumentEdit, Session
from crdtdb.database.explain import explain
from crdtdb.database.feeds.changes import Feed
from crdtdb.database.feeds.watch import KINDS, Pattern, Watch, escape
from crdtdb.database.queries.collection_queries import CollectionQueries
from crdtdb.database.reader import DocumentReader, IdRange
from crdtdb.database.resolution import Choice, all_listed, bodies_listed, resolution, resolution_of_all
from crdtdb.database.resolvers import Conflict, Resolver
from crdtdb.database.validation import (
    check_id,
    check_name,
    check_rev,
)
from crdtdb.documents import NO_BODY, Rev, view
from crdtdb.documents.attachments import KEY as ATTACHMENTS
from crdtdb.documents.attachments import is_encoded
from crdtdb.documents.content_encoding import decoded
from crdtdb.documents.schema import SCHEMA_ID, as_tree, check_agrees, check_schema, declare_in
from crdtdb.errors import ConflictError, CrdtdbError, InvalidInputError, NotFoundError, StoreClosedError
from crdtdb.limits import BULK_DOCUMENTS_MAX
from crdtdb.store import Store, Transaction, Written

_D = TypeVar("_D")


class Collection(CollectionQueries):
    """Documents under one name. It is made by its first write; until then it reads as empty."""

    def __init__(self, store: Store, name: str, committer: Committer | None = None) -> None:
        """Use `Database.collection`. Writes go through `committer`. Raises InvalidIdError for a name that isn't allowed."""
        self._store = store
        self._committer = committer or Committer(store)
        self.commands = CommandFactory(check_name(name))
        """Makes the commands that the methods below write."""
        self.name = check_name(name)
        self._reader = DocumentReader(store, name)
        forks.own(self)

    def __repr__(self) -> str:
        return f"<Collection {self.name!r}>"

    # Writing

    def put(self, doc_id: str, body: Mapping[str, Any], rev: str | None = None) -> Document:
        """Write a document and return it.

        `rev` is the revision that it replaces; None for a new or deleted document. It may also stand in the body as
        `_rev`. Values of field types make fields; at the places of fields the difference to what was read becomes
        operations, so two who each add 1 to what they read add 2. Raises ConflictError if `rev` isn't what is there,
        InvalidIdError, InvalidDocumentError, SchemaError, TooLargeError.
        """
        return self._write(self.commands.put(doc_id, body, rev))

    def delete(self, doc_id: str, rev: str | None = None) -> Document:
        """Delete the sibling `rev` of a document, and return the tombstone. Other siblings stay.

        Raises ConflictError if `rev` isn't one of the siblings, or isn't given; NotFoundError if there is none.
        """
        return self._write(self.commands.delete(doc_id, rev))

    def upsert(self, doc_id: str, change: Callable[[dict[str, Any]], Mapping[str, Any] | None]) -> Document | None:
        """Replace a document by what `change` makes of its body ({} if it is missing), however often others come first.

        `change` may be called several times. If it returns None, nothing is written. Siblings other than the winner stay.
        """
        check_id(doc_id)
        while True:
            before = self._reader.find(doc_id)
            changed = change(before.body if before is not None else {})
            if changed is None:
                return before
            try:
                return self.put(doc_id, {**changed, "_rev": None}, before.rev if before is not None else None)
            except ConflictError:
                continue

    def put_if_absent(self, doc_id: str, body: Mapping[str, Any]) -> Document:
        """Write a document unless there is one, and return the one that is there now."""
        return self._write(self.commands.put_if_absent(doc_id, body))

    def resolve(
        self,
        doc_id: str,
        body: Mapping[str, Any] | Choice,
        rev: str | None = None,
        *,
        seen: Seen | None = None,
    ) -> Document:
        """Replace the siblings that were `seen` by one body. What wasn't seen stays beside it, as a conflict.

        `seen` is the document as it was read, its siblings, or their revisions; `rev` means one sibling alone. A sibling that
        another write has replaced meanwhile stays as that write left it; edits of fields alone replace none. A `body` that is
        a `Document` says itself what was seen. A function is given the siblings, and again if they have changed by the time it
        returns; if it returns None, nothing is written. Without any of these all that is there at the moment of the write
        is replaced, read or not. Fields have merged already: they stay as they are, unless the body has another value for
        them than was read. Raises NotFoundError if there is no live document, ConflictError if nothing that was seen is there
        any more, InvalidInputError.
        """
        check_id(doc_id)
        if not callable(body):
            return self._write(resolution(self.name, doc_id, body, rev, seen))
        if rev is not None or seen is not None:
            raise InvalidInputError(
                "a function sees the siblings that it is given: give no `rev` and no `seen` with it"
            )
        while True:
            siblings = self.siblings(doc_id)
            chosen = body(siblings)
            if chosen is None:
                return self.get(doc_id)
            revs = [Rev.parse(sibling.rev) for sibling in siblings]
            command = resolution_of_all(self.name, doc_id, chosen, revs, all_listed)
            written = self._committer.submit(command.apply)
            if written.dot is not None:
                return self._reader.written(doc_id, written)

    def attach(
        self,
        doc_id: str,
        name: str,
        data: bytes,
        content_type: str = "application/octet-stream",
        rev: str | None = None,
    ) -> Document:
        """Put a file into a document, or another in the place of the one with this name; return the document.

        Its bytes are kept once, however many documents have them, and are replicated with the document. Raises NotFoundError,
        ConflictError if a `rev` is given that isn't current, InvalidInputError for a name that isn't allowed.
        """
        return self._write(self.commands.attach(doc_id, name, data, content_type, rev))

    def detach(self, doc_id: str, name: str, rev: str | None = None) -> Document:
        """Take a file out of a document, and return the document. Raises NotFoundError, ConflictError."""
        return self._write(self.commands.detach(doc_id, name, rev))

    def attachment(self, doc_id: str, name: str, rev: str | None = None) -> bytes:
        """Return the bytes of a document's file. Raises NotFoundError."""
        found = self.get(doc_id, rev).get(ATTACHMENTS, {}).get(name)
        if found is None:
            raise NotFoundError(f"document {doc_id!r} in {self.name!r} has no attachment {name!r}")
        pieces = self._store.attachments.read(bytes.fromhex(found["sha256"]))
        return b"".join(decoded(pieces) if is_encoded(found) else pieces)

    @contextmanager
    def edit(self, doc_id: str, rev: str | None = None) -> Iterator[DocumentEdit]:
        """Edit the fields of a document, and its plain values: what is done in the `with` block is one commit at its end.

        Nothing is written if the block raises. With `rev` the edit is refused unless that is what is there at the end; without,
        it applies to what is there by then. The document after the commit is the edit's `written`. Raises NotFoundError,
        ConflictError, InvalidInputError for an operation that can't be done, SchemaError, TooLargeError.
        """
        check_id(doc_id)
        named = check_rev(rev)
        record = self._store.read(self.name, doc_id)
        shown = view(record.state) if record is not None else None
        if record is None or shown is None or shown.deleted:
            raise NotFoundError(
                f"there is no document {doc_id!r} in {self.name!r}: put it first", deleted=record is not None
            )
        target = shown.siblings[0] if named is None else shown.find(named)
        if target is None or target.leaf.deleted:
            raise ConflictError(doc_id, rev, tuple(str(one.rev) for one in shown.siblings))
        state, opener = record.state, self._reader.opener(doc_id, record.state)
        session = Session(state.fields, state.journals, target.text or NO_BODY, self._store.schema(self.name), opener)
        editing = DocumentEdit(session, doc_id)
        yield editing
        try:
            written = self._committer.submit(Edit(self.name, doc_id, session.play, named).apply)
        except GapError as error:  # so much was typed meanwhile that nobody knows any more where the positions were
            raise ConflictError(doc_id, str(target.rev), ("many edits later",)) from error
        self.fold()
        editing.written = self._reader.written(doc_id, written)

    def patch(self, doc_id: str, patch: Mapping[str, Any], rev: str | None = None) -> Document:
        """Change some values of a document by a JSON merge patch (RFC 7396), in which null removes; return the document.

        Without `rev` the patch applies to the winner at the time of the write. Raises NotFoundError, ConflictError if `rev`
        isn't a sibling, InvalidDocumentError.
        """
        return self._write(self.commands.patch(doc_id, patch, rev))

    def declare(self, schema: Mapping[str, Any], *, replace: bool = False) -> dict[str, Any]:
        """Say which fields the documents have, and return all that is declared.

        A schema is an object of types, `{"likes": crdtdb.Counter, "stats": {"n": crdtdb.Counter}}`, or of their names. It is
        replicated like a document. With `replace` the declarations of the same paths go; fields that are there keep their
        types. Raises SchemaError if it contradicts what is declared, and then declares nothing.
        """
        wanted = check_schema(schema)

        def work(transaction: Transaction) -> dict[str, Any]:
            transaction.ledger.create(self.name)
            known = transaction.schema(self.name)
            others = {path: kind for path, kind in known.items() if not (replace and path in wanted)}
            check_agrees(others, wanted)
            if any(known.get(path) != kind for path, kind in wanted.items()):
                transaction.write(
                    self.name, SCHEMA_ID, lambda state, write: declare_in(state, write, wanted, known, replace)
                )
            return as_tree({**known, **wanted})

        if not replace and all(self._store.schema(self.name).get(path) == kind for path, kind in wanted.items()):
            return self.schema()
        return self._committer.submit(work)

    def schema(self) -> dict[str, Any]:
        """Return what is declared: the names of types, as objects within objects; "?" where two types were at the same time."""
        return as_tree(self._store.schema(self.name))

    def why(self, doc_id: str) -> dict[str, Any]:
        """Explain a document: its versions with their clocks and writers, its fields with their dots, why the winner won.

        Plain JSON, with actors as hexadecimal text. Raises NotFoundError if there was never such a document.
        """
        check_id(doc_id)
        record = self._store.read(self.name, doc_id)
        if record is None:
            raise NotFoundError(f"there is no document {doc_id!r} in {self.name!r}")
        past = list(self._store.live_view().past(self.name, doc_id))
        return explain(self.name, doc_id, record.state, past, self._reader.opener(doc_id, record.state))

    def take(self, documents: Iterable[Mapping[str, Any]]) -> list[CrdtdbError | None]:
        """Take revisions that were made elsewhere, in one commit: CouchDB's `new_edits=false`.

        Each has its `_id`, its `_rev` and in `_revisions` the digests from its own on, newest first, as CouchDB has them:
        `{"start": 3, "ids": ["c…", "b…", "a…"]}`. One that is known changes nothing. Returns, in the same order, None or the
        error that refused it.
        """
        outcomes = self._committer.submit_each([self.commands.of_revision(document) for document in documents])
        return [outcome if isinstance(outcome, CrdtdbError) else None for outcome in outcomes]

    def bulk(self, documents: Iterable[Mapping[str, Any]]) -> list[Document | CrdtdbError]:
        """Write many documents in one commit, each named by its `_id`, with `_rev` and `_deleted` as CouchDB has them.

        Returns, in the same order, the document written or the error that refused it: one that fails stops no other.
        """
        wanted = list(documents)
        if len(wanted) > BULK_DOCUMENTS_MAX:
            raise InvalidInputError(f"{len(wanted):,} documents at once, the limit is {BULK_DOCUMENTS_MAX:,}")
        return self.bulk_results(wanted, self._committer.submit_each([self.commands.of_bulk(one) for one in wanted]))

    # Reading

    def get(self, doc_id: str, rev: str | None = None, *, conflicts: bool = False, crdt: bool = False) -> Document:
        """Return a document: the winner, or any revision whose body is still held.

        With `conflicts` the mapping has the revisions of the other siblings under `_conflicts`, as CouchDB has; they are
        always in `Document.conflicts`. With `crdt` it has under `_crdt` which field is of which type, as in
        `Document.fields`. Raises NotFoundError, a KeyError; its `deleted` tells whether there was one.
        """
        return self._reader.get(check_id(doc_id), None if rev is None else check_rev(rev), conflicts, crdt)

    def __contains__(self, doc_id: object) -> bool:
        return isinstance(doc_id, str) and self._reader.find(check_id(doc_id)) is not None

    def __len__(self) -> int:
        found = self._store.root.collections.get(self.name)
        return found.documents if found is not None else 0

    def all(
        self,
        start: str | None = None,
        end: str | None = None,
        *,
        keys: Iterable[str] | None = None,
        descending: bool = False,
        skip: int = 0,
        limit: int | None = None,
        inclusive_end: bool = True,
    ) -> Iterator[Document]:
        """Yield the documents in the order of their ids' UTF-8, from `start` to `end`, or those with these `keys`.

        `descending` goes the other way, so that `start` is then the higher id. Keys that are missing are left out.
        """
        if (limit is not None and limit < 0) or skip < 0:
            raise InvalidInputError(f"limit and skip are 0 or more, not {limit} and {skip}")
        documents: Iterator[Document]
        if keys is not None:
            found = (self._reader.find(check_id(key)) for key in keys)
            documents = (document for document in found if document is not None)
        else:
            documents = self._reader.range(IdRange(start, end, descending, inclusive_end))
        yield from islice(documents, skip, None if limit is None else skip + limit)

    def siblings(self, doc_id: str) -> list[Sibling]:
        """Return all bodies that a document has, the winner first, and then what is kept beside fields that show.

        Raises NotFoundError if it has none.
        """
        return list(self._reader.siblings(check_id(doc_id)))

    def conflicts(self) -> Iterator[Document]:
        """Yield every document that has more than one body, or a conflict of a field."""
        return (document for document in self.all() if document.conflicts)

    def history(self, doc_id: str) -> list[Revision]:
        """Return every revision of a document that is known here, newest generation first.

        Each with the value that was written under its name, or None if that isn't known here, or not any more. What shows
        together with edits of fields that its author hadn't seen is there too, under the name that it has then.
        Raises NotFoundError if there was never such a document.
        """
        return list(self._reader.revisions(check_id(doc_id)))

    def changes(
        self,
        since: int = 0,
        *,
        live: bool = False,
        ids: Some[str] | None = None,
        where: Callable[[Document], bool] | None = None,
        timeout: float | None = None,
    ) -> Iterator[Change]:
        """Yield the changes after the seq `since`: each document once, at its last change, deleted ones too.

        With `live` it goes on and waits for more, until `timeout` seconds pass without one (never, if None), or the
        database is closed. `ids` and `where` choose which to yield.
        """
        feed = self.feed(since, ids=ids, where=where)
        while True:
            yield from feed.poll()
            try:
                if not live or not feed.wait(timeout):
                    return
            except StoreClosedError:
                return

    def feed(
        self, since: int = 0, *, ids: Some[str] | None = None, where: Callable[[Document], bool] | None = None
    ) -> Feed:
        """Return a place in the changes feed, to be followed step by step."""
        return Feed(self._store, self.name, since, ids, where)

    @property
    def last_seq(self) -> int:
        """The seq of the newest change."""
        found = self._store.root.collections.get(self.name)
        return found.seq if found is not None else 0

    def durable(self) -> None:
        """Return when everything that was acknowledged would outlive a loss of power: at "sync" it does already."""
        self._store.flush()

    def digest(self) -> str:
        """Return a digest of everything that the collection holds: equal on two nodes if their documents are."""
        return self._store.live_view().digest(self.name) if self.name in self._store.root.names else "0" * 32

    def watch(self, ids: str = "*", kinds: Iterable[str] = KINDS, since: str | None = None) -> Watch:
        """Follow what changes in this collection: iterate over the `Notice`s, which wait for what is to come.

        `ids` is a pattern such as "2026-*", `kinds` some of "created", "updated", "deleted", "conflict", "dropped". `since` is
        the `place` of an earlier watch, "0" for the beginning, None for now. Raises InvalidInputError.
        """
        return Watch(self._store, [Pattern.of({"collection": escape(self.name), "id": ids, "kinds": kinds})], since)

    def settle(self, resolver: Resolver, since: int = 0) -> int:
        """Let a resolver have each conflict that changed after `since`; return how many it resolved."""
        settled = 0
        for change in list(self.changes(since)):
            if change.doc.conflicts:
                settled += self._settle_one(change.id, resolver)
        return settled

    # For the async face

    @property
    def store(self) -> Store:
        """The store that has the collection."""
        return self._store

    def written(self, command: Command, written: Written) -> Document:
        """Return the document as a command left it."""
        return self._reader.written(command.doc_id, written)

    def bulk_results(
        self, documents: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome]
    ) -> list[Document | CrdtdbError]:
        """Return the results of a bulk of documents: the document as it was written, or the error that refused it."""
        return [
            outcome if isinstance(outcome, CrdtdbError) else self._reader.written(document["_id"], outcome)
            for document, outcome in zip(documents, outcomes, strict=True)
        ]

    @property
    def grown(self) -> bool:
        """Whether a text or list has grown so that it should be folded."""
        return bool(self._store.sweeper.grown)

    def fold(self) -> None:
        """Fold the texts and lists that have grown. A node does it between other duties; a library has nobody else."""
        while self._store.sweeper.grown:
            self._store.sweeper.fold()

    # Inside

    def _write(self, command: Command) -> Document:
        written = self._committer.submit(command.apply)
        if self._store.sweeper.grown:
            self.fold()
        return self._reader.written(command.doc_id, written)

    def _settle_one(self, doc_id: str, resolver: Resolver) -> bool:
        record = self._store.read(self.name, doc_id)
        shown = view(record.state) if record is not None else None
        if record is None or shown is None or not shown.conflict:
            return False
        siblings = list(self._reader.bodies(doc_id, record.state, shown))
        ancestor = self._reader.common_ancestor(doc_id, shown.siblings)
        chosen = resolver(Conflict(doc_id, siblings, ancestor))
        if chosen is None:
            return False
        revs = [sibling.rev for sibling in shown.siblings]
        command = resolution_of_all(self.name, doc_id, chosen, revs, bodies_listed)
        return self._committer.submit(command.apply).dot is not None
