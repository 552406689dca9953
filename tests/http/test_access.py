"""Every way in, tried: who may do what is asked for every route, and stands in the documentation as it was answered."""

from __future__ import annotations

import logging
import os
from base64 import b64encode
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import crdtdb
from crdtdb.cluster_port import PEER
from crdtdb.database.system_collection import SystemCollection
from crdtdb.errors import InvalidInputError
from crdtdb.http.app import all_routes, make_app
from crdtdb.http.permissions import NEEDS, reader
from crdtdb.http.resources.notify import Subscription
from crdtdb.security import Level, Permissions, Principal, check_security, level_of
from crdtdb.security.addresses import block_of
from crdtdb.security.peer import PeerIdentity
from crdtdb.security.users import SESSION_SECONDS, Attempts, Users
from tests.http.test_api import Cluster, anyio_backend
from tests.inside import failed_of
from tests.json_posts import ASYNC_HOOKS

__all__ = ["anyio_backend"]
pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "access.md"
SECURITY = {
    "admins": {"names": ["boss"], "roles": []},
    "members": {"names": ["ada"], "roles": ["editors"]},
    "readers": {"names": ["guest"], "roles": []},
}
WHO: dict[str, dict[str, Any]] = {
    "nobody": {},
    "a user who isn't named": {"user": "other"},
    "a reader": {"user": "guest"},
    "a member": {"user": "mia"},
    "an admin of the collection": {"user": "boss"},
    "a certificate that isn't named": {"certificate": ("client", "eve")},
    "a certificate that is a member": {"certificate": ("client", "ada")},
    "a certificate, where nobody is named": {"certificate": ("client", "ada"), "db": "open"},
    "an administrator's certificate": {"certificate": ("admin", "root")},
}
BODIES: dict[str, Any] = {
    "POST /_dbs_info": {"keys": []},
    "POST /{db}/_bulk_docs": {"docs": []},
    "POST /{db}/_find": {"selector": {}},
    "PUT /_users/{name}": {"password": "a long password"},
    "POST /_cluster/retire": {"name": "n3"},
    "POST /_cluster/revoke": {"serial": "4f"},
}


@pytest.fixture(scope="module")
def filled() -> Any:
    with crdtdb.open("memory:") as db:
        users = Users(db.store)
        for name, roles in (("other", []), ("guest", []), ("mia", ["editors"]), ("boss", [])):
            users.add(name, f"the password of {name}", roles)
        Permissions(db.store).say("notes", SECURITY)
        db["notes"].put("a", {})
        db["open"].put("a", {})
        yield db


def presenting(app: ASGIApp, certified: PeerIdentity | None) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        scope[PEER] = certified
        await app(scope, receive, send)

    return call


def client_of(app: ASGIApp, certificate: tuple[str, str] | None = None, user: str | None = None) -> httpx.AsyncClient:
    certified = PeerIdentity("c1", *certificate, serial="1a") if certificate is not None else None
    transport = httpx.ASGITransport(app=presenting(app, certified), raise_app_exceptions=False)
    auth = (user, f"the password of {user}") if user is not None else None
    return httpx.AsyncClient(transport=transport, base_url="https://node", auth=auth, event_hooks=ASYNC_HOOKS)


