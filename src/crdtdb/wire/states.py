"""How a document's state is written, the same on disk and on the wire.

    state  = [leaves, bodies, fields, residue]
    leaf   = [actor, counter, generation, digest, path, clock, deleted, body dot, body rev, stamp, creations]
    body   = [actor, counter, creations, text]
    field  = [path, [[actor, counter, creations, content], ...]]
    path   = [open, [digest, actor, counter], ...]      newest first; actor and counter null where unknown
    clock  = null | [[actor, first, last, first, last, ...], ...]

Actors and sets of creations are numbers into tables, which a frame brings along and a store keeps. What most documents
have in common is null: a clock of one range that ends at the leaf's own dot, a body dot and rev that are the leaf's own.
`open` says that older ancestors exist which the reader is expected to hold. `residue` is what the context of this
document has seen beyond the node clock that comes with it.

docs/reference/wire.md says all this for those who write a second implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from crdtdb.causality import ACTOR_BYTES, EMPTY, Actor, Dot, DotSet
from crdtdb.documents import Ancestor, Body, Creations, Delta, Leaf, Path, Rev, State
from crdtdb.errors import EncodingError, TooLargeError
from crdtdb.limits import DOCUMENT_LEAVES_MAX, FIELD_PATH_BYTES_MAX, REVS_LIMIT

_COUNTER_MAX = 2**63 - 1
_STAMP_MAX = 2**64 - 1
_GENERATION_MAX = 2**53 - 1

Encoded = list[Any]


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


Older = Callable[[Rev], Callable[[], Sequence[Ancestor]]]
"""Given the last ancestor that came along, returns what reads those before it."""


def encode_state(
    state: State, residue: DotSet, tables: Tables, steps: Callable[[Leaf], tuple[Sequence[Ancestor], bool]]
) -> Encoded:
    """Return the state as plain arrays. `steps` chooses how much of a leaf's path goes in, and whether more exists."""
    number = tables.actor_number
    sets = tables.creations_number
    leaves = []
    for dot, leaf in state.leaves.items():
        known, more = steps(leaf)
        leaves.append(
            [
                number(dot[0]),
                dot[1],
                leaf.rev[0],
                _digest_out(leaf.rev[1]),
                [more, *([_digest_out(step.digest), *_dot_out(step.dot, number)] for step in known)] if known else None,
                _clock_out(leaf.clock, dot, number),
                leaf.deleted,
                None if leaf.body_dot == dot else _dot_out(leaf.body_dot, number),
                None if leaf.body_rev == leaf.rev else [leaf.body_rev[0], _digest_out(leaf.body_rev[1])],
                leaf.stamp,
                sets(leaf.creations),
            ]
        )
    bodies = [[number(dot[0]), dot[1], sets(body.creations), body.text] for dot, body in state.bodies.items()]
    fields = [
        [path, [[number(dot[0]), dot[1], sets(delta.creations), delta.content] for dot, delta in deltas.items()]]
        for path, deltas in state.fields.items()
    ]
    return [leaves, bodies, fields, dots_out(residue, number) if residue else None]


def decode_state(encoded: Any, context: DotSet, tables: Tables, older: Older) -> tuple[State, DotSet]:
    """Return the state whose context is `context` joined with its residue, and that residue.

    Raises EncodingError or TooLargeError for anything that isn't such a state.
    """
    try:
        leaves_in, bodies_in, fields_in, residue_in = encoded
        if len(leaves_in) > DOCUMENT_LEAVES_MAX or len(bodies_in) > 2 * DOCUMENT_LEAVES_MAX:
            raise TooLargeError(
                f"a document with {len(leaves_in)} leaves and {len(bodies_in)} bodies, the limit is "
                f"{DOCUMENT_LEAVES_MAX} leaves: resolve its conflicts"
            )
        leaves = dict(_leaf_in(leaf, tables, older) for leaf in leaves_in)
        bodies = {_dot_in(body, tables): Body(_bytes(body[3]), tables.creations(body[2])) for body in bodies_in}
        fields = {
            _path_in(path): {
                _dot_in(delta, tables): Delta(_bytes(delta[3]), tables.creations(delta[2])) for delta in deltas
            }
            for path, deltas in fields_in
        }
        residue = dots_in(residue_in, tables) if residue_in is not None else EMPTY
    except (EncodingError, TooLargeError):
        raise
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise EncodingError(f"not the state of a document: {error}") from error
    return State(leaves, bodies, fields, context | residue if residue else context), residue


