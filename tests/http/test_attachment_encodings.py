"""Attachments that are kept compressed: as CouchDB keeps and sends them, a round trip changes nothing."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from hashlib import md5
from typing import Any

import httpx
import pytest

import crdtdb
from tests.http.test_api import anyio_backend, client, db_of

__all__ = ["anyio_backend", "client"]
pytestmark = pytest.mark.anyio

TEXT = b"the same words again and again. " * 20
ZIPPED = gzip.compress(TEXT, 1, mtime=7)
"""Compressed in another way than a node does."""
EMPTY = gzip.compress(b"", mtime=7)


def digest(data: bytes) -> str:
    return "md5-" + b64encode(md5(data, usedforsecurity=False).digest()).decode()


def in_parts(document: dict[str, Any], parts: list[bytes], boundary: str = "xx") -> dict[str, Any]:
    """Return the arguments of a request that sends a document and its attachments behind it."""
    text = f"--{boundary}\r\nContent-Type: application/json\r\n\r\n".encode() + json.dumps(document).encode()
    for part in parts:
        text += f"\r\n--{boundary}\r\n\r\n".encode() + part
    headers = {"content-type": f'multipart/related; boundary="{boundary}"'}
    return {"content": text + f"\r\n--{boundary}--".encode(), "headers": headers}


def following(zipped: bytes, length: int, kind: str = "text/plain") -> dict[str, Any]:
    return {
        "content_type": kind,
        "follows": True,
        "encoding": "gzip",
        "length": length,
        "encoded_length": len(zipped),
        "digest": digest(zipped),
        "revpos": 1,
    }


def parts_of(answer: httpx.Response) -> list[bytes]:
    """Return the parts of an answer, each with its headers."""
    boundary = answer.headers["content-type"].partition('boundary="')[2].rstrip('"').encode()
    return [part.removeprefix(b"\r\n").removesuffix(b"\r\n") for part in answer.content.split(b"--" + boundary)[1:-1]]


@pytest.mark.parametrize("kind", ["text/plain", "image/png"])
@pytest.mark.parametrize("data", [ZIPPED, EMPTY, gzip.compress(b"tiny", mtime=7), ZIPPED[:0] + ZIPPED + EMPTY])
async def test_a_compressed_attachment_goes_through_a_node_unchanged(
    client: httpx.AsyncClient, data: bytes, kind: str
) -> None:
    plain = gzip.decompress(data)
    document = {"_id": "a", "_rev": "1-a", "_attachments": {"f": following(data, len(plain), kind)}}
    made = await client.put("/notes/a?new_edits=false", **in_parts(document, [data]))
    assert made.status_code == 201, made.text
    stub = {"content_type": kind, "digest": digest(data), "length": len(plain), "revpos": 1, "stub": True}
    assert (await client.get("/notes/a")).json()["_attachments"] == {"f": stub}
    told = (await client.get("/notes/a?att_encoding_info=true")).json()["_attachments"]["f"]
    assert told == {**stub, "encoding": "gzip", "encoded_length": len(data)}
    inline = (await client.get("/notes/a?attachments=true")).json()["_attachments"]["f"]
    assert (inline["data"], inline["digest"]) == (b64encode(plain).decode(), digest(data))
    sent = await client.get("/notes/a?attachments=true&revs=true", headers={"accept": "multipart/related"})
    head, body = parts_of(sent)
    again = json.loads(head.partition(b"\r\n\r\n")[2])
    assert again["_attachments"]["f"] == following(data, len(plain), kind)
    fields, _, content = body.partition(b"\r\n\r\n")
    assert content == data
    assert b"content-encoding: gzip" in fields.lower()
    await client.put("/copy")
    copied = await client.put("/copy/a?new_edits=false", content=sent.content, headers=sent.headers)
    assert copied.status_code == 201
    back = await client.get("/copy/a?attachments=true", headers={"accept": "multipart/related"})
    assert parts_of(back)[1] == body
    collection = db_of(client).collection("notes")
    assert collection.attachment("a", "f") == plain
    with crdtdb.open("memory:") as other:
        crdtdb.sync(db_of(client), other)
        assert other.collection("notes").attachment("a", "f") == plain
        assert dict(other.collection("notes").get("a")) == dict(collection.get("a"))


async def test_a_raw_attachment_comes_and_goes_compressed_or_not(client: httpx.AsyncClient) -> None:
    zipped = {"content-type": "application/x-log", "content-encoding": "gzip"}
    made = await client.put("/notes/a/f", content=ZIPPED, headers=zipped)
    assert made.status_code == 201
    for takes, content in [
        ("gzip", ZIPPED),
        ("br, gzip;q=0.5", ZIPPED),
        ("*", ZIPPED),
        ("identity", TEXT),
        ("gzip;q=0", TEXT),
        ("gzip;q=0.000, *", TEXT),
    ]:
        answer = await client.send(
            client.build_request("GET", "/notes/a/f", headers={"accept-encoding": takes}), stream=True
        )
        raw = b"".join([piece async for piece in answer.aiter_raw()])
        assert (raw, answer.headers.get("content-encoding") == "gzip") == (content, content == ZIPPED), takes
        assert answer.headers["etag"] == f'"{digest(ZIPPED)[4:]}"'
        assert answer.headers["accept-ranges"] == "none"
        assert answer.headers["content-type"] == "application/x-log"
    part = await client.get("/notes/a/f", headers={"range": "bytes=0-3", "accept-encoding": "identity"})
    assert (part.status_code, part.content) == (200, TEXT)


async def test_text_is_kept_compressed_and_pictures_are_not(client: httpx.AsyncClient) -> None:
    for kind, kept in [
        ("text/plain", True),
        ("TEXT/CSS; charset=utf-8", True),
        ("application/json", True),
        ("application/xml", True),
        ("application/javascript", True),
        ("image/svg+xml", False),
        ("application/octet-stream", False),
    ]:
        inline = {"_attachments": {"f": {"content_type": kind, "data": b64encode(TEXT).decode()}}}
        await client.put("/notes/inline", json=inline)
        await client.put("/notes/raw/f", content=TEXT, headers={"content-type": kind})
        following = {"_attachments": {"f": {"content_type": kind, "follows": True, "length": len(TEXT)}}}
        await client.put("/notes/parts", **in_parts(following, [TEXT]))
        await client.post("/notes/_bulk_docs", json={"docs": [{"_id": "bulk", **inline}]})
        entries = []
        for doc_id in ("inline", "raw", "parts", "bulk"):
            found = (await client.get(f"/notes/{doc_id}?att_encoding_info=true")).json()
            entries.append(found["_attachments"]["f"])
            assert (await client.get(f"/notes/{doc_id}/f")).content == TEXT
            await client.delete(f"/notes/{doc_id}", params={"rev": found["_rev"]})
        assert all(entry["length"] == len(TEXT) and ("encoding" in entry) == kept for entry in entries), (kind, entries)
        assert len({entry["digest"] for entry in entries}) == 1  # however it came


async def test_what_is_no_gzip_is_refused_and_leaves_nothing(client: httpx.AsyncClient) -> None:
    for wrong in (b"", b"plain", ZIPPED[:-4], ZIPPED + b"more"):
        document = {"_id": "a", "_rev": "1-a", "_attachments": {"f": following(wrong, 640)}}
        answer = await client.put("/notes/a?new_edits=false", **in_parts(document, [wrong]))
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request"), wrong
        answer = await client.put("/notes/a/f", content=wrong, headers={"content-encoding": "gzip"})
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request"), wrong
    for encoding in ("br", "deflate"):
        answer = await client.put("/notes/a/f", content=ZIPPED, headers={"content-encoding": encoding})
        assert (answer.status_code, answer.json()["error"]) == (415, "bad_content_type")
    other = {"_attachments": {"f": {**following(ZIPPED, len(TEXT)), "digest": digest(TEXT)}}}
    assert (await client.put("/notes/a", **in_parts(other, [ZIPPED]))).status_code == 400
    assert (await client.get("/notes/a")).status_code == 404


async def test_a_revision_that_brings_bytes_sets_their_revpos(client: httpx.AsyncClient) -> None:
    async def put(**attachments: Any) -> tuple[int, dict[str, Any]]:
        named = {key: value for key, value in (await client.get("/notes/a")).json().items() if key == "_rev"}
        answer = await client.put("/notes/a", json={**named, "_attachments": attachments})
        kept = (await client.get("/notes/a")).json()["_attachments"]
        return answer.status_code, {name: entry["revpos"] for name, entry in kept.items()}

    png = {"content_type": "image/png", "data": "b25l"}
    assert await put(a={**png, "revpos": 5}, b=png) == (201, {"a": 1, "b": 1})
    assert await put(a={**png, "data": "dHdv", "revpos": 1}, b={"stub": True, "revpos": 1}) == (201, {"a": 2, "b": 1})
    assert (await put(a={"stub": True, "revpos": 2}, b={"stub": True, "revpos": 2}))[0] == 412
    # Made elsewhere, it is as it was made, and nothing is lost where that is 0.
    revision = {"_id": "n", "_rev": "3-c", "_revisions": {"start": 3, "ids": ["c", "b", "a"]}}
    await client.post(
        "/notes/_bulk_docs",
        json={"docs": [{**revision, "_attachments": {"a": {**png, "revpos": 2}, "b": png}}], "new_edits": False},
    )
    found = (await client.get("/notes/n?attachments=true&atts_since=[]")).json()["_attachments"]
    assert {name: (entry["revpos"], entry["data"]) for name, entry in found.items()} == {
        "a": (2, "b25l"),
        "b": (0, "b25l"),
    }


async def test_replicators_get_bytes_or_stubs_as_couchdb_gives_them(client: httpx.AsyncClient) -> None:
    old = {"old": {"content_type": "image/png", "data": "b25l"}}
    first = (await client.put("/notes/a", json={"_attachments": old})).json()["rev"]
    added = {"old": {"stub": True}, "new": {"content_type": "text/plain", "data": b64encode(TEXT).decode()}}
    rev = (await client.put("/notes/a", json={"_rev": first, "_attachments": added})).json()["rev"]

    async def bulk_get(query: str, **asked: Any) -> dict[str, bool]:
        answer = await client.post(f"/notes/_bulk_get?{query}", json={"docs": [{"id": "a", "rev": rev, **asked}]})
        entries = answer.json()["results"][0]["docs"][0]["ok"]["_attachments"]
        return {name: "data" in entry for name, entry in entries.items()}

    stubs, both, new = ({"old": old, "new": new} for old, new in ((False, False), (True, True), (False, True)))
    assert await bulk_get("attachments=false", atts_since=[]) == stubs
    assert await bulk_get("attachments=false", atts_since=[first]) == new
    assert await bulk_get("attachments=true", atts_since=[]) == both
    assert await bulk_get("", atts_since=[first]) == new
    assert await bulk_get("") == stubs
    for since, names in ((f"&atts_since={json.dumps([first])}", {"new"}), ("", {"old", "new"})):
        query = f"open_revs={json.dumps([rev])}&revs=true&latest=true{since}"
        answer = await client.get(f"/notes/a?{query}", headers={"accept": "multipart/mixed"})
        (part,) = parts_of(answer)
        assert b'content-type: multipart/related; boundary="' in part.lower()
        assert {name for name in ("old", "new") if f'filename="{name}"'.encode() in part} == names
    for kind in ("multipart/mixed", "multipart/related"):
        asked = {"docs": [{"id": "a", "rev": rev}, {"id": "never", "rev": "1-a"}]}
        answer = await client.post("/notes/_bulk_get", json=asked, headers={"accept": kind})
        there, gone = parts_of(answer)
        assert answer.headers["content-type"].startswith(kind)
        assert b'filename="new"' in there
        assert gone.lower().startswith(b'content-type: application/json; error="true"')
        error = json.loads(gone.partition(b"\r\n\r\n")[2])
        assert (error["id"], error["rev"], error["error"]) == ("never", "1-a", "not_found")


async def test_base64_may_be_broken_into_lines_and_revpos_be_anything(client: httpx.AsyncClient) -> None:
    lines = b64encode(bytes(range(100))).decode()
    broken = "\r\n".join(lines[n : n + 20] for n in range(0, len(lines), 20)) + "\n"
    for number, revpos in enumerate(("x", -1, 1 << 60, None, 1.5)):
        attached = {"f": {"data": broken, "revpos": revpos}}
        assert (await client.put(f"/notes/a{number}", json={"_attachments": attached})).status_code == 201
        assert (await client.get(f"/notes/a{number}/f")).content == bytes(range(100))
        found = (await client.get(f"/notes/a{number}")).json()
        assert found["_attachments"]["f"]["revpos"] == 1
    stub = {"f": {"stub": True, "revpos": "x"}}
    assert (await client.put("/notes/a0", json={**found, "_id": "a0", "_attachments": stub})).status_code == 412
    for wrong in ("YWJ", "YWJj==", "YW*j", "YWJjé"):
        answer = await client.put("/notes/b", json={"_attachments": {"f": {"data": wrong}}})
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request"), wrong


async def test_ids_beyond_the_first_plane_are_utf_8_in_the_feed(client: httpx.AsyncClient) -> None:
    """CouchDB's replicator ends over two escapes."""
    name = "\N{GRINNING FACE}"
    await client.put(f"/notes/{name}", json={"n": 2**70, "name": name})
    for query in ("", "?include_docs=true", "?feed=continuous&timeout=1", "?feed=eventsource&timeout=1"):
        answer = await client.get(f"/notes/_changes{query}")
        assert name.encode() in answer.content
        assert b"\\ud83d" not in answer.content
