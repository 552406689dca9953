"""A write is shown to who may refuse it as it will be, on what is there: also when somebody else writes in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import crdtdb
from crdtdb.couchdb import CouchError, Writes, parse_document
from crdtdb.couchdb.validation import Author, DocumentValidator
from crdtdb.database.collection import Collection
from crdtdb.database.commands import Put, Resolve
from crdtdb.javascript import Function, Refusal


class Asked:
    """Stands in for the functions: says yes, or no to what it is told to, and may do something meanwhile."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, Any]] = []
        self.meanwhile: list[Any] = []
        self.refused: list[str] = []

    def validate(self, function: Function, document: Any, before: Any, user: Any, security: Any) -> Refusal | None:
        self.seen.append((document.get("n"), before and before.get("n")))
        if self.meanwhile:
            self.meanwhile.pop()()
        return Refusal("forbidden", "no") if document["_id"] in self.refused else None


@pytest.fixture
def asked() -> Asked:
    return Asked()


def guard(db: crdtdb.Database, asked: Asked) -> DocumentValidator:
    return DocumentValidator(db.store, "notes", [Function("f", "")], asked, Author({}, {}))  # type: ignore[arg-type]


def test_what_changed_in_between_is_looked_at_again(asked: Asked) -> None:
    with crdtdb.open("memory:") as db:
        notes = db["notes"]
        notes.put("a", {"n": 1})
        asked.meanwhile = [lambda: notes.upsert("a", lambda _: {"n": 2})]
        guard(db, asked).submit(Resolve("notes", "a", b'{"n":3}').apply)
        assert asked.seen == [(3, 1), (3, 2)]
        assert notes.get("a") == {"n": 3}


def test_of_many_the_refused_ones_stay_away_also_after_a_change(asked: Asked) -> None:
    with crdtdb.open("memory:") as db:
        notes = db["notes"]
        notes.put("a", {"n": 1})
        asked.refused, asked.meanwhile = ["b"], [lambda: notes.put("b", {"n": 9})]
        documents = [parse_document({"_id": doc_id, "n": 5}) for doc_id in ("b", "c")]
        outcomes = Writes(db.store, "notes", guard(db, asked)).bulk(list(documents), new_edits=True)
        assert [type(one).__name__ for one in outcomes] == ["ConflictError", "tuple"], "it is there by now"
        assert notes.get("b") == {"n": 9}
        assert notes.get("c") == {"n": 5}


def test_a_refusal_leaves_nothing(asked: Asked) -> None:
    with crdtdb.open("memory:") as db:
        db.create("notes")
        before = db.store.root
        asked.refused = ["a"]
        with pytest.raises(CouchError, match="no"):
            guard(db, asked).submit(Put("notes", "a", b"{}").apply)
        assert db.store.root is before


def test_every_write_of_a_collection_is_validated(asked: Asked) -> None:
    with crdtdb.open("memory:") as db:
        plain = db["notes"]
        for doc_id in ("a", "b"):
            plain.put(doc_id, {"n": 1, "likes": crdtdb.Counter(1)})
        asked.refused = ["a"]
        notes = Collection(db.store, "notes", guard(db, asked))
        before = db.store.root
        rev = plain.get("a").rev
        writes: list[Callable[[], object]] = [
            lambda: notes.put("a", {"n": 2}, rev),
            lambda: notes.delete("a", rev),
            lambda: notes.upsert("a", lambda body: {**body, "n": 2}),
            lambda: notes.patch("a", {"n": 2}),
            lambda: notes.resolve("a", {"n": 2}),
            lambda: notes.attach("a", "f", b"x"),
        ]
        for write in writes:
            with pytest.raises(CouchError, match="no"):
                write()
        with pytest.raises(CouchError, match="no"), notes.edit("a") as edit:
            edit["likes"].increment(1)
        assert db.store.root is before
        refused, written = notes.bulk([{"_id": "a", "_rev": rev}, {"_id": "b", "_rev": plain.get("b").rev, "n": 3}])
        assert isinstance(refused, CouchError), "one that is refused stops no other"
        assert written == {"n": 3}
        revisions = {"start": 2, "ids": ["f" * 32, rev.split("-")[1]]}
        assert isinstance(notes.take([{"_id": "a", "_rev": "2-" + "f" * 32, "_revisions": revisions}])[0], CouchError)
        assert plain.get("a").rev == rev
