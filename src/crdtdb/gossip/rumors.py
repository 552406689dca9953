"""Rumors: fresh writes are pushed to some peers at once, which push on what was news to them.

A rumor carries the names of those that were told, so that in a small cluster nobody is told twice. Whoever isn't reached
learns by an exchange: a rumor is an optimization, and may be lost.

Source: Demers et al., "Epidemic Algorithms for Replicated Database Maintenance" (1987).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from crdtdb.limits import RUMOR_DOCUMENTS_MAX

if TYPE_CHECKING:
    from random import Random

Place = tuple[str, str]
"""A document: collection and id."""

_TOLD_MAX = 64


class Rumors:
    """What is to be pushed on, and who knows it."""

    def __init__(self, fanout: int, rng: Random) -> None:
        self._fanout, self._dice = fanout, rng
        self._hot: dict[Place, frozenset[str]] = {}
        self._overflow = False

    def heard(self, documents: Iterable[Place], told: Iterable[str]) -> None:
        """Take note of documents that are news here, and who knows them."""
        known = frozenset(told)
        for place in documents:
            if len(self._hot) >= RUMOR_DOCUMENTS_MAX and place not in self._hot:
                self._overflow = True
                return
            # A document that changed again since isn't known by those who heard the last of it.
            self._hot[place] = known

    def too_much(self) -> None:
        """Poke the peers instead: there is news that no rumor carries."""
        self._overflow = True

    def take(self, me: str, peers: Iterable[str]) -> list[tuple[list[Place], list[str], tuple[str, ...]]]:
        """Return what to push: documents, the peers to push them to, and the names to send along. Forgets them."""
        groups: dict[frozenset[str], list[Place]] = {}
        for place, told in self._hot.items():
            groups.setdefault(told, []).append(place)
        self._hot = {}
        rumors = []
        for told, places in groups.items():
            chosen = self._choose(peers, told)
            if chosen:
                everyone = sorted({*told, *chosen, me})
                rumors.append((places, chosen, tuple(everyone[:_TOLD_MAX])))
        return rumors

    def take_overflow(self, peers: Iterable[str]) -> list[str]:
        """Return the peers to be poked, since there was too much for rumors."""
        if not self._overflow:
            return []
        self._overflow = False
        return self._choose(peers, frozenset())

    def __bool__(self) -> bool:
        return bool(self._hot) or self._overflow

    def _choose(self, peers: Iterable[str], told: frozenset[str]) -> list[str]:
        others = sorted(name for name in peers if name not in told)
        return self._dice.sample(others, min(self._fanout, len(others)))
