"""Which workloads run at which targets: the groups that a run consists of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.results import Result
from benchmarks.runner import Plan, Workload, run_workload, started
from benchmarks.synced import count_fsyncs
from benchmarks.targets import Target
from benchmarks.targets.bare import Parts, Plyvel, SQLite, Tiny
from benchmarks.targets.embedded import Embedded
from benchmarks.targets.pouch import Pouch
from benchmarks.targets.server import Nodes, PouchServer, Server
from benchmarks.workloads import choices, documents, queries, replication, tails, texts
from benchmarks.workloads.cluster import cluster
from benchmarks.workloads.growth import clocks, growth
from benchmarks.workloads.spreading import spreading
from benchmarks.workloads.syncing import syncing

Tell = Callable[[str], None]


class Choice(NamedTuple):
    """What is to be measured: how much, at which sizes, which servers beside our own, and which groups."""

    plan: Plan
    sizes: list[int]
    servers: list[Server]
    groups: tuple[str, ...]


def in_process() -> list[Target]:
    """Return the targets that a process of the harness can start by itself."""
    return [*_buffered(), *_synced(), Nodes(1), PouchServer()]


def _buffered() -> list[Target]:
    return [
        Embedded("leveldb", "buffered"),
        Plyvel("buffered"),
        Parts("buffered"),
        Embedded("sqlite", "buffered"),
        SQLite("buffered"),
        Embedded("memory", "none"),
        Pouch(),
    ]


def _synced() -> list[Target]:
    return [
        Embedded("leveldb", "fsync"),
        Plyvel("fsync"),
        Parts("fsync"),
        Embedded("sqlite", "fsync"),
        SQLite("fsync"),
        Tiny(),
    ]


def _workloads(workloads: Sequence[Workload], targets: Sequence[Target]) -> Callable[[Choice, Result, Tell], None]:
    def run(choice: Choice, result: Result, tell: Tell) -> None:
        with started(targets, result) as up:
            for workload in workloads:
                run_workload(workload, up, choice.plan, result, tell)

    return run


def _served(choice: Choice, result: Result, tell: Tell) -> None:
    own = [Nodes(1), Nodes(2), Nodes(3), PouchServer()]
    with started([*own, *choice.servers], result) as up:
        for workload in documents.SERVED:
            run_workload(workload, up, choice.plan, result, tell)


def _syncing(choice: Choice, result: Result, tell: Tell) -> None:
    reachable = [one for one in choice.servers if one.tls is None]
    with started([Nodes(1), PouchServer(), *reachable], result) as up:
        syncing([one for one in up if isinstance(one, Server)], result, choice.plan, tell)


def _replication(choice: Choice, result: Result, tell: Tell) -> None:
    replication.store_to_store(result, choice.plan, tell)
    replication.node_to_node(result, choice.plan, tell)
    replication.bytes_on_the_wire(result, choice.plan, tell)
    replication.at_rest(result, tell)


def _growth(choice: Choice, result: Result, tell: Tell) -> None:
    growth(result, choice.plan, tell, choice.sizes)
    clocks(result, choice.plan, tell)


def _texts(choice: Choice, result: Result, tell: Tell) -> None:
    texts.edits(result, choice.plan, tell)
    texts.trace(result, choice.plan, tell)


def _queries(choice: Choice, result: Result, tell: Tell) -> None:
    queries.queries(result, choice.plan, tell, choice.sizes)
    reachable = [one for one in choice.servers if one.tls is None]
    with started([Nodes(1), PouchServer(), *reachable], result) as up:
        queries.migrations(result, choice.plan, tell, [one for one in up if isinstance(one, Server)])


def _cluster(choice: Choice, result: Result, tell: Tell) -> None:
    nodes = Nodes(3)
    with started([nodes], result):
        cluster(nodes, result, choice.plan, tell)


def _choices(choice: Choice, result: Result, tell: Tell) -> None:
    choices.settings(result, choice.plan, tell)
    choices.encodings(result, choice.plan, tell)


GROUPS: dict[str, Callable[[Choice, Result, Tell], None]] = {
    "documents": _workloads(documents.BUFFERED, _buffered()),
    "synced": _workloads(documents.SYNCED, _synced()),
    "served": _served,
    "replication": _replication,
    "syncing": _syncing,
    "growth": _growth,
    "queries": _queries,
    "texts": _texts,
    "spreading": lambda choice, result, tell: spreading(result, choice.plan, tell),
    "tails": lambda choice, result, tell: tails.tails(result, choice.plan, tell),
    "cluster": _cluster,
    "choices": _choices,
    "fsyncs": lambda _, result, tell: count_fsyncs(in_process(), result, tell),
}


def run_groups(choice: Choice, result: Result, tell: Tell) -> None:
    """Measure the chosen groups, one after the other."""
    for name in choice.groups:
        GROUPS[name](choice, result, tell)
