"""Documents met in a walk of the dot log, so that each is decoded only once.

A set that grew element by element, or a document with many conflicts, is in the log once for each live dot. The cache is
bounded: a document that recurs only after many others is decoded again. Exchanges use it, and the feeds of clients that come
from another node.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from crdtdb.limits import WALK_PLACES_MAX

_KEY_BYTES_MAX = 48


class RecentPlaces:
    """The places of the documents that were met last."""

    def __init__(self, most: int = WALK_PLACES_MAX) -> None:
        """Remember `most` of them."""
        self._most = most
        self._places: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, place: bytes) -> bool:
        """Whether a document was met, as far as that is remembered; if so, it is remembered for longer."""
        key = _key(place)
        if key not in self._places:
            return False
        self._places.move_to_end(key)
        return True

    def add(self, place: bytes) -> None:
        """Remember a document."""
        self._places[_key(place)] = None
        if len(self._places) > self._most:
            self._places.popitem(last=False)


def _key(place: bytes) -> bytes:
    return place if len(place) <= _KEY_BYTES_MAX else blake2b(place, digest_size=32).digest()
