"""Dialing: which addresses to connect to, and when to try again. For ever, with doubled pauses and jitter.

Source: "full jitter" as compared by Brooker, "Exponential Backoff and Jitter" (2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crdtdb.gossip.config import GossipConfig
from crdtdb.limits import DIALS_AT_ONCE_MAX

if TYPE_CHECKING:
    from random import Random


@dataclass(slots=True)
class _Attempt:
    at: float
    failures: int = 0
    busy: bool = False
    greeted: bool = False


class Dialer:
    """One entry for each address that a connection is wanted to."""

    def __init__(self, config: GossipConfig, rng: Random) -> None:
        self._config, self._rng = config, rng
        self._attempts: dict[str, _Attempt] = {}

    def want(self, addresses: set[str], now: float) -> None:
        """Keep connections to these addresses and to no others."""
        for address in sorted(self._attempts.keys() - addresses):
            del self._attempts[address]
        for address in sorted(addresses - self._attempts.keys()):
            self._attempts[address] = _Attempt(now)

    def due(self, now: float) -> list[str]:
        """Return the addresses to dial now, not too many at a time. Each is dialed once until the outcome is reported."""
        found = []
        left = DIALS_AT_ONCE_MAX - sum(one.busy and not one.greeted for one in self._attempts.values())
        for address, attempt in self._attempts.items():
            if left > 0 and not attempt.busy and attempt.at <= now:
                attempt.busy = True
                left -= 1
                found.append(address)
        return found

    def greeted(self, address: str) -> None:
        """Take note that the handshake succeeded."""
        if address in self._attempts:
            self._attempts[address].failures = 0
            self._attempts[address].greeted = True

    def ended(self, address: str, now: float) -> None:
        """Take note that an attempt failed or its connection ended, and plan the next."""
        attempt = self._attempts.get(address)
        if attempt is None:
            return
        most = min(self._config.dial_most, self._config.dial_first * 2.0 ** min(attempt.failures, 30))
        attempt.at = now + self._rng.uniform(most / 4, most)
        attempt.failures += 1
        attempt.busy = attempt.greeted = False
