"""A run as Markdown: first what was to be reached, then everything that was measured, with its bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from benchmarks.goals import GOALS, OURS, Goal
from benchmarks.results import Point, Result, Series, Spread, ratio


def markdown(result: Result, plots: Sequence[str] = ()) -> str:
    """Return the report; `plots` are the names of image files beside it."""
    parts = [
        f"# Measured on {result.started[:16].replace('T', ' ')} UTC",
        _about(result),
        "## What was to be reached",
        "Ratios are of the same round, so that a noisy machine disturbs both; in brackets the lowest and the highest round.",
        _goals(result),
        *(f"![{name}]({name})" for name in plots),
        "## Workloads",
        "`ratio`: crdtdb on LevelDB at the same durability, of what stands in the row. Latencies are microseconds.",
        *(_workload(result, name) for name in dict.fromkeys(one.workload for one in result.series)),
    ]
    if result.points:
        parts += ["## Growth", _GROWTH, _growth(result.points)]
    if result.facts:
        facts = ([one.name, _number(one.value), one.unit, one.note] for one in result.facts)
        parts += ["## Numbers", _table(["what", "", "unit", ""], facts)]
    parts += ["## Durability", _durability(result)]
    if result.skipped:
        parts += ["## Not measured", _table(["what", "why"], ([name, why] for name, why in result.skipped.items()))]
    return "\n\n".join(parts) + "\n"


def compared(one: Result, other: Result) -> str:
    """Put two runs side by side. Their ratios may be compared, their rates only if one machine ran both."""
    rows = []
    for goal in GOALS:
        before, after = goal.find(one), goal.find(other)
        if before is not None and after is not None:
            rows.append([goal.name, _found(before, goal), _found(after, goal), f"{after.value / before.value:.2f}"])
    for series in one.series:
        after_series = other.find(series.workload, series.target, series.durability)
        if after_series is not None:
            change = after_series.median / series.median
            name = f"{series.workload}, {series.target}, {series.durability}"
            rows.append([name, _rate(series), _rate(after_series), f"{change:.2f}"])
    return _table(["what", one.started[:16], other.started[:16], "after / before"], rows)


def _about(result: Result) -> str:
    rows = [*result.machine.items(), ("rounds", str(result.rounds)), ("documents", result.documents)]
    versions = ", ".join(f"{name} {number}" for name, number in result.versions.items())
    return _table(["", ""], [[name, value] for name, value in (*rows, ("versions", versions))])


def _goals(result: Result) -> str:
    rows = []
    for goal in GOALS:
        found = goal.find(result)
        wanted = [f"{_number(goal.at_least)} {goal.unit}".strip(), f"{_number(goal.at_best)} {goal.unit}".strip()]
        if found is None:
            rows.append([goal.name, "–", *wanted, "not measured"])
        else:
            rows.append([goal.name, _found(found, goal), *wanted, goal.verdict(found)])
    return _table(["what", "measured", "at least", "at best", "reached"], rows)


def _found(found: Spread, goal: Goal) -> str:
    text = f"{_number(found.value)} {goal.unit}".strip()
    if found.low == found.high:
        return text
    return f"{text} ({_number(found.low)} to {_number(found.high)})"


def _workload(result: Result, name: str) -> str:
    rows = []
    for one in result.series:
        if one.workload != name:
            continue
        ours = result.find(name, OURS, one.durability)
        compared = ""
        if ours is not None and ours is not one:
            faster, slower = (one, ours) if one.unit == "ms" else (ours, one)  # of times the lower one is better
            compared = _number(ratio(faster.values, slower.values).value)
        rows.append(
            [
                one.target,
                one.durability,
                f"{one.documents:,}",
                _rate(one),
                f"{_number(min(one.values))} to {_number(max(one.values))}",
                *(f"{one.latencies[at]:,.0f}" if at in one.latencies else "" for at in ("p50", "p99", "max")),
                compared,
            ]
        )
    head = ["target", "durability", "documents", "median", "rounds", "p50", "p99", "max", "ratio"]
    return f"### {name}\n\n{_table(head, rows)}"


_GROWTH = (
    "The exponent is the slope of the cost over the size on logarithmic axes, fitted by least squares: 0 is flat, 1 is in "
    "proportion."
)


def _growth(points: Sequence[Point]) -> str:
    curves: dict[str, list[Point]] = {}
    for point in points:
        curves.setdefault(point.curve, []).append(point)
    sizes = sorted({point.size for point in points})
    rows = []
    for name, curve in curves.items():
        at = {point.size: point.value for point in curve}
        exponent = fitted_exponent(curve)
        rows.append(
            [
                f"{name}, {curve[0].unit}".rstrip(", "),
                *(_number(at[size]) if size in at else "" for size in sizes),
                f"{exponent:+.2f}" if exponent is not None else "",
                "flat" if curve[0].flat else "",
            ]
        )
    return _table(["cost", *(f"{size:,.0f}" for size in sizes), "exponent", "wanted"], rows)


def fitted_exponent(curve: Sequence[Point]) -> float | None:
    """Return the slope of a curve on logarithmic axes, by least squares; None if it has no two sizes."""
    places = [(math.log(point.size), math.log(point.value)) for point in curve if point.value > 0]
    if len({x for x, _ in places}) < 2:
        return None
    mean_x, mean_y = (sum(part) / len(places) for part in zip(*places, strict=True))
    over = sum((x - mean_x) * (y - mean_y) for x, y in places)
    return float(over / sum((x - mean_x) ** 2 for x, _ in places))


def _durability(result: Result) -> str:
    if not result.synced:
        return "Nobody counted the fsyncs in this run."
    rows = [[one.target, one.durability, str(one.writes), str(one.fsyncs), _verdict(one.durability, one.writes, one.fsyncs)] for one in result.synced]  # fmt: skip  # noqa: E501
    return "Fsyncs, counted by watching system calls:\n\n" + _table(
        ["target", "said to be", "writes", "fsyncs", ""], rows
    )


def _verdict(durability: str, writes: int, fsyncs: int) -> str:
    if durability == "fsync":
        return "as said" if fsyncs >= writes else "**fewer than writes**"
    return "as said" if fsyncs < writes / 2 else "**synced although said not to be**"


def _rate(one: Series) -> str:
    return f"{_number(one.median)} {one.unit}"


def _number(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
