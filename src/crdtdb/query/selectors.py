r"""Selectors: which documents a query means, in the language of CouchDB's Mango.

    {"year": {"$gt": 2000}, "tags": {"$all": ["a", "b"]}, "$or": [{"name.first": "ada"}, {"rank": {"$exists": false}}]}

`compile_selector` checks a selector once and returns what tests documents. A field's name is a path, its keys between dots; a
dot that belongs to a key is written `\.`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from crdtdb.errors import InvalidInputError
from crdtdb.query.collation import sort_key

Test = Callable[[Any], bool]
ABSENT: Any = object()
_DEPTH_MAX = 50
_DOT = re.compile(r"(?<!\\)\.")


class SelectorError(InvalidInputError):
    """A selector that isn't one: an operator that doesn't exist, or an argument that it can't take."""


def compile_selector(selector: object) -> Test:
    """Return what tells whether a document matches. Raises SelectorError."""
    if not isinstance(selector, Mapping):
        raise SelectorError("a selector is an object")
    return _condition(selector, 0)


def path_of(field: str) -> tuple[str, ...]:
    """Return the keys of a field's path."""
    return tuple(key.replace("\\.", ".") for key in _DOT.split(field))


def value_at(document: Any, path: tuple[str, ...]) -> Any:
    """Return what lies at a path, ABSENT if nothing does."""
    for key in path:
        if isinstance(document, Mapping):
            document = document.get(key, ABSENT)
        elif isinstance(document, list) and key.isascii() and key.isdigit() and int(key) < len(document):
            document = document[int(key)]
        else:
            return ABSENT
    return document


def _condition(condition: Any, depth: int) -> Test:
    """Return the test of one value: a selector of it, operators on it, or what it is to equal."""
    if depth > _DEPTH_MAX:
        raise SelectorError(f"the selector is nested more than {_DEPTH_MAX} deep")
    if not isinstance(condition, Mapping):
        return partial(_equals, condition)
    tests: list[Test] = []
    for name, argument in condition.items():
        if name.startswith("$"):
            tests.append(_operator(name, argument, depth))
        else:
            tests.append(partial(_at, path_of(name), _condition(argument, depth + 1)))
    return partial(_every, tests)


def _at(path: tuple[str, ...], test: Test, document: Any) -> bool:
    return test(value_at(document, path))


def _every(tests: list[Test], value: Any) -> bool:
    return all(test(value) for test in tests)


def _any(tests: list[Test], value: Any) -> bool:
    return any(test(value) for test in tests)


def _not(test: Test, value: Any) -> bool:
    return not test(value)


def _equals(wanted: Any, value: Any) -> bool:
    return value is not ABSENT and sort_key(value) == sort_key(wanted)


def _operator(name: str, argument: Any, depth: int) -> Test:
    if name in _COMBINING:
        if not isinstance(argument, list):
            raise SelectorError(f"{name} takes an array of selectors")
        tests = [_condition(one, depth + 1) for one in argument]
        return _COMBINING[name](tests)
    if name in _NESTING:
        return _NESTING[name](_condition(argument, depth + 1))
    make = _SIMPLE.get(name)
    if make is None:
        raise SelectorError(f"Invalid operator: {name[:80]}")
    return make(argument)


_COMBINING: dict[str, Callable[[list[Test]], Test]] = {
    "$and": lambda tests: partial(_every, tests),
    "$or": lambda tests: partial(_any, tests),
    "$nor": lambda tests: partial(_not, partial(_any, tests)),
}

_NESTING: dict[str, Callable[[Test], Test]] = {
    "$not": lambda test: partial(_not, test),
    "$elemMatch": lambda test: lambda value: isinstance(value, list) and any(test(one) for one in value),
    "$allMatch": lambda test: lambda value: isinstance(value, list) and bool(value) and all(test(one) for one in value),
    "$keyMapMatch": lambda test: lambda value: isinstance(value, Mapping) and any(test(key) for key in value),
}


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any], Test]:
    def make(argument: Any) -> Test:
        bound = sort_key(argument)
        return lambda value: value is not ABSENT and compare(sort_key(value), bound)

    return make


def _list_of(name: str, argument: Any) -> list[Any]:
    if not isinstance(argument, list):
        raise SelectorError(f"{name} takes an array")
    return [sort_key(one) for one in argument]


def _in(argument: Any) -> Test:
    wanted = _list_of("$in", argument)

    def test(value: Any) -> bool:
        if isinstance(value, list) and any(sort_key(one) in wanted for one in value):
            return True
        return value is not ABSENT and sort_key(value) in wanted

    return test


def _nin(argument: Any) -> Test:
    among = _in(argument)
    return lambda value: value is not ABSENT and not among(value)


def _all(argument: Any) -> Test:
    wanted = _list_of("$all", argument)

    def test(value: Any) -> bool:
        if not isinstance(value, list):
            return False
        held = [sort_key(one) for one in value]
        return all(one in held for one in wanted)

    return test


def _exists(argument: Any) -> Test:
    if not isinstance(argument, bool):
        raise SelectorError("$exists takes true or false")
    return lambda value: (value is not ABSENT) == argument


def _type(argument: Any) -> Test:
    if argument not in _TYPES:
        raise SelectorError(f"$type takes one of {', '.join(_TYPES)}")
    return lambda value: value is not ABSENT and sort_key(value)[0] == _TYPES[argument]


_TYPES = {"null": 0, "boolean": 1, "number": 2, "string": 3, "array": 4, "object": 5}


def _size(argument: Any) -> Test:
    if type(argument) is not int:
        raise SelectorError("$size takes a whole number")
    return lambda value: isinstance(value, list) and len(value) == argument


def _mod(argument: Any) -> Test:
    if not isinstance(argument, list) or [type(one) for one in argument] != [int, int] or argument[0] == 0:
        raise SelectorError("$mod takes [divisor, remainder], both whole numbers, and the divisor not 0")
    return lambda value: type(value) is int and value - int(value / argument[0]) * argument[0] == argument[1]


def _regex(argument: Any) -> Test:
    try:
        pattern = re.compile(argument)
    except (re.error, TypeError) as error:
        raise SelectorError(f"$regex takes a regular expression: {error}") from error
    return lambda value: isinstance(value, str) and pattern.search(value) is not None


def _begins_with(argument: Any) -> Test:
    if not isinstance(argument, str):
        raise SelectorError("$beginsWith takes a string")
    return lambda value: isinstance(value, str) and value.startswith(argument)


_SIMPLE: dict[str, Callable[[Any], Test]] = {
    "$eq": lambda argument: partial(_equals, argument),
    "$ne": lambda argument: lambda value: value is not ABSENT and sort_key(value) != sort_key(argument),
    "$lt": _ordered(lambda value, bound: value < bound),
    "$lte": _ordered(lambda value, bound: value <= bound),
    "$gt": _ordered(lambda value, bound: value > bound),
    "$gte": _ordered(lambda value, bound: value >= bound),
    "$in": _in,
    "$nin": _nin,
    "$all": _all,
    "$exists": _exists,
    "$type": _type,
    "$size": _size,
    "$mod": _mod,
    "$regex": _regex,
    "$beginsWith": _begins_with,
}
