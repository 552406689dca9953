"""Map of JSON values or fields. A concurrent update wins over a remove.

    ""     dot -> nothing      the map is there, though it may be empty; every edit below it puts its dot here
    keys   what stands at them are fields at the path of the map and one key more; plain JSON is a register

A remove takes away what it had seen below the key. So a key that is updated meanwhile stays, with that update alone.

Source: Brown, Cribbs, Meiklejohn, Elliott, "Riak DT Map: A Composable, Convergent Replicated Dictionary" (2014).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crdtdb.canonical_json import JSON, canonical
from crdtdb.crdts import catalogue
from crdtdb.crdts.contract import Field
from crdtdb.crdts.draft import Spot
from crdtdb.crdts.register import Register
from crdtdb.errors import EncodingError, InvalidDocumentError, InvalidInputError

if TYPE_CHECKING:
    from random import Random


class Map(Field):
    """An object whose entries merge one by one, at any depth."""

    kind = "map"
    summary = "entries merge one by one; update wins over remove"

    @classmethod
    def nothing(cls) -> dict[str, Any]:
        """No entry."""
        return {}

    @classmethod
    def checked(cls, value: Any) -> dict[str, Any]:
        """Take a mapping from strings to JSON values and fields."""
        if not isinstance(value, Mapping):
            raise InvalidDocumentError(f"a map holds an object, not {str(value)[:80]!r}")
        return {_key(key): one if isinstance(one, Field) else Register.checked(one) for key, one in value.items()}

    @classmethod
    def create(cls, spot: Spot, value: Any) -> None:
        """Begin with entries."""
        spot.add(cls.kind)
        for key, one in value.items():
            _put(spot.child(key), one)

    @classmethod
    def value(cls, spot: Spot) -> dict[str, JSON]:
        """Return the entries with what each shows."""
        return {child.path[-1]: catalogue.value(child) for child in spot.children()}

    @classmethod
    def differ(cls, spot: Spot, before: Any, after: Any) -> None:
        """Put what is new or changed, entry by entry, and remove what isn't there any more."""
        for key in before:
            if key not in after:
                catalogue.remove(spot.child(key))
        for key, one in after.items():
            if isinstance(one, Field) or key not in before:
                _put(spot.child(key), one)
            elif canonical(one) != canonical(before[key]):
                _differ(spot.child(key), before[key], one)

    @classmethod
    def reset(cls, spot: Spot) -> None:
        """Remove the map with all that is below it."""
        for child in list(spot.children()):
            catalogue.remove(child)
        super().reset(spot)

    @classmethod
    def check(cls, part: str, content: bytes) -> None:
        """Take nothing but dots."""
        if part or content:
            raise EncodingError("a map has dots alone")

    @classmethod
    def sample(cls, rng: Random, value: JSON) -> tuple[str, dict[str, Any]]:
        """Write at a key, or remove one."""
        if isinstance(value, dict) and value and rng.random() < 0.3:
            return "remove", {"key": rng.choice(sorted(value))}
        return "set", {"key": rng.choice("abc"), "value": rng.choice([1, "x", {"y": 2}])}


def set_entry(spot: Spot, key: str, value: Any) -> None:
    """Write a JSON value or a field at a key.

    Over a field that is there a value of its type is brought about by operations; of another type it is refused.
    """
    _put(spot.child(_key(key)), value if isinstance(value, Field) else Register.checked(value))


def remove_entry(spot: Spot, key: str) -> None:
    """Remove a key with all that is below it. Raises InvalidInputError if it isn't there."""
    child = spot.child(_key(key))
    if not child.kinds() and not list(child.children()):
        raise InvalidInputError(f"the map at {'.'.join(spot.path)!r} has no key {key!r}: there is nothing to remove")
    catalogue.remove(child)


Map.operations = {"set": set_entry, "remove": remove_entry}


def _put(child: Spot, value: Any) -> None:
    kind = catalogue.shown_kind(child)
    if isinstance(value, Field):
        catalogue.put(child, value)
    elif kind is not None:
        field = catalogue.field_type(kind)
        field.assign(child, field.checked(value))
    elif any(child.children()):
        Map.assign(child, Map.checked(value))
    else:
        Register.create(child, value)


def _differ(child: Spot, before: Any, after: Any) -> None:
    kind = catalogue.shown_kind(child)
    if kind is not None:
        field = catalogue.field_type(kind)
        field.differ(child, field.checked(before), field.checked(after))
    elif any(child.children()):
        Map.differ(child, Map.checked(before), Map.checked(after))
    else:
        Register.create(child, after)


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise InvalidDocumentError(f"the keys of a map are strings, not {key!r}")
    return key
