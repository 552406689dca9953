"""/_cluster/…: who may do what, what is answered, and that bad input changes nothing."""

from __future__ import annotations

import io

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp, Receive, Scope, Send

import crdtdb
from crdtdb.cluster_port import PEER
from crdtdb.http.app import make_app
from crdtdb.security.peer import PeerIdentity
from crdtdb.store import Transaction
from crdtdb.store.backup import check_backup
from tests.http.test_api import Cluster, anyio_backend
from tests.json_posts import ASYNC_HOOKS

__all__ = ["anyio_backend"]
pytestmark = pytest.mark.anyio


def as_role(app: ASGIApp, role: str) -> httpx.AsyncClient:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        scope[PEER] = PeerIdentity("c1", role, "root", "2b")
        await app(scope, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=call), base_url="https://node", event_hooks=ASYNC_HOOKS)


async def test_who_may_do_what() -> None:
    with crdtdb.open("memory:") as db:
        db["notes"].put("a", {"n": 1})
        cluster = Cluster()
        app = make_app(db, cluster)
        async with as_role(app, "client") as client, as_role(app, "admin") as admin:
            for method, path, body in (
                ("POST", "/_cluster/retire", {"name": "n3"}),
                ("POST", "/_cluster/audit", {}),
                ("POST", "/_cluster/audit", {"repair": True}),
                ("POST", "/_cluster/revoke", {"serial": "1a"}),
                ("GET", "/_cluster/backup", None),
            ):
                refused = await client.request(method, path, json=body)
                assert (refused.status_code, refused.json()["error"]) == (403, "forbidden"), path
                assert "crdtdb cert admin" in refused.json()["reason"]
            assert not hasattr(cluster, "retired")
            assert (await client.get("/_cluster/stability")).json() == {"stable": 0}
            assert (await admin.post("/_cluster/retire", json={"name": "n3", "force": True})).json()["retired"] == "n3"
            assert cluster.retired == ("n3", True)
            missing = await admin.post("/_cluster/retire", json={"name": "n9"})
            assert (missing.status_code, missing.json()["reason"]) == (404, "there is no member 'n9'")
            found = (await admin.post("/_cluster/audit", json={"members": ["n2"]})).json()
            assert found == {"findings": [{"peer": "n2", "clean": True}], "clean": True}
            backup = await admin.get("/_cluster/backup")
            assert check_backup(io.BytesIO(backup.content)).rows > 3


@pytest.mark.parametrize("body", [{}, {"name": 1}, {"name": "n3", "force": "yes"}, {"name": None}])
async def test_a_retirement_that_makes_no_sense(body: dict[str, object]) -> None:
    with crdtdb.open("memory:") as db:
        cluster = Cluster()
        async with as_role(make_app(db, cluster), "admin") as admin:
            answer = await admin.post("/_cluster/retire", json=body)
            assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
            assert not hasattr(cluster, "retired")


async def test_an_audit_that_makes_no_sense() -> None:
    with crdtdb.open("memory:") as db:
        async with as_role(make_app(db, Cluster()), "admin") as admin:
            for body in ({"repair": 1}, {"members": "n2"}, {"members": [1]}):
                assert (await admin.post("/_cluster/audit", json=body)).status_code == 400


async def test_metrics_are_text_that_can_be_scraped() -> None:
    with crdtdb.open("memory:") as db:
        async with as_role(make_app(db, Cluster()), "client") as client:
            answer = await client.get("/_metrics")
            assert answer.headers["content-type"].startswith("text/plain")
            (family,) = text_string_to_metric_families(answer.text)
            assert {sample.labels["collection"]: sample.value for sample in family.samples} == {'a"1': 1.0, 'a"2': 2.0}


async def test_the_databases_of_the_database_can_only_be_read() -> None:
    with crdtdb.open("memory:") as db:

        def seed(transaction: Transaction) -> None:
            with transaction.ledger.seeding():
                transaction.ledger.create("system.nodes")

        db.store.submit(seed)
        async with as_role(make_app(db, Cluster()), "admin") as admin:
            assert (await admin.get("/system.nodes")).status_code == 200
            assert (await admin.get("/system.nodes/_changes")).json()["results"] == []
            assert (await admin.get("/_all_dbs")).json() == []
            for method, path, body in (
                ("PUT", "/system.nodes/x", {"a": 1}),
                ("POST", "/system.nodes", {"a": 1}),
                ("DELETE", "/system.nodes", None),
                ("PUT", "/system.other", None),
                ("PUT", "/system.nodes/_schema", {"a": "counter"}),
            ):
                answer = await admin.request(method, path, json=body)
                assert (answer.status_code, answer.json()["error"]) == (403, "forbidden"), (method, path, answer.text)
            written = await admin.post("/system.nodes/_bulk_docs", json={"docs": [{"_id": "x"}]})
            assert written.json()[0]["error"] == "forbidden"
            checkpoint = await admin.put("/system.nodes/_local/c", json={"last_seq": 1})
            assert checkpoint.status_code == 201, "who replicates from it keeps a checkpoint there"
        with pytest.raises(crdtdb.SystemCollectionError, match="read"):
            db.collection("system.nodes").put("x", {"a": 1})
        with pytest.raises(crdtdb.SystemCollectionError):
            db.drop("system.nodes")


async def test_a_revoked_certificate_is_refused_at_the_next_request() -> None:
    with crdtdb.open("memory:") as db:
        cluster = Cluster()
        async with as_role(make_app(db, cluster), "admin") as admin:
            assert (await admin.get("/_all_dbs")).status_code == 200
            revoked = (await admin.post("/_cluster/revoke", json={"serial": "2B", "name": "root"})).json()
            assert revoked == {"ok": True, "serial": "2b", "new": True}
            refused = await admin.get("/_all_dbs")
            assert (refused.status_code, refused.json()["reason"]) == (401, "the certificate was revoked")


@pytest.mark.parametrize("body", [{}, {"serial": 7}, {"serial": "1a", "why": 1}, {"serial": None}])
async def test_a_revocation_that_makes_no_sense(body: dict[str, object]) -> None:
    with crdtdb.open("memory:") as db:
        cluster = Cluster()
        async with as_role(make_app(db, cluster), "admin") as admin:
            assert (await admin.post("/_cluster/revoke", json=body)).status_code == 400
            assert cluster.revoked == ()
