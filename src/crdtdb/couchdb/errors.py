"""CouchDB's errors: a status, an error and a reason in its words, also for the faults that the database's checks find."""

from __future__ import annotations

from crdtdb.database.validation import check_attachment_name, check_id, read_revisions
from crdtdb.documents import Rev
from crdtdb.errors import CrdtdbError, InvalidIdError, InvalidInputError, InvalidRevError

_ID_FAULTS = {
    "type": "Document id must be a string",
    "empty": "Document id must not be empty",
    "reserved": "Only reserved document ids may start with underscore.",
}
_REVISIONS_FAULTS = {
    "type": "_revisions must be an object",
    "start": "_revisions.start isn't an integer.",
    "ids": "_revisions.ids isn't a array.",
    "id": "RevId isn't a string",
    "leaf": "_revisions doesn't lead to _rev",
}


class CouchError(CrdtdbError):
    """A request, or one document of it, that is refused with a status and CouchDB's two words for it."""

    def __init__(self, status: int, error: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.error, self.reason = status, error, reason


def bad_request(reason: str) -> CouchError:
    """Return the error of a malformed request."""
    return CouchError(400, "bad_request", reason)


def query_parse_error(reason: str) -> CouchError:
    """Return the error of a malformed query parameter."""
    return CouchError(400, "query_parse_error", reason)


def missing_database() -> CouchError:
    """Return the error for a database that doesn't exist."""
    return CouchError(404, "not_found", "Database does not exist.")


def missing(deleted: bool = False) -> CouchError:
    """Return the error for a document or revision that doesn't exist."""
    return CouchError(404, "not_found", "deleted" if deleted else "missing")


def checked_id(doc_id: object) -> str:
    """Return a document's id that is allowed. Raises CouchError; InvalidIdError for one that is too long."""
    try:
        return check_id(doc_id)
    except InvalidIdError as error:
        if error.fault not in _ID_FAULTS:
            raise
        raise CouchError(400, "illegal_docid", _ID_FAULTS[error.fault]) from error


def checked_rev(rev: object) -> Rev:
    """Return a revision that was named. Raises CouchError."""
    try:
        return Rev.parse(rev)  # type: ignore[arg-type]
    except InvalidRevError as error:
        raise bad_request("Invalid rev format") from error


def checked_revisions(revisions: object, rev: Rev | None) -> tuple[Rev | None, tuple[str, ...]]:
    """Return what `_revisions` says: the revision, and the digests of its ancestors, newest first. Raises CouchError."""
    try:
        return read_revisions(revisions, rev)
    except InvalidRevError as error:
        raise bad_request("Invalid rev format") from error
    except InvalidInputError as error:
        raise CouchError(400, "doc_validation", _REVISIONS_FAULTS[error.fault]) from error


def checked_attachment_name(name: str) -> str:
    """Return the name of an attachment that is allowed. Raises CouchError."""
    try:
        return check_attachment_name(name)
    except InvalidInputError as error:
        if error.fault == "empty":
            raise bad_request("Attachment name must not be empty") from error
        raise bad_request(f"Attachment name '{name[:80]}' starts with prohibited character '_'") from error
