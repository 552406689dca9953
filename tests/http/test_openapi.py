"""The description of the API is true: whatever it allows is answered as it says, and nothing breaks the node."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
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
from crdtdb.couchdb.replication.spec import check_spec
from crdtdb.errors import InvalidInputError
from crdtdb.http.app import RESOURCES, make_app
from crdtdb.http.openapi import describe
from crdtdb.http.request_schemas import BODIES, QUERIES
from tests.examples import examples
from tests.http.test_api import Cluster, certified

_CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_ROUTES = [route for resource in RESOURCES for route in resource.ROUTES]


def lazily() -> Any:
    db = crdtdb.open("memory:")
    notes = db.collection("notes", schema={"likes": crdtdb.Counter})
    notes.put("a", {"title": "x", "likes": 1})
    return certified(make_app(db, Cluster(), attachment_bytes_max=1_000_000))


_WITHIN: dict[str, dict[str, Any]] = {
    "db": {"pattern": "^[a-z][a-z0-9_$()+-]{0,20}$"},
    "open_revs": {"enum": ["all", "[]"]},
    "since": {"enum": ["0", "now"]},
    "heartbeat": {"enum": ["false"]},
    "filter": {"enum": ["_design"]},
    **{name: {"pattern": '^"[a-z]{0,8}"$'} for name in ("startkey", "endkey", "key")},
}
"""Values of parameters that lead beyond the first check, and to no feed without an end."""
_SIDE = {"type": "string", "enum": ["notes", "copy", "nothing"]}
_BRIEF = ("create_target", "doc_ids", "selector")
_SELECTOR = {
    "type": "object",
    "properties": {
        "n": {"type": "object", "properties": {"$gt": {}, "$in": {"type": "array"}, "$exists": {"type": "boolean"}}},
        "title": {"type": "object", "properties": {"$regex": {"type": "string"}, "$not": {"type": "object"}}},
        "$or": {"type": "array", "items": {"type": "object"}},
    },
}


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Narrow what is described to what is worth trying: the description itself says all that the API takes."""
    for path, operations in raw_schema["paths"].items():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                parameter["schema"] |= _narrow(path, parameter)
            for media in operation.get("requestBody", {}).get("content", {}).values():
                _narrow_body(path, media["schema"])


def _narrow(path: str, parameter: dict[str, Any]) -> dict[str, Any]:
    if parameter["in"] == "query" and ("_view" in path or path == "/_notify"):
        return {}
    if parameter["schema"].get("type") == "integer":
        return {"maximum": min(10**6, parameter["schema"].get("maximum", 10**6))}
    if parameter["in"] == "path" and parameter["name"] != "db":
        return {"maxLength": 40, "pattern": "^[^_./][^./]*$"}
    return _WITHIN.get(parameter["name"], {})


def _narrow_body(path: str, body: dict[str, Any]) -> None:
    properties = body.get("properties", {})
    if "source" in properties:  # nothing beyond this node, and nothing without an end
        body["properties"] = {"source": _SIDE, "target": _SIDE, **{name: properties[name] for name in _BRIEF}}
    elif "selector" in properties and path != "/{db}/_changes":
        properties["selector"] = _SELECTOR
    if path == "/{db}/_schema":
        body["additionalProperties"] = {"type": "string", "enum": ["counter", "set", "flag"]}


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
    assert set(QUERIES) <= operations
    assert set(BODIES) <= operations


def test_a_replication_is_described_as_it_is_read() -> None:
    described = describe([route for route in _ROUTES if isinstance(route, Route)], "1")
    body = described["paths"]["/_replicate"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = jsonschema_rs.validator_for(body)
    url = "https://couch.example:6984/notes"
    auth = {"basic": {"username": "ada", "password": "x"}}
    for spec in (
        {"source": "notes", "target": url},
        {"source": {"url": url, "auth": auth, "headers": {"x": "y"}}, "target": "copy", "continuous": True},
        {"source": url, "target": "copy", "filter": "app/mine", "query_params": {"a": "b"}, "since_seq": "3-x"},
    ):
        check_spec(spec)
        assert validator.is_valid(spec)
    for wrong in ({"source": "notes"}, {"source": 1, "target": "copy"}, {"source": "a", "target": "b", "odd": 1}):
        with pytest.raises(InvalidInputError):
            check_spec(wrong)
        assert not validator.is_valid(wrong)
