"""Worker threads by duty: each duty has a bound of its own, so that no duty waits for the threads of another.

anyio's worker threads share one bound of 40 for everything that a process does. Gossip that waits behind sixty slow queries
misses its pings, and the other members declare the node dead. So every call that leaves the event loop names its duty here.
Gossip's thread is used by nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from crdtdb import limits

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Duty:
    """Work of one kind, in a bounded number of threads in each event loop. Calls beyond the bound wait for their turn."""

    def __init__(self, name: str, threads_max: int) -> None:
        """`threads_max` calls run at a time; `name` is for people."""
        self.name, self.threads_max = name, threads_max
        self._limiter: RunVar[CapacityLimiter] = RunVar(f"crdtdb {name}")

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts, abandon_on_cancel: bool = False) -> T:
        """Call a function in a worker thread; return its result, raise what it raises.

        A call that was cancelled is waited for, unless `abandon_on_cancel`: then its thread counts until it ends.
        """
        return await to_thread.run_sync(
            function, *arguments, limiter=self._limiter_here(), abandon_on_cancel=abandon_on_cancel
        )

    @property
    def waiting(self) -> int:
        """How many calls of this event loop wait for their turn."""
        return self._limiter_here().statistics().tasks_waiting

    async def iterate(self, pieces: Iterator[T]) -> AsyncIterator[T]:
        """Yield what an iterator yields, each step in a worker thread. Between steps no thread is held."""
        end = object()
        while (piece := await self.run(next, pieces, end)) is not end:
            yield piece  # type: ignore[misc]

    def _limiter_here(self) -> CapacityLimiter:
        limiter = self._limiter.get(None)
        if limiter is None:
            limiter = CapacityLimiter(self.threads_max)
            self._limiter.set(limiter)
        return limiter


GOSSIP: Final = Duty("gossip", limits.GOSSIP_THREADS_MAX)
"""Turns of the engine, one at a time."""
HOUSEKEEPING: Final = Duty("housekeeping", limits.HOUSEKEEPING_THREADS_MAX)
"""Disk space, compaction, backups, audits, metrics: what may take minutes."""
COMMITS: Final = Duty("commits", limits.COMMIT_THREADS_MAX)
"""Writes that wait for the disk alone."""
VALIDATION: Final = Duty("validation", limits.VALIDATION_THREADS_MAX)
"""Writes that design documents must validate first."""
READS: Final = Duty("reads", limits.READ_THREADS_MAX)
"""Single documents and their revisions."""
PARSING: Final = Duty("parsing", limits.PARSE_THREADS_MAX)
"""Large bodies of requests, from JSON."""
QUERIES: Final = Duty("queries", limits.QUERY_THREADS_MAX)
"""What reads through many documents: queries, listings, changes, rows of views."""
VIEWS: Final = Duty("views", limits.VIEW_THREADS_MAX)
"""Views that follow changes, or reduce, by JavaScript."""
FILTERS: Final = Duty("filters", limits.FILTER_THREADS_MAX)
"""Changes feeds that JavaScript filters."""
PASSWORDS: Final = Duty("passwords", limits.PASSWORD_THREADS_MAX)
"""Hashing of passwords."""
ATTACHMENTS: Final = Duty("attachments", limits.ATTACHMENT_THREADS_MAX)
"""Bytes of attachments, in and out."""
WAITING: Final = Duty("waiting", limits.WAITING_THREADS_MAX)
"""Live feeds of `crdtdb.aio` that wait for a change."""
