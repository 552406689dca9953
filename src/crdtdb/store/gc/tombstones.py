"""Collection in a store: what can give something up once it is stable waits in rows of its own, by the dot it waits for.

So a pass costs as much as there is to collect: it reads the rows whose dots have become stable, in slices, each a commit of
its own, while everything else goes on. Rules 8 and 9 of docs/explanation/replication.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from crdtdb.backends import Reader
from crdtdb.causality import EMPTY, DotSet
from crdtdb.documents.garbage import collect
from crdtdb.documents.stamps import milliseconds
from crdtdb.limits import STAMP_AHEAD_MILLISECONDS_MAX
from crdtdb.store.commit.transaction import Transaction, uncovered
from crdtdb.store.layout import keys
from crdtdb.store.layout.records import StoreTables

_SLICE_DOCUMENTS = 25
"""Writers wait for a slice: so many are three milliseconds, and share an fsync that is a fraction of one."""

Told = Callable[[str], DotSet | None]
"""Given a collection's name, returns what all clients that may come back have read of it, None if there are none."""


class Slice(NamedTuple):
    """What a slice did. `after` is the key to go on from, None at the end of the pass."""

    after: bytes | None
    collected: int
    held_back: int
    unheld: DotSet
    """What documents have seen and this store doesn't hold, so that they have to wait."""


def collect_slice(
    transaction: Transaction, rows: Reader, tables: StoreTables, told: Told, since: int, after: bytes
) -> Slice:
    """Let some documents give up what is stable, from the key `after` on.

    Tombstones that were made after `since`, in milliseconds since 1970, stay.
    """
    found = list(islice(_lined_up(transaction, rows, tables, after), _SLICE_DOCUMENTS))
    names = {collection.number: name for name, collection in transaction.root.collections.items()}
    collected = held_back = 0
    unheld = EMPTY
    for key, number, raw in found:
        transaction.rows[key] = None
        name = names.get(number)
        if name is None:
            continue
        record = transaction.load(name, raw.decode())
        stable = transaction.root.stable
        read = told(name)
        younger = (milliseconds(leaf.stamp) - since for leaf in record.state.leaves.values() if leaf.deleted)
        if any(0 < ahead < STAMP_AHEAD_MILLISECONDS_MAX for ahead in younger):
            read = EMPTY
        state = collect(record.state, stable, stable if read is None else stable & read)
        beyond = uncovered(record.residue, transaction.root.clock)
        if beyond:
            unheld |= beyond
            transaction.rows[keys.due(number, raw)] = b""  # it has seen what the node clock doesn't cover yet
            continue
        if state is not record.state:
            transaction.shrink(name, raw.decode(), record, state)
            collected += 1
        transaction.await_collection(number, raw, state)
        held_back += transaction.rows.get(keys.due(number, raw)) is not None
    return Slice(found[-1][0] + b"\0" if len(found) == _SLICE_DOCUMENTS else None, collected, held_back, unheld)


def _lined_up(
    transaction: Transaction, rows: Reader, tables: StoreTables, after: bytes
) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield the key, collection and id of each document that waits for nothing but clients, or for what is stable now."""
    start, stop = keys.rest(b"G")
    for key, _ in rows.scan(max(start, after), stop):
        yield key, int.from_bytes(key[1:5], "big"), key[5:]
    numbered = sorted(
        (tables.known_actor_number(actor) or 0, ranges) for actor, ranges in transaction.root.stable.items()
    )
    for number, ranges in numbered:
        for first, last in ranges:
            start, stop = keys.waiting(number, first), keys.waiting(number, last + 1)
            if after < stop:
                for key, place in rows.scan(max(start, after), stop):
                    yield key, *keys.read_place(place)
