"""Replications between databases of two applications in this process, over their real HTTP interfaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import TaskGroup

import crdtdb
from crdtdb.cluster_port import WHO
from crdtdb.couchdb.replication import (
    Endpoint,
    Peer,
    PeerError,
    Progress,
    Replication,
    ReplicationError,
    StreamingASGITransport,
    Wanted,
)
from crdtdb.couchdb.replication.replication import common_seq
from crdtdb.couchdb.replication.scheduler import Replicator
from crdtdb.couchdb.replication.spec import check_spec, without_secrets
from crdtdb.errors import InvalidInputError
from crdtdb.http.app import make_app
from crdtdb.security import Principal
from tests.http.test_api import Cluster, anyio_backend
from tests.json_posts import ASYNC_HOOKS

__all__ = ["anyio_backend"]
pytestmark = pytest.mark.anyio
ADMIN = Principal("root", "certificate", admin=True)


class Site:
    """A database with its application."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.db = crdtdb.open("memory:")
        self.app = make_app(self.db, Cluster())
        self.way = StreamingASGITransport(self.app, tasks, {WHO: ADMIN})

    def peer(self, name: str, transport: httpx.AsyncBaseTransport | None = None) -> Peer:
        return Peer(f"https://site/{name}", transport=transport or self.way, identity=f"{id(self)}/{name}")

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        async with httpx.AsyncClient(transport=self.way, base_url="https://site", event_hooks=ASYNC_HOOKS) as client:
            answer = await client.request(method, path, **options)
            assert answer.status_code < 300, answer.text
            return answer.json()

    async def leaves(self, name: str) -> dict[str, Any]:
        """Return every leaf of every document, with its history and the bytes of its attachments."""
        found = {}
        for row in (await self.ask("GET", f"/{name}/_changes?style=all_docs"))["results"]:
            path = f"/{name}/{row['id'].replace('_design/', '_design%2F')}"
            leaves = await self.ask("GET", path, params={"open_revs": "all", "revs": "true", "attachments": "true"})
            found[row["id"]] = sorted((one["ok"] for one in leaves), key=lambda one: str(one["_rev"]))
        return found


@asynccontextmanager
async def two_sites() -> AsyncIterator[tuple[Site, Site]]:
    async with anyio.create_task_group() as tasks:
        one, other = Site(tasks), Site(tasks)
        try:
            yield one, other
        finally:
            tasks.cancel_scope.cancel()
            one.db.close()
            other.db.close()


async def replicate(source: Peer, target: Peer, **wanted: Any) -> Progress:
    async with Endpoint(source) as one, Endpoint(target) as other:
        return await Replication(one, other, Wanted(**{"create_target": True, **wanted})).run()


async def fill(site: Site, name: str = "notes", number: int = 450) -> None:
    await site.ask("PUT", f"/{name}")
    await site.ask("POST", f"/{name}/_bulk_docs", json={"docs": [{"_id": f"d{n:04}", "n": n} for n in range(number)]})
    conflict = [{"_id": "c", "_revisions": {"start": 2, "ids": [one, "root"]}, "who": one} for one in ("a", "b")]
    await site.ask("POST", f"/{name}/_bulk_docs", json={"docs": conflict, "new_edits": False})
    gone = await site.ask("PUT", f"/{name}/gone", json={"x": 1})
    await site.ask("DELETE", f"/{name}/gone?rev={gone['rev']}")
    await site.ask("PUT", f"/{name}/_design/app", json={"filters": {}})
    made = await site.ask("PUT", f"/{name}/file", json={"with": "files"})
    for part, data in (("a.txt", b"text"), ("b/c.bin", bytes(range(256)) * 8_000)):
        made = await site.ask("PUT", f"/{name}/file/{part}?rev={made['rev']}", content=data)


