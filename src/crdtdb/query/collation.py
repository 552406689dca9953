"""The order of JSON values: null, false, true, numbers, strings, arrays, objects, as CouchDB has it.

Values are written as bytes whose order is theirs, so that an ordered store keeps an index in order, and one function decides
what comes first, in an index and out of it. Strings are compared by their code points, as PouchDB and CouchDB's "raw" collation
do, not by the rules of a language.

Source of the escaping of zero bytes and of the ends of arrays: the tuple layer of FoundationDB.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any

NULL, FALSE, TRUE, NUMBER, STRING, ARRAY, OBJECT = (bytes([kind]) for kind in range(2, 9))
END = b"\x00"
"""Below every kind, so a shorter array comes before a longer one that begins with it."""
LAST = b"\xff"
"""Above everything that a value begins with."""
_EXACT_MAX = 2**53
_REST_MAX = 2**15 - 1
_LARGEST = 2**1024 - 2**971
"""The largest double."""
_double = Struct(">d").pack
_FLIPPED = bytes(255 - one for one in range(256))


def sort_key(value: Any) -> bytes:
    """Return bytes that are ordered as values are. None of them is the beginning of another."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return TRUE if value else FALSE
    if isinstance(value, (int, float)):
        return NUMBER + _number(value)
    if isinstance(value, str):
        return STRING + _text(value)
    if isinstance(value, (list, tuple)):
        return b"%b%b%b" % (ARRAY, b"".join(map(sort_key, value)), END)
    if isinstance(value, Mapping):
        pairs = b"".join(b"%b%b%b" % (STRING, _text(key), sort_key(one)) for key, one in value.items())
        return b"%b%b%b" % (OBJECT, pairs, END)
    raise TypeError(f"a {type(value).__name__} is not JSON")


def term_order(value: Any) -> tuple[int, Any]:
    """Return by what CouchDB orders the values of rows with one key and one document: the order of Erlang's terms.

    Numbers, then false, null and true, objects, arrays and strings.
    """
    if value is None or isinstance(value, bool):
        return 1, {None: "null", False: "false", True: "true"}[value]
    if isinstance(value, (int, float)):
        return 0, value
    if isinstance(value, Mapping):
        return 2, [(key.encode(), term_order(one)) for key, one in value.items()]
    if isinstance(value, (list, tuple)):
        return 3, [term_order(one) for one in value]
    return 4, value.encode("utf-8", "surrogatepass")


def text_range(beginning: str) -> tuple[bytes, bytes]:
    """Return the keys between which lie all strings that begin so: the first, and what comes after the last."""
    first = STRING + _text(beginning)[: -len(END)]
    return first, first + LAST


def text_bound(key: bytes) -> bytes:
    """Return the UTF-8 at which the strings begin that are not below a key of `sort_key` or `text_range`."""
    if key <= STRING:
        return b""
    if not key.startswith(STRING):
        return LAST
    rest = key[1:]
    for ending, added in ((END + LAST, b"\x00"), (END, b""), (LAST, LAST)):
        if rest.endswith(ending):
            rest, tail = rest[: -len(ending)], added
            break
    else:
        tail = b""
    return rest.replace(b"\x00\xff", b"\x00") + tail


def _number(value: float) -> bytes:
    """Return eight bytes for the double nearest to a number, and two for what an integer of over 53 bits has beside it."""
    if isinstance(value, int) and not -_EXACT_MAX <= value <= _EXACT_MAX:
        nearest = float(max(-_LARGEST, min(_LARGEST, value)))
        rest = max(-_REST_MAX, min(_REST_MAX, value - int(nearest)))
    else:
        nearest, rest = float(value) + 0.0, 0  # there is one zero
    bits = _double(nearest)
    bits = bits.translate(_FLIPPED) if bits[0] & 0x80 else bytes([bits[0] | 0x80]) + bits[1:]
    return bits + (rest + _REST_MAX).to_bytes(2, "big")


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").replace(b"\x00", b"\x00\xff") + END
