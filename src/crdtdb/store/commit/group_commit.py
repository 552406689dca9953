"""Group commit: concurrent writers share one batch and one fsync.

A writer that arrives while no commit is in progress leads: it makes one transaction of all queued work, writes it, and wakes
the other writers with their results. The first writer in the queue leads the next commit. So there is no separate thread, a
single writer costs two lock operations, and many writers share one fsync.

Source: Hendler, Incze, Shavit, Tzafrir, "Flat Combining and the Synchronization-Parallelism Tradeoff" (2010).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock, get_ident
from typing import Any, TypeVar

from crdtdb import forks
from crdtdb.errors import NestedCommitError, StoreClosedError
from crdtdb.store.commit.transaction import Transaction

T = TypeVar("T")
Work = Callable[[Transaction], T]

_GROUP_MAX = 512


class _Entry:
    __slots__ = ("done", "error", "gate", "leads", "result", "work")

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self.gate: Lock | None = None
        self.done = False
        self.leads = False
        self.result: Any = None
        self.error: BaseException | None = None


class Committer:
    """Runs work in transactions, one transaction at a time."""

    def __init__(self, begin: Callable[[], Transaction], finish: Callable[[Transaction], None]) -> None:
        """`begin` makes a transaction; `finish` writes it and publishes its root as the store's committed state."""
        self._begin, self._finish = begin, finish
        self._guard = Lock()
        self._waiting: list[_Entry] = []
        self._led = False
        self._leader: int | None = None
        """The thread that runs work now."""
        self._closed = False
        forks.own(self)  # in a child, the owner of its lock may not be there any more

    def submit(self, work: Work[T]) -> T:
        """Run `work` in a transaction and return its result once that is written.

        If `work` raises, its changes are rolled back and its error is raised here. Raises the errors of the write; then no
        change of the group is visible. Raises NestedCommitError in the thread of a commit in progress: it would deadlock.
        """
        with self._guard:
            if self._closed:
                raise StoreClosedError("the store is closed")
            if self._led:
                entry = _Entry(work)
                self._line_up(entry)
            else:
                self._led, entry = True, None
        if entry is None:
            return self._lead_alone(work)
        self._await(entry)
        if entry.error is not None:
            raise entry.error
        result: T = entry.result
        return result

    def submit_all(self, works: Iterable[Work[T]]) -> list[T | BaseException]:
        """Run each of these as `submit` does, in one commit if nothing is in the way; return a result or an error for each."""
        entries = [_Entry(work) for work in works]
        with self._guard:
            if self._closed:
                raise StoreClosedError("the store is closed")
            for entry in entries:
                self._line_up(entry)
        for entry in entries:  # whichever is to lead is the first that isn't done
            self._await(entry)
        return [entry.error if entry.error is not None else entry.result for entry in entries]

    def _line_up(self, entry: _Entry) -> None:
        if self._led:
            if self._leader == get_ident():
                raise NestedCommitError
            entry.gate = Lock()
            entry.gate.acquire()
        else:
            self._led = entry.leads = True
        self._waiting.append(entry)

    def _await(self, entry: _Entry) -> None:
        """Block until some leader has done the work of an entry."""
        if entry.gate is not None:
            try:
                entry.gate.acquire()
            except BaseException:
                self._abandon(entry)
                raise
        if not entry.done:
            self._lead()

    def _abandon(self, entry: _Entry) -> None:
        """Leave the queue after an interrupt while waiting. If the entry was to lead next, pass the lead on."""
        with self._guard:
            if entry in self._waiting:
                self._waiting.remove(entry)
                if entry.leads:
                    self._hand_over()

    def _hand_over(self) -> None:
        successor = self._waiting[0] if self._waiting else None
        self._led = successor is not None
        if successor is not None and successor.gate is not None:
            successor.leads = True
            successor.gate.release()

    def alone(self, act: Callable[[], T]) -> T:
        """Run `act` while no transaction is in progress."""
        outcome: list[T] = []
        self.submit(lambda _: outcome.append(act()))
        return outcome[0]

    def close(self, last: Callable[[], None]) -> None:
        """Refuse further work, wait for the work in progress, then run `last`. A second call does nothing."""
        entry = _Entry(lambda _: None)
        with self._guard:
            if self._closed:
                return
            self._line_up(entry)  # behind all earlier entries; a closed committer accepts no later ones
            self._closed = True
        self._await(entry)
        last()

    def _lead_alone(self, work: Work[T]) -> T:
        """Run the work of a writer that came while none was writing, then let those that came meanwhile have the lead."""
        try:
            self._leader = get_ident()
            return self._transact(work)
        finally:
            self._leader = None
            with self._guard:
                self._hand_over()

    def _lead(self) -> None:
        with self._guard:
            group, self._waiting = self._waiting, []
            if len(group) > _GROUP_MAX:
                group, self._waiting = group[:_GROUP_MAX], group[_GROUP_MAX:]
        try:
            self._leader = get_ident()
            self._run(group)
        except BaseException as error:  # noqa: BLE001 - raised below, in every thread that waits
            # An interrupt in the leader's thread: the other threads can't rely on the result.
            for entry in group:
                entry.error = entry.error or error
        finally:
            self._leader = None
            for entry in group:
                entry.done = True
                if entry.gate is not None and not entry.leads:
                    entry.gate.release()
            with self._guard:
                self._hand_over()

    def _transact(self, work: Work[T]) -> T:
        """Run work in a transaction of its own, which its failure takes with it: no savepoint is needed."""
        transaction = self._begin()
        try:
            result = work(transaction)
            self._finish(transaction)
        finally:
            transaction.end()
        return result

    def _run(self, group: list[_Entry]) -> None:
        if len(group) == 1:
            (lone,) = group
            try:
                lone.result = self._transact(lone.work)
            except Exception as error:  # noqa: BLE001 - it is raised in the thread whose work it is
                lone.error = error
            return
        transaction = self._begin()
        try:
            self._run_all(transaction, group)
        finally:
            transaction.end()

    def _run_all(self, transaction: Transaction, group: list[_Entry]) -> None:
        for entry in group:
            rollback = transaction.savepoint()
            try:
                entry.result = entry.work(transaction)
            except Exception as error:  # noqa: BLE001 - it is raised in the thread whose work it is
                rollback()
                entry.error = error
        try:
            self._finish(transaction)
        except Exception as error:  # noqa: BLE001 - as above, for all that succeeded
            for entry in group:
                entry.error = entry.error or error
