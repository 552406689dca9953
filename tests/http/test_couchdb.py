"""CouchDB's protocol over the application itself: revision trees, attachments, local documents, feeds, and its words."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from typing import Any

import anyio
import httpx
import pytest

import crdtdb
from crdtdb.http.app import make_app
from crdtdb.limits import REQUEST_BYTES_MAX
from crdtdb.store.layout import keys
from tests.http.test_api import Cluster, anyio_backend, certified, client, db_of
from tests.inside import backend_of
from tests.json_posts import ASYNC_HOOKS

__all__ = ["anyio_backend", "client"]
pytestmark = pytest.mark.anyio


async def push(client: httpx.AsyncClient, doc_id: str, path: list[str], **body: Any) -> None:
    """Bring a revision that was made elsewhere; `path` are the digests from its own on."""
    revisions = {"start": len(path), "ids": path}
    answer = await client.post(
        "/notes/_bulk_docs", json={"docs": [{"_id": doc_id, "_revisions": revisions, **body}], "new_edits": False}
    )
    assert (answer.status_code, answer.json()) == (201, [])


async def revs(client: httpx.AsyncClient, doc_id: str) -> list[str]:
    found = (await client.get(f"/notes/{doc_id}?open_revs=all")).json()
    return [one["ok"]["_rev"] + (" deleted" if one["ok"].get("_deleted") else "") for one in found]


async def test_trees_in_any_order_twice_and_stemmed(client: httpx.AsyncClient) -> None:
    await push(client, "a", ["c", "b"], n=3)  # "b" at 1, "c" at 2: stemmed below
    await push(client, "a", ["d", "c", "b"], n=4)
    await push(client, "a", ["x", "b"], n=5)
    await push(client, "a", ["x", "b"], n=5)
    await push(client, "a", ["c", "b"], n=3)
    assert await revs(client, "a") == ["3-d", "2-x"]
    found = (await client.get("/notes/a?revs=true&conflicts=true")).json()
    assert found["_revisions"] == {"start": 3, "ids": ["d", "c", "b"]}
    assert found["_conflicts"] == ["2-x"]
    info = (await client.get("/notes/a?revs_info=true")).json()["_revs_info"]
    assert info == [
        {"rev": "3-d", "status": "available"},
        {"rev": "2-c", "status": "available"},
        {"rev": "1-b", "status": "missing"},
    ]
    assert (await client.get("/notes/a?rev=2-c")).json()["n"] == 3
    assert (await client.get("/notes/a?rev=2-c&latest=true")).json()["_rev"] == "3-d"


async def test_a_later_path_tells_that_a_leaf_is_an_ancestor(client: httpx.AsyncClient) -> None:
    await push(client, "a", ["b", "a"], n=2)
    answer = {"_id": "a", "_rev": "4-d", "_revisions": {"start": 4, "ids": ["d", "c"]}, "n": 4}
    await client.post("/notes/_bulk_docs", json={"docs": [answer], "new_edits": False})
    assert await revs(client, "a") == ["2-b", "4-d"]
    await push(client, "a", ["d", "c", "b", "a"], n=4)
    assert await revs(client, "a") == ["4-d"]
    diff = (await client.post("/notes/_revs_diff", json={"a": ["2-b", "1-a", "9-z"], "new": ["1-q"]})).json()
    assert diff == {"a": {"missing": ["9-z"], "possible_ancestors": ["4-d"]}, "new": {"missing": ["1-q"]}}
    missing = (await client.post("/notes/_missing_revs", json={"a": ["4-d", "9-z"]})).json()
    assert missing == {"missing_revs": {"a": ["9-z"]}}


async def test_history_22_the_recurring_digest(client: httpx.AsyncClient) -> None:
    """Two leaves whose digests are equal at different generations are two leaves."""
    await push(client, "a", ["same"], n=1)
    await push(client, "a", ["same", "other"], n=2)
    assert await revs(client, "a") == ["2-same", "1-same"]
    await client.delete("/notes/a?rev=2-same")
    assert (await client.get("/notes/a")).json()["n"] == 1


async def test_a_tombstone_may_have_a_body(client: httpx.AsyncClient) -> None:
    await push(client, "a", ["b", "a"], _deleted=True, why="it was wrong")
    assert (await client.get("/notes/a")).status_code == 404
    found = (await client.get("/notes/a?rev=2-b")).json()
    assert found == {"_id": "a", "_rev": "2-b", "_deleted": True, "why": "it was wrong"}
    made = (await client.put("/notes/c", json={"n": 1})).json()["rev"]
    gone = (await client.put("/notes/c", json={"_rev": made, "_deleted": True, "why": "too"})).json()["rev"]
    assert (await client.get("/notes/c", params={"rev": gone})).json()["why"] == "too"


async def test_a_write_replaces_the_leaf_that_it_names_alone(client: httpx.AsyncClient) -> None:
    await push(client, "a", ["b", "a"], title="same")
    await push(client, "a", ["c", "a"], title="same")
    assert await revs(client, "a") == ["2-b", "2-c"]
    assert not db_of(client)["notes"].get("a").conflicts  # equal bodies are one to the library
    new = (await client.put("/notes/a", json={"_rev": "2-c", "title": "new"})).json()["rev"]
    assert await revs(client, "a") == ["2-b", new]


async def test_what_merged_by_itself_is_published_once_and_is_no_conflict(client: httpx.AsyncClient) -> None:
    """History 17 too: a put against a field edit; no answer ever lists or serves a leaf without a body."""
    here = db_of(client)["notes"]
    here.declare({"likes": crdtdb.Counter})
    first = here.put("a", {"title": "x", "likes": 1})
    with crdtdb.open("memory:") as other:
        crdtdb.sync(db_of(client), other)
        there = other["notes"]
        with here.edit("a") as doc:
            doc["likes"].increment(2)
        there.put("a", {"title": "y", "likes": 1}, first.rev)
        with there.edit("a") as doc:
            doc["likes"].increment(4)
        crdtdb.sync(db_of(client), other)
        digest = here.digest()
        assert digest == there.digest()
        row = (await client.get("/notes/_changes?style=all_docs&include_docs=true")).json()["results"][-1]
        assert (row["doc"]["title"], row["doc"]["likes"]) == ("y", 7)
        live = [one for one in await revs(client, "a") if "deleted" not in one]
        assert live == [row["doc"]["_rev"]]
        assert row["changes"][0]["rev"] == live[0]
        for one in row["changes"]:
            assert (await client.get("/notes/a", params={"rev": one["rev"]})).status_code == 200
        # A node that sees the same writes the same, and afterwards nobody writes.
        twin = make_app(other, Cluster())
        transport = httpx.ASGITransport(app=certified(twin))
        async with httpx.AsyncClient(transport=transport, base_url="https://twin", event_hooks=ASYNC_HOOKS) as second:
            assert (await second.get("/notes/a")).json()["_rev"] == live[0]
        crdtdb.sync(db_of(client), other)
        rest = here.digest()
        assert (await client.get("/notes/a")).json()["_rev"] == live[0]
        assert (await client.get("/notes/_all_docs?include_docs=true")).json()["rows"][0]["doc"]["_rev"] == live[0]
        assert here.digest() == rest == there.digest()


async def test_a_published_loser_keeps_its_value(client: httpx.AsyncClient) -> None:
    notes = db_of(client)["notes"]
    notes.declare({"likes": crdtdb.Counter})
    await push(client, "a", ["b", "a"], title="b", likes=1)
    await push(client, "a", ["c", "a"], title="c", likes=1)
    before = (await client.get("/notes/a?rev=2-b")).json()
    with notes.edit("a") as doc:
        doc["likes"].increment(5)
    assert (await client.get("/notes/a")).json()["likes"] == before["likes"] + 5
    assert (await client.get("/notes/a?rev=2-b")).json() == before
    with crdtdb.open("memory:") as other:  # which never saw what that was, and so gives it another name
        crdtdb.sync(db_of(client), other)
        transport = httpx.ASGITransport(app=certified(make_app(other, Cluster())))
        async with httpx.AsyncClient(transport=transport, base_url="https://other", event_hooks=ASYNC_HOOKS) as second:
            told = (await second.get("/notes/a?conflicts=true")).json()
            assert (told["title"], told["likes"]) == ("c", before["likes"] + 5)  # and the winner stays the winner
            (loser,) = told["_conflicts"]
            assert loser.startswith("3-")
            crdtdb.sync(db_of(client), other)
            one, two = [(await each.get("/notes/a", params={"rev": loser})).json() for each in (client, second)]
            assert one == two
            digest = db_of(client)["notes"].digest()
            for each in (client, second):
                await each.get("/notes/a")
            assert digest == db_of(client)["notes"].digest() == other["notes"].digest()


async def test_attachments_inline_stubs_and_raw(client: httpx.AsyncClient) -> None:
    data = b64encode(b"hello").decode()
    body = {"n": 1, "_attachments": {"a.txt": {"content_type": "image/png", "data": data}}}
    first = (await client.put("/notes/a", json=body)).json()["rev"]
    found = (await client.get("/notes/a")).json()
    stub = {
        "content_type": "image/png",
        "revpos": 1,
        "digest": "md5-XUFAKrxLKna5cZ2REBfFkg==",
        "length": 5,
        "stub": True,
    }
    assert found["_attachments"] == {"a.txt": stub}
    second = (await client.put("/notes/a", json={**found, "n": 2})).json()["rev"]
    assert (await client.get("/notes/a?attachments=true")).json()["_attachments"]["a.txt"]["data"] == data
    raw = await client.get("/notes/a/a.txt")
    assert (raw.content, raw.headers["content-type"].split(";")[0]) == (b"hello", "image/png")
    assert (raw.headers["etag"], raw.headers["content-md5"]) == (
        '"XUFAKrxLKna5cZ2REBfFkg=="',
        "XUFAKrxLKna5cZ2REBfFkg==",
    )
    part = await client.get("/notes/a/a.txt", headers={"range": "bytes=1-3"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"ell", "bytes 1-3/5")
    assert (await client.get("/notes/a/a.txt", headers={"range": "bytes=-2"})).content == b"lo"
    assert (await client.get("/notes/a/a.txt", headers={"range": "bytes=9-"})).status_code == 416
    for odd in ("bytes=²-5".encode("latin-1"), b"bytes=-", b"bytes=0-1,3-4", b"bytes=x-2", b"bytes=0-" + b"9" * 5_000):
        whole = await client.get("/notes/a/a.txt", headers={b"range": odd})
        assert (whole.status_code, whole.content) == (200, b"hello")
    assert (await client.get("/notes/a/a.txt", headers={"if-none-match": raw.headers["etag"]})).status_code == 304
    assert (await client.head("/notes/a/a.txt")).headers["content-length"] == "5"
    big = bytes(range(256)) * 3000
    third = await client.put(f"/notes/a/x/y.bin?rev={second}", content=big, headers={"content-type": "image/png"})
    assert third.status_code == 201
    assert (await client.get("/notes/a/x/y.bin")).content == big
    assert (await client.get("/notes/a/x/y.bin", headers={"range": "bytes=262000-262200"})).content == big[
        262000:262201
    ]
    assert (await client.get("/notes/a/never")).json()["reason"] == "Document is missing attachment"
    stale = await client.put(f"/notes/a/z?rev={first}", content=b"z")
    assert (stale.status_code, stale.json()["error"]) == (409, "conflict")
    gone = await client.delete("/notes/a/a.txt", params={"rev": third.json()["rev"]})
    assert gone.status_code == 200
    assert list((await client.get("/notes/a")).json()["_attachments"]) == ["x/y.bin"]
    assert (await client.get(f"/notes/a/a.txt?rev={second}")).content == b"hello"  # until compaction


async def test_bad_attachments_leave_nothing_behind(client: httpx.AsyncClient) -> None:
    for attachments, status, error in [
        ({"a": {"stub": True}}, 412, "missing_stub"),
        ({"a": {"data": "%%%"}}, 400, "bad_request"),
        ({"_a": {"data": ""}}, 400, "bad_request"),
        ([], 400, "doc_validation"),
        ({"a": {"follows": True}}, 400, "bad_request"),
    ]:
        answer = await client.put("/notes/a", json={"_attachments": attachments})
        assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    await client.put("/notes/a", json={})
    bulk = await client.post(
        "/notes/_bulk_docs",
        json={"docs": [{"_id": "a", "_attachments": {"a": {"data": "aGVsbG8="}}}]},
    )
    assert bulk.json()[0]["error"] == "conflict"
    assert (await client.put("/notes/a/f", content=b"x", headers={"content-md5": "no"})).status_code == 400
    assert rows_of_contents(db_of(client)) == []


def rows_of_contents(db: crdtdb.Database) -> list[bytes]:
    backend = backend_of(db.store)
    return [key for prefix in (b"A", b"b", b"r", b"q", b"u") for key, _ in backend.scan(*keys.rest(prefix))]


async def test_contents_are_kept_once_and_go_with_the_last_who_has_them(client: httpx.AsyncClient) -> None:
    for doc_id in ("a", "b"):
        await client.put(f"/notes/{doc_id}/f", content=b"same" * 100_000)
    keys = rows_of_contents(db_of(client))
    assert sum(key.startswith(b"A") for key in keys) == 1
    assert sum(key.startswith(b"b") for key in keys) == 2
    rev = (await client.get("/notes/a")).json()["_rev"]
    await client.put("/notes/a", json={"_rev": rev})
    assert (await client.post("/notes/_compact")).status_code == 202
    assert (await client.get("/notes/b/f")).content == b"same" * 100_000
    await client.delete("/notes")
    assert rows_of_contents(db_of(client)) == []


async def test_compaction_keeps_names_and_what_shows(client: httpx.AsyncClient) -> None:
    first = (await client.put("/notes/a", json={"n": 1})).json()["rev"]
    await client.put("/notes/a", json={"n": 2, "_rev": first})
    assert (await client.get("/notes/a", params={"rev": first})).json()["n"] == 1
    await client.post("/notes/_compact")
    assert (await client.get("/notes/a", params={"rev": first})).json() == {"error": "not_found", "reason": "missing"}
    assert (await client.get("/notes/a")).json()["n"] == 2
    assert (await client.post("/notes/_revs_diff", json={"a": [first]})).json() == {}


async def test_multipart_both_ways(client: httpx.AsyncClient) -> None:
    document = {
        "n": 1,
        "_attachments": {
            "a.txt": {"follows": True, "content_type": "text/plain", "length": 5},
            "b.txt": {"follows": True, "content_type": "text/plain", "length": 3},
        },
    }
    parts = [b"Content-Type: application/json\r\n\r\n" + json.dumps(document).encode(), b"\r\nhello", b"\r\nbye"]
    content = b"".join(b"\r\n--xyz\r\n" + part for part in parts).lstrip() + b"\r\n--xyz--"
    headers = {"content-type": 'multipart/related; boundary="xyz"'}
    made = await client.put("/notes/m", content=content, headers=headers)
    assert made.status_code == 201, made.text
    assert (await client.get("/notes/m/a.txt")).content == b"hello"
    back = await client.get("/notes/m?attachments=true", headers={"accept": "multipart/related"})
    assert back.headers["content-type"].startswith("multipart/related")
    again = await client.put("/notes/m2?new_edits=false", content=back.content, headers=back.headers)
    assert (again.status_code, again.json()["id"]) == (201, "m2")  # the document says that it is "m"
    cut = await client.put("/notes/n", content=content[:-30], headers=headers)
    assert cut.status_code == 400
    assert (await client.get("/notes/n")).status_code == 404
    mixed = await client.get("/notes/m?open_revs=all", headers={"accept": "multipart/mixed"})
    assert mixed.headers["content-type"].startswith("multipart/mixed")
    assert mixed.text.count("--") >= 2


async def test_an_attachment_beyond_the_limit_is_refused() -> None:
    with crdtdb.open("memory:") as db:
        transport = httpx.ASGITransport(app=certified(make_app(db, Cluster(), attachment_bytes_max=10)))
        async with httpx.AsyncClient(transport=transport, base_url="https://node", event_hooks=ASYNC_HOOKS) as small:
            await small.put("/notes")
            answer = await small.put("/notes/a/f", content=b"x" * 11)
            assert (answer.status_code, answer.json()["error"]) == (413, "too_large")
            assert (await small.get("/notes/a")).status_code == 404


async def test_local_documents(client: httpx.AsyncClient) -> None:
    before = (await client.get("/notes")).json()["update_seq"].split("-")[0]
    made = await client.put("/notes/_local/x", json={"at": 1})
    assert (made.status_code, made.json()) == (201, {"ok": True, "id": "_local/x", "rev": "0-1"})
    again = await client.put("/notes/_local/x", json={"at": 2, "_rev": "0-1"})
    assert again.json()["rev"] == "0-2"
    assert (await client.get("/notes/_local/x")).json() == {"_id": "_local/x", "_rev": "0-2", "at": 2}
    listed = (await client.get("/notes/_local_docs")).json()["rows"]
    assert [row["id"] for row in listed] == ["_local/x"]
    assert (await client.get("/notes/_changes")).json()["results"] == []
    assert (await client.get("/notes/_all_docs")).json()["rows"] == []
    info = (await client.get("/notes")).json()
    assert (info["doc_count"], info["update_seq"].split("-")[0]) == (0, before)
    assert (await client.put("/notes/_local/x", json={"_rev": "1-x"})).json()["reason"] == "Invalid rev format"
    assert (await client.delete("/notes/_local/x")).status_code == 200
    assert (await client.get("/notes/_local/x")).status_code == 404


async def test_design_documents_are_documents(client: httpx.AsyncClient) -> None:
    made = await client.put("/notes/_design/app", json={"views": {}})
    assert made.json()["id"] == "_design/app"
    assert (await client.get("/notes/_design/app")).json()["views"] == {}
    assert (await client.get("/notes/_design%2Fapp")).status_code == 200
    await client.put("/notes/a", json={})
    assert [row["id"] for row in (await client.get("/notes/_design_docs")).json()["rows"]] == ["_design/app"]
    chosen = (await client.get("/notes/_changes?filter=_design")).json()["results"]
    assert [row["id"] for row in chosen] == ["_design/app"]


async def test_filters_by_selector(client: httpx.AsyncClient) -> None:
    for n in range(4):
        await client.put(f"/notes/d{n}", json={"n": n})
    answer = await client.post("/notes/_changes?filter=_selector", json={"selector": {"n": {"$gt": 1}}})
    assert [row["id"] for row in answer.json()["results"]] == ["d2", "d3"]
    bad = await client.post("/notes/_changes?filter=_selector", json={"selector": {"n": {"$no": 1}}})
    assert (bad.status_code, bad.json()["reason"]) == (400, "Invalid operator: $no")


async def test_bulk_get(client: httpx.AsyncClient) -> None:
    rev = (await client.put("/notes/a", json={"n": 1})).json()["rev"]
    asked = [{"id": "a", "rev": rev}, {"id": "a"}, {"id": "a", "rev": "7-x"}, {"id": "never"}]
    results = (await client.post("/notes/_bulk_get?revs=true", json={"docs": asked})).json()["results"]
    assert [list(one["docs"][0]) for one in results] == [["ok"], ["ok"], ["error"], ["error"]]
    assert results[0]["docs"][0]["ok"]["_revisions"]["start"] == 1
    assert results[2]["docs"][0]["error"]["reason"] == "missing"


async def test_a_purge_is_forgotten_everywhere(client: httpx.AsyncClient) -> None:
    first = (await client.put("/notes/a", json={"secret": 1})).json()["rev"]
    rev = (await client.put("/notes/a", json={"secret": 2, "_rev": first})).json()["rev"]
    with crdtdb.open("memory:") as other:
        crdtdb.sync(db_of(client), other)
        purged = await client.post("/notes/_purge", json={"a": [rev, "9-x"]})
        assert purged.json() == {"purge_seq": None, "purged": {"a": [rev]}}
        assert (await client.get("/notes/a")).json()["reason"] == "missing"
        crdtdb.sync(db_of(client), other)
        assert "a" not in other["notes"]
        for store in (db_of(client).store, other.store):
            assert not [key for key, value in backend_of(store).scan(b"h", b"i") if b"secret" in value]
        assert (await client.post("/notes/_revs_diff", json={"a": [rev]})).json() == {"a": {"missing": [rev]}}
        await client.put("/notes/a", json={"n": 1})
        crdtdb.sync(db_of(client), other)
        assert other["notes"].get("a")["n"] == 1


async def test_what_belongs_to_a_database(client: httpx.AsyncClient) -> None:
    assert (await client.get("/notes/_revs_limit")).json() == 1000
    assert (await client.put("/notes/_revs_limit", content=b"1000")).json() == {"ok": True}
    assert (await client.put("/notes/_revs_limit", content=b"5")).status_code == 400
    assert (await client.post("/notes/_ensure_full_commit")).status_code == 201
    assert (await client.post("/notes/_view_cleanup")).status_code == 202
    assert set((await client.get("/notes/_security")).json()) == {"admins", "members", "readers"}
    infos = (await client.post("/_dbs_info", json={"keys": ["notes", "never"]})).json()
    assert [one.get("error") for one in infos] == [None, "not_found"]
    assert (await client.put("/a%2Fb")).status_code == 201
    assert (await client.put("/a%2Fb/c%2Fd", json={"n": 1})).json()["id"] == "c/d"
    assert (await client.get("/a%2Fb/c%2Fd")).json()["n"] == 1
    assert len((await client.get("/_uuids?count=3")).json()["uuids"]) == 3


async def test_pages_of_other_origins_need_to_be_allowed() -> None:
    with crdtdb.open("memory:") as db:
        app = make_app(db, Cluster(), cors_origins=["https://app.example"])
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="https://node", event_hooks=ASYNC_HOOKS
        ) as browser:
            asking = {"access-control-request-method": "PUT", "access-control-request-headers": "content-type"}
            allowed = await browser.options("/notes", headers={"origin": "https://app.example", **asking})
            assert (allowed.status_code, allowed.headers["access-control-allow-credentials"]) == (200, "true")
            assert allowed.headers["access-control-allow-origin"] == "https://app.example"
            other = await browser.options("/notes", headers={"origin": "https://evil.example", **asking})
            assert other.status_code == 400
            refused = await browser.get("/notes", headers={"origin": "https://app.example"})
            assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://app.example")


async def test_a_thousand_idle_long_polls_sleep_until_a_commit_wakes_them(client: httpx.AsyncClient) -> None:
    store = db_of(client).store
    moments = 0
    take = store.durable_snapshot

    def counted() -> Any:
        nonlocal moments
        moments += 1
        return take()

    store.durable_snapshot = counted  # type: ignore[method-assign]
    answers: list[list[str]] = []

    async def poll() -> None:
        found = await client.get("/notes/_changes?feed=longpoll&since=now&timeout=60000")
        answers.append([row["id"] for row in found.json()["results"]])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for _ in range(1000):
                tasks.start_soon(poll)
            while moments < 1000:  # noqa: ASYNC110 - each looks once
                await anyio.sleep(0.05)
            await anyio.sleep(1.0)
            assert moments == 1000  # and then not again
            await client.put("/notes/late", json={})
    assert answers == [["late"]] * 1000


async def test_a_path_says_all_methods_that_it_takes_and_a_database_that_is_not_there_comes_first(
    client: httpx.AsyncClient,
) -> None:
    for method, path, allow in (
        ("GET", "/notes/_find", "POST"),
        ("PUT", "/notes/_all_docs", "GET,HEAD,POST"),
        ("DELETE", "/_all_dbs", "GET,HEAD"),
        ("PUT", "/notes/_design/a/_view/b", "GET,HEAD,POST"),
        ("TRACE", "/notes", "DELETE,GET,HEAD,POST"),
        ("POST", "/notes/a/file", "DELETE,GET,HEAD,PUT"),
    ):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allow), (method, path)
    for method, path in (
        ("GET", "/_zzz"),
        ("POST", "/_zzz/x"),
        ("TRACE", "/never"),
        ("GET", "/UPPER"),
        ("PATCH", "/never"),
    ):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found"), (method, path)


async def test_a_body_comes_compressed_or_is_refused(client: httpx.AsyncClient) -> None:
    body, zipped = b'{"docs":[{"_id":"a","text":"%b"}]}' % (b"x" * 300_000), {"content-encoding": "gzip"}
    answer = await client.post("/notes/_bulk_docs", content=gzip.compress(body), headers=zipped)
    assert answer.status_code == 201
    assert len((await client.get("/notes/a")).json()["text"]) == 300_000
    assert (await client.put("/notes/b", content=gzip.compress(b'{"n":1}'), headers=zipped)).status_code == 201
    for content in (gzip.compress(body)[:-9], gzip.compress(body) + b"more", b"no gzip", b""):
        assert (await client.post("/notes/_find", content=content, headers=zipped)).status_code == 400, content[:9]
    bomb = gzip.compress(b" " * (REQUEST_BYTES_MAX + 1))
    assert (await client.post("/notes/_bulk_docs", content=bomb, headers=zipped)).status_code == 413
    answer = await client.put("/notes/c", content=b"{}", headers={"content-encoding": "br"})
    assert (answer.status_code, answer.json()["error"]) == (415, "bad_content_type")


async def test_a_post_says_that_it_is_json(client: httpx.AsyncClient) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
        for path in ("", "/_bulk_docs", "/_find", "/_all_docs", "/_compact"):
            answer = await client.post(f"/notes{path}", content=b"{}", headers={"content-type": media_type})
            assert (answer.status_code, answer.json()["error"]) == (415, "bad_content_type"), (path, media_type)
    answer = await client.post("/notes", content=b"{}", headers={"content-type": "application/json; charset=utf-8"})
    assert answer.status_code == 201


async def test_writes_say_where_their_document_is(client: httpx.AsyncClient) -> None:
    for method, path, location in (
        ("PUT", "/notes/a%2Fb", "/notes/a%2Fb"),
        ("PUT", "/notes/a+b", "/notes/a%20b"),
        ("PUT", "/notes/_design/d", "/notes/_design%2Fd"),
        ("PUT", "//notes//c/", "/notes/c"),
    ):
        answer = await client.request(method, "https://node" + path, json={})
        assert answer.headers["location"] == "https://node" + location
    answer = await client.put("/notes/files/x/y", content=b"1")
    assert answer.headers["location"] == "https://node/notes/files/x%2Fy"
    assert (await client.get("/notes/files/x/y")).headers["content-security-policy"] == "sandbox"
    override = {"x-http-method-override": "PUT"}
    assert (await client.post("/notes/over", json={"n": 1}, headers=override)).headers[
        "location"
    ] == "https://node/notes/over"


async def test_a_document_is_copied_with_its_attachments(client: httpx.AsyncClient) -> None:
    await client.put("/notes/a/file", content=b"hello", headers={"content-type": "text/plain"})
    rev = (await client.get("/notes/a")).json()["_rev"]
    await client.put("/notes/a", json={"_rev": rev, "n": 1, "_attachments": {"file": {"stub": True}}})

    async def copy(path: str, destination: str | None) -> httpx.Response:
        headers = {"destination": destination} if destination is not None else {}
        return await client.request("COPY", path, headers=headers)

    made = await copy("/notes/a", "x%2Fy")
    assert (made.status_code, made.headers["location"]) == (201, "https://node/notes/x%2Fy")
    assert (await client.get("/notes/x%2Fy/file")).content == b"hello"
    assert (await copy("/notes/a", "x%2Fy")).status_code == 409
    over = await copy(f"/notes/a?rev={rev}", f"x%2Fy?rev={made.json()['rev']}")
    assert (over.status_code, over.json()["rev"][:2]) == (201, "2-")
    assert "n" not in (await client.get("/notes/x%2Fy")).json()
    for path, destination, status in (
        ("/notes/a", None, 400),
        ("/notes/a", "https://node/notes/z", 400),
        ("/notes/a", "_bad", 400),
        ("/notes/never", "z", 404),
        ("/notes/a?rev=1-abc", "z", 404),
        ("/notes/a/file", "z", 405),
    ):
        assert (await copy(path, destination)).status_code == status, (path, destination)
    assert (await copy("/notes/a", "_local/kept")).json() == {"ok": True, "id": "_local/kept", "rev": "0-1"}
    assert (await copy("/notes/_local/kept", "back")).status_code == 201
    assert (await client.get("/notes/back")).json()["n"] == 1


async def test_first_writes_that_delete_or_name_a_parent_and_tombstones_that_stay(client: httpx.AsyncClient) -> None:
    made = await client.put("/notes/a", json={"_deleted": True, "why": "x"})
    assert (made.status_code, made.json()["rev"][:2]) == (200, "1-")
    gone = await client.get("/notes/a", params={"rev": made.json()["rev"]})
    assert (gone.json()["_deleted"], gone.json()["why"]) == (True, "x")
    for body in ({"_deleted": True}, {"_rev": made.json()["rev"], "n": 1}, {"_rev": "1-other", "n": 1}):
        assert (await client.put("/notes/a", json=body)).status_code == 409, body
    assert (await client.put("/notes/a", json={"n": 1})).json()["rev"][:2] == "2-"
    assert (await client.put("/notes/b", json={"_rev": "4-abc", "n": 1})).json()["rev"][:2] == "5-"
    assert (await client.get("/notes/b?revs=true")).json()["_revisions"]["ids"][1:] == ["abc"]
    assert (await client.delete("/notes/never?rev=1-abc")).status_code == 404


async def test_local_documents_in_every_route(client: httpx.AsyncClient) -> None:
    made = await client.put("/notes/_local%2Fa%2Fb", json={"n": 1})
    assert (made.headers["location"], made.headers["etag"]) == ("https://node/notes/_local%2Fa%2Fb", '"0-1"')
    assert (await client.post("/notes", json={"_id": "_local/c", "n": 2})).json()["rev"] == "0-1"
    pushed = await client.post(
        "/notes/_bulk_docs",
        json={"docs": [{"_id": "_local/d", "_rev": "0-4"}, {"_id": "e", "_rev": "1-x"}], "new_edits": False},
    )
    assert (pushed.status_code, pushed.json()) == (201, [])
    listed = (
        await client.post("/notes/_local_docs?include_docs=true", json={"keys": ["_local/c", "_local/z", "e"]})
    ).json()
    assert [(row["key"], row.get("error")) for row in listed["rows"]] == [("_local/c", None), ("_local/z", "not_found")]
    assert listed["rows"][0]["doc"]["n"] == 2
    ids = [row["id"] for row in (await client.get("/notes/_local_docs?descending=true&limit=2")).json()["rows"]]
    assert ids == ["_local/d", "_local/c"]
    assert (await client.get("/notes/_local/a%2Fb?revs=true")).json()["_revisions"] == {"start": 0, "ids": ["1"]}
    for method, path, status in (
        ("GET", "/notes/_local/a/b", 400),
        ("PUT", "/notes/_local/a/file", 400),
        ("GET", "/notes/_local", 400),
        ("GET", "/notes/_local/a%2Fb?rev=0-1", 404),
    ):
        assert (await client.request(method, path)).status_code == status, path


async def test_what_a_client_knows_is_not_sent_again(client: httpx.AsyncClient) -> None:
    rev = (await client.put("/notes/a", json={"n": 1})).json()["rev"]
    for known in (f'"{rev}"', f'W/"{rev}"', f'"1-x", "{rev}"', "*"):
        assert (await client.get("/notes/a", headers={"if-none-match": known})).status_code == 304, known
    assert (await client.get("/notes/a", headers={"if-none-match": '"1-x"'})).status_code == 200
    assert "etag" not in (await client.get("/notes/a?conflicts=true")).headers


async def test_order_and_digits_come_back_as_they_were_written(client: httpx.AsyncClient) -> None:
    body = '{"z":1,"n":-123456789012345678901234567890,"a":{"d":18446744073709551616,"c":[{"y":1,"x":2}]}}'
    json_type = {"content-type": "application/json"}
    rev = (await client.put("/notes/a", content=body, headers=json_type)).json()["rev"]
    whole = f'{{"_id":"a","_rev":"{rev}",{body[1:]}'
    assert (await client.get("/notes/a")).text.strip() == whole
    rows = (await client.get("/notes/_all_docs?include_docs=true")).text
    assert whole in rows
    assert whole in (await client.get("/notes/_changes?include_docs=true")).text
    assert whole in (await client.post("/notes/_bulk_get", json={"docs": [{"id": "a"}]})).text
    assert whole in (await client.post("/notes/_find", json={"selector": {"z": 1}})).text
    local = await client.put("/notes/_local/a", content=body, headers=json_type)
    assert (
        await client.get("/notes/_local/a")
    ).text.strip() == f'{{"_id":"_local/a","_rev":"{local.json()["rev"]}",{body[1:]}'


async def test_one_document_that_can_not_be_kept_does_not_take_the_others_along(client: httpx.AsyncClient) -> None:
    deep = "[" * 150 + "]" * 150
    docs = f'{{"_id":"half","x":"\\ud83d"}},{{"_id":"deep","x":{deep}}},{{"_id":"long","x":{"9" * 4_300}}},{{"_id":"ok","x":1}}'
    for extra in ("", ',"new_edits":false'):
        rev = ',"_rev":"1-a"' if extra else ""
        content = f'{{"docs":[{docs.replace(",", rev + ",", 0)}]{extra}}}'.replace('","x"', f'"{rev},"x"')
        answer = await client.post("/notes/_bulk_docs", content=content.encode())
        refused = {one["id"]: one["error"] for one in answer.json() if "error" in one}
        assert answer.status_code == 201, answer.text
        assert refused.keys() == {"half", "deep", "long"}
        assert (await client.get("/notes/ok")).json()["x"] == 1
        await client.delete("/notes")
        await client.put("/notes")


async def test_a_filter_is_asked_about_each_leaf(client: httpx.AsyncClient) -> None:
    for doc_id in ("b", "a"):
        await push(client, doc_id, ["y", "r"], owner="ada")
        await push(client, doc_id, ["x", "r"], owner="bob")
    await push(client, "c", ["z"], owner="bob", _deleted=True)
    asked = {"selector": {"owner": "bob"}, "fields": ["owner"]}

    async def rows(query: str) -> list[tuple[str, list[str]]]:
        found = (await client.post(f"/notes/_changes?filter=_selector{query}", json=asked)).json()["results"]
        return [(row["id"], [one["rev"] for one in row["changes"]]) for row in found]

    assert await rows("") == [("c", ["1-z"])]
    assert await rows("&style=all_docs") == [("b", ["2-x"]), ("a", ["2-x"]), ("c", ["1-z"])]
    found = (await client.post("/notes/_changes?filter=_selector&include_docs=true", json=asked)).json()["results"]
    assert found[0]["doc"] == {"owner": "bob"}


async def test_what_a_feed_takes_and_refuses(client: httpx.AsyncClient) -> None:
    pushed = [{"_id": doc_id, "_rev": "1-x"} for doc_id in ("c", "a", "b")]
    await client.post("/notes/_bulk_docs", json={"docs": pushed, "new_edits": False})
    every = (await client.get("/notes/_changes")).json()
    assert [row["id"] for row in every["results"]] == ["a", "b", "c"]
    none = (await client.get("/notes/_changes?limit=0")).json()
    assert (none["results"], none["pending"]) == ([], 3)
    rest = (await client.get("/notes/_changes", params={"last-event-id": every["results"][1]["seq"]})).json()
    assert [row["id"] for row in rest["results"]] == ["c"]
    backwards = {"descending": "true", "limit": 1, "since": every["last_seq"]}
    newest = (await client.get("/notes/_changes", params=backwards)).json()
    assert ([row["id"] for row in newest["results"]], newest["pending"]) == (["c"], 2)
    for query, status in (
        ("include_docs=yes", 200),
        ("filter=", 200),
        ("heartbeat=0", 400),
        ("heartbeat=x", 400),
        ("seq_interval=0", 400),
        ("filter=a/b/c", 400),
    ):
        answer = await client.get(f"/notes/_changes?{query}")
        assert answer.status_code == status, query
        assert status == 200 or answer.json()["error"] == "bad_request", query


async def test_an_offset_counts_what_comes_before(client: httpx.AsyncClient) -> None:
    await client.post(
        "/notes/_bulk_docs", json={"docs": [{"_id": one} for one in ("a", "b", "c", "_design/x", "_design/y")]}
    )
    for query, offset, ids in (
        ('startkey="b"', 3, ["b", "c"]),
        ('startkey="b"&descending=true', 1, ["b", "a", "_design/y", "_design/x"]),
        ('key="c"', 4, ["c"]),
        ('startkey="zz"', 5, []),
        ("skip=9", 5, []),
        ("key=5", 0, []),
        ("startkey=5&limit=1", 0, ["_design/x"]),
        ("endkey=5", 0, []),
        ("include_docs=True&limit=1", 0, ["_design/x"]),
    ):
        found = (await client.get(f"/notes/_all_docs?{query}")).json()
        assert (found["total_rows"], found["offset"], [row["id"] for row in found["rows"]]) == (5, offset, ids), query
    designs = (await client.get('/notes/_design_docs?startkey="_design/y"')).json()
    assert (designs["total_rows"], designs["offset"], len(designs["rows"])) == (2, 1, 1)
    for query in ("group=true", "reduce=true", "stale=x", "update=x", "sorted=x", 'key="a"&keys=["a"]'):
        assert (await client.get(f"/notes/_all_docs?{query}")).status_code == 400, query


async def test_leaves_and_attachments_are_listed_in_the_order_of_the_tree(client: httpx.AsyncClient) -> None:
    await push(client, "a", ["z", "b", "r"], n=1)
    await push(client, "a", ["a", "r"], n=2)
    await push(client, "a", ["c", "r"], n=3)
    found = (await client.get("/notes/a?open_revs=all")).json()
    assert [one["ok"]["_rev"] for one in found] == ["2-a", "3-z", "2-c"]
    latest = (await client.get('/notes/a?open_revs=["1-r"]&latest=true')).json()
    assert [one["ok"]["_rev"] for one in latest] == ["2-a", "3-z", "2-c"]
    got = (await client.post("/notes/_bulk_get", json={"docs": [{"id": "a"}]})).json()["results"][0]["docs"]
    assert [one["ok"]["_rev"] for one in got] == ["2-a", "3-z", "2-c"]
    assert (await client.get("/notes/a?open_revs=[]")).json()["_rev"] == "3-z"
    stemmed = {"_id": "a", "_revisions": {"start": 3, "ids": ["y", "b"]}, "_deleted": True}  # without its beginning
    await client.post("/notes/_bulk_docs", json={"docs": [stemmed], "new_edits": False})
    found = (await client.get("/notes/a?open_revs=all")).json()
    assert [one["ok"]["_rev"] for one in found] == ["2-a", "3-y", "3-z", "2-c"]
    lacking = (await client.post("/notes/_revs_diff", json={"a": ["9-x", "4-y"]})).json()["a"]
    assert lacking == {"missing": ["4-y", "9-x"], "possible_ancestors": ["3-z", "3-y", "2-c", "2-a"]}


async def test_design_documents_that_are_none_are_refused(client: httpx.AsyncClient) -> None:
    plain = {"map": "function (doc) {}"}
    refused: list[dict[str, Any]] = [
        {"language": 5},
        {"views": None},
        {"views": {"v": 5}},
        {"views": {"v": {}}},
        {"views": {"v": {"map": {"fields": {}}}}},
        {"views": {"v": {**plain, "reduce": 5}}},
        {"views": {"v": {**plain, "reduce": "_nope"}}},
        {"filters": {"f": 5}},
        {"updates": []},
        {"rewrites": 5},
        {"validate_doc_update": {}},
        {"options": {"partitioned": True}},
    ]
    for body in refused:
        answer = await client.put("/notes/_design/d", json=body)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_design_doc"), body
    for body in (
        {},
        {"views": {}},
        {"views": {"lib": {"x": "1"}}},
        {"language": "cobol", "views": {"v": {"map": "x"}}},
    ):
        rev = (await client.get("/notes/_design/d")).json().get("_rev")
        answer = await client.put("/notes/_design/d", json={**body, **({"_rev": rev} if rev else {})})
        assert answer.status_code == 201, body
    assert (await client.get("/_membership")).json() == {"all_nodes": [], "cluster_nodes": []}
    assert (await client.get("/notes")).json()["sizes"].keys() == {"file", "external", "active"}
