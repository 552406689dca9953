"""Sweep: removes the rows of dropped collections in slices."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from crdtdb.backends import Reader
from crdtdb.crdts import Address
from crdtdb.store.commit.core import StoreCore
from crdtdb.store.commit.transaction import Transaction
from crdtdb.store.layout import keys
from crdtdb.store.layout.records import Record, StoreTables, decode_record, decode_sweep, encode_sweep

_SLICE_DOCUMENTS = 50


class WorkQueue(Protocol):
    """Work of another part of the store that waits for its turn."""

    @property
    def waits(self) -> bool:
        """Whether there is work."""

    def work(self) -> bool:
        """Do a slice of it; return whether there is more."""


class Sweeper:
    """Does the work that commits leave behind: journals to be folded, rows of dropped collections to be removed."""

    def __init__(self, core: StoreCore, derived: WorkQueue) -> None:
        """`derived` has its turn when nothing else waits."""
        self._core, self._derived = core, derived
        self._pending = pending(core.backend)
        self.grown: list[tuple[str, str, Address]] = []
        """Journals with so many updates that they wait to be folded."""

    def sweep(self) -> bool:
        """Fold a journal, or remove a slice of what dropped collections left; return whether there is more to do."""
        if self.fold():
            return bool(self._pending) or bool(self.grown)
        number = next(iter(self._pending), None)
        if number is None:
            return self._derived.work()
        core = self._core
        if core.submit(lambda transaction: sweep_slice(transaction, core.backend, core.tables, number)):
            core.alone(lambda: self._done(number))
        return bool(self._pending) or self._derived.waits

    def fold(self) -> bool:
        """Fold a journal of many updates, if one is waiting for that; return whether one was."""
        try:
            name, doc_id, address = self.grown.pop()
        except IndexError:
            return False
        self._core.submit(lambda transaction: transaction.fold(name, doc_id, address))
        return True

    def is_swept(self, name: str) -> bool:
        """Whether no row of a dropped incarnation of a collection is left; until then its indexes may show such rows."""
        collection = self._core.root.collections.get(name)
        return collection is None or collection.number not in self._pending

    def committed(self, transaction: Transaction) -> None:
        """Queue the work that a commit left, while the next commit waits."""
        if transaction.ledger.swept:
            self._pending += [number for number in transaction.ledger.swept if number not in self._pending]
        if transaction.documents.opened is not None:
            self.grown += [place for place in transaction.documents.opened.grown if place not in self.grown]

    def _done(self, number: int) -> None:
        if number in self._pending:  # another thread may have swept the last slice as well
            self._pending.remove(number)


def pending(rows: Reader) -> list[int]:
    """Return the numbers of the collections that wait for a sweep."""
    return [int.from_bytes(key[1:], "big") for key, _ in rows.scan(*keys.rest(b"x"))]


def sweep_slice(transaction: Transaction, rows: Reader, tables: StoreTables, number: int) -> bool:
    """Sweep some documents of a collection; return whether it is done."""
    value = transaction.rows.get(keys.sweep(number))
    if value is None:
        return True
    name, cursor = decode_sweep(value)
    slice_ = list(islice(_documents(transaction, rows, tables, number, cursor), _SLICE_DOCUMENTS))
    for raw, record in slice_:
        if name is None:
            _remove(transaction, rows, number, raw, record, tables)
        else:
            living = transaction.ledger.root.living(name, record.state)
            if living is not record.state:
                known = Record.of(record.seq, living, record.residue, record.stored)
                transaction.documents.save(name, raw.decode(), known, living, record.residue)
    done = len(slice_) < _SLICE_DOCUMENTS
    transaction.rows.changes[keys.sweep(number)] = None if done else encode_sweep(name, slice_[-1][0] + b"\0")
    return done


def _documents(
    transaction: Transaction, rows: Reader, tables: StoreTables, number: int, cursor: bytes
) -> Iterator[tuple[bytes, Record]]:
    start, stop = keys.document(number, cursor), keys.after(keys.document(number, b""))
    for key, _ in rows.scan(start, stop):
        value = transaction.rows.get(key)
        if value is not None:
            raw = key[5:]
            yield (
                raw,
                decode_record(value, transaction.ledger.root.clock, tables, transaction.rows.get, key),
            )


def _remove(
    transaction: Transaction, rows: Reader, number: int, raw: bytes, record: Record, tables: StoreTables
) -> None:
    transaction.contents.keep_only(number, raw, ())
    transaction.rows.changes[keys.document(number, raw)] = None
    transaction.rows.changes[keys.change(number, record.seq)] = None
    for dot in record.state.dots():
        transaction.rows.changes[keys.log(tables.actor_number(dot.actor), dot.counter)] = None
    for beginning in (keys.history(number, raw), keys.journals(number, raw)):
        for key, _ in rows.scan(*keys.rest(beginning)):
            transaction.rows.changes[key] = None
