"""A document as a client of CouchDB's protocol sends it: its special members apart from its value."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, NamedTuple

from crdtdb.canonical_json import whole_document_text
from crdtdb.couchdb.errors import (
    CouchError,
    bad_request,
    checked_attachment_name,
    checked_id,
    checked_rev,
    checked_revisions,
)
from crdtdb.database.commands import Data, Uploaded
from crdtdb.documents import Rev
from crdtdb.documents.attachments import Stub
from crdtdb.documents.content_encoding import GZIP, GzipEncoder, is_compressible
from crdtdb.documents.external_revisions import ExternalRevision
from crdtdb.errors import TooLargeError
from crdtdb.limits import GENERATION_MAX

_WITHOUT_BLANKS = str.maketrans("", "", " \t\r\n")
_IGNORED = frozenset(
    {
        *("_conflicts", "_deleted_conflicts", "_local_seq", "_revs_info", "_crdt", "_access"),
        *("_replication_id", "_replication_state", "_replication_state_time", "_replication_state_reason"),
        "_replication_stats",
    }
)
_KNOWN = frozenset({"_id", "_rev", "_deleted", "_revisions", "_attachments"})


class Follows(NamedTuple):
    """An attachment whose bytes follow in the same request."""

    content_type: str
    length: int | None
    revpos: int | None
    encoded: bool = False
    encoded_length: int | None = None
    digest: str | None = None


Attachment = Data | Uploaded | Follows | Stub


class ParsedDocument(NamedTuple):
    """A document that is to be written. `ancestors` are the digests before the revision's own, newest first."""

    doc_id: str
    rev: Rev | None
    ancestors: tuple[str, ...]
    deleted: bool
    text: bytes
    attachments: Mapping[str, Attachment]

    def external(self) -> ExternalRevision:
        """Return it as a revision that was made elsewhere. Raises CouchError if it doesn't say which."""
        if self.rev is None:
            raise bad_request("When `new_edits: false`, the document needs `_rev` or `_revisions` specified")
        return ExternalRevision(self.rev, self.ancestors, self.text, self.deleted)

    def check_attachments(self, bytes_max: int) -> None:
        """Raise TooLargeError for an attachment within it that is larger."""
        for name, one in self.attachments.items():
            if isinstance(one, Data) and len(one.data) > bytes_max:
                raise TooLargeError(
                    f"the attachment {name[:80]!r} has {len(one.data):,} bytes, the limit is {bytes_max:,}"
                )


def parse_document(body: Any, doc_id: str | None = None) -> ParsedDocument:
    """Read a document; `doc_id` stands in for an `_id` that it doesn't have. Raises CouchError, InvalidDocumentError."""
    if not isinstance(body, Mapping):
        raise bad_request("Document must be a JSON object")
    for key in body:
        if key.startswith("_") and key not in _KNOWN and key not in _IGNORED:
            raise CouchError(400, "doc_validation", f"Bad special document member: {key[:80]}")
    named = checked_id(body.get("_id", doc_id))
    rev = checked_rev(body["_rev"]) if "_rev" in body else None
    if body.get("_revisions") is not None:
        rev = None  # what `_revisions` says goes over `_rev`, as in CouchDB
    rev, ancestors = checked_revisions(body.get("_revisions"), rev)
    text = whole_document_text({key: value for key, value in body.items() if not key.startswith("_")})
    deleted = body.get("_deleted", False)
    if not isinstance(deleted, bool):
        raise CouchError(400, "doc_validation", "Bad special document member: _deleted")
    return ParsedDocument(named, rev, ancestors, deleted, text, _attachments(body.get("_attachments", {})))


def parse_document_at(body: Any, doc_id: str) -> ParsedDocument:
    """Read a document that has a place: its id goes over that in the document, as in CouchDB."""
    return parse_document({**body, "_id": doc_id} if isinstance(body, Mapping) else body)


def _attachments(attachments: Any) -> dict[str, Attachment]:
    if not isinstance(attachments, Mapping):
        raise CouchError(400, "doc_validation", "Bad special document member: _attachments")
    # What is no object is left out, as in CouchDB.
    named = {name: one for name, one in attachments.items() if isinstance(one, Mapping)}
    return {checked_attachment_name(name): _attachment(name, one) for name, one in named.items()}


def _attachment(name: str, one: Mapping[str, Any]) -> Attachment:
    content_type = one.get("content_type", "application/octet-stream")
    revpos, digest = one.get("revpos"), one.get("digest")
    if not isinstance(content_type, str) or not content_type.isprintable() or len(content_type) > 1024:
        raise bad_request(f"Attachment '{name[:80]}' has no content_type that can be sent in a header")
    is_generation = type(revpos) is int and 0 <= revpos <= GENERATION_MAX
    if one.get("stub") is True:
        kept = revpos if revpos is None or is_generation else -1  # no revision has it
        return Stub(digest if isinstance(digest, str) else None, kept)
    if not is_generation:
        revpos = None  # it is the node's to set, so nothing depends on it
    if one.get("follows") is True:
        return _follows(name, content_type, revpos, one)
    data = one.get("data")
    try:
        if not isinstance(data, str):
            raise TypeError("no data")
        # As CouchDB has it, `data` is never compressed, whatever `encoding` says of how it is kept.
        return Data(content_type, _decoded(data), revpos)
    except (TypeError, ValueError) as error:
        raise bad_request(f"Invalid attachment data for {name[:80]}") from error


def _decoded(data: str) -> bytes:
    """Return the bytes of base64, which may be broken into lines. Raises ValueError."""
    text = data.translate(_WITHOUT_BLANKS)
    if len(text) % 4:
        raise ValueError("cut off, or padded too much")
    return b64decode(text.encode("ascii"), validate=True)


def _follows(name: str, content_type: str, revpos: int | None, one: Mapping[str, Any]) -> Follows:
    encoding = one.get("encoding", "identity")
    if encoding not in ("identity", GZIP):
        raise bad_request(
            f"Attachment '{name[:80]}' comes in an encoding that isn't known: send it as gzip or as it is"
        )
    length, encoded_length = (
        size if type(size) is int and size >= 0 else None for size in (one.get("length"), one.get("encoded_length"))
    )
    digest = one.get("digest")
    return Follows(
        content_type, length, revpos, encoding == GZIP, encoded_length, digest if isinstance(digest, str) else None
    )


def compressed(document: ParsedDocument) -> ParsedDocument:
    """Return a document whose attachments that CouchDB keeps compressed are so: it takes a while if they are large."""
    found = {name: _compressed(one) for name, one in document.attachments.items() if isinstance(one, Data)}
    return document._replace(attachments={**document.attachments, **found}) if found else document


def _compressed(one: Data) -> Data:
    if not is_compressible(one.content_type):
        return one
    encoder = GzipEncoder()
    return one._replace(data=encoder.encode(one.data) + encoder.finish(), decoded_length=len(one.data))
