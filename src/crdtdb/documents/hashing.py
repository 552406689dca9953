"""Hash of each live dot's content, to compare stores without sending it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from crdtdb.causality import Dot
from crdtdb.crdts import Address, Journals
from crdtdb.documents.state import State

HASH_MASK = (1 << 64) - 1
"""Sums of hashes are taken modulo 2^64."""


class Hashed(NamedTuple):
    """A leaf, a body or (with its address) a delta of a field, and the hash of what it is."""

    dot: Dot
    address: Address | None
    hash: int


def hashed(name: str, doc_id: str, state: State) -> Iterator[Hashed]:
    """Yield everything that stands under a dot in a state of a document."""
    of = _hasher(name, doc_id)
    for dot, leaf in state.leaves.items():
        kind = b"D" if leaf.deleted else b"N" if leaf.native else b"L"
        rev, body = str(leaf.rev).encode(), leaf.body_dot
        yield Hashed(dot, None, of(b"leaf", rev, kind, body.actor, b"%d" % body.counter))
    for dot, held in state.bodies.items():
        yield Hashed(dot, None, of(b"body", held.text))
    for address, deltas in state.fields.items():
        where = [part.encode() for part in (address.kind, address.part, *address.path)]
        for dot, delta in deltas.items():
            yield Hashed(dot, address, of(b"field", *where, delta.content))


def hashes(name: str, doc_id: str, state: State) -> dict[Dot, int]:
    """Return the hash of each live dot: the sum of those of all that stands under it."""
    found: dict[Dot, int] = {}
    for dot, _, one in hashed(name, doc_id, state):
        found[dot] = (found.get(dot, 0) + one) & HASH_MASK
    return found


def hashed_journals(name: str, doc_id: str, journals: Journals) -> Iterator[int]:
    """Yield the hash of how far each journal goes. No dot stands for that; a dot that is covered is in."""
    of = _hasher(name, doc_id)
    for address, journal in journals.items():
        where = [part.encode() for part in (address.kind, address.part, *address.path)]
        vector = [part for actor, counter in sorted(journal.vector.items()) for part in (actor, b"%d" % counter)]
        yield of(b"journal", *where, *vector)


def _hasher(name: str, doc_id: str) -> Callable[..., int]:
    beginning = _parts(name.encode(), doc_id.encode())
    return lambda *parts: int.from_bytes(blake2b(beginning + _parts(*parts), digest_size=8).digest(), "big")


def _parts(*parts: bytes) -> bytes:
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)
