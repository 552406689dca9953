"""Store identity and incarnation. Rule 3: a dot never names two contents.

The store id stays for the life of the data. A new actor is drawn whenever a counter of the old one could have been used
and lost: in a new store, after a stop that wasn't clean, in a copy, and when a peer knows more of it than the store does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from crdtdb.backends import Backend
from crdtdb.causality import ACTOR_BYTES, TAG_BYTES, Actor, DotSet, Session
from crdtdb.clock import WallClock
from crdtdb.store.layout import keys
from crdtdb.store.layout.rows import decode_row, encode_row

_TIME_BYTES = 6
_TIME_MASK = (1 << 8 * _TIME_BYTES) - 1
NOISE_BYTES = TAG_BYTES - _TIME_BYTES


class Identity(NamedTuple):
    """Store id and actor. `why` is the reason for a new actor when the store was opened, None if it kept its actor.

    `entering` is whether the store was restored, copied or retired: it may hold what the others have collected, so it is
    compared with one of them before anything else.
    """

    store_id: bytes
    actor: Actor
    place: str | None
    why: str | None = None
    entering: bool = False

    def reset(self, backend: Backend, draw: Callable[[int], bytes], why: str) -> Identity:
        """Return the identity of a new store that has yet to reconcile, written before it is returned."""
        identity = Identity(draw(ACTOR_BYTES), draw(ACTOR_BYTES), self.place, why, entering=True)
        backend.write({keys.IDENTITY: encode_row(list(identity[:3])), keys.ENTERING: b""}, durable=True)
        return identity

    def entered(self, backend: Backend) -> Identity:
        """Return the identity of a store that has reconciled with a peer."""
        backend.write({keys.ENTERING: None}, durable=True)
        return self._replace(entering=False)

    def renewed(self, backend: Backend, draw: Callable[[int], bytes], why: str) -> Identity:
        """Return the identity with a new actor, written before it is returned."""
        renewed = self._replace(actor=draw(ACTOR_BYTES), why=why)
        backend.write({keys.IDENTITY: encode_row(list(renewed[:3]))}, durable=True)
        return renewed

    def stopped(self, backend: Backend) -> None:
        """Record a clean stop."""
        backend.write({keys.RUNNING: None}, durable=True)


def draw_tag(draw: Callable[[int], bytes], milliseconds: int) -> bytes:
    """Return a unique tag for a session of its actor: the time, so that tags sort by age, and random bytes."""
    return (milliseconds & _TIME_MASK).to_bytes(_TIME_BYTES, "big") + draw(NOISE_BYTES)


def load_identity(backend: Backend, draw: Callable[[int], bytes]) -> Identity:
    """Return the identity under which the store runs from now on, and mark the store as running."""
    encoded = backend.get(keys.IDENTITY)
    place = backend.capabilities.place
    if encoded is None:
        identity = Identity(draw(ACTOR_BYTES), draw(ACTOR_BYTES), place, "the store is new")
    else:
        identity = Identity(*decode_row(encoded))
        why = None
        if backend.get(keys.RUNNING) is not None:
            why = "the last stop wasn't clean"
        elif identity.place != place:
            why = "the store isn't where it was: it may be a copy"
        if why is not None:
            identity = Identity(identity.store_id, draw(ACTOR_BYTES), place, why)
    identity = identity._replace(entering=backend.get(keys.ENTERING) is not None)
    backend.write({keys.IDENTITY: encode_row(list(identity[:3])), keys.RUNNING: b""}, durable=True)
    return identity


class ActorSession:
    """The actor that a store writes as, and its session: since the store was opened, or took the actor."""

    def __init__(self, backend: Backend, draw: Callable[[int], bytes], wall: WallClock) -> None:
        self._backend, self._draw, self._wall = backend, draw, wall
        self.identity = load_identity(backend, draw)
        self.tag = draw_tag(draw, wall())
        """Distinguishes this session from the actor's other ones."""
        self.begun = False
        """Whether a write of this session was committed."""

    def next(self, clock: DotSet) -> Session:
        """Return the session as it begins after the writes that a clock covers."""
        return Session(clock.highest(self.identity.actor) + 1, self.tag)

    def reset(self, why: str) -> None:
        """Take a new store id and a new actor."""
        self._take(self.identity.reset(self._backend, self._draw, why))

    def renew(self, why: str) -> None:
        """Take a new actor."""
        self._take(self.identity.renewed(self._backend, self._draw, why))

    def end_entry(self) -> None:
        """Record that the store has reconciled with a peer."""
        self.identity = self.identity.entered(self._backend)

    def stop(self) -> None:
        """Record a clean stop."""
        self.identity.stopped(self._backend)

    def _take(self, identity: Identity) -> None:
        self.identity = identity
        self.tag, self.begun = draw_tag(self._draw, self._wall()), False
