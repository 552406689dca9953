"""Queries through the library, on a real LevelDB: what they find is what a look at every document finds, whatever happened."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

import crdtdb
from crdtdb.canonical_json import canonical
from crdtdb.database.pull import pull
from crdtdb.database.queries.cursor import project
from crdtdb.documents import Rev, put
from crdtdb.errors import (
    BookmarkError,
    ConflictError,
    InvalidDocumentError,
    InvalidInputError,
    NotFoundError,
    NoUsableIndexError,
    SelectorError,
    TooLargeError,
)
from crdtdb.query.collation import sort_key
from crdtdb.query.definitions import check_definition
from crdtdb.query.planner import NO_INDEX, SORTED
from crdtdb.query.selectors import ABSENT, compile_selector, path_of, value_at
from crdtdb.store import Transaction
from crdtdb.store.layout import keys
from crdtdb.testing.invariants import check_store
from tests.examples import examples
from tests.inside import backend_of
from tests.library.machines import IDS, TwoDatabases

VALUES = st.sampled_from([None, True, 1, 1.0, 2, 3, "", "x", "xy", "y\0", [], [1, "x"], {"in": 1}, {"in": 2}])
BODIES = st.fixed_dictionaries(
    {}, optional={"n": VALUES, "t": VALUES, "o": st.fixed_dictionaries({}, optional={"in": VALUES})}
)
INDEXES: list[tuple[list[Any], dict[str, Any] | None]] = [
    (["n"], None),
    ([{"t": "desc"}, {"n": "desc"}], None),
    (["o.in"], None),
    (["likes"], None),
    (["text"], None),
    (["n", "_id"], {"t": {"$exists": True}}),
]
SELECTORS: list[dict[str, Any]] = [
    {},
    {"n": {"$gt": None}},
    {"n": 1, "t": {"$exists": True}},
    {"n": {"$gte": 1, "$lt": "xy"}, "t": {"$ne": 2}},
    {"t": "x", "n": {"$in": [1, 2]}},
    {"t": {"$beginsWith": "x"}},
    {"o.in": {"$lte": 2}},
    {"o": {"in": {"$exists": False}}},
    {"likes": {"$gt": 0}},
    {"text": {"$beginsWith": "H"}},
    {"_id": {"$gt": "a", "$lte": "d"}},
    {"_id": {"$beginsWith": "c"}},
    {"n": {"$exists": True}, "_id": {"$gte": "b"}},
    {"$or": [{"n": 1}, {"t": "x"}]},
    {"$nor": [{"n": 1}, {"t": {"$exists": False}}]},
]
SORTS: list[list[Any]] = [[], ["n"], [{"n": "desc"}], [{"t": "desc"}], ["t", "n"], ["_id"], ["likes"], ["o.in"]]


def naive(notes: crdtdb.Collection, selector: dict[str, Any], sort: list[Any]) -> list[tuple[bytes, str]]:
    """Look at every document: return the sort key and the id of those that match, in order."""
    matches = compile_selector(selector)
    found = []
    fields = [next(iter(one)) if isinstance(one, dict) else one for one in sort]
    for document in notes.all():
        whole = {**document, "_id": document.id, "_rev": document.rev}
        if matches(whole) and not document.id.startswith("_"):
            values = [value_at(whole, path_of(field)) for field in fields]
            found.append((b"".join(b"\1" if one is ABSENT else sort_key(one) for one in values), document.id))
    return sorted(found, reverse=any(isinstance(one, dict) for one in sort))


class Queries(TwoDatabases):
    """Random writes, conflicts, edits, deletes, merges, indexes made and dropped, and restarts, on two databases."""

    schema: ClassVar = {"likes": crdtdb.Counter, "text": crdtdb.Text}

    @rule(doc_id=IDS, body=BODIES, there=st.booleans())
    def write(self, doc_id: str, body: dict[str, Any], there: bool) -> None:
        self.notes(there).upsert(doc_id, lambda _: body)

    @rule(doc_id=IDS, there=st.booleans(), text=st.sampled_from(["Hello", "world", ""]))
    def edit(self, doc_id: str, there: bool, text: str) -> None:
        notes = self.notes(there)
        if doc_id in notes:
            notes.upsert(doc_id, lambda body: {**body, "likes": body.get("likes", 0) + 1, "text": text})

    @rule(which=st.sampled_from(range(len(INDEXES))), there=st.booleans())
    def create_index(self, which: int, there: bool) -> None:
        fields, partial = INDEXES[which]
        self.notes(there).create_index(fields, ddoc=f"d{which % 2}", name=f"i{which}", partial=partial)

    @precondition(lambda self: len(self.db["notes"].indexes()) > 1)
    @rule(data=st.data())
    def drop_index(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.db["notes"].indexes()[1:]))
        assert one.ddoc is not None
        self.db["notes"].drop_index(one.ddoc, one.name)

    @rule(there=st.booleans())
    def drop(self, there: bool) -> None:
        db = self.other if there else self.db
        if "notes" in db:
            db.drop("notes")
        db.collection("notes", schema=self.schema)

    @rule(selectors=st.lists(st.sampled_from(SELECTORS), max_size=3), sort=st.sampled_from(SORTS), there=st.booleans())
    def every_query_finds_what_a_scan_finds(
        self, selectors: list[dict[str, Any]], sort: list[Any], there: bool
    ) -> None:
        for selector in selectors:
            self.check(self.notes(there), selector, sort)

    def check(self, notes: crdtdb.Collection, selector: dict[str, Any], sort: list[Any]) -> None:
        expected = naive(notes, selector, sort)
        finder = notes.find(selector, sort=sort)
        found = [document.id for document in finder]
        if finder.plan.index is None or not finder.plan.ordered:
            assert found == [doc_id for _, doc_id in expected], (selector, sort)
            return
        assert sorted(found) == sorted(doc_id for _, doc_id in expected), (selector, sort, finder.plan.name)
        keys_of = {doc_id: key for key, doc_id in expected}
        ordered = [keys_of[doc_id] for doc_id in found]
        assert ordered == sorted(ordered, reverse=finder.plan.reverse)

    @rule(selector=st.sampled_from(SELECTORS), sort=st.sampled_from(SORTS), size=st.integers(1, 3))
    def pages_with_bookmarks_are_the_whole(self, selector: dict[str, Any], sort: list[Any], size: int) -> None:
        notes = self.db["notes"]
        whole, paged, bookmark = [one.id for one in notes.find(selector, sort=sort)], [], None
        while True:
            page = notes.find(selector, sort=sort, limit=size, bookmark=bookmark)
            ids = [one.id for one in page]
            paged += ids
            bookmark = page.bookmark
            if len(ids) < size:
                break
        assert paged == whole, (selector, sort)

    @invariant()
    def the_rows_are_those_of_the_documents(self) -> None:
        if hasattr(self, "db"):
            for db in (self.db, self.other):
                check_rows(db)


def check_rows(db: crdtdb.Database) -> None:
    """Compare the rows of every index with what the documents say, and look for rows of indexes that are gone."""
    while db.store.sweeper.sweep():
        pass
    check_store(db.store)


TestQueries = Queries.TestCase
TestQueries.settings = examples(150, stateful_step_count=30)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[crdtdb.Database]:
    with crdtdb.open(str(tmp_path / "data"), durability="buffered") as opened:
        yield opened


def people(db: crdtdb.Database, number: int = 300) -> crdtdb.Collection:
    found = db.collection("people")
    found.bulk([{"_id": f"p{n:04}", "age": n % 50, "city": ("Rome", "Oslo")[n % 2], "n": n} for n in range(number)])
    return found


def test_an_index_narrows_what_is_read(db: crdtdb.Database) -> None:
    found = people(db)
    without = found.find({"age": {"$gte": 48}})
    assert len(list(without)) == 12
    assert without.warnings == (NO_INDEX,)
    assert without.statistics.docs_examined == 300
    made = found.create_index(["age"], name="by-age", ddoc="people")
    assert (made.ddoc, made.name, made.building) == ("_design/people", "by-age", False)
    through = found.find({"age": {"$gte": 48}}, sort=[{"age": "desc"}])
    assert [one["age"] for one in through] == [49] * 6 + [48] * 6
    assert through.warnings == ()
    assert through.statistics.docs_examined == 12
    explained = found.explain({"age": {"$gte": 48}}, sort=["n"])
    assert explained["index"]["name"] == "by-age"
    assert explained["warnings"] == [SORTED]
    assert found.explain({"n": 5})["index"] == {
        "ddoc": None,
        "name": "_all_docs",
        "type": "special",
        "partitioned": False,
        "def": {"fields": [{"_id": "asc"}]},
    }


def test_an_index_is_made_once_and_replicated(db: crdtdb.Database) -> None:
    found = people(db, 20)
    one = found.create_index(["age", "n"])
    assert found.create_index(["age", "n"]) == one
    assert len(found.indexes()) == 2
    found.create_index(["city"], ddoc="app", name="c")
    found.create_index(["n"], ddoc="app", name="n")
    with pytest.raises(InvalidInputError, match="another index 'c'"):
        found.create_index(["age"], ddoc="app", name="c")
    found.put("_design/views", {"language": "javascript", "views": {}})
    with pytest.raises(InvalidInputError, match="of language 'javascript'"):
        found.create_index(["age"], ddoc="views")
    with crdtdb.open("memory:") as other:
        crdtdb.sync(db, other)
        assert [one.name for one in other["people"].indexes()] == [one.name for one in found.indexes()]
        assert other["people"].find({"city": "Rome"}).plan.index is not None
        other["people"].drop_index("app", "c")
        crdtdb.sync(db, other)
    assert [one.name for one in found.indexes() if one.ddoc == "_design/app"] == ["n"]
    found.drop_index("_design/app", "n")
    assert "_design/app" not in found
    for ddoc, name in (("app", "n"), (one.ddoc or "", "other")):
        with pytest.raises(NotFoundError):
            found.drop_index(ddoc, name)


def test_an_index_is_right_when_it_is_built_while_writes_go_on(db: crdtdb.Database) -> None:
    found = people(db, 2_000)
    found.define_index(check_definition({"fields": ["age"]}, "d", "i"))
    failed: list[BaseException] = []

    def write(start: int) -> None:
        try:
            for n in range(start, 2_000, 7):
                found.upsert(f"p{n:04}", lambda body: {**body, "age": body["age"] + 100})
                if n % 3 == 0:
                    found.delete(f"p{n:04}", found.get(f"p{n:04}").rev)
                    found.put(f"q{n:04}", {"age": n})
        except BaseException as error:
            failed.append(error)

    def build() -> None:
        try:
            while db.store.derived.build("people"):
                pass
        except BaseException as error:
            failed.append(error)

    threads = [
        Thread(target=write, args=(0,)),
        Thread(target=write, args=(1,)),
        Thread(target=build),
        Thread(target=build),
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert not failed
    check_rows(db)
    assert found.find({"age": {"$gt": 100}}).plan.index is not None


def test_an_index_that_is_half_built_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "data")
    with crdtdb.open(path, durability="buffered") as db:
        found = people(db, 500)
        found.define_index(check_definition({"fields": ["age"]}, "d", "i"))
        db.store.derived.build("people")
        assert found.indexes()[1].building
        store = db.store
        index = store.derived.indexes("people")[0]
        assert index.cursor not in (b"", None)
    with crdtdb.open(path, durability="buffered") as db:
        assert not db["people"].indexes()[1].building
        check_rows(db)


def test_a_query_sees_one_moment(db: crdtdb.Database) -> None:
    found = people(db, 200)
    found.create_index(["age"])
    seen = iter(found.find({"age": {"$gte": 0}}))
    first = [one.id for one in islice(seen, 10)]
    found.update_many({"n": {"$gte": 0}}, {"age": 500})
    rest = [(one.id, one["age"]) for one in seen]
    assert len({*first, *(doc_id for doc_id, _ in rest)}) == 200
    assert all(age < 500 for _, age in rest)


def test_fields_of_documents(db: crdtdb.Database) -> None:
    found = people(db, 3)
    found.put("deep", {"a": {"b": 1, "c": 2}, "list": [{"x": 1}], "plain": 5})
    (one,) = found.find({"_id": "deep"}, fields=["_id", "a.b", "list.0.x", "nothing"])
    assert one == {"_id": "deep", "a": {"b": 1}, "list": {"0": {"x": 1}}}
    assert one.rev == found.get("deep").rev
    assert project({"a": 1}, ["a", "a.b"]) == {"a": 1}


def test_what_a_query_refuses(db: crdtdb.Database) -> None:
    found = people(db, 3)
    bad: Any = [
        ({"selector": []}, SelectorError),
        ({"selector": {"a": {"$what": 1}}}, SelectorError),
        ({"selector": {}, "limit": -1}, InvalidInputError),
        ({"selector": {}, "limit": True}, InvalidInputError),
        ({"selector": {}, "skip": "2"}, InvalidInputError),
        ({"selector": {}, "fields": "a"}, InvalidInputError),
        ({"selector": {}, "fields": [1]}, InvalidInputError),
        ({"selector": {}, "sort": "a"}, InvalidInputError),
        ({"selector": {}, "sort": [{"a": "asc"}, {"b": "desc"}]}, InvalidInputError),
        ({"selector": {}, "use_index": 5}, InvalidInputError),
        ({"selector": {}, "use_index": ["a", "b", "c"]}, InvalidInputError),
        ({"selector": {}, "bookmark": "x"}, BookmarkError),
        ({"selector": {}, "bookmark": 5}, BookmarkError),
        ({"selector": {"a": 1}, "allow_fallback": False}, NoUsableIndexError),
        ({"selector": {"a": 1}, "allow_fallback": "no"}, InvalidInputError),
    ]
    for arguments, kind in bad:
        with pytest.raises(kind):
            found.find(**arguments)
    page = found.find({}, limit=1)
    list(page)
    with pytest.raises(BookmarkError, match="begin without it"):
        found.find({}, sort=["age"], bookmark=page.bookmark)
    assert list(db["nothing"].find({"a": 1})) == []
    assert list(found.find({}, limit=0)) == []
    assert [one.id for one in found.find({}, skip=1)] == ["p0001", "p0002"]


def test_what_would_be_sorted_in_memory_is_bounded(db: crdtdb.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    found = people(db, 40)
    monkeypatch.setattr("crdtdb.database.queries.cursor.FIND_SORTED_MAX", 30)
    with pytest.raises(TooLargeError, match="create an index over"):
        list(found.find({}, sort=["age"]))
    assert len(list(found.find({}, sort=["age"], limit=30))) == 30
    found.create_index(["age"])
    assert len(list(found.find({"age": {"$gte": 0}}, sort=["age"]))) == 40


def test_patch(db: crdtdb.Database) -> None:
    notes = db["notes"]
    notes.put("a", {"title": "x", "deep": {"b": 1, "c": 2}, "list": [1]})
    patched = notes.patch("a", {"deep": {"b": None, "d": 3}, "list": [2], "title": None})
    assert patched == {"deep": {"c": 2, "d": 3}, "list": [2]}
    with pytest.raises(ConflictError):
        notes.patch("a", {"x": 1}, rev=notes.history("a")[-1].rev)
    assert notes.patch("a", {"x": 1}, rev=notes.get("a").rev)["x"] == 1
    patches: list[Any] = [{"_id": "b"}, {"_rev": "1-a"}, {"_attachments": None}, {5: 1}, [], None]
    for bad in patches:
        with pytest.raises(InvalidDocumentError):
            notes.patch("a", bad)
    with pytest.raises(NotFoundError):
        notes.patch("nothing", {"x": 1})


def test_two_who_patch_at_the_same_time_both_do(db: crdtdb.Database) -> None:
    notes = db["notes"]
    notes.put("a", {})
    threads = [Thread(target=notes.patch, args=("a", {f"k{n}": n})) for n in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert notes.get("a") == {f"k{n}": n for n in range(8)}


def test_update_and_delete_many_in_bounded_steps(db: crdtdb.Database) -> None:
    found = people(db, 300)
    found.create_index(["city"])
    steps, bookmark = [], None
    while True:
        step = found.update_many({"city": "Rome"}, {"country": "Italy"}, limit=60, bookmark=bookmark)
        steps.append(len(step.results))
        assert all(one.error is None and one.document is not None for one in step.results)
        bookmark = step.bookmark
        if bookmark is None:
            break
    assert steps == [60, 60, 30]
    assert len(list(found.find({"country": "Italy"}))) == 150
    doubled = found.update_many({"n": {"$lt": 3}}, lambda body: {**body, "n": body["n"] * 2} if body["n"] else None)
    assert [(one.id, one.document and one.document["n"]) for one in doubled.results] == [("p0001", 2), ("p0002", 4)]
    gone = found.delete_many({"city": "Oslo"})
    assert len(gone.results) == 150
    assert gone.bookmark is None
    assert len(found) == 151  # and the design document
    for limit in (0, 10_001, True):
        with pytest.raises(InvalidInputError, match="go on with the bookmark"):
            found.delete_many({}, limit=limit)
    with pytest.raises(InvalidDocumentError):
        found.update_many({}, {"_id": "x"})


def test_what_others_write_meanwhile_isnt_overwritten(db: crdtdb.Database) -> None:
    found = people(db, 3)

    def change(body: dict[str, Any]) -> dict[str, Any]:
        if body["n"] == 1:
            found.upsert("p0001", lambda other: {**other, "mine": True})
        return {**body, "theirs": True}

    outcome = found.update_many({}, change)
    assert [type(one.error) for one in outcome.results] == [type(None), ConflictError, type(None)]
    assert found.get("p0001")["mine"]
    assert "theirs" not in found.get("p0001")


def test_a_query_builds_what_nobody_has_built(db: crdtdb.Database) -> None:
    found = people(db, 500)
    found.define_index(check_definition({"fields": ["age"]}, "d", "i"))
    through = found.find({"age": {"$gte": 0}})
    assert through.plan.index is not None
    assert len(list(through)) == 500
    assert not found.indexes()[1].building


def test_design_documents_are_in_no_index_and_in_no_answer(db: crdtdb.Database) -> None:
    notes = db["notes"]
    notes.put("a", {"language": "query"})
    notes.create_index(["language"])
    notes.create_index(["views"])
    check_rows(db)
    assert [one.id for one in notes.find({"language": "query"})] == ["a"]
    assert list(notes.find({"views": {"$exists": True}})) == []


def test_work_that_fails_leaves_nothing_in_an_index(db: crdtdb.Database) -> None:
    notes = people(db, 20)
    notes.create_index(["age"], ddoc="d", name="age")
    before = notes.get("p0001")
    store = db.store

    def good(transaction: Transaction) -> None:
        transaction.write("people", "p0002", lambda state, write: put(state, write, Rev.parse(rev), b'{"age":1000}'))

    def bad(transaction: Transaction) -> None:
        transaction.write(
            "people", "p0001", lambda state, write: put(state, write, Rev.parse(before.rev), b'{"age":2000}')
        )
        transaction.ledger.drop("people")
        raise RuntimeError("on purpose")

    rev = notes.get("p0002").rev
    outcomes = store.submit_all([bad, good, bad])
    assert [type(one) for one in outcomes] == [RuntimeError, type(None), RuntimeError]
    check_rows(db)
    assert [one.id for one in notes.find({"age": {"$gte": 1000}})] == ["p0002"]
    assert notes.find({"age": 1}).plan.index is not None


def test_what_a_dropped_collection_left_is_not_found_before_it_is_swept(db: crdtdb.Database) -> None:
    """A winner that was dropped with one of two creations still stands in the index until the sweep has come to it."""
    two, three = crdtdb.open("memory:"), crdtdb.open("memory:")
    bodies = [{"n": n} for n in range(2)]
    db["notes"].put("a", bodies[0])
    two["notes"].put("a", bodies[1])
    with crdtdb.open("memory:") as judge:
        pull(judge.store, db.store)
        pull(judge.store, two.store)
        winner = judge["notes"].get("a")["n"]
    if winner == 0:
        db["notes"].upsert("a", lambda _: bodies[1])  # so that the other's, which is dropped, has the higher revision
        two["notes"].upsert("a", lambda _: {"n": 5})
        two["notes"].upsert("a", lambda _: bodies[0])
    mine = db["notes"].get("a")["n"]
    crdtdb.sync(three, two)
    crdtdb.sync(db, two)
    db["notes"].create_index(["n"])
    assert db["notes"].get("a")["n"] != mine
    three.drop("notes")
    pull(db.store, three.store)
    assert not db.store.sweeper.is_swept("notes")
    assert db["notes"].get("a")["n"] == mine
    assert [one.id for one in db["notes"].find({"n": mine})] == ["a"]
    check_rows(db)
    assert db["notes"].find({"n": mine}).plan.index is not None
    assert [one.id for one in db["notes"].find({"n": mine})] == ["a"]
    two.close()
    three.close()


def test_an_object_with_a_text_in_it_can_be_indexed(db: crdtdb.Database) -> None:
    notes = db.collection("notes", schema={"o": {"text": crdtdb.Text, "n": crdtdb.Counter}})
    notes.create_index(["o"], partial={"o": {"$type": "object"}})
    notes.put("a", {"o": {"text": "Hello", "n": 1}})
    with notes.edit("a") as edit:
        edit["o"]["text"].insert(5, "!")
    check_rows(db)
    assert [one.id for one in notes.find({"o": {"text": "Hello!", "n": 1}})] == ["a"]
    assert notes.find({"o": {"$type": "object", "$gt": {}}}).plan.index is not None


def test_an_index_of_a_collection_that_is_dropped_in_the_same_commit_leaves_nothing(db: crdtdb.Database) -> None:
    people(db, 5)
    view = check_definition({"fields": ["age"]}, "d", "i").view()
    body = canonical({"language": "query", "views": {"i": view}})

    def write(transaction: Transaction) -> None:
        transaction.write("people", "_design/d", lambda state, write: put(state, write, None, body))

    db.store.submit_all([write, lambda transaction: transaction.ledger.drop("people")])
    while db.store.sweeper.sweep():
        pass
    for kind in (b"i", b"I", b"j", b"X"):
        assert list(backend_of(db.store).scan(*keys.rest(kind))) == []
