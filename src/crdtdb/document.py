"""What a reader gets: documents, siblings, revisions and changes. Values; changing one changes nothing in the store."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from crdtdb.causality import DotSet
from crdtdb.documents import NO_BODY, Rev, Shown, State, View
from crdtdb.documents.json import canonical, load
from crdtdb.documents.stamps import milliseconds
from crdtdb.errors import InvalidDocumentError, InvalidIdError
from crdtdb.limits import COLLECTION_NAME_BYTES_MAX, DOCUMENT_ID_BYTES_MAX
from crdtdb.wallclock import iso

_COLLECTION_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*")
_META = ("_id", "_rev", "_conflicts", "_deleted", "_revisions", "_revs_info")


class Document(Mapping[str, Any]):
    """A document as one revision has it: a mapping of its plain JSON, with its names beside it."""

    __slots__ = ("_parsed", "_state", "_text", "conflicts", "deleted", "id", "rev")

    def __init__(
        self, doc_id: str, rev: str, text: bytes, conflicts: tuple[str, ...], deleted: bool, state: State
    ) -> None:
        self.id, self.rev, self.conflicts, self.deleted = doc_id, rev, conflicts, deleted
        self._text, self._state = text, state
        self._parsed: dict[str, Any] | None = None

    @property
    def _body(self) -> dict[str, Any]:
        """The body, parsed when somebody looks: who writes seldom reads the answer."""
        if self._parsed is None:
            self._parsed = load(self._text)
        return self._parsed

    @property
    def clock(self) -> DotSet:
        """The writes that this document descends from. Compare two with `>=`: neither is, if they are concurrent."""
        return self._state.clock()

    def __getitem__(self, key: str) -> Any:
        return self._body[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._body)

    def __len__(self) -> int:
        return len(self._body)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Document):
            return (self.id, self.rev, self._body) == (other.id, other.rev, other._body)
        return self._body == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        state = ", deleted" if self.deleted else f", {len(self.conflicts)} conflicts" if self.conflicts else ""
        return f"<Document {self.id!r} {self.rev}{state}: {self._body!r}>"


class Sibling(NamedTuple):
    """One of the bodies that a document has at the same time.

    `node` is the actor that wrote it, `time` when that was by that node's clock, in milliseconds since 1970.
    """

    rev: str
    body: dict[str, Any]
    clock: DotSet
    node: str
    stamp: int

    @property
    def time(self) -> int:
        """When it was written, in milliseconds since 1970, by the clock of the node that wrote it."""
        return milliseconds(self.stamp)

    def __str__(self) -> str:
        return f"{self.rev} by {self.node[:8]} at {iso(self.time)}: {self.body!r}"


class Revision(NamedTuple):
    """One revision in a document's history. `body` is None where only its name is known, or it was a deletion."""

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


def document_of(doc_id: str, state: State, shown: View, chosen: Shown, *, with_conflicts: bool = False) -> Document:
    """Return the document that a leaf shows."""
    rev, deleted = chosen.leaf.rev, chosen.leaf.deleted
    siblings = shown.siblings
    others: tuple[str, ...] = ()
    if len(siblings) > 1 or (siblings and siblings[0] is not chosen):
        others = tuple(str(one.rev) for one in siblings if one.rev != rev)
    text = NO_BODY if deleted or chosen.text is None else chosen.text
    if with_conflicts and others:
        text = canonical({**load(text), "_conflicts": others})
    return Document(doc_id, f"{rev.generation}-{rev.digest}", text, others, deleted, state)


def siblings_of(shown: View) -> list[Sibling]:
    """Return the siblings, the winner first."""
    return [
        Sibling(str(one.rev), load(one.text or NO_BODY), one.leaf.clock, one.dot.actor.hex(), one.leaf.stamp)
        for one in shown.siblings
    ]


def check_id(doc_id: object) -> str:
    """Return a document id that is allowed. Raises InvalidIdError, TooLargeError."""
    if not isinstance(doc_id, str):
        raise InvalidIdError(f"a document id is a string, not {doc_id!r}")
    if not doc_id:
        raise InvalidIdError("a document id can't be empty")
    if doc_id.startswith("_"):
        raise InvalidIdError(f"{doc_id[:80]!r}: ids that begin with '_' are kept for the database")
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


def check_body(body: object) -> bytes:
    """Return the canonical text of a body without its `_`-names. Raises InvalidDocumentError, TooLargeError."""
    if type(body) is not dict and not isinstance(body, Mapping):
        raise InvalidDocumentError(f"a document is an object (a dict), not {type(body).__name__}")
    reserved = [key for key in body if isinstance(key, str) and key[:1] == "_"]
    for key in reserved:
        if key not in _META:
            raise InvalidDocumentError(f"{key[:80]!r}: names that begin with '_' are kept for the database")
    if reserved or type(body) is not dict:
        return canonical({key: value for key, value in body.items() if key not in reserved})
    return canonical(body)


def check_rev(rev: object) -> Rev | None:
    """Return a revision that was given, None for none. Raises InvalidRevError."""
    return None if rev is None else Rev.parse(rev)  # type: ignore[arg-type]
