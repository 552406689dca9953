"""Registers: one JSON value, replaced as a whole.

    Register     ""   dot -> stamp ":" JSON text      the latest stamp shows; the others go with the next write
    MultiValue   ""   dot -> JSON text                all that were written at the same time show

A stamp is a hybrid logical clock: of two writes at the same time by the clocks of two nodes, the later. Of equal stamps the
higher dot, so that all nodes agree.

Source: DeCandia et al., "Dynamo" (2007), for values side by side; Kulkarni et al. as in `crdtdb.documents.stamps`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from crdtdb.canonical_json import JSON, canonical, load
from crdtdb.crdts.contract import Field
from crdtdb.crdts.draft import Spot
from crdtdb.errors import EncodingError, InvalidDocumentError

if TYPE_CHECKING:
    from random import Random


class Register(Field):
    """One JSON value; the last write wins."""

    kind = "register"
    summary = "the last write by its stamp"

    @classmethod
    def nothing(cls) -> JSON:
        """Null."""
        return None

    @classmethod
    def checked(cls, value: Any) -> JSON:
        """Take any JSON value."""
        return cast("JSON", load(canonical(value)))

    @classmethod
    def create(cls, spot: Spot, value: Any) -> None:
        """Write a value over what is there."""
        spot.replace(cls.kind, b"%d:%b" % (spot.draft.signature.stamp, canonical(value)))

    @classmethod
    def value(cls, spot: Spot) -> JSON:
        """Return the value with the latest stamp."""
        return cast("JSON", load(_latest(spot)[1])) if spot.dots(cls.kind) else None

    @classmethod
    def differ(cls, spot: Spot, before: Any, after: Any) -> None:
        """Write a value, unless it was there."""
        if canonical(after) != canonical(before):
            cls.create(spot, after)

    @classmethod
    def check(cls, part: str, content: bytes) -> None:
        """Take a stamp and JSON."""
        stamp, colon, text = content.partition(b":")
        if part or not colon or not 1 <= len(stamp) <= 20 or not stamp.isdigit() or canonical(load(text)) != text:
            raise EncodingError("a register holds a stamp and canonical JSON")

    @classmethod
    def sample(cls, rng: Random, value: JSON) -> tuple[str, dict[str, Any]]:  # noqa: ARG003
        """Write something."""
        return "set", {"value": rng.choice(["x", 7, None, [1, {"a": 2.5}], rng.randint(0, 99)])}


def set_register(spot: Spot, value: Any) -> None:
    """Write a JSON value. Of two writes at the same time the one with the later stamp stays."""
    Register.create(spot, Register.checked(value))


Register.operations = {"set": set_register}


class MultiValue(Field):
    """JSON values that were written at the same time, side by side; reads as the list of them."""

    kind = "multivalue"
    summary = "all values written at the same time stay, until the next write"

    @classmethod
    def nothing(cls) -> list[JSON]:
        """No value: only what is made so to begin with has none."""
        return []

    @classmethod
    def checked(cls, value: Any) -> list[JSON]:
        """Take a list with the one value to hold, or an empty one."""
        if not isinstance(value, (list, tuple)):
            raise InvalidDocumentError(f"a multi-value register reads and writes as a list, not as {str(value)[:80]!r}")
        return load(canonical(value))  # type: ignore[no-any-return]

    @classmethod
    def create(cls, spot: Spot, value: Any) -> None:
        """Begin with the one value of a list, or with none."""
        cls._write(spot, value)

    @classmethod
    def value(cls, spot: Spot) -> list[JSON]:
        """Return the values in the order of their texts, equal ones once."""
        texts = {delta.content for delta in spot.dots(cls.kind).values() if delta.content}
        return [load(text) for text in sorted(texts)]

    @classmethod
    def differ(cls, spot: Spot, before: Any, after: Any) -> None:
        """Write the one value of a list, unless the list was what showed. Raises InvalidDocumentError for several."""
        if canonical(after) != canonical(before):
            cls._write(spot, after)

    @classmethod
    def _write(cls, spot: Spot, values: list[JSON]) -> None:
        if len(values) > 1:
            raise InvalidDocumentError(
                f"a multi-value register takes one value at a time, as a list of one: not {len(values)} of them"
            )
        spot.replace(cls.kind, canonical(values[0]) if values else b"")

    @classmethod
    def check(cls, part: str, content: bytes) -> None:
        """Take canonical JSON, or nothing."""
        if part or (content and canonical(load(content)) != content):
            raise EncodingError("a multi-value register holds canonical JSON")

    @classmethod
    def sample(cls, rng: Random, value: JSON) -> tuple[str, dict[str, Any]]:  # noqa: ARG003
        """Write something."""
        return "set", {"value": rng.choice(["x", 7, None, rng.randint(0, 99)])}


def set_multivalue(spot: Spot, value: Any) -> None:
    """Write a JSON value in the place of all that show."""
    MultiValue.create(spot, MultiValue.checked([value]))


MultiValue.operations = {"set": set_multivalue}


def _latest(spot: Spot) -> tuple[int, bytes]:
    """Return the stamp and the text that show."""
    found = []
    for dot, delta in spot.dots(Register.kind).items():
        stamp, _, text = delta.content.partition(b":")
        found.append((int(stamp), dot, text))
    latest, _, shown = max(found)
    return latest, shown
