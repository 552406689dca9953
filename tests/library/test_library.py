"""The embedded API, as a service uses it."""

from __future__ import annotations

import gc
import json
import math
import threading
import time
from collections.abc import Iterator

import pytest

import crdtdb
from crdtdb import (
    ConflictError,
    Database,
    Document,
    InvalidDocumentError,
    InvalidIdError,
    InvalidInputError,
    InvalidRevError,
    NotFoundError,
    TooLargeError,
)
from crdtdb.store import Transaction


@pytest.fixture(params=["memory:", "leveldb", "sqlite"])
def db(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    folder = tmp_path_factory.mktemp("db")
    url = {"memory:": "memory:", "leveldb": str(folder / "data"), "sqlite": f"sqlite:{folder}/data.db"}[request.param]
    with crdtdb.open(url) as database:
        yield database


def two() -> tuple[Database, Database]:
    return crdtdb.open("memory:"), crdtdb.open("memory:")


def test_the_example_of_the_design(db: Database) -> None:
    notes = db.collection("notes")
    doc = notes.put("a", {"title": "x"})
    doc = notes.put("a", {**doc, "title": "y"}, rev=doc.rev)
    notes.upsert("hits", lambda d: {**d, "n": d.get("n", 0) + 1})
    hits = notes.upsert("hits", lambda d: {**d, "n": d.get("n", 0) + 1})
    assert hits == {"n": 2}
    assert notes.get("a") == {"title": "y"}
    assert notes.get("a").rev.startswith("2-")
    (sibling,) = notes.siblings("a")
    assert (sibling.body, sibling.rev) == ({"title": "y"}, doc.rev)
    notes.resolve("a", {"title": "both"})
    tombstone = notes.delete("a", rev=notes.get("a").rev)
    assert tombstone.deleted
    with pytest.raises(NotFoundError) as caught:
        notes.get("a")
    assert isinstance(caught.value, KeyError)
    assert caught.value.deleted
    assert [(change.id, change.deleted) for change in notes.changes(since=0)] == [("hits", False), ("a", True)]
    results = notes.bulk([{"_id": "b", "title": "z"}, {"_id": "c", "_deleted": True, "_rev": "1-abc"}, {"_id": ""}])
    assert results[0] == {"title": "z"}
    assert isinstance(results[1], NotFoundError)
    assert isinstance(results[2], InvalidIdError)
    assert len(notes) == 2


def test_a_write_names_what_it_replaces(db: Database) -> None:
    notes = db.collection("notes")
    first = notes.put("a", {"n": 1})
    with pytest.raises(ConflictError, match="names no revision") as caught:
        notes.put("a", {"n": 2})
    assert caught.value.current == (first.rev,)
    second = notes.put("a", {"n": 2, "_rev": first.rev})
    for stale in (first.rev, "9-" + "0" * 32):
        with pytest.raises(ConflictError):
            notes.put("a", {"n": 3}, rev=stale)
        with pytest.raises(ConflictError):
            notes.delete("a", rev=stale)
    with pytest.raises(ConflictError):
        notes.delete("a")
    with pytest.raises(ConflictError):
        notes.put("new", {}, rev=first.rev)
    assert notes.get("a").rev == second.rev
    assert notes.put_if_absent("a", {"n": 9}) == {"n": 2}
    assert notes.put_if_absent("b", {"n": 9}) == {"n": 9}


def test_every_revision_stays_readable(db: Database) -> None:
    notes = db.collection("notes")
    revs = [notes.put("a", {"n": 0}).rev]
    for n in range(1, 5):
        revs.append(notes.put("a", {"n": n}, rev=revs[-1]).rev)
    gone = notes.delete("a", rev=revs[-1])
    again = notes.put("a", {"n": 5})
    assert again.rev.startswith("7-"), "generations go on after a deletion"
    assert [notes.get("a", rev=rev)["n"] for rev in revs] == [0, 1, 2, 3, 4]
    assert notes.get("a", rev=gone.rev).deleted
    history = notes.history("a")
    assert [one.rev for one in history] == [again.rev, gone.rev, *reversed(revs)]
    assert [one.body for one in history] == [{"n": 5}, None, *({"n": n} for n in (4, 3, 2, 1, 0))]
    assert [one.parent for one in history] == [one.rev for one in history[1:]] + [None]
    with pytest.raises(NotFoundError, match="isn't known"):
        notes.get("a", rev="3-" + "0" * 32)
    with pytest.raises(NotFoundError):
        notes.history("never")


def test_all_reads_ranges(db: Database) -> None:
    notes = db.collection("notes")
    assert list(notes.all()) == []
    ids = ["A", "a", "a\0", "b", "c", "z", "é", "日", "😀"]
    for doc_id in reversed(ids):
        notes.put(doc_id, {"id": doc_id})
    notes.delete("z", rev=notes.get("z").rev)
    ids.remove("z")

    def read(*args: str | None, **options: object) -> list[str]:
        return [doc.id for doc in notes.all(*args, **options)]  # type: ignore[arg-type]

    assert read() == ids
    assert read(descending=True) == ids[::-1]
    assert read("a", "b") == ["a", "a\0", "b"]
    assert read("a", "b", inclusive_end=False) == ["a", "a\0"]
    assert read("b", "a", descending=True) == ["b", "a\0", "a"]
    assert read("b", "a", descending=True, inclusive_end=False) == ["b", "a\0"]
    assert read("c") == ["c", "é", "日", "😀"]
    assert read(None, "A") == ["A"]
    assert read(limit=2) == ids[:2]
    assert read(limit=2, skip=1) == ids[1:3]
    assert read(limit=0) == []
    assert read(keys=["c", "missing", "a", "z"]) == ["c", "a"]
    with pytest.raises(InvalidInputError, match="0 or more"):
        read(limit=-1)


def test_two_databases_make_the_same_edit_and_different_ones() -> None:
    """Acceptance 5: the same edit is no conflict; different edits have the winner that CouchDB's rule gives."""
    one, other = two()
    base = one.collection("notes").put("a", {"n": 0})
    one.collection("notes").put("b", {"n": 0})
    crdtdb.sync(one, other)
    for db in (one, other):
        db.collection("notes").put("a", {"n": 1}, rev=base.rev)
    one.collection("notes").put("b", {"n": "one"}, rev=one["notes"].get("b").rev)
    other.collection("notes").put("b", {"n": "other"}, rev=other["notes"].get("b").rev)
    crdtdb.sync(one, other)
    for db in (one, other):
        assert db["notes"].get("a").conflicts == ()
        revs = sorted((sibling.rev for sibling in db["notes"].siblings("b")), reverse=True)
        assert db["notes"].get("b").rev == revs[0]
        assert db["notes"].get("b", conflicts=True)["_conflicts"] == [revs[1]]
        assert [doc.id for doc in db["notes"].conflicts()] == ["b"]
    assert one["notes"].digest() == other["notes"].digest()
    assert crdtdb.sync(one, other) == (0, 0)
    loser = one["notes"].siblings("b")[1]
    one["notes"].delete("b", rev=loser.rev)
    crdtdb.sync(one, other)
    assert other["notes"].get("b").conflicts == ()


def test_clocks_tell_what_descends_from_what() -> None:
    one, other = two()
    old = one["notes"].put("a", {"n": 0})
    crdtdb.sync(one, other)
    mine = one["notes"].put("a", {"n": 1}, rev=old.rev)
    theirs = other["notes"].put("a", {"n": 2}, rev=old.rev)
    assert mine.clock >= old.clock
    assert not mine.clock >= theirs.clock
    assert not theirs.clock >= mine.clock


@pytest.mark.parametrize(
    ("resolver", "expected"),
    [
        ("last_write_wins", {"a": 1, "b": 3}),
        ("first_write_wins", {"a": 2, "b": 1}),
        ("three_way_merge", {"a": 2, "b": 3}),
        (lambda conflict: {"n": len(conflict.siblings), "was": conflict.ancestor}, {"n": 2, "was": {"a": 1, "b": 1}}),
    ],
)
def test_automatic_resolvers_write_the_same_everywhere(resolver: object, expected: object) -> None:
    one, other = two()
    base = one["notes"].put("x", {"a": 1, "b": 1})
    crdtdb.sync(one, other)
    one["notes"].put("x", {"a": 2, "b": 1}, rev=base.rev)
    time.sleep(0.005)  # stamps are milliseconds, and the first has to come first
    other["notes"].put("x", {"a": 1, "b": 3}, rev=base.rev)
    for db in (one, other):
        db.collection("notes", resolver=resolver)  # type: ignore[arg-type]
    crdtdb.sync(one, other)
    assert one["notes"].get("x") == other["notes"].get("x") == expected
    assert one["notes"].get("x").rev == other["notes"].get("x").rev
    crdtdb.sync(one, other)
    assert one["notes"].get("x").conflicts == ()
    assert one["notes"].digest() == other["notes"].digest()
    seqs = one["notes"].last_seq, other["notes"].last_seq
    crdtdb.sync(one, other)
    assert (one["notes"].last_seq, other["notes"].last_seq) == seqs, "at rest nobody writes"


def test_a_three_way_merge_leaves_what_both_changed() -> None:
    one, other = two()
    base = one["notes"].put("x", {"a": {"deep": 1, "same": 1}})
    crdtdb.sync(one, other)
    one["notes"].put("x", {"a": {"deep": 2, "same": 2}}, rev=base.rev)
    other["notes"].put("x", {"a": {"deep": 3, "same": 2}}, rev=base.rev)
    one.collection("notes", resolver="three_way_merge")
    crdtdb.sync(one, other)
    assert len(one["notes"].siblings("x")) == 2
    with pytest.raises(InvalidInputError, match="there is no resolver 'newest'"):
        one.collection("notes", resolver="newest")


@pytest.mark.parametrize("doc_id", ["", "_x", "x" * 4097, "\ud800", 7, None, b"bytes"])
def test_bad_ids_are_refused(db: Database, doc_id: object) -> None:
    notes = db.collection("notes")
    with pytest.raises(InvalidIdError):
        notes.put(doc_id, {})  # type: ignore[arg-type]
    with pytest.raises(InvalidIdError):
        notes.get(doc_id)  # type: ignore[arg-type]
    with pytest.raises(InvalidIdError):
        notes.delete(doc_id)  # type: ignore[arg-type]
    assert "notes" not in db


@pytest.mark.parametrize("name", ["", "Notes", "1a", "a b", "a.b", "_users", "x" * 239, "é", 7])
def test_bad_names_are_refused(db: Database, name: object) -> None:
    with pytest.raises(InvalidIdError, match="can't be the name"):
        db.collection(name)  # type: ignore[arg-type]


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        ({"x": math.nan}, InvalidDocumentError, "at x: nan"),
        ({"x": [1, math.inf]}, InvalidDocumentError, r"at x\[1\]: inf"),
        ({"x": "\ud800"}, InvalidDocumentError, "lone surrogate"),
        ({"\ud800": 1}, InvalidDocumentError, "lone surrogate"),
        ({"x": 2**14_000}, InvalidDocumentError, "14,001 bits"),
        ({"x": -(2**14_000)}, InvalidDocumentError, "write it as a string"),
        ({"x": object()}, InvalidDocumentError, "object is not JSON"),
        ({"x": {1: 2}}, InvalidDocumentError, "key 1 is not a string"),
        ({"x": deep(101)}, TooLargeError, "deeper than 100"),
        ({"x": "y" * 8_400_000}, TooLargeError, "the limit is 8,388,608"),
        ({"_secret": 1}, InvalidDocumentError, "reserved for the database"),
        ([1, 2], InvalidDocumentError, "is an object"),
        ("text", InvalidDocumentError, "is an object"),
        (None, InvalidDocumentError, "is an object"),
    ],
)
def test_what_is_not_json_is_refused_and_nothing_is_lost(body: object, error: type[Exception], says: str) -> None:
    with crdtdb.open("memory:") as db:
        notes = db.collection("notes")
        first = notes.put("a", {"n": 1})
        with pytest.raises(error, match=says.replace("^", r"\^")):
            notes.put("a", body, rev=first.rev)  # type: ignore[arg-type]
        assert notes.get("a") == {"n": 1}


