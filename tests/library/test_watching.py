"""Notices: each change once, chosen by patterns, from a place that can be kept, also at another store."""

from __future__ import annotations

from random import Random
from threading import Thread
from typing import Any

import anyio
import pytest

import crdtdb
from crdtdb import Database, aio
from crdtdb.database.feeds.watch import Notice, Watch
from crdtdb.errors import InvalidInputError


def seen(watch: Watch) -> list[tuple[str, str, str]]:
    return [(one.kind, one.collection, one.id) for one in watch.poll()]


def put(db: Database, name: str, doc_id: str, n: int) -> None:
    current = db[name].get(doc_id).rev if doc_id in db[name] else None
    db[name].put(doc_id, {"n": n}, rev=current)


def test_every_kind_of_change_is_told_once() -> None:
    with crdtdb.open("memory:") as db, crdtdb.open("memory:") as other:
        put(db, "notes", "before", 0)
        watch = db.watch()
        assert seen(watch) == []
        put(db, "notes", "a", 1)
        put(db, "tasks", "b", 1)
        assert seen(watch) == [("created", "notes", "a"), ("created", "tasks", "b")]
        assert seen(watch) == []
        put(db, "notes", "a", 2)
        assert seen(watch) == [("updated", "notes", "a")]
        crdtdb.sync(db, other)
        put(db, "notes", "a", 3)
        put(other, "notes", "a", 4)
        crdtdb.sync(db, other)
        (notice,) = watch.poll()
        assert (notice.kind, len(notice.conflicts)) == ("conflict", 1)
        db["notes"].resolve("a", {"n": 5})
        db["tasks"].delete("b", db["tasks"].get("b").rev)
        assert seen(watch) == [("updated", "notes", "a"), ("deleted", "tasks", "b")]
        db.drop("tasks")
        assert seen(watch) == [("dropped", "tasks", "")]
        put(db, "tasks", "b", 6)
        assert seen(watch) == [("created", "tasks", "b")]


def test_patterns_choose() -> None:
    with crdtdb.open("memory:") as db:
        watches = {
            "all": db.watch(),
            "orders": db.watch({"collection": "orders-*"}),
            "2026": db.watch({"id": "2026-*", "kinds": ["created"]}, {"collection": "log", "kinds": ["deleted"]}),
            "own": db["orders-a"].watch(kinds=["updated"]),
        }
        put(db, "orders-a", "2026-1", 1)
        put(db, "orders-a", "2026-1", 2)
        put(db, "orders-b", "2026-2", 1)
        put(db, "log", "x", 1)
        db["log"].delete("x", db["log"].get("x").rev)
        found = {name: [one[2] for one in seen(watch)] for name, watch in watches.items()}
        assert found == {
            "all": ["x", "2026-1", "2026-2"],
            "orders": ["2026-1", "2026-2"],
            "2026": ["x", "2026-2"],
            "own": ["2026-1"],
        }


def test_a_name_with_signs_of_patterns_means_itself() -> None:
    with crdtdb.open("memory:") as db:
        watch = db["a$(x)+"].watch()
        put(db, "a$(x)+", "1", 1)
        put(db, "a$(x)", "2", 1)
        assert seen(watch) == [("created", "a$(x)+", "1")]


@pytest.mark.parametrize(
    "pattern",
    [{"colection": "x"}, {"collection": 1}, {"id": ""}, {"kinds": []}, {"kinds": "created"}, {"kinds": ["made"]},
     {"kinds": [1]}],
)  # fmt: skip
def test_what_is_no_pattern_is_refused(pattern: dict[str, Any]) -> None:
    with crdtdb.open("memory:") as db, pytest.raises(InvalidInputError):
        db.watch(pattern)


@pytest.mark.parametrize("place", ["", "x", "1", "AAAA", "é", "gwFBAUEB", "0" * 2_000_000])
def test_what_is_no_place_is_refused(place: str) -> None:
    with crdtdb.open("memory:") as db, pytest.raises(InvalidInputError, match="isn't a place"):
        db.watch(since=place)


