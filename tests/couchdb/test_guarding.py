"""A write is shown to who may refuse it as it will be, on what is there: also when somebody else writes in between."""

from __future__ import annotations

from typing import Any

import pytest

import crdtdb
from crdtdb.couchdb import CouchError, Writes, incoming
from crdtdb.couchdb.validation import Author, DocumentValidator
from crdtdb.documents import put, resolve
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
        guard(db, asked).write("notes", "a", lambda state, write: resolve(state, write, b'{"n":3}'))
        assert asked.seen == [(3, 1), (3, 2)]
        assert notes.get("a") == {"n": 3}


def test_of_many_the_refused_ones_stay_away_also_after_a_change(asked: Asked) -> None:
    with crdtdb.open("memory:") as db:
        notes = db["notes"]
        notes.put("a", {"n": 1})
        asked.refused, asked.meanwhile = ["b"], [lambda: notes.put("b", {"n": 9})]
        documents = [incoming({"_id": doc_id, "n": 5}) for doc_id in ("b", "c")]
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
            guard(db, asked).write("notes", "a", lambda state, write: put(state, write, None, b"{}"))
        assert db.store.root is before
