"""Dot: names one write by its actor and the actor's write counter.

Source: Preguiça, Baquero, Almeida, Fonte, Gonçalves, "Dotted Version Vectors: Logical Clocks for Optimistic
Replication" (2010).
"""

from typing import NamedTuple

Actor = bytes
"""128 random bits naming one incarnation of one node's store."""

ACTOR_BYTES = 16


class Dot(NamedTuple):
    """One write's name. Dots of one actor are numbered from 1 without gaps, over all its documents.

    They compare by actor, then counter: an order without meaning, used only to walk dots the same way everywhere.
    """

    actor: Actor
    counter: int

    def __repr__(self) -> str:
        return f"{self.actor.hex()[:8]}:{self.counter}"
