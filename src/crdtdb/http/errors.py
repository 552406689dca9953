"""Errors as answers: the one place where an HTTP status is decided, in CouchDB's words where it has some."""

from __future__ import annotations

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from crdtdb.couchdb.errors import CouchError
from crdtdb.couchdb.replication.errors import PeerError, ReplicationError
from crdtdb.errors import (
    BookmarkError,
    ConflictError,
    CrdtdbError,
    InvalidDocumentError,
    InvalidIdError,
    InvalidInputError,
    InvalidRevError,
    LockError,
    MissingStubError,
    NotFoundError,
    NoUsableIndexError,
    SchemaError,
    ScriptError,
    ScriptingMissingError,
    SelectorError,
    StoreError,
    StoreFilesError,
    StoreFullError,
    SystemCollectionError,
    TooLargeError,
    UnavailableError,
)
from crdtdb.http.json_io import JSONAnswer
from crdtdb.http.methods import allowed, is_of_database
from crdtdb.limits import DOCUMENT_DEPTH_MAX

_log = logging.getLogger("crdtdb.http")

_ANSWERS: tuple[tuple[type[CrdtdbError], int, str], ...] = (
    (ConflictError, 409, "conflict"),
    (NotFoundError, 404, "not_found"),
    (MissingStubError, 412, "missing_stub"),
    (SystemCollectionError, 403, "forbidden"),
    (TooLargeError, 413, "too_large"),
    (InvalidIdError, 400, "illegal_docid"),
    (InvalidDocumentError, 400, "bad_request"),
    (InvalidRevError, 400, "bad_request"),
    (SelectorError, 400, "invalid_selector"),
    (NoUsableIndexError, 400, "no_usable_index"),
    (BookmarkError, 400, "invalid_bookmark"),
    (SchemaError, 412, "schema_contradicted"),
    (InvalidInputError, 400, "bad_request"),
    (LockError, 412, "lock_lost"),
    (ScriptingMissingError, 501, "not_implemented"),
    (ScriptError, 500, "script_error"),
    (ReplicationError, 424, "replication_failed"),
    (PeerError, 502, "peer_unreachable"),
    (UnavailableError, 503, "service_unavailable"),
    (StoreFullError, 507, "insufficient_storage"),
    (StoreFilesError, 503, "service_unavailable"),
    (StoreError, 500, "internal_server_error"),
)


_FAULTS = frozenset(
    {
        *("bad_arg", "invalid_operator", "invalid_selector_json", "invalid_field_name", "invalid_non_neg_integer"),
        *("invalid_fields", "invalid_field", "invalid_boolean", "invalid_index_name", "invalid_sort_json"),
        *("invalid_sort_field", "unsupported_mixed_sort"),
    }
)
"""Faults of queries for which CouchDB has words of their own: the same."""


def words(error: Exception) -> tuple[int, str, str]:
    """Return status, error and reason for what went wrong."""
    if isinstance(error, CouchError):
        return error.status, error.error, error.reason
    if isinstance(error, ConflictError):
        return 409, "conflict", "Document update conflict."
    if isinstance(error, NotFoundError):
        return 404, "not_found", "deleted" if error.deleted else "missing"
    if isinstance(error, InvalidRevError):
        return 400, "bad_request", "Invalid rev format"
    if isinstance(error, InvalidInputError) and error.fault in _FAULTS:
        return 400, error.fault, str(error)
    for kind, status, word in _ANSWERS:
        if isinstance(error, kind):
            return status, word, str(error)
    if isinstance(error, RecursionError):  # of a key, say, which isn't bounded in depth as documents are
        return 413, "too_large", f"The JSON is nested too deeply: a document may have {DOCUMENT_DEPTH_MAX} levels"
    if isinstance(error, HTTPException):
        word = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        return error.status_code, word, error.detail
    return 500, "internal_server_error", "The node's log says what happened."


async def answer_error(request: Request, error: Exception) -> JSONAnswer:
    """Answer a request that went wrong."""
    status, word, reason = words(error)
    if status >= 500 and status not in (501, 502, 503):
        known = isinstance(error, CrdtdbError)
        path = request.scope.get("raw_path", b"").decode("ascii", "replace")
        _log.error("%s %s: %s", request.method, path, error, exc_info=None if known else error)
    if isinstance(error, HTTPException):
        return _unserved(request, error)
    return JSONAnswer({"error": word, "reason": reason}, status)


def _unserved(request: Request, error: HTTPException) -> JSONAnswer:
    """Answer for a path or a method that no route serves: 404 where the database isn't there, whatever was asked of it."""
    status, word, reason = words(error)
    routes, path = request.app.routes, request.scope["path"]
    name = path.split("/")[1]
    if status in (404, 405) and is_of_database(routes, name) and name not in request.app.state.database:
        return JSONAnswer({"error": "not_found", "reason": "Database does not exist."}, 404)
    if status == 405:
        served = ",".join(allowed(routes, path))
        return JSONAnswer({"error": word, "reason": f"Only {served} allowed"}, 405, {"allow": served})
    headers = dict(error.headers or {})
    return JSONAnswer({"error": word, "reason": "missing" if status == 404 else reason}, status, headers)


async def answer_nobody(_request: Request, _error: Exception) -> Response:
    """End a request whose client went away before its body was whole: the answer has no reader."""
    return Response(status_code=400)


def as_result(doc_id: Any, error: CrdtdbError) -> dict[str, Any]:
    """Return an error as one result among those of `_bulk_docs`. An id that is no text isn't repeated: it may be anything."""
    _, word, reason = words(error)
    return {"id": doc_id if isinstance(doc_id, str) else None, "error": word, "reason": reason}
