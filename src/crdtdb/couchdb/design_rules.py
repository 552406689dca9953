"""What may stand in a design document: CouchDB refuses others, and so does a node where one is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crdtdb.couchdb.errors import CouchError
from crdtdb.errors import InvalidInputError
from crdtdb.query.definitions import LANGUAGE as QUERY
from crdtdb.query.reducing import built_in

_FUNCTIONS = ("filters", "lists", "shows", "updates")


def check_design(body: Mapping[str, Any]) -> None:
    """Raise CouchError for a design document that has something else where its functions are to stand."""
    language = body.get("language", "javascript")
    if not isinstance(language, str):
        raise _wrong("language", "string")
    for name in ("options", *_FUNCTIONS):
        if name in body and not isinstance(body[name], Mapping):
            raise _wrong(name, "object")
    for kind in _FUNCTIONS:
        for name, function in body.get(kind, {}).items():
            if not isinstance(function, (str, Mapping)):
                raise _wrong(f"{kind}.{name}", "string or object")
    if body.get("options", {}).get("partitioned") is True:
        raise _refused("partitioned option cannot be true in a non-partitioned database.")
    if "rewrites" in body and not isinstance(body["rewrites"], (str, list)):
        raise _wrong("rewrites", "array or string")
    if "validate_doc_update" in body and not isinstance(body["validate_doc_update"], str):
        raise _wrong("validate_doc_update", "string")
    if "views" in body:
        _check_views(body["views"], language)


def _check_views(views: Any, language: str) -> None:
    if not isinstance(views, Mapping):
        raise _wrong("views", "object")
    for name, view in views.items():
        if name == "lib":
            continue
        if not isinstance(view, Mapping):
            raise _wrong(f"views.{name}", "object")
        if "map" not in view:
            raise _refused(f"View `{name}` must contain map function")
        if not isinstance(view["map"], Mapping if language == QUERY else str):
            raise _wrong(f"views.{name}.map", "object" if language == QUERY else "string")
        _check_reduce(name, view.get("reduce", ""))


def _check_reduce(name: str, reduce: Any) -> None:
    if not isinstance(reduce, str):
        raise _wrong(f"views.{name}.reduce", "string")
    if reduce.startswith("_"):
        try:
            built_in(reduce.split()[0])
        except InvalidInputError as error:
            raise _refused(f"`{reduce[:80]}` is not a supported reduce function.") from error


def _wrong(field: str, kind: str) -> CouchError:
    return _refused(f"`{field}` field must have {kind} type")


def _refused(reason: str) -> CouchError:
    return CouchError(400, "invalid_design_doc", reason)
