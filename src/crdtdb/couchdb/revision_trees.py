"""Reading: documents as trees of immutable revisions. What crdtdb has merged by itself is published before it is shown."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple, Self

from crdtdb.canonical_json import load
from crdtdb.couchdb.errors import missing
from crdtdb.database.reader import kinds_as_json
from crdtdb.documents import NO_BODY, NOTHING, DocumentView, Rev, State, VisibleLeaf, view
from crdtdb.documents.alternatives import Alternative, alternatives, value_with
from crdtdb.documents.attachments import KEY, as_read, is_encoded
from crdtdb.documents.content_encoding import decoded
from crdtdb.documents.fields import reading, whole
from crdtdb.documents.publishing import is_published, lift, publish, winning
from crdtdb.documents.revisions import Ancestry
from crdtdb.documents.schema import SCHEMA_ID
from crdtdb.store import Past, Record, Store, Transaction

SOURCE = "source"
"""The member of an attachment that names its content, where its bytes are to follow the document."""
_PAGE = 500


class Options(NamedTuple):
    """What a reader wants in a document, beside its value."""

    revs: bool = False
    revs_info: bool = False
    conflicts: bool = False
    deleted_conflicts: bool = False
    local_seq: bool = False
    attachments: bool = False
    atts_since: frozenset[Rev] = frozenset()
    crdt: bool = False
    encodings: bool = False
    """Say how attachments are compressed."""
    parts: bool = False
    """The bytes of attachments follow the document, as they are kept: `SOURCE` says which."""
    mark: str = ""
    """If there is one, it stands with the content's `source` in the place of an attachment's bytes, which are written later."""

    def of_revision(self) -> Self:
        """Return these without what only a document has: CouchDB tells no conflicts of revisions that were named."""
        return self._replace(revs_info=False, conflicts=False, deleted_conflicts=False, local_seq=False)


def _attached_at(entry: tuple[str, dict[str, Any]]) -> int:
    """Return by what attachments are listed: the generation that attached each, as in CouchDB."""
    revpos: int = entry[1]["revpos"]
    return revpos


class Tree:
    """One document's revisions. Everything in it is published."""

    def __init__(self, store: Store, name: str, doc_id: str, record: Record, shown: DocumentView) -> None:
        self._store, self._name, self.doc_id = store, name, doc_id
        self.state: State = record.state
        self.seq = record.seq
        self.leaves = shown.leaves
        """The winner first, live ones before deleted ones, each kind from the highest down."""

    @property
    def winner(self) -> VisibleLeaf:
        """What CouchDB's rule chooses; a deleted leaf if all are."""
        return self.leaves[0]

    @property
    def deleted(self) -> bool:
        """Whether all leaves are deleted."""
        return self.winner.leaf.deleted

    def leaf(self, rev: Rev) -> VisibleLeaf | None:
        """Return the leaf of this rev, None if it isn't one."""
        return self._by_rev.get(rev)

    @cached_property
    def _by_rev(self) -> dict[Rev, VisibleLeaf]:
        return {one.leaf.rev: one for one in self.leaves}

    def branches(self, leaves: Iterable[VisibleLeaf]) -> list[VisibleLeaf]:
        """Return leaves in the order of the tree's branches, from its root on: as CouchDB lists them.

        A path that came without its beginning goes on with that of another leaf.
        """

        def branch(one: VisibleLeaf) -> list[str]:
            rev, found = one.leaf.rev, [one.leaf.rev.digest]
            while rev in self._parents:
                rev = self._parents[rev]
                found.append(rev.digest)
            return found[::-1]

        return sorted(leaves, key=branch)

    def descendants(self, rev: Rev) -> list[VisibleLeaf]:
        """Return the leaves that descend from a revision, or are it: from a leaf that is shown none descends."""
        leaf = self.leaf(rev)
        if leaf is not None:
            return [leaf]
        found = (one for one in self.leaves if one.leaf.rev.generation > rev.generation)
        return [one for one in found if one.leaf.path.leads_to(rev, one.leaf.rev.generation) or rev in self._older(one)]

    def document(self, rev: Rev | None, options: Options = Options()) -> dict[str, Any]:  # noqa: B008 - a value
        """Return a revision as CouchDB has it, the winner if none is named. Raises CouchError if its value isn't known."""
        if rev is None:
            rev = self.winner.leaf.rev
        leaf = self.leaf(rev)
        other = next((one for one in self._alternatives if one.rev == rev), None) if leaf is None else None
        if leaf is not None:
            value, deleted = self._value(leaf), leaf.leaf.deleted
        elif (derived := self._derived(rev)) is not None:
            value, deleted = whole(derived.text or NO_BODY, self._draft), False
        elif other is not None:
            value, deleted = value_with(other, self._draft, self.winner.text or NO_BODY), False
        else:
            value, deleted = self._past(rev)
        found: dict[str, Any] = {"_id": self.doc_id, "_rev": str(rev)}
        if deleted:
            found["_deleted"] = True
        attachments = value.pop(KEY, None)
        found.update(value)
        if attachments:
            found[KEY] = {
                name: self._attachment(one, rev, options) for name, one in sorted(attachments.items(), key=_attached_at)
            }
        self._add(found, rev, leaf, options)
        return found

    def _add(self, found: dict[str, Any], rev: Rev, leaf: VisibleLeaf | None, options: Options) -> None:
        if options.revs:
            found["_revisions"] = {"start": rev.generation, "ids": [one.digest for one in self.line(rev)]}
        if options.revs_info:
            found["_revs_info"] = [{"rev": str(one), "status": self._status(one)} for one in self.line(rev)]
        others = [one for one in self.leaves if one.leaf.rev != rev]
        if options.conflicts:
            live = [str(one.leaf.rev) for one in others if not one.leaf.deleted]
            live += [str(one.rev) for one in self._alternatives if one.rev != rev]
            found.update({"_conflicts": live} if live else {})
        if options.deleted_conflicts:
            gone = [str(one.leaf.rev) for one in others if one.leaf.deleted]
            found.update({"_deleted_conflicts": gone} if gone else {})
        if options.local_seq:
            found["_local_seq"] = self.seq
        if options.crdt and leaf is not None:
            draft = self._draft if self.state.fields and not leaf.leaf.deleted else None
            found["_crdt"] = kinds_as_json(draft, leaf.text or NO_BODY)

    @cached_property
    def _alternatives(self) -> list[Alternative]:
        """What is kept beside the fields that show. No leaves: replication doesn't list them."""
        if self.deleted or not self.state.fields:
            return []
        bodies = [one.text or NO_BODY for one in self.leaves if not one.leaf.deleted]
        return alternatives(self._draft, bodies[0], bodies)

    def attachments(self, rev: Rev | None) -> dict[str, Any]:
        """Return what is known of a revision's attachments, by their names. Raises CouchError."""
        leaf = self.winner if rev is None else self.leaf(rev)
        if leaf is not None:
            if rev is None and leaf.leaf.deleted:
                raise missing(deleted=True)
            value = load(leaf.text) if leaf.text is not None else {}
        else:
            value, _ = self._past(rev or self.winner.leaf.rev)
        found: dict[str, Any] = value.get(KEY, {})
        return found

    def _derived(self, rev: Rev) -> VisibleLeaf | None:
        """Return the leaf that shows under this rev with edits of fields that came since: as crdtdb's own lists name it."""
        return next((one for one in self.leaves if one.heads and one.rev == rev), None)

    def line(self, rev: Rev) -> list[Rev]:
        """Return a revision and its ancestors, newest first."""
        derived = self._derived(rev)
        if derived is not None:
            return [rev, *self.line(derived.leaf.rev)[1:]]
        leaf = self.leaf(rev)
        if leaf is not None:
            return [*_own_line(leaf), *self._older(leaf)]
        return self._store.live_view().line(self._name, self.doc_id, rev)

    @cached_property
    def _parents(self) -> dict[Rev, Rev]:
        return {child: parent for one in self.leaves for child, parent in pairwise(_own_line(one))}

    def _older(self, leaf: VisibleLeaf) -> list[Rev]:
        """Return what a path lacks that came without its beginning, and another leaf's has; no more than the longest has."""
        own = leaf.leaf.path.all()
        if len(self.leaves) == 1 or len(own) == leaf.leaf.rev.generation - 1:
            return []
        lacking = max(len(one.leaf.path.all()) for one in self.leaves) - len(own)
        found, rev = list[Rev](), _own_line(leaf)[-1]
        while len(found) < lacking and rev in self._parents:
            rev = self._parents[rev]
            found.append(rev)
        return found

    @cached_property
    def _draft(self) -> Any:
        return reading(self.state.fields, self.state.journals, self._store.opener(self._name, self.doc_id))

    def _value(self, leaf: VisibleLeaf) -> dict[str, Any]:
        """Return the whole value of a leaf: what it was when it was published."""
        if leaf.leaf.deleted:
            own = leaf.leaf.body_rev == leaf.leaf.rev and leaf.text is not None
            return load(leaf.text) if own and leaf.text is not None else {}
        text = leaf.text or NO_BODY
        if not self.state.fields:
            plain: dict[str, Any] = load(text)
            return plain
        if leaf.heads:  # a branch that lost, and fields have changed since
            past = self._store.live_view().revision(self._name, self.doc_id, leaf.leaf.rev)
            then = self._store.live_view().value_of(self._name, self.doc_id, past) if past is not None else None
            if then is not None:
                return then
        merged: dict[str, Any] = whole(text, self._draft)
        return merged

    def _past(self, rev: Rev) -> tuple[dict[str, Any], bool]:
        past = self._store.live_view().revision(self._name, self.doc_id, rev)
        if past is None:
            raise missing()
        value = self._store.live_view().value_of(self._name, self.doc_id, past)
        if value is None and not past.deleted:
            raise missing()
        return value or {}, past.deleted

    def _status(self, rev: Rev) -> str:
        leaf = self.leaf(rev)
        if leaf is not None:
            return "deleted" if leaf.leaf.deleted else "available"
        past = self._store.live_view().revision(self._name, self.doc_id, rev)
        if past is not None and past.deleted:
            return "deleted"
        return "available" if past is not None and past.known else "missing"

    def _attachment(self, one: dict[str, Any], rev: Rev, options: Options) -> dict[str, Any]:
        shown = as_read(one, encodings=options.encodings or options.parts)
        since = max((one.generation for one in options.atts_since if one in self.line(rev)), default=-1)
        if not options.attachments or one["revpos"] <= since:
            return {**shown, "stub": True}
        source = source_of(one)
        if options.parts:
            return {**shown, "follows": True, SOURCE: source}
        del shown["length"]
        if options.mark:
            return {**shown, "data": options.mark + source}
        return {**shown, "data": b64encode(b"".join(read_source(self._store, source))).decode()}


