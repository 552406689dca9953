"""JSON as crdtdb keeps it: one canonical text for one value, and a refusal for what JSON can't hold.

The text is compact UTF-8 with the keys of every object in order, so that equal values have equal bytes on every node.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeAlias

import orjson

from crdtdb.errors import InvalidDocumentError, TooLargeError
from crdtdb.limits import DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX, WHOLE_DOCUMENT_BYTES_MAX

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**64 - 1
_LONG_NUMBER = re.compile(rb"[0-9]{19}")


def canonical(value: object) -> bytes:
    """Return the canonical text of a JSON value.

    Tuples are written as arrays. Raises InvalidDocumentError for what JSON can't hold (NaN, infinities, lone
    surrogates, integers outside -2^63..2^64-1, keys that aren't strings, other types), naming the place;
    TooLargeError beyond the limits of size and depth.
    """
    text = canonical_merged(value)
    if len(text) > DOCUMENT_BYTES_MAX:
        raise TooLargeError(f"the document has {len(text):,} bytes of JSON, the limit is {DOCUMENT_BYTES_MAX:,}")
    return text


def canonical_whole(value: object) -> bytes:
    """Return the canonical text of a document that is written with the values of its fields: its plain part is bounded later.

    Raises as `canonical` does.
    """
    text = canonical_merged(value)
    if len(text) > WHOLE_DOCUMENT_BYTES_MAX:
        raise TooLargeError(f"the document has {len(text):,} bytes of JSON, the limit is {WHOLE_DOCUMENT_BYTES_MAX:,}")
    return text


def canonical_merged(value: object) -> bytes:
    """Return the canonical text of a value of any size: of a document as it is read, of which each part was bounded.

    A body and its texts, or what was merged, may be more together than anybody may write. Raises as `canonical` does.
    """
    try:
        text = orjson.dumps(value, option=_OPTIONS)
        # orjson writes NaN as null and UUIDs as strings: reading back shows whether the text says what was meant.
        if _nesting_bound(text) > DOCUMENT_DEPTH_MAX or orjson.loads(text) != value:
            text = orjson.dumps(_checked(value, "", 0), option=_OPTIONS)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, (InvalidDocumentError, TooLargeError)):
            raise
        _checked(value, "", 0)
        raise InvalidDocumentError(f"the value can't be written as JSON: {error}") from error
    return text


def parse(text: bytes | str) -> JSON:
    """Read JSON text that came from outside.

    Integers beyond 64 bit are refused, not rounded. Raises InvalidDocumentError.
    """
    raw = text.encode() if isinstance(text, str) else text
    try:
        if _LONG_NUMBER.search(raw):
            # orjson would turn an integer beyond 64 bit into a float; the stdlib keeps it, so the check can see it.
            value = json.loads(raw)
            return orjson.loads(orjson.dumps(_checked(value, "", 0)))  # type: ignore[no-any-return]
        return orjson.loads(raw)  # type: ignore[no-any-return]
    except (ValueError, RecursionError) as error:
        if isinstance(error, (InvalidDocumentError, TooLargeError)):
            raise
        raise InvalidDocumentError(f"not JSON: {error}") from error


def load(text: bytes) -> Any:
    """Read canonical text that crdtdb itself wrote."""
    return orjson.loads(text)


def _nesting_bound(text: bytes) -> int:
    """Return a number that the nesting of the text can't exceed, cheaply."""
    return text.count(b"{") + text.count(b"[")


def _checked(value: object, place: str, depth: int) -> JSON:
    """Return the value as plain JSON, or say where it isn't."""
    where = f"at {place}" if place else "at the top"
    if depth > DOCUMENT_DEPTH_MAX:
        raise TooLargeError(f"nested deeper than {DOCUMENT_DEPTH_MAX} levels, {where[:80]}")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not _INTEGER_MIN <= value <= _INTEGER_MAX:
            raise InvalidDocumentError(
                f"{where}: the integer {str(value)[:40]} is outside -2^63..2^64-1; write it as a string"
            )
        return int(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise InvalidDocumentError(f"{where}: {value} is not JSON")
        return value
    if type(value) is str:
        return _checked_text(value, where)
    if isinstance(value, (list, tuple)):
        return [_checked(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, dict):
        plain: dict[str, JSON] = {}
        for key, item in value.items():
            if type(key) is not str:
                raise InvalidDocumentError(f"{where}: the key {key!r} is not a string")
            plain[_checked_text(key, where)] = _checked(item, f"{place}.{key}" if place else key, depth + 1)
        return plain
    raise InvalidDocumentError(f"{where}: a {type(value).__name__} is not JSON")


def _checked_text(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidDocumentError(f"{where}: {text[:20]!r} has a lone surrogate, which UTF-8 can't hold") from error
    return text
