"""The one place where the machine's clock is read. Everything else takes the time as an argument."""

import time
from collections.abc import Callable

_LAST_MILLISECOND = 253_402_300_799_999

WallClock = Callable[[], int]
"""Returns the time in milliseconds since 1970, UTC."""


def wall_milliseconds() -> int:
    """Return the time in milliseconds since 1970, UTC. It may jump."""
    return time.time_ns() // 1_000_000


monotonic_seconds: Callable[[], float] = time.monotonic
"""Returns seconds since some fixed moment. It never goes back."""


def thread_seconds() -> float:
    """Return the seconds of CPU that the calling thread has used."""
    return time.thread_time()


def http_date(milliseconds: int) -> str:
    """Write a time in milliseconds as HTTP does: `Mon, 23 Nov 2026 09:20:11 GMT`."""
    from email.utils import formatdate  # brings much that a library's user doesn't need

    return formatdate(milliseconds // 1000, usegmt=True)  # strftime would name days in the process's language


def iso(milliseconds: int) -> str:
    """Write a time in milliseconds as people read it: `2026-11-23T09:20:11.250Z`; any later than the year 9999 as its end."""
    seconds, rest = divmod(min(milliseconds, _LAST_MILLISECOND), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:03}Z"