def test_numbers_are_kept_exactly(db: Database) -> None:
    body: dict[str, object] = {
        "big": 2**64 - 1,
        "small": -(2**63),
        "float": 0.1,
        "tiny": 5e-324,
        "bool": True,
        "null": None,
        "": [],
    }
    db["notes"].put("a", body)
    kept = db["notes"].get("a")
    assert kept == body
    assert isinstance(kept["big"], int)
    assert kept["bool"] is True


@pytest.mark.parametrize("rev", ["", "x", "0-a", "1-", "-1", "1", "1-é", "1-" + "a" * 65, 7])
def test_bad_revs_are_refused(db: Database, rev: object) -> None:
    with pytest.raises(InvalidRevError):
        db["notes"].put("a", {}, rev=rev)  # type: ignore[arg-type]


def test_a_database_is_opened_by_a_url() -> None:
    with pytest.raises(crdtdb.BackendMissingError, match="'rocks', which doesn't exist"):
        crdtdb.open("rocks:data")
    with pytest.raises(InvalidInputError, match="path or URL"):
        crdtdb.open("")
    with crdtdb.open("memory:") as db, pytest.raises(InvalidInputError, match="with itself"):
        crdtdb.sync(db, db)


def test_live_changes_wake_up_and_end_with_the_database() -> None:
    db = crdtdb.open("memory:")
    notes = db.collection("notes")
    seen: list[str] = []
    started = threading.Event()

    def follow() -> None:
        started.set()
        seen.extend(change.id for change in notes.changes(live=True, where=lambda doc: doc.get("n") != 1))

    thread = threading.Thread(target=follow)
    thread.start()
    started.wait()
    for n in range(3):
        notes.put(f"d{n}", {"n": n})
    while len(seen) < 2:
        threading.Event().wait(0.01)
    db.drop("notes")
    notes.put("again", {"n": 4})
    while len(seen) < 3:
        threading.Event().wait(0.01)
    db.close()
    thread.join(5)
    assert not thread.is_alive()
    assert seen == ["d0", "d2", "again"]


