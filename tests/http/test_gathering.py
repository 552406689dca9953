"""Writes that come at the same time share a commit, each with its own outcome; who leaves keeps nobody waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial

import anyio
import pytest

from crdtdb.aio.group_commit import AsyncGroupCommit
from crdtdb.backends import open_backend
from crdtdb.documents import State, Write, put
from crdtdb.errors import ConflictError, StoreClosedError, StoreFullError
from crdtdb.store import Store, Transaction
from tests.inside import backend_of, hand_over_by, hand_over_of, waiting_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(open_backend("memory:"))
    store.submit(lambda transaction: transaction.ledger.create("notes"))
    yield store
    store.close()


def writing(doc_id: str) -> Callable[[Transaction], str]:
    def change(state: State, write: Write) -> State:
        return put(state, write, None, b'{"n":1}')

    def work(transaction: Transaction) -> str:
        transaction.write("notes", doc_id, change)
        return doc_id

    return work


class Gate:
    """Holds a commit while others come."""

    def __init__(self, store: Store) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        self._write = backend_of(store).write
        backend_of(store).write = self.write

    def write(self, batch: object, *, durable: bool) -> None:
        self.entered.set()
        assert self.open.wait(10)
        self._write(batch, durable=durable)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - of things that ring no bell
            await anyio.sleep(0.001)


async def test_writes_that_come_during_a_commit_share_the_next_one(store: Store) -> None:
    gate, gathering, results = Gate(store), AsyncGroupCommit(store), []
    before = store.metrics.commits

    async def write(doc_id: str) -> None:
        results.append(await gathering.submit(writing(doc_id)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, "first")
        await until(gate.entered.is_set)
        for n in range(40):
            tasks.start_soon(write, f"n{n}")
        await until(lambda: len(waiting_of(gathering)) == 40)
        gate.open.set()
    assert sorted(results) == sorted(["first", *(f"n{n}" for n in range(40))])
    assert store.metrics.commits - before == 2
    assert all(store.read("notes", doc_id) is not None for doc_id in results)


async def test_one_that_is_refused_stops_no_other(store: Store) -> None:
    gate, gathering = Gate(store), AsyncGroupCommit(store)
    outcomes: dict[int, object] = {}

    async def write(number: int, doc_id: str) -> None:
        try:
            outcomes[number] = await gathering.submit(writing(doc_id))
        except ConflictError as error:
            outcomes[number] = error

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, 0, "a")
        await until(gate.entered.is_set)
        for number, doc_id in enumerate(("b", "a", "b", "c"), 1):
            tasks.start_soon(write, number, doc_id)
        await until(lambda: len(waiting_of(gathering)) == 4)
        gate.open.set()
    refused = {number for number, outcome in outcomes.items() if isinstance(outcome, ConflictError)}
    assert refused in ({1, 2}, {2, 3}), "a second time a, and one of the two that put b at the same time"


async def test_a_failing_disk_is_told_to_all_of_them(store: Store) -> None:
    gathering, errors = AsyncGroupCommit(store), []

    def fail(batch: object, *, durable: bool) -> None:
        raise StoreFullError("the disk is full")

    backend_of(store).write = fail

    async def write(doc_id: str) -> None:
        with pytest.raises(StoreFullError):
            await gathering.submit(writing(doc_id))
        errors.append(doc_id)

    async with anyio.create_task_group() as tasks:
        for n in range(5):
            tasks.start_soon(write, f"n{n}")
    assert len(errors) == 5
    assert store.read("notes", "n0") is None


async def test_whoever_is_cancelled_keeps_nobody_waiting_and_what_was_not_begun_is_not_written(store: Store) -> None:
    gate, gathering, results = Gate(store), AsyncGroupCommit(store), []

    async def write(doc_id: str, scope: anyio.CancelScope) -> None:
        with scope:
            results.append(await gathering.submit(writing(doc_id)))

    scopes = {doc_id: anyio.CancelScope() for doc_id in ("leader", "next", "other")}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, "leader", scopes["leader"])
        await until(gate.entered.is_set)
        tasks.start_soon(write, "next", scopes["next"])
        await until(lambda: len(waiting_of(gathering)) == 1)
        tasks.start_soon(write, "other", scopes["other"])
        await until(lambda: len(waiting_of(gathering)) == 2)
        scopes["leader"].cancel()  # its commit is under way: it is done all the same, and the lead is passed on
        scopes["next"].cancel()
        await until(lambda: len(waiting_of(gathering)) == 1)
        gate.open.set()
    assert sorted(results) == ["leader", "other"]
    assert [store.read("notes", doc_id) is not None for doc_id in scopes] == [True, False, True]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_one_that_was_to_lead_and_is_cancelled_lets_another_lead(store: Store) -> None:
    """By asyncio's own cancellation, which reaches a task that was woken and hasn't run yet; trio's and anyio's don't."""
    gate, gathering = Gate(store), AsyncGroupCommit(store)
    first = asyncio.create_task(gathering.submit(writing("first")))
    await until(gate.entered.is_set)
    chosen = asyncio.create_task(gathering.submit(writing("chosen")))
    other = asyncio.create_task(gathering.submit(writing("other")))
    await until(lambda: len(waiting_of(gathering)) == 2)
    hand_over = hand_over_of(gathering)

    def hand_over_and_cancel() -> None:
        hand_over()
        chosen.cancel()

    hand_over_by(gathering, hand_over_and_cancel)
    gate.open.set()
    with anyio.fail_after(10):
        assert [await first, await other] == ["first", "other"]
    assert chosen.cancelled()
    assert store.read("notes", "chosen") is None
    assert await gathering.submit(writing("later")) == "later"


async def test_a_closed_store_is_said_to_be_closed(store: Store) -> None:
    store.close()
    with pytest.raises(StoreClosedError):
        await AsyncGroupCommit(store).submit(writing("a"))


def test_many_works_of_one_thread_share_a_commit_with_those_of_others(store: Store) -> None:
    before = store.metrics.commits
    assert store.submit_all([writing(f"n{n}") for n in range(30)]) == [f"n{n}" for n in range(30)]
    assert store.metrics.commits - before == 1
    found: dict[str, list[object]] = {}

    def write(prefix: str) -> None:
        found[prefix] = list(store.submit_all([writing(f"{prefix}{n}") for n in range(700)]))

    threads = [threading.Thread(target=partial(write, prefix)) for prefix in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {prefix: [f"{prefix}{n}" for n in range(700)] for prefix in "abc"}
    assert store.submit_all([]) == []
