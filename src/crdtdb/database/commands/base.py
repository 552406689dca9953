"""The shape of a command, the attachments that it brings, and the leaf that it names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from crdtdb.documents import (
    Rev,
    State,
    VisibleLeaf,
    view,
)
from crdtdb.documents.attachments import Attached, New, Stub, attachments_in, with_attachments
from crdtdb.store import Transaction, Upload, Written


class Data(NamedTuple):
    """An attachment as its bytes. `revpos` is the generation that attached it, for revisions made elsewhere alone."""

    content_type: str
    data: bytes
    revpos: int | None = None
    decoded_length: int | None = None
    """Its length before it was compressed, if it is."""


class Uploaded(NamedTuple):
    """An attachment whose bytes are in the store already, as an upload."""

    content_type: str
    upload: Upload
    revpos: int | None = None
    decoded_length: int | None = None


Attachments = Mapping[str, Data | Uploaded | Stub]
"""The attachments of a body by their names; a `Stub` keeps the content that a parent revision has under its name."""

NO_ATTACHMENTS: Attachments = MappingProxyType({})


class Command(Protocol):
    """A write to one document of one collection."""

    @property
    def collection(self) -> str:
        """The name of the collection. The write creates it if it doesn't exist."""

    @property
    def doc_id(self) -> str:
        """The id of the document."""

    @property
    def attachments(self) -> Attachments:
        """The attachments that the body brings."""

    def apply(self, transaction: Transaction) -> Written:
        """Write, and return what was written. Raises ConflictError, NotFoundError, InvalidInputError, TooLargeError."""


class RevisedCommand(Command, Protocol):
    """A command that names the leaf that it replaces."""

    @property
    def rev(self) -> Rev | None:
        """The revision of the leaf; None if there is no live one."""

    @property
    def ancestors(self) -> tuple[str, ...]:
        """The digests of the leaf's ancestors, newest first, if the client told them: for a leaf that isn't known here."""

    @property
    def text(self) -> bytes:
        """The body."""


def discard(transaction: Transaction, command: Command) -> None:
    """Remove the contents that a command brought, if no document refers to them."""
    for attachment in command.attachments.values():
        if isinstance(attachment, Data):
            transaction.contents.forget(attachment.data)


def as_published(state: State, rev: Rev | None) -> VisibleLeaf | None:
    """Return the live leaf of this revision if it shows under another: fields have been edited since it was published."""
    shown = view(state)
    if rev is None or shown.find(rev) is not None:
        return None
    leaf = shown.leaf(rev)
    return leaf if leaf is not None and not leaf.leaf.deleted and not leaf.leaf.native else None


def with_new(transaction: Transaction, command: RevisedCommand, text: bytes, state: State) -> bytes:
    """Return a body with the attachments of a command; its stubs keep those of the leaf that it replaces."""
    if not command.attachments:
        return text
    shown = view(state)
    target = shown.find(command.rev) if command.rev is not None else shown.winner
    generation = target.leaf.rev.generation + 1 if target is not None else 1
    parents = [attachments_in(target.text)] if target is not None else []
    return with_attachments(text, attached(transaction, command.attachments), parents, generation)


def attached(transaction: Transaction, attachments: Attachments, *, external: bool = False) -> Attached:
    """Keep the bytes that a body brings, and return its attachments."""
    return {
        name: attachment if isinstance(attachment, Stub) else new(transaction, attachment, external=external)
        for name, attachment in attachments.items()
    }


def new(transaction: Transaction, attachment: Data | Uploaded, *, external: bool = False) -> New:
    """Keep the bytes of an attachment.

    Its `revpos` is the generation of the revision that is written, but of a revision made elsewhere: one that changed the bytes
    and kept the `revpos` would make a CouchDB keep the old bytes.
    """
    if isinstance(attachment, Data):
        content = transaction.contents.add(attachment.data)
    else:
        content = attachment.upload.content
        transaction.contents.adopt(attachment.upload.blob, content)
    revpos = (attachment.revpos or 0) if external else None
    return New(attachment.content_type, content, revpos, attachment.decoded_length)
