"""Reads documents from the rows of the store: by id, by range of ids, by revision, as siblings, as history.

The one place where a row becomes a `Document`. A document shows fewer or more values than one author wrote, since edits of
fields merge into every sibling; that has a revision of its own (see `VisibleLeaf.rev`). The revision of a write stays the name
of the written value: the store keeps the value of a leaf when the leaf begins to show another, and when it is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from msgspec.structs import replace

from crdtdb.canonical_json import merged_text
from crdtdb.causality import DotSet
from crdtdb.crdts import Draft, OpenSequence, open_at_hand
from crdtdb.database.document import Document, Revision, Sibling, alternative_revs, bodies_of
from crdtdb.documents import NO_BODY, DocumentView, Rev, State, VisibleLeaf, view
from crdtdb.documents.alternatives import Alternative, alternatives, conflicts, find_alternative, value_with
from crdtdb.documents.fields import kinds, reading, whole
from crdtdb.documents.schema import SCHEMA_ID
from crdtdb.documents.stamps import milliseconds
from crdtdb.errors import NotFoundError
from crdtdb.store import Past, Record, Store, Written


class IdRange(NamedTuple):
    """The ids from `start` to `end`, in the order of the rows that are read: `descending` begins at the highest."""

    start: str | None = None
    end: str | None = None
    descending: bool = False
    inclusive_end: bool = True

    def bounds(self) -> tuple[str, str | None]:
        """Return the lowest id, and the first one above the highest; None if there is no bound."""
        low, high = (self.end, self.start) if self.descending else (self.start, self.end)
        # The range is half open: an id's own successor is the id with a NUL behind it.
        high_in = self.inclusive_end or self.descending
        low_in = self.inclusive_end or not self.descending
        first = "" if low is None else low if low_in else low + "\0"
        return first, None if high is None else high + "\0" if high_in else high


class DocumentReader:
    """Reads the documents of one collection. It keeps no state: as many as one likes may read at the same time."""

    __slots__ = ("_name", "_store")

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name

    # Documents

    def get(self, doc_id: str, rev: Rev | None = None, conflicts: bool = False, crdt: bool = False) -> Document:
        """Return a document: the winner, or the revision `rev`. `conflicts` and `crdt` as in `Collection.get`.

        Raises NotFoundError if there is no live document, or the value of `rev` isn't kept here.
        """
        record = self._store.read(self._name, doc_id)
        if record is None:
            raise NotFoundError(f"there is no document {doc_id!r} in {self._name!r}")
        if record.single is not None and rev is None and not crdt:
            return Document(doc_id, record.single.rev, record.single.text, (), False, record)
        shown = view(record.state)
        if rev is not None:
            return self._revision(doc_id, record.state, shown, rev, conflicts, crdt)
        if shown.deleted:
            raise NotFoundError(f"document {doc_id!r} in {self._name!r} is deleted", deleted=bool(shown.leaves))
        return self._of_leaf(doc_id, record.state, shown, shown.siblings[0], conflicts, crdt)

    def find(self, doc_id: str) -> Document | None:
        """Return a document, None if there is no live one."""
        record = self._store.read(self._name, doc_id)
        return self.live(doc_id, record) if record is not None else None

    def live(self, doc_id: str, record: Record) -> Document | None:
        """Return the document in a row, None if it is deleted."""
        if record.single is not None:
            return Document(doc_id, record.single.rev, record.single.text, (), False, record)
        shown = view(record.state)
        return None if shown.deleted else self._of_leaf(doc_id, record.state, shown, shown.siblings[0])

    def latest(self, doc_id: str, record: Record, shown: DocumentView | None = None) -> Document | None:
        """Return the document in a row, or the tombstone of a deleted one; None if the row shows neither.

        `shown` is the view of the row's state, if the caller has it.
        """
        if record.single is not None:
            return Document(doc_id, record.single.rev, record.single.text, (), False, record)
        shown = view(record.state) if shown is None else shown
        return self._of_leaf(doc_id, record.state, shown, shown.winner) if shown.winner is not None else None

    def range(self, ids: IdRange) -> Iterator[Document]:
        """Yield the live documents of a range of ids, without the schema."""
        if self._name not in self._store.root.names:
            return
        for doc_id, record in self._store.live_view().documents(self._name, *ids.bounds(), ids.descending):
            if doc_id != SCHEMA_ID:
                document = self.live(doc_id, record)
                if document is not None:
                    yield document

    def written(self, doc_id: str, written: Written) -> Document:
        """Return the document as a write left it: the leaf that it wrote, the winner if it wrote none."""
        record = written.record
        single = record.single
        if single is not None:
            return Document(doc_id, single.rev, single.text, (), False, record)
        state, dot = written.state, written.dot
        shown = view(state)
        if dot is None:
            leaf: VisibleLeaf | None = shown.siblings[0]
        else:
            leaf = shown.leaves[0] if len(shown.leaves) == 1 else shown.leaf(state.leaves[dot].rev)
        assert leaf is not None
        return self._of_leaf(doc_id, _without_updates(state), shown, leaf)

    def opener(self, doc_id: str, state: State) -> OpenSequence:
        """Return the function that opens the texts and lists of a document on access."""
        return self._store.opener(self._name, doc_id) if state.journals else open_at_hand

    def _of_leaf(
        self,
        doc_id: str,
        state: State,
        shown: DocumentView,
        leaf: VisibleLeaf,
        conflicts: bool = False,
        crdt: bool = False,
    ) -> Document:
        """Return the document that a leaf shows; with its conflicts and the types of its fields in it, if asked to."""
        rev, deleted, siblings = leaf.rev, leaf.leaf.deleted, shown.siblings
        others: tuple[str, ...] = ()
        if len(siblings) > 1 or (siblings and siblings[0] is not leaf):
            others = tuple(str(sibling.rev) for sibling in siblings if sibling.rev != rev)
        text = NO_BODY if deleted or leaf.text is None else leaf.text
        draft = None
        if state.fields and not deleted:
            draft = reading(state.fields, state.journals, self.opener(doc_id, state))
        named = [*others, *alternative_revs(draft, text, bodies_of(shown))] if conflicts else []
        extra: dict[str, Any] = {"_conflicts": named} if named else {}
        if crdt:
            extra["_crdt"] = kinds_as_json(draft, text)
        return Document(doc_id, f"{rev.generation}-{rev.digest}", text, others, deleted, state, draft, extra)

    # Revisions

    def _revision(
        self, doc_id: str, state: State, shown: DocumentView, rev: Rev, conflicts: bool, crdt: bool
    ) -> Document:
        """Return one revision of a document. Raises NotFoundError if its value isn't known."""
        leaf, own = shown.find(rev), shown.leaf(rev)
        if leaf is None and own is not None and own.leaf.deleted:
            leaf = own
        if leaf is not None and (leaf.text is not None or leaf.leaf.deleted):
            return self._of_leaf(doc_id, state, shown, leaf, conflicts, crdt)
        hidden = self._alternative(doc_id, state, shown, rev)
        if hidden is not None:
            return hidden
        past = self._store.live_view().revision(self._name, doc_id, rev)
        value = self._store.live_view().value_of(self._name, doc_id, past) if past is not None else None
        if past is not None and (value is not None or past.deleted):
            return Document(doc_id, str(rev), merged_text(value or {}), (), past.deleted, state)
        if own is not None and own.rev != rev:
            why = f"isn't kept here: with edits of fields that its author hadn't seen it shows as {own.rev}"
        else:
            why = "isn't kept here" if past is not None or own is not None else "isn't known"
        raise NotFoundError(f"document {doc_id!r} in {self._name!r}: the value of revision {rev} {why}")

    def _alternative(self, doc_id: str, state: State, shown: DocumentView, rev: Rev) -> Document | None:
        """Return the winner with the value that a field hides under the revision `rev`, None if no field does."""
        if not state.fields or shown.deleted:
            return None
        text = shown.siblings[0].text or NO_BODY
        draft = reading(state.fields, state.journals, self.opener(doc_id, state))
        hidden = find_alternative(draft, text, rev)
        if hidden is None:
            return None
        revs = [*(str(sibling.rev) for sibling in shown.siblings), *alternative_revs(draft, text, bodies_of(shown))]
        others = tuple(other for other in revs if other != str(hidden.rev))
        return Document(doc_id, str(hidden.rev), merged_text(value_with(hidden, draft, text)), others, False, state)

    def revisions(self, doc_id: str) -> Iterator[Revision]:
        """Yield every revision of a document that is known, newest first: leaves, replaced ones, names of ancestors.

        Each is read when it is yielded: together they may exceed the memory. A revision that the collector removes meanwhile is
        left out. Raises NotFoundError at the first step if there was never such a document.
        """
        record = self._store.read(self._name, doc_id)
        if record is None:
            raise NotFoundError(f"there is no document {doc_id!r} in {self._name!r}")
        shown = view(record.state)
        draft = reading(record.state.fields, record.state.journals, self.opener(doc_id, record.state))
        visible: dict[Rev, VisibleLeaf] = {}
        for leaf in (*shown.siblings, *shown.leaves):
            visible.setdefault(leaf.rev, leaf)
        own = {leaf.leaf.rev: leaf for leaf in shown.leaves}
        replaced = {past.rev for past in self._store.live_view().past(self._name, doc_id)}
        for rev in sorted(visible.keys() | own.keys() | replaced, reverse=True):
            before = self._replaced(doc_id, rev) if rev in replaced else None
            if rev in visible:
                yield _as_it_shows(visible[rev], draft, before)
            elif before is not None:
                yield before
            elif rev in own:
                yield _described(rev, own[rev], leaf=False, body=None)

    def _replaced(self, doc_id: str, rev: Rev) -> Revision | None:
        past = self._store.live_view().revision(self._name, doc_id, rev)
        return (
            _as_it_was(past, self._store.live_view().value_of(self._name, doc_id, past)) if past is not None else None
        )

    def common_ancestor(self, doc_id: str, siblings: Iterable[VisibleLeaf]) -> dict[str, Any] | None:
        """Return the body of the newest revision from which all siblings descend, None if it isn't kept."""
        paths = []
        for sibling in siblings:
            rev = sibling.leaf.rev
            steps = {Rev(rev.generation - 1 - n, step.digest) for n, step in enumerate(sibling.leaf.path.all())}
            paths.append({rev, *steps})
        common = set.intersection(*paths)
        past = self._store.live_view().revision(self._name, doc_id, max(common)) if common else None
        return self._store.live_view().body_of(self._name, doc_id, past) if past is not None else None

    # Siblings

    def siblings(self, doc_id: str) -> Iterator[Sibling]:
        """Yield the bodies of a document, the winner first, and then the values that its fields hide.

        Each is read when it is yielded: together they may exceed the memory. Raises NotFoundError at the first step if there
        is no live document.
        """
        record = self._store.read(self._name, doc_id)
        shown = view(record.state) if record is not None else None
        if record is None or shown is None or shown.deleted:
            raise NotFoundError(f"there is no document {doc_id!r} in {self._name!r}", deleted=record is not None)
        yield from self.bodies(doc_id, record.state, shown)
        if record.state.fields:
            yield from self._hidden(doc_id, record.state, shown)

    def bodies(self, doc_id: str, state: State, shown: DocumentView) -> Iterator[Sibling]:
        """Yield the bodies of a document, the winner first. Each has the merged values of the fields."""
        draft = reading(state.fields, state.journals, self.opener(doc_id, state))
        for leaf in shown.siblings:
            value = whole(leaf.text or NO_BODY, draft)
            yield Sibling(str(leaf.rev), value, leaf.leaf.clock, leaf.dot.actor.hex(), leaf.leaf.stamp)

    def _hidden(self, doc_id: str, state: State, shown: DocumentView) -> Iterator[Sibling]:
        """Yield the winner's body once for each value that a field hides, with that in the place of the field's."""
        winner = shown.siblings[0]
        text, draft = winner.text or NO_BODY, reading(state.fields, state.journals, self.opener(doc_id, state))
        for hidden in alternatives(draft, text, bodies_of(shown)):
            yield _hidden_sibling(hidden, draft, text, winner.leaf.stamp)


