"""/_openapi: what the API takes and answers, in the form of OpenAPI 3.1, made from the routes themselves.

A route's docstring is its summary, and `request_schemas` says what it takes besides its path. A test requests what this says.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from crdtdb.http.json_io import JSONAnswer
from crdtdb.http.request_schemas import BODIES, QUERIES
from crdtdb.limits import COLLECTION_NAME_BYTES_MAX

_BYTES = {"application/octet-stream": {"schema": {"type": "string"}}}
_ANYTHING: dict[str, Any] = {"schema": {}}
_STATUSES = {
    "200": "OK",
    "201": "created",
    "202": "accepted",
    "206": "the range that was asked for",
    "304": "not changed",
    "400": "the request is malformed",
    "401": "no valid credentials",
    "404": "no such database, document or attachment",
    "405": "not that method",
    "409": "another revision is current",
    "412": "the database exists, a stub is missing, or the schema says otherwise",
    "413": "larger than the limit",
    "408": "the request came too slowly",
    "414": "the target is too long",
    "429": "too many wrong passwords",
    "431": "the headers are too large",
    "424": "the peer of a replication refuses",
    "423": "another client holds the lock",
    "415": "a POST that isn't `application/json`, or a body in an encoding other than gzip",
    "416": "a range that isn't there",
    "403": "not permitted",
    "501": "JavaScript is not installed",
    "503": "the node takes no writes now",
    "507": "the disk is full",
}


def describe(routes: list[Route], version: str) -> dict[str, Any]:
    """Return the description of an API."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = route.path.replace(":path", "")
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(path, method, route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "crdtdb", "version": version},
        "paths": paths,
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error", "reason"],
                    "properties": {"error": {"type": "string"}, "reason": {"type": "string"}},
                }
            }
        },
    }


def _operation(path: str, method: str, route: Route) -> dict[str, Any]:
    key = f"{method} {path}"
    named = re.findall(r"{([a-z]+)}", path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": _path_schema(name)} for name in named]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in QUERIES.get(key, {}).items()]
    attachment = "attachment" in named
    raw = attachment or path in ("/_metrics", "/_cluster/backup")  # anything but JSON
    operation: dict[str, Any] = {
        "summary": (route.endpoint.__doc__ or "").strip().splitlines()[0],
        "parameters": parameters,
        "responses": {status: _response(status, meaning, method, raw) for status, meaning in _STATUSES.items()},
    }
    if attachment and method == "PUT":
        operation["requestBody"] = {"content": _BYTES}
    elif key in BODIES:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": BODIES[key]}}}
    return operation


def _response(status: str, meaning: str, method: str, raw: bool) -> dict[str, Any]:
    if status >= "400":
        error = {"schema": {"$ref": "#/components/schemas/Error"}}
        return {"description": meaning, "content": {"application/json": error}}
    if status == "304":
        return {"description": meaning}
    if raw and method == "GET":
        return {"description": meaning, "content": {"*/*": _ANYTHING}}
    kinds = ("application/json", "application/x-ndjson", "text/event-stream")
    return {"description": meaning, "content": dict.fromkeys(kinds, _ANYTHING)}


def _path_schema(name: str) -> dict[str, Any]:
    if name == "db":
        return {"type": "string", "pattern": "^[a-z][a-z0-9_$()+/-]*$", "maxLength": COLLECTION_NAME_BYTES_MAX}
    return {"type": "string", "minLength": 1, "pattern": "^[^_]"}


async def openapi(request: Request) -> JSONAnswer:
    """GET /_openapi : this description."""
    from crdtdb import __version__

    routes = [route for route in request.app.routes if isinstance(route, Route) and route.include_in_schema]
    return JSONAnswer(describe(routes, __version__))


ROUTES = [Route("/_openapi", openapi, methods=["GET"])]