def test_too_many_patterns_are_refused() -> None:
    with crdtdb.open("memory:") as db, pytest.raises(InvalidInputError, match="from 1 to 100"):
        db.watch(*[{"id": str(n)} for n in range(101)])


def test_a_place_goes_on_exactly_where_it_was_taken() -> None:
    """Whatever happens between two takes, and however few are taken: all changes, each once, at its last."""
    for seed in range(60):
        rng = Random(seed)
        with crdtdb.open("memory:") as db:
            place: str | None = "0"
            told: dict[tuple[str, str], list[int | None]] = {}
            for n in range(60):
                name, doc_id = rng.choice("pq"), rng.choice("abcde")
                if rng.random() < 0.8:
                    put(db, name, doc_id, n)
                elif doc_id in db[name]:
                    db[name].delete(doc_id, db[name].get(doc_id).rev)
                if rng.random() < 0.3:
                    place = _some(db, place, rng.randrange(4), told)
            while True:
                before = place
                place = _some(db, place, 3, told)
                if place == before:
                    break
            for name in db.collections():
                for doc_id in "abcde":
                    values = told.get((name, doc_id), [])
                    current = db[name].get(doc_id)["n"] if doc_id in db[name] else None
                    if values or current is not None:
                        assert values[-1] == current, (seed, name, doc_id)
                    written = [value for value in values if value is not None]
                    assert written == sorted(set(written)), (seed, "told twice, or out of order")


def _some(db: Database, place: str | None, most: int, told: dict[tuple[str, str], list[int | None]]) -> str:
    watch = db.watch(since=place)
    for _, notice in zip(range(most), watch.poll(), strict=False):
        value = None if notice.doc is None or notice.doc.deleted else notice.doc["n"]
        told.setdefault((notice.collection, notice.id), []).append(value)
    return watch.place


def test_a_place_serves_at_another_store() -> None:
    with crdtdb.open("memory:") as db, crdtdb.open("memory:") as other:
        put(db, "notes", "old", 1)
        crdtdb.sync(db, other)
        watch = db.watch()
        assert seen(watch) == []
        put(db, "notes", "new", 1)
        crdtdb.sync(db, other)
        elsewhere = other.watch(since=watch.place)
        assert seen(elsewhere) == [("created", "notes", "new")]
        put(other, "notes", "old", 2)
        assert seen(elsewhere) == [("updated", "notes", "old")]


def test_the_databases_own_collections_are_told_of_when_they_are_meant() -> None:
    with crdtdb.open("memory:") as db:
        from crdtdb.database.system_collection import SystemCollection

        every, own = db.watch(), db.watch({"collection": "system.*"})
        SystemCollection(db.store, "system.locks").say("x", {"node": "n1"})
        assert seen(every) == []
        assert seen(own) == [("created", "system.locks", "x")]


def test_iterating_waits_for_what_is_to_come_and_ends_with_the_database() -> None:
    db = crdtdb.open("memory:")
    watch, found = db["notes"].watch(), list[Notice]()
    reader = Thread(target=lambda: found.extend(watch))
    reader.start()
    for n in range(5):
        put(db, "notes", f"d{n}", n)
    while len(found) < 5:
        pass
    db.close()
    reader.join(5)
    assert not reader.is_alive()
    assert sorted(one.id for one in found) == [f"d{n}" for n in range(5)]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_asynchronously(backend: str) -> None:
    async def main() -> None:
        async with aio.open("memory:") as db:
            found: list[str] = []

            async def follow() -> None:
                async for notice in db.collection("notes").watch(kinds=["created"]):
                    found.append(notice.id)
                    if len(found) == 2:
                        return

            with anyio.fail_after(10):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(follow)
                    await anyio.sleep(0.1)
                    await db.collection("notes").put("a", {})
                    await db.collection("notes").put("b", {})
            assert found == ["a", "b"]
            everything = db.watch(since="0")
            assert (await anext(everything)).id == "a"
            assert everything.place

    anyio.run(main, backend=backend)
