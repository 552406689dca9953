"""What a reader gets: documents, siblings, revisions and changes. Values; changing one changes nothing in the store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, KeysView, Mapping
from typing import Any, NamedTuple, Protocol

from crdtdb.canonical_json import canonical, canonical_whole, load
from crdtdb.causality import DotSet
from crdtdb.clock import iso
from crdtdb.crdts import Draft, OpenSequence
from crdtdb.documents import NO_BODY, NOTHING_GIVEN, DocumentView, Given, Rev, Sight, State, VisibleLeaf, view
from crdtdb.documents.alternatives import Alternative, alternatives, conflicts, find_alternative, value_with
from crdtdb.documents.attachments import KEY as ATTACHMENTS
from crdtdb.documents.attachments import check_attachments
from crdtdb.documents.external_revisions import ExternalRevision
from crdtdb.documents.fields import Unread, kinds, overlay, read_all, reading, take_given, values, whole
from crdtdb.documents.stamps import milliseconds
from crdtdb.errors import CrdtdbError, InvalidDocumentError, InvalidIdError, InvalidInputError
from crdtdb.limits import COLLECTION_NAME_BYTES_MAX, DOCUMENT_ID_BYTES_MAX, REVS_LIMIT
from crdtdb.store import Record
from crdtdb.wire.states import Single

_COLLECTION_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*|system\.[a-z]+")
_META = ("_id", "_rev", "_conflicts", "_deleted", "_revisions", "_revs_info", "_crdt")


class _Holding(Protocol):
    """What has a state, and may make it when it is asked for."""

    @property
    def state(self) -> State: ...


class Document(Mapping[str, Any]):
    """A document as one revision has it: a mapping of its plain JSON and of what its fields show, with its names beside it.

    A text or list is opened when it is looked at, and is then what it is by then.
    """

    __slots__ = ("_draft", "_extra", "_held", "_others", "_parsed", "_text", "deleted", "id", "rev")

    def __init__(
        self,
        doc_id: str,
        rev: str,
        text: bytes,
        conflicts: tuple[str, ...],
        deleted: bool,
        held: State | _Holding,
        draft: Draft | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.id, self.rev, self._others, self.deleted = doc_id, rev, conflicts, deleted
        self._text, self._held, self._draft, self._extra = text, held, draft, extra
        self._parsed: dict[str, Any] | None = None

    @property
    def _value(self) -> dict[str, Any]:
        """The value, parsed when somebody looks: who writes seldom reads the answer. Texts in it may be unread."""
        if self._parsed is None:
            self._parsed = load(self._text)
            if self._draft is not None:
                overlay(self._parsed, values(self._draft))
            self._parsed.update(self._extra or {})
        return self._parsed

    @property
    def body(self) -> dict[str, Any]:
        """The value as a dict of the caller's own: what is changed in it changes neither the document nor the store.

        Texts and lists are read at once, as they are by then.
        """
        value: dict[str, Any] = load(self._text) if self._draft is None else whole(self._text, self._draft)
        if self._extra:
            value.update(self._extra)
        return value

    @property
    def fields(self) -> dict[tuple[str, ...], str]:
        """The kinds of the fields by their paths, such as `{("likes",): "counter"}`."""
        return kinds(self._draft) if self._draft is not None else {}

    @property
    def field_conflicts(self) -> tuple[tuple[str, ...], ...]:
        """The paths where two things are kept and one shows: two types of field, say, or a field under a plain value."""
        return tuple(conflicts(self._draft, self._text)) if self._draft is not None else ()

    @property
    def conflicts(self) -> tuple[str, ...]:
        """The revisions of the other siblings, and of what is kept beside the fields that show; empty if all is well."""
        if self._draft is None:
            return self._others
        beside = bodies_of(view(self.state)) if self._others else []
        return (*self._others, *alternative_revs(self._draft, self._text, beside))

    @property
    def state(self) -> State:
        """What the store holds of the document."""
        return self._held if isinstance(self._held, State) else self._held.state

    @property
    def clock(self) -> DotSet:
        """The writes that this document descends from. Compare two with `>=`: neither is, if they are concurrent."""
        return self.state.clock()

    def __getitem__(self, key: str) -> Any:
        value = (self._parsed if self._parsed is not None else self._value)[key]
        if self._draft is not None and isinstance(value, (Unread, dict)):
            value = self._value[key] = read_all(value)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._value)

    def keys(self) -> KeysView[str]:
        """Return the names in it."""
        return self._value.keys()

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Document):
            return (self.id, self.rev, dict(self)) == (other.id, other.rev, dict(other))
        return dict(self) == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        state = ", deleted" if self.deleted else f", {len(self.conflicts)} conflicts" if self.conflicts else ""
        return f"<Document {self.id!r} {self.rev}{state}: {dict(self)!r}>"


class Sibling(NamedTuple):
    """One of the bodies that a document has at the same time.

    `node` is the actor that wrote it, `time` when that was by that node's clock, in milliseconds since 1970. With a `path` it
    is the winner's body, and at that path what is kept beside the field that shows: another type, say. Its time isn't known.
    """

    rev: str
    body: dict[str, Any]
    clock: DotSet
    node: str
    stamp: int
    path: tuple[str, ...] = ()

    @property
    def time(self) -> int:
        """When it was written, in milliseconds since 1970, by the clock of the node that wrote it."""
        return milliseconds(self.stamp)

    def __str__(self) -> str:
        return f"{self.rev} by {self.node[:8]} at {iso(self.time)}: {self.body!r}"


Seen = Document | Sibling | str | Iterable[Document | Sibling | str]
"""What the author of a resolution was shown: a document with its conflicts, siblings, or their revisions."""


class Revision(NamedTuple):
    """One revision in a document's history. `body` is None where its value isn't known, or it was a deletion."""

    rev: str
    parent: str | None
    deleted: bool
    leaf: bool
    time: int
    body: dict[str, Any] | None


class Change(NamedTuple):
    """A row of the changes feed: a document's last change. `seq` is a number of this store alone."""

    seq: int
    id: str
    rev: str
    deleted: bool
    leaves: tuple[str, ...]
    doc: Document


