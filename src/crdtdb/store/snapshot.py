"""Documents and feeds as they are at one moment, over whatever rows: the backend's own, or a snapshot of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from crdtdb.backends import Reader
from crdtdb.causality import DotSet
from crdtdb.store.layout import keys
from crdtdb.store.layout.places import RecentPlaces
from crdtdb.store.layout.records import Record, StoreTables, read_record
from crdtdb.store.root import StoreRoot


class StoreSnapshot(NamedTuple):
    """Rows, and what was held when they were so."""

    rows: Reader
    root: StoreRoot
    tables: StoreTables

    def read(self, name: str, doc_id: str) -> Record | None:
        """Return a document, None if there was never one, or all of it was dropped."""
        collection = self.root.collections.get(name)
        if collection is None:
            return None
        key = keys.document(collection.number, doc_id.encode())
        value = self.rows.get(key)
        return decoded(self.rows, self.root, self.tables, name, key, value) if value is not None else None

    def changes(self, name: str, since: int = 0, reverse: bool = False) -> Iterator[tuple[int, str, Record]]:
        """Yield the changes with a seq above `since`: each document once, at its last change."""
        collection = self.root.collections.get(name)
        if collection is None:
            return
        start, stop = keys.change(collection.number, since + 1), keys.after(keys.change(collection.number, 0)[:5])
        for key, raw in self.rows.scan(start, stop, reverse=reverse):
            record = self.read(name, raw.decode())
            seq = int.from_bytes(key[5:], "big")
            if record is not None and record.seq == seq:
                yield seq, raw.decode(), record

    def count_changes(self, name: str, since: int, most: int) -> int:
        """Return how many changes there are with a seq above `since`, counting no further than to `most`."""
        collection = self.root.collections.get(name)
        if collection is None:
            return 0
        start, stop = keys.change(collection.number, since + 1), keys.after(keys.change(collection.number, 0)[:5])
        counted = 0
        for _ in self.rows.scan(start, stop):
            counted += 1
            if counted >= most:
                break
        return counted

    def first_unseen(self, name: str, clock: DotSet) -> int:
        """Return the lowest seq of a document with a live dot that a clock lacks; one above the highest if there is none.

        Read from the dot log, so the cost follows what is missing.
        """
        collection = self.root.collections[name]
        lowest, met = collection.seq + 1, RecentPlaces()
        for actor, ranges in (self.root.clock - clock).items():
            number = self.tables.known_actor_number(actor)
            for first, last in ranges if number is not None else ():
                for _, place in self.rows.scan(keys.log(number or 0, first), keys.log(number or 0, last + 1)):
                    if not place or place in met or keys.read_place(place)[0] != collection.number:
                        continue
                    record = self.read(name, keys.read_place(place)[1].decode())
                    if record is not None and record.seq:
                        lowest = min(lowest, record.seq)
                    if record is None or record.single is None:
                        met.add(place)
        return lowest

    def decoded(self, name: str, key: bytes, value: bytes) -> Record | None:
        """Read the row of a document that lies under a key; None if all that is in it was dropped."""
        return decoded(self.rows, self.root, self.tables, name, key, value)


def decoded(rows: Reader, root: StoreRoot, tables: StoreTables, name: str, key: bytes, value: bytes) -> Record | None:
    """Read a document's row as it was when `held` was held; None if all that is in it was dropped."""
    record = read_record(value, root.clock, tables, rows.get, key, root.names[name])
    if record.single is not None:
        return record
    stored = record.stored
    living = root.living(name, stored)
    if living is stored:
        return record
    return Record.of(record.seq, living, record.residue, stored) if living.leaves or living.bodies else None
