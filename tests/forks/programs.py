"""Programs that fork, each run by an interpreter of its own: `python -m tests.forks.programs NAME URL`.

A process that forks must not be the one that runs the tests: it has threads of all kinds. A program prints nothing and ends
with 0 if all is as it should be.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest

import crdtdb
from crdtdb import aio, patterns
from crdtdb.backends import leveldb
from crdtdb.errors import ForkedError, StoreError, StoreLockedError
from crdtdb.limits import PATTERN_LARGE_TEXT_BYTES
from crdtdb.store import Store
from crdtdb.testing.invariants import check_store
from tests.forks.children import SECONDS_MAX, in_child, parent_is_whole, refused
from tests.inside import backend_of, forget_the_fork, large_patterns


def every_call(url: str) -> None:
    """Each way into a store that the parent opened is refused in a child, also one that was begun before."""
    db = crdtdb.open(url)
    notes, store, me = db["notes"], db.store, os.getpid()
    notes.declare({"text": crdtdb.Text})
    for number in range(400):
        notes.put(f"d{number:03}", {"n": number})
    notes.put("text", {"text": "Hello"})
    notes.create_index(["n"])
    first = notes.get("d000")
    text = notes.get("text")
    other = crdtdb.open("memory:")
    backup = store.backup()
    begun: dict[str, Any] = {
        "all": notes.all(),
        "all, backwards": notes.all(descending=True),
        "changes": notes.changes(),
        "live changes": notes.changes(live=True, timeout=60),
        "watch": db.watch(since="0"),
        "find": iter(notes.find({"n": {"$gt": 3}})),
        "find all": iter(notes.find({"_id": {"$gt": "d"}})),
        "documents": store.live_view().documents("notes"),
        "rows": backend_of(store).scan(b"", b"\xff"),
        "backup": backup.__enter__(),
    }
    for name, rows in begun.items():
        assert next(rows), name
    reading, taken = store.snapshot()
    editing = notes.edit("text")
    steps: Any = editing.__enter__()
    put = notes.put  # bound before the fork

    calls: dict[str, Callable[[], object]] = {
        "get": lambda: notes.get("d001"),
        "put": lambda: notes.put("new", {}),
        "a bound put": lambda: put("new", {}),
        "delete": lambda: notes.delete("d000", first.rev),
        "upsert": lambda: notes.upsert("d001", lambda d: d),
        "bulk": lambda: notes.bulk([]),
        "take": lambda: notes.take([]),
        "siblings": lambda: notes.siblings("d001"),
        "history": lambda: notes.history("d001"),
        "why": lambda: notes.why("d001"),
        "schema": lambda: notes.schema(),
        "attachment": lambda: notes.attachment("d001", "x"),
        "durable": lambda: notes.durable(),
        "digest": lambda: notes.digest(),
        "feed": lambda: notes.feed(),
        "last_seq": lambda: notes.last_seq,
        "a new all": lambda: next(notes.all()),
        "a new find": lambda: next(iter(notes.find({}))),
        "len": lambda: len(notes),
        "in": lambda: "d001" in notes,
        "collection": lambda: db.collection("other"),
        "db[]": lambda: db["other"],
        "in db": lambda: "notes" in db,
        "collections": lambda: db.collections(),
        "create": lambda: db.create("other"),
        "drop": lambda: db.drop("notes"),
        "sweep": lambda: db.sweep(),
        "with": lambda: db.__enter__(),
        "a new watch": lambda: db.watch(),
        "sync": lambda: crdtdb.sync(db, crdtdb.open("memory:")),
        "sync from": lambda: crdtdb.sync(crdtdb.open("memory:"), db),
        "sync with another": lambda: crdtdb.sync(other, crdtdb.open("memory:")),
        "store": lambda: store.root,
        "actor": lambda: store.actor,
        "submit": lambda: store.submit(lambda transaction: None),
        "flush": lambda: store.flush(),
        "snapshot": lambda: reading.get(b"a"),
        "moment": lambda: taken.read("notes", "d001"),
        "a text": lambda: text["text"],
        "edit": lambda: notes.edit("text").__enter__(),
        "an open edit": lambda: (steps["text"].insert(0, "x"), editing.__exit__(None, None, None)),
        **{f"begun: {name}": partial(next, rows) for name, rows in begun.items()},
    }

    def child() -> None:
        for name, use in calls.items():
            refused(name, use, me)
        assert f"process {me}" in repr(db)
        reading.close()
        store.close()
        db.close()
        db.__exit__(None, None, None)
        begun.clear()
        gc.collect()

    in_child(child)()
    in_child(child, leave=sys.exit)()
    reading.close()
    begun.clear()
    backup.__exit__(None, None, None)
    editing.__exit__(None, None, None)
    parent_is_whole(url, db, 402)  # the index has one of its own


def thrown_away(url: str) -> None:
    """A child drops everything, collects garbage and ends as interpreters do: nothing of the parent's is closed or written."""
    held: dict[str, Any] = {"db": crdtdb.open(url)}
    held["db"]["notes"].bulk([{"_id": f"{n}", "x": "y" * 1000} for n in range(500)])
    held["rows"] = backend_of(held["db"].store).scan(b"", b"\xff")
    next(held["rows"])
    held["snapshot"], _ = held["db"].store.snapshot()

    def child() -> None:
        held.clear()
        gc.collect()

    for _ in range(3):
        in_child(child, leave=sys.exit)()
    held["snapshot"].close()
    del held["rows"]
    parent_is_whole(url, held.pop("db"), 500)


