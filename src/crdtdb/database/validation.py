"""Checks of what callers give: ids, names, revisions, bodies. The library and CouchDB's protocol use the same.

Each check returns the value in the form in which the database uses it, or raises an InvalidInputError whose `fault` names the
broken rule. `crdtdb.couchdb` has words of its own for some faults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from crdtdb.canonical_json import whole_document_text
from crdtdb.documents import NOTHING_GIVEN, Given, Rev
from crdtdb.documents.attachments import KEY as ATTACHMENTS
from crdtdb.documents.attachments import check_attachments
from crdtdb.documents.given import take_given
from crdtdb.errors import InvalidDocumentError, InvalidIdError, InvalidInputError
from crdtdb.limits import COLLECTION_NAME_BYTES_MAX, DOCUMENT_ID_BYTES_MAX, REVS_LIMIT

_COLLECTION_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*|system\.[a-z]+")
_META = ("_id", "_rev", "_conflicts", "_deleted", "_revisions", "_revs_info", "_crdt")


def check_id(doc_id: object) -> str:
    """Return a document id: 1 to DOCUMENT_ID_BYTES_MAX bytes of UTF-8, not beginning with "_" but for "_design/…".

    Raises InvalidIdError; its `fault` is "type", "empty", "reserved", "encoding" or "length".
    """
    if type(doc_id) is str and doc_id.isascii() and 0 < len(doc_id) <= DOCUMENT_ID_BYTES_MAX and doc_id[0] != "_":
        return doc_id  # as nearly all are
    if not isinstance(doc_id, str):
        raise InvalidIdError(f"a document id is a string, not {doc_id!r}", fault="type")
    if not doc_id:
        raise InvalidIdError("a document id can't be empty", fault="empty")
    if doc_id.startswith("_") and (not doc_id.startswith("_design/") or doc_id == "_design/"):
        raise InvalidIdError(
            f"{doc_id[:80]!r}: ids that begin with '_' are reserved for the database, except '_design/…'",
            fault="reserved",
        )
    try:
        size = len(doc_id.encode())
    except UnicodeEncodeError as error:
        raise InvalidIdError(
            f"{doc_id[:80]!r} has a lone surrogate, which UTF-8 can't encode", fault="encoding"
        ) from error
    if size > DOCUMENT_ID_BYTES_MAX:
        raise InvalidIdError(
            f"the id {doc_id[:40]!r}… has {size} bytes, the limit is {DOCUMENT_ID_BYTES_MAX}", fault="length"
        )
    return doc_id


def check_name(name: object) -> str:
    """Return a collection name: a-z, then a-z, 0-9 and _$()+-/, at most COLLECTION_NAME_BYTES_MAX characters.

    Raises InvalidIdError.
    """
    if not isinstance(name, str) or not _COLLECTION_NAME.fullmatch(name) or len(name) > COLLECTION_NAME_BYTES_MAX:
        raise InvalidIdError(
            f"{str(name)[:80]!r} can't be the name of a collection: it begins with a-z, goes on with a-z, 0-9 and _$()+-/, "
            f"and has at most {COLLECTION_NAME_BYTES_MAX} characters"
        )
    return name


def check_rev(rev: object) -> Rev | None:
    """Return a revision, None if there is none. Raises InvalidRevError."""
    return None if rev is None else Rev.parse(rev)  # type: ignore[arg-type]


def check_attachment_name(name: object) -> str:
    """Return the name of an attachment: text that doesn't begin with "_".

    Raises InvalidInputError; its `fault` is "type", "empty" or "reserved".
    """
    if isinstance(name, str) and name and not name.startswith("_"):
        return name
    fault = "type" if not isinstance(name, str) else "reserved" if name else "empty"
    raise InvalidInputError(
        f"{str(name)[:80]!r} can't be the name of an attachment: it is text that doesn't begin with '_'", fault=fault
    )


def check_whole(body: object) -> tuple[bytes, Given]:
    """Return the canonical text of a whole document, and the values of field types that stood in it.

    Raises InvalidDocumentError, TooLargeError.
    """
    try:
        return check_body(body), NOTHING_GIVEN
    except InvalidDocumentError:
        if not isinstance(body, Mapping):
            raise
        rest, fields = take_given(body)
        if not fields:
            raise
    return check_body(rest), fields


def check_body(body: object) -> bytes:
    """Return the canonical text of a body without its `_`-names, but with attachments that were read with it.

    Raises InvalidDocumentError, TooLargeError.
    """
    if type(body) is dict:
        text = whole_document_text(body)
        if b"_" not in text:  # one byte is found many times faster than two
            return text
    elif not isinstance(body, Mapping):
        raise InvalidDocumentError(f"a document is an object (a dict), not {type(body).__name__}")
    reserved = [key for key in body if isinstance(key, str) and key[:1] == "_" and key != ATTACHMENTS]
    if ATTACHMENTS in body:
        check_attachments(body[ATTACHMENTS])
    for key in reserved:
        if key not in _META:
            raise InvalidDocumentError(f"{key[:80]!r}: names that begin with '_' are reserved for the database")
    if reserved or type(body) is not dict:
        return whole_document_text({key: value for key, value in body.items() if key not in reserved})
    return text


def check_patch(patch: object) -> dict[str, Any]:
    """Return a merge patch for a document. Raises InvalidDocumentError."""
    if not isinstance(patch, Mapping):
        raise InvalidDocumentError(f"a patch is an object (a dict), not {type(patch).__name__}")
    for key in patch:
        if not isinstance(key, str) or key.startswith("_"):
            raise InvalidDocumentError(f"{str(key)[:80]!r} can't be patched: a name that doesn't begin with '_' can")
    return dict(patch)


def read_revisions(revisions: object, rev: Rev | None) -> tuple[Rev | None, tuple[str, ...]]:
    """Read CouchDB's `_revisions`: `{"start": 3, "ids": ["c…", "b…", "a…"]}`, the digests newest first.

    Returns the revision that they belong to, which is `rev` if there is one, and the digests of at most REVS_LIMIT ancestors.
    Raises InvalidRevError for a digest that none can be, and InvalidInputError, whose `fault` is "type", "start", "ids", "id"
    or "leaf".
    """
    if revisions is None:
        return rev, ()
    if not isinstance(revisions, Mapping):
        raise InvalidInputError("`_revisions` is an object with `start` and `ids`", fault="type")
    start, ids = revisions.get("start"), revisions.get("ids")
    if type(start) is not int or start < 1:
        raise InvalidInputError(
            f"`_revisions.start` is a generation, a whole number from 1, not {start!r:.40}", fault="start"
        )
    if not isinstance(ids, list) or not 0 < len(ids) <= start:
        raise InvalidInputError(f"`_revisions.ids` is an array of 1 to `start`, {start}, digests", fault="ids")
    line = [Rev.parse(f"{start - n}-{digest}") if isinstance(digest, str) else None for n, digest in enumerate(ids)]
    if None in line:
        raise InvalidInputError("`_revisions.ids` has something that isn't a string in it", fault="id")
    if rev is not None and line[0] != rev:
        raise InvalidInputError(
            f"`_revisions` leads to {line[0]}, and not to the document's `_rev`, {rev}", fault="leaf"
        )
    return line[0], tuple(ids[1 : REVS_LIMIT + 1])
