"""Parcel: documents sent between stores, with the causal context to merge.

    parcel    = [actors, sets, names, clock, catalogue, documents]
    actors    = [16 bytes, ...]                                 an actor's number is its place here
    sets      = [[actor, counter, actor, counter, ...], ...]    sets of creations, numbered the same way
    names     = [text, ...]                                     of collections
    clock     = [[actor, first, last, ...], ...]                the sender's node clock, or the part that matters here
    catalogue = null | [[[name, set], ...], [[actor, counter], ...], residue, [[name, sweep], ...]]
    documents = [[name, id, state as bytes] or [name, id, state as bytes, closed], ...]     or a successor for the state
    closed    = [[generation, digest, digest of its parent or null], ...]  known, and on no leaf's path: collected branches

Each state is encoded on its own, so that a page can be measured while it is filled and a document read when its turn
comes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

from crdtdb.canonical_json import load
from crdtdb.causality import EMPTY, Actor, Dot, DotSet
from crdtdb.crdts import Creations, Journals
from crdtdb.documents import Ancestor, Leaf, Rev, State
from crdtdb.documents.attachments import KEY, contents_in, may_have_attachments
from crdtdb.documents.catalogue import Catalogue
from crdtdb.documents.delta_states import Successor, succeed
from crdtdb.documents.fields import check_received
from crdtdb.errors import CrdtdbError, EncodingError, InvalidDocumentError
from crdtdb.limits import COLLECTION_NAME_BYTES_MAX, DOCUMENT_ID_BYTES_MAX, REVS_LIMIT
from crdtdb.wire.cbor import decode, encode
from crdtdb.wire.delta_states import decode_successor, encode_successor, is_successor
from crdtdb.wire.elements import (
    Encoded,
    actor_in,
    check_clock,
    counter_in,
    digest_in,
    digest_out,
    dots_in,
    dots_out,
    rev_in,
)
from crdtdb.wire.states import First, Older, begins_with_first, decode_state, encode_first, encode_state, first_in

_COLLECTION_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*|system\.[a-z]{1,32}")
_OWN_ID = re.compile(r"_schema|_(?:design|local)/.+", re.DOTALL)

Steps = Callable[[Leaf], tuple[Sequence[Ancestor], bool]]


class NotFollowingError(CrdtdbError):
    """A delta state builds on a state that isn't here. Request the whole document."""


class Closed(NamedTuple):
    """Revision of a collected branch, and the digest of its parent if that is known."""

    rev: Rev
    parent: str | None


class FrameTables:
    """Tables of one parcel: numbers of actors and sets of creations."""

    def __init__(
        self, actors: Sequence[Actor] = (), sets: Sequence[Creations] = (), *, knows_strands: bool = True
    ) -> None:
        """Begin with what a parcel brought, or empty."""
        self.knows_strands = knows_strands
        self.actors, self.sets = list(actors), list(sets)
        self._actor_numbers = {actor: number for number, actor in enumerate(self.actors)}
        self._set_numbers = {creations: number for number, creations in enumerate(self.sets)}

    def actor_number(self, actor: Actor) -> int:
        """Return the number of an actor, giving it one if need be."""
        number = self._actor_numbers.get(actor)
        if number is None:
            number = self._actor_numbers[actor] = len(self.actors)
            self.actors.append(actor)
        return number

    def creations_number(self, creations: Creations) -> int:
        """Return the number of a set of creations, giving it one if need be."""
        number = self._set_numbers.get(creations)
        if number is None:
            number = self._set_numbers[creations] = len(self.sets)
            self.sets.append(creations)
        return number

    def actor(self, number: int) -> Actor:
        """Return the actor of a number. Raises LookupError."""
        return self.actors[_index(number)]

    def creations(self, number: int) -> Creations:
        """Return the creations of a number. Raises LookupError."""
        return self.sets[_index(number)]


