"""Fields that a caller gives inside a body, and places in a body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crdtdb.crdts import (
    Field,
    Place,
)

Given = Mapping[Place, Field]
"""Values of field types that stand in what a client wrote, by their paths."""


def take_given(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], Given]:
    """Return a document without the values of field types in it, and these by their paths."""
    given: dict[Place, Field] = {}
    rest = _taken(body, (), given)
    return (rest if given else body), given


def _taken(value: Any, path: Place, given: dict[Place, Field]) -> Any:
    if isinstance(value, Mapping):
        rest = {}
        for key, one in value.items():
            if isinstance(one, Field):
                given[*path, key] = one
            else:
                rest[key] = _taken(one, (*path, key), given)
        return rest
    return value


def place(body: dict[str, Any], path: Place, value: Any) -> None:
    """Put a value into a body at a path, with the objects that lead there."""
    for key in path[:-1]:
        body = body.setdefault(key, {})
    body[path[-1]] = value


def holder_of(body: Any, path: Place) -> tuple[dict[str, Any] | None, str]:
    """Return the object of a body that a path's last key would stand in, None if there is none."""
    for key in path[:-1]:
        body = body.get(key) if isinstance(body, dict) else None
    return (body if isinstance(body, dict) else None), path[-1]
