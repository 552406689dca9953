"""Every revision that is listed over HTTP can be read, put on, deleted and resolved by its name, alone."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import crdtdb
from tests.http.test_api import anyio_backend, client, db_of

__all__ = ["anyio_backend", "client"]
pytestmark = pytest.mark.anyio

LISTS = ["siblings", "conflicts", "open_revs"]


async def conflict(client: httpx.AsyncClient) -> None:
    """Two bodies, and a counter that was incremented on both sides, before and after clients read it."""
    database = db_of(client)
    with crdtdb.open("memory:") as other:
        await client.put("/notes/a", json={"from": "ada"})
        other["notes"].put("a", {"from": "bob"})
        for one in (database, other):
            with one["notes"].edit("a") as document:
                document["likes"] = crdtdb.Counter(1)
        crdtdb.sync(database, other)
        await client.get("/notes/a?conflicts=true")
        crdtdb.sync(database, other)
        with other["notes"].edit("a") as document:
            document["likes"].increment(5)
        crdtdb.sync(database, other)


async def listed(client: httpx.AsyncClient, how: str) -> list[str]:
    if how == "siblings":
        return [one["rev"] for one in (await client.get("/notes/a/_siblings")).json()["siblings"]]
    if how == "conflicts":
        document = (await client.get("/notes/a?conflicts=true")).json()
        return [document["_rev"], *document.get("_conflicts", [])]
    rows = (await client.get("/notes/a?open_revs=all")).json()
    return [row["ok"]["_rev"] for row in rows if not row["ok"].get("_deleted")]


async def bodies(client: httpx.AsyncClient) -> dict[str, int]:
    rows = (await client.get("/notes/a/_siblings")).json()
    return {one["body"]["from"]: one["body"]["likes"] for one in rows.get("siblings", [])}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("how", LISTS)
@pytest.mark.parametrize("what", ["read", "delete", "put", "resolve", "resolve_seen", "bulk"])
async def test_what_is_listed_can_be_touched(client: httpx.AsyncClient, what: str, how: str, number: int) -> None:
    await conflict(client)
    revs = await listed(client, how)
    assert len(set(revs)) == 2
    rev = revs[number]
    read = await client.get("/notes/a", params={"rev": rev})
    assert read.status_code == 200
    body: dict[str, Any] = read.json()
    other = {"ada": "bob", "bob": "ada"}[body["from"]]
    if what == "read":
        return
    changed = {**{key: one for key, one in body.items() if key[0] != "_"}, "from": "new"}
    if what == "delete":
        answer = await client.delete("/notes/a", params={"rev": rev})
    elif what == "put":
        answer = await client.put("/notes/a", params={"rev": rev}, json=changed)
    elif what == "resolve":
        answer = await client.post("/notes/a/_resolve", params={"rev": rev}, json=changed)
    elif what == "resolve_seen":
        answer = await client.post("/notes/a/_resolve", json={**changed, "_seen": [rev]})
    else:
        answer = await client.post("/notes/_bulk_docs", json={"docs": [{"_id": "a", "_rev": rev, **changed}]})
        assert "error" not in answer.json()[0]
    assert answer.status_code in (200, 201)
    assert await bodies(client) == {other: 7} if what == "delete" else {other: 7, "new": 7}
