"""What CouchDB says when it refuses something: an error, and a reason in its words."""

from __future__ import annotations

from crdtdb.database.document import check_id
from crdtdb.documents import Rev
from crdtdb.errors import CrdtdbError, InvalidRevError


class CouchError(CrdtdbError):
    """A request, or one document of it, that is refused with a status and CouchDB's two words for it."""

    def __init__(self, status: int, error: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.error, self.reason = status, error, reason


def bad_request(reason: str) -> CouchError:
    """Return the refusal of a request that makes no sense."""
    return CouchError(400, "bad_request", reason)


def query_parse_error(reason: str) -> CouchError:
    """Return the refusal of a query parameter."""
    return CouchError(400, "query_parse_error", reason)


def missing_database() -> CouchError:
    """Return the refusal for a database that doesn't exist."""
    return CouchError(404, "not_found", "Database does not exist.")


def missing(deleted: bool = False) -> CouchError:
    """Return the refusal for a document or revision that isn't there."""
    return CouchError(404, "not_found", "deleted" if deleted else "missing")


def checked_id(doc_id: object) -> str:
    """Return a document's id that is allowed. Raises RefusedError; InvalidIdError for one that is too long."""
    if not isinstance(doc_id, str):
        raise CouchError(400, "illegal_docid", "Document id must be a string")
    if not doc_id:
        raise CouchError(400, "illegal_docid", "Document id must not be empty")
    if doc_id.startswith("_") and (not doc_id.startswith("_design/") or doc_id == "_design/"):
        raise CouchError(400, "illegal_docid", "Only reserved document ids may start with underscore.")
    return check_id(doc_id)


def checked_rev(rev: object) -> Rev:
    """Return a revision that was named. Raises RefusedError."""
    try:
        return Rev.parse(rev)  # type: ignore[arg-type]
    except InvalidRevError as error:
        raise bad_request("Invalid rev format") from error
