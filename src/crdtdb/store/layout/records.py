"""Rows of interned actors and creations, documents and replaced revisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from crdtdb.backends import Reader
from crdtdb.causality import EMPTY, Actor, Dot, DotSet
from crdtdb.crdts import Address, Creations
from crdtdb.documents import Ancestor, Leaf, Rev, State
from crdtdb.limits import REVS_LIMIT
from crdtdb.store.layout import keys
from crdtdb.store.layout.rows import decode_row, encode_row
from crdtdb.wire.elements import address_in, address_out, dots_in, dots_out
from crdtdb.wire.states import First, Single, decode_state, encode_first, encode_state, first_in, single_in

Get = Callable[[bytes], bytes | None]


class StoreTables:
    """The store's numbers for actors and for sets of creations. They only ever grow, so any reader may hold them.

    `unsaved` are the rows that no commit has written yet; the next one takes them along.
    """

    knows_strands = True

    def __init__(self, rows: Reader) -> None:
        """Read what the store has."""
        self.actors = [value for _, value in rows.scan(*keys.rest(b"a"))]
        self._actor_numbers = {actor: number for number, actor in enumerate(self.actors)}
        self.sets: list[Creations] = []
        for _, value in rows.scan(*keys.rest(b"e")):
            flat = decode_row(value)
            self.sets.append(
                frozenset(Dot(self.actors[a], counter) for a, counter in zip(flat[::2], flat[1::2], strict=True))
            )
        self._set_numbers = {creations: number for number, creations in enumerate(self.sets)}
        self.unsaved: dict[bytes, bytes] = {}

    def actor_number(self, actor: Actor) -> int:
        """Return the number of an actor, giving it one if need be."""
        number = self._actor_numbers.get(actor)
        if number is None:
            number = len(self.actors)
            self.unsaved[keys.actor(number)] = actor
            self.actors.append(actor)
            self._actor_numbers[actor] = number
        return number

    def number_of(self, creations: Creations) -> int | None:
        """Return the number of a set of creations that has one."""
        return self._set_numbers.get(creations)

    def known_actor_number(self, actor: Actor) -> int | None:
        """Return the number of an actor that has one."""
        return self._actor_numbers.get(actor)

    def creations_number(self, creations: Creations) -> int:
        """Return the number of a set of creations, giving it one if need be."""
        number = self._set_numbers.get(creations)
        if number is None:
            flat = [part for dot in sorted(creations) for part in (self.actor_number(dot.actor), dot.counter)]
            number = len(self.sets)
            self.unsaved[keys.creations(number)] = encode_row(flat)
            self.sets.append(creations)
            self._set_numbers[creations] = number
        return number

    def actor(self, number: int) -> Actor:
        """Return the actor of a number."""
        return self.actors[number]

    def creations(self, number: int) -> Creations:
        """Return the creations of a number."""
        return self.sets[number]


class Decoded(Struct, frozen=True, gc=False):
    """What a document's row holds. `residue` is what its context has beyond the node clock."""

    state: State
    residue: DotSet
    stored: State
    """The state as stored, with the writes of dropped creations."""


class Record(Struct, gc=False):
    """A document as the store holds it.

    A reader of a `single` record seldom needs more than that, so its state is decoded on first access.
    """

    seq: int
    single: Single | None
    decoded: Decoded | None
    row: bytes = b""
    clock: DotSet = EMPTY
    tables: StoreTables | None = None
    get: Get | None = None
    key: bytes = b""
    """The arguments of `decode_record`, from `row` to this key, until the first access."""

    @classmethod
    def of(cls, seq: int, state: State, residue: DotSet = EMPTY, stored: State | None = None) -> Record:
        """Return the record of a state that is at hand."""
        return cls(seq, None, Decoded(state, residue, stored if stored is not None else state))

    def _decode(self) -> Decoded:
        assert self.tables is not None
        self.decoded = _decoded(decode_row(self.row), self.clock, self.tables, self.get or _nothing, self.key)
        return self.decoded

    @property
    def state(self) -> State:
        """The document's state, without what was written under creations that were all dropped."""
        return (self.decoded or self._decode()).state

    @property
    def residue(self) -> DotSet:
        """What the document's context has beyond the node clock."""
        return (self.decoded or self._decode()).residue

    @property
    def stored(self) -> State:
        """The state before what was dropped is left out."""
        return (self.decoded or self._decode()).stored


class Past(Struct, frozen=True, gc=False):
    """A revision that is no leaf any more. `text` is None where its body was never here, or it was a deletion.

    `text` is its value with what the small fields showed then, if it is known what its author had seen: `seen`. Its texts and
    lists, at `sequences`, are then those of their journals up to there.
    """

    rev: Rev
    parent: Ancestor | None
    deleted: bool
    stamp: int
    dot: Dot | None
    text: bytes | None
    seen: DotSet | None
    sequences: tuple[Address, ...]

    @property
    def known(self) -> bool:
        """Whether its value is known, but for texts and lists that were folded since."""
        return self.text is not None and self.seen is not None