def test_live_changes_give_up_after_their_timeout() -> None:
    with crdtdb.open("memory:") as db:
        db["notes"].put("a", {})
        assert [change.id for change in db["notes"].changes(live=True, timeout=0.01)] == ["a"]
        assert [change.id for change in db["notes"].changes(since=1, ids=["b"])] == []


def test_upserts_in_many_threads_all_count(db: Database) -> None:
    notes = db.collection("notes")

    def work() -> None:
        for _ in range(25):
            notes.upsert("n", lambda d: {"n": d.get("n", 0) + 1})

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert notes.get("n") == {"n": 150}
    assert notes.upsert("n", lambda _: None) == {"n": 150}


def test_collections_are_created_dropped_and_listed(db: Database) -> None:
    assert db.create("b")
    assert not db.create("b")
    db["a"].put("x", {})
    assert db.collections() == ["a", "b"]
    db.drop("a")
    assert "a" not in db
    with pytest.raises(NotFoundError, match="no document 'x'"):
        db["a"].get("x")
    with pytest.raises(NotFoundError, match="no collection 'a'"):
        db.drop("a")
    db["a"].put("x", {"n": "new"})
    assert db["a"].get("x").rev.startswith("1-")


def test_documents_are_values() -> None:
    with crdtdb.open("memory:") as db:
        doc = db["notes"].put("a", {"list": [1]})
        assert isinstance(doc, Document)
        doc["list"].append(2)
        assert db["notes"].get("a") == {"list": [1]}
        assert repr(db["notes"].get("a")).startswith("<Document 'a' 1-")


