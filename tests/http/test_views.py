"""Design documents in JavaScript over the application itself: views, filters and validation, in real processes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

import crdtdb
from crdtdb.http.app import make_app
from crdtdb.javascript import Scripts
from crdtdb.javascript.process import Process
from tests.http.test_api import Cluster, anyio_backend, certified, db_of
from tests.inside import backend_of
from tests.json_posts import ASYNC_HOOKS

__all__ = ["anyio_backend"]
pytestmark = [pytest.mark.anyio, pytest.mark.processes]

DESIGN = {
    "views": {
        "lib": {"words": "exports.first = function (text) { return text[0] }"},
        "by-n": {"map": "function (doc) { if (doc.n !== undefined) emit(doc.n, doc.name) }", "reduce": "_count"},
        "tags": {
            "map": "function (doc) { (doc.tags || []).forEach(tag => emit([tag, doc.n], doc.n)) }",
            "reduce": "function (keys, values, rereduce) { return sum(values) }",
        },
        "plain": {"map": "doc => emit(require('views/lib/words').first(doc._id), {_id: 'd0'})"},
        "looping": {"map": "doc => { while (true) {} }"},
        "throwing": {"map": "doc => { if (doc.n === 1) throw new Error('no ones'); emit(doc.n) }"},
        "odd": {"map": "doc => emit(1, 'x')", "reduce": "_sum"},
        "badly": {"map": "doc => emit(1)", "reduce": "function () { throw new Error('it is broken') }"},
    },
    "filters": {
        "least": "function (doc, req) { return doc.n >= Number(req.query.least) && req.userCtx.name === 'ada' }",
        "broken": "function (doc) { throw 'broken' }",
    },
}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    scripts = Scripts(start=lambda: Process(seconds=0.3))
    with crdtdb.open("memory:") as db:
        app = certified(make_app(db, Cluster(), scripts=scripts))
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://node", event_hooks=ASYNC_HOOKS) as made:
            made.db = db  # type: ignore[attr-defined]
            await made.put("/notes")
            docs = [{"_id": f"d{n}", "n": n % 4, "name": f"n{n}", "tags": ["x", "y"][: n % 3]} for n in range(10)]
            await made.post("/notes/_bulk_docs", json={"docs": docs})
            assert (await made.put("/notes/_design/app", json=DESIGN)).status_code == 201
            yield made
    scripts.close()


async def ask(client: httpx.AsyncClient, view: str, **query: Any) -> Any:
    answer = await client.get(f"/notes/_design/app/_view/{view}", params={k: json.dumps(v) for k, v in query.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_rows_of_a_view(client: httpx.AsyncClient) -> None:
    whole = await ask(client, "by-n", reduce=False)
    assert (whole["total_rows"], whole["offset"]) == (10, 0)
    assert [(one["key"], one["id"]) for one in whole["rows"]] == sorted((n % 4, f"d{n}") for n in range(10))
    assert whole["rows"][0] == {"id": "d0", "key": 0, "value": "n0"}
    some = await ask(client, "by-n", reduce=False, startkey=1, endkey=2, skip=1, limit=3, descending=False)
    assert [one["id"] for one in some["rows"]] == ["d5", "d9", "d2"]
    assert [one["id"] for one in (await ask(client, "by-n", reduce=False, key=3))["rows"]] == ["d3", "d7"]
    assert [one["id"] for one in (await ask(client, "by-n", reduce=False, keys=[3, 0], limit=3))["rows"]] == [
        "d3",
        "d7",
        "d0",
    ]
    by_post = await client.post("/notes/_design/app/_view/by-n?reduce=false", json={"keys": [3]})
    assert [one["id"] for one in by_post.json()["rows"]] == ["d3", "d7"]
    documents = await ask(client, "by-n", reduce=False, key=3, include_docs=True)
    assert documents["rows"][0]["doc"] == (await client.get("/notes/d3")).json()
    linked = await ask(client, "plain", include_docs=True, limit=1)
    assert linked["rows"] == [
        {"id": "d0", "key": "d", "value": {"_id": "d0"}, "doc": (await client.get("/notes/d0")).json()}
    ]
    await client.put("/notes/late", json={"n": 3})
    assert [one["id"] for one in (await ask(client, "by-n", reduce=False, key=3, update=False))["rows"]] == [
        "d3",
        "d7",
    ]
    assert [one["id"] for one in (await ask(client, "by-n", reduce=False, key=3))["rows"]] == ["d3", "d7", "late"]
    rev = (await client.get("/notes/d3")).json()["_rev"]
    await client.delete(f"/notes/d3?rev={rev}")
    assert [one["id"] for one in (await ask(client, "by-n", reduce=False, key=3))["rows"]] == ["d7", "late"]


async def test_reduced_rows(client: httpx.AsyncClient) -> None:
    assert (await ask(client, "by-n"))["rows"] == [{"key": None, "value": 10}]
    assert (await ask(client, "by-n", group=True))["rows"] == [{"key": n, "value": (3, 3, 2, 2)[n]} for n in range(4)]
    assert (await ask(client, "tags"))["rows"] == [{"key": None, "value": 10}]
    assert (await ask(client, "tags", group_level=1))["rows"] == [
        {"key": ["x"], "value": 7},
        {"key": ["y"], "value": 3},
    ]
    grouped = await ask(client, "tags", group=True, limit=1, skip=1)
    assert grouped["rows"] == [{"key": ["x", 1], "value": 2}]
    keys = await ask(client, "by-n", group=True, keys=[3, 1])
    assert keys["rows"] == [{"key": 3, "value": 2}, {"key": 1, "value": 3}]
    several = await client.post(
        "/notes/_design/app/_view/by-n/queries", json={"queries": [{"key": 1}, {"reduce": False, "limit": 1}]}
    )
    assert several.json()["results"] == [
        {"rows": [{"key": None, "value": 3}]},
        {"total_rows": 10, "offset": 0, "rows": [{"id": "d0", "key": 0, "value": "n0"}]},
    ]


async def test_many_rows_are_reduced_in_steps(client: httpx.AsyncClient) -> None:
    docs = [{"_id": f"m{n:05}", "tags": ["many"], "n": 1} for n in range(3_000)]
    await client.post("/notes/_bulk_docs", json={"docs": docs})
    assert (await ask(client, "tags", startkey=["many"], endkey=["many", {}]))["rows"] == [
        {"key": None, "value": 3_000}
    ]
    rows = (await ask(client, "tags", reduce=False, startkey=["many"], endkey=["many", {}]))["rows"]
    assert [one["id"] for one in rows] == [one["_id"] for one in docs]


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("app/_view/nothing", 404, "not_found"),
        ("nothing/_view/by-n", 404, "not_found"),
        ("app/_view/lib", 404, "not_found"),
        ("app/_view/by-n?limit=-1", 400, "query_parse_error"),
        ("app/_view/by-n?key={", 400, "bad_request"),
        ("app/_view/by-n?reduce=maybe", 400, "query_parse_error"),
        ("app/_view/by-n?reduce=false&startkey=2&endkey=1", 400, "query_parse_error"),
        ("app/_view/by-n?reduce=false&group=true", 400, "query_parse_error"),
        ("app/_view/by-n?include_docs=true", 400, "query_parse_error"),
        ("app/_view/by-n?keys=[1]", 400, "query_parse_error"),
        ("app/_view/by-n?keys=1&group=true", 400, "query_parse_error"),
        ("app/_view/plain?reduce=true", 400, "query_parse_error"),
        ("app/_view/plain?group_level=1", 400, "query_parse_error"),
        ("app/_view/by-n?startkey=1&startkey_docid=1&limit=x", 400, "query_parse_error"),
        ("app/_view/looping", 500, "script_error"),
        ("app/_show/thing", 404, "not_found"),
    ],
)
async def test_what_is_refused(client: httpx.AsyncClient, path: str, status: int, error: str) -> None:
    answer = await client.get(f"/notes/_design/{path}")
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    assert (await ask(client, "by-n"))["rows"] == [{"key": None, "value": 10}], "the others go on"


async def test_functions_that_fail_say_where(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    looping = (await client.get("/notes/_design/app/_view/looping")).json()
    assert looping["reason"] == "_design/app/_view/looping: it took too long, and was stopped"
    assert "looping: it took too long" in caplog.text
    badly = (await client.get("/notes/_design/app/_view/badly")).json()
    assert badly["rows"] == [{"key": None, "value": None}]
    odd = (await client.get("/notes/_design/app/_view/odd")).json()
    assert odd["rows"][0]["value"]["error"] == "builtin_reduce_error"
    rows = (await ask(client, "throwing"))["rows"]
    assert {one["key"] for one in rows} == {0, 2, 3}
    assert "_design/app/_view/throwing threw over document 'd1': Error: no ones" in caplog.text


async def test_without_the_engine_it_says_what_to_install(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crdtdb.javascript.process.find_spec", lambda name: None)
    for path in ("_design/app/_view/by-n", "_changes?filter=app/least&least=1", "_changes?filter=_view&view=app/by-n"):
        answer = await client.get(f"/notes/{path}")
        assert (answer.status_code, answer.json()["error"]) == (501, "not_implemented")
        assert "pip install 'crdtdb[javascript]'" in answer.json()["reason"]
    assert (await client.get("/notes/d1")).status_code == 200
    await client.put("/notes/_design/guard", json={"validate_doc_update": "function () {}"})
    assert (await client.put("/notes/new", json={})).status_code == 501, "who can't be asked hasn't agreed"


async def test_views_are_shared_kept_and_cleaned(client: httpx.AsyncClient) -> None:
    db = db_of(client)
    await ask(client, "by-n")
    info = (await client.get("/notes/_design/app/_info")).json()["view_index"]["views"]
    assert (info["by-n"]["rows"], info["by-n"]["behind"], info["tags"]["rows"]) == (10, 0, 0)
    same = {"views": {"other": {"map": DESIGN["views"]["by-n"]["map"]}, "lib": DESIGN["views"]["lib"]}}  # type: ignore[index]
    await client.put("/notes/_design/same", json=same)
    info = (await client.get("/notes/_design/same/_info")).json()["view_index"]["views"]
    assert info["other"]["rows"] == 10, "a function that is known has its rows already"
    for design in ("app", "same"):
        rev = (await client.get(f"/notes/_design/{design}")).json()["_rev"]
        await client.delete(f"/notes/_design/{design}?rev={rev}")
    assert (await client.post("/notes/_view_cleanup")).status_code == 202
    while db.store.sweeper.sweep():
        pass
    for kind in (b"v", b"I", b"j", b"X"):
        assert list(backend_of(db.store).scan(kind, kind + b"\xff")) == []


async def test_filters(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/notes/_changes?filter=app/least&least=3")).json()
    assert [one["id"] for one in answer["results"]] == ["d3", "d7"]
    answer = (await client.get("/notes/_changes?filter=_view&view=app/by-n")).json()
    assert len(answer["results"]) == 10
    broken = await client.get("/notes/_changes?filter=app/broken")
    assert (broken.status_code, broken.json()["error"]) == (500, "script_error")
    assert broken.json()["reason"] == "_design/app/_filter/broken threw: broken"
    for query, status in (
        ("filter=app/nothing", 404),
        ("filter=nothing/least", 404),
        ("filter=least", 400),
        ("filter=_view", 400),
        ("filter=_view&view=app/nothing", 404),
    ):
        assert (await client.get(f"/notes/_changes?{query}")).status_code == status


GUARD = {
    "validate_doc_update": """function (doc, before, user, security) {
        if (doc._deleted) { if (user.roles.indexOf('_admin') < 0) throw({forbidden: 'only admins delete'}); return }
        if (before && before.owner !== user.name) throw({forbidden: 'it is of ' + before.owner})
        if (doc.owner !== user.name) throw({unauthorized: 'sign it, ' + user.name})
        if (doc.mistake) throw new Error('a mistake')
    }"""
}


async def test_validation(client: httpx.AsyncClient) -> None:
    notes = db_of(client)["notes"]
    notes.put("theirs", {"owner": "bob"})
    await client.put("/notes/_design/guard", json=GUARD)
    assert (await client.put("/notes/mine", json={"owner": "ada"})).status_code == 201
    mine = (await client.get("/notes/mine")).json()
    for method, path, body, status, reason in (
        ("PUT", "new", {"owner": "bob"}, 401, "sign it, ada"),
        (
            "PUT",
            "new",
            {"owner": "ada", "mistake": True},
            500,
            "_design/guard/validate_doc_update threw: Error: a mistake",
        ),
        ("POST", "", {"n": 1}, 401, "sign it, ada"),
        ("PATCH", "theirs", {"n": 1}, 403, "it is of bob"),
        ("PATCH", "mine", {"owner": "bob"}, 401, "sign it, ada"),
        ("DELETE", f"mine?rev={mine['_rev']}", None, 403, "only admins delete"),
        ("PUT", f"mine/file?rev={mine['_rev']}", "bytes", 201, None),
        ("PUT", f"theirs/file?rev={notes.get('theirs').rev}", "bytes", 403, "it is of bob"),
        ("POST", "theirs/_resolve", {"owner": "ada"}, 403, "it is of bob"),
        ("POST", "_update_many", {"selector": {"_id": "mine"}, "patch": {"n": 2}}, 200, None),
        ("PUT", "_design/other", {"owner": "nobody"}, 201, None),
        ("PUT", "_local/x", {"owner": "nobody"}, 201, None),
    ):
        content = None if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        answer = await client.request(method, f"/notes/{path}", content=content)
        assert answer.status_code == status, (path, answer.text)
        if reason is not None:
            assert answer.json()["reason"] == reason
    assert (await client.get("/notes/mine")).json()["n"] == 2
    assert notes.get("theirs") == {"owner": "bob"}
    assert "new" not in notes


async def test_validation_of_many_at_once(client: httpx.AsyncClient) -> None:
    await client.put("/notes/_design/guard", json=GUARD)
    docs = [{"_id": f"v{n}", "owner": ("ada", "bob")[n % 2]} for n in range(4)]
    answer = (await client.post("/notes/_bulk_docs", json={"docs": docs})).json()
    assert [one.get("error", "ok") for one in answer] == ["ok", "unauthorized", "ok", "unauthorized"]
    foreign = [{"_id": "f", "_rev": f"1-{who}", "owner": who} for who in ("ada", "bob")]
    refused = await client.post("/notes/_bulk_docs", json={"docs": foreign, "new_edits": False})
    assert [(one["id"], one["error"]) for one in refused.json()] == [("f", "unauthorized"), ("f", "unauthorized")]
    one = await client.post("/notes/_bulk_docs", json={"docs": foreign[:1], "new_edits": False})
    assert one.json() == []
    losing = {"_id": "f", "_rev": "1-a", "owner": "bob"}
    refused = await client.post("/notes/_bulk_docs", json={"docs": [losing], "new_edits": False})
    assert [one["error"] for one in refused.json()] == ["unauthorized"], "a branch that loses is looked at as well"
    assert (await client.get("/notes/f?open_revs=all")).json()[0]["ok"]["owner"] == "ada"


async def test_validation_of_edits_of_fields(client: httpx.AsyncClient) -> None:
    notes = db_of(client).collection("notes", schema={"likes": crdtdb.Counter, "text": crdtdb.Text})
    notes.put("a", {"likes": 0, "text": "x"})
    limit = "if (doc.likes > 2 || doc.text.length > 3) throw({forbidden: 'too many: ' + doc.likes + doc.text})"
    await client.put("/notes/_design/guard", json={"validate_doc_update": f"function (doc) {{ {limit} }}"})
    like = {"operations": [{"path": "likes", "operation": "increment", "by": 2}]}
    assert (await client.post("/notes/a/_edit", json=like)).status_code == 201
    refused = await client.post("/notes/a/_edit", json=like)
    assert (refused.status_code, refused.json()["reason"]) == (403, "too many: 4x")
    write = {"operations": [{"path": "text", "operation": "insert", "at": 1, "text": "yzzz"}]}
    refused = await client.post("/notes/a/_edit", json=write)
    assert (refused.status_code, refused.json()["reason"]) == (403, "too many: 2xyzzz")
    assert notes.get("a") == {"likes": 2, "text": "x"}


@pytest.mark.parametrize("depth", [300, 900])
async def test_keys_that_are_nested_too_deeply(client: httpx.AsyncClient, depth: int) -> None:
    key = "[" * depth + "]" * depth
    for name, value in (("key", key), ("startkey", key), ("endkey", key), ("keys", f"[{key}]")):
        for path in ("/notes/_all_docs", "/notes/_design/app/_view/plain"):
            answer = await client.post(path, content=f'{{"{name}":{value}}}')
            assert answer.status_code in (200, 400, 413), (path, name, answer.text)
    answer = await client.post("/notes/_all_docs", content=f'{{"keys":[{key}]}}')
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")
    docs = f'{{"docs":[{{"_id":{key},"id":{key}}},{{"_id":"d0","id":"d0","rev":{key}}}]}}'
    assert (await client.post("/notes/_bulk_docs", content=docs)).json()["error"] == "illegal_docid"
    assert (await client.post("/notes/_bulk_get", content=docs)).status_code == 200
    assert (await client.post("/notes/_all_docs", content='{"keys":[[1]]}')).json()["rows"] == [
        {"key": [1], "error": "not_found"}
    ]


async def test_a_limit_of_a_view_beyond_64_bits(client: httpx.AsyncClient) -> None:
    for what in ("limit", "skip"):
        answer = await client.post("/notes/_design/app/_view/plain", content=f'{{"{what}":{2**63}}}')
        assert answer.status_code == 200


async def test_one_group_that_can_not_be_reduced_leaves_the_others(client: httpx.AsyncClient) -> None:
    docs = [{"_id": "x0", "k": "a", "v": 1}, {"_id": "x1", "k": "a", "v": 2}, {"_id": "x2", "k": "b", "v": "n/a"}]
    await client.post("/notes/_bulk_docs", json={"docs": docs})
    by_key = "function (doc) { if (doc.k) emit(doc.k, doc.v) }"
    throwing = (
        "function (k, values, again) { if (values[0] == 'n/a') throw 'no'; return again ? sum(values) : values.length }"
    )
    views = {"sum": {"map": by_key, "reduce": "_sum"}, "mine": {"map": by_key, "reduce": throwing}}
    await client.put("/notes/_design/groups", json={"views": views})
    rows = (await client.get("/notes/_design/groups/_view/sum?group=true")).json()["rows"]
    assert (rows[0], rows[1]["value"]["error"]) == ({"key": "a", "value": 3}, "builtin_reduce_error")
    assert rows[1]["value"]["caused_by"] == "n/a"
    rows = (await client.get("/notes/_design/groups/_view/mine?group=true")).json()["rows"]
    assert [row["value"] for row in rows] == [2, None]


async def test_a_reduce_function_is_called_again_with_what_it_made_of_few_rows_too(client: httpx.AsyncClient) -> None:
    await client.post("/notes/_bulk_docs", json={"docs": [{"k": "a"}, {"k": "a"}, {"k": "b"}]})
    by_key = "function (doc) { if (doc.k) emit(doc.k, 1) }"
    views = {"keys": {"map": by_key, "reduce": "function (keys, values, again) { return [keys === null, again] }"}}
    await client.put("/notes/_design/groups", json={"views": views})
    for query in ("group=true", "key=%22b%22", ""):
        rows = (await client.get(f"/notes/_design/groups/_view/keys?{query}")).json()["rows"]
        assert {tuple(row["value"]) for row in rows} == {(True, True)}, query


@pytest.mark.parametrize("name", ["_top_0", "_top_101", "_top_", "_bottom_x", "_top_01", "_first_2", "_toplist"])
async def test_a_reduce_that_is_not_built_in_is_refused(client: httpx.AsyncClient, name: str) -> None:
    views = {"v": {"map": "function (doc) { emit(1, 1) }", "reduce": name}}
    answer = await client.put("/notes/_design/groups", json={"views": views})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_design_doc")
    views["v"]["reduce"] = "_bottom_100"
    assert (await client.put("/notes/_design/groups", json={"views": views})).status_code == 201


async def test_rows_of_one_key_and_document_are_in_the_order_of_their_values(client: httpx.AsyncClient) -> None:
    await client.put(
        "/notes/_design/equal", json={"views": {"e": {"map": "function (d) { (d.e || []).forEach(x => emit(1, x)) }"}}}
    )
    await client.put("/notes/y", json={"e": ["b", [1], None, 3, {"x": 1}, True, 1]})
    await client.put("/notes/z", json={"e": [10**20, 2]})
    view = "/notes/_design/equal/_view/e"
    rows = (await client.get(view)).json()["rows"]
    assert [row["value"] for row in rows] == [1, 3, None, True, {"x": 1}, [1], "b", 2, 10**20]
    rows = (await client.get(f"{view}?descending=true")).json()["rows"]
    assert [row["value"] for row in rows] == [2, 10**20, 1, 3, None, True, {"x": 1}, [1], "b"]
    assert (await client.get(f"{view}?startkey=1&startkey_docid=z")).json()["offset"] == 7
    assert len((await client.get(f"{view}?key=5&startkey=7&keys=[1]")).json()["rows"]) == 9


async def test_parameters_of_views_mean_what_they_mean_in_couchdb(client: httpx.AsyncClient) -> None:
    await client.post("/notes/_bulk_docs", json={"docs": [{"_id": f"p{n}", "k": n} for n in range(6)]})
    by_key = "function (doc) { if (doc.k !== undefined) emit(doc.k, 1) }"
    views = {"v": {"map": by_key}, "r": {"map": by_key, "reduce": "_sum"}}
    await client.put("/notes/_design/p", json={"views": views})
    for query, offset, ids in (
        ("keys=[4,1,4,99]", 4, ["p4", "p1", "p4"]),
        ("keys=[]", 0, []),
        ("keys=[1,2]&limit=1&endkey=0", 1, ["p1"]),
        ("key=3&startkey=1", 1, ["p1", "p2", "p3"]),
        ("startkey=1&key=3", 3, ["p3"]),
        ("startkey=1&start_key=4&unknown=1", 4, ["p4", "p5"]),
        ("stale=ok&update=lazy&limit=0", 0, []),
    ):
        found = (await client.get(f"/notes/_design/p/_view/v?{query}")).json()
        assert (found["offset"], [row["id"] for row in found["rows"]]) == (offset, ids), query
    for query in ("stale=x", "update=x", "keys=5", 'keys={"a":1}'):
        answer = await client.get(f"/notes/_design/p/_view/v?{query}")
        assert (answer.status_code, answer.json()["error"]) == (400, "query_parse_error"), query
    assert (await client.get("/notes/_design/p/_view/r?conflicts=true")).status_code == 400
    for body in ({"queries": [{"limit": 1}]}, {"keys": 5}):
        answer = await client.post("/notes/_design/p/_view/v", json=body)
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request"), body


async def test_a_map_function_sees_the_conflicts_of_a_document(client: httpx.AsyncClient) -> None:
    seen = "function (doc) { if (doc.v) emit(doc._id, [doc._rev, doc._conflicts, doc._deleted_conflicts]) }"
    await client.put("/notes/_design/c", json={"views": {"v": {"map": seen}}})
    docs = [{"_id": "c", "_rev": f"1-{rev}", "v": 1} for rev in "abc"] + [{"_id": "c", "_rev": "1-z", "_deleted": True}]
    for number in range(len(docs)):
        await client.post("/notes/_bulk_docs", json={"docs": docs[: number + 1], "new_edits": False})
        (row,) = (await client.get("/notes/_design/c/_view/v")).json()["rows"]
    assert row["value"] == ["1-c", ["1-b", "1-a"], ["1-z"]]
    await client.put("/notes/d", json={"v": 1})
    rows = (await client.get("/notes/_design/c/_view/v?key=%22d%22")).json()["rows"]
    assert rows[0]["value"][1:] == [None, None]
