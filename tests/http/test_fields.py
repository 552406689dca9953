"""Fields over HTTP: operations, schemas, explanations, whole documents and revisions made elsewhere."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.http.test_api import anyio_backend, client

__all__ = ["anyio_backend", "client"]

pytestmark = pytest.mark.anyio

SCHEMA = {"likes": "counter", "body": "text", "stats": {"seen": "flag"}}


async def declared(client: httpx.AsyncClient) -> None:
    assert (await client.put("/notes/_schema", json=SCHEMA)).status_code == 201


async def edit(client: httpx.AsyncClient, *operations: Any, **more: Any) -> httpx.Response:
    return await client.post("/notes/p/_edit", json={"operations": list(operations), **more})


async def test_operations_are_one_commit(client: httpx.AsyncClient) -> None:
    await declared(client)
    first = (await client.put("/notes/p", json={"likes": 1, "body": "hello", "title": "x"})).json()
    answer = await edit(
        client,
        {"path": "likes", "operation": "increment", "by": 2},
        {"path": ["body"], "operation": "insert", "at": 0, "text": "Oh, "},
        {"path": ["stats", "seen"], "operation": "enable"},
        {"path": "tags", "operation": "assign", "type": "set", "value": ["a"]},
        {"path": "tags", "operation": "add", "element": "b"},
        {"path": "title", "operation": "assign", "value": "y"},
        rev=first["rev"],
    )
    assert answer.status_code == 201
    found = await client.get("/notes/p", params={"crdt": "true"})
    assert answer.json() == {"ok": True, "id": "p", "rev": found.json()["_rev"]}
    assert answer.headers["etag"] == found.headers["etag"]
    body = found.json()
    assert body["_crdt"] == [
        {"path": ["body"], "type": "text"},
        {"path": ["likes"], "type": "counter"},
        {"path": ["stats", "seen"], "type": "flag"},
        {"path": ["tags"], "type": "set"},
    ]
    values = {key: value for key, value in body.items() if not key.startswith("_")}
    assert values == {"likes": 3, "body": "Oh, hello", "stats": {"seen": True}, "tags": ["a", "b"], "title": "y"}
    await edit(client, {"path": "tags", "operation": "unassign"}, {"path": "title", "operation": "unassign"})
    assert set((await client.get("/notes/p")).json()) == {"_id", "_rev", "likes", "body", "stats"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([{"path": "likes", "operation": "add"}], "operation 2: a counter such as 'likes' has no operation 'add'"),
        (
            [{"path": "body", "operation": "insert", "at": 9, "text": "x"}],
            "positions 9 to 9 are outside of 5 characters",
        ),
        ([{"path": "nothing", "operation": "increment"}], "there is no field at 'nothing'"),
        ([{"path": "likes", "operation": "increment", "times": 2}], "takes no 'times'"),
        ([{"path": "likes", "operation": "assign", "value": "x"}], "a counter holds a whole number"),
        ([{"path": "likes", "operation": "assign"}], "`assign` takes"),
        ([{"operation": "increment"}], "`path` is a key"),
        (["nonsense"], "an operation is an object"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_an_operation_that_can_not_be_done_is_named_and_nothing_is_written(
    client: httpx.AsyncClient, wrong: list[Any], says: str
) -> None:
    await declared(client)
    await client.put("/notes/p", json={"likes": 1, "body": "hello"})
    before = (await client.get("/notes/p")).json()
    answer = await edit(client, {"path": "likes", "operation": "increment"}, *wrong)
    assert answer.status_code == 400
    assert answer.json()["error"] == "bad_request"
    assert says in answer.json()["reason"]
    assert "operation 2" in answer.json()["reason"]
    assert (await client.get("/notes/p")).json() == before


async def test_an_edit_of_what_is_not_there_or_not_current_is_refused(client: httpx.AsyncClient) -> None:
    assert (await edit(client)).json() == {"error": "not_found", "reason": "missing"}
    await client.put("/notes/p", json={})
    assert (await edit(client, rev="1-abc")).status_code == 409
    assert (await edit(client, rev="nonsense")).status_code == 400
    for body in ({}, {"operations": 7}, {"operations": [], "more": 1}):
        assert (await client.post("/notes/p/_edit", json=body)).status_code == 400
    assert (await client.post("/nothing/p/_edit", json={"operations": []})).status_code == 404


async def test_a_schema_over_http(client: httpx.AsyncClient) -> None:
    assert (await client.get("/notes/_schema")).json() == {}
    assert (await client.put("/notes/_schema", json=SCHEMA)).json() == {"ok": True, "schema": SCHEMA}
    assert (await client.get("/notes/_schema")).json() == SCHEMA
    answer = await client.put("/notes/_schema", json={"likes": "set"})
    assert answer.status_code == 412
    assert answer.json()["error"] == "schema_contradicted"
    assert (await client.put("/notes/_schema", json={"likes": "hologram"})).status_code == 412
    answer = await client.put("/notes/_schema", params={"replace": "true"}, json={"likes": "set"})
    assert answer.json()["schema"]["likes"] == "set"
    counts = (await client.get("/notes")).json()
    assert (counts["doc_count"], counts["doc_del_count"]) == (0, 0)
    assert (await client.get("/notes/_all_docs")).json()["rows"] == []
    assert (await client.get("/notes/_changes")).json()["results"] == []


async def test_a_client_that_knows_no_fields_reads_and_writes_whole_documents(client: httpx.AsyncClient) -> None:
    await declared(client)
    await client.put("/notes/p", json={"likes": 1, "body": "hello"})
    one = (await client.get("/notes/p")).json()
    assert (await client.put("/notes/p", json={**one, "likes": 2})).status_code == 201
    assert (await client.put("/notes/p", json={**one, "likes": 2})).status_code == 409
    two = (await client.get("/notes/p")).json()
    assert two["likes"] == 2
    assert (await client.put("/notes/p", json={**two, "likes": "many"})).status_code == 400
    answer = await client.post(
        "/notes/_bulk_docs", json={"docs": [{**two, "body": "hello!"}, {"_id": "q", "likes": []}]}
    )
    assert [row.get("error") for row in answer.json()] == [None, "bad_request"]
    assert (await client.get("/notes/p")).json()["body"] == "hello!"
    rows = (await client.get("/notes/_all_docs", params={"include_docs": "true"})).json()["rows"]
    assert rows[0]["doc"]["likes"] == 2


async def test_revisions_made_elsewhere(client: httpx.AsyncClient) -> None:
    await declared(client)
    first = (await client.put("/notes/p", json={"likes": 1, "body": "hello"})).json()["rev"]
    pushed = {
        "_id": "p",
        "_rev": "2-cafe",
        "_revisions": {"start": 2, "ids": ["cafe", first.split("-")[1]]},
        "likes": 3,
        "body": "hello!",
    }
    for _ in range(2):
        answer = await client.post("/notes/_bulk_docs", json={"new_edits": False, "docs": [pushed]})
        assert (answer.status_code, answer.json()) == (201, [])
    assert (await client.get("/notes/p")).json() == {"_id": "p", "_rev": "2-cafe", "likes": 3, "body": "hello!"}
    answer = await client.post("/notes/_bulk_docs", json={"new_edits": False, "docs": [{"_id": "p"}, 7]})
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request"), "it refuses the whole request"


async def test_why_over_http_names_the_nodes(client: httpx.AsyncClient) -> None:
    await declared(client)
    await client.put("/notes/p", json={"likes": 1, "body": "hello"})
    explained = (await client.get("/notes/p/_why")).json()
    (actor,) = explained["names"]
    assert explained["names"][actor] == f"node of {actor[:4]}"
    assert explained["versions"][0]["node"] == actor
    assert [one["type"] for one in explained["fields"]] == ["text", "counter"]
    assert (await client.get("/notes/nothing/_why")).status_code == 404


async def test_two_types_at_one_path_are_listed_among_the_conflicts(client: httpx.AsyncClient) -> None:
    import crdtdb

    db: crdtdb.Database = client.db  # type: ignore[attr-defined]
    with crdtdb.open("memory:") as other:
        db["notes"].put("p", {"body": crdtdb.Text("typed")})
        other["notes"].put("p", {"body": crdtdb.Counter(7)})
        crdtdb.sync(db, other)
    (row,) = (await client.get("/notes/_conflicts")).json()["rows"]
    assert (row["id"], len(row["siblings"]), row["fields"]) == ("p", 2, [["body"]])
    assert [one["body"]["body"] for one in row["siblings"]] == ["typed", 7]
    assert [one.get("path") for one in row["siblings"]] == [None, ["body"]]
    assert (await client.get("/notes/p", params={"crdt": "true"})).json()["_crdt"][0]["conflict"] is True
    hidden = row["siblings"][1]["rev"]
    refused = await client.post("/notes/p/_resolve", json={"title": "both"})
    assert (refused.status_code, "'body'" in refused.json()["reason"]) == (400, True)
    read = (await client.get("/notes/p", params={"conflicts": "true"})).json()
    assert (read["body"], read["_conflicts"][-1]) == ("typed", hidden)
    other = (await client.get("/notes/p", params={"rev": hidden})).json()
    assert (other["body"], other["_rev"]) == (7, hidden)
    written = await client.put("/notes/p", json={**other, "body": 8})
    assert written.status_code == 201
    read = (await client.get("/notes/p", params={"conflicts": "true"})).json()
    assert read["body"] == "typed"
    hidden = read["_conflicts"][-1]
    assert (await client.get("/notes/p", params={"rev": hidden})).json()["body"] == 8
    assert (await client.delete("/notes/p", params={"rev": hidden})).status_code == 200
    assert (await client.get("/notes/_conflicts")).json()["rows"] == []
    assert (await client.get("/notes/p")).json()["body"] == "typed"
