"""Compression of attachments: gzip of text, JSON, XML and JavaScript.

A compressed content is kept and replicated as it came: its digest is that of the compressed bytes, and who compresses the same
text again gets other ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

GZIP = "gzip"
_WINDOW_BITS = 31
_LEVEL = 8
"""CouchDB's."""
_PIECE_BYTES = 256 * 1024
"""How much is expanded at a time: what is read is bounded by its size as it really is."""
_COMPRESSIBLE = frozenset({"application/javascript", "application/json", "application/xml"})


class GzipDecoder:
    """Expands gzip as it comes, one member or several. Its methods raise ValueError for what isn't gzip."""

    def __init__(self) -> None:
        self._expander = zlib.decompressobj(wbits=_WINDOW_BITS)
        self._empty = True

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what these bytes expand to, a bounded piece at a time."""
        while data:
            if self._expander.eof:
                self._expander = zlib.decompressobj(wbits=_WINDOW_BITS)
            self._empty = False
            try:
                yield self._expander.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise ValueError(f"no gzip: {error}") from error
            data = self._expander.unconsumed_tail or self._expander.unused_data

    def finish(self) -> None:
        """Check that nothing is missing at the end."""
        if self._empty or not self._expander.eof:
            raise ValueError("gzip that is cut off")


def decoded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what a compressed content expands to. Raises ValueError."""
    decoder = GzipDecoder()
    for piece in pieces:
        yield from decoder.pieces(piece)
    decoder.finish()


class GzipEncoder:
    """Compresses bytes as they come; equal bytes to equal ones, however they are cut."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS)
        self.length = 0
        """How many bytes came so far, before they were compressed."""

    def encode(self, data: bytes) -> bytes:
        """Take more bytes; return what is compressed of them."""
        self.length += len(data)
        return self._compressor.compress(data)

    def finish(self) -> bytes:
        """Return the rest."""
        return self._compressor.flush()


def is_compressible(content_type: str) -> bool:
    """Whether CouchDB keeps attachments of a media type compressed."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in _COMPRESSIBLE
