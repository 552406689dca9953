"""A document within its bounds in each part and beyond them as a whole is read, listed, found and deleted. History 30."""

from __future__ import annotations

import httpx
import pytest

import crdtdb
from tests.http.test_api import anyio_backend, client, db_of

__all__ = ["anyio_backend", "client"]
pytestmark = pytest.mark.anyio

READS = (
    "/notes/large",
    "/notes/large?open_revs=all",
    "/notes/large/_siblings",
    "/notes/large/_history",
    "/notes/_all_docs",
    "/notes/_all_docs?include_docs=true",
    "/notes/_changes?include_docs=true",
    "/notes/_changes?style=all_docs",
    "/notes/_conflicts",
    "/notes",
)


async def test_a_large_document_is_served_and_stops_no_other(client: httpx.AsyncClient) -> None:
    notes = db_of(client).collection("notes", schema={"text": crdtdb.Text})
    notes.put("small", {"n": 1})
    notes.put("large", {"text": "x" * 5_000_000, "n": 2})
    with notes.edit("large") as edit:
        edit["plain"] = "y" * 5_000_000
    for path in READS:
        answer = await client.get(path)
        assert answer.status_code == 200, path
        assert len(answer.content) < 21_000_000
    found = (await client.get("/notes/large")).json()
    assert (len(found["text"]), len(found["plain"])) == (5_000_000, 5_000_000)
    for path, body in (
        ("/notes/_find", {"selector": {"n": {"$gt": 0}}}),
        ("/notes/_bulk_get", {"docs": [{"id": "large"}, {"id": "small"}]}),
        ("/notes/_revs_diff", {"large": [found["_rev"], "9-a"]}),
    ):
        answer = await client.post(path, json=body)
        assert answer.status_code == 200, path
    written = await client.put("/notes/large", json={**found, "n": 3})
    assert written.status_code == 201
    assert notes.get("large").conflicts == ()
    refused = await client.put("/notes/small", json={"plain": "z" * 9_000_000})
    assert (refused.status_code, refused.json()["error"]) in ((409, "conflict"), (413, "too_large"))
    pushed = {"_id": "large", "_rev": "9-a", "_revisions": {"start": 9, "ids": ["a", "b"]}, "plain": "z" * 9_000_000}
    answer = await client.post("/notes/_bulk_docs", json={"docs": [pushed], "new_edits": False})
    assert [one["error"] for one in answer.json()] == ["too_large"]
    gone = await client.delete("/notes/large", params={"rev": written.json()["rev"]})
    assert gone.status_code == 200
    assert [row["id"] for row in (await client.get("/notes/_all_docs")).json()["rows"]] == ["small"]
