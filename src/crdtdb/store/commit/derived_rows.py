"""Changes of index and view rows within a commit."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from crdtdb.store.commit.transaction import Transaction
from crdtdb.store.layout.index_rows import Index, is_design, is_indexed, slice_of
from crdtdb.store.layout.view_rows import Emission, ViewState, put_emissions, read_view

Emitted = Iterable[tuple[bytes, list[Emission]]]
"""What each document emits, by the UTF-8 of its id."""


class ViewKey(NamedTuple):
    """A view: the name of its collection, that collection's local number, and the signature of its function."""

    name: str
    collection: int
    signature: bytes


def update_indexes(transaction: Transaction) -> None:
    """Update the indexes for the documents of a commit. Called once, after all its work."""
    if not transaction.documents.followed:
        return
    rows, ledger = transaction.rows, transaction.ledger
    indexing, living = ledger.indexing, {collection.number for collection in ledger.root.collections.values()}
    latest = {(number, doc_id): record for number, doc_id, record in transaction.documents.followed if number in living}
    for (number, doc_id), record in latest.items():
        if is_design(doc_id):
            indexing.redefine(
                rows, number, doc_id, transaction.documents.shown(number, doc_id, record), ledger.next_index
            )
            transaction.designed.add(number)
    for (number, doc_id), record in latest.items():
        if is_indexed(doc_id) and indexing.indexes.get(number):
            indexing.enter(rows, number, doc_id.encode(), transaction.documents.shown(number, doc_id, record))


def build_slice(transaction: Transaction, name: str, index: Index) -> None:
    """Add the next documents to an unfinished index."""
    rows, indexing = transaction.rows, transaction.ledger.indexing
    collection = transaction.ledger.root.collections.get(name)
    indexes = indexing.indexes.get(index.collection, ())
    now = next((other for other in indexes if other.number == index.number), None)
    if collection is None or collection.number != index.collection or now is None or now.cursor is None:
        return  # it was dropped meanwhile, or another thread has built it
    documents: list[tuple[bytes, dict[str, object] | None]] = []
    for raw in slice_of(rows.committed, now):
        doc_id = raw.decode()
        document = None
        if is_indexed(doc_id):
            document = transaction.documents.shown(index.collection, doc_id, transaction.load(name, doc_id))
        documents.append((raw, document))
    indexing.build(rows, now, documents)


def move_view(transaction: Transaction, view: ViewKey, since: int, seq: int, emitted: Emitted) -> ViewState | None:
    """Put the rows that documents emit into a view, and move it from the seq `since` to `seq`.

    None, and nothing is written, if the collection was dropped meanwhile, or another thread has moved the view.
    """
    stats = transaction.ledger.root.collections.get(view.name)
    if stats is None or stats.number != view.collection:
        return None
    before = read_view(transaction.rows.get, view.collection, view.signature)
    if before is None:
        before = ViewState(transaction.ledger.next_index())
    if before.seq != since:
        return None
    return put_emissions(transaction.rows, view.collection, view.signature, before, seq, emitted)


def drop_views(transaction: Transaction, name: str, keep: Collection[bytes]) -> None:
    """Drop the views of a collection, but for those of these signatures."""
    stats = transaction.ledger.root.collections.get(name)
    if stats is not None:
        transaction.ledger.indexing.drop_views(transaction.rows, stats.number, keep)
