"""Lives: distinguish successive texts at the same path.

    LIFE   dot -> ordinal ":" digest      the removals, and the returns from deletion, that no later one had seen

A text or list is found by its path, its type and its *life*, never by the write that made it: two nodes that begin one before
they have met begin the same. Removing a text begins the document's next life, so that what is made there afterwards is
another text: the removed one may be gone from some nodes already, and still be held by others. The digest follows from what the
remover had seen, so two who remove the same, and make it again, make the same. Of several lives the document is in the highest.

The part of a text's address is the name of its life: two bytes that no older version wrote but by chance, the ordinal, so that
of two lives' texts the newest shows, and four bytes of the digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from crdtdb.errors import EncodingError

_MARK = b"\xff\xff"
_ORDINAL_MAX = 2**16 - 1
_ORDINAL_DIGITS_MAX = 16
_DIGEST_BYTES = 8


class Life(NamedTuple):
    """Life of a document's texts. Of two successive lives the later is the higher."""

    ordinal: int
    digest: str

    def encoded(self) -> bytes:
        """Return the life as the content of a delta."""
        return b"%d:%b" % (self.ordinal, self.digest.encode())

    def after(self, anchor: bytes) -> Life:
        """Return the life that begins with a unique event; `anchor` names the event."""
        return Life(self.ordinal + 1, _digest(anchor))

    @property
    def part(self) -> str:
        """The part of the addresses of texts and lists that are made in this life."""
        ordinal = min(self.ordinal, _ORDINAL_MAX).to_bytes(2, "big")
        return (_MARK + ordinal).hex() + self.digest[:8]


FIRST = Life(0, "0" * 2 * _DIGEST_BYTES)
"""The life of a document from which no text was ever removed."""


def begun_by(root: str) -> Life:
    """Return the first life of a document that follows one of which nothing is known any more but that it was."""
    return Life(0, _digest(root.encode()))


def current(contents: Iterable[bytes]) -> Life:
    """Return the life that a document is in, from the deltas at LIFE."""
    return max((read_life(content) for content in contents), default=FIRST)


def read_life(content: bytes) -> Life:
    """Read a delta. Raises EncodingError."""
    ordinal, colon, digest = content.partition(b":")
    if not colon or not ordinal.isdigit() or len(ordinal) > _ORDINAL_DIGITS_MAX or len(digest) != 2 * _DIGEST_BYTES:
        raise EncodingError("a life is an ordinal and a digest")
    try:
        return Life(int(ordinal), bytes.fromhex(digest.decode("ascii")).hex())
    except ValueError as error:
        raise EncodingError("a life has a digest in hexadecimal") from error


def is_of_a_life(part: str) -> bool:
    """Whether the part of a text's address names a life, and not, as older versions had it, the write that made the text."""
    return part.startswith(_MARK.hex())


def _digest(anchor: bytes) -> str:
    return blake2b(anchor, digest_size=_DIGEST_BYTES).hexdigest()
