"""Group commit for tasks: the writes that arrive during a commit go into the next one, all in one worker thread.

A thread for each write would cost more than the writes: sixteen threads that wake after one commit spend their time on taking
turns. As in `crdtdb.store.commit.group_commit`, a task that arrives while no other leads commits for all that wait, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import anyio
from anyio import lowlevel

from crdtdb.store import Store, Transaction
from crdtdb.threads import COMMITS

T = TypeVar("T")


class _Entry:
    __slots__ = ("done", "outcome", "woken", "work")

    def __init__(self, work: Callable[[Transaction], Any]) -> None:
        self.work = work
        self.woken = anyio.Event()
        self.done = False
        self.outcome: Any = None


class AsyncGroupCommit:
    """Commits for the tasks of one event loop."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._waiting: list[_Entry] = []
        self._led = False

    async def submit(self, work: Callable[[Transaction], T]) -> T:
        """Run work in a transaction; return its result when it is committed. Raises what it raises, as `Store.submit` does."""
        entry = _Entry(work)
        self._waiting.append(entry)
        if self._led:
            await self._wait(entry)
        if not entry.done:
            await self._lead()
        if isinstance(entry.outcome, BaseException):
            raise entry.outcome
        result: T = entry.outcome
        return result

    async def _wait(self, entry: _Entry) -> None:
        try:
            await entry.woken.wait()
        except (
            BaseException
        ):  # cancelled: a write that no commit has begun isn't done, and another task leads in its place
            if entry in self._waiting:
                self._waiting.remove(entry)
                if entry.woken.is_set():
                    self._hand_over()
            raise

    async def _lead(self) -> None:
        self._led = True
        group, self._waiting = self._waiting, []
        outcomes: list[Any] = []
        try:
            with anyio.CancelScope(shield=True):
                outcomes = await COMMITS.run(self.store.submit_all, [entry.work for entry in group])
        except Exception as error:  # noqa: BLE001 - it is raised in each of the tasks
            outcomes = [error] * len(group)
        finally:
            for entry, outcome in zip(group, outcomes, strict=False):
                entry.outcome = outcome
                entry.done = True
                entry.woken.set()
            self._hand_over()

    def _hand_over(self) -> None:
        self._led = bool(self._waiting)
        if self._led:
            self._waiting[0].woken.set()


class LoopGroupCommits:
    """The group commit of the running event loop, for a database that several loops may use, one after another mostly.

    Loops that use it at the same time take turns: they share fewer commits, and are right all the same.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop: object = None
        self._group = AsyncGroupCommit(store)

    def here(self) -> AsyncGroupCommit:
        """Return the group commit of this event loop."""
        loop = lowlevel.current_token()
        if loop is not self._loop and loop != self._loop:
            self._loop, self._group = loop, AsyncGroupCommit(self._store)
        return self._group
