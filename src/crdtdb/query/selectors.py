r"""Selectors: which documents a query means, in the language of CouchDB's Mango.

    {"year": {"$gt": 2000}, "tags": {"$all": ["a", "b"]}, "$or": [{"name.first": "ada"}, {"rank": {"$exists": false}}]}

`compile_selector` checks a selector once and brings it into a normal form: alternatives and conjunctions of *conditions*, each
one operator at one path. A negation is moved down to the conditions, as CouchDB does: `{"$not": {"age": {"$gt": 3}}}` means
`{"age": {"$lte": 3}}`, so a document without an age matches neither. The planner reads that form. A field's name is a path, its
keys between dots; a dot that belongs to a key is written `\.`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from crdtdb.documents.fields import Unread, read_all
from crdtdb.errors import SelectorError
from crdtdb.patterns import Budget, Pattern
from crdtdb.query.collation import sort_key

Test = Callable[[Any], bool]
Path = tuple[str, ...]
ABSENT: Any = object()
_DEPTH_MAX = 50
_ID: Path = ("_id",)
_ABOUT_ORDER = frozenset({"$lt", "$lte", "$gt", "$gte"})
_CONDITIONS_MAX = 10_000
_DOT = re.compile(r"(?<!\\)\.")
_ESCAPED = re.compile(r"\\([.$])")


class Condition(NamedTuple):
    """One operator at one path. Of what is absent only `{"$exists": false}` is true."""

    path: Path
    operator: str
    argument: Any
    test: Test
    """Tells of a value that is there."""

    @property
    def needs(self) -> bool:
        """Whether only a document matches that has something at the path."""
        return self.operator != "$exists" or self.argument is True

    def matches(self, document: Any) -> bool:
        """Whether a document meets it."""
        value = value_at(document, self.path)
        return self.test(value) if value is not ABSENT else not self.needs


class Every(NamedTuple):
    """All of these."""

    parts: tuple[Node, ...]

    def matches(self, document: Any) -> bool:
        """Whether a document meets all."""
        return all(one.matches(document) for one in self.parts)


class Some(NamedTuple):
    """At least one of these."""

    parts: tuple[Node, ...]

    def matches(self, document: Any) -> bool:
        """Whether a document meets one."""
        return any(one.matches(document) for one in self.parts)


Node = Condition | Every | Some


class Selector:
    """A selector that was checked. Call it with a document to know whether it matches."""

    __slots__ = ("_root", "given")

    def __init__(self, given: Mapping[str, Any], root: Node) -> None:
        self.given, self._root = given, root

    def __call__(self, document: Any) -> bool:
        """Whether a document matches. Raises TooLargeError if a regular expression takes too long over it."""
        return self._root.matches(document)

    def conditions(self) -> Iterator[Condition]:
        """Yield what every document meets that matches, beside others."""
        waiting: list[Node] = [self._root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, Every):
                waiting.extend(reversed(node.parts))
            elif isinstance(node, Condition):
                yield node
            elif len(node.parts) == 1:
                waiting.append(node.parts[0])

    def all_conditions(self) -> Iterator[Condition]:
        """Yield every condition, of all alternatives."""
        waiting: list[Node] = [self._root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, Condition):
                yield node
            else:
                waiting.extend(node.parts)


def compile_selector(selector: object) -> Selector:
    """Return what tells whether a document matches. Raises SelectorError."""
    if not isinstance(selector, Mapping):
        raise SelectorError(f"a selector is an object, not {_shown(selector)}", fault="invalid_selector_json")
    return Selector(selector, _Compiler().node((), selector, False, 0))


def path_of(field: str) -> Path:
    """Return the keys of a field's path."""
    return tuple(_ESCAPED.sub(r"\1", key) for key in _DOT.split(field))


def value_at(document: Any, path: Path) -> Any:
    """Return what lies at a path, ABSENT if nothing does."""
    for key in path:
        if isinstance(document, Mapping):
            document = document.get(key, ABSENT)
        elif isinstance(document, list) and key.isascii() and key.isdigit() and int(key) < len(document):
            document = document[int(key)]
        else:
            return ABSENT
    return read_all(document) if isinstance(document, (Unread, dict)) else document


