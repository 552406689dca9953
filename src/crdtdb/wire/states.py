"""Encoding of document states, the same on disk and on the wire.

    state  = [leaves, bodies, fields, journals, residue]
    leaf   = [actor, counter, generation, digest, path, clock, kind, body dot, body rev, stamp, creations]
    body   = [actor, counter, creations, text]
    field  = [address, [[actor, counter, creations, content], ...]]
    journal   = [address, creations, vector, updates, snapshots, strands]      the address, or its place among the fields
    address   = [kind, part, key, key, ...]            the keys of the path, from the outside in
    vector    = [actor, counter, actor, counter, ...]
    update    = [actor, counter, after, content, creations]       `after` is the counter of the same actor's update before
    snapshot  = [vector, content, creations]
    strand    = [creations, vector, copied]
    path   = [open, [digest, actor, counter], ...]      newest first; actor and counter null where unknown
    clock  = null | [[actor, first, last, first, last, ...], ...]

Actors and sets of creations are numbers into tables, which a frame brings along and a store keeps. What most documents
have in common is null: a clock of one range that ends at the leaf's own dot, a body dot and rev that are the leaf's own.
The kind of a leaf is 0, 1 if it is deleted, 2 if it is an edit of fields that clients of revision trees haven't read.
`open` says that older ancestors exist which the reader is expected to hold. `residue` is what the context of this
document has seen beyond the node clock that comes with it. Of a journal only what the receiver may lack travels; a store
keeps updates and snapshots in rows of their own. No journals are null. Most journals have one strand: then `strands`
isn't there, and no update or snapshot names its creations.

docs/reference/wire.md says all this for those who write a second implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

from msgspec import Struct

from crdtdb.causality import EMPTY, Actor, Dot, DotSet
from crdtdb.crdts import (
    NO_FIELDS,
    NO_JOURNALS,
    Address,
    Creations,
    Delta,
    Journal,
    Snapshot,
    Strand,
    Update,
    joined_vector,
)
from crdtdb.documents import NO_PATH, Ancestor, Body, Leaf, Path, Rev, State
from crdtdb.errors import EncodingError
from crdtdb.limits import (
    GENERATION_MAX,
    REVS_LIMIT,
)
from crdtdb.wire.elements import (
    COUNTER_MAX,
    Encoded,
    Tables,
    address_in,
    address_out,
    bytes_in,
    counter_in,
    digest_in,
    digest_out,
    dot_in,
    dot_out,
    dots_in,
    dots_out,
    rev_in,
    vector_in,
    vector_out,
)

_STAMP_MAX = 2**64 - 1
_DELETED, _NATIVE = 1, 2

_FIRST_TYPES = (int, int, int, bytes, int, int, int, bytes)


Older = Callable[[Rev], Callable[[], Iterable[Ancestor]]]
"""Given the last ancestor that came along, returns what reads those before it."""


def encode_state(
    state: State, residue: DotSet, tables: Tables, steps: Callable[[Leaf], tuple[Sequence[Ancestor], bool]]
) -> Encoded:
    """Return the state as plain arrays. `steps` chooses how much of a leaf's path goes in, and whether more exists."""
    number = tables.actor_number
    sets = tables.creations_number
    leaves = [_leaf_out(dot, leaf, tables, *steps(leaf)) for dot, leaf in state.leaves.items()]
    bodies = [[number(dot[0]), dot[1], sets(body.creations), body.text] for dot, body in state.bodies.items()]
    if not state.fields and not state.journals:
        return [leaves, bodies, [], None, dots_out(residue, number) if residue else None]
    fields = [
        [
            address_out(address),
            [[number(dot[0]), dot[1], sets(delta.creations), delta.content] for dot, delta in deltas.items()],
        ]
        for address, deltas in state.fields.items()
    ]
    places = {address: place for place, address in enumerate(state.fields)}
    journals = [
        [places[address] if address in places else address_out(address), *_journal_out(journal, tables)]
        for address, journal in state.journals.items()
    ]
    return [leaves, bodies, fields, journals or None, dots_out(residue, number) if residue else None]


@final
class First(Struct, frozen=True, gc=False):
    """The state that most documents have, without the objects of a `State`: one live leaf without parents, and its body."""

    dot: Dot
    digest: bytes
    """That of its revision, sixteen bytes."""
    stamp: int
    creations: Creations
    text: bytes


_ONE_LEAF = b"\x85\x81\x8b"
"""How the encoding of a state with one leaf begins: an array of 5, in it an array of 1, in it an array of 11."""
_UINT_BYTES = {0x18: 2, 0x19: 3, 0x1A: 5, 0x1B: 9}
"""How many bytes a number has that begins with this one; 1 with any other."""


def encode_first(first: First, tables: Tables, residue: Encoded | None = None) -> Encoded:
    """Return what `encode_state` does of the same state."""
    actor, counter = first.dot
    number, creations = tables.actor_number(actor), tables.creations_number(first.creations)
    leaf = [number, counter, 1, first.digest, None, None, 0, None, None, first.stamp, creations]
    return [[leaf], [[number, counter, creations, first.text]], [], None, residue]


