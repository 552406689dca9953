"""_find, _explain, _index, PATCH, _update_many and _delete_many: CouchDB's shapes and words, over the application itself."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

import crdtdb
from crdtdb.couchdb import Options, Trees
from crdtdb.database.queries.cursor import QueryCursor, check_query
from crdtdb.http.resources.queries import found_documents
from tests.http.test_api import anyio_backend, client, db_of

__all__ = ["anyio_backend", "client"]
pytestmark = pytest.mark.anyio

PEOPLE = [
    {"_id": f"p{n:03}", "age": n % 10, "name": f"n{n}", "at": {"city": ("Rome", "Oslo")[n % 2]}} for n in range(60)
]


async def fill(client: httpx.AsyncClient) -> None:
    assert (await client.post("/notes/_bulk_docs", json={"docs": PEOPLE})).status_code == 201


async def ask(client: httpx.AsyncClient, what: str, **body: Any) -> Any:
    answer = await client.post(f"/notes/{what}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_find_with_and_without_an_index(client: httpx.AsyncClient) -> None:
    await fill(client)
    without = await ask(client, "_find", selector={"age": {"$gt": 7}}, execution_stats=True)
    assert len(without["docs"]) == 12
    assert without["warning"] == "No matching index found, create an index to optimize query time."
    assert without["execution_stats"]["total_docs_examined"] == 60
    one = without["docs"][0]
    assert (one["_id"], one["age"]) == ("p008", 8)
    assert (await client.get("/notes/p008")).json()["_rev"] == one["_rev"]
    made = await ask(client, "_index", index={"fields": ["age"]}, ddoc="by", name="age")
    assert made == {"result": "created", "id": "_design/by", "name": "age"}
    again = await ask(client, "_index", index={"fields": [{"age": "asc"}]}, ddoc="by", name="age", type="json")
    assert again["result"] == "exists"
    through = await ask(client, "_find", selector={"age": {"$gt": 7}}, execution_stats=True, sort=[{"age": "desc"}])
    assert [one["age"] for one in through["docs"]] == [9] * 6 + [8] * 6
    assert "warning" not in through
    stats = through["execution_stats"]
    assert (stats["total_docs_examined"], stats["total_keys_examined"], stats["results_returned"]) == (12, 12, 12)
    assert len((await ask(client, "_find", selector={}))["docs"]) == 25, "CouchDB's limit"
    assert (await ask(client, "_find", selector={"age": 5}, count=True))["count"] == 6
    explained = await ask(client, "_explain", selector={"age": 5}, fields=["name"], limit=3)
    assert (explained["index"]["ddoc"], explained["index"]["def"]) == ("_design/by", {"fields": [{"age": "asc"}]})
    assert (explained["limit"], explained["fields"], explained["range"]["narrowed_by"]) == (3, ["name"], 1)


async def test_fields_pages_and_conflicts(client: httpx.AsyncClient) -> None:
    await fill(client)
    seen: list[str] = []
    bookmark = None
    while True:
        page = await ask(
            client, "_find", selector={"at.city": "Oslo"}, fields=["_id", "at.city"], limit=7, bookmark=bookmark
        )
        seen += [one["_id"] for one in page["docs"]]
        assert all(one["at"] == {"city": "Oslo"} and set(one) == {"_id", "at"} for one in page["docs"])
        bookmark = page["bookmark"]
        if len(page["docs"]) < 7:
            break
    assert seen == [one["_id"] for one in PEOPLE if one["at"] == {"city": "Oslo"}]
    for digest in ("a", "b"):
        await client.post(
            "/notes/_bulk_docs", json={"docs": [{"_id": "c", "_rev": f"1-{digest}", "who": digest}], "new_edits": False}
        )
    (one,) = (await ask(client, "_find", selector={"who": {"$exists": True}}, conflicts=True))["docs"]
    assert one == {"_id": "c", "_rev": "1-b", "who": "b", "_conflicts": ["1-a"]}


async def test_what_was_merged_is_published_before_it_is_found(client: httpx.AsyncClient) -> None:
    db = db_of(client)
    with crdtdb.open("memory:") as other:
        notes = db.collection("likes", schema={"likes": crdtdb.Counter})
        notes.put("a", {"likes": 1})
        crdtdb.sync(db, other)
        for one in (db, other):
            with one["likes"].edit("a") as edit:
                edit["likes"].increment(1)
        crdtdb.sync(db, other)
    answer = (await client.post("/likes/_find", json={"selector": {"likes": {"$gte": 3}}})).json()
    (found,) = answer["docs"]
    assert found["likes"] == 3
    assert (await client.get(f"/likes/a?rev={found['_rev']}")).json() == found


async def test_a_large_answer_comes_in_parts(client: httpx.AsyncClient) -> None:
    await client.post("/notes/_bulk_docs", json={"docs": [{"_id": f"b{n:04}", "n": n} for n in range(1_000)]})
    answer = await ask(client, "_find", selector={"n": {"$gte": 0}}, limit=1_000)
    assert [one["n"] for one in answer["docs"]] == list(range(1_000))
    assert (await ask(client, "_find", selector={"n": -1}))["docs"] == []
    assert (await ask(client, "_find", selector={"n": -1}))["bookmark"] == "nil"


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("_find", {}, 400, "missing_required_key"),
        ("_find", {"selector": []}, 400, "invalid_selector_json"),
        ("_find", {"selector": {"a": {"$what": 1}}}, 400, "invalid_operator"),
        ("_find", {"selector": {"a": {"$in": 1}}}, 400, "bad_arg"),
        ("_find", {"selector": {"a..b": 1}}, 400, "invalid_field_name"),
        ("_find", {"selector": {}, "fields": "a"}, 400, "invalid_fields"),
        ("_find", {"selector": {}, "limt": 1}, 400, "invalid_key"),
        ("_find", {"selector": {}, "limit": -1}, 400, "invalid_non_neg_integer"),
        ("_find", {"selector": {}, "conflicts": "yes"}, 400, "invalid_boolean"),
        ("_find", {"selector": {}, "sort": [{"a": "asc"}, {"b": "desc"}]}, 400, "unsupported_mixed_sort"),
        ("_find", {"selector": {}, "bookmark": "%%"}, 400, "invalid_bookmark"),
        ("_find", {"selector": {"a": 1}, "allow_fallback": False}, 400, "invalid_index"),
        ("_find", {"selector": {"name": {"$regex": "^(n|n|nn)+$"}}, "fields": ["_id"]}, 413, "too_large"),
        ("_find", [], 400, "bad_request"),
        ("_explain", {"selector": 5}, 400, "invalid_selector_json"),
        ("_index", {}, 400, "missing_required_key"),
        ("_index", {"index": {"fields": []}}, 400, "bad_request"),
        ("_index", {"index": {"fields": ["a"]}, "type": "text"}, 400, "invalid_index"),
        ("_index", {"index": {"fields": ["a"]}, "ddoc": 5}, 400, "bad_request"),
        ("_index", {"index": {"fields": ["a"]}, "ddoc": "views"}, 400, "bad_request"),
        ("_index/_bulk_delete", {"docids": "a"}, 400, "bad_request"),
        ("_update_many", {"selector": {}}, 400, "missing_required_key"),
        ("_update_many", {"selector": {}, "patch": {"_id": "x"}}, 400, "bad_request"),
        ("_update_many", {"selector": {}, "patch": [], "limit": 1}, 400, "bad_request"),
        ("_update_many", {"selector": {}, "patch": {}, "limit": 0}, 400, "bad_request"),
        ("_delete_many", {"selector": {}, "sort": ["a"]}, 400, "invalid_key"),
        ("_delete_many", {"selector": {}, "limit": 100_000}, 400, "bad_request"),
    ],
)
async def test_what_is_refused(client: httpx.AsyncClient, path: str, body: Any, status: int, error: str) -> None:
    await client.put("/notes/_design/views", json={"views": {}})
    await client.put("/notes/long", json={"name": "n" * 60 + "!"})
    before = (await client.get("/notes")).json()["update_seq"]
    answer = await client.post(f"/notes/{path}", content=json.dumps(body))
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    assert answer.json()["reason"]
    assert (await client.get("/notes")).json()["update_seq"] == before
    assert (await client.post("/nothing/_find", json={"selector": {}})).status_code == 404


async def test_indexes_are_listed_and_dropped(client: httpx.AsyncClient) -> None:
    for name in ("a", "b", "c"):
        await ask(client, "_index", index={"fields": [name]}, ddoc="two" if name != "c" else "one", name=name)
    listed = (await client.get("/notes/_index")).json()
    assert listed["total_rows"] == 4
    assert [(one["ddoc"], one["name"], one["type"]) for one in listed["indexes"]] == [
        (None, "_all_docs", "special"),
        ("_design/one", "c", "json"),
        ("_design/two", "a", "json"),
        ("_design/two", "b", "json"),
    ]
    assert (await client.delete("/notes/_index/two/json/a")).json() == {"ok": True}
    assert (await client.delete("/notes/_index/_design/two/json/b")).json() == {"ok": True}
    assert (await client.delete("/notes/_index/two/json/b")).status_code == 404
    gone = await ask(client, "_index/_bulk_delete", docids=["_design/one", "nothing"])
    assert gone["success"] == [{"id": "_design/one", "ok": True}]
    assert [(one["id"], one["error"]) for one in gone["fail"]] == [("nothing", "not_found")]
    assert (await client.get("/notes/_index")).json()["total_rows"] == 1
    assert (await client.get("/notes/_all_docs")).json()["rows"] == []


async def test_an_index_may_be_written_as_a_design_document(client: httpx.AsyncClient) -> None:
    await fill(client)
    view = {
        "map": {"fields": {"name": "asc", "age": "asc"}},
        "reduce": "_count",
        "options": {"def": {"fields": ["name", "age"]}},
    }
    await client.put("/notes/_design/own", json={"language": "query", "views": {"v": view}})
    explained = await ask(client, "_explain", selector={"name": "n5", "age": {"$gt": 0}})
    assert explained["index"]["def"]["fields"] == [{"name": "asc"}, {"age": "asc"}]
    assert explained["range"]["narrowed_by"] == 2
    assert [one["_id"] for one in (await ask(client, "_find", selector={"name": "n5", "age": {"$gt": 0}}))["docs"]] == [
        "p005"
    ]


async def test_patch(client: httpx.AsyncClient) -> None:
    made = (await client.put("/notes/a", json={"title": "x", "deep": {"b": 1, "c": 2}})).json()
    patched = await client.patch("/notes/a", json={"deep": {"b": None}, "n": 1})
    assert patched.status_code == 201
    now = (await client.get("/notes/a")).json()
    assert now == {"_id": "a", "_rev": patched.json()["rev"], "title": "x", "deep": {"c": 2}, "n": 1}
    assert (await client.patch(f"/notes/a?rev={made['rev']}", json={"n": 2})).status_code == 409
    named = await client.patch("/notes/a", json={"n": 2}, headers={"if-match": f'"{now["_rev"]}"'})
    assert named.status_code == 201
    assert (await client.patch("/notes/a", json={"_rev": "1-a"})).status_code == 400
    assert (await client.patch("/notes/a", json=[])).status_code == 400
    assert (await client.patch("/notes/nothing", json={})).status_code == 404
    assert (await client.patch("/notes/_design/app", json={"views": {}})).status_code == 404
    rev = named.json()["rev"]
    await client.put("/notes/a/file.txt", params={"rev": rev}, content=b"bytes", headers={"content-type": "text/plain"})
    assert (await client.patch("/notes/a", json={"n": 3})).status_code == 201
    assert (await client.get("/notes/a/file.txt")).content == b"bytes"
    await client.delete("/notes/a", params={"rev": (await client.get("/notes/a")).json()["_rev"]})
    assert (await client.patch("/notes/a", json={"n": 4})).json()["reason"] == "deleted"


async def test_update_and_delete_many(client: httpx.AsyncClient) -> None:
    await fill(client)
    first = await ask(client, "_update_many", selector={"at.city": "Rome"}, patch={"at": {"in": "Italy"}}, limit=20)
    assert (first["changed"], first["failed"], len(first["results"])) == (20, 0, 20)
    rest = await ask(
        client,
        "_update_many",
        selector={"at.city": "Rome"},
        patch={"at": {"in": "Italy"}},
        limit=20,
        bookmark=first["bookmark"],
    )
    assert (rest["changed"], rest["bookmark"]) == (10, "nil")
    assert (await ask(client, "_find", selector={"at.in": "Italy"}, count=True))["count"] == 30
    result = first["results"][0]
    assert (await client.get(f"/notes/{result['id']}")).json()["_rev"] == result["rev"]
    gone = await ask(client, "_delete_many", selector={"at.in": "Italy"})
    assert (gone["changed"], gone["bookmark"]) == (30, "nil")
    assert (await client.get("/notes")).json()["doc_count"] == 30


async def test_a_selector_that_is_nested_too_deeply(client: httpx.AsyncClient) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    await client.put("/notes/a", json={"n": 1})
    for path in ("_find", "_explain"):
        answer = await client.post(f"/notes/{path}", json={"selector": {"n": deep}})
        assert answer.status_code < 500, answer.text
    assert (await client.post("/notes/_explain", json={"selector": {"n": deep}})).json()["error"] == "too_large"


async def test_ids_are_above_every_number_and_every_array(client: httpx.AsyncClient) -> None:
    await client.put("/notes/x", json={"$dollar": 1, "o": {"b": 1, "a": 2}})
    bounds: list[Any] = [None, True, 5, [], ["x"], {}]
    for bound in bounds:
        for operator, meant in (("$gt", True), ("$gte", True), ("$lt", False), ("$lte", False)):
            found = await ask(client, "_find", selector={"_id": {operator: bound}, "o": {"$exists": True}})
            assert bool(found["docs"]) == meant, (operator, bound)
    for selector, meant in (
        ({"\\$dollar": 1}, True),
        ({"o": {"$eq": {"b": 1, "a": 2}}}, True),
        ({"o": {"$eq": {"a": 2, "b": 1}}}, False),
        ({"$nor": []}, False),
    ):
        found = await ask(client, "_find", selector={"_id": "x", **selector})
        assert bool(found["docs"]) == meant, selector


def test_a_query_over_http_answers_from_what_it_searched() -> None:
    with crdtdb.open("memory:") as db:
        notes = db["notes"]
        for doc_id in ("a", "b", "c"):
            notes.put(doc_id, {"n": 1})
        cursor = QueryCursor(db.store, "notes", check_query({"n": 1}))
        found = found_documents(Trees(db.store, "notes"), cursor, Options())
        assert next(found)["_id"] == "a"
        first = notes.get("b").rev
        notes.put("b", {"n": 2}, first)
        notes.delete("c", notes.get("c").rev)
        assert [(one["_id"], one["n"]) for one in found] == [("b", 1), ("c", 1)]


def test_what_is_published_while_a_query_reads_is_tested_again() -> None:
    with crdtdb.open("memory:") as db:
        posts = db.collection("posts", schema={"likes": crdtdb.Counter})
        for doc_id in ("a", "b", "c"):
            posts.put(doc_id, {"n": 1, "likes": 0})
            with posts.edit(doc_id) as edit:
                edit["likes"].increment(1)
        cursor = QueryCursor(db.store, "posts", check_query({"n": 1}))
        found = found_documents(Trees(db.store, "posts"), cursor, Options())
        assert next(found)["likes"] == 1
        posts.patch("b", {"n": 2})
        assert [one["_id"] for one in found] == ["c"]