def while_others_write(url: str) -> None:
    """Forks while threads commit, read and take snapshots: no child hangs, and the parent keeps all that it acknowledged."""
    db = crdtdb.open(url, durability="buffered")
    notes, me, stop = db["notes"], os.getpid(), threading.Event()
    written = [0, 0, 0]

    def write(number: int) -> None:
        while not stop.is_set():
            notes.put(f"{number}-{written[number]}", {"text": "x" * 200})
            written[number] += 1
            time.sleep(0.002)

    def read() -> None:
        while not stop.is_set():
            assert sum(1 for _ in notes.find({"text": {"$exists": True}}, limit=50)) <= 50

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)] + [threading.Thread(target=read)]
    for thread in threads:
        thread.start()

    def child() -> None:
        refused("get", lambda: notes.get("0-0"), me)
        refused("put", lambda: notes.put("x", {}), me)
        db.close()
        with crdtdb.open(f"{url}-{os.getpid()}" if url != "memory:" else url) as own:
            own["mine"].put("a", {})

    for _ in range(4):
        in_child(child)()
        in_child(child, leave=sys.exit)()
    stop.set()
    for thread in threads:
        thread.join()
    parent_is_whole(url, db, sum(written))


def inside_a_commit(url: str) -> None:
    """Forks by what runs in a commit, while another thread waits for its turn."""
    db = crdtdb.open(url)
    notes, me = db["notes"], os.getpid()
    notes.put("a", {})
    waits: list[Callable[[], None]] = []
    child = False

    def work(transaction: Any) -> None:
        nonlocal child
        other = threading.Thread(target=lambda: notes.put("b", {}))
        other.start()
        time.sleep(0.05)
        pid = os.fork()
        child = pid == 0
        if pid:
            waits.append(lambda: assert_ended(pid))
            waits.append(other.join)

    try:
        db.store.submit(work)
    except ForkedError:
        assert child
        os._exit(0)
    if child:
        os._exit(3)
    for wait in waits:
        wait()
    assert me == os.getpid()
    parent_is_whole(url, db, 2)