def document_of(
    doc_id: str,
    state: State,
    shown: DocumentView,
    chosen: VisibleLeaf,
    open_sequence: OpenSequence,
    *,
    with_conflicts: bool = False,
    with_fields: bool = False,
) -> Document:
    """Return the document that a leaf shows, its conflicts and the kinds of its fields in it if they are wanted."""
    rev, deleted = chosen.rev, chosen.leaf.deleted
    siblings = shown.siblings
    others: tuple[str, ...] = ()
    if len(siblings) > 1 or (siblings and siblings[0] is not chosen):
        others = tuple(str(one.rev) for one in siblings if one.rev != rev)
    text = NO_BODY if deleted or chosen.text is None else chosen.text
    draft = reading(state.fields, state.journals, open_sequence) if state.fields and not deleted else None
    named = [*others, *alternative_revs(draft, text, bodies_of(shown))] if with_conflicts else []
    extra: dict[str, Any] = {"_conflicts": named} if named else {}
    if with_fields:
        extra["_crdt"] = kinds_as_json(draft, text)
    return Document(doc_id, f"{rev.generation}-{rev.digest}", text, others, deleted, state, draft, extra)


def document_single(doc_id: str, single: Single, record: Record) -> Document:
    """Return a document that is single: what `document_of` returns of its state, which isn't made for that."""
    return Document(doc_id, single.rev, single.text, (), False, record)


def kinds_as_json(draft: Draft | None, text: bytes) -> list[dict[str, Any]]:
    """Return the fields of a document for those who speak JSON: path and type of each, and whether it is a conflict."""
    if draft is None:
        return []
    disputed = set(conflicts(draft, text))
    return [
        {"path": list(path), "type": kind, **({"conflict": True} if path in disputed else {})}
        for path, kind in kinds(draft).items()
    ]


def siblings_of(state: State, shown: DocumentView, open_sequence: OpenSequence) -> Iterator[Sibling]:
    """Yield the siblings, the winner first. What fields show is in all of them: it is the merge, whoever wins."""
    draft = reading(state.fields, state.journals, open_sequence)
    for one in shown.siblings:
        value = whole(one.text or NO_BODY, draft)
        yield Sibling(str(one.rev), value, one.leaf.clock, one.dot.actor.hex(), one.leaf.stamp)