class ParcelWriter:
    """Fills a parcel."""

    def __init__(self, knows_strands: bool = True) -> None:
        """`knows_strands` says whether the reader knows those of journals: protocol 1.4."""
        self._tables = FrameTables(knows_strands=knows_strands)
        self._names: dict[str, int] = {}
        self._documents: list[Any] = []
        self._catalogue: Any = None
        self.size = 0
        """Bytes of the documents so far."""

    def __len__(self) -> int:
        return len(self._documents)

    def add(
        self, name: str, doc_id: str, state: State, residue: DotSet, steps: Steps, closed: Sequence[Closed] = ()
    ) -> None:
        """Add a document, with its `closed` revisions for receivers without the document."""
        self._add(name, doc_id, encode_state(state, residue, self._tables, steps), closed)

    def add_first(self, name: str, doc_id: str, first: First, closed: Sequence[Closed] = ()) -> None:
        """Add a document that has only its first revision."""
        self._add(name, doc_id, encode_first(first, self._tables), closed)

    def add_successor(self, name: str, doc_id: str, delta_state: Successor, known: Journals) -> None:
        """Add a document as a delta state. `known` are all of its journals."""
        self._add(name, doc_id, encode_successor(delta_state, known, self._tables), ())

    def _add(self, name: str, doc_id: str, state: Encoded, closed: Sequence[Closed]) -> None:
        encoded = encode(state)
        item: list[Any] = [self._names.setdefault(name, len(self._names)), doc_id, encoded]
        if closed:
            item.append([_closed_out(one) for one in closed])
        self._documents.append(item)
        self.size += len(encoded) + len(doc_id) + 8 + 40 * len(closed)

    def add_catalogue(self, catalogue: Catalogue, residue: DotSet, sweeps: Mapping[str, int]) -> None:
        """Put the collections in, with how far documents were collected whole in each.

        The parcel's clock must then be the whole node clock.
        """
        number, sets = self._tables.actor_number, self._tables.creations_number
        self._catalogue = [
            [[name, sets(creations)] for name, creations in sorted(catalogue.names.items())],
            [[number(dot.actor), dot.counter] for dot in sorted(catalogue.marks)],
            dots_out(residue, number),
            [[name, sweep] for name, sweep in sorted(sweeps.items()) if sweep],
        ]

    def finish(self, clock: DotSet) -> list[Any]:
        """Return the parcel as plain arrays."""
        tables = self._tables
        encoded_clock = dots_out(clock, tables.actor_number)
        sets = [
            [part for dot in sorted(creations) for part in (tables.actor_number(dot.actor), dot.counter)]
            for creations in tables.sets
        ]
        return [tables.actors, sets, list(self._names), encoded_clock, self._catalogue, self._documents]


class Shipped(NamedTuple):
    """One document of a parcel, not yet read."""

    name: str
    doc_id: str
    encoded: bytes
    closed: tuple[Closed, ...] = ()


class DeltaBatch:
    """A parcel that arrived."""

    def __init__(self, encoded: Any) -> None:
        """Read all but the states. Raises EncodingError."""
        try:
            actors, sets, names, clock, catalogue, documents = encoded
            self._tables = FrameTables([actor_in(actor) for actor in actors])
            self._tables = FrameTables(self._tables.actors, [self._set_in(one) for one in sets])
            check_clock(clock)
            self.clock = dots_in(clock, self._tables)
            self.names = [name_in(name) for name in names]
            self.catalogue = self._catalogue_in(catalogue) if catalogue is not None else None
            self.documents = [
                Shipped(self.names[_index(name)], id_in(doc_id), _bytes_in(state), *map(_closed_in, closed))
                for name, doc_id, state, *closed in documents
            ]
        except EncodingError:
            raise
        except (TypeError, ValueError, LookupError) as error:
            raise EncodingError(f"not a parcel of documents: {error}") from error

    def slices(self, updates_max: int) -> Iterator[DeltaBatch]:
        """Yield the parcel in parts, to merge in order: at least one, the catalogue with the first.

        Each has `updates_max` documents at most that have more than their first revision, and any number of others.
        """
        rest = copy(self)
        first = updates = 0
        for number, shipped in enumerate(self.documents):
            updates += not begins_with_first(shipped.encoded)
            if updates > updates_max:
                part = copy(rest)
                part.documents = self.documents[first:number]
                yield part
                rest.catalogue, first, updates = None, number, 1
        rest.documents = self.documents[first:]
        yield rest

    def first(self, shipped: Shipped) -> First | Encoded:
        """Return a document that has only its first revision; of any other the decoded array, for `read`.

        Raises EncodingError.
        """
        encoded: Encoded = decode(shipped.encoded)
        first = first_in(encoded, self._tables) if not shipped.closed else None
        if first is None:
            return encoded
        check_text(first.text)
        return first

    def state(self, shipped: Shipped, older: Older, mine: State | None = None) -> tuple[State, DotSet]:
        """Decode a document and return its state, as `read` does."""
        return self.read(shipped, decode(shipped.encoded), older, mine)

    def read(self, shipped: Shipped, encoded: Encoded, older: Older, mine: State | None = None) -> tuple[State, DotSet]:
        """Return the state of a document under the parcel's whole clock, and the part of the clock with its actors.

        `encoded` is its decoded array; `mine` the receiver's state, None if whole states were requested. Replaced writes are
        named by their replacements, so the part is enough to store. Collected writes aren't named: only the whole clock covers
        them. Raises EncodingError or TooLargeError; NotFollowingError if a delta state doesn't build on `mine`.
        """
        if is_successor(encoded):
            if mine is None:
                raise EncodingError(
                    f"document {shipped.doc_id!r} came as a delta state where a whole one was requested"
                )
            delta_state = decode_successor(encoded, self._tables, mine.journals)
            found = (
                succeed(delta_state, shipped.name, shipped.doc_id, mine, self.clock, older)
                if delta_state is not None
                else None
            )
            if found is None:
                raise NotFollowingError(
                    f"the delta state of document {shipped.doc_id!r} builds on a state that isn't here"
                )
            state, residue = found, EMPTY
        else:
            state, residue = decode_state(encoded, self.clock, self._tables, older)
        check_received(state.fields, state.journals)
        known = mine.bodies if mine is not None else {}
        for dot, body in state.bodies.items():
            if dot not in known:
                check_text(body.text)
        return state, self.clock.restrict(state.actors()) | residue

    def _set_in(self, encoded: Any) -> Creations:
        if len(encoded) % 2:
            raise EncodingError("a set of creations is pairs of actor and counter")
        return frozenset(
            self._dot_in(actor, counter) for actor, counter in zip(encoded[::2], encoded[1::2], strict=True)
        )

    def _dot_in(self, actor: Any, counter: Any) -> Dot:
        return Dot(self._tables.actor(actor), counter_in(counter, 1))

    def _catalogue_in(self, encoded: Any) -> tuple[Mapping[str, Creations], frozenset[Dot], DotSet, Mapping[str, int]]:
        names, marks, residue, *later = encoded
        sweeps = later[0] if later else []
        if any(type(sweep) is not int or not 0 <= sweep < 1 << 63 for _, sweep in sweeps):
            raise EncodingError("a sweep is a stamp")
        return (
            {name_in(name): self._tables.creations(creations) for name, creations in names},
            frozenset(self._dot_in(actor, counter) for actor, counter in marks),
            dots_in(residue, self._tables),
            {name_in(name): sweep for name, sweep in sweeps},
        )


