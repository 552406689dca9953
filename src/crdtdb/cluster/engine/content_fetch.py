"""Fetches the contents of attachments: a page waits until all that its documents refer to is here, checked by its digest.

A slice of a page is kept as a whole or not at all, and the clock advances with the last one; so it never covers a document that
is here without its attachments. Pages that come meanwhile wait behind it; the sender sends no more than a few ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from crdtdb.documents.attachments import Content
from crdtdb.errors import EncodingError
from crdtdb.store import PIECE_BYTES, Store
from crdtdb.wire.messages import Fetch, Piece

_PIECES_AT_ONCE = 8


class ContentFetch:
    """Fetches the contents that the next slice of a page refers to."""

    def __init__(self, store: Store, exchange: int, missing: Iterable[Content]) -> None:
        self.exchange = exchange
        self._store = store
        self._missing = deque({content.sha256: content for content in missing}.values())
        self._upload = store.attachments.upload()
        self._number = 0
        self._ahead: dict[int, Piece] = {}

    def done(self) -> bool:
        """Whether all is here."""
        return not self._missing

    def next(self) -> Fetch:
        """Return what to ask for now."""
        return Fetch(self.exchange, self._missing[0].sha256, self._number, _PIECES_AT_ONCE)

    def take(self, piece: Piece) -> bool:
        """Take a piece; return whether it is time to ask again.

        One that comes ahead of its turn waits for it; one that wasn't asked for is left out. Raises EncodingError for a content
        that isn't what its name says.
        """
        if piece.sha256 != self._missing[0].sha256 or not 0 <= piece.number - self._number < _PIECES_AT_ONCE:
            return False
        if len(piece.content or b"") > PIECE_BYTES:
            raise EncodingError(f"a piece of an attachment has at most {PIECE_BYTES:,} bytes")
        self._ahead[piece.number] = piece
        again = False
        while self._missing and self._number in self._ahead:
            again = self._append(self._ahead.pop(self._number))
        return again

    def _append(self, piece: Piece) -> bool:
        content, data = self._missing[0], piece.content or b""
        self._upload.add(data)
        self._number += 1
        if self._upload.length > content.length or (not piece.last and len(data) != PIECE_BYTES):
            raise EncodingError("the content of an attachment is longer than it says, or comes in odd pieces")
        if not piece.last:
            return self._number % _PIECES_AT_ONCE == 0
        if self._upload.content.sha256 != content.sha256:
            raise EncodingError("the content of an attachment isn't what its digest says")
        self._store.attachments.adopt(self._upload)
        self._missing.popleft()
        self._ahead.clear()
        self._upload, self._number = self._store.attachments.upload(), 0
        return not self.done()

    def stop(self) -> None:
        """Discard what came of a content that isn't whole."""
        if self._number:
            self._store.attachments.discard(self._upload)