def kinds_as_json(draft: Draft | None, text: bytes) -> list[dict[str, Any]]:
    """Return the fields of a document as JSON has them: path and type of each, and whether it is a conflict."""
    if draft is None:
        return []
    disputed = set(conflicts(draft, text))
    return [
        {"path": list(path), "type": kind, **({"conflict": True} if path in disputed else {})}
        for path, kind in kinds(draft).items()
    ]


def _hidden_sibling(hidden: Alternative, draft: Draft, text: bytes, stamp: int) -> Sibling:
    clock, actor = DotSet.of(hidden.dots), max(hidden.dots).actor.hex()
    return Sibling(str(hidden.rev), value_with(hidden, draft, text), clock, actor, stamp, hidden.path)


def _as_it_shows(leaf: VisibleLeaf, draft: Draft, before: Revision | None) -> Revision:
    """Return a leaf as a revision; with the value `before` it was replaced, if it shows none by itself: its branch lost."""
    readable = leaf.text is not None and not leaf.leaf.deleted
    body = whole(leaf.text or NO_BODY, draft) if readable else None
    if body is None and before is not None and not leaf.leaf.deleted:
        body = before.body
    return _described(leaf.rev, leaf, leaf=True, body=body)


def _described(rev: Rev, shown: VisibleLeaf, *, leaf: bool, body: dict[str, Any] | None) -> Revision:
    parent = shown.leaf.path.parent
    above = str(Rev(rev.generation - 1, parent.digest)) if parent is not None else None
    return Revision(str(rev), above, shown.leaf.deleted, leaf, milliseconds(shown.leaf.stamp), body)


def _as_it_was(past: Past, body: dict[str, Any] | None) -> Revision:
    above = str(Rev(past.rev.generation - 1, past.parent.digest)) if past.parent is not None else None
    return Revision(str(past.rev), above, past.deleted, False, milliseconds(past.stamp), body)


def _without_updates(state: State) -> State:
    """Return a state without the updates of its journals: they are read from the store."""
    if not state.journals:
        return state
    return replace(
        state,
        journals={place: journal._replace(updates={}, snapshots=()) for place, journal in state.journals.items()},
    )
