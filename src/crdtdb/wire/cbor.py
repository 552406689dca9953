"""CBOR encoding and decoding. The only module that imports cbor2.

Written: definite lengths, shortest integers, arrays instead of maps wherever the shape is known; so one value has one
encoding without the price of sorting. Read: whatever comes, within bounds, and nothing but plain values.

Source: RFC 8949, section 4.2 (core deterministic encoding).
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, NoReturn

import cbor2

from crdtdb.errors import EncodingError
from crdtdb.limits import FRAME_DEPTH_MAX


def encode(value: object) -> bytes:
    """Return the encoding of plain values: None, bool, int, float, bytes, str, lists, tuples, dicts of str."""
    return cbor2.dumps(value)


def decode(data: bytes) -> Any:
    """Return the value that `data` encodes.

    The caller bounds the length of `data` first. Raises EncodingError for anything but one plain value: broken or
    trailing bytes, tags, indefinite lengths, doubled keys, keys that aren't text, deep nesting.
    """
    stream = BytesIO(data)
    try:
        value = cbor2.load(
            stream,
            max_depth=FRAME_DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            tag_hook=_no_tags,
            semantic_decoders=_NO_TAGS,
        )
    except EncodingError:
        raise
    except Exception as error:
        raise EncodingError(f"not CBOR as crdtdb reads it: {error}") from error
    if stream.tell() != len(data):  # which `loads` wouldn't notice
        raise EncodingError(f"{len(data) - stream.tell()} bytes after the end of the value")
    return value


def decode_own(data: bytes) -> Any:
    """Return the value that this store encoded itself; checksums of the backend stand behind it."""
    return cbor2.loads(data)


def _no_tags(*_: object) -> NoReturn:
    raise EncodingError("CBOR tags are not part of the protocol")


_NO_TAGS = dict.fromkeys(
    (*range(6), 25, 28, 29, 30, 35, 36, 37, 43000, 52, 54, 100, 256, 258, 260, 261, 1004, 55799), _no_tags
)
