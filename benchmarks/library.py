"""The library against plyvel with the same bytes: what documents, causality and history cost."""

from __future__ import annotations

import json
import tempfile
from itertools import count
from pathlib import Path

import plyvel

import crdtdb
from benchmarks.harness import Row, rates, report
from crdtdb.database import Database

DOCUMENT = {"title": "a document of a kilobyte", "tags": ["one", "two"], "text": "lorem ipsum " * 75, "n": 7}
RAW = json.dumps(DOCUMENT).encode()


def run() -> str:
    """Measure, and return the report."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        buffered = crdtdb.open(str(place / "buffered"), durability="buffered")
        synced = crdtdb.open(str(place / "synced"))
        raw = plyvel.DB(str(place / "raw"), create_if_missing=True, write_buffer_size=16 * 1024 * 1024)
        try:
            rows = [
                _puts("put, 1 kB, buffered", buffered, raw, 4_000, sync=False, wanted="0.35 to 0.6"),
                _puts("put, 1 kB, fsync each", synced, raw, 400, sync=True, wanted="0.85 to 0.97"),
                _gets(buffered, raw),
                _bulks(buffered, raw),
                _updates(buffered, raw),
            ]
        finally:
            buffered.close()
            synced.close()
            raw.close()
    return report("The library against plyvel", rows)


def _puts(what: str, database: Database, raw: plyvel.DB, number: int, *, sync: bool, wanted: str) -> Row:
    notes, ids, keys = database["notes"], count(), count()

    def ours() -> int:
        for _ in range(number):
            notes.put(f"{what}{next(ids):08}", DOCUMENT)
        return number

    def theirs() -> int:
        for _ in range(number):
            raw.put(b"%08d" % next(keys), RAW, sync=sync)
        return number

    return Row(what, *rates(ours, theirs), "/s", wanted)


def _gets(database: Database, raw: plyvel.DB) -> Row:
    notes, number = database["gets"], 4_000
    notes.bulk({"_id": f"{n:08}", **DOCUMENT} for n in range(number))
    for n in range(number):
        raw.put(b"get%08d" % n, RAW)

    def ours() -> int:
        for n in range(number):
            notes.get(f"{n:08}")
        return number

    def theirs() -> int:
        for n in range(number):
            json.loads(raw.get(b"get%08d" % n))
        return number

    return Row("get and decode", *rates(ours, theirs), "/s", "0.5 to 0.8")


def _bulks(database: Database, raw: plyvel.DB) -> Row:
    notes, ids, keys, number = database["bulk"], count(), count(), 5_000

    def ours() -> int:
        for _ in range(number // 500):
            notes.bulk([{"_id": f"{next(ids):08}", **DOCUMENT} for _ in range(500)])
        return number

    def theirs() -> int:
        for _ in range(number // 500):
            with raw.write_batch() as batch:
                for _ in range(500):
                    batch.put(b"bulk%08d" % next(keys), RAW)
        return number

    return Row("bulk put of 500", *rates(ours, theirs), "/s", "0.35 to 0.6")


def _updates(database: Database, raw: plyvel.DB) -> Row:
    """Each put replaces the last, whose body stays readable; plyvel keeps none."""
    notes, number, rev = database["updates"], 2_000, [None]

    def ours() -> int:
        for n in range(number):
            rev[0] = notes.put("one", {**DOCUMENT, "n": n}, rev=rev[0]).rev  # type: ignore[call-overload]
        return number

    def theirs() -> int:
        for _ in range(number):
            raw.put(b"one", RAW)
        return number

    return Row("put over the last, with history", *rates(ours, theirs), "/s", "–")
