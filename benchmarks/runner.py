"""Run a workload at several targets in turns: round by round, in another order each time, after one round to warm up."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.documents import Document, Documents
from benchmarks.results import Result, Series, percentiles
from benchmarks.targets import Ability, Session, Target, Unavailable
from benchmarks.targets.embedded import BATCH

Given = list[tuple[str, Document]]
Calls = list[tuple[Any, ...]]


class Workload(NamedTuple):
    """What is done: which ability, on which calls, after which preparation.

    `documents` is how many documents a round works on, at the targets that can be asked for so many. Each call counts for
    `per_call` of them; 0 if a call is one thing however many documents it is about.
    """

    name: str
    ability: Ability
    documents: int
    calls: Callable[[Given, Path], Calls]
    prepare: Callable[[Session, Given], None] | None = None
    needs: frozenset[Ability] = frozenset()
    per_call: int = 1


class Plan(NamedTuple):
    """How much is measured."""

    rounds: int
    share: float
    """Of the documents that a workload has by itself."""
    source: Documents


def run_workload(
    workload: Workload, targets: Sequence[Target], plan: Plan, result: Result, tell: Callable[[str], None]
) -> None:
    """Measure a workload at all targets that are able to do it, and put what was found into the result."""
    able = [one for one in targets if {workload.ability, *workload.needs} <= one.abilities]
    found: dict[Target, Series] = {}
    latencies: dict[Target, list[float]] = {target: [] for target in able}
    for number in range(plan.rounds + 1):
        turn = number % max(1, len(able))
        for target in able[turn:] + able[:turn]:
            tell(
                f"{workload.name}: {target!r}, round {number} of {plan.rounds}"
                if number
                else f"{workload.name}: {target!r}"
            )
            size = max(1, min(int(workload.documents * plan.share), target.most))
            value, each = _round(workload, target, plan.source.take(size, seed=number))
            if not number:  # it only warms up
                continue
            if target not in found:
                found[target] = Series(
                    workload=workload.name,
                    target=target.name,
                    durability=target.durability,
                    unit="documents/s" if workload.per_call else "ms",
                    documents=size,
                    values=[],
                )
            found[target].values.append(value)
            latencies[target] += each
    for target, series in found.items():
        series.latencies = percentiles(latencies[target]) if workload.per_call == 1 else {}
        result.series.append(series)


def _round(workload: Workload, target: Target, given: Given) -> tuple[float, list[float]]:
    with tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as folder, target.open(Path(folder)) as session:
        if workload.prepare is not None:
            workload.prepare(session, given)
        calls = workload.calls(given, Path(folder))
        with _our_garbage_aside():
            timed = session.measure(workload.ability, calls)
    if not workload.per_call:
        return 1e3 * timed.seconds / len(calls), timed.each
    return len(given) / timed.seconds, timed.each


@contextmanager
def _our_garbage_aside() -> Iterator[None]:
    """Keep Python's collector off the documents that the harness holds: they are many, and nobody's cost but ours."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def started(targets: Sequence[Target], result: Result) -> Iterator[list[Target]]:
    """Start all that the targets need; those that this machine can't have are left out, and the result says why."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crdtdb-bench-")))
        up: list[Target] = []
        for number, target in enumerate(targets):
            folder = place / str(number)
            folder.mkdir()
            try:
                stack.enter_context(target.running(folder))
                with tempfile.TemporaryDirectory(dir=place) as trial, target.open(Path(trial)):
                    pass
            except Unavailable as error:
                result.skipped[target.name] = str(error)
            else:
                up.append(target)
        yield up


def fill(session: Session, given: Given) -> None:
    """Write all documents."""
    session.measure("bulk", [(given[at : at + BATCH],) for at in range(0, len(given), BATCH)])


def settle(session: Session, given: Given) -> None:
    """Write all documents, and read them until a LevelDB that is still sorting what it was given has been made to finish."""
    fill(session, given)
    for _ in range(2):
        session.measure("get", [(doc_id,) for doc_id, _ in given])


def disagree(session: Session, given: Given) -> None:
    """Make a conflict of each document."""
    session.measure("conflict", [(doc_id, body, {**body, "n": -1}) for doc_id, body in given])
