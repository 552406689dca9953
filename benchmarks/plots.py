"""A run as pictures: throughput, latencies, growth, bytes on the wire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import fitted_exponent
from benchmarks.results import Point, Result, Series

_COLOURS = [
    "#1b6ca8",
    "#d1495b",
    "#66a182",
    "#edae49",
    "#574b90",
    "#7d8491",
    "#2e4057",
    "#b5838d",
    "#3d5a80",
    "#9c6644",
    "#e07a5f",
    "#81b29a",
]
_PERCENTILES = ["p50", "p90", "p99", "p99.9", "max"]


def draw(result: Result, folder: Path) -> list[str]:
    """Draw what there is to draw into a folder; return the names of the files."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.hashsalt": "crdtdb", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
    )
    pictures: dict[str, Callable[[Result], Any]] = {
        "throughput.svg": _throughput,
        "latencies.svg": _latencies,
        "growth.svg": _growth,
        "wire.svg": _wire,
    }
    drawn = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        figure = picture(result)
        if figure is not None:
            figure.savefig(folder / name, metadata={"Date": None}, bbox_inches="tight")
            drawn.append(name)
    return drawn


def _figure(count: int, columns: int = 3, heights: Sequence[float] | None = None) -> tuple[Any, list[Any]]:
    """Return a figure of so many axes; `heights` are inches, one for each."""
    from matplotlib.figure import Figure

    sizes = heights or [2.4] * count
    rows = [max(sizes[at : at + columns]) for at in range(0, count, columns)]
    figure = Figure(figsize=(12, sum(rows)), layout="constrained")
    grid = figure.add_gridspec(len(rows), columns, height_ratios=rows)
    return figure, [figure.add_subplot(grid[place // columns, place % columns]) for place in range(count)]


def _by_workload(result: Result, wanted: Callable[[Series], bool]) -> dict[str, list[Series]]:
    found: dict[str, list[Series]] = {}
    for one in result.series:
        if wanted(one):
            found.setdefault(one.workload, []).append(one)
    return {name: series for name, series in found.items() if len(series) > 1}


def _colours(result: Result) -> dict[str, str]:
    names = dict.fromkeys(one.target for one in result.series)
    return {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}


def _throughput(result: Result) -> Any:
    """Bars for each workload, on a logarithmic axis, with the range of the rounds."""
    workloads = _by_workload(result, lambda one: one.unit != "ms")
    if not workloads:
        return None
    from matplotlib.ticker import NullFormatter

    colours = _colours(result)
    figure, axes = _figure(len(workloads), 2, [0.6 + 0.16 * len(series) for series in workloads.values()])
    for axis, (name, series) in zip(axes, workloads.items(), strict=True):
        labels = [f"{one.target}{' (fsync)' if one.durability == 'fsync' else ''}" for one in series]
        lows = [one.median - min(one.values) for one in series]
        highs = [max(one.values) - one.median for one in series]
        axis.barh(
            labels,
            [one.median for one in series],
            xerr=[lows, highs],
            color=[colours[one.target] for one in series],
            error_kw={"elinewidth": 0.8},
        )
        axis.set_xscale("log")
        axis.set_xlim(min(min(one.values) for one in series) / 3)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.tick_params(axis="y", labelsize=6)
        axis.invert_yaxis()
        axis.set_title(f"{name}, {series[0].unit}", fontsize=8)
    return figure


def _latencies(result: Result) -> Any:
    """The percentiles of single calls, on a logarithmic axis."""
    workloads = _by_workload(result, lambda one: bool(one.latencies))
    if not workloads:
        return None
    colours = _colours(result)
    figure, axes = _figure(len(workloads), heights=[2.8] * len(workloads))
    for axis, (name, series) in zip(axes, workloads.items(), strict=True):
        for one in series:
            style = "-" if one.durability == "fsync" else "--"
            values = [one.latencies[at] for at in _PERCENTILES]
            axis.plot(_PERCENTILES, values, style, color=colours[one.target], label=one.target, linewidth=1)
        axis.set_yscale("log")
        axis.set_title(f"{name}, µs", fontsize=8)
        axis.legend(fontsize=5, frameon=False)
    return figure


def _growth(result: Result) -> Any:
    """Each cost over the number of documents, on logarithmic axes, with the exponent that fits it."""
    return _curves([one for one in result.points if not _travels(one)])


def _wire(result: Result) -> Any:
    """Bytes and rounds over the size."""
    return _curves([one for one in result.points if _travels(one)])


def _travels(point: Point) -> bool:
    return point.unit == "rounds" or "bytes" in point.curve


def _curves(points: Sequence[Point]) -> Any:
    curves: dict[str, list[Point]] = {}
    for point in points:
        curves.setdefault(point.curve, []).append(point)
    curves = {name: curve for name, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    figure, axes = _figure(len(curves))
    for axis, (name, curve) in zip(axes, curves.items(), strict=True):
        axis.plot(
            [one.size for one in curve],
            [one.value for one in curve],
            "o-",
            color=_COLOURS[0],
            linewidth=1,
            markersize=3,
        )
        exponent = fitted_exponent(curve)
        axis.set_xscale("log")
        axis.set_yscale("log")
        low, high = min(one.value for one in curve), max(one.value for one in curve)
        axis.set_ylim(low / 5 or 0.1, high * 5 or 10)
        axis.set_title(
            f"{name}, {curve[0].unit}\nexponent {exponent:+.2f}" if exponent is not None else name, fontsize=7
        )
    return figure