def bodies_of(shown: DocumentView) -> list[bytes]:
    """Return the texts of the siblings' bodies, the winner's first."""
    return [one.text or NO_BODY for one in shown.siblings]


def alternative_revs(draft: Draft | None, text: bytes, beside: Iterable[bytes]) -> tuple[str, ...]:
    """Return the names of what is kept beside the fields that show, and shows in none of the bodies `beside`."""
    return tuple(str(one.rev) for one in alternatives(draft, text, list(beside))) if draft is not None else ()


def alternatives_of(state: State, shown: DocumentView, open_sequence: OpenSequence) -> Iterator[Sibling]:
    """Yield what is kept beside the fields that show: for each the winner's body with it in its place."""
    if not state.fields or shown.deleted:
        return
    winner = shown.siblings[0]
    text, draft = winner.text or NO_BODY, reading(state.fields, state.journals, open_sequence)
    for one in alternatives(draft, text, bodies_of(shown)):
        yield Sibling(
            str(one.rev),
            value_with(one, draft, text),
            DotSet.of(one.dots),
            max(one.dots).actor.hex(),
            winner.leaf.stamp,
            one.path,
        )


def alternative_named(state: State, shown: DocumentView, rev: Rev, open_sequence: OpenSequence) -> Alternative | None:
    """Return what is kept under a name beside the fields that show, None if there is nothing."""
    if not state.fields or shown.deleted:
        return None
    draft = reading(state.fields, state.journals, open_sequence)
    return find_alternative(draft, shown.siblings[0].text or NO_BODY, rev)


def document_with(
    doc_id: str, state: State, shown: DocumentView, other: Alternative, open_sequence: OpenSequence
) -> Document:
    """Return the winner with what is kept beside one of its fields in that one's place."""
    winner = shown.siblings[0]
    text, draft = winner.text or NO_BODY, reading(state.fields, state.journals, open_sequence)
    revs = [*(str(one.rev) for one in shown.siblings), *alternative_revs(draft, text, bodies_of(shown))]
    value = canonical(value_with(other, draft, text))
    return Document(doc_id, str(other.rev), value, tuple(rev for rev in revs if rev != str(other.rev)), False, state)


def check_id(doc_id: object) -> str:
    """Return a document id that is allowed. Raises InvalidIdError, TooLargeError."""
    if type(doc_id) is str and doc_id.isascii() and 0 < len(doc_id) <= DOCUMENT_ID_BYTES_MAX and doc_id[0] != "_":
        return doc_id  # as nearly all are
    if not isinstance(doc_id, str):
        raise InvalidIdError(f"a document id is a string, not {doc_id!r}")
    if not doc_id:
        raise InvalidIdError("a document id can't be empty")
    if doc_id.startswith("_") and (not doc_id.startswith("_design/") or doc_id == "_design/"):
        raise InvalidIdError(f"{doc_id[:80]!r}: ids that begin with '_' are kept for the database, but for '_design/…'")
    try:
        size = len(doc_id.encode())
    except UnicodeEncodeError as error:
        raise InvalidIdError(f"{doc_id[:80]!r} has a lone surrogate, which UTF-8 can't hold") from error
    if size > DOCUMENT_ID_BYTES_MAX:
        raise InvalidIdError(f"the id {doc_id[:40]!r}… has {size} bytes, the limit is {DOCUMENT_ID_BYTES_MAX}")
    return doc_id


def check_name(name: object) -> str:
    """Return a collection name that is allowed. Raises InvalidIdError."""
    if not isinstance(name, str) or not _COLLECTION_NAME.fullmatch(name) or len(name) > COLLECTION_NAME_BYTES_MAX:
        raise InvalidIdError(
            f"{str(name)[:80]!r} can't be the name of a collection: it begins with a-z, goes on with a-z, 0-9 and _$()+-/, "
            f"and has at most {COLLECTION_NAME_BYTES_MAX} characters"
        )
    return name


