"""What a password costs to hash: read from each document, and raised at the next login."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import crdtdb
from crdtdb.database.system_collection import SystemCollection
from crdtdb.errors import InvalidDocumentError
from crdtdb.http.app import make_app
from crdtdb.security import USERS
from crdtdb.security.users import COST, FIRST_COST, Cost, Users, check_user
from crdtdb.wire.messages import SCHEMES_SINCE
from tests.http.test_api import Cluster

PASSWORD = "correct horse"
CHEAP = Cost(2**10, 8, 1)


@pytest.fixture
def db() -> Iterator[crdtdb.Database]:
    with crdtdb.open("memory:") as db:
        yield db


def body_of(db: crdtdb.Database, name: str) -> dict[str, Any]:
    return dict(SystemCollection(db.store, USERS, check_user).bodies())[name]


@pytest.mark.parametrize("scheme", ["scrypt:16384:8:1", None], ids=["named", "of a document without a scheme"])
def test_a_login_raises_the_cost_and_sessions_go_on(db: crdtdb.Database, scheme: str | None) -> None:
    Users(db.store, cost=lambda: FIRST_COST).add("ada", PASSWORD, ["editors"])
    if scheme is None:
        body = body_of(db, "ada")
        del body["scheme"]
        SystemCollection(db.store, USERS, check_user).say("ada", body)
    session = Users(db.store).session("ada")
    users = Users(db.store)
    principal = users.verify("ada", PASSWORD)
    assert principal is not None
    assert principal.roles == {"editors"}
    raised = body_of(db, "ada")
    assert raised["scheme"] == str(COST)
    assert users.of_session(session) is not None
    again = Users(db.store)
    assert again.verify("ada", PASSWORD) is not None
    assert again.verify("ada", "wrong password") is None
    assert body_of(db, "ada") == raised, "once is enough"
    again.add("ada", "another password")
    assert again.of_session(session) is None, "another password ends the sessions"


def test_each_document_is_verified_by_its_own_scheme(db: crdtdb.Database) -> None:
    Users(db.store, cost=lambda: CHEAP).add("ada", PASSWORD)
    Users(db.store, cost=lambda: Cost(2**11, 4, 2)).add("bob", PASSWORD)
    users = Users(db.store, cost=lambda: CHEAP)
    assert users.verify("ada", PASSWORD) is not None
    assert users.verify("bob", PASSWORD) is not None
    assert users.verify("bob", "wrong password") is None
    assert users.verify("eve", PASSWORD) is None


@pytest.mark.parametrize("oldest", [SCHEMES_SINCE - 1, SCHEMES_SINCE])
def test_the_cost_stays_while_a_member_would_not_read_it(db: crdtdb.Database, oldest: int) -> None:
    Users(db.store, cost=lambda: FIRST_COST).add("ada", PASSWORD)
    cluster = Cluster()
    cluster.oldest_minor = oldest
    users = make_app(db, cluster).state.users
    assert users.verify("ada", PASSWORD) is not None
    assert body_of(db, "ada")["scheme"] == str(COST if oldest == SCHEMES_SINCE else FIRST_COST)


@pytest.mark.parametrize(
    "scheme",
    [
        "scrypt",
        "argon2:1:2:3",
        "scrypt:0:8:1",
        "scrypt:1000:8:1",
        "scrypt:16384:0:1",
        "scrypt:16384:8:0",
        "scrypt:1048576:8:1",
        "scrypt:16384:8:9999",
        5,
        "",
    ],
)
def test_a_scheme_that_cannot_run_is_refused(scheme: object) -> None:
    body = {"salt": "00" * 16, "hash": "11" * 32, "roles": [], "scheme": scheme}
    with pytest.raises(InvalidDocumentError, match="scrypt|takes too long"):
        check_user("bob", body)


@pytest.mark.parametrize("key", [5, "00", "zz"])
def test_a_session_key_of_another_form_is_refused(key: object) -> None:
    with pytest.raises((InvalidDocumentError, ValueError)):
        check_user("bob", {"salt": "00" * 16, "hash": "11" * 32, "roles": [], "key": key})
