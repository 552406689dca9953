"""Encodings of dots, clocks, revisions, addresses and vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from crdtdb.causality import ACTOR_BYTES, Actor, Dot, DotSet
from crdtdb.crdts import (
    Address,
    Creations,
    Vector,
)
from crdtdb.documents import Rev
from crdtdb.errors import EncodingError
from crdtdb.limits import (
    CLOCK_ACTORS_MAX,
    CLOCK_RANGES_MAX,
    FIELD_ELEMENT_BYTES_MAX,
    FIELD_KEY_BYTES_MAX,
    FIELD_PATH_STEPS_MAX,
    GENERATION_MAX,
)

CREATION_BYTES = 8

Encoded = list[Any]

COUNTER_MAX = 2**63 - 1


_KIND_BYTES_MAX = 32


class Tables(Protocol):
    """Numbers for what repeats: actors, and sets of creations."""

    def actor_number(self, actor: Actor) -> int:
        """Return the number of an actor, giving it one if need be."""
        ...

    def actor(self, number: int) -> Actor:
        """Return the actor of a number. Raises LookupError."""
        ...

    def creations_number(self, creations: Creations) -> int:
        """Return the number of a set of creations, giving it one if need be."""
        ...

    def creations(self, number: int) -> Creations:
        """Return the creations of a number. Raises LookupError."""
        ...

    @property
    def knows_strands(self) -> bool:
        """Whether the reader knows that the updates of one journal may have several sets of creations."""
        ...


def dots_out(dots: DotSet, number: Callable[[Actor], int]) -> Encoded:
    """Write a set of dots: an array for each actor, its number and then first, last, first, last, …"""
    return [[number(actor), *(bound for pair in ranges for bound in pair)] for actor, ranges in dots.items()]


def dots_in(encoded: Any, tables: Tables) -> DotSet:
    """Read a set of dots. Raises EncodingError."""
    try:
        found = {}
        for actor, *bounds in encoded:
            if any(type(bound) is not int or bound > COUNTER_MAX for bound in bounds) or len(bounds) % 2:
                raise EncodingError("the ranges of an actor are pairs of counters")
            found[tables.actor(actor)] = list(zip(bounds[::2], bounds[1::2], strict=True))
        return DotSet.from_ranges(found)
    except (TypeError, ValueError, LookupError) as error:
        raise EncodingError(f"not a set of dots: {error}") from error


def check_clock(encoded: Any) -> None:
    """Raise EncodingError for the encoding of a node clock that is larger than one can be: a greeting has to hold it."""
    bounds = sum(len(one) - 1 for one in encoded)
    if len(encoded) > CLOCK_ACTORS_MAX or bounds > 2 * CLOCK_RANGES_MAX:
        raise EncodingError(
            f"a clock of {len(encoded):,} actors and {bounds // 2:,} ranges, the limits are {CLOCK_ACTORS_MAX:,} and "
            f"{CLOCK_RANGES_MAX:,}"
        )


def actor_in(value: Any) -> Actor:
    """Read an actor. Raises EncodingError."""
    if type(value) is not bytes or len(value) != ACTOR_BYTES:
        raise EncodingError(f"an actor is {ACTOR_BYTES} bytes")
    return value


def dot_out(dot: Dot | None, number: Callable[[Actor], int]) -> list[int | None]:
    """Write a dot: two items."""
    return [None, None] if dot is None else [number(dot[0]), dot[1]]


def digest_out(digest: str) -> bytes | str:
    """Sixteen bytes for the digests that crdtdb and CouchDB make, text for what others may bring."""
    if len(digest) == 32:
        try:
            raw = bytes.fromhex(digest)
        except ValueError:
            return digest
        return raw if raw.hex() == digest else digest
    return digest


def digest_in(value: Any) -> str:
    """Read the digest of a revision. Raises EncodingError."""
    if type(value) is bytes and len(value) == 16:
        return value.hex()
    if type(value) is str and 1 <= len(value) <= 64 and value.isascii() and value.isprintable():
        return value
    raise EncodingError("a digest is 16 bytes, or a text of 1 to 64 characters")


def rev_in(generation: Any, digest: Any) -> Rev:
    """Read a revision. Raises EncodingError."""
    if type(generation) is not int or not 1 <= generation <= GENERATION_MAX:
        raise EncodingError("a generation is a number from 1")
    return Rev(generation, digest_in(digest))


def dot_in(encoded: Any, tables: Tables) -> Dot:
    """Read a dot, the first two items of an array. Raises EncodingError, LookupError."""
    return Dot(tables.actor(encoded[0]), counter_in(encoded[1], 1))


def address_out(address: Address) -> Encoded:
    """Write the address of a field. The name of a creation, 16 hexadecimal digits, is written as bytes."""
    return [address.kind, name_out(address.part), *address.path]


def name_out(part: str) -> bytes | str:
    """Write the part of an address: the name of a creation, 16 hexadecimal digits, as bytes."""
    try:
        raw = bytes.fromhex(part) if len(part) == 2 * CREATION_BYTES else b""
    except ValueError:
        return part
    return raw if raw and raw.hex() == part else part


def address_in(encoded: Any) -> Address:
    """Read the address of a field. Raises EncodingError."""
    kind, part, *path = encoded
    if type(part) is bytes and len(part) == CREATION_BYTES:
        part = part.hex()
    if (
        len(path) > FIELD_PATH_STEPS_MAX
        or not _is_text(kind, _KIND_BYTES_MAX)
        or not _is_text(part, FIELD_ELEMENT_BYTES_MAX + 1)
        or not all(_is_text(key, FIELD_KEY_BYTES_MAX) for key in path)
    ):
        raise EncodingError("the address of a field is texts: a kind, a part, and the keys of a path")
    return Address(tuple(path), kind, part)


def _is_text(value: Any, bytes_max: int) -> bool:
    # A character has at most four bytes, so most texts need no count of bytes.
    return type(value) is str and (4 * len(value) <= bytes_max or len(value.encode()) <= bytes_max)


def vector_out(vector: Vector, number: Callable[[Actor], int]) -> list[int]:
    """Write the vector of a journal."""
    return [part for actor, counter in vector.items() for part in (number(actor), counter)]


def vector_in(encoded: Any, tables: Tables) -> Vector:
    """Read the vector of a journal. Raises EncodingError."""
    return dict(dot_in(pair, tables) for pair in zip(encoded[::2], encoded[1::2], strict=True))


def counter_in(value: Any, least: int) -> int:
    """Read a counter. Raises EncodingError."""
    if type(value) is not int or not least <= value <= COUNTER_MAX:
        raise EncodingError(f"a counter is a number from {least}")
    return value


def bytes_in(value: Any) -> bytes:
    """Read bytes. Raises EncodingError."""
    if type(value) is not bytes:
        raise EncodingError("a content is bytes")
    return value
