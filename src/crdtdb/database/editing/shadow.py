"""A text or list while an edit is tried: the steps are noted and counted, and the one that is open stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from crdtdb.canonical_json import JSON
from crdtdb.crdts import (
    Sequence,
    Step,
)
from crdtdb.errors import InvalidInputError


class Shadow:
    """A text or list as an edit leaves it, without touching the one that is open: the steps are noted, and counted."""

    def __init__(self, under: Sequence, text: bool) -> None:
        self._under, self._text = under, text
        self.steps: list[Step] = []
        self.noted = 0
        """How many steps there were, before some became one."""
        self._length: int | None = None
        self.planted: Any = None
        """A whole value that was written where nothing was ever typed; then that is what the steps begin with."""

    @property
    def untouched(self) -> bool:
        """Whether nothing was ever inserted."""
        return self._under.untouched and self.planted is None and not self.steps

    def plant(self, value: Any, planter: bytes) -> bytes | None:  # noqa: ARG002
        """Note a whole value that is the first thing in it, if there is something in it."""
        if value:
            self.planted, self._length = value, len(value)
            self.noted += 1
        return None

    @property
    def length(self) -> int:
        """How long it is by now."""
        if self._length is None:
            self._length = self._under.length
        return self._length

    def value(self) -> JSON:
        """What it is by now."""
        value: Any = self._under.value() if self.planted is None else self.planted
        for at, removed, added in self.steps:
            value = value[:at] + added + value[at + removed :]
        return cast("JSON", value)

    @contextmanager
    def editing(self) -> Iterator[Callable[[Step], None]]:
        """Note steps. Raises InvalidInputError for one that is out of range."""
        yield self.add

    def taken(self) -> bytes | None:
        """Nothing: what is tried makes no update."""
        return None

    def add(self, step: Step) -> None:
        """Note a step. One that goes on where the last one ended is made one with it, as typing is."""
        at, removed, added = step
        if not 0 <= at <= at + removed <= self.length:
            what = "characters" if self._text else "values"
            raise InvalidInputError(
                f"positions {at} to {at + removed} are outside of {self.length} {what}: nothing was written"
            )
        self._length = self.length + len(added) - removed
        self.noted += 1
        if self.steps:
            last_at, last_removed, last_added = self.steps[-1]
            if not removed and at == last_at + len(last_added):
                self.steps[-1] = (last_at, last_removed, last_added + added)
                return
            if not added and last_at <= at and at + removed == last_at + len(last_added):
                self.steps[-1] = (last_at, last_removed, last_added[: at - last_at])
                return
            if not added and not last_added and at in (last_at, last_at - removed):
                self.steps[-1] = (at, last_removed + removed, added)
                return
        self.steps.append(step)