async def test_everything_comes_over_and_only_what_is_new_the_next_time() -> None:
    async with two_sites() as (one, other):
        await fill(one)
        seen: list[int] = []
        async with Endpoint(one.peer("notes")) as source, Endpoint(other.peer("copy")) as target:
            replication = Replication(
                source, target, Wanted(create_target=True), lambda now: seen.append(now.changes_read)
            )
            done = await replication.run()
        assert (done.docs_written, done.missing_found, done.doc_write_failures) == (455, 455, 0)
        assert seen == sorted(seen)
        assert seen[-1] == 454
        assert await one.leaves("notes") == await other.leaves("copy")
        again = await replicate(one.peer("notes"), other.peer("copy"))
        assert (again.missing_checked, again.docs_read) == (0, 0), "the checkpoint says that there is nothing new"
        await one.ask("POST", "/notes", json={"_id": "new"})
        third = await replicate(one.peer("notes"), other.peer("copy"))
        assert (third.missing_checked, third.docs_written) == (1, 1)
        back = await replicate(other.peer("copy"), one.peer("notes"))
        assert (back.missing_checked, back.missing_found) == (456, 0), "what came from there isn't sent back"
        log = await one.ask("GET", f"/notes/_local/{replication.id}")
        assert len(log["history"]) == 2, "who found nothing new wrote nothing"
        assert log["session_id"] == third.session
        assert log["history"][0]["recorded_seq"] == log["source_last_seq"] == third.source_seq
        assert log["replication_id_version"] == 4
        assert log["history"][1]["docs_written"] == 455


async def test_a_checkpoint_that_the_target_lost_doesnt_count() -> None:
    async with two_sites() as (one, other):
        await fill(one, number=5)
        await replicate(one.peer("notes"), other.peer("copy"))
        await other.ask("DELETE", "/copy")
        done = await replicate(one.peer("notes"), other.peer("copy"))
        assert done.docs_written == 10
        assert await one.leaves("notes") == await other.leaves("copy")


async def test_what_is_chosen() -> None:
    async with two_sites() as (one, other):
        await fill(one, number=20)
        by_id = await replicate(one.peer("notes"), other.peer("ids"), doc_ids=("d0003", "c", "nothing"))
        assert by_id.docs_written == 3
        assert set(await other.leaves("ids")) == {"d0003", "c"}
        await replicate(one.peer("notes"), other.peer("selected"), selector={"n": {"$gte": 18}})
        assert set(await other.leaves("selected")) == {"d0018", "d0019"}
        await replicate(one.peer("notes"), other.peer("designs"), filter="_design")
        assert set(await other.leaves("designs")) == {"_design/app"}
        since = (await one.ask("GET", "/notes/_changes?limit=15"))["last_seq"]
        done = await replicate(one.peer("notes"), other.peer("later"), since_seq=since)
        assert done.missing_checked == 10
        with pytest.raises(InvalidInputError, match="one of"):
            Wanted(doc_ids=("a",), filter="x/y")


class Failing(httpx.AsyncBaseTransport):
    """A way on which every so manyth request is lost, before it arrives or after."""

    def __init__(self, way: httpx.AsyncBaseTransport, every: int) -> None:
        self._way, self._every, self.count = way, every, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        if self.count % self._every == 0:
            if self.count % (2 * self._every):
                raise httpx.ConnectError("lost on the way there")
            answer = await self._way.handle_async_request(request)
            await answer.aread()
            raise httpx.ReadError("lost on the way back")
        return await self._way.handle_async_request(request)


async def test_what_gets_lost_on_the_way_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb.couchdb.replication.replication._WAIT_SECONDS", 0.001)
    async with two_sites() as (one, other):
        await fill(one)
        done = await replicate(
            one.peer("notes", Failing(one.way, 7)), other.peer("copy", Failing(other.way, 5)), create_target=True
        )
        assert done.waiting is None
        assert await one.leaves("notes") == await other.leaves("copy")


async def test_one_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb.couchdb.replication.replication._WAIT_SECONDS", 0.001)
    async with two_sites() as (one, other):
        await fill(one, number=1)
        lost = Failing(other.way, 1)
        with pytest.raises(PeerError, match="https://site/copy: lost on the way"):
            await replicate(one.peer("notes"), other.peer("copy", lost))
        assert lost.count == 8


async def test_a_continuous_one_follows_and_can_be_stopped() -> None:
    async with two_sites() as (one, other):
        await fill(one, number=5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: replicate(one.peer("notes"), other.peer("copy"), continuous=True))
            with anyio.fail_after(10):
                while "copy" not in other.db or len(other.db["copy"]) < 8:
                    await anyio.sleep(0.01)
                await one.ask("PUT", "/notes/late", json={})
                while "late" not in other.db["copy"]:
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        assert await one.leaves("notes") == await other.leaves("copy")