def check_text(text: bytes) -> None:
    """Raise EncodingError unless this is the text of a body as a node writes it."""
    try:
        body = load(text)
        list(contents_in(text))
    except (InvalidDocumentError, ValueError) as error:
        raise EncodingError(f"not the body of a document: {error}") from error
    if type(body) is not dict:
        raise EncodingError(f"the body of a document is an object, not {type(body).__name__}")
    if KEY in body and not may_have_attachments(text):
        raise EncodingError("the attachments of a body are an object, written without spaces")


def largest_in(parcel: list[Any]) -> str:
    """Return the name of the largest document of an outgoing parcel, for log lines."""
    _, _, names, *_, documents = parcel
    if not documents:
        return "the catalogue of collections"
    name, doc_id, *_ = max(documents, key=lambda document: len(document[2]))
    return f"document {names[name]}/{doc_id}"


def _closed_out(closed: Closed) -> list[Any]:
    parent = digest_out(closed.parent) if closed.parent is not None else None
    return [closed.rev.generation, digest_out(closed.rev.digest), parent]


def _closed_in(encoded: Any) -> tuple[Closed, ...]:
    if type(encoded) is not list or len(encoded) > REVS_LIMIT:
        raise EncodingError(f"closed revisions are an array, of at most {REVS_LIMIT}")
    return tuple(
        Closed(rev_in(generation, digest), digest_in(parent) if parent is not None else None)
        for generation, digest, parent in encoded
    )


def name_in(value: Any) -> str:
    """Read a collection's name, one that a user can give or that a version of crdtdb may have. Raises EncodingError."""
    name = _text_in(value, COLLECTION_NAME_BYTES_MAX, "a collection's name")
    if not _COLLECTION_NAME.fullmatch(name):
        raise EncodingError(f"{name[:80]!r} can't be the name of a collection")
    return name


def id_in(value: Any) -> str:
    """Read a document's id. Raises EncodingError."""
    doc_id = _text_in(value, DOCUMENT_ID_BYTES_MAX, "a document's id")
    if doc_id[0] == "_" and not _OWN_ID.fullmatch(doc_id):
        raise EncodingError(f"{doc_id[:80]!r} can't be the id of a document")
    return doc_id


def _text_in(value: Any, bytes_max: int, what: str) -> str:
    if type(value) is not str or not 1 <= len(value.encode()) <= bytes_max:
        raise EncodingError(f"{what} is a text of 1 to {bytes_max} bytes")
    return value


def _bytes_in(value: Any) -> bytes:
    if type(value) is not bytes:
        raise EncodingError("the state of a document comes as bytes")
    return value


def _index(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise EncodingError("a number into a table is 0 or more")
    return number
