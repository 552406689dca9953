"""A document as a client of CouchDB's protocol sends it: its special members apart from its value."""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, NamedTuple

from crdtdb.canonical_json import canonical_whole
from crdtdb.couchdb.errors import CouchError, bad_request, checked_id, checked_rev
from crdtdb.documents import Rev
from crdtdb.documents.attachments import Stub
from crdtdb.documents.external_revisions import ExternalRevision
from crdtdb.limits import REQUEST_BYTES_MAX, REVS_LIMIT

_IGNORED = frozenset({"_conflicts", "_deleted_conflicts", "_local_seq", "_revs_info", "_crdt"})
_KNOWN = frozenset({"_id", "_rev", "_deleted", "_revisions", "_attachments"})


class Data(NamedTuple):
    """An attachment that came with its bytes."""

    content_type: str
    data: bytes
    revpos: int | None = None


class Uploaded(NamedTuple):
    """An attachment that was uploaded: the name of the upload, and what it is."""

    content_type: str
    upload: Any
    revpos: int | None = None


class Follows(NamedTuple):
    """An attachment whose bytes follow in the same request."""

    content_type: str
    length: int | None
    revpos: int | None


Attachment = Data | Uploaded | Follows | Stub


class ParsedDocument(NamedTuple):
    """A document that is to be written. `ancestors` are the digests before the revision's own, newest first."""

    doc_id: str
    rev: Rev | None
    ancestors: tuple[str, ...]
    deleted: bool
    text: bytes
    attachments: Mapping[str, Attachment]

    def foreign(self) -> ExternalRevision:
        """Return it as a revision that was made elsewhere. Raises RefusedError if it doesn't say which."""
        if self.rev is None:
            raise bad_request("When `new_edits: false`, the document needs a _rev")
        return ExternalRevision(self.rev, self.ancestors, self.text, self.deleted)


def incoming(body: Any, doc_id: str | None = None) -> ParsedDocument:
    """Read a document; `doc_id` stands in for an `_id` that it doesn't have. Raises RefusedError, InvalidDocumentError."""
    if not isinstance(body, Mapping):
        raise bad_request("Document must be a JSON object")
    for key in body:
        if key.startswith("_") and key not in _KNOWN and key not in _IGNORED:
            raise CouchError(400, "doc_validation", f"Bad special document member: {key[:80]}")
    named = checked_id(body.get("_id", doc_id))
    rev = checked_rev(body["_rev"]) if body.get("_rev") is not None else None
    rev, ancestors = _revisions(body.get("_revisions"), rev)
    text = canonical_whole({key: value for key, value in body.items() if not key.startswith("_")})
    deleted = body.get("_deleted", False)
    if not isinstance(deleted, bool):
        raise CouchError(400, "doc_validation", "`_deleted` must be a boolean")
    return ParsedDocument(named, rev, ancestors, deleted, text, _attachments(body.get("_attachments")))


def _revisions(revisions: Any, rev: Rev | None) -> tuple[Rev | None, tuple[str, ...]]:
    """Read `_revisions`: the digests from the revision's own on, newest first."""
    if revisions is None:
        return rev, ()
    if not isinstance(revisions, Mapping):
        raise CouchError(400, "doc_validation", "_revisions must be an object")
    start, ids = revisions.get("start"), revisions.get("ids")
    if type(start) is not int or start < 1:
        raise CouchError(400, "doc_validation", "_revisions.start isn't an integer.")
    if not isinstance(ids, list) or not ids or len(ids) > start:
        raise CouchError(400, "doc_validation", "_revisions.ids isn't a array.")
    line = [checked_rev(f"{start - n}-{digest}") if isinstance(digest, str) else None for n, digest in enumerate(ids)]
    if any(one is None for one in line):
        raise CouchError(400, "doc_validation", "RevId isn't a string")
    if rev is not None and line[0] != rev:
        raise CouchError(400, "doc_validation", "_revisions doesn't lead to _rev")
    return line[0], tuple(ids[1 : REVS_LIMIT + 1])


def _attachments(attachments: Any) -> dict[str, Attachment]:
    if attachments is None:
        return {}
    if not isinstance(attachments, Mapping):
        raise bad_request("Attachments property must be an object")
    return {checked_attachment_name(name): _attachment(name, one) for name, one in attachments.items()}


def checked_attachment_name(name: str) -> str:
    """Return the name of an attachment that is allowed. Raises RefusedError."""
    if not name:
        raise bad_request("Attachment name must not be empty")
    if name.startswith("_"):
        raise bad_request(f"Attachment name '{name[:80]}' starts with prohibited character '_'")
    return name


def _unzipped(data: bytes) -> bytes:
    """Return what was compressed, however much that is, up to a limit. Raises ValueError, zlib.error."""
    unzip = zlib.decompressobj(wbits=31)
    found = unzip.decompress(data, REQUEST_BYTES_MAX)
    if not unzip.eof or unzip.unused_data:
        raise ValueError("cut off, or too large")
    return found


def _attachment(name: str, one: Any) -> Attachment:
    if not isinstance(one, Mapping):
        raise bad_request(f"Attachment '{name[:80]}' must be an object")
    content_type = one.get("content_type", "application/octet-stream")
    revpos, digest = one.get("revpos"), one.get("digest")
    if not isinstance(content_type, str) or not content_type.isprintable() or len(content_type) > 1024:
        raise bad_request(f"Attachment '{name[:80]}' has no content_type that can be sent in a header")
    if revpos is not None and (type(revpos) is not int or not 0 <= revpos < 1 << 53):
        raise bad_request(f"Attachment '{name[:80]}' has a revpos that is no generation")
    if one.get("stub") is True:
        return Stub(digest if isinstance(digest, str) else None, revpos)
    encoding = one.get("encoding", "identity")
    if encoding not in ("identity", "gzip") or (encoding == "gzip" and one.get("follows") is True):
        raise bad_request(f"Attachment '{name[:80]}' comes encoded: send its bytes as they are")
    if one.get("follows") is True:
        length = one.get("length")
        return Follows(content_type, length if type(length) is int and length >= 0 else None, revpos)
    data = one.get("data")
    try:
        if not isinstance(data, str):
            raise TypeError("no data")
        decoded = b64decode(data.encode("ascii"), validate=True)
        return Data(content_type, decoded if encoding == "identity" else _unzipped(decoded), revpos)
    except (TypeError, ValueError, zlib.error) as error:
        raise bad_request(f"Invalid attachment data for {name[:80]}") from error
