"""Documents and feeds at one moment, over backend rows or a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

from crdtdb.backends import Reader
from crdtdb.causality import DotSet
from crdtdb.crdts import Place
from crdtdb.documents import Rev
from crdtdb.documents.local import Local, locals_in, read_local, served
from crdtdb.errors import NotFoundError
from crdtdb.limits import REVS_LIMIT
from crdtdb.store.digests import digest_of
from crdtdb.store.layout import keys
from crdtdb.store.layout.journals import JournalRows, value_then
from crdtdb.store.layout.places import RecentPlaces
from crdtdb.store.layout.records import Past, Record, StoreTables, decode_past, read_chain, read_record
from crdtdb.store.root import CollectionStats, StoreRoot


class StoreSnapshot(NamedTuple):
    """Rows, and the root under which they are read."""

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

    def collection(self, name: str) -> CollectionStats:
        """Return a collection's counts. Raises NotFoundError."""
        stats = self.root.collections.get(name)
        if stats is None:
            raise NotFoundError(f"there is no collection {name!r}")
        return stats

    def documents(
        self, name: str, start: str = "", stop: str | None = None, reverse: bool = False, local: bool = False
    ) -> Iterator[tuple[str, Record]]:
        """Yield the documents with `start <= id < stop`, in the order of their ids' UTF-8; with `local` local records too."""
        number = self.collection(name).number
        first = keys.document(number, start.encode())
        last = keys.after(keys.document(number, b"")) if stop is None else keys.document(number, stop.encode())
        for key, value in self.rows.scan(first, last, reverse=reverse):
            if key.startswith(b"_local/", 5) and not local:
                continue
            record = decoded(self.rows, self.root, self.tables, name, key, value)
            if record is not None:
                yield key[5:].decode(), record

    def digest(self, name: str) -> str:
        """Return a digest of a collection: equal on two nodes if their documents are equal."""
        return digest_of((doc_id, record.state) for doc_id, record in self.documents(name, local=True))

    # Replaced revisions

    def past(self, name: str, doc_id: str) -> Iterator[Past]:
        """Yield the replaced revisions of a document, highest generation first."""
        history = keys.history(self.collection(name).number, doc_id.encode())
        for key, value in self.rows.scan(*keys.rest(history), reverse=True):
            yield decode_past(key, value, history, self.tables)

    def revision(self, name: str, doc_id: str, rev: Rev) -> Past | None:
        """Return one replaced revision, None if it isn't known."""
        history = keys.history(self.collection(name).number, doc_id.encode())
        key = keys.revision(history, *rev)
        value = self.rows.get(key)
        return decode_past(key, value, history, self.tables) if value is not None else None

    def value_of(self, name: str, doc_id: str, past: Past) -> dict[str, Any] | None:
        """Return the whole value of a replaced revision, None if any part of it isn't stored."""
        if not past.known:
            return None
        value, folded = self._value_then(name, doc_id, past)
        return None if folded else value

    def body_of(self, name: str, doc_id: str, past: Past) -> dict[str, Any] | None:
        """Return the stored part of a replaced revision's value, None if there is none. Fields may be missing."""
        return self._value_then(name, doc_id, past)[0] if past.text is not None else None

    def _value_then(self, name: str, doc_id: str, past: Past) -> tuple[dict[str, Any], frozenset[Place]]:
        number, raw = self.collection(name).number, doc_id.encode()
        return value_then(past, lambda address: JournalRows.of(self.rows, self.tables, number, raw, address))

    def line(self, name: str, doc_id: str, rev: Rev) -> list[Rev]:
        """Return a replaced revision and its ancestors, newest first."""
        history = keys.history(self.collection(name).number, doc_id.encode())
        steps = islice(read_chain(self.rows.get, self.tables, history, rev), REVS_LIMIT)
        return [rev, *(Rev(rev.generation - 1 - n, step.digest) for n, step in enumerate(steps))]

    def local(self, name: str, doc_id: str) -> Local | None:
        """Return the newest local record whose clock the store covers; None if there is none."""
        record = self.read(name, doc_id)
        if record is None:
            return None
        past = (read_local(past.rev, past.text) for past in self.past(name, doc_id) if past.text is not None)
        older = (local for local in past if local is not None)
        return served(chain(locals_in(record.state), older), self.root.clock)

    # The changes feed

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
        """Return the number of changes with a seq above `since`, at most `most`."""
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
    """Read a document's row under a root; None if all that is in it was dropped."""
    record = read_record(value, root.clock, tables, rows.get, key, root.names[name])
    if record.single is not None:
        return record
    stored = record.stored
    living = root.living(name, stored)
    if living is stored:
        return record
    return Record.of(record.seq, living, record.residue, stored) if living.leaves or living.bodies else None
