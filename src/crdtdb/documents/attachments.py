"""Attachments: files named in a document's body and stored by their digest.

A body that has some holds them under `_attachments`, so they are part of the revision's name and of what a conflict is about:

    name -> {"content_type", "digest", "length", "revpos", "sha256"}

`digest` is CouchDB's (`md5-…`), `revpos` the generation that attached it, `sha256` names the content: it is kept once, however
many documents have it. A content that is kept compressed has two more:

    "encoding"          "gzip"
    "decoded_length"    the length that readers see, CouchDB's `length`; `length` is that of the compressed bytes

So `digest`, `length` and `sha256` always mean the bytes that are kept: nodes that know no encodings replicate them as well.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from crdtdb.canonical_json import canonical, load, merged_text
from crdtdb.documents.content_encoding import GZIP
from crdtdb.errors import InvalidDocumentError, MissingStubError

KEY = "_attachments"
_ENTRY = {"content_type", "digest", "length", "revpos", "sha256"}
_ENCODED_ENTRY = _ENTRY | {"encoding", "decoded_length"}
_IN_TEXT = b'"_attachments":{'


class Content(NamedTuple):
    """What is known of a file's bytes: two digests and the length."""

    sha256: bytes
    md5: bytes
    length: int

    @property
    def digest(self) -> str:
        """CouchDB's name of the content."""
        return "md5-" + b64encode(self.md5).decode()


class New(NamedTuple):
    """A file that a write brings."""

    content_type: str
    content: Content
    revpos: int | None = None
    """The generation that attached it, where a revision made elsewhere says so."""
    decoded_length: int | None = None
    """The length that readers see, if the content is compressed."""


class Stub(NamedTuple):
    """A file that a write keeps: the parent revision has it under the same name."""

    digest: str | None = None
    revpos: int | None = None


Attached = Mapping[str, New | Stub]
"""What a write says of its files, by their names."""


def attachments_in(text: bytes | None) -> dict[str, dict[str, Any]]:
    """Return the attachments of a body, by their names."""
    if text is None or not may_have_attachments(text):
        return {}
    found = load(text).get(KEY)
    return found if isinstance(found, dict) else {}


def may_have_attachments(text: bytes) -> bool:
    """Whether a body may refer to contents; False is certain."""
    return _IN_TEXT in text


def contents_in(text: bytes | None) -> Iterator[Content]:
    """Yield the contents that a body refers to. Raises InvalidDocumentError for a body that no node has written."""
    for name, one in attachments_in(text).items():
        try:
            sha256, length = bytes.fromhex(one["sha256"]), one["length"]
            if len(sha256) != 32 or type(length) is not int or length < 0:
                raise ValueError(length)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidDocumentError(f"the attachment {name[:80]!r} names no content: {error}") from error
        yield Content(sha256, b"", length)


def check_attachments(attachments: Any) -> None:
    """Raise InvalidDocumentError for attachments that aren't as a reader got them: new ones are put by `attach`."""
    if not isinstance(attachments, Mapping):
        raise InvalidDocumentError("_attachments is an object")
    for name, one in attachments.items():
        if not isinstance(one, Mapping) or not _is_entry(one):
            raise InvalidDocumentError(
                f"the attachment {str(name)[:80]!r} isn't as it was read: put a new one by `attach`, take one away by `detach`"
            )
    list(contents_in(canonical({KEY: attachments})))


def _is_entry(one: Mapping[str, Any]) -> bool:
    if set(one) == _ENTRY:
        return True
    return set(one) == _ENCODED_ENTRY and one["encoding"] == GZIP and type(one["decoded_length"]) is int


def is_encoded(entry: Mapping[str, Any]) -> bool:
    """Whether the content of an attachment is kept compressed."""
    return entry.get("encoding") == GZIP


def as_read(entry: Mapping[str, Any], *, encodings: bool = False) -> dict[str, Any]:
    """Return what CouchDB says of an attachment; with `encodings` also how it is compressed."""
    shown = {key: entry[key] for key in ("content_type", "revpos", "digest", "length")}
    if not is_encoded(entry):
        return shown
    shown["length"] = entry["decoded_length"]
    return {**shown, "encoding": GZIP, "encoded_length": entry["length"]} if encodings else shown


def with_attachments(text: bytes, attached: Attached, parents: Sequence[Mapping[str, Any]], generation: int) -> bytes:
    """Return the text of a body with its attachments.

    `parents` are the attachments of the revisions in which a stub's file may be found, the nearest first; `generation` is that
    of the revision that is being written. Raises MissingStubError for a stub that none of them has.
    """
    if not attached:
        return text
    found = {
        name: _entry(one, generation) if isinstance(one, New) else _kept(name, one, parents)
        for name, one in attached.items()
    }
    return merged_text({**load(text), KEY: found})


def _entry(one: New, generation: int) -> dict[str, Any]:
    return {
        "content_type": one.content_type,
        "digest": one.content.digest,
        "length": one.content.length,
        "revpos": generation if one.revpos is None else one.revpos,
        "sha256": one.content.sha256.hex(),
        **({"encoding": GZIP, "decoded_length": one.decoded_length} if one.decoded_length is not None else {}),
    }


def _kept(name: str, stub: Stub, parents: Sequence[Mapping[str, Any]]) -> Any:
    held = [attachments[name] for attachments in parents if name in attachments]
    by_digest = [entry for entry in held if entry["digest"] == stub.digest]
    # Who keeps files compressed names them by other digests than those of their bytes.
    by_revpos = [entry for entry in held if entry["revpos"] == stub.revpos]
    found = by_digest or by_revpos or (held if stub == Stub() else [])
    if found:
        return found[0]
    raise MissingStubError(
        f"no revision that this one descends from has an attachment {name[:80]!r} to keep: send its data"
    )
