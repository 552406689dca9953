"""A bounded number of script processes, started when they are needed. Safe for threads; calls beyond the bound wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition

from crdtdb.errors import ScriptError
from crdtdb.javascript.process import Process


class Pool:
    """Processes that calls of one duty take in turn."""

    def __init__(self, processes_max: int, start: Callable[[], Process]) -> None:
        """`start` starts a process; at most `processes_max` exist at a time."""
        self._processes_max, self._start = processes_max, start
        self.idle: list[Process] = []
        self.busy: list[Process | None] = []
        """Those that a call uses; None for one that is being started."""
        self._closed = False
        self._free = Condition()

    @contextmanager
    def process(self) -> Iterator[Process]:
        """Give a process that no other call uses meanwhile. Raises ScriptError once the pool is closed."""
        with self._free:
            self._free.wait_for(lambda: self._closed or self.idle or len(self.busy) < self._processes_max)
            if self._closed:
                raise ScriptError("the node is stopping")
            process = self.idle.pop() if self.idle else None
            self.busy.append(process)
        whole = False
        try:
            if process is None or not process.alive:
                process = self._replaced(process)
            yield process
            whole = True
        finally:
            with self._free:
                self.busy.remove(process)
                if process is not None:
                    if whole and process.alive and not self._closed:
                        self.idle.append(process)
                    else:
                        process.end()  # it may still owe answers to a call that was given up
                self._free.notify()

    def _replaced(self, dead: Process | None) -> Process:
        """Start a process in the place of a dead one, or of one that isn't there yet."""
        if dead is not None:
            dead.end()
        started = self._start()
        with self._free:
            self.busy[self.busy.index(dead)] = started
            if self._closed:
                started.kill()
        return started

    def close(self) -> None:
        """End all processes. Calls under way fail."""
        with self._free:
            self._closed = True
            for process in self.idle:
                process.end()
            for busy in self.busy:
                if busy is not None:
                    busy.kill()
            self.idle.clear()
            self._free.notify_all()
