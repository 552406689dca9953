"""An edit of n elements takes n steps, whatever is there already: a request for 10,000 would stop a node otherwise."""

from __future__ import annotations

from cProfile import Profile
from pstats import Stats

import pytest

import crdtdb
from crdtdb import Set


def calls(operation: str, elements: int) -> int:
    """Return how many calls of functions an edit takes that does an operation with each of so many elements."""
    with crdtdb.open("memory:") as db:
        notes = db["notes"]
        notes.put("d", {"s": Set(list(range(elements)) if operation == "remove" else [])})
        with Profile() as profile, notes.edit("d") as edit:
            for element in range(elements):
                getattr(edit["s"], operation)(element)
        assert len(notes.get("d")["s"]) == (0 if operation == "remove" else elements)
    return int(Stats(profile).total_calls)  # type: ignore[attr-defined]


@pytest.mark.parametrize("operation", ["add", "remove"])
def test_a_set(operation: str) -> None:
    assert calls(operation, 800) < 2.5 * calls(operation, 400)
