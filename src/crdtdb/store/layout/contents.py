"""Attachment contents: bytes keyed by digest, stored once, in pieces.

    A sha256                   [blob, md5, length]
    b blob piece#              a piece of `PIECE_BYTES`
    r sha256 collection# id    a reference: the document, or one of its older revisions, has this content
    q collection# length id sha256
                               the same reference, found from the document
    u blob                     an upload without a reference yet: its sha256, or empty while it is in progress

A document is only kept together with its contents: a save of one whose content isn't here is refused, with the names of
what is missing. So the node clock never covers a write without its attachments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from crdtdb.backends import Reader
from crdtdb.documents.attachments import Content, contents_in
from crdtdb.errors import CrdtdbError
from crdtdb.store.layout import keys
from crdtdb.store.layout.batch import Rows
from crdtdb.store.layout.rows import decode_row, encode_row

PIECE_BYTES = 256 * 1024
_BLOB_BYTES = 16

Get = Callable[[bytes], bytes | None]
Scan = Callable[[bytes, bytes], Iterator[tuple[bytes, bytes]]]


class ContentMissingError(CrdtdbError):
    """A document can't be kept, because contents of its attachments aren't here: fetch these first."""

    def __init__(self, missing: list[Content]) -> None:
        super().__init__(f"{len(missing)} contents of attachments aren't here")
        self.missing = missing


class Kept(NamedTuple):
    """A content that is here."""

    blob: bytes
    content: Content


def find(get: Get, sha256: bytes) -> Kept | None:
    """Return where a content is kept, None if it isn't."""
    value = get(keys.content(sha256))
    if value is None:
        return None
    blob, md5, length = decode_row(value)
    return Kept(blob, Content(sha256, md5, length))


