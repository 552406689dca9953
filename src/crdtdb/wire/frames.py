"""Frames: cuts messages out of a byte stream.

    frame = length (4 bytes, big-endian) payload

The length is checked against the bound before anything is allocated for it, so four hostile bytes cost four bytes.
"""

from __future__ import annotations

from crdtdb.errors import ProtocolError
from crdtdb.limits import FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX

_HEADER_BYTES = 4


def frame(payload: bytes) -> bytes:
    """Return a payload with its length in front. Raises ProtocolError if it is too large to be sent."""
    if len(payload) > FRAME_BYTES_MAX:
        raise ProtocolError(f"a frame of {len(payload):,} bytes, the limit is {FRAME_BYTES_MAX:,}")
    return len(payload).to_bytes(_HEADER_BYTES, "big") + payload


class Frames:
    """Takes bytes as they come, gives payloads.

    Until `greeted` is called the bound is that of a handshake: a stranger can't make a node hold much.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._bytes_max = HANDSHAKE_FRAME_BYTES_MAX

    def greeted(self) -> None:
        """Take frames of full size from now on."""
        self._bytes_max = FRAME_BYTES_MAX

    def feed(self, data: bytes) -> None:
        """Take what was read from the stream."""
        self._buffer += data

    def next(self) -> bytes | None:
        """Return the next whole payload, None if more bytes are needed.

        Raises ProtocolError for an empty frame or one beyond the bound; the stream can't be read any further then.
        """
        if len(self._buffer) < _HEADER_BYTES:
            return None
        length = int.from_bytes(self._buffer[:_HEADER_BYTES], "big")
        if not 1 <= length <= self._bytes_max:
            raise ProtocolError(f"a frame that says it has {length:,} bytes: 1 to {self._bytes_max:,} are allowed here")
        if len(self._buffer) < _HEADER_BYTES + length:
            return None
        payload = bytes(self._buffer[_HEADER_BYTES : _HEADER_BYTES + length])
        del self._buffer[: _HEADER_BYTES + length]
        return payload