async def test_who_may_do_what_is_what_the_documentation_says(filled: crdtdb.Database) -> None:
    rows: dict[str, dict[str, bool]] = {}
    for who, how in WHO.items():
        app = make_app(filled, Cluster(), logins=True)
        app.state.bell.stop()
        async with client_of(app, how.get("certificate"), how.get("user")) as client:
            for route in (one for one in all_routes() if isinstance(one, Route)):
                for method in sorted((route.methods or set()) - {"HEAD"}):
                    key = f"{method} {route.path.replace(':path', '')}"
                    path = route.path.replace("{db}", how.get("db", "notes")).replace(":path", "").replace("{id}", "a")
                    path = path.replace("{", "").replace("}", "")
                    if key in ("DELETE /{db}", "PUT /{db}/_security"):  # and not what the others are asked about
                        path = path.replace("notes", "notes2").replace("open", "open2")
                    answer = await client.request(method, path, json=BODIES.get(key, {} if method != "GET" else None))
                    assert answer.status_code < 500 or answer.status_code in (501, 503), (who, key, answer.text)
                    rows.setdefault(key, {})[who] = answer.status_code not in (401, 403)
        Permissions(filled.store).say("notes2", SECURITY)
    table = [f"| | {' | '.join(WHO)} |", f"|---|{'---|' * len(WHO)}"]
    table += [
        f"| `{key}` | {' | '.join('yes' if row[who] else '' for who in WHO)} |"
        for key, row in sorted(rows.items(), key=_place)
    ]
    if os.environ.get("CRDTDB_WRITE_DOCS"):
        before, _, _ = DOCS.read_text().partition("| | nobody")
        DOCS.write_text(before + "\n".join(table) + "\n")
    written = DOCS.read_text()
    assert "\n".join(table) in written, "run this test with CRDTDB_WRITE_DOCS=1, and look at what changed"
    assert set(rows) == set(NEEDS)


def _place(item: tuple[str, Any]) -> tuple[str, str]:
    method, _, path = item[0].partition(" ")
    return path, method


@pytest.fixture
async def app(filled: crdtdb.Database) -> ASGIApp:
    return make_app(filled, Cluster(), logins=True)


