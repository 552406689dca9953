"""Automatic resolvers: what becomes of a conflict where a collection doesn't want to keep it.

A resolver is a function of the conflict alone, so nodes that see the same conflict write the same revision, and a cluster
at rest writes nothing. It returns the body that is to replace all siblings, or None to leave them for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from crdtdb.database.document import Sibling
from crdtdb.errors import InvalidInputError


class Conflict(NamedTuple):
    """A document with more than one body.

    `siblings` has the winner first. `ancestor` is the body of the last revision that all of them descend from, None where
    there is none or its body isn't held any more.
    """

    id: str
    siblings: list[Sibling]
    ancestor: dict[str, Any] | None


Resolver = Callable[[Conflict], Mapping[str, Any] | None]


def last_write_wins(conflict: Conflict) -> Mapping[str, Any]:
    """Keep the sibling with the latest stamp; of equal ones that with the higher rev."""
    return max(conflict.siblings, key=_when).body


def first_write_wins(conflict: Conflict) -> Mapping[str, Any]:
    """Keep the sibling with the earliest stamp; of equal ones that with the lower rev."""
    return min(conflict.siblings, key=_when).body


def three_way_merge(conflict: Conflict) -> Mapping[str, Any] | None:
    """Take from each sibling what it changed since the common ancestor; leave the conflict if two changed the same.

    Objects merge name by name, at any depth; everything else, arrays too, is one value.
    """
    if conflict.ancestor is None:
        return None
    try:
        merged: dict[str, Any] = _merge(conflict.ancestor, [sibling.body for sibling in conflict.siblings])
    except _BothChangedError:
        return None
    return merged


RESOLVERS: Mapping[str, Resolver] = {
    "last_write_wins": last_write_wins,
    "first_write_wins": first_write_wins,
    "three_way_merge": three_way_merge,
}
"""The resolvers that a configuration can name."""


def resolver_named(resolver: str | Resolver) -> Resolver:
    """Return a resolver given by its name, or as it is. Raises InvalidInputError."""
    if callable(resolver):
        return resolver
    found = RESOLVERS.get(resolver)
    if found is None:
        raise InvalidInputError(
            f"there is no resolver {resolver!r}: choose one of {', '.join(RESOLVERS)}, or a function"
        )
    return found


class _BothChangedError(Exception):
    pass


_ABSENT: Any = object()


def _when(sibling: Sibling) -> tuple[int, int, str]:
    generation, _, digest = sibling.rev.partition("-")
    return sibling.stamp, int(generation), digest


def _merge(base: Any, versions: list[Any]) -> Any:
    changed: list[Any] = []
    for version in versions:
        if not _same(version, base) and not any(_same(version, other) for other in changed):
            changed.append(version)
    if not changed:
        return base
    if len(changed) == 1:
        return changed[0]
    if not isinstance(base, dict) or not all(isinstance(version, dict) for version in changed):
        raise _BothChangedError
    names = dict.fromkeys(name for one in (base, *changed) for name in one)
    merged = {name: _merge(base.get(name, _ABSENT), [one.get(name, _ABSENT) for one in changed]) for name in names}
    return {name: value for name, value in merged.items() if value is not _ABSENT}


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON values: unlike Python's, true isn't 1."""
    if one is _ABSENT or other is _ABSENT:
        return one is other
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return (bool(one == other) and isinstance(one, type(other))) or (
        isinstance(one, (int, float)) and isinstance(other, (int, float)) and one == other
    )
