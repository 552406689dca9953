"""What crdtdb wants to reach, as ratios within one run, and what a run says of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.results import Result, Spread, ratio
from benchmarks.workloads import documents, replication, spreading, syncing, texts

OURS, BARE, POUCH, COUCH = "crdtdb, leveldb", "plyvel", "PouchDB", "CouchDB"
NODE = "crdtdb, 1 node, HTTPS"


class Goal(NamedTuple):
    """A number to be reached, and where it is found in a result."""

    name: str
    at_least: float
    at_best: float
    unit: str
    find: Callable[[Result], Spread | None]

    @property
    def higher(self) -> bool:
        """Whether more is better."""
        return self.at_best > self.at_least

    def verdict(self, found: Spread) -> str:
        """Say how far it is reached."""
        sign = 1 if self.higher else -1
        if sign * found.value >= sign * self.at_best:
            return "the best"
        return "yes" if sign * found.value >= sign * self.at_least else "no"


def _rates(workload: str, ours: tuple[str, str], theirs: tuple[str, str]) -> Callable[[Result], Spread | None]:
    return _across((workload, *ours), (workload, *theirs))


def _across(ours: tuple[str, str, str], theirs: tuple[str, str, str]) -> Callable[[Result], Spread | None]:
    def find(result: Result) -> Spread | None:
        mine, other = result.find(*ours), result.find(*theirs)
        return ratio(mine.values, other.values) if mine is not None and other is not None else None

    return find


def _fact(beginning: str) -> Callable[[Result], Spread | None]:
    """Find a number by how its name begins; the last of several, which is that of the largest size."""

    def find(result: Result) -> Spread | None:
        found = [one for one in result.facts if one.name.startswith(beginning)]
        return Spread(found[-1].value, found[-1].value, found[-1].value) if found else None

    return find


def _memory(result: Result) -> Spread | None:
    fact = result.fact(f"memory with {1_000_000:,} documents open")
    return Spread(fact.value, fact.value, fact.value) if fact is not None else None


def _rounds(result: Result) -> Spread | None:
    """Find by how many rounds the worst cluster is above log2 of its size."""
    above = [point.value - math.log2(point.size) for point in result.points if point.curve == spreading.CURVE]
    return Spread(max(above), min(above), max(above)) if above else None


_BUFFERED, _SYNCED, _SERVED = (OURS, "buffered"), (OURS, "fsync"), (NODE, "fsync")
_BARE, _COUCH = (BARE, "buffered"), (COUCH, "fsync")
_OF_POUCH = [documents.PUT, documents.GET, documents.BULK, documents.SIBLINGS, documents.RESOLVE]
_STORED, _MOVED = (replication.PULL, "crdtdb", "buffered"), (replication.NODES, "crdtdb", "fsync")
_KEYSTROKE = "a keystroke in a text of 1,048,800 characters, shipped"

GOALS = [
    Goal("put, of plyvel's put of the same JSON", 0.35, 0.6, "", _rates(documents.PUT.name, _BUFFERED, _BARE)),
    Goal("put, fsync each, of plyvel's", 0.85, 0.97, "", _rates(documents.PUT_SYNCED.name, _SYNCED, (BARE, "fsync"))),
    Goal("get, of plyvel's get and decode", 0.5, 0.8, "", _rates(documents.GET.name, _BUFFERED, _BARE)),
    Goal("bulk put, of plyvel's batch", 0.35, 0.6, "", _rates(documents.BULK.name, _BUFFERED, _BARE)),
    *(
        Goal(f"{one.name}, of PouchDB's", 3, 10, "×", _rates(one.name, _BUFFERED, (POUCH, "buffered")))
        for one in _OF_POUCH
    ),
    Goal(
        "HTTP put, fsync, 16 connections, of CouchDB's", 3, 8, "×", _rates(documents.PUT_SYNCED.name, _SERVED, _COUCH)
    ),
    Goal("store to store, of bulk put", 0.5, 0.8, "", _across(_STORED, (replication.BULK, "crdtdb", "buffered"))),
    Goal("node to node, of bulk put", 0.5, 0.8, "", _across(_MOVED, (replication.BULK, "crdtdb", "fsync"))),
    Goal("PouchDB pushes through a node, of CouchDB", 1, 2, "×", _rates(syncing.PUSH, _SERVED, _COUCH)),
    Goal("PouchDB pulls through a node, of CouchDB", 1, 2, "×", _rates(syncing.PULL, _SERVED, _COUCH)),
    Goal("bytes for 100 changed documents, of their size", 1.3, 1.1, "", _fact("exchange of ")),
    Goal("bytes when nothing changed", 1_000, 300, "bytes", _fact("exchange with nothing new")),
    Goal("bytes of a keystroke in 1 MB of text", 150, 60, "bytes", _fact(_KEYSTROKE)),
    Goal(
        "editing trace, buffered: time, of bare pycrdt's",
        *(1.5, 1.1, "×"),
        _rates(texts.TRACE, ("pycrdt, in memory", "none"), _BUFFERED),
    ),
    Goal(replication.METADATA, 120, 40, "bytes", _fact(replication.METADATA)),
    Goal("memory with 1,000,000 documents open", 150, 80, "MiB", _memory),
    Goal("rounds until 99.9 % of the nodes have a write, above log2 n", 4, 2, "rounds", _rounds),
]
