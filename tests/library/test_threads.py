"""Threads by duty: what one duty holds no other waits for."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from threading import Event, Lock

import anyio
import pytest

import crdtdb
from crdtdb import aio
from crdtdb.threads import COMMITS, GOSSIP, QUERIES, Duty

pytestmark = pytest.mark.anyio


async def test_gossip_and_commits_dont_wait_for_sixty_queries() -> None:
    ended = Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(60):
            tasks.start_soon(partial(QUERIES.run, ended.wait))
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            assert await GOSSIP.run(lambda: "heard") == "heard"
            assert await COMMITS.run(lambda: "written") == "written"
        assert QUERIES.waiting == 60 - QUERIES.threads_max
        ended.set()


async def test_a_duty_has_no_more_threads_than_its_bound() -> None:
    duty, lock, running, most = Duty("test", 3), Lock(), 0, 0

    def work(pause: Event) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pause.wait(0.01)
        with lock:
            running -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(duty.run, work, Event())
    assert most == 3


async def test_what_is_iterated() -> None:
    assert [piece async for piece in QUERIES.iterate(iter(range(5)))] == [0, 1, 2, 3, 4]


async def test_sixty_live_feeds_hold_up_no_write() -> None:
    async with aio.open("memory:") as db:
        notes, seen = db.collection("notes"), 0
        await notes.put("first", {})

        async def follow() -> None:
            nonlocal seen
            async for change in notes.changes(live=True):
                if change.id == "last":
                    seen += 1
                    return

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(60):
                    tasks.start_soon(follow)
                await anyio.sleep(0.1)
                with anyio.fail_after(2):
                    for number in range(20):
                        await notes.put(f"d{number}", {})
                await notes.put("last", {})
        assert seen == 60


def test_no_other_module_takes_threads_of_the_common_bound() -> None:
    source = Path(crdtdb.__file__).parent
    taking = [path.name for path in source.rglob("*.py") if re.search(r"to_thread|in_threadpool", path.read_text())]
    assert taking == ["threads.py"]