class _Compiler:
    def __init__(self) -> None:
        self._left = _CONDITIONS_MAX
        self._budget = Budget()

    def node(self, path: Path, given: Any, negated: bool, depth: int) -> Node:
        """Return what a selector, operators, or a value to be equal to mean at a path."""
        if depth > _DEPTH_MAX:
            raise SelectorError(f"the selector is nested more than {_DEPTH_MAX} deep")
        if not isinstance(given, Mapping) or (not given and path):
            return self._condition(path, "$eq", given, negated)
        parts = []
        for name, argument in given.items():
            if not isinstance(name, str):
                raise SelectorError(f"a field's name is a string, not {_shown(name)}")
            if name.startswith("$"):
                parts.append(self._operator(path, name, argument, negated, depth))
            else:
                parts.append(self.node((*path, *_checked_path(name)), argument, negated, depth + 1))
        return _joined(Some if negated else Every, parts)

    def _operator(self, path: Path, name: str, argument: Any, negated: bool, depth: int) -> Node:
        if name in ("$and", "$or", "$nor"):
            if not isinstance(argument, list):
                raise SelectorError(f"{name} takes an array of selectors", fault="bad_arg")
            if not argument:  # as in CouchDB: of no selectors none is met
                return Some(())
            # $nor is a negated $or, and what is negated of all is said of each: De Morgan.
            inside = negated != (name == "$nor")
            parts = [self.node(path, one, inside, depth + 1) for one in argument]
            return _joined(Every if (name == "$and") != inside else Some, parts)
        if name == "$not" and not path and not isinstance(argument, Mapping):
            raise SelectorError("$not takes a selector", fault="bad_arg")
        if name == "$not":
            return self.node(path, argument, not negated, depth + 1)
        if name in _NESTING:
            if not isinstance(argument, Mapping):
                raise SelectorError(f"{name} takes a selector", fault="bad_arg")
            if not argument:
                return Some(())
            inner = self.node((), argument, False, depth + 1)
            return self._condition(path, name, argument, negated, _NESTING[name](inner.matches))
        return self._condition(path, name, argument, negated)

    def _condition(self, path: Path, name: str, argument: Any, negated: bool, test: Test | None = None) -> Condition:
        self._left -= 1
        if self._left < 0:
            raise SelectorError(f"the selector has more than {_CONDITIONS_MAX:,} conditions")
        if negated and name in _OPPOSITES:
            name, negated = _OPPOSITES[name], False
        elif negated and name == "$exists" and isinstance(argument, bool):
            argument, negated = not argument, False
        if test is None and name == "$regex":
            test = self._regex(argument)
        if test is None:
            make = _SIMPLE.get(name)
            if make is None:
                raise SelectorError(f"Invalid operator: {name[:80]}", fault="invalid_operator")
            if path == _ID and name in _ABOUT_ORDER and isinstance(argument, (list, Mapping)):
                return _id_against(path, name)
            test = make(argument)
        if negated:
            return Condition(path, "$not", {name: argument}, _not(test))
        return Condition(path, name, argument, test)

    def _regex(self, argument: Any) -> Test:
        if not isinstance(argument, str):
            raise SelectorError("$regex takes a string", fault="invalid_operator")
        pattern = Pattern(argument, self._budget)
        return lambda value: isinstance(value, str) and pattern.found_in(value)


def _checked_path(field: str) -> Path:
    """Return the keys of the path of a field that a selector names. Raises SelectorError for one that is empty."""
    if not field:
        raise SelectorError("One or more conditions is missing a field name.")
    path = path_of(field)
    if not all(path):
        raise SelectorError(f"Invalid field name: {field[:80]}", fault="invalid_field_name")
    return path


def _id_against(path: Path, name: str) -> Condition:
    """Return what an id is beside an array or an object: above every one of them, in CouchDB's list of all documents."""
    above = name in ("$gt", "$gte")
    return Condition(path, "$exists", above, lambda _: above)