SOURCE_CHARACTERS = 65


def _own_line(one: VisibleLeaf) -> list[Rev]:
    """Return a leaf's revision and the ancestors that its path names, newest first."""
    rev = one.leaf.rev
    return [rev, *(Rev(rev.generation - 1 - n, step.digest) for n, step in enumerate(one.leaf.path.all()))]


def source_of(entry: Mapping[str, Any]) -> str:
    """Return what names the content of an attachment, and whether it is compressed, in `SOURCE_CHARACTERS`."""
    return f"{entry['sha256']}{'z' if is_encoded(entry) else '-'}"


def read_source(store: Store, source: str, *, encoded: bool = False) -> Iterator[bytes]:
    """Yield the bytes of an attachment; with `encoded` as they are kept. Raises NotFoundError."""
    pieces = store.attachments.read(bytes.fromhex(source[:-1]))
    return decoded(pieces) if source[-1] == "z" and not encoded else pieces


class Known:
    """Which revisions of a document are here, if only by their names: asked without looking at any body."""

    def __init__(self, store: Store, name: str, doc_id: str) -> None:
        self._store, self._name, self._doc_id = store, name, doc_id
        record = store.read(name, doc_id)
        self._state = record.state if record is not None else NOTHING
        self._shown = view(self._state).leaves
        self._revs = {leaf.rev for leaf in self._state.leaves.values()}
        self._ancestry = Ancestry((leaf.rev, leaf.path, None) for leaf in self._state.leaves.values())

    @property
    def leaves(self) -> list[Rev]:
        """The leaves that clients are told of."""
        return [one.leaf.rev for one in self._shown if not one.leaf.native]

    def __call__(self, rev: Rev) -> bool:
        """Whether a revision is here."""
        if rev in self._revs or rev in self._ancestry:
            return True
        return bool(self._revs) and self._store.live_view().revision(self._name, self._doc_id, rev) is not None


