"""crdtdb as a library, on each backend."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Literal

import crdtdb
from benchmarks.documents import Document
from benchmarks.results import Durability
from benchmarks.targets.base import Session, Target, abilities_of
from crdtdb.database import Database

BATCH = 500


class EmbeddedSession(Session):
    """One database in this process."""

    def __init__(self, url: str, durability: Literal["sync", "buffered"]) -> None:
        self.url, self._durability = url, durability
        self.open()

    def open(self) -> None:
        """Open the store, which isn't open."""
        self.database: Database = crdtdb.open(self.url, durability=self._durability)
        self.collection = self.database.collection("bench")

    def put(self, doc_id: str, document: Document) -> None:
        self.collection.put(doc_id, document)

    def get(self, doc_id: str) -> Document:
        return self.collection.get(doc_id).body

    def update(self, doc_id: str) -> None:
        found = self.collection.get(doc_id)
        body = found.body
        self.collection.put(doc_id, {**body, "touched": body.get("touched", 0) + 1}, found.rev)

    def bulk(self, documents: Sequence[tuple[str, Document]]) -> None:
        for one in self.collection.bulk([{"_id": doc_id, **document} for doc_id, document in documents]):
            if isinstance(one, Exception):
                raise one

    def conflict(self, doc_id: str, mine: Document, theirs: Document) -> None:
        self.collection.put(doc_id, mine)
        (refused,) = self.collection.take([{"_id": doc_id, "_rev": "1-" + "0" * 32, **theirs}])
        if refused is not None:
            raise refused

    def siblings(self, doc_id: str) -> list[Document]:
        return [one.body for one in self.collection.siblings(doc_id)]

    def resolve(self, doc_id: str, body: Document) -> None:
        self.collection.resolve(doc_id, body)

    def changes(self) -> int:
        return sum(1 for change in self.collection.changes(since=0) if change.doc.body)

    def load(self, path: str) -> None:
        with Path(path).open("rb") as file:
            while lines := list(islice(file, BATCH)):
                self.collection.bulk([json.loads(line) for line in lines])

    def reopen(self, doc_id: str) -> Document:
        self.close()
        self.open()
        return self.get(doc_id)

    def close(self) -> None:
        self.database.close()


class Embedded(Target):
    """crdtdb on one backend at one durability."""

    def __init__(self, backend: str, durability: Durability) -> None:
        self.name, self.durability, self._backend = f"crdtdb, {backend}", durability, backend
        self.abilities = abilities_of(EmbeddedSession)
        if backend == "memory":
            self.abilities -= {"reopen"}

    @contextmanager
    def open(self, place: Path) -> Iterator[EmbeddedSession]:
        url = {"leveldb": str(place / "data"), "sqlite": f"sqlite:{place / 'data.db'}", "memory": "memory:"}
        session = EmbeddedSession(url[self._backend], "sync" if self.durability == "fsync" else "buffered")
        try:
            yield session
        finally:
            session.close()