def _joined(kind: type[Every] | type[Some], parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


def _not(test: Test) -> Test:
    return lambda value: not test(value)


def _shown(value: object) -> str:
    return repr(value)[:80]


_OPPOSITES = {
    "$lt": "$gte",
    "$gte": "$lt",
    "$gt": "$lte",
    "$lte": "$gt",
    "$eq": "$ne",
    "$ne": "$eq",
    "$in": "$nin",
    "$nin": "$in",
}

_NESTING: dict[str, Callable[[Test], Test]] = {
    "$elemMatch": lambda test: lambda value: isinstance(value, list) and any(test(one) for one in value),
    "$allMatch": lambda test: lambda value: isinstance(value, list) and bool(value) and all(test(one) for one in value),
    "$keyMapMatch": lambda test: lambda value: isinstance(value, Mapping) and any(test(key) for key in value),
}


def _key(argument: Any) -> bytes:
    try:
        return sort_key(argument)
    except TypeError as error:
        raise SelectorError(f"{_shown(argument)} can't be compared with what documents hold: {error}") from error


def _ordered(compare: Callable[[bytes, bytes], bool]) -> Callable[[Any], Test]:
    def make(argument: Any) -> Test:
        bound = _key(argument)
        return lambda value: compare(sort_key(value), bound)

    return make


def _list_of(name: str, argument: Any) -> frozenset[bytes]:
    if not isinstance(argument, list):
        raise SelectorError(f"{name} takes an array", fault="bad_arg")
    return frozenset(map(_key, argument))


def _in(argument: Any) -> Test:
    wanted = _list_of("$in", argument)

    def test(value: Any) -> bool:
        if isinstance(value, list) and any(sort_key(one) in wanted for one in value):
            return True
        return sort_key(value) in wanted

    return test


def _nin(argument: Any) -> Test:
    _list_of("$nin", argument)
    return _not(_in(argument))


def _all(argument: Any) -> Test:
    wanted = _list_of("$all", argument)
    whole = _key(argument[0]) if len(argument) == 1 and isinstance(argument[0], list) else None

    def test(value: Any) -> bool:
        if not isinstance(value, list) or not wanted:
            return False
        return wanted <= {sort_key(one) for one in value} or sort_key(value) == whole

    return test


def _exists(argument: Any) -> Test:
    if not isinstance(argument, bool):
        raise SelectorError("$exists takes true or false", fault="bad_arg")
    return lambda _: argument


def _type(argument: Any) -> Test:
    if not isinstance(argument, str):
        raise SelectorError(f"$type takes one of {', '.join(_TYPES)}", fault="bad_arg")
    kinds = _TYPES.get(argument, ())
    return lambda value: isinstance(value, kinds) and (isinstance(value, bool) == (argument == "boolean"))


_TYPES: dict[str, type | tuple[type, ...]] = {
    "null": type(None),
    "boolean": bool,
    "number": (int, float),
    "string": str,
    "array": list,
    "object": Mapping,
}


def _size(argument: Any) -> Test:
    if type(argument) is not int or argument < 0:
        raise SelectorError("$size takes a whole number from 0", fault="bad_arg")
    return lambda value: isinstance(value, list) and len(value) == argument


def _mod(argument: Any) -> Test:
    if not isinstance(argument, list) or [type(one) for one in argument] != [int, int] or argument[0] == 0:
        raise SelectorError(
            "$mod takes [divisor, remainder], both whole numbers, and the divisor not 0", fault="bad_arg"
        )
    divisor, wanted = argument

    def test(value: Any) -> bool:
        if type(value) is not int:
            return False
        remainder = abs(value) % abs(divisor)  # as in CouchDB, it has the sign of what is divided
        return bool((-remainder if value < 0 else remainder) == wanted)

    return test


def _begins_with(argument: Any) -> Test:
    if not isinstance(argument, str):
        raise SelectorError("$beginsWith takes a string", fault="invalid_operator")
    return lambda value: isinstance(value, str) and value.startswith(argument)


_SIMPLE: dict[str, Callable[[Any], Test]] = {
    "$eq": _ordered(bytes.__eq__),
    "$ne": _ordered(bytes.__ne__),
    "$lt": _ordered(bytes.__lt__),
    "$lte": _ordered(bytes.__le__),
    "$gt": _ordered(bytes.__gt__),
    "$gte": _ordered(bytes.__ge__),
    "$in": _in,
    "$nin": _nin,
    "$all": _all,
    "$exists": _exists,
    "$type": _type,
    "$size": _size,
    "$mod": _mod,
    "$beginsWith": _begins_with,
}