class Trees:
    """The documents of one collection. `may_write` raises if the node can't publish now."""

    def __init__(self, store: Store, name: str, may_write: Callable[[], None] = lambda: None) -> None:
        self.store, self.name, self._may_write = store, name, may_write

    def find(self, doc_id: str) -> Tree | None:
        """Return a document, None if there was never one."""
        found = self._read(doc_id)
        if found is None or self.published(doc_id, *found):
            return Tree(self.store, self.name, doc_id, *found) if found is not None else None
        self.publish([doc_id])
        return self.find(doc_id)

    def at_hand(self, doc_id: str) -> Tree | None:
        """Return a document if that takes microseconds: None if there is none, it must be published first, or has texts."""
        found = self._read(doc_id)
        if found is None or found[0].state.journals or not self.published(doc_id, *found):
            return None
        return Tree(self.store, self.name, doc_id, *found)

    def _read(self, doc_id: str) -> tuple[Record, DocumentView] | None:
        record = self.store.read(self.name, doc_id)
        if record is None or doc_id == SCHEMA_ID:
            return None
        shown = view(record.state)
        return (record, shown) if shown.leaves and shown.complete else None

    def known(self, doc_id: str) -> Known:
        """Return what tells which revisions of a document are here."""
        return Known(self.store, self.name, doc_id)

    def get(self, doc_id: str) -> Tree:
        """Return a document. Raises CouchError if there was never one."""
        found = self.find(doc_id)
        if found is None:
            raise missing()
        return found

    def all(self, first: str, stop: str | None, descending: bool) -> Iterator[Tree]:
        """Yield the documents with `first <= id < stop` that aren't deleted."""
        if self.name not in self.store.root.collections:
            return
        page: list[tuple[str, Record]] = []
        for doc_id, record in self.store.live_view().documents(self.name, first, stop, descending):
            page.append((doc_id, record))
            if len(page) == _PAGE:
                yield from self._living(page)
                page = []
        yield from self._living(page)

    def _living(self, page: list[tuple[str, Record]]) -> Iterator[Tree]:
        for tree in self.trees(page):
            if not tree.deleted:
                yield tree

    def trees(self, page: Iterable[tuple[str, Record]]) -> Iterator[Tree]:
        """Yield documents that were read, after publishing those of them that weren't."""
        read = ((doc_id, record, view(record.state)) for doc_id, record in page if doc_id != SCHEMA_ID)
        seen = [one for one in read if one[2].complete]
        fresh = {doc_id: None for doc_id, record, shown in seen if not self.published(doc_id, record, shown)}
        if fresh:
            self.publish(fresh)
        for doc_id, record, shown in seen:
            if doc_id in fresh:
                again = self.find(doc_id)
                if again is not None:
                    yield again
            elif shown.leaves:
                yield Tree(self.store, self.name, doc_id, record, shown)

    def published(self, doc_id: str, record: Record, shown: DocumentView) -> bool:
        """Whether a document may be shown as it is."""
        return is_published(
            record.state, shown, partial(_has_value, partial(self.store.live_view().revision, self.name, doc_id))
        )

    def publish(self, doc_ids: Iterable[str]) -> None:
        """Publish documents, in one commit. Raises UnavailableError if the node takes no writes yet."""
        self._may_write()

        def work(transaction: Transaction) -> None:
            for doc_id in doc_ids:
                if self.name in transaction.ledger.root.collections:
                    self._publish(transaction, doc_id)

        self.store.submit(work)

    def _publish(self, transaction: Transaction, doc_id: str) -> None:
        """Publish a document, and keep its winner the winner: each write adds one generation to a branch at most."""
        winner = winning(transaction.load(self.name, doc_id).state)
        history = transaction.history(self.name, doc_id)
        written = transaction.write(self.name, doc_id, partial(publish, partial(_has_value, history.past)))
        while winner is not None and written.dot is not None:
            written = transaction.write(self.name, doc_id, partial(lift, winner))


def _has_value(past: Callable[[Rev], Past | None], rev: Rev) -> bool:
    """Whether the whole value of a revision is kept, as its readers were told it."""
    found = past(rev)
    return found is not None and found.known
