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
        """`draw` returns that many random bytes. What an earlier process left unfinished is removed by `sweep`."""
        self._backend, self._submit, self._draw = core.backend, core.submit, draw

    def upload(self) -> Upload:
        """Return a content on its way in: add to it, then adopt or discard it."""

        def write(rows: Rows) -> None:
            self._submit(lambda transaction: transaction.rows.changes.update(rows))

        return Upload(write, self._draw)

    def adopt(self, upload: Upload) -> Content:
        """Keep what was uploaded until a document refers to it; return what it is."""
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
        """Let go of an upload that won't be finished."""
        self._submit(lambda transaction: transaction.contents.discard(upload.blob))

    def forget(self, upload: Upload) -> None:
        """Let go of an upload, unless a document has come to refer to it: call it whatever became of the write."""
        if upload.length:
            self._submit(lambda transaction: transaction.contents.unless_referred(upload.blob, upload.content))

    def find(self, sha256: bytes) -> Content | None:
        """Return what is known of a content, None if it isn't here."""
        kept = find(self._backend.get, sha256)
        return kept.content if kept is not None else None

    def read(self, sha256: bytes, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` to `stop`, as they are now, however long the reader takes. Raises NotFoundError."""
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
        """Remove what an earlier process left unfinished. Only before anything else is written."""
        if remaining(self._backend):
            self._submit(lambda transaction: transaction.contents.sweep())

    @staticmethod
    def _kept(get: Callable[[bytes], bytes | None], sha256: bytes) -> Kept:
        kept = find(get, sha256)
        if kept is None:
            raise NotFoundError("there is no such content here")
        return kept
