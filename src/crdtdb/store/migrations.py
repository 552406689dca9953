"""Migration of older store formats on open, in one atomic batch."""

from __future__ import annotations

from itertools import count

from msgspec.structs import replace

from crdtdb.backends import Backend
from crdtdb.causality import Lineage
from crdtdb.crdts import open_at_hand
from crdtdb.documents import NONE
from crdtdb.query.definitions import DESIGN
from crdtdb.store.layout import keys
from crdtdb.store.layout.batch import RowBatch
from crdtdb.store.layout.index_rows import Indexing, shown
from crdtdb.store.layout.records import StoreTables, decode_record
from crdtdb.store.layout.rows import decode_row, encode_row
from crdtdb.store.root import CollectionStats, StoreRoot, is_counted, lineage_row, read_root, root_rows

_BUILDS_INDEXES = 6
"""The first format whose stores have them."""


def upgrade(backend: Backend, version: int) -> None:
    """Migrate a store from an older format to this one. An older crdtdb can't read it afterwards."""
    rows: dict[bytes, bytes | None] = {}
    if version < _BUILDS_INDEXES:
        rows.update(_indexed(backend))
    rows.update(_counted(backend))
    rows.update(_untold(backend))
    rows[keys.FORMAT] = b"%s %d" % (keys.FORMAT_NAME.encode(), keys.FORMAT_VERSION)
    backend.write(rows, durable=True)


def _indexed(backend: Backend) -> dict[bytes, bytes | None]:
    """Begin to build the indexes of design documents: stores before format 6 have none."""
    tables = StoreTables(backend)
    root = read_root(backend, tables)
    batch = RowBatch(backend)
    indexing, numbers = Indexing({}), count(root.next_number)
    for one in root.collections.values():
        for key, value in backend.scan(*keys.rest(keys.document(one.number, DESIGN.encode()))):
            raw = key[5:]
            record = decode_record(value, root.clock, tables, backend.get, key)
            indexing.redefine(
                batch, one.number, raw.decode(), shown(raw.decode(), record, open_at_hand), lambda: next(numbers)
            )
    after = replace(root, next_number=next(numbers))
    return {**batch.all_rows(), **root_rows(root, after, tables)} if batch.changes else {}


def _untold(backend: Backend) -> dict[bytes, bytes]:
    """Mark the lineages of all other actors as unknown: stores before format 7 kept none."""
    tables = StoreTables(backend)
    own = decode_row(backend.get(keys.IDENTITY) or encode_row([None, None]))[1]
    others = (actor for actor in read_root(backend, tables).clock.actors if actor != own)
    return {keys.lineage(tables.actor_number(actor)): lineage_row(Lineage((), 0)) for actor in others}


def _counted(backend: Backend) -> dict[bytes, bytes]:
    """Count again: format 3 had no counts of conflicts and sizes, and before format 7 no sums of live revisions."""
    tables = StoreTables(backend)
    root = read_root(backend, tables)
    return {
        keys.counts(collection.number): encode_row(_recount(backend, root, tables, collection).row())
        for collection in root.collections.values()
    }


def _recount(backend: Backend, root: StoreRoot, tables: StoreTables, before: CollectionStats) -> CollectionStats:
    counts = CollectionStats(before.number, seq=before.seq, sweep=before.sweep)
    for key, value in backend.scan(*keys.rest(keys.document(before.number, b""))):
        raw = key[5:]
        if is_counted(raw.decode()):
            state = decode_record(value, root.clock, tables, backend.get, key).state
            counts = counts.changed(raw, NONE, state, counts.seq)
    return counts
