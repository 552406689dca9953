"""Which store this is, and which of its incarnations. Rule 3: a dot never names two contents.

The store id stays for the life of the data. The actor is drawn anew whenever a counter of the old one could have been used
and lost: in a new store, after a stop that wasn't clean, in a copy, and when a peer knows more of it than the store does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from crdtdb.backends import Backend
from crdtdb.causality import ACTOR_BYTES, TAG_BYTES, Actor
from crdtdb.store.layout import keys
from crdtdb.store.layout.rows import decode_row, encode_row

_TIME_BYTES = 6
_TIME_MASK = (1 << 8 * _TIME_BYTES) - 1
NOISE_BYTES = TAG_BYTES - _TIME_BYTES


class Identity(NamedTuple):
    """A store's names. `why` says what the actor was drawn for when the store was opened, None if it was kept.

    `entering` is whether the store was restored, copied or retired: it may hold what the others have collected, so it is
    compared with one of them before anything else.
    """

    store_id: bytes
    actor: Actor
    place: str | None
    why: str | None = None
    entering: bool = False

    def begun_anew(self, backend: Backend, draw: Callable[[int], bytes], why: str) -> Identity:
        """Return the identity of a store that nobody knows yet, which is kept before it is returned."""
        anew = Identity(draw(ACTOR_BYTES), draw(ACTOR_BYTES), self.place, why, entering=True)
        backend.write({keys.IDENTITY: encode_row(list(anew[:3])), keys.ENTERING: b""}, durable=True)
        return anew

    def entered(self, backend: Backend) -> Identity:
        """Return the identity of a store that has been compared."""
        backend.write({keys.ENTERING: None}, durable=True)
        return self._replace(entering=False)

    def renewed(self, backend: Backend, draw: Callable[[int], bytes], why: str) -> Identity:
        """Return the identity with a new actor, which is kept before it is returned."""
        renewed = self._replace(actor=draw(ACTOR_BYTES), why=why)
        backend.write({keys.IDENTITY: encode_row(list(renewed[:3]))}, durable=True)
        return renewed

    def stopped(self, backend: Backend) -> None:
        """Take note of a clean stop."""
        backend.write({keys.RUNNING: None}, durable=True)


def draw_tag(draw: Callable[[int], bytes], milliseconds: int) -> bytes:
    """Return what tells a session from any other of its actor: the time, so that the earlier is the smaller, and noise."""
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
