"""Group commit: who leads, what an interrupt leaves behind, and what a close waits for."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import pytest

from crdtdb.backends.memory import MemoryBackend
from crdtdb.documents import put
from crdtdb.errors import NestedCommitError, StoreClosedError
from crdtdb.store import Store, Transaction
from tests.inside import committer_of, waiting_of


class InterruptedWriterError(Exception):
    pass


def write(store: Store, doc_id: str) -> None:
    store.write("notes", doc_id, lambda state, write: put(state, write, None, b"{}"))


def hold(store: Store, entered: threading.Event, leave: threading.Event) -> threading.Thread:
    """Lead a commit that takes until it is told to end."""

    def work(transaction: Transaction) -> None:
        entered.set()
        leave.wait(20)

    thread = threading.Thread(target=lambda: store.submit(work))
    thread.start()
    assert entered.wait(10)
    return thread


def wait_for_line(store: Store, length: int) -> None:
    deadline = time.monotonic() + 10
    while len(waiting_of(committer_of(store))) < length:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_an_interrupted_writer_does_not_take_the_lead_along() -> None:
    """Ctrl-C in a thread that waits for its turn: the writers behind it must not wait for ever."""
    store = Store(MemoryBackend())
    entered, leave = threading.Event(), threading.Event()
    leader = hold(store, entered, leave)

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise InterruptedWriterError

    before = signal.signal(signal.SIGUSR1, interrupt)

    def follow() -> None:
        wait_for_line(store, 1)
        write(store, "behind")

    def poke() -> None:
        wait_for_line(store, 2)
        os.kill(os.getpid(), signal.SIGUSR1)

    behind, poker = threading.Thread(target=follow), threading.Thread(target=poke)
    behind.start()
    poker.start()
    try:
        with pytest.raises(InterruptedWriterError):
            write(store, "interrupted")
    finally:
        signal.signal(signal.SIGUSR1, before)
        leave.set()
    for thread in (poker, leader, behind):
        thread.join(10)
        assert not thread.is_alive()
    write(store, "after")
    assert [doc_id for doc_id, _ in store.live_view().documents("notes")] == ["after", "behind"]
    store.close()


def test_a_close_waits_for_all_that_stood_in_line() -> None:
    store = Store(MemoryBackend())
    entered, leave = threading.Event(), threading.Event()
    leader = hold(store, entered, leave)
    errors: list[BaseException] = []
    done: list[str] = []

    def work(doc_id: str) -> None:
        try:
            write(store, doc_id)
            done.append(doc_id)
        except StoreClosedError as error:
            errors.append(error)

    writers = [threading.Thread(target=work, args=(f"d{n}",)) for n in range(3)]
    for thread in writers:
        thread.start()
    wait_for_line(store, 3)
    closer = threading.Thread(target=store.close)
    closer.start()
    wait_for_line(store, 4)
    with pytest.raises(StoreClosedError):
        write(store, "too late")
    leave.set()
    for thread in (leader, closer, *writers):
        thread.join(10)
        assert not thread.is_alive()
    assert errors == []
    assert sorted(done) == ["d0", "d1", "d2"]
    store.close()


@pytest.mark.parametrize(
    "nested",
    [
        lambda store: write(store, "inner"),
        lambda store: store.submit(lambda transaction: None),
        lambda store: store.submit_all([lambda transaction: None]),
        lambda store: store.snapshot(),
        lambda store: store.stamp(),
        lambda store: store.replication.rumor([("notes", "a")]),
        lambda store: store.close(),
    ],
    ids=["write", "submit", "submit_all", "snapshot", "stamp", "rumor", "close"],
)
def test_a_commit_inside_a_commit_is_refused_and_not_waited_for(nested: Callable[[Store], object]) -> None:
    store = Store(MemoryBackend())

    def work(transaction: Transaction) -> None:
        transaction.write("notes", "outer", lambda state, write: put(state, write, None, b"{}"))
        nested(store)

    outcome = in_time(lambda: store.submit(work))
    assert isinstance(outcome, NestedCommitError)
    assert "Use the transaction" in str(outcome)
    write(store, "after")
    assert [doc_id for doc_id, _ in store.live_view().documents("notes")] == ["after"]
    store.close()


def test_work_that_another_thread_runs_may_not_commit_either() -> None:
    """Work of several threads shares a commit, in the thread of the first: what is inside is told by who runs it."""
    store = Store(MemoryBackend())
    entered, leave = threading.Event(), threading.Event()
    leader = hold(store, entered, leave)
    outcomes: dict[str, object] = {}

    def follow(doc_id: str, length: int, submit: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            wait_for_line(store, length)
            try:
                outcomes[doc_id] = submit()
            except NestedCommitError as error:
                outcomes[doc_id] = error

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    plain = follow("plain", 0, lambda: write(store, "plain"))
    wait_for_line(store, 1)
    nested = follow("nested", 1, lambda: store.submit(lambda transaction: write(store, "nested")))
    wait_for_line(store, 2)
    leave.set()
    for thread in (leader, plain, nested):
        thread.join(10)
        assert not thread.is_alive()
    assert outcomes["plain"] is None
    assert isinstance(outcomes["nested"], NestedCommitError)
    assert [doc_id for doc_id, _ in store.live_view().documents("notes")] == ["plain"]
    store.close()


def test_a_listener_that_writes_is_refused_and_the_commit_stands() -> None:
    store = Store(MemoryBackend())
    store.notifier.listeners.append(lambda committed: write(store, "more"))
    assert isinstance(in_time(lambda: write(store, "a")), NestedCommitError)
    store.notifier.listeners.clear()
    write(store, "b")
    assert [doc_id for doc_id, _ in store.live_view().documents("notes")] == ["a", "b"]
    store.close()


def in_time(act: Callable[[], object]) -> object:
    """Return what `act` returns or raises. It runs in a thread, so that one that hangs fails the test."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(act())
        except NestedCommitError as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "it hangs"
    return outcome[0]


class _CountedLock:
    """A lock that counts how often it is taken."""

    def __init__(self) -> None:
        self._lock, self.taken = threading.Lock(), 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.mark.parametrize("fails", [False, True])
def test_a_lone_writer_takes_the_lock_twice(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once to lead and once to give up the lead, whether its work succeeds or not."""
    store, lock = Store(MemoryBackend()), _CountedLock()
    monkeypatch.setattr(committer_of(store), "_guard", lock)

    def work(_: Transaction) -> None:
        if fails:
            raise InterruptedWriterError

    try:
        store.submit(work)
    except InterruptedWriterError:
        assert fails
    assert lock.taken == 2
    write(store, "after")
    assert lock.taken == 4
    store.close()
