"""Stores of bytes with the same JSON in them and nothing else: no revisions, no conflicts, no replication. The limit here."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import count, islice
from pathlib import Path
from typing import Any

import msgspec
import orjson
import plyvel
from tinydb import Query, TinyDB

from benchmarks.documents import Document
from benchmarks.results import Durability
from benchmarks.targets.base import Ability, Session, Target, abilities_of
from benchmarks.targets.embedded import BATCH

_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode


class BareSession(Session):
    """What these have in common: to read, change and write; to import in batches; to close and open again."""

    _db: Any

    def __init__(self, place: Path, *, sync: bool) -> None:
        self._place, self._sync = place, sync
        self.open()

    def open(self) -> None:
        """Open the store, which isn't open."""
        raise NotImplementedError

    def update(self, doc_id: str) -> None:
        found = self.get(doc_id)
        self.put(doc_id, {**found, "touched": found.get("touched", 0) + 1})

    def load(self, path: str) -> None:
        with Path(path).open("rb") as file:
            while lines := list(islice(file, BATCH)):
                self.bulk([(one.pop("_id"), one) for one in map(json.loads, lines)])

    def reopen(self, doc_id: str) -> Document:
        self.close()
        self.open()
        return self.get(doc_id)

    def close(self) -> None:
        self._db.close()


class PlyvelSession(BareSession):
    """LevelDB with the settings that crdtdb gives it."""

    def open(self) -> None:
        self._db = plyvel.DB(
            str(self._place),
            create_if_missing=True,
            paranoid_checks=True,
            write_buffer_size=16 << 20,
            lru_cache_size=32 << 20,
            bloom_filter_bits=10,
        )

    def put(self, doc_id: str, document: Document) -> None:
        self._db.put(doc_id.encode(), orjson.dumps(document), sync=self._sync)

    def get(self, doc_id: str) -> Document:
        found: Document = orjson.loads(self._db.get(doc_id.encode(), verify_checksums=True))
        return found

    def bulk(self, documents: Sequence[tuple[str, Document]]) -> None:
        with self._db.write_batch(sync=self._sync) as batch:
            for doc_id, document in documents:
                batch.put(doc_id.encode(), orjson.dumps(document))


class PartsSession(PlyvelSession):
    """LevelDB under the calls into C that crdtdb can't do without, and nothing between them: the most that Python could do.

    A write makes the canonical JSON and reads it back, names the revision by a digest, looks whether the document is there, and
    puts the five rows that documents, changes feed, dot log, counts and clock need. In bulk the last two are of the batch.
    """

    _numbers = count(1)

    def put(self, doc_id: str, document: Document) -> None:
        with self._db.write_batch(sync=self._sync) as batch:
            self._write(batch, doc_id, document)
            self._close(batch)

    def bulk(self, documents: Sequence[tuple[str, Document]]) -> None:
        with self._db.write_batch(sync=self._sync) as batch:
            for doc_id, document in documents:
                self._write(batch, doc_id, document)
            self._close(batch)

    def get(self, doc_id: str) -> Document:
        row = _decode(self._db.get(b"d\0\0\0\1" + doc_id.encode(), verify_checksums=True))
        found: Document = orjson.loads(row[2][0][3])
        return found

    def _write(self, batch: Any, doc_id: str, document: Document) -> None:
        text, raw, number = orjson.dumps(document, option=orjson.OPT_SORT_KEYS), doc_id.encode(), next(self._numbers)
        digest = blake2b(text, digest_size=16).digest()
        key = b"d\0\0\0\1" + raw
        if orjson.loads(text) != document or self._db.get(key, verify_checksums=True) is not None:
            raise ValueError(f"{doc_id} isn't JSON, or is there already")
        leaf = [0, number, 1, digest, None, None, 0, None, None, number, 0]
        batch.put(key, _encode([number, [leaf], [[0, number, 0, text]], [], None, None]))
        batch.put(b"s\0\0\0\1%08d" % number, raw)
        batch.put(b"l\0\0\0\0%08d" % number, raw)

    def _close(self, batch: Any) -> None:
        batch.put(b"k\0\0\0\0", _encode([1, 1]))
        batch.put(b"n\0\0\0\1", _encode([1, 0, 1, 0, 0, 1]))


class SQLiteSession(BareSession):
    """A table of ids and JSON."""

    def open(self) -> None:
        self._db = sqlite3.connect(self._place, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute(f"pragma synchronous = {'full' if self._sync else 'off'}")
        self._db.execute("create table if not exists documents (id text primary key, body blob)")

    def put(self, doc_id: str, document: Document) -> None:
        self._db.execute("insert or replace into documents values (?, ?)", (doc_id, orjson.dumps(document)))

    def get(self, doc_id: str) -> Document:
        rows = self._db.execute("select body from documents where id = ?", (doc_id,))
        found: Document = orjson.loads(rows.fetchone()[0])
        return found

    def bulk(self, documents: Sequence[tuple[str, Document]]) -> None:
        self._db.execute("begin")
        rows = ((doc_id, orjson.dumps(document)) for doc_id, document in documents)
        self._db.executemany("insert into documents values (?, ?)", rows)
        self._db.execute("commit")


class TinyDBSession(BareSession):
    """A file of JSON, which is written as a whole at each write, and synced."""

    def open(self) -> None:
        self._db = TinyDB(self._place)

    def put(self, doc_id: str, document: Document) -> None:
        self._db.insert({"_id": doc_id, **document})

    def get(self, doc_id: str) -> Document:
        return dict(self._db.get(Query()["_id"] == doc_id))

    def update(self, doc_id: str) -> None:
        touched = self.get(doc_id).get("touched", 0) + 1
        self._db.update({"touched": touched}, Query()["_id"] == doc_id)

    def bulk(self, documents: Sequence[tuple[str, Document]]) -> None:
        self._db.insert_multiple([{"_id": doc_id, **document} for doc_id, document in documents])


class _Bare(Target):
    """A store of bytes at one durability."""

    kind: type[BareSession]
    abilities = abilities_of(BareSession) | {"put", "get", "bulk"}

    def __init__(self, durability: Durability) -> None:
        self.durability = durability

    @contextmanager
    def open(self, place: Path) -> Iterator[BareSession]:
        session = self.kind(place / "data", sync=self.durability == "fsync")
        try:
            yield session
        finally:
            session.close()


class Plyvel(_Bare):
    """LevelDB by itself."""

    name, kind = "plyvel", PlyvelSession


class Parts(_Bare):
    """What crdtdb calls in C, with nothing in between."""

    name, kind = "its parts alone", PartsSession
    abilities = frozenset[Ability]({"put", "get", "bulk"})


class SQLite(_Bare):
    """SQLite by itself."""

    name, kind = "sqlite3", SQLiteSession


class Tiny(_Bare):
    """TinyDB: what a Python programmer reaches for when documents are few."""

    name, kind = "TinyDB", TinyDBSession
    most = 200  # a write costs as much as all documents together

    def __init__(self) -> None:
        super().__init__("fsync")  # of the whole file, at each write
