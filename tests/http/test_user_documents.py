"""Users in CouchDB's form: documents `org.couchdb.user:NAME` of `_users`, and `/_session` as CouchDB's clients use it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import ASGIApp

import crdtdb
from crdtdb.http.app import make_app
from crdtdb.security.users import Users
from tests.http.test_access import client_of
from tests.http.test_api import Cluster, anyio_backend

__all__ = ["anyio_backend"]
pytestmark = pytest.mark.anyio

ADA = "/_users/org.couchdb.user:ada"
DOC: dict[str, Any] = {"name": "ada", "type": "user", "roles": ["editors"], "password": "p", "email": "ada@example.org"}


@pytest.fixture
def app() -> Any:
    with crdtdb.open("memory:") as db:
        made = make_app(db, Cluster(), logins=True)
        yield made
        made.state.bell.stop()


async def test_a_document_of_a_user_lives_as_in_couchdb(app: ASGIApp) -> None:
    async with client_of(app, ("admin", "root")) as client:
        assert (await client.get(ADA)).status_code == 404
        made = await client.put(ADA, json=DOC)
        rev = made.json()["rev"]
        assert (made.status_code, made.json()["id"], rev[:2]) == (201, "org.couchdb.user:ada", "1-")
        assert made.headers["location"] == f"https://node{ADA}"
        shown = (await client.get(ADA)).json()
        assert shown.items() >= {"_rev": rev, "name": "ada", "roles": ["editors"], "email": "ada@example.org"}.items()
        assert "password" not in shown
        users: Users = app.state.users  # type: ignore[attr-defined]
        secrets = users.revisions()["ada"][1]
        assert not {secrets["hash"], secrets["salt"]} & set(map(str, shown.values())), "no hash is shown"
        assert (await client.put(ADA, json=DOC)).status_code == 409
        changed = await client.put(ADA, json={**shown, "roles": []})
        assert changed.json()["rev"][:2] == "2-"
        assert users.verify("ada", "p") is not None, "what comes back as it was shown keeps the password"
        rows = (await client.get("/_users/_all_docs?include_docs=true")).json()["rows"]
        assert [row["doc"]["roles"] for row in rows] == [[]]
        assert (await client.delete(ADA)).status_code == 409
        gone = await client.delete(ADA, params={"rev": changed.json()["rev"]})
        assert (gone.status_code, gone.json()["rev"][:2]) == (200, "3-")
        assert (await client.get(ADA)).status_code == 404
        assert (await client.post("/_users", json={**DOC, "_id": "org.couchdb.user:ada"})).status_code == 201
        assert (await client.put("/_users")).status_code == 412


async def test_a_document_without_a_password_has_none(app: ASGIApp) -> None:
    users: Users = app.state.users  # type: ignore[attr-defined]
    async with client_of(app, ("admin", "root")) as client:
        rev = (await client.put(ADA, json=DOC)).json()["rev"]
        assert (
            await client.put(ADA, json={"name": "ada", "type": "user", "roles": [], "_rev": rev})
        ).status_code == 201
        assert "derived_key" not in (await client.get(ADA)).json()
    assert users.verify("ada", "p") is None


@pytest.mark.parametrize(
    "change",
    [
        {"name": "eve"},
        {"name": ""},
        {"name": 5},
        {"type": "zz"},
        {"roles": "x"},
        {"roles": [5]},
        {"roles": ["_admin"]},
        {"roles": None},
        {"password": 5},
        {"password": ""},
        {"password": None, "derived_key": "00", "salt": "00"},
    ],
)
async def test_what_is_no_user_is_forbidden(app: ASGIApp, change: dict[str, Any]) -> None:
    async with client_of(app, ("admin", "root")) as client:
        refused = await client.put(ADA, json={**DOC, **change})
        assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
        assert (await client.put("/_users/ada", json=DOC)).status_code == 403


async def test_users_read_their_own_document_and_write_none(app: ASGIApp) -> None:
    users: Users = app.state.users  # type: ignore[attr-defined]
    for name in ("ada", "eve"):
        users.write(name, [], f"the password of {name}")
    async with client_of(app, user="ada") as client:
        own = await client.get(ADA)
        assert (own.status_code, own.json()["name"]) == (200, "ada")
        assert (await client.get("/_users/org.couchdb.user:eve")).status_code == 403
        assert (await client.get("/_users/org.couchdb.user:none")).status_code == 403
        assert (await client.put(ADA, json={**own.json(), "roles": ["editors"]})).status_code == 403
        assert (await client.get("/_users/_all_docs")).status_code == 403
    async with client_of(app, ("client", "ada")) as client:
        assert (await client.get(ADA)).status_code == 403, "a certificate of that name is another principal"
    async with client_of(app) as client:
        assert (await client.get(ADA)).status_code == 401
        assert (await client.put(ADA, json=DOC)).status_code == 401


async def test_sessions_as_couchdb_has_them(app: ASGIApp) -> None:
    users: Users = app.state.users  # type: ignore[attr-defined]
    users.write("ada", [], "right")
    login = {"name": "ada", "password": "right"}
    async with client_of(app) as client:
        assert (await client.get("/_session?basic=true")).status_code == 401
        wrong = await client.post("/_session", json={**login, "password": "wrong"})
        assert (wrong.status_code, "AuthSession=;" in wrong.headers["set-cookie"]) == (401, True)
        other = await client.post("/_session", content=b"{}", headers={"content-type": "text/plain"})
        assert (other.status_code, other.json()["error"]) == (415, "bad_content_type")
        for onward, location in (
            ("/x?a=1", "https://node/x?a=1"),
            ("//evil.example/x", "https://node/evil.example/x"),
            ("https://evil.example", "https://node/https:/evil.example"),
            ("\\evil\r\nx: y", "https://node/%5Cevil%0D%0Ax%3A%20y".replace("%3A", ":")),
        ):
            sent = await client.post("/_session", params={"next": onward}, json=login)
            assert (sent.status_code, sent.headers["location"]) == (302, location)
