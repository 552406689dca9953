"""JSON as crdtdb keeps it: a text that keeps what was written, a canonical one of it, and a refusal for what JSON can't hold.

Texts are compact UTF-8. The text of a document has its members in the order, and its integers with all the digits, that were
written. Its canonical text has the keys of every object in order, so that equal values have equal bytes on every node: that is
what is hashed and compared, and what is kept of values that no reader gets back as an object with an order.

A text with an integer beyond 64 bits begins with a blank: it is read by a parser that is slower, and rounds none.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeAlias

import orjson

from crdtdb.errors import InvalidDocumentError, TooLargeError
from crdtdb.limits import DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX, INTEGER_BITS_MAX, WHOLE_DOCUMENT_BYTES_MAX

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

_KEPT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_SORTED = _KEPT | orjson.OPT_SORT_KEYS
_LONG = b" "
"""How a text begins that has an integer beyond 64 bits."""
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)
"""A bracket, or a string, in which a bracket is none."""
_CUT_DEPTH = 2 * DOCUMENT_DEPTH_MAX
_FORMS_MAX = 256
_FORM_BYTES_MAX = 8 * 1024

_forms: dict[bytes, bytes] = {}
"""The canonical texts of texts that were written or asked for lately: each is needed again when it is hashed."""


def document_text(value: object) -> bytes:
    """Return the text of a body, its members in the order in which they stand.

    Tuples are written as arrays. Raises InvalidDocumentError for what JSON can't hold (NaN, infinities, lone
    surrogates, integers of more than `INTEGER_BITS_MAX` bits, keys that aren't strings, other types), naming the place;
    TooLargeError beyond the limits of size and depth.
    """
    return _bounded(merged_text(value), DOCUMENT_BYTES_MAX)


def whole_document_text(value: object) -> bytes:
    """Return the text of a document that is written with the values of its fields: its plain part is bounded later.

    Raises as `document_text` does.
    """
    return _bounded(merged_text(value), WHOLE_DOCUMENT_BYTES_MAX)


def merged_text(value: object) -> bytes:
    """Return the text of a value of any size: of a document as it is read, of which each part was bounded.

    A body and its texts, or what was merged, may be more together than anybody may write. Raises as `document_text` does.
    """
    text = _dumped(value, _KEPT)
    if len(text) <= _FORM_BYTES_MAX:
        _remember(text, _dumped_again(value, text))
    return text


def canonical(value: object) -> bytes:
    """Return the canonical text of a value. Raises as `document_text` does."""
    return _bounded(canonical_merged(value), DOCUMENT_BYTES_MAX)


def canonical_merged(value: object) -> bytes:
    """Return the canonical text of a value of any size. Raises as `document_text` does."""
    return _dumped(value, _SORTED)


def canonical_of(text: bytes) -> bytes:
    """Return the canonical text of a text that crdtdb itself wrote."""
    known = _forms.get(text)
    if known is None:
        known = _dumped_again(load(text), text)
        if len(text) <= _FORM_BYTES_MAX:
            _remember(text, known)
    return known


def dump(value: Any) -> bytes:
    """Return JSON for others to read, of a value that is known to be JSON."""
    try:
        return orjson.dumps(value)
    except TypeError:
        try:
            return _dumped_long(value, sort=False)
        except UnicodeEncodeError:  # a lone surrogate, which is repeated to its sender
            return json.dumps(value).encode()


def parse(text: bytes | str) -> Any:
    """Read JSON text that came from outside.

    Integers are exact, however long. A lone surrogate is read, so that the one document which has it can be refused. Raises
    InvalidDocumentError.
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        if _LONG_NUMBER.search(raw):
            # orjson would turn an integer beyond 64 bits into a float.
            return json.loads(raw.decode(), parse_constant=_no_number)
        return orjson.loads(raw)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidDocumentError):
            raise
        if _SURROGATE.search(raw):
            return _parsed_slowly(raw)
        raise InvalidDocumentError(f"not JSON: {error}") from error


def _parsed_slowly(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidDocumentError(f"not JSON: {error}") from error


def parse_documents(text: bytes) -> Any:
    """Read JSON text of documents that came from outside: each is to be kept or refused by itself.

    What is nested more deeply than a document may be, and than `parse` reads, is cut there: what is left of it is refused for
    its depth. Raises InvalidDocumentError.
    """
    try:
        return parse(text)
    except InvalidDocumentError:
        cut = _cut(text)
        if cut is None:
            raise
        return parse(cut)


def _cut(text: bytes) -> bytes | None:
    """Return JSON with null in the place of what is nested too deeply, None if nothing is."""
    depth, end, kept = 0, 0, list[bytes]()
    for token in _BRACKET.finditer(text):
        bracket = text[token.start()]
        if bracket in b"[{":
            depth += 1
            if depth == _CUT_DEPTH:
                kept.append(text[end : token.start()])
        elif bracket in b"]}":
            if depth == _CUT_DEPTH:
                kept.append(b"null")
                end = token.end()
            depth -= 1
    return b"".join([*kept, text[end:]]) if kept else None


def load(text: bytes) -> Any:
    """Read a text that crdtdb itself wrote."""
    return json.loads(text) if text[:1] == _LONG else orjson.loads(text)


def _no_number(name: str) -> JSON:
    raise InvalidDocumentError(f"{name} isn't JSON")


def _bounded(text: bytes, bytes_max: int) -> bytes:
    if len(text) > bytes_max:
        raise TooLargeError(f"the document has {len(text):,} bytes of JSON, the limit is {bytes_max:,}")
    return text


def _remember(text: bytes, form: bytes) -> None:
    if len(_forms) >= _FORMS_MAX:
        _forms.clear()
    _forms[text] = form


def _dumped(value: object, options: int) -> bytes:
    """Return the text of a value that may be anything."""
    try:
        text = orjson.dumps(value, option=options)
        # orjson writes NaN as null and UUIDs as strings: reading back shows whether the text says what was meant.
        if _may_be_deep(text) or orjson.loads(text) != value:
            text = orjson.dumps(_checked(value, "", 0), option=options)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, (InvalidDocumentError, TooLargeError)):
            raise
        checked = _checked(value, "", 0)
        return _LONG + _dumped_long(checked, sort=options == _SORTED)
    return text


def _dumped_again(value: object, text: bytes) -> bytes:
    """Return the canonical text of a value that has this text, so that it is known to be JSON."""
    if text[:1] == _LONG:
        return _LONG + _dumped_long(value, sort=True)
    return orjson.dumps(value, option=_SORTED)


def _dumped_long(value: object, *, sort: bool) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort).encode()


def _may_be_deep(text: bytes) -> bool:
    """Whether a text has more brackets than a document may have levels; False is certain, and cheap.

    `bytes.replace` jumps from bracket to bracket, `bytes.count` looks at each byte.
    """
    return len(text) - len(text.replace(b"{", b"").replace(b"[", b"")) > DOCUMENT_DEPTH_MAX


def _checked(value: object, place: str, depth: int) -> JSON:
    """Return the value as plain JSON, or say where it isn't."""
    where = f"at {place}" if place else "at the top"
    if depth > DOCUMENT_DEPTH_MAX:
        raise TooLargeError(f"nested deeper than {DOCUMENT_DEPTH_MAX} levels, {where[:80]}")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > INTEGER_BITS_MAX:
            raise InvalidDocumentError(
                f"{where}: the integer has {value.bit_length():,} bits, the limit is {INTEGER_BITS_MAX:,}: write it as a string"
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