def encode_record(seq: int, state: State, residue: DotSet, tables: StoreTables) -> bytes:
    """Write a document. Of each path the parent goes in; the rows of the replaced revisions are the rest of it."""
    return encode_row([seq, *encode_state(state, residue, tables, _parent_alone)])


def _parent_alone(leaf: Leaf) -> tuple[Sequence[Ancestor], bool]:
    parent = leaf.path.parent
    if parent is None:
        return (), False
    return (parent,), not (leaf.path.complete and len(leaf.path.known) == 1)


def decode_record(value: bytes, clock: DotSet, tables: StoreTables, get: Get, key: bytes) -> Record:
    """Read a document's row. `key` is the row's, `get` reads the rows of its older revisions."""
    return record_of(decode_row(value), clock, tables, get, key)


def record_of(encoded: Any, clock: DotSet, tables: StoreTables, get: Get, key: bytes) -> Record:
    """Return what `decode_record` does of a row that was taken apart by `decode_row`."""
    return Record(encoded[0], None, _decoded(encoded, clock, tables, get, key))


def read_record(value: bytes, clock: DotSet, tables: StoreTables, get: Get, key: bytes, living: Creations) -> Record:
    """Read a document as `decode_record` does, and no more of it than is asked for where it was written under `living`."""
    encoded = decode_row(value)
    return Record(encoded[0], single_in(encoded, tables.number_of(living)), None, value, clock, tables, get, key)


def _decoded(encoded: Any, clock: DotSet, tables: StoreTables, get: Get, key: bytes) -> Decoded:
    def older(rev: Rev) -> Callable[[], Iterable[Ancestor]]:
        return lambda: read_chain(get, tables, keys.history_of(key), rev)

    state, residue = decode_state(encoded[1:], clock, tables, older)
    return Decoded(state, residue, state)


def first_record(seq: int, first: First, residue: DotSet, clock: DotSet, tables: StoreTables) -> tuple[bytes, Record]:
    """Return the row of a document that has its first revision, and what stands in it under a node clock."""
    beyond = dots_out(residue, tables.actor_number) if residue else None
    row = encode_row([seq, *encode_first(first, tables, beyond)])
    return row, Record(seq, Single(1, first.digest.hex(), first.text), None, row, clock, tables)


def first_of(row: Any, clock: DotSet, tables: StoreTables) -> First | None:
    """Return the first revision of a document, of whose row that is all, and all known to the node clock; else None.

    The row was taken apart by `decode_row`.
    """
    _, *encoded, residue = row
    if residue is not None and not clock >= dots_in(residue, tables):
        return None
    return first_in([*encoded, None], tables)


def _nothing(_: bytes) -> None:
    return None


def read_chain(get: Get, tables: StoreTables, history: bytes, rev: Rev) -> Iterator[Ancestor]:
    """Yield the ancestors of a replaced revision, newest first, each read when it is asked for."""
    generation, digest = rev
    for _ in range(REVS_LIMIT):
        value = get(keys.revision(history, generation, digest))
        if value is None:
            return
        parent, actor, counter, *_ = decode_row(value)
        if parent is None:
            return
        yield Ancestor(parent, _dot(actor, counter, tables))
        generation, digest = generation - 1, parent


def encode_past(
    parent: Ancestor | None,
    tables: StoreTables,
    deleted: bool = False,
    stamp: int = 0,
    dot: Dot | None = None,
    text: bytes | None = None,
    seen: DotSet | None = None,
    sequences: Iterable[Address] = (),
) -> bytes:
    """Write a replaced revision."""
    return encode_row(
        [
            parent.digest if parent is not None else None,
            *_flat(parent.dot if parent is not None else None, tables),
            deleted,
            stamp,
            *_flat(dot, tables),
            text,
            dots_out(seen, tables.actor_number) if seen is not None else None,
            *map(address_out, sequences),
        ]
    )


def decode_past(key: bytes, value: bytes, history: bytes, tables: StoreTables) -> Past:
    """Read a replaced revision."""
    tail = key[len(history) :]
    rev = Rev(int.from_bytes(tail[:8], "big"), tail[8:].decode())
    parent, actor, counter, deleted, stamp, own, own_counter, text, seen, *sequences = decode_row(value)
    return Past(
        rev,
        Ancestor(parent, _dot(actor, counter, tables)) if parent is not None else None,
        deleted,
        stamp,
        _dot(own, own_counter, tables),
        text,
        dots_in(seen, tables) if seen is not None else None,
        tuple(address_in(address) for address in sequences),
    )


def _flat(dot: Dot | None, tables: StoreTables) -> list[Any]:
    return [None, None] if dot is None else [tables.actor_number(dot.actor), dot.counter]


def _dot(actor: int | None, counter: int, tables: StoreTables) -> Dot | None:
    return Dot(tables.actors[actor], counter) if actor is not None else None


def encode_sweep(name: str | None, cursor: bytes) -> bytes:
    """Write a sweep: of what is dead in the collection `name`, or of a dropped one; `cursor` is the id to go on from."""
    return encode_row([name, cursor])


def decode_sweep(value: bytes) -> tuple[str | None, bytes]:
    """Read a sweep."""
    name, cursor = decode_row(value)
    return name, cursor
