"""Text and List: sequences with concurrent edits by position, on Yrs.

    part of the field   dot -> nothing     one part for each life, named by it; the edits that no later one had seen
    journal at the part                    the updates themselves

A text at a path is one text, whichever actor made it first, as the root types of Yjs and Loro are: two actors that begin one
before they have met find the words of both in it. A whole value that is written where nothing was ever typed is *planted*:
inserted under a Yrs client id that follows from the value. So those who begin with the same words have them once.

Texts of two lives (`crdtdb.crdts.lives`) are two: the newest shows, the other is a conflict of the field. So are texts under
the names of the writes that made them, as older versions had them, until the next write joins them.

Source: Nicolaescu et al. as in `crdtdb.crdts.journal`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, ClassVar

from crdtdb.canonical_json import JSON, canonical, load
from crdtdb.crdts.contract import Field
from crdtdb.crdts.draft import Spot
from crdtdb.crdts.lives import is_of_a_life
from crdtdb.crdts.sequences import Sequence, Step, encode_items
from crdtdb.errors import EncodingError, InvalidDocumentError, InvalidInputError

if TYPE_CHECKING:
    from random import Random

_PART_BYTES = 8
_MATCH_MAX = 2_000
"""Beyond so many items on both sides a changed middle is replaced as a whole: a diff would take too long."""


class SequenceField(Field):
    """Common base of Text and List."""

    empty: ClassVar[Any]

    @classmethod
    def nothing(cls) -> Any:
        """Return the empty value."""
        return cls.empty

    @classmethod
    def part(cls, spot: Spot) -> str | None:
        """Return the part that shows, None if there is none."""
        parts, preferred = spot.parts(cls.kind), spot.draft.preferred.get(spot.path)
        if preferred is not None and preferred[0] == cls.kind and preferred[1] in parts:
            return preferred[1]
        return parts[-1] if parts else None

    @classmethod
    def create(cls, spot: Spot, value: Any) -> None:
        """Begin the text or list of this life."""
        cls.begin(spot, value)

    @classmethod
    def begin(cls, spot: Spot, value: Any) -> str:
        """Begin the text or list of this life; return its part."""
        part = spot.draft.part()
        # Made and removed in one edit, it may hold something already.
        spot.draft.rewrite(spot.address(cls.kind, part), value, lambda length: [(0, length, value)])
        spot.replace(cls.kind, b"", part)
        return part

    @classmethod
    def sequence(cls, spot: Spot, part: str) -> Sequence:
        """Return the open sequence of a part."""
        return spot.draft.sequence(spot.address(cls.kind, part))

    @classmethod
    def change(cls, spot: Spot, steps: list[Step], part: str | None = None) -> None:
        """Edit by position; create the text or list if it doesn't exist."""
        part = part or cls.part(spot) or cls.begin(spot, cls.empty)
        spot.draft.change(spot.address(cls.kind, part), steps)
        spot.replace(cls.kind, b"", part)

    @classmethod
    def value(cls, spot: Spot) -> JSON:
        """Return the visible value."""
        part = cls.part(spot)
        return cls.sequence(spot, part).value() if part is not None else cls.empty

    @classmethod
    def others(cls, spot: Spot) -> list[JSON]:
        """Return the values that were created concurrently and don't show."""
        return [cls.sequence(spot, part).value() for part in spot.parts(cls.kind)[:-1]]

    @classmethod
    def join(cls, spot: Spot) -> None:
        """Move concurrent texts of older versions into the visible one: planted, so they count once on all stores.

        What the text begins with is in it already.
        """
        *others, shown = spot.parts(cls.kind)
        for part in others:
            if is_of_a_life(part):
                continue
            value, there = cls.sequence(spot, part).value(), cls.value(spot)
            if cls._items(there)[: len(cls._items(value))] != cls._items(value):
                spot.draft.plant(spot.address(cls.kind, shown), value)
            spot.remove(cls.kind, part)
            spot.replace(cls.kind, b"", shown)

    @classmethod
    def reset(cls, spot: Spot) -> None:
        """Remove the text or list. A later text at this path is another one."""
        if any(spot.draft.sees(dot) for part in spot.parts(cls.kind) for dot in spot.dots(cls.kind, part)):
            super().reset(spot)
            spot.draft.begin_life()

    @classmethod
    def settle(cls, spot: Spot) -> None:
        """Drop the values that don't show."""
        for part in spot.parts(cls.kind)[:-1]:
            spot.remove(cls.kind, part)

    @classmethod
    def differ(cls, spot: Spot, before: Any, after: Any) -> None:
        """Make the edits that lead from one value to another: what both have stays as it is.

        An edit that derives from a revision made elsewhere is made on the text as its author saw it. Raises GapError if that
        isn't known any more.
        """
        steps = _difference(cls._items(before), cls._items(after), after)
        if not steps:
            return
        shown, parts = cls.part(spot), reversed(spot.parts(cls.kind))
        known = [part for part in parts if spot.draft.knows(spot.address(cls.kind, part))]
        part = shown if shown in known else known[0] if known else None
        if part is None:
            cls.create(spot, after)
            return
        spot.draft.rewrite(spot.address(cls.kind, part), after, lambda _: steps)
        spot.replace(cls.kind, b"", part)

    @classmethod
    def _items(cls, value: Any) -> Any:
        return value

    @classmethod
    def check(cls, part: str, content: bytes) -> None:
        """Take a dot at the name of a creation."""
        if content or len(bytes.fromhex(part)) != _PART_BYTES:
            raise EncodingError("a text or list stands under the name of its life, or of its creation")


