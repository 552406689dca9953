"""Stores of older formats: made to be of this one when they are opened, in one batch, or not at all."""

from __future__ import annotations

from itertools import count

from msgspec.structs import replace

from crdtdb.backends import Backend
from crdtdb.crdts import open_at_hand
from crdtdb.documents import NOTHING
from crdtdb.query.definitions import DESIGN
from crdtdb.store import keys
from crdtdb.store.batch import RowBatch
from crdtdb.store.held import Collection, Held, held_rows, is_counted, read_held
from crdtdb.store.indexes import Indexing, shown
from crdtdb.store.records import StoreTables, decode_record
from crdtdb.store.rows import encode_row


def upgrade(backend: Backend, version: int) -> None:
    """Bring a store from an older format to this one. An older crdtdb can't read it afterwards."""
    rows: dict[bytes, bytes | None] = {}
    if version == 3:
        rows.update(_counted(backend))
    rows.update(_indexed(backend))
    rows[keys.FORMAT] = b"%s %d" % (keys.FORMAT_NAME.encode(), keys.FORMAT_VERSION)
    backend.write(rows, durable=True)


def _indexed(backend: Backend) -> dict[bytes, bytes | None]:
    """Begin to build the indexes that design documents define: before format 6 nothing did."""
    tables = StoreTables(backend)
    held = read_held(backend, tables)
    batch = RowBatch(backend)
    indexing, numbers = Indexing({}), count(held.next_number)
    for one in held.collections.values():
        for key, value in backend.scan(*keys.rest(keys.document(one.number, DESIGN.encode()))):
            raw = key[5:]
            record = decode_record(value, held.clock, tables, backend.get, key)
            indexing.redefine(
                batch, one.number, raw.decode(), shown(raw.decode(), record, open_at_hand), lambda: next(numbers)
            )
    after = replace(held, next_number=next(numbers))
    return {**batch.all_rows(), **held_rows(held, after, tables)} if batch.rows else {}


def _counted(backend: Backend) -> dict[bytes, bytes]:
    """Count again: format 3 had no counts of conflicts and sizes."""
    tables = StoreTables(backend)
    held = read_held(backend, tables)
    return {
        keys.counts(one.number): encode_row(_recount(backend, held, tables, one).row())
        for one in held.collections.values()
    }


def _recount(backend: Backend, held: Held, tables: StoreTables, before: Collection) -> Collection:
    counts = Collection(before.number, seq=before.seq, sweep=before.sweep)
    for key, value in backend.scan(*keys.rest(keys.document(before.number, b""))):
        raw = key[5:]
        if is_counted(raw.decode()):
            state = decode_record(value, held.clock, tables, backend.get, key).state
            counts = counts.changed(NOTHING, state, counts.seq)
    return counts
