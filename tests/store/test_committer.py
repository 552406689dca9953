"""Group commit: who leads, what an interrupt leaves behind, and what a close waits for."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

import pytest

from crdtdb.backends.memory import MemoryBackend
from crdtdb.documents import put
from crdtdb.errors import StoreClosedError
from crdtdb.store import Store, Transaction


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
    while len(store._committer._waiting) < length:
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
    assert [doc_id for doc_id, _ in store.documents("notes")] == ["after", "behind"]
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
