"""Measure two things in turns, so that a noisy machine disturbs both alike, and report the ratio of their medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

ROUNDS = 5


class Row(NamedTuple):
    """One line of a report: what was done, how fast, against what, and what was hoped for."""

    what: str
    ours: float
    theirs: float
    unit: str
    wanted: str

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


def rates(ours: Callable[[], int], theirs: Callable[[], int], rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the median rates of two actions, each of which returns how much it did."""
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for action, into in zip((ours, theirs), found, strict=True):
            began = time.perf_counter()
            done = action()
            into.append(done / (time.perf_counter() - began))
    return statistics.median(found[0]), statistics.median(found[1])


def report(title: str, rows: list[Row]) -> str:
    """Return a table in Markdown."""
    lines = [f"## {title}", "", "| what | crdtdb | compared with | ratio | wanted |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.what} | {row.ours:,.0f} {row.unit} | {row.theirs:,.0f} {row.unit} | {row.ratio:.2f} | {row.wanted} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])
