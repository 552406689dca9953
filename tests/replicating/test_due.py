"""What a replication couldn't bring stays due; and databases that are dropped and made again are begun again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

import crdtdb
from crdtdb.cluster_port import WHO
from crdtdb.couchdb.replication import Progress, StreamingASGITransport
from crdtdb.couchdb.replication.due import Due, Refusal
from crdtdb.couchdb.replication.scheduler import Replicator
from crdtdb.http.app import make_app
from crdtdb.javascript import Scripts
from tests.http.test_api import Cluster, anyio_backend
from tests.replicating.test_replication import ADMIN, Site, replicate, two_sites

__all__ = ["anyio_backend"]
pytestmark = pytest.mark.anyio

REPLICATION = "crdtdb.couchdb.replication.replication"


class Between(httpx.AsyncBaseTransport):
    """A way on which answers may be changed."""

    def __init__(self, site: Site, change: Callable[[httpx.Request, bytes], httpx.Response | None]) -> None:
        self._way, self.change = site.way, change

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        answer = self.change(request, body)
        return answer if answer is not None else await self._way.handle_async_request(request)


def refusing(doc_id: str, word: str = "forbidden") -> Callable[[httpx.Request, bytes], httpx.Response | None]:
    """Return what answers for a target that refuses one document, and takes the others of its request not at all."""

    def change(request: httpx.Request, body: bytes) -> httpx.Response | None:
        if not request.url.path.endswith("_bulk_docs") or f'"{doc_id}"'.encode() not in body:
            return None
        if len(json.loads(body)["docs"]) > 1:
            return httpx.Response(413, json={"error": "too_large", "reason": "all of it"})
        return httpx.Response(201, json=[{"id": doc_id, "error": word, "reason": "not now"}])

    return change


async def filled(site: Site, number: int = 20) -> None:
    await site.ask("PUT", "/notes")
    for n in range(number):  # one change a document, so that their order is known
        await site.ask("PUT", f"/notes/d{n:02}", json={"n": n})


def ids(progress: Progress) -> list[str]:
    return [one["id"] for one in progress.failures]


async def checkpoint(site: Site, name: str) -> Any:
    (row,) = (await site.ask("GET", f"/{name}/_local_docs"))["rows"]
    return (await site.ask("GET", f"/{name}/{row['id']}"))["source_last_seq"]


async def test_a_refused_document_stays_due_and_the_checkpoint_before_it() -> None:
    async with two_sites() as (one, other):
        await filled(one)
        bad = Between(other, refusing("d05"))
        done = await replicate(one.peer("notes"), other.peer("copy", bad))
        assert (done.docs_written, done.doc_write_failures, ids(done)) == (19, 1, ["d05"])
        assert done.failures[0]["reason"] == "not now"
        assert len(other.db["copy"]) == 19
        rows = (await one.ask("GET", "/notes/_changes"))["results"]
        for site, name in ((one, "notes"), (other, "copy")):
            seq = await checkpoint(site, name)
            behind = (await one.ask("GET", "/notes/_changes", params={"since": seq}))["results"]
            assert [row["id"] for row in behind] == [row["id"] for row in rows[5:]]
        again = await replicate(one.peer("notes"), other.peer("copy", bad))
        assert (again.doc_write_failures, ids(again), again.docs_written) == (1, ["d05"], 0)
        healed = await replicate(one.peer("notes"), other.peer("copy"))
        assert (healed.doc_write_failures, healed.docs_written) == (0, 1)
        last = await replicate(one.peer("notes"), other.peer("copy"))
        assert last.missing_checked == 0
        assert await one.leaves("notes") == await other.leaves("copy")


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    "spoiled", [b"{", b"[" * 100_000, b'{"results":[{"id":"d05","docs":[{"ok":{"_id":"\xff"}}]}]}']
)
async def test_a_document_that_cant_be_read_doesnt_keep_the_others_back(status: int, spoiled: bytes) -> None:
    async with two_sites() as (one, other):
        await filled(one)

        def change(request: httpx.Request, body: bytes) -> httpx.Response | None:
            if not request.url.path.endswith("_bulk_get") or b'"d05"' not in body:
                return None
            return httpx.Response(status if b'"d04"' in body else 200, content=spoiled)

        bad = Between(one, change)
        done = await replicate(one.peer("notes", bad), other.peer("copy"))
        assert (done.docs_written, done.doc_write_failures, ids(done)) == (19, 1, ["d05"])
        bad.change = lambda _request, _body: None
        assert (await replicate(one.peer("notes", bad), other.peer("copy"))).docs_written == 1
        assert await one.leaves("notes") == await other.leaves("copy")


async def test_what_a_source_leaves_out_is_due() -> None:
    async with two_sites() as (one, other):
        await filled(one, 3)
        rev = (await one.ask("GET", "/notes/d01"))["_rev"]
        gone = {"error": {"id": "d01", "rev": rev, "error": "internal", "reason": "the file is damaged"}}

        def change(request: httpx.Request, _body: bytes) -> httpx.Response | None:
            answer = {"results": [{"id": "d01", "docs": [gone]}]}
            return httpx.Response(200, json=answer) if request.url.path.endswith("_bulk_get") else None

        done = await replicate(one.peer("notes", Between(one, change)), other.peer("copy"))
        assert {one["id"]: one["reason"] for one in done.failures} == {
            "d00": "the source doesn't have it",
            "d01": "the file is damaged",
            "d02": "the source doesn't have it",
        }


async def test_an_attachment_that_a_target_refuses_is_due() -> None:
    async with two_sites() as (one, other):
        await filled(one, 3)
        await one.ask("PUT", "/notes/file/f", content=b"x" * 1000, headers={"content-type": "image/png"})
        refused = httpx.Response(413, json={"error": "too_large", "reason": "the attachment has more than 9 bytes"})
        bad = Between(other, lambda request, _: refused if request.url.path.endswith("/file") else None)
        done = await replicate(one.peer("notes"), other.peer("copy", bad))
        assert (done.docs_written, ids(done)) == (3, ["file"])
        assert "more than 9 bytes" in done.failures[0]["reason"]
        assert (await replicate(one.peer("notes"), other.peer("copy"))).docs_written == 1


async def test_a_continuous_one_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{REPLICATION}._DUE_SECONDS", 0.05)
    monkeypatch.setattr("crdtdb.couchdb.replication.endpoint._WAIT_SECONDS_MAX", 0.05)
    async with two_sites() as (one, other):
        await filled(one, 3)
        bad = Between(other, refusing("d01"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: replicate(one.peer("notes"), other.peer("copy", bad), continuous=True))
            with anyio.fail_after(20):
                while "copy" not in other.db or "d02" not in other.db["copy"]:
                    await anyio.sleep(0.01)
                assert "d01" not in other.db["copy"]
                bad.change = lambda _request, _body: None
                while "d01" not in other.db["copy"]:
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()


async def test_a_later_change_says_what_is_due() -> None:
    async with two_sites() as (one, other):
        await filled(one, 3)
        bad = Between(other, refusing("d01"))
        await replicate(one.peer("notes"), other.peer("copy", bad))
        rev = (await one.ask("GET", "/notes/d01"))["_rev"]
        await one.ask("DELETE", f"/notes/d01?rev={rev}")
        assert (await replicate(one.peer("notes"), other.peer("copy"))).doc_write_failures == 0
        assert await one.leaves("notes") == await other.leaves("copy")


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("early", [True, False])
async def test_a_continuous_one_begins_again_when_a_database_is_made_again(
    side: str, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{REPLICATION}._WAIT_SECONDS", 0.01)
    monkeypatch.setattr("crdtdb.couchdb.replication.endpoint._WAIT_SECONDS_MAX", 0.05)
    async with two_sites() as (one, other):
        await filled(one, 5)
        await other.ask("PUT", "/copy")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                lambda: replicate(one.peer("notes"), other.peer("copy"), continuous=True, create_target=False)
            )
            with anyio.fail_after(30):
                while len(other.db["copy"]) < 5:
                    await anyio.sleep(0.01)
                while not early and not (await other.ask("GET", "/copy/_local_docs"))["rows"]:
                    await anyio.sleep(0.01)
                if side == "target":
                    await other.ask("DELETE", "/copy")
                    await anyio.sleep(0.2)  # it isn't there for a while
                    await other.ask("PUT", "/copy")
                    expected = 5
                else:
                    await one.ask("DELETE", "/notes")
                    await one.ask("PUT", "/notes")
                    await one.ask("PUT", "/notes/after", json={})
                    expected = 6
                while len(other.db["copy"]) < expected:
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def alone(_name: str) -> AsyncIterator[None]:
    yield


async def test_the_states_of_a_node_say_what_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb.couchdb.replication.endpoint._WAIT_SECONDS_MAX", 0.05)
    with crdtdb.open("memory:") as db:
        scripts = Scripts()
        app = make_app(db, Cluster(), scripts=scripts)
        replicator = app.state.replicator = Replicator(db, "c1", "n1", app, lambda who: {WHO: who})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(replicator.run, alone)
            await anyio.sleep(0.01)
            site = StreamingASGITransport(app, tasks, {WHO: ADMIN})
            async with httpx.AsyncClient(transport=site, base_url="https://node") as client:
                for n in range(3):
                    await client.put("/notes")
                    await client.put(f"/notes/d{n}", json={"n": n})
                await client.put("/copy")
                refuses = "function (doc) { if (doc._id === 'd1') throw {forbidden: 'not d1'}; }"
                await client.put("/copy/_design/v", json={"validate_doc_update": refuses})
                spec = {"source": "notes", "target": "copy"}
                asked = (await client.post("/_replicate", json=spec)).json()
                assert (asked["failures"][0]["id"], asked["history"][0]["doc_write_failures"]) == ("d1", 1)
                await client.put("/_replicator/r", json=spec)
                await client.put("/_replicator/on", json={**spec, "continuous": True})
                with anyio.fail_after(20):
                    while "_replication_state" not in (told := (await client.get("/_replicator/r")).json()):
                        await anyio.sleep(0.05)
                    while not (
                        infos := [
                            job["info"]
                            for job in (await client.get("/_scheduler/jobs")).json()["jobs"]
                            if job["info"]["doc_write_failures"]
                        ]
                    ):
                        await anyio.sleep(0.05)
                assert told["_replication_state"] == "failed"
                assert "1 revisions couldn't be brought" in told["_replication_state_reason"]
                assert "d1" in told["_replication_state_reason"]
                assert told["_replication_stats"]["failures"][0]["id"] == "d1"
                assert (infos[0]["failures"][0]["id"], "not d1" in infos[0]["error"]) == ("d1", True)
            tasks.cancel_scope.cancel()
        scripts.close()


def test_what_is_due_is_bounded_and_the_first_of_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb.couchdb.replication.due._DOCUMENTS_MAX", 2)
    due = Due()
    assert (due.passed(9), len(due)) == (9, 0)
    for n in range(4):
        due.add(n, [Refusal(f"d{n}", "1-a", "forbidden", "no")])
    due.add(5, [Refusal("d0", "1-b", "forbidden", "no")])
    assert (due.passed(9), len(due), [one["id"] for one in due.listed()]) == (0, 5, ["d0", "d0", "d1"])
    due.settle(["d0", "never"])
    assert due.passed(9) == 1
    due.again([])
    assert (due.passed(9), len(due), due.only_counted) == (2, 2, True)
