"""Fields through the library: schemas, edits, whole documents, reading, explaining; and every kind of bad input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import crdtdb
import crdtdb.aio
from crdtdb.errors import (
    ConflictError,
    CrdtdbError,
    InvalidDocumentError,
    InvalidInputError,
    NotFoundError,
    SchemaError,
    TooLargeError,
)
from tests.inside import backend_of, forget_sequences

SCHEMA = {
    "likes": crdtdb.Counter,
    "tags": crdtdb.Set,
    "body": crdtdb.Text,
    "stats": {"views": crdtdb.Counter, "seen": crdtdb.Flag},
}


@pytest.fixture
def db() -> Iterator[crdtdb.Database]:
    with crdtdb.open("memory:") as made:
        yield made


@pytest.fixture
def posts(db: crdtdb.Database) -> crdtdb.Collection:
    return db.collection("posts", schema=SCHEMA)


def test_a_schema_makes_fields_of_plain_values(posts: crdtdb.Collection) -> None:
    document = posts.put(
        "p", {"title": "x", "likes": 3, "tags": ["a"], "body": "hi", "stats": {"views": 1, "other": 2}}
    )
    assert document == {"title": "x", "likes": 3, "tags": ["a"], "body": "hi", "stats": {"views": 1, "other": 2}}
    assert document.fields == {
        ("likes",): "counter",
        ("tags",): "set",
        ("body",): "text",
        ("stats", "views"): "counter",
    }
    assert posts.schema() == {
        "likes": "counter",
        "tags": "set",
        "body": "text",
        "stats": {"views": "counter", "seen": "flag"},
    }


def test_a_field_can_be_made_by_assigning_a_value_of_its_type(db: crdtdb.Database) -> None:
    notes = db["notes"]
    notes.put("a", {"n": crdtdb.Counter(5), "deep": {"flag": crdtdb.Flag(True), "plain": 1}})
    with notes.edit("a") as document:
        document["list"] = crdtdb.List([1, "x"])
        document["deep"]["set"] = crdtdb.Set([1])
        document["map"] = crdtdb.Map({"k": 1, "c": crdtdb.Counter(2), "t": crdtdb.Text("hi")})
        document["map"]["c"].increment()
        document["map"]["t"].append("!")
        document["map"]["new"] = {"any": ["json"]}
        document["list"].append(None)
    assert (
        document.written
        == notes.get("a")
        == {
            "n": 5,
            "deep": {"flag": True, "plain": 1, "set": [1]},
            "list": [1, "x", None],
            "map": {"k": 1, "c": 3, "t": "hi!", "new": {"any": ["json"]}},
        }
    )


def test_an_edit_is_one_commit(posts: crdtdb.Collection) -> None:
    posts.put("p", {"title": "x", "likes": 1, "old": 1})
    before = posts.last_seq
    with posts.edit("p") as post:
        post["likes"].increment()
        post["tags"].add("a")
        post["body"].insert(0, "Hello")
        post["title"] = "y"
        post["stats"] = {"plain": True}
        post["stats"]["views"].increment(7)
        del post["old"]
        assert post.value == {
            "title": "y",
            "likes": 2,
            "tags": ["a"],
            "body": "Hello",
            "stats": {"plain": True, "views": 7},
        }
        assert posts.get("p")["likes"] == 1
    assert posts.last_seq == before + 1
    assert post.written.rev == posts.get("p").rev
    assert posts.get("p") == post.value


def test_an_object_that_is_assigned_keeps_its_fields(posts: crdtdb.Collection) -> None:
    posts.put("p", {"stats": {"views": 5, "old": 1}})
    with posts.edit("p") as post:
        post["stats"] = {"views": 7, "new": 2, "deep": {"set": crdtdb.Set([1])}}
        assert post["stats"].value == {"views": 7, "new": 2, "deep": {"set": [1]}}
        with posts.edit("p") as other:
            other["stats"]["views"].increment(10)
    assert posts.get("p") == {"stats": {"views": 17, "new": 2, "deep": {"set": [1]}}}  # 2 more than it was, and the 10
    assert posts.get("p").fields == {("stats", "views"): "counter", ("stats", "deep", "set"): "set"}
    with pytest.raises(InvalidDocumentError), posts.edit("p") as post:
        post["stats"] = {"views": "many"}
    with posts.edit("p") as post:
        post["stats"] = 7
    assert posts.get("p") == {"stats": 7}


def test_an_edit_that_does_nothing_writes_nothing(posts: crdtdb.Collection) -> None:
    first = posts.put("p", {"likes": 1})
    with posts.edit("p") as post:
        post["tags"].discard("never there")
        post["likes"] = 1
    assert post.written.rev == posts.get("p").rev == first.rev


def test_fields_can_be_removed_and_made_anew(posts: crdtdb.Collection) -> None:
    posts.put("p", {"likes": 5, "body": "x"})
    with posts.edit("p") as post:
        del post["likes"]
    assert posts.get("p") == {"body": "x"}
    with posts.edit("p") as post:
        post["likes"].increment()
        post["body"] = "other"
    assert posts.get("p") == {"likes": 1, "body": "other"}


def test_a_whole_document_without_a_field_removes_it(posts: crdtdb.Collection) -> None:
    first = posts.put("p", {"likes": 5, "stats": {"views": 1}, "body": "x"})
    posts.put("p", {"body": "x"}, first.rev)
    assert posts.get("p") == {"body": "x"}


def test_upsert_and_put_make_operations_of_the_difference(posts: crdtdb.Collection) -> None:
    posts.put("p", {"likes": 5, "body": "hello", "title": "x"})
    posts.upsert("p", lambda post: {**post, "likes": post["likes"] + 2, "body": post["body"] + " world"})
    document = posts.get("p")
    assert document == {"likes": 7, "body": "hello world", "title": "x"}
    assert posts.siblings("p")[0].rev == document.rev
    posts.upsert("new", lambda post: {**post, "likes": post.get("likes", 0) + 1})
    assert posts.get("new") == {"likes": 1}


def test_a_put_names_what_it_read_and_is_refused_if_that_has_changed(
    posts: crdtdb.Collection, db: crdtdb.Database
) -> None:
    with crdtdb.open("memory:") as other:
        posts.put("p", {"likes": 5, "title": "x"})
        crdtdb.sync(db, other)
        read = posts.put("p", {"likes": 5, "title": "y"}, posts.get("p").rev)
        with other["posts"].edit("p") as post:
            post["likes"].increment()
        crdtdb.sync(db, other)
        assert posts.get("p")["likes"] == 6
        with pytest.raises(ConflictError):  # or the increment would be taken back
            posts.put("p", {**read, "title": "z"}, read.rev)
        now = posts.get("p")
        assert posts.put("p", {**now, "title": "z"}, now.rev) == {"likes": 6, "title": "z"}


def test_plain_values_from_before_a_schema_become_fields_with_the_next_write(db: crdtdb.Database) -> None:
    notes = db["notes"]
    first = notes.put("a", {"likes": 5, "body": "hello", "tags": "not a list"})
    notes.put("b", {"likes": 1})
    notes.declare({"likes": crdtdb.Counter, "body": crdtdb.Text, "tags": crdtdb.Set})
    with crdtdb.open("memory:") as other:
        crdtdb.sync(db, other)
        for one in (notes, other["notes"]):  # both make them fields at the same time: once
            with one.edit("a") as document:
                document["likes"].increment()
                document["body"].append("!")
        crdtdb.sync(db, other)
        for one in (notes, other["notes"]):
            assert one.get("a") == {"likes": 7, "body": "hello!!", "tags": "not a list"}
            assert one.get("a").conflicts == ()
    with (
        pytest.raises(InvalidInputError, match="declared as a set, and holds what isn't one"),
        notes.edit("a") as document,
    ):
        document["tags"].add("x")
    document_b = notes.get("b")
    assert notes.put("b", {"likes": 3}, document_b.rev).fields == {("likes",): "counter"}
    assert notes.get("a", first.rev)["likes"] == 5


def test_old_revisions_show_what_fields_were_then(posts: crdtdb.Collection) -> None:
    revs = [posts.put("p", {"likes": 1, "body": "a"}).rev]
    for _ in range(3):
        with posts.edit("p") as post:
            post["likes"].increment()
            post["body"].append("a")
        revs.append(post.written.rev)
    assert [posts.get("p", rev) for rev in revs] == [{"likes": n, "body": "a" * n} for n in (1, 2, 3, 4)]
    assert [one.body for one in posts.history("p")] == [{"likes": n, "body": "a" * n} for n in (4, 3, 2, 1)]


def test_reading_says_which_field_is_of_which_type_if_asked(posts: crdtdb.Collection) -> None:
    posts.put("p", {"title": "x", "likes": 1, "stats": {"views": 2}})
    assert "_crdt" not in posts.get("p")
    document = posts.get("p", crdt=True)
    assert document["_crdt"] == [
        {"path": ["likes"], "type": "counter"},
        {"path": ["stats", "views"], "type": "counter"},
    ]
    assert posts.put("p", {**document, "title": "y"}, document.rev) == {"title": "y", "likes": 1, "stats": {"views": 2}}


def test_a_schema_is_replicated_and_goes_with_its_collection(db: crdtdb.Database) -> None:
    db.collection("posts", schema={"likes": crdtdb.Counter})
    with crdtdb.open("memory:") as other:
        crdtdb.sync(db, other)
        assert other["posts"].schema() == {"likes": "counter"}
        assert len(other["posts"]) == 0
        assert list(other["posts"].all()) == list(other["posts"].changes()) == []
        assert other["posts"].put("p", {"likes": 1}).fields == {("likes",): "counter"}
        other["posts"].declare({"tags": "set"})
        crdtdb.sync(db, other)
        assert db["posts"].schema() == {"likes": "counter", "tags": "set"}
        db.drop("posts")
        db.create("posts")
        crdtdb.sync(db, other)
        assert other["posts"].schema() == db["posts"].schema() == {}
        assert other["posts"].put("p", {"likes": 1}).fields == {}


def test_a_schema_that_contradicts_is_an_error_and_declares_nothing(db: crdtdb.Database) -> None:
    posts = db.collection("posts", schema={"likes": crdtdb.Counter, "stats": {"n": crdtdb.Counter}})
    for wrong in (
        {"likes": crdtdb.Set},
        {"new": "set", "likes": "text"},
        {"stats": crdtdb.Counter},
        {"likes": {"n": "flag"}},
    ):
        with pytest.raises(SchemaError):
            db.collection("posts", schema=wrong)
    assert posts.schema() == {"likes": "counter", "stats": {"n": "counter"}}
    assert posts.declare({"likes": "set"}, replace=True)["likes"] == "set"
    for nonsense in ({"likes": "hologram"}, {"likes": 7}, 7, {"_x": "set"}, {7: "set"}, {"": "set"}, {"a": dict}):
        with pytest.raises(SchemaError):
            posts.declare(nonsense)  # type: ignore[arg-type]


def test_two_types_declared_at_the_same_time_are_refused_until_somebody_decides(db: crdtdb.Database) -> None:
    with crdtdb.open("memory:") as other:
        db.create("posts")
        crdtdb.sync(db, other)
        db["posts"].declare({"likes": "counter", "a": "set"})
        other["posts"].declare({"likes": "set", "b": "set"})
        crdtdb.sync(db, other)
        for one in (db["posts"], other["posts"]):
            assert one.schema() == {"a": "set", "b": "set", "likes": "?"}
            with pytest.raises(SchemaError, match="at the same time"):
                one.put("p", {"likes": 1})
            with pytest.raises(SchemaError, match="replace=True"):
                one.declare({"likes": "counter"})
            assert "p" not in one
            one.put("q", {"a": ["x"]})
        db["posts"].declare({"likes": "counter"}, replace=True)
        crdtdb.sync(db, other)
        assert other["posts"].put("p", {"likes": 1}).fields == {("likes",): "counter"}


WRONG_VALUES = [
    {"likes": "many"}, {"likes": 1.5}, {"likes": True}, {"likes": 2**60}, {"likes": None}, {"tags": "a"}, {"tags": {"a": 1}},
    {"body": 7}, {"body": None}, {"body": "\ud800"}, {"stats": {"seen": 1}}, {"stats": {"views": []}},
    {"likes": crdtdb.Set()}, {"tags": [float("nan")]}, {"title": crdtdb.Counter}, {"list": [crdtdb.Counter(1)]},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_VALUES, ids=repr)
def test_a_value_that_a_field_can_not_hold_is_refused_before_anything_is_written(
    posts: crdtdb.Collection, wrong: dict[str, Any]
) -> None:
    first = posts.put("p", {"likes": 1, "tags": ["a"], "body": "x", "stats": {"views": 1, "seen": False}})
    with pytest.raises((InvalidDocumentError, SchemaError, InvalidInputError)):
        posts.put("new", wrong)
    with pytest.raises((InvalidDocumentError, SchemaError, InvalidInputError)):
        posts.put("p", {**first, **wrong}, first.rev)
    with pytest.raises((InvalidDocumentError, SchemaError, InvalidInputError)):
        posts.resolve("p", wrong)
    (result,) = posts.bulk([{"_id": "bulk", **wrong}])
    assert isinstance(result, CrdtdbError)
    with pytest.raises((InvalidDocumentError, SchemaError, InvalidInputError)), posts.edit("p") as post:
        for key, value in wrong.items():
            post[key] = value
            if isinstance(value, dict):
                for inner, one in value.items():
                    post[key][inner] = one
    assert posts.get("p") == first
    assert len(posts) == 1
    assert posts.get("p").rev == first.rev


WRONG_STEPS: list[Callable[[Any], Any]] = [
    lambda post: post["likes"].add(1),
    lambda post: post["likes"].increment("x"),
    lambda post: post["likes"].increment(1, 2),
    lambda post: post["likes"].increment(by=2, other=1),
    lambda post: post["likes"].increment(2**60),
    lambda post: post["tags"].remove("not there"),
    lambda post: post["tags"].add(),
    lambda post: post["tags"].add(float("inf")),
    lambda post: post["tags"].add("x" * 70_000),
    lambda post: post["body"].insert(2, "x"),
    lambda post: post["body"].insert(-1, "x"),
    lambda post: post["body"].insert(0, 7),
    lambda post: post["body"].delete(0, 2),
    lambda post: post["body"].delete(True),
    lambda post: post["nothing"],
    lambda post: post["likes"]["x"],
    lambda post: post.__setitem__("_rev", 1),
    lambda post: post.__setitem__(7, 1),
    lambda post: post.__delitem__("nothing"),
    lambda post: post["map"].remove("nothing"),
    lambda post: post["map"].set(7, 1),
    lambda post: post["list"].insert(0, 7),
    lambda post: post["list"].delete(3),
    lambda post: post["list"].replace(1, "x"),
    lambda post: post["list"][0],
    lambda post: post.__setitem__("likes", crdtdb.Set()),
    lambda post: post.__setitem__("map", crdtdb.Text()),
    lambda post: post.perform([{"path": "likes", "operation": "increment"}, 7]),
    lambda post: post.perform([{"path": 7, "operation": "increment"}]),
    lambda post: post.perform([{"path": [], "operation": "increment"}]),
    lambda post: post.perform([{"path": "likes", "operation": "increment", "by": 1.5}]),
    lambda post: post.perform([{"path": "likes"}]),
    lambda post: post.perform([{"path": "x", "operation": "assign", "type": "hologram"}]),
    lambda post: post.perform([{"path": "x", "operation": "assign", "value": 1, "extra": 1}]),
    lambda post: post.perform([{"path": "nothing", "operation": "unassign"}]),
    lambda post: [post["likes"].increment() for _ in range(10_001)],
]


@pytest.mark.parametrize("step", WRONG_STEPS, ids=range(len(WRONG_STEPS)))
def test_a_step_that_can_not_be_done_is_an_error_and_the_edit_writes_nothing(
    posts: crdtdb.Collection, step: Callable[[Any], Any]
) -> None:
    body = {"title": "x", "likes": 1, "tags": ["a"], "body": "h", "map": crdtdb.Map({"k": 1}), "list": crdtdb.List([1])}
    first = posts.put("p", body)
    with pytest.raises((InvalidInputError, NotFoundError)) as raised, posts.edit("p") as post:
        post["likes"].increment(100)
        step(post)
    assert str(raised.value)
    assert posts.get("p") == first
    assert posts.get("p").rev == first.rev


def test_what_is_not_there_can_not_be_edited(posts: crdtdb.Collection) -> None:
    with pytest.raises(NotFoundError, match="put it first"), posts.edit("p"):
        pass
    posts.delete("q", posts.put("q", {}).rev)
    with pytest.raises(NotFoundError), posts.edit("q"):
        pass
    posts.put("r", {"likes": 1})
    with pytest.raises(NotFoundError), posts.edit("r") as post:
        post["likes"].increment()
        posts.delete("r", posts.get("r").rev)
    posts.put("s", {"likes": 1})
    with pytest.raises(ConflictError), posts.edit("s", "1-abc"):
        pass


def test_fields_of_one_document_are_bounded(posts: crdtdb.Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb.documents.fields.FIELD_ADDRESSES_MAX", 50)
    posts.put("p", {"tags": list(range(40))})
    with pytest.raises(TooLargeError, match="the limit is 50"), posts.edit("p") as post:
        for n in range(40, 60):
            post["tags"].add(n)
    assert len(posts.get("p")["tags"]) == 40
    monkeypatch.setattr("crdtdb.documents.fields.FIELD_ADDRESSES_MAX", 30)
    with posts.edit("p") as post:  # beyond the limit already: it may shrink
        post["tags"].remove(0)
    assert len(posts.get("p")["tags"]) == 39
    deep = crdtdb.Counter(1)
    body: dict[str, Any] = {"x": deep}
    for _ in range(40):
        body = {"x": body}
    with pytest.raises(TooLargeError, match="the limit is 32"):
        posts.put("deep", body)


def test_20_000_writes_to_two_keys_of_a_map_leave_a_document_that_is_small(db: crdtdb.Database) -> None:
    notes = db["notes"]
    notes.put("a", {"m": crdtdb.Map()})
    for n in range(200):
        with notes.edit("a") as document:
            for step in range(100):
                document["m"]["even" if step % 2 else "odd"] = n * 100 + step
    assert notes.get("a")["m"] == {"odd": 19_998, "even": 19_999}
    record = db.store.read("notes", "a")
    assert record is not None
    number = db.store.collection("notes").number
    (row,) = [value for key, value in backend_of(db.store).scan(b"d", b"e") if key[1:5] == number.to_bytes(4, "big")]
    assert len(row) < 400


def test_why_says_who_wrote_what_and_why_the_winner_won(db: crdtdb.Database) -> None:
    with crdtdb.open("memory:") as other:
        db["posts"].put("p", {"title": "x", "likes": crdtdb.Counter(1), "body": crdtdb.Text("hi")})
        crdtdb.sync(db, other)
        db["posts"].put("p", {**db["posts"].get("p"), "title": "here"}, db["posts"].get("p").rev)
        other["posts"].put("p", {**other["posts"].get("p"), "title": "there"}, other["posts"].get("p").rev)
        with other["posts"].edit("p") as post:
            post["likes"].increment()
        crdtdb.sync(db, other)
        explained = db["posts"].why("p")
        assert explained == json.loads(json.dumps(explained))
        assert explained["state"] == "conflict"
        assert "generation 3 is the highest" in explained["why"]
        assert [one["role"] for one in explained["versions"]] == ["winner", "sibling"]
        assert {one["node"] for one in explained["versions"]} == {db.store.actor.hex(), other.store.actor.hex()}
        (likes,) = [one for one in explained["fields"] if one["path"] == ["likes"]]
        assert likes["value"] == 2
        assert {dot["node"] for dot in likes["parts"][0]["dots"]} == {db.store.actor.hex(), other.store.actor.hex()}
        assert {**explained, "fields": None} == {**other["posts"].why("p"), "fields": None}
    with pytest.raises(NotFoundError):
        db["posts"].why("nothing")


def test_a_resolution_leaves_fields_alone_that_it_does_not_mention(db: crdtdb.Database) -> None:
    with crdtdb.open("memory:") as other:
        db["posts"].put(
            "p", {"title": "x", "likes": crdtdb.Counter(1), "body": crdtdb.Text("hi"), "in": {"n": crdtdb.Counter(2)}}
        )
        crdtdb.sync(db, other)
        for one, title in ((db, "here"), (other, "there")):
            document = one["posts"].get("p")
            one["posts"].put("p", {**document, "title": title}, document.rev)
        crdtdb.sync(db, other)
        read = db["posts"].get("p")
        with db["posts"].edit("p") as post:
            post["likes"].increment()
        with pytest.raises(ConflictError):
            db["posts"].resolve("p", {**read, "title": "both"}, read.rev)
        db["posts"].resolve("p", {"title": "both"})
        assert db["posts"].get("p") == {"title": "both", "likes": 2, "body": "hi", "in": {"n": 2}}
        now = db["posts"].get("p")
        db["posts"].resolve("p", {"title": "again", "likes": 5}, now.rev)
        crdtdb.sync(db, other)
        assert other["posts"].get("p") == {"title": "again", "likes": 5, "body": "hi", "in": {"n": 2}}
        assert other["posts"].get("p").conflicts == ()


def test_a_text_whose_document_was_dropped_since_it_was_read_is_not_shown_as_empty(
    posts: crdtdb.Collection, db: crdtdb.Database
) -> None:
    document = posts.put("p", {"body": "hello"})
    db.drop("posts")
    db.create("posts")
    forget_sequences(db.store)
    with pytest.raises(NotFoundError, match="was dropped since it was read"):
        document["body"]


def test_resolvers_leave_fields_alone(db: crdtdb.Database) -> None:
    with crdtdb.open("memory:") as other:
        for number, one in enumerate((db, other)):
            one.collection("carts", resolver="three_way_merge")
            one["carts"].put("c", {"who": "ada", "n": crdtdb.Counter(1), "items": crdtdb.Set([number])})
        crdtdb.sync(db, other)
        for one, key in ((db, "here"), (other, "there")):
            document = one["carts"].get("c")
            one["carts"].put("c", {**document, key: True}, document.rev)
        crdtdb.sync(db, other)
        crdtdb.sync(db, other)
        for one in (db, other):
            assert one["carts"].get("c") == {"who": "ada", "n": 2, "items": [0, 1], "here": True, "there": True}
            assert one["carts"].get("c").conflicts == ()


@pytest.mark.anyio
async def test_edits_of_the_async_face() -> None:
    async with crdtdb.aio.open("memory:") as db:
        notes = db.collection("notes")
        await notes.declare({"n": crdtdb.Counter})
        await notes.put("a", {"n": 1})
        async with notes.edit("a") as document:
            document["n"].increment()
        assert document.written["n"] == 2
        with pytest.raises(InvalidInputError):
            async with notes.edit("a") as document:
                document["n"].increment()
                document["n"].insert(0, "x")
        assert (await notes.get("a", crdt=True))["_crdt"] == [{"path": ["n"], "type": "counter"}]
        assert (await notes.why("a"))["state"] == "one value"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
