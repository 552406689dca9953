"""Wakes waiting feeds and gossip after each commit, without polling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from crdtdb.store import Committed, Store

_ANY = ""


class Waiter:
    """Waits in an event loop for changes."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake the task that waits."""
        self._rung.set()

    def arm(self) -> None:
        """Reset, to be woken by what happens from now on: before looking whether there is something."""
        if self._rung.is_set():
            self._rung = anyio.Event()

    async def wait(self, seconds: float) -> bool:
        """Sleep until woken, at most for so many seconds; return whether it was woken."""
        with anyio.move_on_after(seconds):
            await self._rung.wait()
        return self._rung.is_set()


def ringing(waiter: Waiter) -> Callable[[], None]:
    """Return a callback that wakes a waiter of this event loop, from any thread."""
    loop = asyncio.get_running_loop()

    def ring() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(waiter.ring)

    return ring


class ChangeNotifier:
    """Wakes waiters, in the event loop, when any thread has committed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiters: dict[str, set[Waiter]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.stopping = False
        """Whether the node is about to end, so that waiters exit."""

    @contextmanager
    def waiting(self, name: str = _ANY) -> Iterator[Waiter]:
        """Give a waiter for the changes of a collection; without a name, for those of any."""
        self._listen()
        waiter = Waiter()
        self._waiters.setdefault(name, set()).add(waiter)
        try:
            yield waiter
        finally:
            self._waiters[name].discard(waiter)
            if not self._waiters[name]:
                del self._waiters[name]

    def stop(self) -> None:
        """Wake all waiters so they can exit."""
        self.stopping = True
        self._ring(frozenset(self._waiters))

    def _listen(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._store.notifier.listeners.append(self._committed)

    def _committed(self, committed: Committed) -> None:
        if self._loop is not None and self._waiters:
            names = frozenset(self._waiters) if committed.named else committed.names | {_ANY}
            self._loop.call_soon_threadsafe(self._ring, names)

    def _ring(self, names: frozenset[str]) -> None:
        for name in names:
            for waiter in self._waiters.get(name, ()):
                waiter.ring()
