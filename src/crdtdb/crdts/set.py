"""Set of JSON values. Of a concurrent add and remove the add wins.

    ""           dot -> nothing      the set is there, though it may be empty; every edit of it puts its dot here
    "=" element  dot -> nothing      the adds of an element that no remove has seen; the element as JSON text

Two values are the same element if their canonical JSON is: 1 and 1.0 are two.

Source: Bieniusa, Zawirski, Preguiça, Shapiro, Baquero, Balegas, Duarte, "An Optimized Conflict-free Replicated Set" (2012).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crdtdb.canonical_json import JSON, canonical, load
from crdtdb.crdts.contract import Field
from crdtdb.crdts.draft import Spot
from crdtdb.errors import EncodingError, InvalidDocumentError, InvalidInputError
from crdtdb.limits import FIELD_ELEMENT_BYTES_MAX

if TYPE_CHECKING:
    from random import Random

_MARK = "="


class Set(Field):
    """A set of JSON values; reads as a list in the order of their JSON texts."""

    kind = "set"
    summary = "add wins over remove"

    @classmethod
    def nothing(cls) -> list[JSON]:
        """No element."""
        return []

    @classmethod
    def checked(cls, value: Any) -> list[JSON]:
        """Take a list, tuple, set or frozenset of JSON values; what stands in it twice counts once."""
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise InvalidDocumentError(f"a set holds a list of values, not {str(value)[:80]!r}")
        return [load(text.encode()) for text in dict.fromkeys(_text(element) for element in value)]

    @classmethod
    def create(cls, spot: Spot, value: Any) -> None:
        """Begin with elements."""
        spot.add(cls.kind)
        for element in value:
            spot.replace(cls.kind, b"", _MARK + _text(element))

    @classmethod
    def value(cls, spot: Spot) -> list[JSON]:
        """Return the elements in the order of their texts."""
        return [load(part[1:].encode()) for part in spot.parts(cls.kind) if part.startswith(_MARK)]

    @classmethod
    def differ(cls, spot: Spot, before: Any, after: Any) -> None:
        """Add what is new, and remove what isn't there any more."""
        had, wanted = ({_MARK + _text(element) for element in elements} for elements in (before, after))
        for part in sorted(had - wanted):
            spot.remove(cls.kind, part)
        for part in sorted(wanted - had):
            spot.replace(cls.kind, b"", part)
        if had != wanted:
            spot.replace(cls.kind)

    @classmethod
    def check(cls, part: str, content: bytes) -> None:
        """Take JSON texts as elements, and nothing as content."""
        if content:
            raise EncodingError("an element of a set has no content")
        if part and (not part.startswith(_MARK) or canonical(load(part[1:].encode())) != part[1:].encode()):
            raise EncodingError("an element of a set is canonical JSON")

    @classmethod
    def sample(cls, rng: Random, value: JSON) -> tuple[str, dict[str, Any]]:
        """Add something, or remove something."""
        if isinstance(value, list) and value and rng.random() < 0.5:
            return "remove", {"element": rng.choice(value)}
        return "add", {"element": rng.choice(["a", "b", 1, 1.0, None, True, {"k": [1]}, rng.randint(-2, 9)])}


def add(spot: Spot, element: Any) -> None:
    """Add an element, any JSON value. Added again it outlives a removal that is made elsewhere meanwhile."""
    spot.replace(Set.kind, b"", _MARK + _text(element))
    spot.replace(Set.kind)


def remove(spot: Spot, element: Any) -> None:
    """Remove an element. Raises InvalidInputError if it isn't there; see `discard`."""
    part = _MARK + _text(element)
    if not spot.dots(Set.kind, part):
        raise InvalidInputError(f"{part[1:80]} isn't in the set at {'.'.join(spot.path)!r}: there is nothing to remove")
    spot.remove(Set.kind, part)
    spot.replace(Set.kind)


def discard(spot: Spot, element: Any) -> None:
    """Remove an element if it is there."""
    if spot.dots(Set.kind, _MARK + _text(element)):
        remove(spot, element)


Set.operations = {"add": add, "remove": remove, "discard": discard}


def _text(element: Any) -> str:
    text = canonical(element)
    if len(text) > FIELD_ELEMENT_BYTES_MAX:
        raise InvalidDocumentError(
            f"an element of {len(text):,} bytes of JSON, the limit of a set is {FIELD_ELEMENT_BYTES_MAX:,}"
        )
    return text.decode()
