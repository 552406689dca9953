"""Index rows in value order, written in the same commit as the documents.

A document's entries have the keys of its winner's value, and one row of the document lists its entries: so a change finds them
without the old value or the old definition of the index. A new index is built in slices while writes continue: each write
updates its own document's entries from the first moment, and the builder adds every older document.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from crdtdb.backends import Reader
from crdtdb.canonical_json import load
from crdtdb.crdts import OpenSequence
from crdtdb.documents import NO_BODY, State, VisibleLeaf, view
from crdtdb.documents.fields import overlay, reading, values
from crdtdb.query.definitions import DESIGN, IndexDefinition, check_definition, read_definitions
from crdtdb.store.layout import keys
from crdtdb.store.layout.batch import RowBatch
from crdtdb.store.layout.records import Record
from crdtdb.store.layout.rows import decode_row, encode_row
from crdtdb.store.layout.view_rows import views_of

_SLICE_DOCUMENTS = 100
_SLICE_ROWS = 1_000


class Index(Struct, frozen=True, gc=False):
    """An index of one collection. `cursor` is the id from which on it is still to be built; None once it is whole."""

    number: int
    collection: int
    definition: IndexDefinition
    cursor: bytes | None = b""

    def row(self) -> bytes:
        """Return what is kept of it."""
        one = self.definition
        return encode_row([one.ddoc, one.name, one.json(), self.cursor])


Indexes = Mapping[int, tuple[Index, ...]]
"""By the numbers of their collections."""


def read_indexes(rows: Reader) -> Indexes:
    """Read which indexes a store has."""
    found: dict[int, tuple[Index, ...]] = {}
    for key, value in rows.scan(*keys.rest(b"i")):
        collection, number = int.from_bytes(key[1:5], "big"), int.from_bytes(key[5:], "big")
        ddoc, name, definition, cursor = decode_row(value)
        index = Index(number, collection, check_definition(definition, ddoc, name), cursor)
        found[collection] = (*found.get(collection, ()), index)
    return found


def shown(doc_id: str, record: Record, open_sequence: OpenSequence) -> dict[str, Any] | None:
    """Return what a document shows, with `_id` and `_rev`, None if it is deleted. Texts are read when they are looked at."""
    if record.single is not None:
        return {**load(record.single.text), "_id": doc_id, "_rev": record.single.rev}
    state = record.state
    seen = view(state)
    if seen.deleted:
        return None
    return shown_leaf(doc_id, state, seen.siblings[0], open_sequence)


def shown_leaf(doc_id: str, state: State, leaf: VisibleLeaf, open_sequence: OpenSequence) -> dict[str, Any]:
    """Return what one leaf of a document shows, as `shown` does; a deleted one with `_deleted`."""
    named = {"_id": doc_id, "_rev": str(leaf.rev)}
    body: dict[str, Any] = load(leaf.text or NO_BODY)
    if leaf.leaf.deleted:
        return {**body, **named, "_deleted": True}
    if state.fields:
        overlay(body, values(reading(state.fields, state.journals, open_sequence)))
    return {**body, **named}


def is_indexed(doc_id: str) -> bool:
    """Whether a document may stand in an index: those of the database itself, and of designs, don't."""
    return not doc_id.startswith("_")


