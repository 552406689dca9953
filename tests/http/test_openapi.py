"""The description of the API is true: whatever it allows is answered as it says, and nothing breaks the node."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

import crdtdb
from crdtdb.http.app import RESOURCES, make_app
from crdtdb.http.openapi import _BRINGS, _TAKES, describe
from tests.examples import examples
from tests.http.test_api import Cluster, certified

_CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_ROUTES = [route for resource in RESOURCES for route in resource.ROUTES]


def lazily() -> Any:
    db = crdtdb.open("memory:")
    notes = db.collection("notes", schema={"likes": crdtdb.Counter})
    notes.put("a", {"title": "x", "likes": 1})
    return certified(make_app(db, Cluster(), attachment_bytes_max=1_000_000))


schema = schemathesis.openapi.from_asgi("/_openapi", lazily()).exclude(path="/_notify")
# A feed that goes on for a minute tells nothing more here; there are tests of it beside this one.
schema.config.generation.update(max_examples=12)


@pytest.fixture(autouse=True)
def short_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb.http.resources.changes._MILLISECONDS_MAX", 20)


@schema.parametrize()
@examples(12, suppress_health_check=list(HealthCheck))
def test_whatever_is_asked_is_answered_as_described(case: Any) -> None:
    if case.path.startswith("/{db}") and case.path_parameters["db"] != "notes" and len(case.path_parameters["db"]) % 3:
        case.path_parameters["db"] = "notes"
    if (case.method, case.path) == ("DELETE", "/{db}"):
        case.path_parameters["db"] = "nothing-there"
    response = case.call()
    in_lines = (case.query or {}).get("feed") == "continuous"  # a JSON object a line, called JSON as CouchDB does
    case.validate_response(response, checks=_CHECKS[:2] if in_lines else _CHECKS)


def test_everything_that_is_described_is_there() -> None:
    described = describe([route for route in _ROUTES if isinstance(route, Route)], "1")
    operations = {f"{method.upper()} {path}" for path, one in described["paths"].items() for method in one}
    assert set(_TAKES) <= operations
    assert set(_BRINGS) <= operations
