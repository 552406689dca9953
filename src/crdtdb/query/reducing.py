"""The reduces that CouchDB has built in, as folds: what was seen so far, and one row more.

`_approx_count_distinct` is HyperLogLog with 2,048 registers: about 2 % wrong, whatever the number. Source: Flajolet, Fusy,
Gandouet, Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm" (2007).
"""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import blake2b
from math import log
from typing import Any, Protocol

from crdtdb.errors import InvalidInputError, ReduceError
from crdtdb.query.collation import sort_key, term_order

_RANKED = re.compile(r"_(top|bottom)_([1-9][0-9]?|100)")
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
    """The sum of numbers, of arrays of numbers element by element, and of objects member by member, as deep as they go.

    As in CouchDB what meets nothing is taken as it is: the elements that the shorter array lacks, the members that one object
    lacks, and the first object whole. The members of a sum of objects are sorted.
    """

    def __init__(self) -> None:
        self._sum: Any = 0

    def add(self, key: Any, doc_id: str, value: Any) -> None:  # noqa: ARG002
        """Take a row. Raises ReduceError."""
        if isinstance(value, Mapping) and _is_number(self._sum) and self._sum == 0:
            self._sum = value
        else:
            self._sum = _added(self._sum, value)

    def result(self) -> Any:
        """Return the sum."""
        return self._sum


def _added(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {key: _member(key, one, other) for key in sorted({**one, **other}, key=str.encode)}
    if not _is_number(other) and not isinstance(other, list):
        raise _not_summed(other)
    if not _is_number(one) and not isinstance(one, list):
        raise _not_summed(one)
    if _is_number(one) and _is_number(other):
        return one + other
    return _arrays_added(one if isinstance(one, list) else [one], other if isinstance(other, list) else [other])


def _member(key: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Any:
    if key in one and key in other:
        return _added(one[key], other[key])
    return one[key] if key in one else other[key]


def _arrays_added(one: list[Any], other: list[Any]) -> list[Any]:
    both = min(len(one), len(other))
    for number in range(both):
        if not _is_number(one[number]) or not _is_number(other[number]):
            raise _not_summed(one[number:])
    return [a + b for a, b in zip(one, other, strict=False)] + one[both:] + other[both:]


def _not_summed(value: Any) -> ReduceError:
    takes = "numbers, arrays of numbers, or objects of these, nested as deep as you like, and no mixture of objects and others"
    return ReduceError(f"_sum takes {takes}, not {str(value)[:80]!r}", value)


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


class End:
    """The value of the row whose key is the lowest, or with `last` the highest, whatever the order that was asked for."""

    def __init__(self, *, last: bool) -> None:
        self._last = last
        self._place: Any = None
        self._value: Any = None

    def add(self, key: Any, doc_id: str, value: Any) -> None:
        """Take a row."""
        place = sort_key(key), doc_id, term_order(value)
        if self._place is None or (place > self._place if self._last else place < self._place):
            self._place, self._value = place, value

    def result(self) -> Any:
        """Return the value."""
        return self._value


class Ranked:
    """The lowest values, or with `top` the highest, `number` at most: compared as keys are, the lowest or highest first."""

    def __init__(self, *, number: int, top: bool) -> None:
        self._number, self._top = number, top
        self._kept: list[tuple[bytes, Any]] = []

    def add(self, key: Any, doc_id: str, value: Any) -> None:  # noqa: ARG002
        """Take a row."""
        insort(self._kept, (sort_key(value), value), key=lambda one: one[0])
        if len(self._kept) > self._number:
            self._kept.pop(0 if self._top else -1)

    def result(self) -> Any:
        """Return the values."""
        values = [value for _, value in self._kept]
        return values[::-1] if self._top else values


_BUILT_IN: Mapping[str, Callable[[], Reducer]] = {
    "_count": Count,
    "_sum": Sum,
    "_stats": Stats,
    "_approx_count_distinct": Distinct,
    "_first": partial(End, last=False),
    "_last": partial(End, last=True),
}


def built_in(name: str) -> Callable[[], Reducer]:
    """Return what makes the reducers of a name such as "_sum" or "_top_10". Raises InvalidInputError for an unknown one."""
    ranked = _RANKED.fullmatch(name)
    if ranked is not None:
        return partial(Ranked, number=int(ranked[2]), top=ranked[1] == "top")
    made = _BUILT_IN.get(name)
    if made is None:
        known = f"{', '.join(_BUILT_IN)}, _top_N or _bottom_N, with N from 1 to 100"
        raise InvalidInputError(f"{name[:80]!r} is no reduce that is built in: one of {known}")
    return made


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(what: str, value: Any) -> Any:
    if not _is_number(value):
        raise InvalidInputError(f"{what} takes numbers that were emitted as values, not {str(value)[:80]!r}")
    return value
