"""Flag: on or off. Of a concurrent enable and disable the enable wins.

    ""   dot -> "1" | "0"     each replaces what its author had seen

Source: Shapiro, Preguiça, Baquero, Zawirski, "A comprehensive study of Convergent and Commutative Replicated Data Types"
(2011).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crdtdb.canonical_json import JSON
from crdtdb.crdts.contract import Field
from crdtdb.crdts.draft import Spot
from crdtdb.errors import EncodingError, InvalidDocumentError

if TYPE_CHECKING:
    from random import Random

_ON, _OFF = b"1", b"0"


class Flag(Field):
    """True or false; true wins."""

    kind = "flag"
    summary = "enable wins over disable"

    @classmethod
    def nothing(cls) -> bool:
        """Off."""
        return False

    @classmethod
    def checked(cls, value: Any) -> bool:
        """Take true or false."""
        if not isinstance(value, bool):
            raise InvalidDocumentError(f"a flag is true or false, not {str(value)[:80]!r}")
        return value

    @classmethod
    def create(cls, spot: Spot, value: Any) -> None:
        """Begin on or off."""
        spot.replace(cls.kind, _ON if value else _OFF)

    @classmethod
    def value(cls, spot: Spot) -> bool:
        """Return whether any current delta is an enable."""
        return any(delta.content == _ON for delta in spot.dots(cls.kind).values())

    @classmethod
    def differ(cls, spot: Spot, before: Any, after: Any) -> None:
        """Switch, if that changes anything."""
        if after != before:
            cls.create(spot, after)

    @classmethod
    def check(cls, part: str, content: bytes) -> None:
        """Take on and off."""
        if part or content not in (_ON, _OFF):
            raise EncodingError("a flag is 1 or 0")

    @classmethod
    def sample(cls, rng: Random, value: JSON) -> tuple[str, dict[str, Any]]:  # noqa: ARG003
        """Switch."""
        return rng.choice(["enable", "disable"]), {}


def enable(spot: Spot) -> None:
    """Switch it on."""
    Flag.create(spot, True)


def disable(spot: Spot) -> None:
    """Switch it off. Who enables it at the same time wins."""
    Flag.create(spot, False)


Flag.operations = {"enable": enable, "disable": disable}