def pieces(get: Get, kept: Kept, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Yield the bytes of a content from `start` to `stop`."""
    end = kept.content.length if stop is None else min(stop, kept.content.length)
    for number in range(start // PIECE_BYTES, -(-end // PIECE_BYTES) if end > start else 0):
        piece = get(keys.piece(kept.blob, number)) or b""
        first = number * PIECE_BYTES
        yield piece[max(0, start - first) : end - first]


class Digesting:
    """Counts and digests bytes as they come."""

    def __init__(self) -> None:
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self.length = 0

    def update(self, data: bytes) -> None:
        """Take more."""
        self._sha256.update(data)
        self._md5.update(data)
        self.length += len(data)

    @property
    def content(self) -> Content:
        """What came so far."""
        return Content(self._sha256.digest(), self._md5.digest(), self.length)


def content_of(data: bytes) -> Content:
    """Return the digests of some bytes."""
    digesting = Digesting()
    digesting.update(data)
    return digesting.content


class Contents:
    """Contents and references as one transaction sees and changes them."""

    def __init__(
        self, get: Get, scan: Scan, rows: Callable[[], Rows], draw: Callable[[int], bytes], released: set[bytes]
    ) -> None:
        """`rows` returns the rows that the transaction is to write. `released` are the contents that lost a reference in it."""
        self._get, self._scan, self._rows, self._draw = get, scan, rows, draw
        self._released = released

    def add(self, data: bytes) -> Content:
        """Keep some bytes, unless they are here already."""
        content = content_of(data)
        if find(self._get, content.sha256) is None:
            blob = self._draw(_BLOB_BYTES)
            rows = self._rows()
            for number in range(-(-len(data) // PIECE_BYTES)):
                rows[keys.piece(blob, number)] = data[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]
            rows[keys.content(content.sha256)] = encode_row([blob, content.md5, content.length])
            rows[keys.upload(blob)] = content.sha256
        return content

    def adopt(self, blob: bytes, content: Content) -> None:
        """Keep what was uploaded, or discard it if it is here already."""
        if find(self._get, content.sha256) is None:
            self._rows()[keys.content(content.sha256)] = encode_row([blob, content.md5, content.length])
            self._rows()[keys.upload(blob)] = content.sha256
        else:
            self.discard(blob)

    def forget(self, data: bytes) -> None:
        """Let go of bytes that were added, if no document came to refer to them."""
        kept = find(self._get, content_of(data).sha256)
        if kept is not None:
            self._rows()[keys.upload(kept.blob)] = None
            self._released.add(kept.content.sha256)

    def unless_referred(self, blob: bytes, content: Content) -> None:
        """Discard an upload without a reference."""
        kept = find(self._get, content.sha256)
        if kept is None or kept.blob != blob:
            self.discard(blob)
        elif self._get(keys.upload(blob)) is not None:
            self._rows()[keys.upload(blob)] = None
            self._released.add(content.sha256)

    def discard(self, blob: bytes) -> None:
        """Remove the pieces of an upload."""
        rows = self._rows()
        rows[keys.upload(blob)] = None
        for key, _ in self._scan(*keys.rest(keys.pieces(blob))):
            rows[key] = None

    def refer(self, number: int, raw: bytes, texts: Iterable[bytes]) -> None:
        """Note that a document has the contents of these bodies. Raises ContentMissingError."""
        missing: list[Content] = []
        for text in texts:
            for content in contents_in(text):
                kept = find(self._get, content.sha256)
                if kept is None:
                    missing.append(content)
                    continue
                self._rows()[keys.upload(kept.blob)] = None
                self._rows()[keys.reference(content.sha256, number, raw)] = b""
                self._rows()[keys.references(number, raw) + content.sha256] = b""
        if missing:
            raise ContentMissingError(missing)

    def keep_only(self, number: int, raw: bytes, texts: Iterable[bytes]) -> None:
        """Note that a document has the contents of these bodies and no others."""
        wanted = {content.sha256 for text in texts for content in contents_in(text)}
        beginning = keys.references(number, raw)
        for key, _ in list(self._scan(*keys.rest(beginning))):
            sha256 = key[len(beginning) :]
            if sha256 not in wanted:
                self._rows()[key] = None
                self._rows()[keys.reference(sha256, number, raw)] = None
                self._released.add(sha256)

    def remove_unreferred(self) -> None:
        """Remove the contents that lost their last reference in this transaction, and that no other document has got since.

        At its end: of the documents of a page one may give up a content that a later one has. Were it gone by then, it would be
        missing each time that the page is merged, however often it is fetched.
        """
        for sha256 in sorted(self._released):
            kept = find(self._get, sha256)
            if kept is not None and next(self._scan(*keys.rest(keys.referring(sha256))), None) is None:
                self._rows()[keys.content(sha256)] = None
                self.discard(kept.blob)
        self._released.clear()

    def sweep(self) -> None:
        """Remove the uploads without a reference, which an earlier process left unfinished."""
        for key, sha256 in list(self._scan(*keys.rest(b"u"))):
            self._rows()[key] = None
            if not sha256:
                self.discard(key[1:])
            else:
                self._released.add(sha256)


class Upload:
    """A content on its way in: written piece by piece, with one piece in memory."""

    def __init__(self, write: Callable[[Rows], None], draw: Callable[[int], bytes]) -> None:
        """`write` commits rows."""
        self.blob = draw(_BLOB_BYTES)
        self._write, self._digesting = write, Digesting()
        self._waiting = bytearray()
        self._number = 0

    @property
    def content(self) -> Content:
        """What came so far."""
        return self._digesting.content

    @property
    def length(self) -> int:
        """How many bytes came so far."""
        return self._digesting.length

    def add(self, data: bytes) -> None:
        """Take more bytes."""
        self._digesting.update(data)
        self._waiting += data
        while len(self._waiting) >= PIECE_BYTES:
            self._put(bytes(self._waiting[:PIECE_BYTES]))
            del self._waiting[:PIECE_BYTES]

    def finish(self) -> Content:
        """Write what is left, and return what it is. It is to be adopted then, or discarded."""
        if self._waiting:
            self._put(bytes(self._waiting))
            self._waiting.clear()
        return self._digesting.content

    def _put(self, piece: bytes) -> None:
        self._write({keys.upload(self.blob): b"", keys.piece(self.blob, self._number): piece})
        self._number += 1


def remaining(rows: Reader) -> bool:
    """Whether an earlier process left uploads."""
    return next(iter(rows.scan(*keys.rest(b"u"))), None) is not None
