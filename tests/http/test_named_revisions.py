"""Revisions that are named, by `open_revs`, `rev` and `_bulk_get`: their form, their ancestors and their refusals."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.http.test_api import anyio_backend, client

__all__ = ["anyio_backend", "client"]
pytestmark = pytest.mark.anyio


async def push(client: httpx.AsyncClient, doc_id: str, start: int, *ids: str, **body: Any) -> None:
    document = {"_id": doc_id, "_revisions": {"start": start, "ids": ids}, **body}
    answer = await client.post("/notes/_bulk_docs", json={"docs": [document], "new_edits": False})
    assert answer.json() == []


@pytest.mark.parametrize(
    ("accept", "parts"),
    [
        ("*/*;q=1", True),
        ("multipart/*", True),
        ("text/html, */*;q=0.1", True),
        ("application/json, multipart/mixed, multipart/related", True),
        ("application/json", False),
        ("multipart/*;q=0", False),
        ("multipart/mixed;q=0.0, multipart/related;q=0, */*", False),
    ],
)
async def test_who_accepts_parts_gets_parts(client: httpx.AsyncClient, accept: str, parts: bool) -> None:
    attached = {"p": {"content_type": "image/png", "data": "YWJj"}}
    await client.put("/notes/a", json={"_attachments": attached})
    for query, kind in (("open_revs=all", "multipart/mixed"), ("attachments=true", "multipart/related")):
        answer = await client.get(f"/notes/a?{query}", headers={"accept": accept})
        assert answer.headers["content-type"].partition(";")[0] == (kind if parts else "application/json"), query
    answer = await client.post("/notes/_bulk_get", json={"docs": [{"id": "a"}]}, headers={"accept": "*/*"})
    assert answer.headers["content-type"] == "application/json"


async def test_a_path_without_its_beginning_goes_on_with_that_of_another_leaf(client: httpx.AsyncClient) -> None:
    await push(client, "a", 3, "c", "b", "r")
    await push(client, "a", 3, "d", "b")
    await push(client, "a", 5, "f", "e")  # of which nobody knows the beginning
    found = (await client.get("/notes/a?open_revs=all&revs=true")).json()
    lines = {one["ok"]["_rev"]: one["ok"]["_revisions"]["ids"] for one in found}
    assert lines == {"3-c": ["c", "b", "r"], "3-d": ["d", "b", "r"], "5-f": ["f", "e"]}
    latest = (await client.get('/notes/a?open_revs=["1-r"]&latest=true')).json()
    assert [one["ok"]["_rev"] for one in latest] == ["3-c", "3-d"]
    assert (await client.get("/notes/a?rev=3-d&revs=true")).json()["_revisions"]["ids"] == ["d", "b", "r"]


async def test_a_named_revision_tells_no_conflicts(client: httpx.AsyncClient) -> None:
    await push(client, "a", 1, "x")
    await push(client, "a", 1, "y")
    await push(client, "a", 1, "z", _deleted=True)
    query = "conflicts=true&deleted_conflicts=true&revs_info=true&local_seq=true"
    several = (await client.get(f"/notes/a?open_revs=all&{query}")).json()
    asked = {"docs": [{"id": "a"}]}
    got = (await client.post(f"/notes/_bulk_get?{query}", json=asked)).json()["results"][0]["docs"]
    named = await client.get(f"/notes/a?rev=1-x&{query}")
    assert named.headers["etag"] == '"1-x"'
    for one in [named.json(), *(row["ok"] for row in [*several, *got])]:
        assert one.keys() <= {"_id", "_rev", "_deleted"}
    winner = (await client.get(f"/notes/a?{query}")).json()
    assert (winner["_conflicts"], winner["_deleted_conflicts"]) == (["1-x"], ["1-z"])


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (5, {"id": None, "rev": None, "error": "bad_request"}),
        ([], {"id": None, "rev": None, "error": "bad_request"}),
        ({}, {"id": None, "rev": None, "error": "bad_request"}),
        ({"rev": "1-a"}, {"id": None, "rev": None, "error": "bad_request"}),
        ({"id": ""}, {"id": "", "rev": None, "error": "illegal_docid"}),
        ({"id": "_bad", "rev": "1-a"}, {"id": "_bad", "rev": None, "error": "illegal_docid"}),
        ({"id": "a", "rev": 5}, {"id": "a", "rev": 5, "error": "bad_request"}),
        ({"id": "a", "rev": "x", "atts_since": "y"}, {"id": "a", "rev": "x", "error": "bad_request"}),
        ({"id": "a", "atts_since": "x"}, {"id": "a", "rev": "x", "error": "bad_request"}),
        ({"id": "a", "atts_since": ["x"]}, {"id": "a", "rev": "undefined", "error": "bad_request"}),
        ({"id": "never"}, {"id": "never", "rev": "undefined", "error": "not_found"}),
        ({"id": "never", "rev": "1-a"}, {"id": "never", "rev": "1-a", "error": "not_found"}),
    ],
)
async def test_a_refused_row_of_bulk_get_names_what_it_means(
    client: httpx.AsyncClient, asked: Any, error: dict[str, Any]
) -> None:
    await client.put("/notes/a", json={})
    answer = await client.post("/notes/_bulk_get", json={"docs": [asked, {"id": "a"}]})
    refused, found = answer.json()["results"]
    assert "ok" in found["docs"][0]
    (row,) = refused["docs"]
    assert row["error"].pop("reason")
    assert (refused["id"], row["error"]) == (error["id"], error)
