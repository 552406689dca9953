"""Message parts: a message too long for one frame travels in several.

So a document of any size that was accepted can travel, and shorter messages get through between its parts. A receiver holds
one such message of a link at a time, within a bound: a part of a newer one lets it drop what it has of an older.
"""

from __future__ import annotations

from collections.abc import Iterator

from crdtdb.errors import ProtocolError
from crdtdb.limits import MESSAGE_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX
from crdtdb.wire.messages import Part


def cut(number: int, payload: bytes) -> Iterator[Part]:
    """Yield the parts of a message; `number` grows with each that is sent over a link."""
    size = max(PART_BYTES_MIN, -(-len(payload) // PARTS_MAX))
    parts = -(-len(payload) // size)
    for part in range(parts):
        yield Part(number, part, parts, payload[part * size : (part + 1) * size])


class Assembly:
    """Puts the messages of one link together that come in parts, in whatever order these come."""

    def __init__(self) -> None:
        self._number = -1
        self._parts: dict[int, bytes] = {}
        self._bytes = 0
        self.heard = 0.0
        """When the last part came that is held."""

    @property
    def waiting(self) -> bool:
        """Whether a message isn't whole yet."""
        return bool(self._parts)

    def drop(self) -> None:
        """Forget what came of a message that isn't whole."""
        self._parts, self._bytes = {}, 0

    def add(self, part: Part, now: float) -> bytes | None:
        """Take a part; return the payload of the message once it is whole.

        Raises ProtocolError for a message beyond the bound.
        """
        if part.message < self._number:
            return None
        if part.message > self._number:
            self.drop()
            self._number = part.message
        if part.part not in self._parts:
            self._parts[part.part] = part.content
            self._bytes += len(part.content)
            self.heard = now
        if self._bytes > MESSAGE_BYTES_MAX:
            self.drop()
            raise ProtocolError(f"a message of more than {MESSAGE_BYTES_MAX:,} bytes in parts")
        if len(self._parts) < part.parts:
            return None
        payload = b"".join(self._parts[place] for place in sorted(self._parts))
        self.drop()
        self._number += 1  # a part that comes twice begins no message again
        return payload
