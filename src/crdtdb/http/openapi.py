"""/_openapi: what the API takes and answers, in the form of OpenAPI 3.1, made from the routes themselves.

A route's docstring is its summary. What a route takes besides its path stands here, by its endpoint; a test asks the API for
everything that this says.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from crdtdb.database.feeds.watch import KINDS
from crdtdb.http.json_io import JSONAnswer

_FLAG = {"type": "string", "enum": ["true", "false"]}
_NUMBER = {"type": "integer", "minimum": 0, "maximum": 10**6}
_REV = {"type": "string", "pattern": "^[1-9][0-9]{0,8}-[0-9a-f]{32}$"}
_TEXT = {"type": "string", "pattern": '^"[a-z]{0,8}"$'}
_DOCUMENT = {"type": "object", "properties": {"_rev": _REV, "_deleted": {"type": "boolean"}}}
_REVS = {"type": "object", "additionalProperties": {"type": "array", "items": _REV, "maxItems": 3}}

_READING = {
    "rev": _REV,
    "revs": _FLAG,
    "revs_info": _FLAG,
    "latest": _FLAG,
    "conflicts": _FLAG,
    "deleted_conflicts": _FLAG,
    "meta": _FLAG,
    "local_seq": _FLAG,
    "attachments": _FLAG,
    "att_encoding_info": _FLAG,
    "open_revs": {"type": "string", "enum": ["all", "[]"]},
    "crdt": _FLAG,
}
_RANGE = {
    "startkey": _TEXT,
    "endkey": _TEXT,
    "key": _TEXT,
    "descending": _FLAG,
    "inclusive_end": _FLAG,
    "limit": _NUMBER,
    "skip": _NUMBER,
    "include_docs": _FLAG,
    "conflicts": _FLAG,
    "attachments": _FLAG,
    "update_seq": _FLAG,
}
_FEED = {
    "feed": {"type": "string", "enum": ["normal", "longpoll", "continuous", "eventsource"]},
    "since": {"type": "string", "enum": ["0", "now"]},
    "style": {"type": "string", "enum": ["main_only", "all_docs"]},
    "timeout": {"type": "integer", "minimum": 0, "maximum": 60_000},
    "heartbeat": {"type": "string", "enum": ["false"]},
    "filter": {"type": "string", "enum": ["_design"]},
    "limit": _NUMBER,
    "descending": _FLAG,
    "include_docs": _FLAG,
    "conflicts": _FLAG,
}
_VIEW = {
    **{name: {"type": "string"} for name in ("key", "startkey", "endkey")},
    **dict.fromkeys(("inclusive_end", "descending", "reduce", "group", "include_docs", "update", "update_seq"), _FLAG),
    **dict.fromkeys(("limit", "skip", "group_level"), _NUMBER),
}
_NAMED = {"rev": _REV}

_TAKES: dict[str, dict[str, Any]] = {
    "GET /_uuids": {"count": {"type": "integer", "minimum": 0, "maximum": 1_000}},
    "GET /_all_dbs": {name: _RANGE[name] for name in ("startkey", "endkey", "descending", "limit", "skip")},
    "GET /_dbs_info": {name: _RANGE[name] for name in ("startkey", "endkey", "descending", "limit", "skip")},
    "GET /{db}/_all_docs": _RANGE,
    "POST /{db}/_all_docs": _RANGE,
    "GET /{db}/_design_docs": _RANGE,
    "POST /{db}/_design_docs": _RANGE,
    "GET /{db}/_changes": _FEED,
    "POST /{db}/_changes": _FEED,
    "POST /{db}/_bulk_get": {"revs": _FLAG, "latest": _FLAG, "attachments": _FLAG},
    "GET /{db}/{id}": _READING,
    "PUT /{db}/{id}": {**_NAMED, "new_edits": _FLAG},
    "DELETE /{db}/{id}": _NAMED,
    "GET /{db}/_design/{design}": _READING,
    "PUT /{db}/_design/{design}": {**_NAMED, "new_edits": _FLAG},
    "DELETE /{db}/_design/{design}": _NAMED,
    "GET /{db}/{id}/{attachment}": _NAMED,
    "PUT /{db}/{id}/{attachment}": _NAMED,
    "DELETE /{db}/{id}/{attachment}": _NAMED,
    "GET /{db}/_design/{design}/{attachment}": _NAMED,
    "PUT /{db}/_design/{design}/{attachment}": _NAMED,
    "DELETE /{db}/_design/{design}/{attachment}": _NAMED,
    "GET /{db}/_conflicts": {"limit": _NUMBER},
    "GET /{db}/_design/{design}/_view/{view}": _VIEW,
    "POST /{db}/_design/{design}/_view/{view}": _VIEW,
    "GET /_notify": {
        **{name: {"type": "string"} for name in ("collection", "id", "kinds", "since")},
        "include_docs": _FLAG,
    },
    "DELETE /_locks/{lock}": {"token": {"type": "integer", "minimum": 0}},
    "POST /{db}/{id}/_resolve": {**_NAMED, "seen": _REV},
    "PATCH /{db}/{id}": _NAMED,
    "PATCH /{db}/_design/{design}": _NAMED,
    "PUT /{db}/_schema": {"replace": _FLAG},
}

_PATTERN = {
    "type": "object",
    "properties": {
        "collection": {"type": "string", "minLength": 1},
        "id": {"type": "string", "minLength": 1},
        "kinds": {"type": "array", "minItems": 1, "items": {"enum": list(KINDS)}},
    },
    "additionalProperties": False,
}

_SIDE = {"type": "string", "enum": ["notes", "copy", "nothing"]}
_REPLICATION: dict[str, Any] = {
    "type": "object",
    "required": ["source", "target"],
    "properties": {
        "source": _SIDE,
        "target": _SIDE,
        "create_target": {"type": "boolean"},
        "doc_ids": {"type": "array", "items": {"type": "string"}},
        "selector": {"type": "object"},
    },
    "additionalProperties": False,
}
_NAMED_ONES = {
    "type": "object",
    "properties": {one: {"type": "array", "items": {"type": "string", "minLength": 1}} for one in ("names", "roles")},
    "additionalProperties": False,
}
_SORT = {
    "oneOf": [
        {"type": "string", "minLength": 1},
        {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": {"enum": ["asc", "desc"]}},
    ]
}
_SELECTOR = {
    "type": "object",
    "properties": {
        "n": {"type": "object", "properties": {"$gt": {}, "$in": {"type": "array"}, "$exists": {"type": "boolean"}}},
        "title": {"type": "object", "properties": {"$regex": {"type": "string"}, "$not": {"type": "object"}}},
        "$or": {"type": "array", "items": {"type": "object"}},
    },
}
_QUERY: dict[str, Any] = {
    "type": "object",
    "required": ["selector"],
    "properties": {
        "selector": _SELECTOR,
        "fields": {"type": "array", "items": {"type": "string"}},
        "sort": {"type": "array", "items": _SORT},
        "limit": _NUMBER,
        "skip": _NUMBER,
        "bookmark": {"type": ["string", "null"]},
        "use_index": {"type": ["string", "array"], "items": {"type": "string"}},
        "allow_fallback": {"type": "boolean"},
        "conflicts": {"type": "boolean"},
        "execution_stats": {"type": "boolean"},
        "count": {"type": "boolean"},
    },
}
_MANY: dict[str, Any] = {
    "type": "object",
    "required": ["selector"],
    "properties": {
        "selector": _SELECTOR,
        "patch": {"type": "object"},
        "limit": {"type": "integer", "minimum": 1},
        "bookmark": {"type": ["string", "null"]},
    },
    "additionalProperties": False,
}

_BRINGS: dict[str, dict[str, Any]] = {
    "POST /_dbs_info": {
        "type": "object",
        "required": ["keys"],
        "properties": {"keys": {"type": "array", "items": {"type": "string"}}},
    },
    "POST /_cluster/audit": {
        "type": "object",
        "properties": {
            "repair": {"type": "boolean"},
            "members": {"type": ["array", "null"], "items": {"type": "string"}},
        },
    },
    "POST /_locks": {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "ttl": {"type": "number", "minimum": 1, "maximum": 300},
            "wait": {"type": "number", "minimum": 0},
            "hold": {"type": "boolean"},
        },
    },
    "PUT /_locks/{lock}": {"type": "object", "required": ["token"], "properties": {"token": {"type": "integer"}}},
    "POST /_notify": {
        "type": "object",
        "properties": {
            "patterns": {"type": "array", "minItems": 1, "maxItems": 100, "items": _PATTERN},
            "since": {"type": ["string", "null"]},
            "include_docs": {"type": "boolean"},
        },
    },
    "POST /_cluster/revoke": {
        "type": "object",
        "required": ["serial"],
        "properties": {name: {"type": "string"} for name in ("serial", "name", "role", "why")},
    },
    "POST /_cluster/retire": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "force": {"type": "boolean"}},
    },
    "POST /{db}": _DOCUMENT,
    "POST /{db}/_all_docs": {
        "type": "object",
        "properties": {"keys": {"type": "array", "items": {"type": "string"}}},
    },
    "POST /{db}/_design_docs": {
        "type": "object",
        "properties": {"keys": {"type": "array", "items": {"type": "string"}}},
    },
    "POST /{db}/_bulk_docs": {
        "type": "object",
        "required": ["docs"],
        "properties": {
            "docs": {"type": "array", "items": {**_DOCUMENT, "properties": {"_id": {"type": "string"}}}},
            "new_edits": {"type": "boolean"},
        },
    },
    "POST /{db}/_bulk_get": {
        "type": "object",
        "required": ["docs"],
        "properties": {
            "docs": {
                "type": "array",
                "items": {"type": "object", "properties": {"id": {"type": "string"}, "rev": _REV}},
            }
        },
    },
    "POST /{db}/_design/{design}/_view/{view}": {"type": "object", "properties": {"keys": {"type": "array"}}},
    "POST /{db}/_design/{design}/_view/{view}/queries": {
        "type": "object",
        "required": ["queries"],
        "properties": {"queries": {"type": "array", "minItems": 1, "items": {"type": "object"}}},
    },
    "POST /{db}/_find": _QUERY,
    "POST /{db}/_explain": _QUERY,
    "POST /{db}/_index": {
        "type": "object",
        "required": ["index"],
        "properties": {
            "index": {
                "type": "object",
                "required": ["fields"],
                "properties": {
                    "fields": {"type": "array", "items": _SORT},
                    "partial_filter_selector": {"type": "object"},
                },
            },
            "ddoc": {"type": "string"},
            "name": {"type": "string"},
            "type": {"enum": ["json"]},
        },
    },
    "POST /{db}/_index/_bulk_delete": {
        "type": "object",
        "required": ["docids"],
        "properties": {"docids": {"type": "array", "items": {"type": "string"}}},
    },
    "POST /{db}/_update_many": {**_MANY, "required": ["selector", "patch"]},
    "POST /{db}/_delete_many": _MANY,
    "PATCH /{db}/{id}": {"type": "object"},
    "PATCH /{db}/_design/{design}": {"type": "object"},
    "POST /{db}/_revs_diff": _REVS,
    "POST /{db}/_missing_revs": _REVS,
    "POST /{db}/_purge": _REVS,
    "POST /{db}/_changes": {
        "type": "object",
        "properties": {"doc_ids": {"type": "array", "items": {"type": "string"}}, "selector": {"type": "object"}},
    },
    "POST /_replicate": _REPLICATION,
    "POST /_replicator": _REPLICATION,
    "PUT /_replicator/{id}": _REPLICATION,
    "POST /_session": {
        "type": "object",
        "required": ["name", "password"],
        "properties": {"name": {"type": "string"}, "password": {"type": "string"}},
    },
    "PUT /_users/{name}": {
        "type": "object",
        "required": ["password"],
        "properties": {"password": {"type": "string"}, "roles": {"type": "array", "items": {"type": "string"}}},
    },
    "PUT /{db}/_security": {
        "type": "object",
        "properties": dict.fromkeys(("admins", "members", "readers"), _NAMED_ONES),
        "additionalProperties": False,
    },
    "PUT /{db}/_revs_limit": {"type": "integer"},
    "PUT /{db}/_schema": {
        "type": "object",
        "additionalProperties": {"type": "string", "enum": ["counter", "set", "flag"]},
    },
    "PUT /{db}/_local/{local}": {"type": "object"},
    "PUT /{db}/{id}": _DOCUMENT,
    "PUT /{db}/_design/{design}": _DOCUMENT,
    "POST /{db}/{id}/_resolve": _DOCUMENT,
    "POST /{db}/{id}/_edit": {
        "type": "object",
        "required": ["operations"],
        "properties": {"operations": {"type": "array", "items": {"type": "object"}}},
    },
}
_BYTES = {"application/octet-stream": {"schema": {"type": "string"}}}
_ANYTHING: dict[str, Any] = {"schema": {}}
_STATUSES = {
    "200": "here it is",
    "201": "written",
    "202": "begun",
    "206": "the range that was asked for",
    "304": "not changed",
    "400": "something in the request makes no sense",
    "401": "no certificate of the cluster",
    "404": "no such database, document or attachment",
    "405": "not that method",
    "409": "another revision is current",
    "412": "the database exists, a stub is missing, or the schema says otherwise",
    "413": "larger than the limit",
    "408": "the request came too slowly",
    "414": "the target is too long",
    "429": "too many wrong passwords",
    "431": "the headers are too large",
    "424": "the other side of a replication refuses",
    "423": "somebody else holds the lock",
    "415": "a POST that isn't `application/json`, or a body in an encoding other than gzip",
    "416": "a range that isn't there",
    "403": "only an administrator may do that, or nobody",
    "501": "there is no engine of JavaScript",
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
    parameters = [{"name": one, "in": "path", "required": True, "schema": _path_schema(one)} for one in named]
    parameters += [{"name": one, "in": "query", "schema": schema} for one, schema in _TAKES.get(key, {}).items()]
    attachment = "attachment" in named
    raw = attachment or path in ("/_metrics", "/_cluster/backup")  # anything but JSON
    operation: dict[str, Any] = {
        "summary": (route.endpoint.__doc__ or "").strip().splitlines()[0],
        "parameters": parameters,
        "responses": {status: _response(status, meaning, method, raw) for status, meaning in _STATUSES.items()},
    }
    if attachment and method == "PUT":
        operation["requestBody"] = {"content": _BYTES}
    elif key in _BRINGS:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _BRINGS[key]}}}
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
        return {"type": "string", "pattern": "^[a-z][a-z0-9_$()+-]{0,20}$"}
    return {"type": "string", "minLength": 1, "maxLength": 40, "pattern": "^[^_./][^./]*$"}


async def openapi(request: Request) -> JSONAnswer:
    """GET /_openapi : this description."""
    from crdtdb import __version__

    routes = [route for route in request.app.routes if isinstance(route, Route) and route.include_in_schema]
    return JSONAnswer(describe(routes, __version__))


ROUTES = [Route("/_openapi", openapi, methods=["GET"])]
