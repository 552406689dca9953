"""What fields must show, said by sets of events alone: who did what, and what they had seen. No dots and no merges.

An event counts unless another that had seen it took it away. That is all; each type says what takes what away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Event:
    """Something that somebody did to a field, or to all of a document (`path` is empty then)."""

    number: int
    what: str
    path: str
    value: Any
    past: frozenset[Event]
    text: str | None = None
    """For what is done to a text or list: the life of the document in which it was created."""


def surviving(events: Iterable[Event], taken_away_by: Callable[[Event, Event], bool]) -> list[Event]:
    """Return the events that nothing which had seen them took away."""
    held = list(events)
    return [one for one in held if not any(one in other.past and taken_away_by(one, other) for other in held)]


def removes(one: Event, other: Event) -> bool:
    """Whether an event removes whole fields: the document was made anew, or a key of a map was removed."""
    return other.what == "reset" or (other.what == "drop" and (one.path + ".").startswith(other.path + "."))


def counter(events: list[Event]) -> int:
    return sum(one.value for one in surviving(events, removes) if one.what == "add")


def flag(events: list[Event]) -> bool:
    return any(
        one.value
        for one in surviving(events, lambda one, other: removes(one, other) or other.what == "flag")
        if one.what == "flag"
    )


def elements(events: list[Event]) -> list[Any]:
    def gone(one: Event, other: Event) -> bool:
        return removes(one, other) or (other.what == "discard" and other.value == one.value)

    return sorted({one.value for one in surviving(events, gone) if one.what == "element"})


def register(events: list[Event]) -> Any:
    left = surviving(events, lambda one, other: removes(one, other) or other.what == "write")
    return {one.value for one in left if one.what == "write"}


def exists(events: list[Event]) -> bool:
    return any(one.what not in ("reset", "drop") for one in surviving(events, removes))


def texts(events: list[Event]) -> list[frozenset[str]]:
    """Return what stands in each text that is there: the characters, each of which was typed once in a life."""
    created = {one.text for one in events if one.text is not None}
    found = []
    for text in created:
        mine = [one for one in events if one.text == text]
        resets = [one for one in events if one.what in ("reset", "drop")]
        if surviving([*mine, *resets], removes) and any(one in mine for one in surviving([*mine, *resets], removes)):
            typed = {character for one in mine if one.what == "type" for character in one.value}
            erased = {character for one in mine if one.what == "erase" for character in one.value}
            found.append(frozenset(typed - erased))
    return found
