"""An exchange between two stores of one process."""

from __future__ import annotations

from crdtdb.store.contents import ContentMissingError
from crdtdb.store.history import JunctionMissingError
from crdtdb.store.store import Store
from crdtdb.wire.parcels import Parcel


def pull(receiver: Store, sender: Store) -> int:
    """Bring everything that one store lacks over from another in this process; return how many documents came."""
    try:
        return _pull(receiver, sender, brief=True)
    except JunctionMissingError:
        pass
    try:
        return _pull(receiver, sender)
    except JunctionMissingError:
        return _pull(receiver, sender, whole=True)


def _pull(receiver: Store, sender: Store, *, brief: bool = False, whole: bool = False) -> int:
    outgoing = sender.outgoing(receiver.held.clock, whole, brief=brief)
    moved = 0
    try:
        while not outgoing.nothing:
            page = outgoing.next_page()
            moved += _receive(receiver, sender, Parcel(page.parcel), page.last)
            if page.last:
                break
    finally:
        outgoing.close()
    return moved


def _receive(receiver: Store, sender: Store, parcel: Parcel, last: bool) -> int:
    try:
        return receiver.receive(parcel, last).documents
    except ContentMissingError as error:
        for content in error.missing:
            upload = receiver.attachments.upload()
            for piece in sender.attachments.read(content.sha256):
                upload.add(piece)
            receiver.attachments.adopt(upload)
        return receiver.receive(parcel, last).documents
