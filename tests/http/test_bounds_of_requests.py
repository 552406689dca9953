"""The bound on a request is a setting; the bounds on a document refuse that document, and not those that come with it."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest

import crdtdb
from crdtdb.canonical_json import parse_documents
from crdtdb.cli.demo.cluster import DemoCluster
from crdtdb.config import NodeConfig, check
from crdtdb.errors import ConfigurationError, InvalidDocumentError, InvalidInputError
from crdtdb.http.app import make_app
from crdtdb.limits import DOCUMENT_BYTES_MAX
from tests.http.test_api import Cluster, anyio_backend, certified, client

__all__ = ["anyio_backend", "client"]
JSON = {"content-type": "application/json"}


@pytest.mark.anyio
async def test_a_request_as_pouchdb_sends_it_by_default(client: httpx.AsyncClient) -> None:
    photo = b64encode(bytes(range(256)) * 2_735).decode()  # 700 kB
    docs = [
        {"_id": f"d{n}", "_rev": "1-a", "_attachments": {"photo": {"content_type": "image/jpeg", "data": photo}}}
        for n in range(100)
    ]
    answer = await client.post("/notes/_bulk_docs", json={"docs": docs, "new_edits": False})
    assert (answer.status_code, answer.json()) == (201, [])
    assert (await client.get("/notes")).json()["doc_count"] == 100


@pytest.mark.anyio
@pytest.mark.parametrize("new_edits", [True, False])
async def test_a_document_beyond_a_bound_is_refused_alone(client: httpx.AsyncClient, new_edits: bool) -> None:
    values = {
        "good": "1",
        "half": '"\\ud83d"',
        "deep": "[" * 150 + "]" * 150,
        "deeper": '{"a":' * 5_000 + "1" + "}" * 5_000,
        "brackets": json.dumps("]}[{" * 100 + '\\"'),
        "large": json.dumps("x" * (DOCUMENT_BYTES_MAX + 1)),
        "last": "2",
    }
    rev = "" if new_edits else '"_rev":"1-a",'
    docs = ",".join(f'{{"_id":"{name}",{rev}"v":{value}}}' for name, value in values.items())
    content = f'{{"new_edits":{str(new_edits).lower()},"docs":[{docs}]}}'
    answer = await client.post("/notes/_bulk_docs", content=content, headers=JSON)
    assert answer.status_code == 201, answer.text[:300]
    errors = {row["id"]: row for row in answer.json() if "error" in row}
    assert {name: row["error"] for name, row in errors.items()} == {
        "half": "bad_request",
        "deep": "too_large",
        "deeper": "too_large",
        "large": "too_large",
    }
    assert all(row["reason"] and (new_edits or row["rev"] == "1-a") for row in errors.values())
    rows = (await client.get("/notes/_all_docs")).json()["rows"]
    assert [row["id"] for row in rows] == ["brackets", "good", "last"]


@pytest.mark.anyio
async def test_an_attachment_beyond_its_bound_is_refused_with_its_document() -> None:
    with crdtdb.open("memory:") as db:
        db.create("notes")
        app = certified(make_app(db, Cluster(), attachment_bytes_max=10, request_bytes_max=DOCUMENT_BYTES_MAX))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="https://node") as client:
            docs: list[dict[str, Any]] = [
                {"_id": f"d{size}", "_attachments": {"f": {"data": b64encode(b"x" * size).decode()}}}
                for size in (10, 11)
            ]
            made, refused = (await client.post("/notes/_bulk_docs", json={"docs": docs})).json()
            assert (made["id"], refused["id"], refused["error"]) == ("d10", "d11", "too_large")
            assert (await client.put("/notes/x", json=docs[1] | {"_id": "x"})).status_code == 413
            large = b'{"docs":[{"v":"' + b"x" * DOCUMENT_BYTES_MAX + b'"}]}'
            answer = await client.post("/notes/_bulk_docs", content=large, headers=JSON)
            assert (answer.status_code, "request_bytes_max" in answer.json()["reason"]) == (413, True)


def test_what_isnt_json_isnt_mended_by_a_cut() -> None:
    deep = b"[" * 5_000
    for wrong in (deep, deep + b"1" + b"]" * 4_000, b'["' + deep, b"]" * 300 + deep, b"{" + b'"a":{' * 300):
        with pytest.raises(InvalidDocumentError):
            parse_documents(wrong)
    assert parse_documents(b'{"a":[1,"]"]}') == {"a": [1, "]"]}


def test_the_setting(tmp_path: Path) -> None:
    for wrong in (0, DOCUMENT_BYTES_MAX - 1, 5 * 1024**3):
        with pytest.raises(ConfigurationError, match="request_bytes_max"):
            check(NodeConfig(name="n", data="d", request_bytes_max=wrong))
    with DemoCluster(tmp_path, ("n1",), flags=("--request-bytes-max", str(DOCUMENT_BYTES_MAX))) as cluster:
        cluster.start_all()
        cluster.ask("n1", "PUT", "notes")
        with pytest.raises(InvalidInputError, match="request_bytes_max"):
            cluster.ask("n1", "POST", "notes", "_bulk_docs", body={"docs": [{"v": "x" * DOCUMENT_BYTES_MAX}]})
