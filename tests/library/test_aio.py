"""The async face, on asyncio and on trio."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import pytest

from crdtdb import ConflictError, NotFoundError, aio
from crdtdb.store import Transaction
from crdtdb.threads import COMMITS

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_service_writes_and_reads(tmp_path: Path) -> None:
    async with aio.open(str(tmp_path / "data")) as db:
        notes = db.collection("notes")
        doc = await notes.put("a", {"n": 1})
        with pytest.raises(ConflictError):
            await notes.put("a", {"n": 2})
        await notes.upsert("a", lambda d: {"n": d["n"] + 1})
        assert await notes.get("a") == {"n": 2}
        assert await notes.get("a", rev=doc.rev) == {"n": 1}
        assert [doc.id async for doc in notes.all()] == ["a"]
        await notes.bulk([{"_id": "b"}, {"_id": "c"}])
        assert (await notes.put_if_absent("b", {"x": 1})) == {}
        assert len(await notes.siblings("b")) == 1
        await notes.resolve("b", {"x": 2})
        assert len(await notes.history("b")) == 2
        await notes.delete("b", rev=(await notes.get("b")).rev)
        with pytest.raises(NotFoundError):
            await notes.get("b")
        await db.create("more")
        assert db.collections() == ["more", "notes"]
        await db.drop("more")
        other = aio.open("memory:")
        await other.set_resolver("notes", "last_write_wins")
        assert (await aio.sync(db, other)).pushed == 3
        await other.aclose()


async def test_writers_share_commits_and_a_follower_sees_all() -> None:
    async with aio.open("memory:") as db:
        notes = db.collection("notes")
        seen = []

        async def follow() -> None:
            async for change in notes.changes(live=True):
                seen.append(change.id)
                if len(seen) == 50:
                    return

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow)
                for n in range(50):
                    tasks.start_soon(notes.put, f"d{n}", {"n": n})
        assert sorted(seen) == sorted(f"d{n}" for n in range(50))


async def test_writes_that_arrive_during_a_commit_share_the_next_one() -> None:
    async with aio.open("memory:") as db:
        notes, store = db.collection("notes"), db.blocking.store
        begun, go_on = threading.Event(), threading.Event()

        def hold(_: Transaction) -> None:
            begun.set()
            assert go_on.wait(20)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, store.submit, hold)
            await anyio.to_thread.run_sync(begun.wait)
            for n in range(20):
                tasks.start_soon(notes.put, f"d{n}", {"n": n})
            await anyio.sleep(0.1)
            assert COMMITS.waiting == 0, "one thread waits for all of them"
            go_on.set()
        assert len(notes.blocking) == 20


async def test_a_follower_can_be_cancelled() -> None:
    async with aio.open("memory:") as db:
        with anyio.move_on_after(0.1) as scope:
            async for _ in db.collection("notes").changes(live=True):
                pass
        assert scope.cancelled_caught


async def test_queries(tmp_path: Path) -> None:
    async with aio.open(str(tmp_path / "data"), durability="buffered") as db:
        notes = db.collection("notes")
        await notes.bulk([{"_id": f"d{n:02}", "n": n} for n in range(30)])
        without = notes.find({"n": {"$gte": 28}})
        assert [one.id async for one in without] == ["d28", "d29"]
        assert without.warnings
        made = await notes.create_index(["n"], ddoc="d", name="n")
        assert [made] == notes.indexes()[1:]
        page = notes.find({"n": {"$gte": 0}}, sort=["n"], limit=5)
        first = [one.id async for one in page]
        rest = [one.id async for one in notes.find({"n": {"$gte": 0}}, sort=["n"], bookmark=page.bookmark)]
        assert first + rest == [f"d{n:02}" for n in range(30)]
        stopped = notes.find({"n": {"$gte": 0}}, sort=["n"])
        assert (await anext(stopped)).id == "d00"
        again = notes.find({"n": {"$gte": 0}}, sort=["n"], limit=1, bookmark=stopped.bookmark)
        assert [one.id async for one in again] == ["d01"], (
            "the bookmark is behind what was taken, and not behind what was read"
        )
        assert notes.explain({"n": 5})["index"]["name"] == "n"
        assert (await notes.patch("d00", {"n": None, "x": 1})) == {"x": 1}
        assert len((await notes.update_many({"n": {"$gt": 27}}, {"last": True})).results) == 2
        assert len((await notes.delete_many({"last": True})).results) == 2
        await notes.drop_index("d", "n")
        assert len(notes.indexes()) == 1