def check_whole(body: object) -> tuple[bytes, Given]:
    """Return the canonical text of a whole document, and the values of field types that stood in it.

    Raises InvalidDocumentError, TooLargeError.
    """
    try:
        return check_body(body), NOTHING_GIVEN
    except InvalidDocumentError:
        if not isinstance(body, Mapping):
            raise
        rest, given = take_given(body)
        if not given:
            raise
    return check_body(rest), given


def check_body(body: object) -> bytes:
    """Return the canonical text of a body without its `_`-names, but with attachments that were read with it.

    Raises InvalidDocumentError, TooLargeError.
    """
    if type(body) is dict:
        text = canonical_whole(body)
        if b'"_' not in text:
            return text  # no name in it begins so
    elif not isinstance(body, Mapping):
        raise InvalidDocumentError(f"a document is an object (a dict), not {type(body).__name__}")
    reserved = [key for key in body if isinstance(key, str) and key[:1] == "_" and key != ATTACHMENTS]
    if ATTACHMENTS in body:
        check_attachments(body[ATTACHMENTS])
    for key in reserved:
        if key not in _META:
            raise InvalidDocumentError(f"{key[:80]!r}: names that begin with '_' are kept for the database")
    if reserved or type(body) is not dict:
        return canonical_whole({key: value for key, value in body.items() if key not in reserved})
    return canonical_whole(body)


def check_rev(rev: object) -> Rev | None:
    """Return a revision that was given, None for none. Raises InvalidRevError."""
    return None if rev is None else Rev.parse(rev)  # type: ignore[arg-type]


def check_seen(doc_id: str, seen: Seen) -> Sight:
    """Return what the author of a resolution was shown. Raises InvalidInputError, InvalidRevError."""
    shown = [seen] if isinstance(seen, Document | Sibling | str) else list(seen)
    revs: list[str] = []
    for one in shown:
        if isinstance(one, Document) and one.id != doc_id:
            raise InvalidInputError(f"document {doc_id!r} is to be resolved, and what was seen is document {one.id!r}")
        revs += (
            (one.rev, *one.conflicts) if isinstance(one, Document) else [one.rev if isinstance(one, Sibling) else one]
        )
    if not revs:
        raise InvalidInputError(f"document {doc_id!r}: `seen` names no revision, so there is nothing to replace")
    read = next((one for one in shown if not isinstance(one, str)), None)
    return Sight(tuple(Rev.parse(one) for one in dict.fromkeys(revs)), lambda: read.body if read is not None else None)


def foreign_of(body: Mapping[str, Any]) -> tuple[str, ExternalRevision] | CrdtdbError:
    """Return the id of a revision made elsewhere, and the revision; or the error that refuses it."""
    try:
        if not isinstance(body, Mapping):
            raise InvalidInputError(f"a document is an object (a dict), not {type(body).__name__}")
        doc_id, rev = check_id(body.get("_id")), check_rev(body.get("_rev"))
        if rev is None:
            raise InvalidInputError(f"document {doc_id!r} comes without its _rev")
        text, deleted = check_body(body), bool(body.get("_deleted"))
        return doc_id, ExternalRevision(
            rev, _ancestors_in(body.get("_revisions"), rev), text if not deleted else None, deleted
        )
    except CrdtdbError as error:
        return error


def _ancestors_in(revisions: object, rev: Rev) -> list[str]:
    """Read CouchDB's `_revisions`: the digests from the revision's own on, newest first."""
    if revisions is None:
        return []
    if not isinstance(revisions, Mapping):
        raise InvalidInputError("_revisions is an object with `start` and `ids`")
    start, ids = revisions.get("start"), revisions.get("ids")
    texts = isinstance(ids, list) and all(isinstance(one, str) for one in ids)
    if start != rev.generation or not texts or not ids or ids[0] != rev.digest or len(ids) > start:
        raise InvalidInputError(
            f"_revisions doesn't lead to {rev}: it has `start` {start} and `ids` that begin elsewhere"
        )
    return [Rev.parse(f"{start - n}-{digest}").digest for n, digest in enumerate(ids[1 : REVS_LIMIT + 1], 1)]
