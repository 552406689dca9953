"""The writes of requests, gathered: what comes while a commit is under way goes into the next one, all by one thread.

Each request for itself would need a thread to wait in, and sixteen threads that wake for one commit spend more time on taking
turns than on writing. As in `crdtdb.store.commit.group_commit`, whoever comes while nobody leads leads the others, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import anyio

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
        self._store = store
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
        except BaseException:  # cancelled: what nobody has begun isn't written, and who was to lead lets another do it
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
                outcomes = await COMMITS.run(self._store.submit_all, [one.work for one in group])
        except Exception as error:  # noqa: BLE001 - it is raised in each of the tasks
            outcomes = [error] * len(group)
        finally:
            for one, outcome in zip(group, outcomes, strict=False):
                one.outcome = outcome
                one.done = True
                one.woken.set()
            self._hand_over()

    def _hand_over(self) -> None:
        self._led = bool(self._waiting)
        if self._led:
            self._waiting[0].woken.set()