def basic(name: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


async def test_passwords(app: ASGIApp, caplog: pytest.LogCaptureFixture) -> None:
    async with client_of(app) as client:
        assert (await client.get("/notes/a", headers=basic("mia", "the password of mia"))).status_code == 200
        for headers in (
            {},
            basic("mia", "another"),
            basic("nobody-at-all", "the password of mia"),
            basic("", ""),
            {"authorization": "Basic " + b64encode(b"no colon").decode()},
            {"authorization": "Bearer abc"},
        ):
            answer = await client.get("/notes/a", headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized"), headers
        assert "a wrong name or password: 'mia'" in caplog.text
        assert "the password of" not in caplog.text


async def test_without_logins_a_password_opens_nothing(filled: crdtdb.Database) -> None:
    async with client_of(make_app(filled, Cluster())) as client:
        answer = await client.get("/notes/a", headers=basic("mia", "the password of mia"))
        assert (answer.status_code, answer.headers.get("www-authenticate")) == (401, None)
        refused = await client.post("/_session", json={"name": "mia", "password": "the password of mia"})
        assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
        cookie = Users(filled.store).session("mia")
        assert (await client.get("/notes/a", headers={"cookie": f"AuthSession={cookie}"})).status_code == 401
        assert (await client.get("/_session")).json()["info"] == {"authentication_handlers": ["certificate"]}


async def test_too_many_wrong_passwords(filled: crdtdb.Database) -> None:
    async with client_of(make_app(filled, Cluster(), logins=True)) as client:
        statuses = [(await client.get("/", headers=basic("mia", f"wrong {n}"))).status_code for n in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        answer = await client.post("/_session", json={"name": "mia", "password": "the password of mia"})
        assert (answer.status_code, answer.json()["error"]) == (429, "too_many_requests")
        assert 0 < int(answer.headers["retry-after"]) <= 61


def test_attempts_are_forgotten_in_time_and_number() -> None:
    now = [0.0]
    attempts = Attempts(lambda: now[0])
    for _ in range(9):
        assert attempts.begin("a") == 0
    assert attempts.wait("a", "b") == 0
    now[0] = 30.0
    assert attempts.begin("a", "b") == 0
    assert attempts.begin("a", "c") == 30.0
    assert attempts.wait("c") == 0, "what isn't let through doesn't count"
    assert attempts.wait("b") == 0
    assert attempts.wait("a") == 30.0
    now[0] = 60.1
    assert attempts.wait("a") == 0
    for n in range(20_000):
        attempts.begin(f"one of many {n}")
    assert len(failed_of(attempts)) == 10_000
    for _ in range(50):
        assert attempts.begin("right") == 0
        attempts.succeeded("right")


async def test_a_burst_of_wrong_passwords(filled: crdtdb.Database) -> None:
    """An attempt counts before it is checked: of 500 at once ten are, and no more, by name and by address alike."""
    app = make_app(filled, Cluster(), logins=True)
    users: Users = app.state.users
    statuses: list[int] = []
    async with client_of(app) as client, anyio.create_task_group() as tasks:
        for name in ("mia", *(f"nobody{n}" for n in range(1, 500))):

            async def guess(name: str = name) -> None:
                statuses.append((await client.get("/", headers=basic(name, "a wrong password"))).status_code)

            tasks.start_soon(guess)
    assert users.hashed == statuses.count(401) == 10
    assert set(statuses) <= {401, 429, 503}


async def test_a_password_that_was_right_a_moment_ago_is_let_in_all_the_same(filled: crdtdb.Database) -> None:
    async with client_of(make_app(filled, Cluster(), logins=True)) as client:
        right = basic("mia", "the password of mia")
        assert (await client.get("/", headers=right)).status_code == 200
        for n in range(11):
            await client.get("/", headers=basic("mia", f"wrong {n}"))
        assert (await client.get("/", headers=basic("mia", "wrong"))).status_code == 429
        assert (await client.get("/", headers=right)).status_code == 200
        assert (await client.get("/", headers=basic("guest", "the password of guest"))).status_code == 429, "by address"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("?", "inside", False),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    assert (block_of(one) == block_of(other)) is same


@pytest.mark.parametrize(("ahead", "good"), [(-540, True), (-601, False), (240, True), (299, True), (301, False)])
def test_a_session_of_a_node_whose_clock_is_wrong(filled: crdtdb.Database, ahead: int, good: bool) -> None:
    """`ahead` is by how many seconds the clock of the node that issued it goes before that of the one that is asked."""
    issuer = Users(filled.store, lambda: 1_000_000_000_000 + ahead * 1000)
    asked = Users(filled.store, lambda: 1_000_000_000_000)
    found = asked.of_session(issuer.session("guest"))
    assert (found is not None) is good
    assert found is None or 0 < found[1] <= SESSION_SECONDS


async def test_sessions(app: ASGIApp, filled: crdtdb.Database) -> None:
    async with client_of(app) as client:
        assert (await client.get("/_session")).json()["userCtx"] == {"name": None, "roles": []}
        for body in ({"name": "mia", "password": "the password of mia"}, None):
            form = "name=mia&password=the+password+of+mia"
            headers = {} if body is not None else {"content-type": "application/x-www-form-urlencoded"}
            made = await client.post(
                "/_session", json=body, content=None if body is not None else form, headers=headers
            )
            assert (made.status_code, made.json()) == (200, {"ok": True, "name": "mia", "roles": ["editors"]})
        cookie = made.headers["set-cookie"]
        assert cookie.endswith("; Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Strict")
        found = (await client.get("/_session")).json()
        assert (found["userCtx"], found["info"]["authenticated"]) == ({"name": "mia", "roles": ["editors"]}, "cookie")
        assert (await client.put("/notes/by-mia", json={})).status_code == 201
        assert (await client.put("/notes/_design/x", json={})).status_code == 403
        odd = {"cookie": f'other={{"a": [1, "x"]}}; =; ;; {cookie.partition(";")[0]}; last="q;'}
        client.cookies.clear()
        assert (await client.get("/_session", headers=odd)).json()["userCtx"]["name"] == "mia", "whatever else is there"
        assert (await client.get("/_session", headers={"cookie": "AuthSession="})).json()["userCtx"]["name"] is None
        gone = await client.delete("/_session")
        assert gone.headers["set-cookie"].startswith("AuthSession=; Path=/; Max-Age=0")
        assert (await client.get("/notes/a")).status_code == 401
        wrong: list[Any] = [{"name": "mia"}, {"name": "mia", "password": 5}, [], {"name": "mia", "password": "wrong"}]
        for bad in wrong:
            assert (await client.post("/_session", json=bad)).status_code in (400, 401)


def test_a_session_is_good_for_its_user_its_time_and_its_password(filled: crdtdb.Database) -> None:
    now = [1_000_000_000_000]
    users = Users(filled.store, lambda: now[0])
    session = users.session("guest")
    assert users.of_session(session) == (Principal("guest", "cookie"), SESSION_SECONDS)
    elsewhere = Users(filled.store, lambda: now[0])
    assert elsewhere.of_session(session) is not None, "every node knows it"
    name, until, signature = session.split(".")
    other = users.session("mia").split(".")
    forged = [
        f"{other[0]}.{until}.{signature}",
        f"{name}.{int(until, 16) + 100_000:x}.{signature}",
        f"{name}.{until}.{other[2]}",
        f"{name}.{until}.{'0' * 64}",
        f"{name}.{until}.",
        f"{name}.{until}",
        f"{name}.-1.{signature}",
        f"%.{until}.{signature}",
        f"{name}.{until}.{signature}é",
        f"bm9ib2R5.{until}.{signature}",
        "",
        ".",
        "..",
        "a" * 10_000,
    ]
    for one in forged:
        assert users.of_session(one) is None, one
    now[0] += SESSION_SECONDS * 1000
    assert users.of_session(session) is None
    session = users.session("guest")
    users.add("guest", "the password of guest")
    assert users.of_session(session) is None, "another password, even if it is the same, ends it"
    with pytest.raises(crdtdb.NotFoundError):
        users.session("nobody")


async def test_a_session_renews_itself(app: ASGIApp, filled: crdtdb.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000_000_000_000]
    monkeypatch.setattr(app.state.users, "_wall", lambda: now[0])  # type: ignore[attr-defined]
    async with client_of(app) as client:
        await client.post("/_session", json={"name": "guest", "password": "the password of guest"})
        assert "set-cookie" not in (await client.get("/notes/a")).headers
        now[0] += SESSION_SECONDS * 600
        assert (await client.get("/notes/a")).headers["set-cookie"].startswith("AuthSession=Z3Vlc3Q.")
        now[0] += SESSION_SECONDS * 600
        assert (await client.get("/notes/a")).status_code == 200
        now[0] += SESSION_SECONDS * 1100
        assert (await client.get("/notes/a")).status_code == 401


async def test_a_user_who_is_removed_is_out_at_once(app: ASGIApp, filled: crdtdb.Database) -> None:
    users = Users(filled.store)
    users.add("shortly", "the password of shortly", ["editors"])
    async with client_of(app) as client:
        await client.post("/_session", json={"name": "shortly", "password": "the password of shortly"})
        assert (await client.get("/notes/a")).status_code == 200
        assert (await client.get("/notes/a", headers=basic("shortly", "the password of shortly"))).status_code == 200
        users.remove("shortly")
        assert (await client.get("/notes/a")).status_code == 401
        assert (await client.get("/notes/a", headers=basic("shortly", "the password of shortly"))).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/notes/_design%2Fx",
        "/notes/_design/x",
        "/notes/%5Fdesign/x",
        "/notes/%5F%64esign%2Fx",
        "//notes/_design/x",
        "/notes//_design/x",
        "/notes/_design//x",
        "/notes/./_design/x",
        "/other/../notes/_design/x",
        "/notes/_design%2Fx/",
        "/notes/_design/x?rev=",
        "/notes/_design%2Fx/_edit",
        "/notes/_design%2Fx/_resolve",
        "/notes/_design/x/_resolve",
        "/notes/_design%2Fx/file",
        "/notes/_design/x/file",
        "/notes/_security",
        "/notes/%5Fsecurity",
        "/notes/_security/",
        "/system.users/eve",
        "/system%2Eusers/eve",
        "/system.access/notes",
        "/_users/eve",
        "/%5Fusers/eve",
        "//_users/eve",
        "/_session/../_users/eve",
        "/notes%2F..%2F_users/eve",
    ],
)
async def test_odd_paths_lead_nowhere(app: ASGIApp, filled: crdtdb.Database, path: str) -> None:
    before = {name: filled.store.collection(name).seq for name in filled.collections(system=True)}
    for how in ({}, {"user": "mia"}, {"user": "guest"}, {"certificate": ("client", "eve")}):
        certificate: Any = how.get("certificate")
        async with client_of(app, certificate, how.get("user")) as client:  # type: ignore[arg-type]
            for method in ("PUT", "POST", "DELETE", "PATCH"):
                # httpx would tidy the path up: what is sent is what stands here
                request = client.build_request(method, "/", json={"operations": [], "password": "a long password"})
                request.url = request.url.copy_with(raw_path=path.encode())
                answer = await client.send(request)
                assert answer.status_code in (400, 401, 403, 404, 405, 409, 412), (how, method, answer.text)
    assert {name: filled.store.collection(name).seq for name in filled.collections(system=True)} == before


async def test_design_documents_among_others(app: ASGIApp, filled: crdtdb.Database) -> None:
    async with client_of(app, user="mia") as client:
        docs = [{"_id": "_design/evil", "views": {}}, {"_id": "fine"}]
        answer = (await client.post("/notes/_bulk_docs", json={"docs": docs})).json()
        assert [one.get("error", "ok") for one in answer] == ["forbidden", "ok"]
        foreign = [{"_id": "_design/evil", "_rev": "1-a"}]
        answer = (await client.post("/notes/_bulk_docs", json={"docs": foreign, "new_edits": False})).json()
        assert [one["error"] for one in answer] == ["forbidden"]
        assert (await client.post("/notes", json={"_id": "_design/evil"})).status_code == 403
    async with client_of(app, user="boss") as client:
        assert (await client.put("/notes/_design/good", json={"views": {}})).status_code == 201


async def test_what_one_may_not_read_isnt_told(app: ASGIApp, filled: crdtdb.Database) -> None:
    async with client_of(app, user="guest") as client:
        assert (await client.get("/_all_dbs")).json() == ["notes"]
        told = (await client.post("/_dbs_info", json={"keys": ["notes", "open", "system.users"]})).json()
        assert ["info" in one for one in told] == [True, False, False]
        for name in ("open", "nothing-there", "system.users", "system.nodes"):
            assert (await client.get(f"/{name}")).status_code == 403
    async with client_of(app, ("client", "eve")) as client:
        assert "notes" not in (await client.get("/_all_dbs")).json()
        assert (await client.get("/system.users")).status_code == 403
        assert (await client.get("/system.access")).status_code == 200
        assert (await client.get("/open/a")).status_code == 200
    async with client_of(app, ("admin", "root")) as client:
        assert (await client.get("/system.users/mia")).json()["roles"] == ["editors"]
        assert (await client.put("/system.users/mia", json={})).status_code == 403, "the database alone writes it"


async def test_notices_tell_nothing_of_what_one_may_not_read(filled: crdtdb.Database) -> None:
    permissions, everything = Permissions(filled.store), {"patterns": [{}, {"collection": "system.*"}], "since": "0"}
    told = {}
    for who in (
        Principal("eve", "certificate"),
        Principal("ada", "certificate"),
        Principal("root", "certificate", admin=True),
    ):
        subscription = Subscription(filled, everything, reader(permissions, who))
        told[who.name] = {one["collection"] for one in await subscription.take()}
    assert {"open", "system.access"} <= told["eve"]
    assert "notes" not in told["eve"]
    assert "notes" in told["ada"]
    assert "system.users" not in told["ada"]
    assert {"notes", "system.users"} <= told["root"]


async def test_a_page_of_somebody_elses_changes_nothing(filled: crdtdb.Database) -> None:
    app = make_app(filled, Cluster(), logins=True, cors_origins=["https://app.example"])
    evil, good, own = ({"origin": one} for one in ("https://evil.example", "https://app.example", "https://node"))
    async with client_of(app, ("client", "ada")) as client:
        assert (await client.post("/notes", json={}, headers=evil)).status_code == 403
        assert (
            await client.post("/notes", content=b"{}", headers={**evil, "content-type": "text/plain"})
        ).status_code == 403
        for origin in (good, own, {}):
            assert (await client.post("/notes", json={}, headers=origin)).status_code == 201
        assert (await client.get("/notes/a", headers=evil)).status_code == 200
        assert "access-control-allow-origin" not in (await client.get("/notes/a", headers=evil)).headers
    async with client_of(app, user="mia") as client:
        assert (await client.post("/notes", json={}, headers=evil)).status_code == 403
        assert (await client.post("/notes", json={}, headers=good)).status_code == 201
    async with client_of(app) as client:
        made = await client.post("/_session", json={"name": "mia", "password": "the password of mia"}, headers=good)
        assert made.headers["set-cookie"].endswith("SameSite=None")
        assert made.headers["access-control-allow-credentials"] == "true"
        assert made.headers["access-control-allow-origin"] == "https://app.example"
        assert (await client.post("/notes", json={}, headers=good)).status_code == 201
        assert (await client.post("/notes", json={}, headers=evil)).status_code == 403
        assert (
            await client.request("POST", "/_session", json={"name": "mia", "password": "x"}, headers=evil)
        ).status_code == 403


async def test_users_are_made_by_administrators(
    app: ASGIApp, filled: crdtdb.Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crdtdb.acts")
    async with client_of(app, ("admin", "root")) as client:
        made = await client.put("/_users/new", json={"password": "a long password", "roles": ["editors"]})
        assert (made.status_code, made.json()["new"]) == (201, True)
        again = await client.put("/_users/new", json={"password": "another password"})
        assert again.json()["new"] is False
        assert {"name": "new", "roles": []} in (await client.get("/_users")).json()["users"]
        assert "hash" not in (await client.get("/_users")).text
        for name, body in (
            ("new", {"password": "short"}),
            ("new", {"password": 5}),
            ("new", {"password": "x" * 2_000}),
            ("new", {"password": "a long password", "roles": "editors"}),
            ("new", {"password": "a long password", "roles": [5]}),
            ("new", {"password": "a long password", "roles": ["_admin"]}),
            ("new", {"password": "a long password", "other": 1}),
            ("_x", {"password": "a long password"}),
            ("x" * 200, {"password": "a long password"}),
            ("a:b", {"password": "a long password"}),
        ):
            assert (await client.put(f"/_users/{name}", json=body)).status_code == 400, (name, body)
        assert (await client.delete("/_users/new")).status_code == 200
        assert (await client.delete("/_users/new")).status_code == 404
    assert "admin 'root': make user 'new'" in caplog.text
    assert "a long password" not in caplog.text


async def test_security_is_said_by_admins_of_a_collection(app: ASGIApp, filled: crdtdb.Database) -> None:
    filled["mine"].put("a", {})
    async with client_of(app, ("client", "ada")) as client:
        assert (await client.get("/mine/_security")).json() == check_security({})
        wrong: list[Any] = [
            [],
            {"members": []},
            {"members": {"names": None}},
            {"admins": None},
            {"readers": {"roles": [5]}},
            {"members": {"names": "ada"}},
            {"members": {"names": [""]}},
        ]
        for bad in wrong:
            assert (await client.put("/mine/_security", json=bad)).status_code == 400, bad
        assert (await client.put("/mine/_security", json={"admins": {"names": ["ada"]}})).status_code == 200
        assert (await client.get("/mine/_security")).json()["admins"]["names"] == ["ada"]
    async with client_of(app, ("client", "eve")) as client:
        assert (await client.put("/mine/b", json={})).status_code == 201, (
            "who has a certificate writes, where no member is named"
        )
        assert (await client.delete("/mine")).status_code == 403
        assert (await client.put("/mine/_security", json={})).status_code == 403
    async with client_of(app, ("client", "ada")) as client:
        await client.put("/mine/_security", json={**SECURITY, "admins": {"names": ["ada"]}})
    async with client_of(app, ("client", "eve")) as client:
        assert (await client.get("/mine/b")).status_code == 403


async def test_security_comes_back_as_it_was_written(app: ASGIApp, filled: crdtdb.Database) -> None:
    filled["written"].put("a", {})
    written: list[dict[str, Any]] = [
        {"admins": {"names": ["b", "a", "a"]}, "cloudant": {"nobody": ["_reader"]}, "other": [{"x": 1}]},
        {"couchdb_auth_only": True},
        {"admins": {"zz": 1}, "members": {"roles": ["r"]}},
        {"readers": {"names": ["x"]}},
        {},
    ]
    async with client_of(app, ("admin", "root")) as client:
        for security in written:
            assert (await client.put("/written/_security", json=security)).json() == {"ok": True}
            assert (await client.get("/written/_security")).json() == security
    with crdtdb.open("memory:") as other:
        crdtdb.sync(filled, other)
        assert Permissions(other.store).shown("written") == {}


def test_security_of_an_older_member_is_shown_instead_of_what_was_written_before(filled: crdtdb.Database) -> None:
    permissions = Permissions(filled.store)
    permissions.say("older", {"other": 1, "members": {"names": ["ada"]}})
    said = check_security({"members": {"names": ["eve"]}})
    SystemCollection(filled.store, "system.access").say("older", said)
    assert permissions.shown("older") == permissions.of("older") == said


async def test_a_password_that_is_not_base64_is_a_bad_request(app: ASGIApp) -> None:
    async with client_of(app) as client:
        for given in ("!!", "%%%", "A" * 10_000, b64encode(b"\xff:x").decode()):
            refused = await client.get("/notes", headers={"authorization": f"Basic {given}"})
            assert (refused.status_code, refused.json()["error"]) == (400, "bad_request"), given


def test_levels() -> None:
    nobody = check_security({})
    user, editor = Principal("u", "password"), Principal("e", "cookie", frozenset({"editors"}))
    certificate, admin = Principal("c", "certificate"), Principal("r", "certificate", admin=True)
    assert [level_of(one, nobody) for one in (user, editor, certificate, admin)] == [0, 0, Level.ADMIN, Level.ADMIN]
    members = check_security({"members": {"roles": ["editors"]}})
    assert [level_of(one, members) for one in (user, editor, certificate, admin)] == [0, Level.WRITE, 0, Level.ADMIN]
    readers = check_security({"readers": {"names": ["u", "c"]}})
    assert [level_of(one, readers) for one in (user, editor, certificate)] == [Level.READ, 0, Level.READ]
    admins = check_security({"admins": {"names": ["u"]}})
    assert [level_of(one, admins) for one in (user, editor, certificate)] == [Level.ADMIN, 0, Level.WRITE]
    with pytest.raises(InvalidInputError, match="at most 1000"):
        check_security({"members": {"names": [f"n{n}" for n in range(1_001)]}})


def test_a_wrong_name_takes_as_long_as_a_wrong_password(filled: crdtdb.Database) -> None:
    users = Users(filled.store)
    assert users.verify("mia", "wrong") is None
    assert users.verify("nobody", "wrong") is None
    assert users.verify("nobody", "") is None
    assert users.hashed == 3, "the same work for each"
    assert users.verify("mia", "the password of mia") == Principal("mia", "password", frozenset({"editors"}))
    assert users.verify("mia", "the password of mia") is not None
    assert users.hashed == 4, "what was right a moment ago is remembered"