class Indexing:
    """What one commit does to indexes, in its rows.

    Each call is given these: they belong to the transaction that has this, and two that have each other outlive their commit.
    """

    def __init__(self, indexes: Indexes) -> None:
        self.indexes = indexes
        self.dropped: list[int] = []
        """The numbers of indexes whose rows are to be removed."""

    def redefine(
        self,
        batch: RowBatch,
        collection: int,
        ddoc: str,
        body: Mapping[str, Any] | None,
        next_number: Callable[[], int],
    ) -> None:
        """Take over what a design document defines now: indexes that are new are to be built, those that went are dropped."""
        wanted = {_identity(one): one for one in (read_definitions(ddoc, body) if body is not None else ())}
        kept = []
        for index in self.indexes.get(collection, ()):
            if index.definition.ddoc != ddoc or wanted.pop(_identity(index.definition), None) is not None:
                kept.append(index)
            else:
                self._drop(batch, index)
        for definition in wanted.values():
            index = Index(next_number(), collection, definition)
            batch.changes[keys.index(collection, index.number)] = index.row()
            kept.append(index)
        self._set(collection, kept)

    def drop_all(self, batch: RowBatch, collection: int) -> None:
        """Drop the indexes of a collection that is dropped."""
        for index in self.indexes.get(collection, ()):
            self._drop(batch, index)
        self._set(collection, ())
        self.drop_views(batch, collection, ())

    def drop_views(self, batch: RowBatch, collection: int, keep: Collection[bytes]) -> None:
        """Drop the views of a collection, but for those of these signatures."""
        for signature, view_state in list(views_of(batch.committed, collection)):
            if signature not in keep:
                batch.changes[keys.view(collection, signature)] = None
                batch.changes[keys.leftover(view_state.number)] = b""
                self.dropped.append(view_state.number)

    def _drop(self, batch: RowBatch, index: Index) -> None:
        batch.changes[keys.index(index.collection, index.number)] = None
        batch.changes[keys.leftover(index.number)] = b""
        self.dropped.append(index.number)

    def _set(self, collection: int, indexes: Iterable[Index]) -> None:
        self.indexes = {**self.indexes, collection: tuple(indexes)}

    def enter(self, batch: RowBatch, collection: int, raw: bytes, document: Mapping[str, Any] | None) -> None:
        """Put a document's entries in the place of those it had; None for one that shows nothing."""
        for index in self.indexes.get(collection, ()):
            self._enter(batch, index, raw, document)

    def _enter(self, batch: RowBatch, index: Index, raw: bytes, document: Mapping[str, Any] | None) -> None:
        key = index.definition.key(document) if document is not None else None
        place = keys.entered(index.number, raw)
        value = batch.get(place)
        before: list[bytes] = decode_row(value) if value is not None else []
        after = [key] if key is not None else []
        if before == after:
            return
        for one in before:
            batch.changes[keys.entry(index.number, one, raw)] = None
        for one in after:
            batch.changes[keys.entry(index.number, one, raw)] = b""
        batch.changes[place] = encode_row(after) if after else None

    def build(self, batch: RowBatch, index: Index, documents: Iterable[tuple[bytes, Mapping[str, Any] | None]]) -> None:
        """Enter the documents of a slice, given in the order of their ids, and take note of how far the index has come."""
        last, seen = b"", 0
        for raw, document in documents:
            self._enter(batch, index, raw, document)
            last, seen = raw, seen + 1
        further = replace(index, cursor=last + b"\0" if seen == _SLICE_DOCUMENTS else None)
        batch.changes[keys.index(index.collection, index.number)] = further.row()
        self._set(
            index.collection, [further if one.number == index.number else one for one in self.indexes[index.collection]]
        )


def _identity(one: IndexDefinition) -> tuple[object, ...]:
    return one.name, repr(one.json())


def slice_of(rows: Reader, index: Index) -> Iterator[bytes]:
    """Yield the ids of the documents that are to be entered next."""
    assert index.cursor is not None
    start, stop = keys.document(index.collection, index.cursor), keys.after(keys.document(index.collection, b""))
    return islice((key[5:] for key, _ in rows.scan(start, stop)), _SLICE_DOCUMENTS)


def pending_drops(rows: Reader) -> list[int]:
    """Return the numbers of the indexes whose rows wait to be removed."""
    return [int.from_bytes(key[1:], "big") for key, _ in rows.scan(*keys.rest(b"X"))]


def drop_slice(batch: RowBatch, rows: Reader, number: int) -> bool:
    """Remove some rows of an index that was dropped; return whether all are gone."""
    left = _SLICE_ROWS
    for beginning in (keys.entries(number), keys.entered(number, b"")):
        for key, _ in islice(rows.scan(*keys.rest(beginning)), left):
            batch.changes[key] = None
            left -= 1
    if left:
        batch.changes[keys.leftover(number)] = None
    return bool(left)


def is_design(doc_id: str) -> bool:
    """Whether a document may define indexes."""
    return doc_id.startswith(DESIGN)