def test_a_body_is_the_callers_own(db: Database) -> None:
    notes = db.collection("notes")
    notes.put("a", {"tags": ["x"], "likes": crdtdb.Counter(2), "text": crdtdb.Text("hi")})
    document = notes.get("a", crdt=True)
    body = document.body
    assert body == {"tags": ["x"], "likes": 2, "text": "hi", "_crdt": document["_crdt"]}
    body["tags"].append("y")
    del body["likes"]
    assert document["tags"] == ["x"], "another body, another value"
    assert document.body["likes"] == 2
    notes.upsert("a", lambda mine: {"tags": mine["tags"].append("z") or mine["tags"]})
    assert document["tags"] == ["x"]
    assert notes.get("a")["tags"] == ["x", "z"]


def test_a_transaction_ends_with_its_call(db: Database) -> None:
    """One that refers to itself would keep its rows until Python's collector comes, which costs a tenth of a put."""
    there = {id(one) for one in _transactions()}  # what other tests of this process left
    notes = db.collection("notes")
    gc.disable()
    try:
        for number in range(3):
            written = notes.put(str(number), {"n": number})
            written = notes.put(str(number), {"n": -number}, written.rev)
            notes.delete(str(number), written.rev)
        notes.bulk([{"_id": f"b{number}"} for number in range(3)])
        assert not [one for one in gc.get_objects() if isinstance(one, Transaction) and id(one) not in there]
    finally:
        gc.enable()


