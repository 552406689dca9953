"""What a run found, as values that are kept as JSON and read again."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

Durability = Literal["fsync", "buffered", "none"]
"""What an acknowledged write outlives: a loss of power, the end of the process, nothing."""

FORMAT = 1


class Series(msgspec.Struct, kw_only=True):
    """One workload at one target: a value for each round, the warm-up not among them."""

    workload: str
    target: str
    durability: Durability
    unit: str
    documents: int
    """How many documents a round works on: the slow targets get fewer, and the report says so."""
    values: list[float]
    latencies: dict[str, float] = {}
    """Percentiles over all rounds, microseconds: "p50", "p99", …; none where calls aren't timed one by one."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


class Point(msgspec.Struct, kw_only=True):
    """One place on a curve of growth: a cost at a size."""

    curve: str
    unit: str
    size: float
    value: float
    flat: bool = False
    """Whether it should cost the same at every size."""


class Fact(msgspec.Struct, kw_only=True):
    """One number that needs no rounds: bytes, a count of rounds, megabytes of memory."""

    name: str
    value: float
    unit: str
    note: str = ""


class Synced(msgspec.Struct, kw_only=True):
    """How many fsyncs a target was seen to make for so many writes, by whoever watches system calls."""

    target: str
    durability: Durability
    writes: int
    fsyncs: int


class Result(msgspec.Struct, kw_only=True):
    """One run."""

    format: int = FORMAT
    started: str
    machine: dict[str, str]
    versions: dict[str, str]
    rounds: int
    documents: str
    """Which documents were used: generated ones, or whose."""
    series: list[Series] = []
    points: list[Point] = []
    facts: list[Fact] = []
    synced: list[Synced] = []
    skipped: dict[str, str] = {}
    """What wasn't measured, and why."""

    def find(self, workload: str, target: str, durability: str) -> Series | None:
        """Return what was measured of a workload at a target."""
        return next(
            (
                one
                for one in self.series
                if (one.workload, one.target, one.durability) == (workload, target, durability)
            ),
            None,
        )

    def fact(self, name: str) -> Fact | None:
        """Return a number by its name."""
        return next((one for one in self.facts if one.name == name), None)


class Spread(NamedTuple):
    """A value, and the lowest and highest of the rounds that it is the median of."""

    value: float
    low: float
    high: float


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the ratio of what was measured in the same rounds."""
    pairs = [one / other for one, other in zip(ours, theirs, strict=False)]
    return Spread(statistics.median(pairs), min(pairs), max(pairs))


def percentiles(latencies: Sequence[float]) -> dict[str, float]:
    """Return percentiles of latencies in seconds, as microseconds."""
    ordered = sorted(latencies)
    if not ordered:
        return {}
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
    found = {name: 1e6 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] for name, part in at.items()}
    return {**found, "max": 1e6 * ordered[-1]}


def save(result: Result, path: Path) -> None:
    """Keep a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def load(path: Path) -> Result:
    """Read a run again. Raises ValueError for what isn't one."""
    try:
        result = msgspec.json.decode(path.read_bytes(), type=Result)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path} isn't the result of a run: {error}") from error
    if result.format != FORMAT:
        raise ValueError(f"{path} has format {result.format}, this harness reads {FORMAT}")
    return result
