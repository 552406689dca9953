"""Workloads on documents, one by one, in bulk, in conflict: the same calls at every target that is able to do them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from benchmarks.runner import Calls, Given, Workload, disagree, fill, settle
from benchmarks.targets.embedded import BATCH


def _all(given: Given, _: Path) -> Calls:
    return list(given)


def _ids(given: Given, _: Path) -> Calls:
    shuffled = [(doc_id,) for doc_id, _ in given]
    Random(2).shuffle(shuffled)
    return shuffled


def _batches(given: Given, _: Path) -> Calls:
    return [(given[at : at + BATCH],) for at in range(0, len(given), BATCH)]


def _disputes(given: Given, _: Path) -> Calls:
    return [(doc_id, body, {**body, "n": -1}) for doc_id, body in given]


def _peace(given: Given, _: Path) -> Calls:
    return [(doc_id, {**body, "n": 0}) for doc_id, body in given]


def _once(_: Given, __: Path) -> Calls:
    return [()]


def _file(given: Given, folder: Path) -> Calls:
    path = folder / "import.jsonl"
    with path.open("w") as file:
        file.writelines(json.dumps({"_id": doc_id, **body}) + "\n" for doc_id, body in given)
    return [(str(path),)]


def _one(given: Given, _: Path) -> Calls:
    return [(given[len(given) // 2][0],)]


PUT = Workload("put", "put", 30_000, _all)
PUT_SYNCED = Workload("put, fsync", "put", 2_000, _all)
GET = Workload("get", "get", 30_000, _ids, settle, frozenset({"bulk"}))
UPDATE = Workload("read, modify, write", "update", 5_000, _ids, fill, frozenset({"bulk"}))
BULK = Workload(f"bulk, {BATCH} at a time", "bulk", 30_000, _batches, per_call=BATCH)
CONFLICT = Workload("make a conflict", "conflict", 1_000, _disputes)
SIBLINGS = Workload("read a conflict", "siblings", 1_000, _ids, disagree, frozenset({"conflict"}))
RESOLVE = Workload("resolve a conflict", "resolve", 1_000, _peace, disagree, frozenset({"conflict"}))
CHANGES = Workload("read the changes feed", "changes", 10_000, _once, fill, frozenset({"bulk"}), per_call=BATCH)
LOAD = Workload("import JSON Lines", "load", 10_000, _file, per_call=BATCH)
REOPEN = Workload("open and read one", "reopen", 20_000, _one, fill, frozenset({"bulk"}), per_call=0)

BUFFERED = [PUT, GET, UPDATE, BULK, CONFLICT, SIBLINGS, RESOLVE, CHANGES, LOAD, REOPEN]
SYNCED = [PUT_SYNCED, UPDATE, BULK, CONFLICT, RESOLVE]
SERVED = [PUT_SYNCED, GET, UPDATE, BULK, CONFLICT, SIBLINGS, RESOLVE, CHANGES, LOAD]