def test_no_transaction_outlives_what_refers_to_it(db: Database) -> None:
    """Python's collector doesn't look into states. A transaction that is in a circle with one stays, with all its rows."""
    there = _transactions()  # what other tests of this process left
    notes = db.collection("notes")
    notes.create_index(["n"])
    written = notes.put("a", {"n": 0, "text": crdtdb.Text("x"), "likes": crdtdb.Counter()})
    for number in range(3):
        written = notes.put("a", {**written.body, "n": number}, written.rev)
        with notes.edit("a") as document:
            document["text"].insert(0, "y")
            document["likes"].increment()
        written = document.written
        notes.bulk([{"_id": f"b{number}", "n": number}, {"_id": f"c{number}", "n": number}])
        with pytest.raises(ConflictError):
            notes.put("a", {"n": 1}, "1-0")
        notes.delete(f"b{number}", notes.get(f"b{number}").rev)
        with crdtdb.open("memory:") as other:
            other["notes"].put("a", {"n": number})
            crdtdb.sync(db, other)
        written = notes.resolve("a", written.body)
    del written, document
    assert len(_transactions()) <= len(there)


def _transactions() -> list[Transaction]:
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, Transaction)]


def test_the_public_names_exist() -> None:
    assert all(hasattr(crdtdb, name) for name in crdtdb.__all__)
    assert sorted(crdtdb.__all__) == crdtdb.__all__


def test_members_keep_their_order_and_integers_their_digits_and_neither_is_part_of_a_name(db: Database) -> None:
    written = {"zeta": {"b": 1, "a": [2**70, {"y": 1, "x": -(2**64)}]}, "alpha": 2}
    in_order = {"alpha": 2, "zeta": {"a": [2**70, {"x": -(2**64), "y": 1}], "b": 1}}
    with crdtdb.open("memory:") as other:
        first, second = db["notes"].put("a", written), other["notes"].put("a", in_order)
        assert (first.rev, json.dumps(dict(first))) == (second.rev, json.dumps(written))
        assert json.dumps(dict(db["notes"].get("a"))) == json.dumps(written)
        assert json.dumps(dict(other["notes"].get("a"))) == json.dumps(in_order)
        crdtdb.sync(db, other)
        shown = {json.dumps(dict(one["notes"].get("a"))) for one in (db, other)}
        assert len(shown) == 1
        assert not db["notes"].get("a").conflicts
        changed = db["notes"].put("a", {"zeta": 2**100, "alpha": 3}, rev=first.rev)
        crdtdb.sync(db, other)
        assert dict(other["notes"].get("a")) == {"zeta": 2**100, "alpha": 3}
        assert other["notes"].get("a").rev == changed.rev
        db["notes"].put("b", {"b": 1, "n": 2**64})
        with db["notes"].edit("b") as edited:
            edited["a"] = 1
        assert json.dumps(dict(db["notes"].get("b"))) == json.dumps({"b": 1, "n": 2**64, "a": 1})
        crdtdb.sync(db, other)
        assert list(other["notes"].find({"n": {"$gt": 2**63}}))
