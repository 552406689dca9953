"""State machines as tables: the rows are the steps there are, and a step without a row doesn't happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

State = TypeVar("State")
Event = TypeVar("Event")


class Machine(Generic[State, Event]):
    """One state, and the table by which events change it."""

    def __init__(self, table: Mapping[tuple[State, Event], State], state: State) -> None:
        self._table, self.state = table, state

    def step(self, event: Event) -> bool:
        """Change the state by an event; return whether the table has a row for that."""
        state = self._table.get((self.state, event))
        if state is None:
            return False
        self.state = state
        return True
