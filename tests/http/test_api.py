"""The HTTP API: CouchDB's shapes and words, over the application itself, without a network."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from itertools import count
from threading import Timer
from typing import Any

import anyio
import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

import crdtdb
from crdtdb.cluster.engine.system_collections import Subscriptions
from crdtdb.cluster_port import PEER, Metric
from crdtdb.couchdb import Trees
from crdtdb.errors import LockError
from crdtdb.http.app import make_app
from crdtdb.limits import REQUEST_BYTES_MAX
from crdtdb.locks.leases import Lease, Stage
from crdtdb.security.peer import PeerIdentity
from crdtdb.wire.messages import MINOR, Ticket
from tests.json_posts import ASYNC_HOOKS

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Locks:
    """One voter that agrees to everything that nobody holds."""

    def __init__(self) -> None:
        self.leases: dict[str, Lease] = {}
        self.majority = True
        self._numbers = count(1)

    def want(self, name: str, ttl: float, wait: float, who: str, renewing: bool, changed: Callable[[], None]) -> Lease:
        lease = Lease(name, Ticket(0, "n1", next(self._numbers)), ttl, who, renewing, wait, changed)
        if name in self.leases:
            lease.stage, lease.why = Stage.OVER, "it is held through n1"
        else:
            lease.stage, lease.token, lease.until = Stage.HELD, lease.ticket.number, ttl
            self.leases[name] = lease
            if renewing:
                Timer(0.02, self._lose, (lease,)).start()
        return lease

    def _lose(self, lease: Lease) -> None:
        self.release(lease)
        lease.why = "no majority of the members could be asked in time"
        lease.changed()

    def renew(self, lease: Lease) -> None:
        lease.until += lease.ttl

    def release(self, lease: Lease) -> None:
        if self.leases.get(lease.name) is lease:
            del self.leases[lease.name]
            lease.stage = Stage.OVER

    def held(self, name: str, token: int) -> Lease:
        lease = self.leases.get(name)
        if lease is None:
            raise crdtdb.NotFoundError("it isn't held through this node")
        if lease.token != token:
            raise LockError("it is held under another token")
        return lease

    def is_live(self, name: str, token: int, done: Callable[[bool | None], None]) -> bool:
        if name in self.leases and self.leases[name].token == token:
            return True
        done(False if self.majority else None)
        return False

    def seconds_left(self, lease: Lease) -> float:
        return lease.ttl

    def overview(self) -> list[dict[str, Any]]:
        return [{"name": name, "token": lease.token, "waiting": []} for name, lease in self.leases.items()]


class Cluster:
    cluster = "c1"
    why_not_ready: str | None = None
    stopping = False

    revoked: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.locks = Locks()
        self.subscriptions = Subscriptions("n1")

    oldest_minor = MINOR

    def all_speak(self, minor: int) -> bool:
        return self.oldest_minor >= minor

    def why_refused(self, certified: PeerIdentity) -> str | None:
        return "the certificate was revoked" if certified.serial in self.revoked else None

    def revoke(self, serial: str, name: str, role: str, why: str, by: str) -> bool:
        new = serial not in self.revoked
        self.revoked = (*self.revoked, serial)
        return new

    def status(self) -> dict[str, Any]:
        return {"cluster": self.cluster}

    retired: tuple[str, bool]

    def stability(self) -> dict[str, Any]:
        return {"stable": 0}

    def retire(self, name: str, force: bool) -> None:
        if name != "n3":
            raise crdtdb.NotFoundError(f"there is no member {name!r}")
        self.retired = (name, force)

    def audit(self, repair: bool, members: list[str] | None) -> list[dict[str, Any]]:
        return [{"peer": one, "clean": True} for one in members or ["n2"]]

    def measured(self) -> list[Metric]:
        return [Metric("documents", "Documents.", n, {"collection": f'a"{n}'}) for n in (1, 2)]

    def name_of(self, actor: str) -> str:
        return f"node of {actor[:4]}"


def certified(app: ASGIApp) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        scope[PEER] = PeerIdentity("c1", "client", "ada", "1a")
        await app(scope, receive, send)

    return call


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    with crdtdb.open("memory:") as db:
        app = certified(make_app(db, Cluster()))
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://node", event_hooks=ASYNC_HOOKS) as made:
            made.db = db  # type: ignore[attr-defined]
            await made.put("/notes")
            yield made


def db_of(client: httpx.AsyncClient) -> crdtdb.Database:
    db: crdtdb.Database = client.db  # type: ignore[attr-defined]
    return db


async def test_who_answers(client: httpx.AsyncClient) -> None:
    welcome = (await client.get("/")).json()
    assert (welcome["couchdb"], welcome["uuid"]) == ("Welcome", "c1")
    assert (await client.get("/_up")).json() == {"status": "ok", "seeds": {}}
    assert (await client.get("/_cluster")).json() == {"cluster": "c1"}
    assert (await client.get("/_all_dbs")).json() == ["notes"]


async def test_databases(client: httpx.AsyncClient) -> None:
    made = await client.put("/more")
    assert (made.status_code, made.json()) == (201, {"ok": True})
    again = await client.put("/more")
    assert (again.status_code, again.json()["error"]) == (412, "file_exists")
    bad = await client.put("/Upper")
    assert (bad.status_code, bad.json()["error"]) == (400, "illegal_database_name")
    found = (await client.get("/more")).json()
    assert (found["db_name"], found["doc_count"], found["update_seq"][:2]) == ("more", 0, "0-")
    assert (await client.delete("/more")).json() == {"ok": True}
    for answer in (await client.get("/more"), await client.delete("/more"), await client.get("/more/a")):
        assert (answer.status_code, answer.json()) == (
            404,
            {"error": "not_found", "reason": "Database does not exist."},
        )
    assert (await client.put("/more/a", json={})).status_code == 404


async def test_documents(client: httpx.AsyncClient) -> None:
    made = await client.put("/notes/a", json={"title": "x"})
    rev = made.json()["rev"]
    assert (made.status_code, made.json()) == (201, {"ok": True, "id": "a", "rev": rev})
    assert made.headers["etag"] == f'"{rev}"'
    assert (await client.get("/notes/a")).json() == {"_id": "a", "_rev": rev, "title": "x"}
    stale = await client.put("/notes/a", json={"title": "y"})
    assert (stale.status_code, stale.json()) == (409, {"error": "conflict", "reason": "Document update conflict."})
    second = (await client.put("/notes/a", json={"title": "y", "_rev": rev})).json()["rev"]
    third = (await client.put(f"/notes/a?rev={second}", json={"title": "z"})).json()["rev"]
    assert (await client.get("/notes/a", params={"rev": rev})).json()["title"] == "x"
    missing = await client.get("/notes/a", params={"rev": "7-" + "0" * 32})
    assert (missing.status_code, missing.json()) == (404, {"error": "not_found", "reason": "missing"})
    assert (await client.delete("/notes/a")).status_code == 409
    gone = await client.delete("/notes/a", headers={"if-match": f'"{third}"'})
    assert gone.status_code == 200
    deleted = await client.get("/notes/a")
    assert (deleted.status_code, deleted.json()) == (404, {"error": "not_found", "reason": "deleted"})
    stub = (await client.get("/notes/a", params={"rev": gone.json()["rev"]})).json()
    assert stub == {"_id": "a", "_rev": gone.json()["rev"], "_deleted": True}
    assert (await client.get("/notes/never")).json()["reason"] == "missing"
    drawn = (await client.post("/notes", json={"title": "drawn"})).json()
    assert (await client.get(f"/notes/{drawn['id']}")).json()["title"] == "drawn"
    slashes = await client.put("/notes/a%2Fb c", json={})
    assert slashes.json()["id"] == "a/b c"


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "error"),
    [
        ("PUT", "/notes/x", b"{", 400, "bad_request"),
        ("PUT", "/notes/x", b"[]", 400, "bad_request"),
        ("PUT", "/notes/x", b'{"_secret": 1}', 400, "doc_validation"),
        ("PUT", "/notes/x?rev=7", b"{}", 400, "bad_request"),
        ("PUT", "/notes/_x", b"{}", 400, "illegal_docid"),
        ("PUT", "/notes/" + "x" * 4097, b"{}", 400, "illegal_docid"),
        ("GET", "/notes/x?conflicts=yes", None, 400, "query_parse_error"),
        ("GET", "/notes/_all_docs?limit=-1", None, 400, "query_parse_error"),
        ("GET", "/notes/_all_docs?startkey=a", None, 400, "bad_request"),
        ("GET", "/notes/_changes?feed=telepathy", None, 400, "bad_request"),
        ("GET", "/notes/_changes?since=x", None, 400, "bad_request"),
        ("POST", "/notes/_bulk_docs", b'{"docs": 1}', 400, "bad_request"),
        ("POST", "/notes/x/_resolve", b"{}", 404, "not_found"),
        ("TRACE", "/notes/x", b"{}", 405, "method_not_allowed"),
        ("PATCH", "/notes/x", b"{}", 404, "not_found"),
    ],
)
async def test_bad_requests_have_couchdbs_words(
    client: httpx.AsyncClient, method: str, path: str, content: bytes | None, status: int, error: str
) -> None:
    answer = await client.request(method, path, content=content)
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    assert answer.json()["reason"]
    assert (await client.get("/notes")).json()["doc_count"] == 0


async def test_too_much_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.put("/notes/x", content=b"{}", headers={"content-length": str(REQUEST_BYTES_MAX + 1)})
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(REQUEST_BYTES_MAX // 1_000_000 + 2):
            yield b" " * 1_000_000

    answer = await client.put("/notes/x", content=endless())
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")


async def test_all_docs(client: httpx.AsyncClient) -> None:
    for doc_id in ("a", "b", "c", "d"):
        await client.put(f"/notes/{doc_id}", json={"id": doc_id})
    found = (await client.get("/notes/_all_docs")).json()
    assert found["total_rows"] == 4
    assert [row["key"] for row in found["rows"]] == ["a", "b", "c", "d"]
    assert found["rows"][0]["value"]["rev"].startswith("1-")

    async def ids(query: str) -> list[str]:
        return [row["id"] for row in (await client.get(f"/notes/_all_docs?{query}")).json()["rows"]]

    assert await ids('startkey="b"&endkey="c"') == ["b", "c"]
    assert await ids('start_key="b"&end_key="c"&inclusive_end=false') == ["b"]
    assert await ids('descending=true&startkey="c"&limit=2') == ["c", "b"]
    assert await ids("skip=3") == ["d"]
    assert await ids('key="b"') == ["b"]
    keyed = await client.post("/notes/_all_docs?include_docs=true", json={"keys": ["d", "never", "a"]})
    rows = keyed.json()["rows"]
    assert [row["key"] for row in rows] == ["d", "never", "a"]
    assert rows[1] == {"key": "never", "error": "not_found"}
    assert rows[0]["doc"]["id"] == "d"


async def test_bulk_docs(client: httpx.AsyncClient) -> None:
    first = (await client.put("/notes/a", json={})).json()
    answer = await client.post(
        "/notes/_bulk_docs",
        json={
            "docs": [
                {"_id": "a"},
                {"_id": "a", "_rev": first["rev"], "_deleted": True},
                {"n": 1},
                {"_id": "_local/x", "n": 1},
            ]
        },
    )
    stale, gone, drawn, local = answer.json()
    assert answer.status_code == 201
    assert stale == {"id": "a", "error": "conflict", "reason": "Document update conflict."}
    assert gone["ok"]
    assert len(drawn["id"]) == 32
    assert local == {"ok": True, "id": "_local/x", "rev": "0-1"}
    for wrong, error in (({"_id": "_no"}, "illegal_docid"), (7, "bad_request"), ({"_rev": None}, "bad_request")):
        answer = await client.post("/notes/_bulk_docs", json={"docs": [{"_id": "b"}, wrong]})
        assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert (await client.get("/notes/b")).status_code == 404


async def test_changes(client: httpx.AsyncClient) -> None:
    for doc_id in ("a", "b", "a2"):
        await client.put(f"/notes/{doc_id}", json={"id": doc_id})
    rev = (await client.get("/notes/b")).json()["_rev"]
    await client.delete("/notes/b", params={"rev": rev})
    found = (await client.get("/notes/_changes")).json()
    assert [(int(row["seq"].split("-")[0]), row["id"], row.get("deleted", False)) for row in found["results"]] == [
        (1, "a", False),
        (3, "a2", False),
        (4, "b", True),
    ]
    assert (found["last_seq"], found["pending"]) == (found["results"][-1]["seq"], 0)
    limited = (await client.get("/notes/_changes?limit=1&include_docs=true")).json()
    assert (limited["last_seq"], limited["pending"]) == (limited["results"][0]["seq"], 2)
    assert limited["results"][0]["doc"]["id"] == "a"
    rest = (await client.get("/notes/_changes", params={"since": limited["last_seq"]})).json()
    assert [row["id"] for row in rest["results"]] == ["a2", "b"]
    assert (await client.get("/notes/_changes", params={"since": found["last_seq"]})).json()["results"] == []
    assert (await client.get("/notes/_changes?since=now")).json()["last_seq"] == found["last_seq"]
    sparse = (await client.get("/notes/_changes?seq_interval=2")).json()
    assert [row["seq"] is None for row in sparse["results"]] == [False, True, False]
    assert sparse["last_seq"] == found["last_seq"]
    newest = (await client.get("/notes/_changes?descending=true&limit=2")).json()
    assert [row["id"] for row in newest["results"]] == ["b", "a2"]
    chosen = (await client.post("/notes/_changes?filter=_doc_ids", json={"doc_ids": ["a2"]})).json()
    assert [row["id"] for row in chosen["results"]] == ["a2"]


async def test_a_long_poll_waits_for_the_next_change(client: httpx.AsyncClient) -> None:
    with anyio.fail_after(20):
        nothing = await client.get("/notes/_changes?feed=longpoll&timeout=50")
        assert nothing.json()["results"] == []
        async with anyio.create_task_group() as tasks:

            async def later() -> None:
                await anyio.sleep(0.1)
                await client.put("/notes/late", json={})

            tasks.start_soon(later)
            found = await client.get("/notes/_changes?feed=longpoll")
        assert [row["id"] for row in found.json()["results"]] == ["late"]


async def test_a_continuous_feed_sends_lines(client: httpx.AsyncClient) -> None:
    for n in range(3):
        await client.put(f"/notes/d{n}", json={})
    with anyio.fail_after(20):  # and not when the client's patience would have been over
        answer = await client.get("/notes/_changes?feed=continuous&limit=3")
    lines = [httpx.Response(200, content=line).json() for line in answer.text.splitlines()]
    assert [line["id"] for line in lines[:3]] == ["d0", "d1", "d2"]
    assert (lines[3]["last_seq"], lines[3]["pending"]) == (lines[2]["seq"], 0)
    events = await client.get("/notes/_changes?feed=eventsource&limit=1")
    assert events.headers["content-type"].startswith("text/event-stream")
    assert [line.partition(":")[0] for line in events.text.split("\n")] == ["", "data", "id", "", ""]


async def test_conflicts_siblings_resolve_history(client: httpx.AsyncClient) -> None:
    with crdtdb.open("memory:") as other:
        await client.put("/notes/a", json={"from": "here"})
        other["notes"].put("a", {"from": "there"})
        crdtdb.sync(db_of(client), other)
    found = (await client.get("/notes/a?conflicts=true")).json()
    (loser,) = found["_conflicts"]
    siblings = (await client.get("/notes/a/_siblings")).json()["siblings"]
    assert [one["rev"] for one in siblings] == [found["_rev"], loser]
    assert {one["body"]["from"] for one in siblings} == {"here", "there"}
    assert siblings[0]["node"].startswith("node of ")
    rows = (await client.get("/notes/_conflicts")).json()["rows"]
    assert [(row["id"], len(row["siblings"])) for row in rows] == [("a", 2)]
    changes = (await client.get("/notes/_changes?style=all_docs")).json()["results"]
    assert {one["rev"] for one in changes[0]["changes"]} == {found["_rev"], loser}
    resolved = await client.post("/notes/a/_resolve", json={"from": "both"})
    assert resolved.status_code == 201
    assert (await client.get("/notes/a?conflicts=true")).json() == {
        "_id": "a",
        "_rev": resolved.json()["rev"],
        "from": "both",
    }
    assert (await client.get("/notes/_conflicts")).json() == {"rows": []}
    revisions = (await client.get("/notes/a/_history")).json()["revisions"]
    bodies = {one["rev"]: one["body"] for one in revisions}
    assert bodies[resolved.json()["rev"]] == {"from": "both"}
    assert len(revisions) == 4  # two born, one resolution, one branch closed
    assert len((await client.get("/notes/_digest")).json()["digest"]) == 32


@pytest.mark.parametrize("how", ["query", "words", "body", "read"])
async def test_history_25_a_resolution_over_http_replaces_what_was_seen(client: httpx.AsyncClient, how: str) -> None:
    with crdtdb.open("memory:") as bob, crdtdb.open("memory:") as cy:
        await client.put("/notes/a", json={"from": "ada"})
        bob["notes"].put("a", {"from": "bob"})
        cy["notes"].put("a", {"from": "cy"})
        crdtdb.sync(db_of(client), bob)
        read = (await client.get("/notes/a?conflicts=true")).json()
        seen = [one["rev"] for one in (await client.get("/notes/a/_siblings")).json()["siblings"]]
        assert seen == [read["_rev"], *read["_conflicts"]]
        crdtdb.sync(db_of(client), cy)
    body: dict[str, Any] = {"from": "both"}
    query: dict[str, str] = {}
    if how == "query":
        query["seen"] = json.dumps(seen)
    elif how == "words":
        query["seen"] = ",".join(seen)
    elif how == "body":
        body["_seen"] = seen
    else:
        body = {**read, **body}
    answer = await client.post("/notes/a/_resolve", params=query, json=body)
    assert answer.status_code == 201
    siblings = (await client.get("/notes/a/_siblings")).json()["siblings"]
    assert sorted(one["body"]["from"] for one in siblings) == ["both", "cy"]
    again = await client.post("/notes/a/_resolve", json={**body, "_seen": seen})
    assert (again.status_code, again.json()["error"]) == (409, "conflict")
    (other,) = [one["rev"] for one in siblings if one["body"]["from"] == "cy"]
    alone = await client.post("/notes/a/_resolve", params={"rev": other}, json={"from": "cy, resolved"})
    assert alone.status_code == 201
    siblings = (await client.get("/notes/a/_siblings")).json()["siblings"]
    assert sorted(one["body"]["from"] for one in siblings) == ["both", "cy, resolved"]
    assert (await client.post("/notes/a/_resolve", params={"rev": other}, json={})).status_code == 409
    refused: list[dict[str, Any]] = [{"_seen": []}, {"_seen": "x"}, {"_seen": [7]}, {"_rev": "x"}]
    for wrong in [*refused, {"_rev": seen[0], "_conflicts": 7}]:
        assert (await client.post("/notes/a/_resolve", json=wrong)).status_code == 400
    both = await client.post("/notes/a/_resolve", params={"rev": other, "seen": other}, json={})
    assert both.status_code == 400
    assert (await client.post("/notes/a/_resolve", json={"from": "all"})).status_code == 201
    assert (await client.get("/notes/_conflicts")).json() == {"rows": []}


async def test_without_a_certificate_nothing_is_answered() -> None:
    with crdtdb.open("memory:") as db:
        transport = httpx.ASGITransport(app=make_app(db, Cluster()))
        async with httpx.AsyncClient(transport=transport, base_url="https://node", event_hooks=ASYNC_HOOKS) as client:
            for path in ("/", "/notes", "/_cluster"):
                answer = await client.get(path)
                assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")


async def test_a_node_that_is_not_ready_reads_and_refuses_writes() -> None:
    with crdtdb.open("memory:") as db:
        db["notes"].put("a", {"n": 1})
        cluster = Cluster()
        cluster.why_not_ready = "the node is joining"
        transport = httpx.ASGITransport(app=certified(make_app(db, cluster)))
        async with httpx.AsyncClient(transport=transport, base_url="https://node", event_hooks=ASYNC_HOOKS) as client:
            assert (await client.get("/notes/a")).json()["n"] == 1
            assert (await client.get("/_up")).status_code == 404
            for answer in (
                await client.put("/notes/b", json={}),
                await client.put("/more"),
                await client.delete("/notes"),
                await client.post("/notes/_bulk_docs", json={"docs": []}),
            ):
                assert (answer.status_code, answer.json()["error"]) == (503, "service_unavailable")


async def test_a_bug_is_an_answer_without_details(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trees, "get", lambda *args: 1 / 0)
    answer = await client.get("/notes/a")
    assert answer.status_code == 500
    assert "division" not in answer.text
    assert PEER


async def test_numbers_beyond_64_bits_are_numbers(client: httpx.AsyncClient) -> None:
    await client.put("/notes")
    await client.put("/notes/a", json={})
    rows = (await client.post("/notes/_all_docs", content=f'{{"limit":{2**63}}}')).json()["rows"]
    assert [row["id"] for row in rows] == ["a"]
    assert (await client.post("/notes/_all_docs", content=f'{{"skip":{2**63}}}')).json()["rows"] == []
    rows = (await client.post("/notes/_all_docs", content=f'{{"limit":{10**40}}}')).json()["rows"]
    assert [row["id"] for row in rows] == ["a"]


async def test_a_boundary_of_several_parts_that_is_too_long(client: httpx.AsyncClient) -> None:
    await client.put("/notes")
    headers = {"content-type": f"multipart/related; boundary={'x' * 5_000}"}
    answer = await client.put("/notes/a", content=b"--x", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")


async def test_the_names_in_why_are_those_of_nodes(client: httpx.AsyncClient) -> None:
    """A document may have a `node` or a `clock` of its own."""
    await client.put("/notes")
    await client.put("/notes/a", json={"node": "mine", "clock": {"its": 1}})
    explained = (await client.get("/notes/a/_why")).json()
    assert explained["value"]["node"] == "mine"
    assert list(explained["names"]) == [explained["versions"][0]["node"]]
