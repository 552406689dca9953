"""The reduces that CouchDB has built in, as folds: what was seen so far, and one row more.

`_approx_count_distinct` is HyperLogLog with 2,048 registers: about 2 % wrong, whatever the number. Source: Flajolet, Fusy,
Gandouet, Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm" (2007).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from math import log
from typing import Any, Protocol

from crdtdb.errors import InvalidInputError
from crdtdb.query.collation import sort_key

_REGISTER_BITS = 11
_REGISTERS = 1 << _REGISTER_BITS


class Reducer(Protocol):
    """Takes rows one by one, and says what they come to."""

    def add(self, key: Any, doc_id: str, value: Any) -> None:
        """Take a row. Raises InvalidInputError for a value that can't be reduced."""

    def result(self) -> Any:
        """Return what the rows come to. Called once, when at least one row was taken."""


class Count:
    """How many rows there are."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, key: Any, doc_id: str, value: Any) -> None:  # noqa: ARG002 - it's the same for all
        """Take a row."""
        self._count += 1

    def result(self) -> Any:
        """Return the number."""
        return self._count


class Sum:
    """The sum of numbers; of arrays of numbers element by element; of objects of numbers key by key."""

    def __init__(self) -> None:
        self._sum: Any = 0

    def add(self, key: Any, doc_id: str, value: Any) -> None:  # noqa: ARG002
        """Take a row."""
        self._sum = _added(self._sum, value)

    def result(self) -> Any:
        """Return the sum."""
        return self._sum


def _added(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {key: _added(one.get(key, 0), other.get(key, 0)) for key in {**one, **other}}
    if _is_number(one) and one == 0 and isinstance(other, Mapping):
        return {key: _added(0, value) for key, value in other.items()}
    if isinstance(one, list) or isinstance(other, list):
        longer = one if isinstance(one, list) else [one]
        shorter = other if isinstance(other, list) else [other]
        if len(longer) < len(shorter):
            longer, shorter = shorter, longer
        rest = [_number("_sum", value) for value in longer[len(shorter) :]]
        return [_number("_sum", a) + _number("_sum", b) for a, b in zip(longer, shorter, strict=False)] + rest
    return _number("_sum", one) + _number("_sum", other)


class Stats:
    """Sum, count, minimum, maximum and sum of squares; of arrays of numbers for each element."""

    def __init__(self) -> None:
        self._seen: Any = None

    def add(self, key: Any, doc_id: str, value: Any) -> None:  # noqa: ARG002
        """Take a row."""
        one = [_of_one(part) for part in value] if isinstance(value, list) else _of_one(value)
        if self._seen is None:
            self._seen = one
        elif isinstance(one, list) and isinstance(self._seen, list) and len(one) == len(self._seen):
            self._seen = [_both(a, b) for a, b in zip(self._seen, one, strict=True)]
        elif isinstance(one, list) or isinstance(self._seen, list):
            raise InvalidInputError("_stats takes numbers, or arrays of one length, and not some of each")
        else:
            self._seen = _both(self._seen, one)

    def result(self) -> Any:
        """Return the statistics."""
        return self._seen


_PARTS = ("sum", "count", "min", "max", "sumsqr")


def _of_one(value: Any) -> dict[str, float]:
    if isinstance(value, Mapping):  # statistics that were made before
        missing = [part for part in _PARTS if not _is_number(value.get(part))]
        if missing:
            raise InvalidInputError(
                f"_stats takes numbers, or objects with {', '.join(_PARTS)}: {missing[0]} is missing"
            )
        return {part: value[part] for part in _PARTS}
    number = _number("_stats", value)
    return {"sum": number, "count": 1, "min": number, "max": number, "sumsqr": number * number}


def _both(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {
        "sum": one["sum"] + other["sum"],
        "count": one["count"] + other["count"],
        "min": min(one["min"], other["min"]),
        "max": max(one["max"], other["max"]),
        "sumsqr": one["sumsqr"] + other["sumsqr"],
    }


class Distinct:
    """About how many different keys there are."""

    def __init__(self) -> None:
        self._registers = bytearray(_REGISTERS)

    def add(self, key: Any, doc_id: str, value: Any) -> None:  # noqa: ARG002
        """Take a row."""
        bits = int.from_bytes(blake2b(sort_key(key), digest_size=8).digest(), "big")
        register, rest = bits >> (64 - _REGISTER_BITS), bits & ((1 << (64 - _REGISTER_BITS)) - 1)
        rank = 64 - _REGISTER_BITS - rest.bit_length() + 1
        self._registers[register] = max(self._registers[register], rank)

    def result(self) -> Any:
        """Return the estimate."""
        estimate = 0.7213 / (1 + 1.079 / _REGISTERS) * _REGISTERS**2 / sum(2.0**-rank for rank in self._registers)
        empty = self._registers.count(0)
        if estimate <= 2.5 * _REGISTERS and empty:
            estimate = _REGISTERS * log(_REGISTERS / empty)
        return round(estimate)


BUILT_IN: Mapping[str, Callable[[], Reducer]] = {
    "_count": Count,
    "_sum": Sum,
    "_stats": Stats,
    "_approx_count_distinct": Distinct,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(what: str, value: Any) -> Any:
    if not _is_number(value):
        raise InvalidInputError(f"{what} takes numbers that were emitted as values, not {str(value)[:80]!r}")
    return value
