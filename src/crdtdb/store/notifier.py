"""Wakes waiting threads and calls listeners after each commit, without polling."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition
from typing import NamedTuple

from crdtdb.errors import StoreClosedError
from crdtdb.store.root import StoreRoot


class Committed(NamedTuple):
    """The collections with new changes in a commit, and the documents written here, not received.

    `named` is whether a collection was made or dropped here.
    """

    names: frozenset[str]
    written: tuple[tuple[str, str], ...]
    named: bool


class CommitNotifier:
    """Notifies of commits. Safe to use from any number of threads."""

    def __init__(self, root: Callable[[], StoreRoot]) -> None:
        """`root` returns the root of the last commit."""
        self._root = root
        self._changed = Condition()
        self._waiting = 0
        self._closed = False
        self.listeners: list[Callable[[Committed], None]] = []
        """Called after each commit, in the thread that led it: they must not wait, nor write."""

    def wait_for_change(self, name: str, number: int | None, since: int, timeout: float | None) -> bool:
        """Wait until a collection has a change above the seq `since`; return False after `timeout` seconds without.

        `number` is the local number of the collection that `since` belongs to; under another number all is new. Raises
        StoreClosedError when the store is closed meanwhile.
        """

        def changed() -> bool:
            collection = self._root().collections.get(name)
            return collection is not None and (collection.number != number or collection.seq > since)

        return self._wait(changed, timeout)

    def wait_beyond(self, seen: StoreRoot, timeout: float | None) -> bool:
        """Wait until the root is another than `seen`; return False after `timeout` seconds without.

        Raises StoreClosedError when the store is closed meanwhile.
        """
        return self._wait(lambda: self._root() is not seen, timeout)

    def _wait(self, changed: Callable[[], bool], timeout: float | None) -> bool:
        with self._changed:
            self._waiting += 1
            try:
                is_changed = self._changed.wait_for(lambda: self._closed or changed(), timeout)
            finally:
                self._waiting -= 1
        if self._closed:
            raise StoreClosedError("the store is closed")
        return is_changed

    def notify(self) -> None:
        """Wake all waiters, so that they look again."""
        # A waiter that registers after this test looks before it sleeps, and sees what was committed.
        if self._waiting:
            with self._changed:
                self._changed.notify_all()

    def close(self) -> None:
        """Wake all waiters with StoreClosedError, now and from now on."""
        self._closed = True
        self.notify()
