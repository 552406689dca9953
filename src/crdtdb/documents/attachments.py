"""Attachments: files beside the plain JSON of a document, named in its body and kept apart from it by their content.

A body that has some holds them under `_attachments`, so they are part of the revision's name and of what a conflict is about:

    name -> {"content_type", "digest", "length", "revpos", "sha256"}

`digest` is CouchDB's (`md5-…`), `revpos` the generation that attached it, `sha256` names the content: it is kept once, however
many documents have it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from crdtdb.canonical_json import canonical, canonical_merged, load
from crdtdb.errors import InvalidDocumentError, MissingStubError

KEY = "_attachments"
_ENTRY = {"content_type", "digest", "length", "revpos", "sha256"}
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
        if not isinstance(one, Mapping) or set(one) != _ENTRY:
            raise InvalidDocumentError(
                f"the attachment {str(name)[:80]!r} isn't as it was read: put a new one by `attach`, take one away by `detach`"
            )
    list(contents_in(canonical({KEY: attachments})))


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
    return canonical_merged({**load(text), KEY: found})


def _entry(one: New, generation: int) -> dict[str, Any]:
    return {
        "content_type": one.content_type,
        "digest": one.content.digest,
        "length": one.content.length,
        "revpos": one.revpos or generation,
        "sha256": one.content.sha256.hex(),
    }


def _kept(name: str, stub: Stub, parents: Sequence[Mapping[str, Any]]) -> Any:
    for attachments in parents:
        held = attachments.get(name)
        # Who keeps files compressed names them by other digests than those of their bytes.
        if held is not None and (stub.digest in (None, held["digest"]) or stub.revpos == held["revpos"]):
            return held
    raise MissingStubError(
        f"no revision that this one descends from has an attachment {name[:80]!r} to keep: send its data"
    )
