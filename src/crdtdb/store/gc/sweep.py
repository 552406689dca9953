"""Sweeping: what a dropped collection left in the store is removed in slices, while everything else goes on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from crdtdb.backends import Reader
from crdtdb.store.commit.transaction import Transaction
from crdtdb.store.layout import keys
from crdtdb.store.layout.records import Record, StoreTables, decode_record, decode_sweep, encode_sweep

_SLICE_DOCUMENTS = 50


def pending(rows: Reader) -> list[int]:
    """Return the numbers of the collections that wait for a sweep."""
    return [int.from_bytes(key[1:], "big") for key, _ in rows.scan(*keys.rest(b"x"))]


def sweep_slice(transaction: Transaction, rows: Reader, tables: StoreTables, number: int) -> bool:
    """Sweep some documents of a collection; return whether it is done."""
    value = transaction.get(keys.sweep(number))
    if value is None:
        return True
    name, cursor = decode_sweep(value)
    slice_ = list(islice(_documents(transaction, rows, tables, number, cursor), _SLICE_DOCUMENTS))
    for raw, record in slice_:
        if name is None:
            _remove(transaction, rows, number, raw, record, tables)
        else:
            living = transaction.root.living(name, record.state)
            if living is not record.state:
                known = Record.of(record.seq, living, record.residue, record.stored)
                transaction.save(name, raw.decode(), known, living, record.residue)
    done = len(slice_) < _SLICE_DOCUMENTS
    transaction.rows[keys.sweep(number)] = None if done else encode_sweep(name, slice_[-1][0] + b"\0")
    return done


def _documents(
    transaction: Transaction, rows: Reader, tables: StoreTables, number: int, cursor: bytes
) -> Iterator[tuple[bytes, Record]]:
    start, stop = keys.document(number, cursor), keys.after(keys.document(number, b""))
    for key, _ in rows.scan(start, stop):
        value = transaction.get(key)
        if value is not None:
            raw = key[5:]
            yield (
                raw,
                decode_record(value, transaction.root.clock, tables, transaction.get, key),
            )


def _remove(
    transaction: Transaction, rows: Reader, number: int, raw: bytes, record: Record, tables: StoreTables
) -> None:
    transaction.contents.keep_only(number, raw, ())
    transaction.rows[keys.document(number, raw)] = None
    transaction.rows[keys.change(number, record.seq)] = None
    for dot in record.state.dots():
        transaction.rows[keys.log(tables.actor_number(dot.actor), dot.counter)] = None
    for beginning in (keys.history(number, raw), keys.journals(number, raw)):
        for key, _ in rows.scan(*keys.rest(beginning)):
            transaction.rows[key] = None
