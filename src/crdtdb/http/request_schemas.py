"""What requests bring, by endpoint: the parameters of the query and the body, as JSON Schema. `/_openapi` shows them.

They say what the API takes, not what a test tries: that narrows them itself.
"""

from __future__ import annotations

from typing import Any

from crdtdb.database.feeds.watch import KINDS

_FLAG = {"type": "string", "enum": ["true", "false"]}
_NUMBER = {"type": "integer", "minimum": 0}
_REV = {"type": "string", "pattern": "^[1-9][0-9]{0,8}-[0-9a-f]{32}$"}
_JSON = {"type": "string", "contentMediaType": "application/json"}
"""A value as JSON, as the keys of a range are."""
_DOCUMENT = {"type": "object", "properties": {"_rev": _REV, "_deleted": {"type": "boolean"}}}
_REVS = {"type": "object", "additionalProperties": {"type": "array", "items": _REV}}

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
    "open_revs": {"type": "string", "description": "`all`, or a JSON array of revisions"},
    "crdt": _FLAG,
}
_RANGE = {
    "startkey": _JSON,
    "endkey": _JSON,
    "key": _JSON,
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
    "since": {"type": "string", "description": "`0`, `now`, or a `seq` of this feed"},
    "style": {"type": "string", "enum": ["main_only", "all_docs"]},
    "timeout": {"type": "integer", "minimum": 0, "maximum": 60_000},
    "heartbeat": {"type": "string", "pattern": "^(true|false|0*[1-9][0-9]*)$", "description": "milliseconds"},
    "filter": {"type": "string", "description": "`_doc_ids`, `_selector`, `_design`, `_view`, or `design/filter`"},
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

QUERIES: dict[str, dict[str, Any]] = {
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

_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_SIDE = {
    "description": "The name of a collection here, the URL of a database, or an object with that as `url`",
    "oneOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "required": ["url"],
            "properties": {
                "url": {"type": "string", "minLength": 1},
                "auth": {
                    "type": "object",
                    "required": ["basic"],
                    "properties": {
                        "basic": {
                            "type": "object",
                            "required": ["username", "password"],
                            "properties": {"username": {"type": "string"}, "password": {"type": "string"}},
                        }
                    },
                },
                "headers": _TEXTS,
                "tls": _TEXTS,
            },
            "additionalProperties": False,
        },
    ],
}
_REPLICATION: dict[str, Any] = {
    "type": "object",
    "required": ["source", "target"],
    "properties": {
        "source": _SIDE,
        "target": _SIDE,
        "_id": {"type": "string"},
        "_rev": _REV,
        "continuous": {"type": "boolean"},
        "create_target": {"type": "boolean"},
        "cancel": {"type": "boolean"},
        "doc_ids": {"type": "array", "items": {"type": "string"}},
        "selector": {"type": "object"},
        "filter": {"type": "string", "description": "`design/filter` at the source"},
        "query_params": {"type": "object"},
        "since_seq": {"description": "A `seq` of the source to begin behind"},
    },
    "additionalProperties": False,
}
_PRINCIPALS = {
    "type": "object",
    "properties": {name: {"type": "array", "items": {"type": "string", "minLength": 1}} for name in ("names", "roles")},
}
_USER = {
    "type": "object",
    "properties": {"password": {"type": "string"}, "roles": {"type": "array", "items": {"type": "string"}}},
}
_SORT = {
    "oneOf": [
        {"type": "string", "minLength": 1},
        {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": {"enum": ["asc", "desc"]}},
    ]
}
_SELECTOR = {"type": "object", "description": "A Mango selector"}
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

BODIES: dict[str, dict[str, Any]] = {
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
    "POST /_users": _USER,
    "PUT /_users/{name}": _USER,
    "PUT /{db}/_security": {
        "type": "object",
        "properties": dict.fromkeys(("admins", "members", "readers"), _PRINCIPALS),
    },
    "PUT /{db}/_revs_limit": {"type": "integer"},
    "PUT /{db}/_schema": {
        "type": "object",
        "additionalProperties": {"type": "string", "description": "The name of a field type, such as `counter`"},
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