async def test_what_the_target_refuses_is_counted_and_the_rest_comes() -> None:
    async with two_sites() as (one, other):
        await fill(one, number=3)

        class Refusing(httpx.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                if request.url.path.endswith("_bulk_docs"):
                    await request.aread()
                    return httpx.Response(201, json=[{"id": "d0001", "error": "forbidden", "reason": "not here"}])
                return await other.way.handle_async_request(request)

        done = await replicate(one.peer("notes"), other.peer("copy", Refusing()))
        assert (done.doc_write_failures, done.failures[0]["reason"]) == (1, "not here")
        assert "file" in other.db["copy"], "what has attachments comes by itself"


@pytest.mark.parametrize(
    ("status", "kind"), [(401, ReplicationError), (403, ReplicationError), (503, PeerError), (429, PeerError)]
)
async def test_what_a_peer_says(status: int, kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb.couchdb.replication.replication._WAIT_SECONDS", 0.001)
    answer = httpx.MockTransport(lambda _: httpx.Response(status, json={"error": "no", "reason": "because"}))
    with pytest.raises(kind, match=f"answered by {status}, no: because"):
        await replicate(Peer("https://a/x", transport=answer), Peer("https://b/y", transport=answer))
    nonsense = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>"))
    with pytest.raises(PeerError, match="isn't JSON"):
        await replicate(Peer("https://a/x", transport=nonsense), Peer("https://b/y", transport=nonsense))


async def test_databases_that_arent_there() -> None:
    async with two_sites() as (one, other):
        with pytest.raises(ReplicationError, match="there is no database https://site/nothing"):
            await replicate(one.peer("nothing"), other.peer("copy"))
        await fill(one, number=1)
        with pytest.raises(ReplicationError, match="make it, or let it be made"):
            await replicate(one.peer("notes"), other.peer("copy"), create_target=False)
        with pytest.raises(ReplicationError, match="404"):
            await replicate(one.peer("notes"), other.peer("copy"), filter="app/nothing")


@pytest.mark.parametrize(
    ("source", "target", "agreed"),
    [
        ({}, {}, 0),
        ({"session_id": "s", "source_last_seq": 5}, {"session_id": "s"}, 5),
        ({"session_id": "s", "source_last_seq": 5}, {"session_id": "t"}, 0),
        (
            {
                "session_id": "new",
                "history": [{"session_id": "new", "recorded_seq": 9}, {"session_id": "old", "recorded_seq": 7}],
            },
            {"session_id": "old", "history": [{"session_id": "old", "recorded_seq": "4-x"}]},
            "4-x",
        ),
        (
            {"history": [{"session_id": "a", "recorded_seq": 9}]},
            {"history": [{"session_id": "b", "recorded_seq": 9}]},
            0,
        ),
    ],
)
def test_how_far_two_checkpoints_agree(source: Mapping[str, Any], target: Mapping[str, Any], agreed: Any) -> None:
    assert common_seq(source, target) == agreed


def test_urls() -> None:
    peer = Peer.of("http://ada:se%3Acret@host:5984/some%2Fdb/")
    assert (peer.url, peer.auth) == ("http://host:5984/some%2Fdb", ("ada", "se%3Acret"))
    assert Peer.of("https://[::1]:6984/db").url == "https://[::1]:6984/db"
    for bad in ("ftp://host/db", "http://host", "http://host/", "http:///db", "host/db", ""):
        with pytest.raises(InvalidInputError, match="isn't the URL of a database"):
            Peer.of(bad)
    with pytest.raises(InvalidInputError) as refused:
        Peer.of("http://ada:secret@host")
    assert "secret" not in str(refused.value)


BASIC = {"basic": {"username": "a", "password": "secret"}}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"source": "a"},
        {"source": "a", "target": "B!"},
        {"source": "a", "target": 5},
        {"source": "a", "target": {"name": "b"}},
        {"source": "a", "target": "http://host"},
        {"source": {"url": "a", "auth": "x"}, "target": "b"},
        {"source": {"url": "a", "auth": {"basic": {"username": "x"}}}, "target": "b"},
        {"source": {"url": "a", "headers": {"x": 5}}, "target": "b"},
        {"source": "a", "target": "b", "continuous": "yes"},
        {"source": "a", "target": "b", "doc_ids": "c"},
        {"source": "a", "target": "b", "selector": []},
        {"source": "a", "target": "b", "filter": 5},
        {"source": "a", "target": "b", "what": 5},
        {"source": "a", "target": "b", "filter": "x/y", "doc_ids": []},
    ],
)
def test_descriptions_that_make_no_sense(spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        check_spec(spec)


def test_secrets_are_not_shown() -> None:
    spec = {
        "source": "http://ada:secret@host/db",
        "target": {"url": "https://x:secret@h/d", "auth": BASIC, "tls": {"key": "secret"}},
    }
    check_spec(spec)
    shown = without_secrets(spec)
    assert "secret" not in str(shown)
    assert shown["source"] == "http://ada:***@host/db"
    assert without_secrets({"source": "a", "target": "http://h/d"}) == {"source": "a", "target": "http://h/d"}


@asynccontextmanager
async def _alone(name: str) -> AsyncIterator[None]:
    yield


async def test_replications_of_a_node() -> None:
    with crdtdb.open("memory:") as db:
        app = make_app(db, Cluster())
        replicator = app.state.replicator = Replicator(db, "c1", "n1", app, lambda who: {WHO: who})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(replicator.run, _alone)
            await anyio.sleep(0.01)
            site = StreamingASGITransport(app, tasks, {WHO: ADMIN})
            async with httpx.AsyncClient(transport=site, base_url="https://node") as client:
                db["notes"].put("a", {"n": 1})
                asked = {"source": "notes", "target": "copy", "create_target": True}
                done = await client.post("/_replicate", json=asked)
                assert (done.status_code, done.json()["history"][0]["docs_written"]) == (200, 1)
                assert db["copy"].get("a") == {"n": 1}
                assert (await client.post("/_replicate", json={**asked, "what": 1})).status_code == 400
                missing = await client.post("/_replicate", json={"source": "nothing", "target": "copy"})
                assert (missing.status_code, missing.json()["error"]) == (424, "replication_failed")
                assert (await client.post("/_replicate", json={**asked, "cancel": True})).status_code == 404
                begun = await client.post("/_replicate", json={**asked, "continuous": True})
                assert begun.status_code == 202
                db["notes"].put("b", {"n": 2})
                with anyio.fail_after(10):
                    while "b" not in db["copy"]:
                        await anyio.sleep(0.01)
                (job,) = (await client.get("/_scheduler/jobs")).json()["jobs"]
                assert (job["state"], job["continuous"], job["id"]) == ("running", True, begun.json()["_local_id"])
                stopped = await client.post("/_replicate", json={**asked, "continuous": True, "cancel": True})
                assert stopped.json()["ok"]
                with anyio.fail_after(5):
                    while (await client.get("/_scheduler/jobs")).json()["jobs"]:
                        await anyio.sleep(0.01)
                put = await client.put(
                    "/_replicator/r", json={"source": "notes", "target": "third", "create_target": True}
                )
                assert put.status_code == 201
                bad = await client.put("/_replicator/bad", json={"source": "nothing", "target": "third"})
                with anyio.fail_after(10):
                    while "_replication_state" not in (found := (await client.get("/_replicator/r")).json()):
                        await anyio.sleep(0.05)
                    while "_replication_state" not in (failed := (await client.get("/_replicator/bad")).json()):
                        await anyio.sleep(0.05)
                assert (found["_replication_state"], found["_replication_stats"]["docs_written"]) == ("completed", 2)
                assert (failed["_replication_state"], "no database" in failed["_replication_state_reason"]) == (
                    "failed",
                    True,
                )
                assert db["third"].get("b") == {"n": 2}
                assert (await client.put("/_replicator/r", json=asked)).status_code == 409
                again = await client.put("/_replicator/r", json={**asked, "_rev": found["_rev"]})
                assert again.status_code == 201
                assert (await client.delete("/_replicator/bad", params={"rev": bad.json()["rev"]})).status_code == 409
                assert (await client.delete("/_replicator/bad", params={"rev": failed["_rev"]})).status_code == 200
                assert (await client.get("/_replicator/bad")).status_code == 404
                assert [one["_id"] for one in (await client.get("/_replicator")).json()["docs"]] == ["r"]
                drawn = await client.post("/_replicator", json=asked)
                assert drawn.status_code == 201
                assert (await client.get("/system.replicator/r")).json()["source"] == "notes"
            tasks.cancel_scope.cancel()