def first_in(encoded: Any, tables: Tables) -> First | None:
    """Read what `encode_first` wrote, without a residue; None for all else, of which `decode_state` says what it is."""
    try:
        (leaf,), (body,), fields, journals, residue = encoded
        number, counter, generation, digest, path, clock, kind, body_dot, body_rev, stamp, creations = leaf
        number_again, counter_again, creations_again, text = body
    except (TypeError, ValueError):
        return None
    plain = path is clock is body_dot is body_rev is journals is residue is None and not fields
    types = tuple(map(type, (number, counter, generation, digest, kind, stamp, creations, text)))
    if (
        not plain
        or types != _FIRST_TYPES
        or [number, counter, creations] != [number_again, counter_again, creations_again]
        or generation != 1
        or kind != 0
        or len(digest) != 16
        or not 1 <= counter <= COUNTER_MAX
        or not 0 <= stamp <= _STAMP_MAX
    ):
        return None
    try:
        return First(Dot(tables.actor(number), counter), digest, stamp, tables.creations(creations), text)
    except LookupError:
        return None


def begins_with_first(encoded: bytes) -> bool:
    """Return whether the encoding of a document's state is that of one leaf of the first generation, without decoding it.

    It is a guess at what merging will cost, and no more: of what isn't an encoding at all either answer may come.
    """
    if encoded[:3] != _ONE_LEAF:
        return False
    place = 3
    for _ in range(2):  # the dot: the number of its actor, and its counter
        place += _UINT_BYTES.get(encoded[place] if place < len(encoded) else 0, 1)
    return encoded[place : place + 1] == b"\x01"


class Single(Struct, frozen=True, gc=False):
    """All that is seen of a document with one leaf, which lives, and no fields: its revision and its text. Most are so."""

    generation: int
    digest: str
    text: bytes

    @property
    def rev(self) -> str:
        """The revision's name."""
        return f"{self.generation}-{self.digest}"


def single_in(row: Encoded, living: int | None) -> Single | None:
    """Read a document's row, a seq and a state, if the document is single; None for others.

    It must have been written under the set of creations with the number `living`. For a row that this store wrote.
    """
    _, leaves, bodies, fields, journals, _ = row
    if fields or journals is not None or len(leaves) != 1 or len(bodies) != 1:
        return None
    number, counter, generation, digest, _, _, kind, body_dot, _, _, creations = leaves[0]
    body_number, body_counter, body_creations, text = bodies[0]
    if kind == _DELETED or creations != living or body_creations != living:
        return None
    itself, its_body = [number, counter], [body_number, body_counter]
    own = its_body == (itself if body_dot is None else body_dot)
    return Single(generation, digest.hex() if type(digest) is bytes else digest, text) if own else None


def decode_state(encoded: Any, context: DotSet, tables: Tables, older: Older) -> tuple[State, DotSet]:
    """Return the state whose context is `context` joined with its residue, and that residue.

    How many leaves it has isn't asked: a frame is bounded, and what two sides were allowed may be more together. Raises
    EncodingError for anything that isn't such a state.
    """
    try:
        leaves_in, bodies_in, fields_in, journals_in, residue_in = encoded
        leaves = dict([_leaf_in(leaf, tables, older) for leaf in leaves_in])
        bodies = dict([_body_in(body, tables) for body in bodies_in])
        fields = (
            {
                address_in(address): {
                    dot_in(delta, tables): Delta(bytes_in(delta[3]), tables.creations(delta[2])) for delta in deltas
                }
                for address, deltas in fields_in
            }
            if fields_in
            else NO_FIELDS
        )
        journals = (
            dict(_journal_in(one, list(fields), tables) for one in journals_in)
            if journals_in is not None
            else NO_JOURNALS
        )
        residue = dots_in(residue_in, tables) if residue_in is not None else EMPTY
    except EncodingError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise EncodingError(f"not the state of a document: {error}") from error
    return State(leaves, bodies, fields, context | residue if residue else context, journals), residue


def _clock_out(clock: DotSet, dot: Dot, number: Callable[[Actor], int]) -> Encoded | None:
    return None if clock.is_up_to(dot) else dots_out(clock, number)


def _leaf_out(dot: Dot, leaf: Leaf, tables: Tables, known: Sequence[Ancestor], more: bool) -> Encoded:
    number = tables.actor_number
    rev, body_dot, body_rev = leaf.rev, leaf.body_dot, leaf.body_rev
    return [
        number(dot[0]),
        dot[1],
        rev[0],
        digest_out(rev[1]),
        [more, *([digest_out(step[0]), *dot_out(step[1], number)] for step in known)] if known else None,
        _clock_out(leaf.clock, dot, number),
        _DELETED if leaf.deleted else _NATIVE if leaf.native else 0,
        None if body_dot == dot else dot_out(body_dot, number),
        None if body_rev == rev else [body_rev[0], digest_out(body_rev[1])],
        leaf.stamp,
        tables.creations_number(leaf.creations),
    ]