def assert_ended(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert status == 0, status


def same_path(url: str) -> None:
    """The path of a store that the parent has open is locked; once the parent has closed it, a child opens it."""
    db = crdtdb.open(url)
    db["notes"].bulk([{"_id": f"{n}", "x": "y" * 100} for n in range(2000)])
    closed, opened = os.pipe(), os.pipe()

    def child() -> None:
        with pytest.raises(StoreLockedError, match=f"pid {os.getppid()}"):
            crdtdb.open(url)
        os.write(opened[1], b"x")
        assert os.read(closed[0], 1) == b"x"
        with crdtdb.open(url) as mine:
            assert mine.store.identity.why is None
            assert len(mine["notes"]) == 2001
            for number in range(50):
                mine["notes"].put(f"child-{number}", {})
            in_child(lambda: refused("grandchild", lambda: mine["notes"].get("1"), os.getppid()))()
            check_store(mine.store)
        with crdtdb.open(url) as mine:
            assert len(mine["notes"]) == 2051
            in_child(lambda: other_store(f"{url}-grandchild"))()

    wait = in_child(child)
    assert os.read(opened[0], 1) == b"x"
    db["notes"].put("later", {})
    db.close()
    os.write(closed[1], b"x")
    wait()
    with crdtdb.open(url) as again:
        assert again.store.identity.why is None
        assert len(again["notes"]) == 2051
        check_store(again.store)


def other_store(url: str) -> None:
    with crdtdb.open(url) as mine:
        mine["x"].bulk([{"_id": f"{n}", "x": "y" * 1000} for n in range(100)])
        assert len(mine["x"]) == 100


def parent_reopens(url: str) -> None:
    """A child that lives on doesn't keep the parent's store locked."""
    db = crdtdb.open(url)
    db["notes"].put("a", {})
    end = os.pipe()

    def child() -> None:
        os.close(end[1])
        os.read(end[0], 1)

    wait = in_child(child)
    for number in range(3):
        db.close()
        db = crdtdb.open(url)
        db["notes"].put(f"{number}", {})
    os.close(end[1])
    wait()
    parent_is_whole(url, db, 4)


def pool(url: str) -> None:
    """`multiprocessing` by fork: a worker that uses what it inherited is told so, one that opens its own store works."""
    db = crdtdb.open(url)
    notes = db["notes"]
    notes.put("a", {"n": 1})
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def inherited() -> None:
        try:
            notes.get("a")
        except StoreError as error:
            queue.put(type(error).__name__)

    def own() -> None:
        with crdtdb.open(f"{url}-{os.getpid()}" if url != "memory:" else url) as mine:
            mine["x"].put("a", {})
            queue.put(len(mine["x"]))

    for work, expected in ((inherited, "ForkedError"), (own, 1)):
        process = context.Process(target=work)
        process.start()
        assert queue.get(timeout=SECONDS_MAX) == expected
        process.join(SECONDS_MAX)
        assert process.exitcode == 0
    parent_is_whole(url, db, 1)


def prefork(url: str) -> None:
    """As gunicorn and Celery do it: the application is loaded once, workers are forked, and each opens after the fork."""
    db: list[crdtdb.Database] = []

    def worker_init(number: int) -> None:
        db.append(crdtdb.open(f"{url}-{number}" if url != "memory:" else url))

    def serve(number: int) -> None:
        worker_init(number)
        for count in range(100):
            db[0]["hits"].put(f"{count}", {"worker": number})
        assert len(db[0]["hits"]) == 100
        db[0].close()

    waits = [in_child(partial(serve, number), leave=sys.exit) for number in range(3)]
    for wait in waits:
        wait()


def awaited(url: str) -> None:
    """`crdtdb.aio`: a child of a running loop is refused before it waits for a thread that isn't there."""

    async def run() -> None:
        me = os.getpid()
        db = aio.open(url)
        notes = db.collection("notes")
        for number in range(5):
            await notes.put(f"{number}", {"n": number})
        found, every, changes = notes.find({"n": {"$gte": 0}}), notes.all(), notes.changes(live=True)
        notices = db.watch(since="0")
        for one in (found, every, changes, notices):
            await anext(one)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                calls: dict[str, Callable[[], Any]] = {
                    "get": lambda: notes.get("1"),
                    "put": lambda: notes.put("x", {}),
                    "collection": lambda: db.collection("x"),
                    "found": lambda: found.__anext__(),
                    "all": lambda: every.__anext__(),
                    "changes": lambda: changes.__anext__(),
                    "notices": lambda: notices.__anext__(),
                    "with": lambda: db.__aenter__(),
                }
                for name, call in calls.items():
                    refused(name, call, me)
                await db.aclose()
                await db.__aexit__(None, None, None)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        assert_ended(child)
        await notes.put("later", {})
        parent_is_whole(url, db.blocking, 6)

    anyio.run(run)


def large_text(url: str) -> None:
    """A child finds by a regular expression in a large text, though a thread of the parent was at one during the fork."""

    def child() -> None:
        with crdtdb.open(url) as own:
            own["notes"].put("a", {"text": "x" * (PATTERN_LARGE_TEXT_BYTES + 1) + "y"})
            assert len(list(own["notes"].find({"text": {"$regex": "xy$"}}))) == 1

    held, over = threading.Event(), threading.Event()

    def match() -> None:
        with large_patterns(patterns):
            held.set()
            over.wait(SECONDS_MAX)

    thread = threading.Thread(target=match)
    thread.start()
    assert held.wait(SECONDS_MAX)
    wait = in_child(child)
    wait()
    over.set()
    thread.join()


def background_thread(url: str) -> None:
    """A child whose parent's LevelDB has begun its background thread can compact a store of its own, and so can its child."""

    def fill(path: str) -> None:
        backend = leveldb.LevelDBBackend.open(path)
        for number in range(60):
            backend.write({b"%d" % number: os.urandom(1_000_000)}, durable=False)
        backend.reclaim()
        assert backend.get(b"7")
        backend.close()

    fill(url)

    def child() -> None:
        fill(f"{url}-child")
        in_child(lambda: fill(f"{url}-grandchild"))()

    in_child(child)()


def no_copy(url: str) -> None:
    """Where LevelDB can't be loaded a second time, a child is told so instead of waiting for ever."""
    crdtdb.open(url).close()

    def child() -> None:
        def fails() -> Any:
            raise OSError("no memory file")

        leveldb.load_copy = fails  # type: ignore[attr-defined]
        with pytest.raises(StoreError, match="spawn"):
            crdtdb.open(url)
        forget_the_fork()  # another backend isn't concerned, nor is the lock kept
        Store.open(url).close()

    in_child(child)()


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
