"""Values of rows: MessagePack after a mark.

The wire format is CBOR. Rows on disk are read and written far more often than they are sent, and msgspec writes a document's
row in a fifteenth of the time that cbor2 takes, and reads it in a third.

Rows from before format 5 are CBOR, and stay so until they are written again: none of them begins with the mark, the one byte
that MessagePack never uses.
"""

from __future__ import annotations

from typing import Any

import msgspec

from crdtdb.wire.cbor import decode_own, encode

_MARK = b"\xc1"

_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder().decode


def encode_row(value: object) -> bytes:
    """Return the row of plain values: None, bool, int, bytes, str, lists, tuples.

    MessagePack has no integers beyond 64 bits: a row with one, such as a view's, is CBOR.
    """
    try:
        return _MARK + _write(value)
    except OverflowError:
        return encode(value)


def decode_row(row: bytes) -> Any:
    """Return the value of a row that this store wrote; the backend's checksums protect it."""
    return _read(row[1:]) if row[0] == _MARK[0] else decode_own(row)