def _leaf_in(encoded: Any, tables: Tables, older: Older) -> tuple[Dot, Leaf]:
    number, counter, generation, digest, path, clock, kind, body_dot, body_rev, stamp, creations = encoded
    # Most digests are of sixteen bytes; `rev_in` says what else may be, and refuses the rest.
    usual = type(digest) is bytes and len(digest) == 16 and type(generation) is int and 0 < generation <= GENERATION_MAX
    rev = Rev(generation, digest.hex()) if usual else rev_in(generation, digest)
    actor = tables.actor(number)
    if type(counter) is not int or not 1 <= counter <= COUNTER_MAX:
        raise EncodingError("a counter is a number from 1")
    if type(kind) is not int or not 0 <= kind <= _NATIVE or type(stamp) is not int or not 0 <= stamp <= _STAMP_MAX:
        raise EncodingError("a leaf has a kind and a stamp")
    dot = Dot(actor, counter)
    return dot, Leaf(
        rev,
        NO_PATH if path is None else _path_in(path, rev, tables, older),
        DotSet({actor: ((1, counter),)}) if clock is None else dots_in(clock, tables),
        kind == _DELETED,
        dot if body_dot is None else dot_in(body_dot, tables),
        rev if body_rev is None else rev_in(*body_rev),
        stamp,
        tables.creations(creations),
        kind == _NATIVE,
    )


def _body_in(encoded: Any, tables: Tables) -> tuple[Dot, Body]:
    number, counter, creations, text = encoded
    if type(counter) is not int or not 1 <= counter <= COUNTER_MAX or type(text) is not bytes:
        raise EncodingError("a body has a counter, a number from 1, and its text as bytes")
    return Dot(tables.actor(number), counter), Body(text, tables.creations(creations))


def _path_in(encoded: Any, rev: Rev, tables: Tables, older: Older) -> Path:
    more, *links = encoded
    if type(more) is not bool or not 1 <= len(links) <= min(REVS_LIMIT, rev.generation - 1):
        raise EncodingError("a path has at most one step for each generation before")
    steps = [Ancestor(digest_in(link[0]), None if link[1] is None else dot_in(link[1:], tables)) for link in links]
    return Path(steps, older(Rev(rev.generation - len(steps), steps[-1].digest)) if more else None)


def _journal_out(journal: Journal, tables: Tables) -> Encoded:
    number, sets = tables.actor_number, tables.creations_number
    told = tables.knows_strands
    creations = journal.creations if told else frozenset().union(*journal.all_strands())

    def named(held: Creations | None) -> list[int]:
        return [sets(held)] if held is not None and told else []

    encoded: Encoded = [
        sets(creations or journal.creations),
        vector_out(journal.vector, number),
        [
            [number(dot[0]), dot[1], one.after, one.content, *named(one.creations)]
            for dot, one in sorted(journal.updates.items())
        ],
        [
            [vector_out(snapshot.vector, number), snapshot.content, *named(snapshot.creations)]
            for snapshot in journal.snapshots
        ],
    ]
    if journal.strands and told:
        encoded.append(
            [
                [sets(held), vector_out(strand.vector, number), vector_out(strand.copied, number)]
                for held, strand in journal.strands.items()
            ]
        )
    return encoded


def _journal_in(encoded: Any, fields: list[Address], tables: Tables) -> tuple[Address, Journal]:
    address, creations, vector, updates, snapshots, *several = encoded
    if type(address) is int and not 0 <= address < len(fields):
        raise EncodingError("a journal stands at the address of a field, or at one of its own")
    strands = {
        tables.creations(held): Strand(vector_in(reached, tables), vector_in(copied, tables))
        for held, reached, copied in (several[0] if several else ())
    }
    journal = Journal(
        vector_in(vector, tables),
        tables.creations(creations),
        dict(_update_in(update, tables) for update in updates),
        tuple(_snapshot_in(*snapshot, tables=tables) for snapshot in snapshots),
        strands,
    )
    named = [update.creations for update in journal.updates.values()] + [
        snapshot.creations for snapshot in journal.snapshots
    ]
    if strands:
        reached = joined_vector(strand.vector for strand in strands.values())
        if {held or journal.creations for held in named} - strands.keys() or reached != journal.vector:
            raise EncodingError("the strands of a journal are those of its updates, and reach as far as it does")
    elif any(held is not None for held in named):
        raise EncodingError("the updates of a journal of one strand have its creations")
    return fields[address] if type(address) is int else address_in(address), journal


def _update_in(encoded: Any, tables: Tables) -> tuple[Dot, Update]:
    creations = tables.creations(encoded[4]) if len(encoded) > 4 else None
    return dot_in(encoded, tables), Update(counter_in(encoded[2], 0), bytes_in(encoded[3]), creations)


def _snapshot_in(vector: Any, content: Any, creations: Any = None, *, tables: Tables) -> Snapshot:
    held = tables.creations(creations) if creations is not None else None
    return Snapshot(vector_in(vector, tables), bytes_in(content), held)
