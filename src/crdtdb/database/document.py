"""Values that reads return: documents, siblings, revisions and changes. Changing one changes nothing in the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, KeysView, Mapping
from typing import Any, NamedTuple, Protocol

from crdtdb.canonical_json import load
from crdtdb.causality import DotSet
from crdtdb.clock import iso
from crdtdb.crdts import Draft
from crdtdb.documents import NO_BODY, DocumentView, State, view
from crdtdb.documents.alternatives import alternatives, conflicts
from crdtdb.documents.fields import Unread, kinds, overlay, read_all, values, whole
from crdtdb.documents.stamps import milliseconds


class _StateSource(Protocol):
    """An object with a state, which it may decode on first access."""

    @property
    def state(self) -> State: ...


class Document(Mapping[str, Any]):
    """A revision of a document: a mapping of its JSON values and the values of its fields; `id` and `rev` are attributes.

    A text or list is read on first access, in the state that it has at that time.
    """

    __slots__ = ("_draft", "_extra", "_others", "_parsed", "_source", "_text", "deleted", "id", "rev")

    def __init__(
        self,
        doc_id: str,
        rev: str,
        text: bytes,
        conflicts: tuple[str, ...],
        deleted: bool,
        source: State | _StateSource,
        draft: Draft | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.id, self.rev, self._others, self.deleted = doc_id, rev, conflicts, deleted
        self._text, self._source, self._draft, self._extra = text, source, draft, extra
        self._parsed: dict[str, Any] | None = None

    @property
    def _value(self) -> dict[str, Any]:
        """The value, parsed on first access: callers that write seldom read the result. Texts in it may be unread."""
        if self._parsed is None:
            self._parsed = load(self._text)
            if self._draft is not None:
                overlay(self._parsed, values(self._draft))
            self._parsed.update(self._extra or {})
        return self._parsed

    @property
    def body(self) -> dict[str, Any]:
        """A copy of the value as a dict: changing it changes neither the document nor the store.

        Texts and lists are read at once, in the state that they have now.
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
        """The paths of fields with a conflict: of two types, for example, or a field under a plain value. One of both shows."""
        return tuple(conflicts(self._draft, self._text)) if self._draft is not None else ()

    @property
    def conflicts(self) -> tuple[str, ...]:
        """The revisions of the other siblings, and of the values that fields hide; empty if there is no conflict."""
        if self._draft is None:
            return self._others
        bodies = bodies_of(view(self.state)) if self._others else []
        return (*self._others, *alternative_revs(self._draft, self._text, bodies))

    @property
    def state(self) -> State:
        """The replicated state of the document, as the store keeps it."""
        return self._source if isinstance(self._source, State) else self._source.state

    @property
    def clock(self) -> DotSet:
        """The writes that this document descends from. Compare two with `>=`: neither holds if they are concurrent."""
        return self.state.clock()

    def __getitem__(self, key: str) -> Any:
        value = (self._parsed if self._parsed is not None else self._value)[key]
        if self._draft is not None and isinstance(value, (Unread, dict)):
            value = self._value[key] = read_all(value)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._value)

    def keys(self) -> KeysView[str]:
        """Return the names of its members."""
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
    """One of the concurrent bodies of a document.

    `node` is the actor that wrote it, in hexadecimal, `time` the time of the write by that node's clock, in milliseconds since
    1970. With a `path` it is the winner's body with the value that the field at that path hides, another type for example; the
    time of that isn't known.
    """

    rev: str
    body: dict[str, Any]
    clock: DotSet
    node: str
    stamp: int
    path: tuple[str, ...] = ()

    @property
    def time(self) -> int:
        """The time of the write, in milliseconds since 1970, by the clock of the node that wrote it."""
        return milliseconds(self.stamp)

    def __str__(self) -> str:
        return f"{self.rev} by {self.node[:8]} at {iso(self.time)}: {self.body!r}"


Seen = Document | Sibling | str | Iterable[Document | Sibling | str]
"""What the author of a resolution has read: a document with its conflicts, siblings, or their revisions."""


class Revision(NamedTuple):
    """One revision in the history of a document. `body` is None if its value isn't known, or it is a deletion."""

    rev: str
    parent: str | None
    deleted: bool
    leaf: bool
    time: int
    body: dict[str, Any] | None


class Change(NamedTuple):
    """A row of the changes feed: the last change of a document. `seq` is a local number: other stores have others."""

    seq: int
    id: str
    rev: str
    deleted: bool
    leaves: tuple[str, ...]
    doc: Document


def bodies_of(shown: DocumentView) -> list[bytes]:
    """Return the texts of the siblings' bodies, the winner's first."""
    return [sibling.text or NO_BODY for sibling in shown.siblings]


def alternative_revs(draft: Draft | None, text: bytes, bodies: Iterable[bytes]) -> tuple[str, ...]:
    """Return the revisions of the values that fields hide, except those that one of the `bodies` shows."""
    return tuple(str(hidden.rev) for hidden in alternatives(draft, text, list(bodies))) if draft is not None else ()
