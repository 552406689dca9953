"""What each operation costs in calls, rows, bytes, fsyncs and frames is what it was when somebody last looked at it."""

from __future__ import annotations

import pytest
from benchmarks.counts import Counts, count, differences, kept


def test_operations_cost_what_was_kept() -> None:
    lines = differences(count(), kept())
    told = "\n".join(lines)
    assert not lines, (
        f"operations cost something else than what is kept in benchmarks/counts.json:\n{told}\n"
        "If that is what you want, `python -m benchmarks compare --keep`, and say why in the commit."
    )


def test_counts_are_the_same_whoever_counts() -> None:
    assert count() == count()


def test_what_must_not_grow_doesnt() -> None:
    """Whatever else changes: these are promises, not habits."""
    counts = count()
    assert counts["put a new document"].fsyncs == 1
    assert counts["bulk of 100"].fsyncs == 1, "one commit, one fsync"
    assert counts["get"] == Counts(gets=1)
    assert counts["send nothing new"].frames == 2
    assert counts["send nothing new"].gets == counts["send nothing new"].scans == 0
    assert counts["send nothing new"].bytes_sent < 300
    assert counts["send 10 changed of 100"].rows_read == 10, "an exchange reads what it sends and nothing else"
    assert counts["receive 100"].fsyncs == 1


@pytest.mark.parametrize(
    ("now", "then", "expected"),
    [
        ({"put": Counts(gets=2)}, {"put": Counts(gets=1)}, ["put: gets 1 -> 2"]),
        ({"put": Counts(), "get": Counts()}, {"put": Counts()}, ["get: is new"]),
        ({}, {"put": Counts()}, ["put: is gone"]),
        ({"put": Counts(fsyncs=1)}, {"put": Counts(fsyncs=1)}, []),
    ],
)
def test_differences_are_told(now: dict[str, Counts], then: dict[str, Counts], expected: list[str]) -> None:
    assert differences(now, then) == expected
