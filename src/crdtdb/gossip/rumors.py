"""Rumors: fresh writes are pushed to some peers at once, which push on what was news to them.

A rumor carries the names of the members it was sent to, so that in a small cluster none gets it twice. A member that it
doesn't reach learns by an exchange: a rumor is an optimization, and may be lost.

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

_INFORMED_MAX = 64


class Rumors:
    """The documents to push on, and the members informed of each."""

    def __init__(self, fanout: int, rng: Random) -> None:
        self._fanout, self._rng = fanout, rng
        self._hot: dict[Place, frozenset[str]] = {}
        self._overflow = False

    def heard(self, documents: Iterable[Place], informed: Iterable[str]) -> None:
        """Take note of documents that are news here, and of the members informed already."""
        informed_peers = frozenset(informed)
        for place in documents:
            if len(self._hot) >= RUMOR_DOCUMENTS_MAX and place not in self._hot:
                self._overflow = True
                return
            # A document that changed again isn't known to the members that got its last state.
            self._hot[place] = informed_peers

    def too_much(self) -> None:
        """Send hints to sync instead: there is news that no rumor carries."""
        self._overflow = True

    def take(self, me: str, peers: Iterable[str]) -> list[tuple[list[Place], list[str], tuple[str, ...]]]:
        """Return what to push: documents, the peers to push them to, and the names to send along. Forgets them."""
        groups: dict[frozenset[str], list[Place]] = {}
        for place, informed in self._hot.items():
            groups.setdefault(informed, []).append(place)
        self._hot = {}
        rumors = []
        for informed, places in groups.items():
            chosen = self._choose(peers, informed)
            if chosen:
                everyone = sorted({*informed, *chosen, me})
                rumors.append((places, chosen, tuple(everyone[:_INFORMED_MAX])))
        return rumors

    def take_overflow(self, peers: Iterable[str]) -> list[str]:
        """Return the peers to send a hint to sync, since there was too much for rumors."""
        if not self._overflow:
            return []
        self._overflow = False
        return self._choose(peers, frozenset())

    def __bool__(self) -> bool:
        return bool(self._hot) or self._overflow

    def _choose(self, peers: Iterable[str], informed: frozenset[str]) -> list[str]:
        others = sorted(name for name in peers if name not in informed)
        return self._rng.sample(others, min(self._fanout, len(others)))