def dots_out(dots: DotSet, number: Callable[[Actor], int]) -> Encoded:
    """Write a set of dots: an array for each actor, its number and then first, last, first, last, …"""
    return [[number(actor), *(bound for pair in ranges for bound in pair)] for actor, ranges in dots.items()]


def dots_in(encoded: Any, tables: Tables) -> DotSet:
    """Read a set of dots. Raises EncodingError."""
    try:
        found = {}
        for actor, *bounds in encoded:
            if any(type(bound) is not int or bound > _COUNTER_MAX for bound in bounds) or len(bounds) % 2:
                raise EncodingError("the ranges of an actor are pairs of counters")
            found[tables.actor(actor)] = list(zip(bounds[::2], bounds[1::2], strict=True))
        return DotSet.from_ranges(found)
    except (TypeError, ValueError, LookupError) as error:
        raise EncodingError(f"not a set of dots: {error}") from error


def actor_in(value: Any) -> Actor:
    """Read an actor. Raises EncodingError."""
    if type(value) is not bytes or len(value) != ACTOR_BYTES:
        raise EncodingError(f"an actor is {ACTOR_BYTES} bytes")
    return value


def _dot_out(dot: Dot | None, number: Callable[[Actor], int]) -> list[int | None]:
    return [None, None] if dot is None else [number(dot[0]), dot[1]]


def _clock_out(clock: DotSet, dot: Dot, number: Callable[[Actor], int]) -> Encoded | None:
    if len(list(clock.actors)) == 1 and clock.ranges(dot[0]) == ((1, dot[1]),):
        return None
    return dots_out(clock, number)


def _digest_out(digest: str) -> bytes | str:
    """Sixteen bytes for the digests that crdtdb and CouchDB make, text for what others may bring."""
    if len(digest) == 32:
        try:
            raw = bytes.fromhex(digest)
        except ValueError:
            return digest
        return raw if raw.hex() == digest else digest
    return digest


def _digest_in(value: Any) -> str:
    if type(value) is bytes and len(value) == 16:
        return value.hex()
    if type(value) is str and 1 <= len(value) <= 64 and value.isascii() and value.isprintable():
        return value
    raise EncodingError("a digest is 16 bytes, or a text of 1 to 64 characters")


def _rev_in(generation: Any, digest: Any) -> Rev:
    if type(generation) is not int or not 1 <= generation <= _GENERATION_MAX:
        raise EncodingError("a generation is a number from 1")
    return Rev(generation, _digest_in(digest))


def _dot_in(encoded: Any, tables: Tables) -> Dot:
    actor, counter = encoded[0], encoded[1]
    if type(counter) is not int or not 1 <= counter <= _COUNTER_MAX:
        raise EncodingError("a counter is a number from 1")
    return Dot(tables.actor(actor), counter)


def _leaf_in(encoded: Any, tables: Tables, older: Older) -> tuple[Dot, Leaf]:
    _, counter, generation, digest, path, clock, deleted, body_dot, body_rev, stamp, creations = encoded
    dot = _dot_in(encoded, tables)
    rev = _rev_in(generation, digest)
    if type(deleted) is not bool or type(stamp) is not int or not 0 <= stamp <= _STAMP_MAX:
        raise EncodingError("a leaf has a flag and a stamp")
    return dot, Leaf(
        rev,
        _path_of(path, rev, tables, older),
        DotSet({dot.actor: ((1, counter),)}) if clock is None else dots_in(clock, tables),
        deleted,
        dot if body_dot is None else _dot_in(body_dot, tables),
        rev if body_rev is None else _rev_in(*body_rev),
        stamp,
        tables.creations(creations),
    )


def _path_of(encoded: Any, rev: Rev, tables: Tables, older: Older) -> Path:
    if encoded is None:
        return Path()
    more, *links = encoded
    if type(more) is not bool or not 1 <= len(links) <= min(REVS_LIMIT, rev.generation - 1):
        raise EncodingError("a path has at most one step for each generation before")
    steps = [Ancestor(_digest_in(link[0]), None if link[1] is None else _dot_in(link[1:], tables)) for link in links]
    return Path(steps, older(Rev(rev.generation - len(steps), steps[-1].digest)) if more else None)


def _path_in(path: Any) -> str:
    if type(path) is not str or len(path.encode()) > FIELD_PATH_BYTES_MAX:
        raise EncodingError("the path of a field is a text")
    return path


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise EncodingError("a content is bytes")
    return value
