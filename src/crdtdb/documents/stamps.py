"""Hybrid logical clock: readable timestamps that never go back.

    stamp = milliseconds since 1970 << 16 | counter within that millisecond

Used for display and for last-write-wins; merge and winner never look at it.

Source: Kulkarni, Demirbas, Madappa, Avva, Leone, "Logical Physical Clocks" (2014).
"""

from __future__ import annotations

_COUNTER_BITS = 16
_DRIFT_MILLISECONDS_MAX = 60_000


class HybridClock:
    """Makes the stamps of one node."""

    __slots__ = ("_last",)

    def __init__(self, last: int = 0) -> None:
        """Continue after the stamp `last`."""
        self._last = last

    def now(self, wall_milliseconds: int) -> int:
        """Return a stamp above every one that was made or observed before."""
        self._last = max(wall_milliseconds << _COUNTER_BITS, self._last + 1)
        return self._last

    def observe(self, stamp: int, wall_milliseconds: int) -> None:
        """Take note of a stamp made elsewhere.

        One that is more than a minute ahead of this machine's clock isn't followed: a peer whose clock runs wild
        would otherwise drag all others with it.
        """
        if stamp > self._last and stamp >> _COUNTER_BITS <= wall_milliseconds + _DRIFT_MILLISECONDS_MAX:
            self._last = stamp


def milliseconds(stamp: int) -> int:
    """Return the wall-clock part of a stamp: milliseconds since 1970, UTC."""
    return stamp >> _COUNTER_BITS
