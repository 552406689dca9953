"""/_locks and `x-lock`: what is asked, what is answered, and that a write without a live token writes nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

import crdtdb
from crdtdb.http.app import make_app
from tests.http.test_api import Cluster, anyio_backend
from tests.http.test_cluster import as_role

__all__ = ["anyio_backend"]
pytestmark = pytest.mark.anyio


@pytest.fixture
async def node() -> AsyncIterator[tuple[httpx.AsyncClient, Cluster, crdtdb.Database]]:
    with crdtdb.open("memory:") as db:
        db["notes"].put("a", {"n": 1})
        cluster = Cluster()
        async with as_role(make_app(db, cluster), "client") as client:
            yield client, cluster, db


Served = tuple[httpx.AsyncClient, Cluster, crdtdb.Database]


async def test_a_lock_is_had_renewed_and_given_back(node: Served) -> None:
    client, _, _ = node
    had = await client.post("/_locks", json={"name": "invoice/7", "ttl": 20})
    assert (had.status_code, had.json()["token"], had.json()["ttl"]) == (201, 1, 20)
    assert [one["name"] for one in (await client.get("/_locks")).json()["locks"]] == ["invoice/7"]
    taken = await client.post("/_locks", json={"name": "invoice/7"})
    assert (taken.status_code, taken.json()["error"]) == (423, "locked")
    assert "held through n1" in taken.json()["reason"]
    assert (await client.put("/_locks/invoice%2F7", json={"token": 1})).status_code == 200
    wrong = await client.put("/_locks/invoice%2F7", json={"token": 2})
    assert (wrong.status_code, wrong.json()["error"]) == (412, "lock_lost")
    assert (await client.delete("/_locks/invoice%2F7", params={"token": "1"})).json() == {"ok": True}
    assert (await client.get("/_locks")).json() == {"locks": []}
    assert (await client.put("/_locks/invoice%2F7", json={"token": 1})).status_code == 404


async def test_a_lock_that_is_lost_while_the_connection_holds_it_is_told(node: Served) -> None:
    client, _, _ = node
    had = await client.post("/_locks", json={"name": "x", "hold": True})
    first, last = (json.loads(line) for line in had.text.splitlines() if line)
    assert (had.status_code, first["ok"], first["token"]) == (201, True, 1)
    assert last == {
        "ok": False, "name": "x", "token": 1, "error": "lock_lost",
        "reason": "no majority of the members could be asked in time",
    }  # fmt: skip


async def test_a_lease_is_its_holders(node: Served) -> None:
    client, cluster, _ = node
    cluster.locks.want("x", 30, 0, "eve", False, lambda: None)
    refused = await client.delete("/_locks/x", params={"token": "1"})
    assert (refused.status_code, "'eve'" in refused.json()["reason"]) == (403, True)
    assert "x" in cluster.locks.leases


async def test_a_write_may_require_a_live_token(node: Served) -> None:
    client, _, db = node
    token = (await client.post("/_locks", json={"name": "invoice/7"})).json()["token"]
    rev = db["notes"].get("a").rev
    for header, status in (
        (f"invoice%2F7={token + 1}", 412),
        (f"invoice%2F7={token}, other=1", 412),
        ("invoice/7", 400),
        ("invoice/7=x", 400),
        ("=", 400),
        (f"invoice%2F7={token}", 201),
    ):
        answer = await client.put("/notes/a", json={"n": 2, "_rev": rev}, headers={"x-lock": header})
        assert answer.status_code == status, (header, answer.text)
        assert db["notes"].get("a")["n"] == (2 if status == 201 else 1), header


async def test_without_a_majority_a_token_is_not_believed(node: Served) -> None:
    client, cluster, db = node
    cluster.locks.majority = False
    answer = await client.put("/notes/b", json={}, headers={"x-lock": "x=1"})
    assert (answer.status_code, "no majority" in answer.json()["reason"]) == (503, True)
    assert "b" not in db["notes"]


@pytest.mark.parametrize(
    "body", [{}, {"name": 1}, {"name": "x", "ttl": "30"}, {"name": "x", "wait": True}, {"name": "x", "hold": 1}]
)
async def test_what_makes_no_sense_is_refused(node: Served, body: dict[str, object]) -> None:
    client, cluster, _ = node
    assert (await client.post("/_locks", json=body)).status_code == 400
    assert cluster.locks.leases == {}
    assert (await client.put("/_locks/x", json={"token": "1"})).status_code == 400
    assert (await client.delete("/_locks/x")).status_code == 400
