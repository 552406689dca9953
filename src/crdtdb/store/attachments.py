"""Attachment contents of a store: upload, read and fetch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from crdtdb.documents.attachments import Content
from crdtdb.errors import NotFoundError
from crdtdb.store.commit.core import StoreCore
from crdtdb.store.commit.transaction import Transaction
from crdtdb.store.layout.batch import Rows
from crdtdb.store.layout.contents import PIECE_BYTES, Kept, Upload, find, pieces, remaining


class Attachments:
    """Contents by their digests. Safe to use from any number of threads."""

    def __init__(self, core: StoreCore, draw: Callable[[int], bytes]) -> None:
        """`draw` returns that many random bytes. `sweep` removes the unfinished uploads of earlier processes."""
        self._backend, self._submit, self._draw = core.backend, core.submit, draw

    def upload(self) -> Upload:
        """Begin an upload: add bytes to it, then adopt or discard it."""

        def write(rows: Rows) -> None:
            self._submit(lambda transaction: transaction.rows.changes.update(rows))

        return Upload(write, self._draw)

    def adopt(self, upload: Upload) -> Content:
        """Keep an upload until a document refers to it; return its digests and length."""
        content = upload.finish()
        self._submit(lambda transaction: transaction.contents.adopt(upload.blob, content))
        return content

    def add(self, contents: Iterable[bytes]) -> None:
        """Keep contents, all in one commit, until documents refer to them."""

        def work(transaction: Transaction) -> None:
            for data in contents:
                transaction.contents.add(data)

        self._submit(work)

    def discard(self, upload: Upload) -> None:
        """Discard an unfinished upload."""
        self._submit(lambda transaction: transaction.contents.discard(upload.blob))

    def forget(self, upload: Upload) -> None:
        """Discard an upload without a reference from a document: call it after each write, successful or not."""
        if upload.length:
            self._submit(lambda transaction: transaction.contents.unless_referred(upload.blob, upload.content))

    def find(self, sha256: bytes) -> Content | None:
        """Return the digests and length of a content, None if it isn't here."""
        kept = find(self._backend.get, sha256)
        return kept.content if kept is not None else None

    def read(self, sha256: bytes, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` to `stop`, unaffected by later changes. Raises NotFoundError."""
        snapshot = self._backend.snapshot()
        try:
            yield from pieces(snapshot.get, self._kept(snapshot.get, sha256), start, stop)
        finally:
            snapshot.close()

    def piece(self, sha256: bytes, number: int) -> tuple[bytes, bool]:
        """Return one piece, and whether it is the last. Raises NotFoundError."""
        kept = self._kept(self._backend.get, sha256)
        start = number * PIECE_BYTES
        data = b"".join(pieces(self._backend.get, kept, start, start + PIECE_BYTES))
        if not data and start < kept.content.length:
            raise NotFoundError("the content is gone")
        return data, start + PIECE_BYTES >= kept.content.length

    def sweep(self) -> None:
        """Remove unfinished uploads of earlier processes. Call it before any write."""
        if remaining(self._backend):
            self._submit(lambda transaction: transaction.contents.sweep())

    @staticmethod
    def _kept(get: Callable[[bytes], bytes | None], sha256: bytes) -> Kept:
        kept = find(get, sha256)
        if kept is None:
            raise NotFoundError("there is no such content here")
        return kept