class Text(SequenceField):
    """Text with concurrent edits. Positions count code points from 0."""

    kind = "text"
    summary = "everything that was typed, no character lost or doubled"
    empty = ""

    @classmethod
    def checked(cls, value: Any) -> str:
        """Take a string that UTF-8 can hold."""
        if not isinstance(value, str):
            raise InvalidDocumentError(f"a text holds a string, not {str(value)[:80]!r}")
        if not value.isascii():
            canonical(value)  # which refuses lone surrogates
        return value

    @classmethod
    def sample(cls, rng: Random, value: JSON) -> tuple[str, dict[str, Any]]:
        """Make a random insertion or deletion."""
        length = len(value) if isinstance(value, str) else 0
        if length and rng.random() < 0.4:
            at = rng.randrange(length)
            return "delete", {"at": at, "count": rng.randint(1, min(4, length - at))}
        return "insert", {"at": rng.randint(0, length), "text": rng.choice(["a", "bc", "é", "🎉", "hello "])}


class List(SequenceField):
    """List of JSON values with concurrent edits. Positions count values from 0."""

    kind = "list"
    summary = "everything that was inserted, in an order that all agree on"
    empty: ClassVar[list[Any]] = []

    @classmethod
    def checked(cls, value: Any) -> list[JSON]:
        """Take a list or tuple of JSON values."""
        if not isinstance(value, (list, tuple)):
            raise InvalidDocumentError(f"a list holds a list of values, not {str(value)[:80]!r}")
        return load(canonical(value))  # type: ignore[no-any-return]

    @classmethod
    def _items(cls, value: Any) -> list[str]:
        return encode_items(value)

    @classmethod
    def sample(cls, rng: Random, value: JSON) -> tuple[str, dict[str, Any]]:
        """Make a random insertion, replacement or removal."""
        length = len(value) if isinstance(value, list) else 0
        if length and rng.random() < 0.3:
            return "delete", {"at": rng.randrange(length), "count": 1}
        if length and rng.random() < 0.2:
            return "replace", {"at": rng.randrange(length), "value": "r"}
        return "insert", {"at": rng.randint(0, length), "values": [rng.choice([1, "x", {"y": [2.5]}])]}


class Positional:
    """Operation by position: given the length and named arguments, returns the step."""

    def __init__(self, field: type[SequenceField], step: Callable[..., Step]) -> None:
        self._field, self.step = field, step
        self.__doc__ = step.__doc__
        self.__signature__ = inspect.signature(step)

    def __call__(self, spot: Spot, **arguments: Any) -> None:
        """Apply it."""
        part = self._field.part(spot)
        length = self._field.sequence(spot, part).length if part is not None else 0
        self._field.change(spot, [self.step(length, **arguments)], part)


def insert_text(length: int, at: int, text: str) -> Step:  # noqa: ARG001
    """Insert a string before the character at position `at`, from 0 to the length."""
    return _position(at), 0, Text.checked(text)


def append_text(length: int, text: str) -> Step:
    """Insert a string at the end."""
    return length, 0, Text.checked(text)


def delete_text(length: int, at: int, count: int = 1) -> Step:  # noqa: ARG001
    """Delete `count` characters from position `at` on."""
    return _position(at), _position(count), ""


def replace_text(length: int, at: int, count: int, text: str) -> Step:  # noqa: ARG001
    """Put a string in the place of `count` characters."""
    return _position(at), _position(count), Text.checked(text)


def insert_values(length: int, at: int, values: list[Any]) -> Step:  # noqa: ARG001
    """Insert values before the one at position `at`, from 0 to the length."""
    return _position(at), 0, List.checked(values)


def append_value(length: int, value: Any) -> Step:
    """Insert a value at the end."""
    return length, 0, List.checked([value])


def delete_values(length: int, at: int, count: int = 1) -> Step:  # noqa: ARG001
    """Delete `count` values from position `at` on."""
    return _position(at), _position(count), []


def replace_value(length: int, at: int, value: Any) -> Step:  # noqa: ARG001
    """Put a value in the place of the one at position `at`."""
    return _position(at), 1, List.checked([value])


Text.operations = {
    "insert": Positional(Text, insert_text),
    "append": Positional(Text, append_text),
    "delete": Positional(Text, delete_text),
    "replace": Positional(Text, replace_text),
}
List.operations = {
    "insert": Positional(List, insert_values),
    "append": Positional(List, append_value),
    "delete": Positional(List, delete_values),
    "replace": Positional(List, replace_value),
}


def _position(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInputError(f"a position or count is a whole number from 0, not {str(value)[:80]!r}")
    return value


def _difference(before: Any, after: Any, value: Any) -> list[Step]:
    """Return the steps from one sequence to another. `value` has what the steps are to insert, item for item with `after`."""
    shortest = min(len(before), len(after))
    head = next((n for n in range(shortest) if before[n] != after[n]), shortest)
    tail = 0
    while tail < shortest - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    if not len(old) and not len(new):
        return []
    if len(old) > _MATCH_MAX or len(new) > _MATCH_MAX:
        return [(head, len(old), value[head : head + len(new)])]
    steps: list[Step] = []
    for what, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what != "equal":
            steps.append((head + c, b - a, value[head + c : head + d]))
    return steps
