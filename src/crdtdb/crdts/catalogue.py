"""Catalogue of field types, and the operations common to all of them.

If two people make fields of different types at one path at the same time, both are kept; the type that stands first in the
catalogue shows, and the other is a conflict of the field.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from crdtdb.canonical_json import JSON
from crdtdb.crdts.contract import Field, Operation
from crdtdb.crdts.draft import Spot
from crdtdb.errors import InvalidInputError

_TYPES: dict[str, type[Field]] = {}


def register_types(*types: type[Field]) -> None:
    """Add types to the catalogue, in order of precedence."""
    _TYPES.update((one.kind, one) for one in types)


def catalogue() -> Mapping[str, type[Field]]:
    """Return every type by the name of its kind."""
    return _TYPES


def field_type(kind: str) -> type[Field]:
    """Return the type of a name. Raises InvalidInputError."""
    found = _TYPES.get(kind)
    if found is None:
        raise InvalidInputError(f"there is no field type {kind!r}: choose one of {', '.join(_TYPES)}")
    return found


def shown_kind(spot: Spot) -> str | None:
    """Return the kind of field that shows at a spot, None if none does."""
    kinds = spot.kinds()
    preferred = spot.draft.preferred.get(spot.path)
    if preferred is not None:
        return preferred[0] if preferred[0] in kinds else None
    return next((kind for kind in _TYPES if kind in kinds), None)


def value(spot: Spot) -> JSON:
    """Return the visible value: that of a field, or an object with the fields below."""
    kind = shown_kind(spot)
    if kind is not None:
        return _TYPES[kind].value(spot)
    return {child.path[-1]: value(child) for child in spot.children()}


def put(spot: Spot, field: Field) -> None:
    """Put a field: made where there is none, brought to the value by operations where there is one of its type.

    Raises InvalidInputError if there is one of another type.
    """
    kind = shown_kind(spot)
    if kind is None and not any(spot.children()):
        field.create(spot, field.initial)
    elif kind == field.kind:
        field.assign(spot, field.initial)
    else:
        where = ".".join(spot.path)
        raise InvalidInputError(
            f"there is a {kind or 'map'} at {where!r}, which can't become a {field.kind}: remove it first"
        )


def apply(spot: Spot, operation: str, arguments: Mapping[str, Any], kind: str | None = None) -> None:
    """Apply an operation by its name. `kind` is the type of a field that isn't there yet.

    Raises InvalidInputError for an operation that the type doesn't have, or arguments that it doesn't take.
    """
    found = shown_kind(spot) or kind
    where = ".".join(spot.path)
    if found is None:
        raise InvalidInputError(
            f"there is no field at {where!r}: make one by assigning a value of its type, or by schema"
        )
    known = field_type(found).operations
    function = known.get(operation)
    if function is None:
        raise InvalidInputError(
            f"a {found} such as {where!r} has no operation {operation!r}: it has {', '.join(known)}"
        )
    check_arguments(function, arguments, f"{operation!r} of the {found} {where!r}")
    function(spot, **arguments)


@cache
def parameters(function: Operation) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the names of what an operation takes, in order, and of what it must be given."""
    taken = list(inspect.signature(function).parameters.values())[1:]
    return tuple(one.name for one in taken), frozenset(one.name for one in taken if one.default is one.empty)


def check_arguments(function: Operation, arguments: Mapping[str, Any], what: str) -> None:
    """Raise InvalidInputError unless an operation takes these arguments, and needs no others."""
    names, needed = parameters(function)
    unknown, missing = arguments.keys() - set(names), needed - arguments.keys()
    if unknown or missing:
        wrong = f"takes no {min(unknown)!r}" if unknown else f"needs {min(missing)!r}"
        raise InvalidInputError(f"{what} {wrong}: it takes {', '.join(names) or 'nothing'}")


def remove(spot: Spot) -> None:
    """Remove every field at a spot and below it."""
    for kind in spot.kinds():
        if kind in _TYPES:
            _TYPES[kind].reset(spot)
    for child in list(spot.children()):
        remove(child)


def remove_shown(spot: Spot) -> None:
    """Remove the visible field at a spot and all below it; a hidden field there stays, and shows then."""
    kind = shown_kind(spot)
    if kind is not None and len(spot.kinds()) > 1:
        _TYPES[kind].reset(spot)
    else:
        remove(spot)


def conflicting(spot: Spot) -> list[JSON]:
    """Return the values beside the one that shows."""
    kind = shown_kind(spot)
    if kind is None:
        return []
    kinds = spot.kinds()
    return [
        *_TYPES[kind].others(spot),
        *(field.value(spot) for other, field in _TYPES.items() if other in kinds and other != kind),
    ]


def settle(spot: Spot) -> None:
    """Drop what `conflicting` returns."""
    kind = shown_kind(spot)
    if kind is None:
        return
    _TYPES[kind].settle(spot)
    for other in spot.kinds() - {kind}:
        if other in _TYPES and other != "map":
            _TYPES[other].reset(spot)
        elif other == "map":
            for child in list(spot.children()):
                remove(child)
            spot.remove(other)
