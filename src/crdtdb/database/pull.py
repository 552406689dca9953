"""An exchange between two stores of one process."""

from __future__ import annotations

from collections.abc import Sequence

from crdtdb.causality import Lineages
from crdtdb.documents.attachments import Content
from crdtdb.errors import NotFoundError, StoreCorruptedError
from crdtdb.store.attachments import Attachments
from crdtdb.store.layout.contents import PIECE_BYTES, ContentMissingError, content_of
from crdtdb.store.layout.history import MissingAncestorError
from crdtdb.store.replication.exchange import Outgoing
from crdtdb.store.store import Store
from crdtdb.wire.delta_batch import DeltaBatch

_BATCH_CONTENTS = 16
"""Small contents in one commit: at most four megabytes."""
_ATTEMPTS = 3


def pull(receiver: Store, sender: Store) -> int:
    """Bring everything that one store lacks over from another in this process; return how many documents came.

    Raises StoreCorruptedError if the content of an attachment isn't what its digest says, NotFoundError if one is gone from
    the sender though a document still has it.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return _pull_briefest(receiver, sender)
        except NotFoundError:  # an attachment was collected at the sender after the page was read: the next says so
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def _pull_briefest(receiver: Store, sender: Store) -> int:
    try:
        return _pull(receiver, sender, brief=True)
    except MissingAncestorError:
        pass
    try:
        return _pull(receiver, sender)
    except MissingAncestorError:
        return _pull(receiver, sender, whole=True)


def _pull(receiver: Store, sender: Store, *, brief: bool = False, whole: bool = False) -> int:
    outgoing = sender.replication.outgoing(receiver.root.clock, whole, brief=brief)
    try:
        return bring(receiver, sender, outgoing, advance=True) if not outgoing.nothing else 0
    finally:
        outgoing.close()


def bring(receiver: Store, sender: Store, outgoing: Outgoing, *, advance: bool) -> int:
    """Receive all pages of an answer, and with `advance` take over its clock; return how many documents came."""
    moved = 0
    while True:
        page = outgoing.next_page()
        moved += _receive(receiver, sender, DeltaBatch(page.parcel), page.last and advance, outgoing.lineages)
        if page.last:
            return moved


def _receive(receiver: Store, sender: Store, parcel: DeltaBatch, advance: bool, lineages: Lineages) -> int:
    while True:
        try:
            return receiver.replication.receive(parcel, advance, lineages=lineages).documents
        except ContentMissingError as error:
            _copy_contents(sender.attachments, receiver.attachments, error.missing)


def _copy_contents(sender: Attachments, receiver: Attachments, missing: Sequence[Content]) -> None:
    """Copy the contents of attachments: small ones many to a commit, a large one piece by piece."""
    small = [content for content in missing if content.length <= PIECE_BYTES]
    for first in range(0, len(small), _BATCH_CONTENTS):
        receiver.add([_read_small(sender, content) for content in small[first : first + _BATCH_CONTENTS]])
    for content in missing:
        if content.length > PIECE_BYTES:
            _copy_large(sender, receiver, content)


def _read_small(sender: Attachments, content: Content) -> bytes:
    data = b"".join(sender.read(content.sha256))
    _check_digest(content, content_of(data))
    return data


def _copy_large(sender: Attachments, receiver: Attachments, content: Content) -> None:
    upload = receiver.upload()
    try:
        for piece in sender.read(content.sha256):
            upload.add(piece)
        _check_digest(content, upload.content)
    except BaseException:
        receiver.discard(upload)
        raise
    receiver.adopt(upload)


def _check_digest(expected: Content, found: Content) -> None:
    if found.sha256 != expected.sha256:
        raise StoreCorruptedError(
            f"the content of the attachment {expected.digest} of {expected.length} bytes isn't what its digest says: restore "
            "the store that it comes from, or attach the file again"
        )
