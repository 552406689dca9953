"""Encoding of delta states: see `crdtdb.documents.delta_states`.

    successor = [actor, counter, base, digest, stamp, kind, text, clock, creations, check, fields, journals]
    base      = [actor, counter, [digest, actor, counter], ...]     and then the ancestors after it, newest first
    field     = [address or 8 bytes, null | [[actor, counter, creations, content], ...]]
    journal   = [address or 8 bytes, vector, creations, [[actor, counter, after, update], ...]]

Eight bytes are the name of a text or list: its address is that of the one journal that the receiver has under it. A null
digest follows from the rest, a null clock is one range that ends at the leaf's own dot, a null text is that which the receiver
has. Null instead of the deltas of a field is the leaf's own dot with nothing in it. A vector omits the actors whose counters
follow from the updates, and is null if it omits all; the creations of a journal are null if they are the leaf's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crdtdb.causality import Dot, DotSet
from crdtdb.crdts import Address, Creations, Delta, Journal, Journals, Update, Vector
from crdtdb.documents import Ancestor
from crdtdb.documents.delta_states import Successor
from crdtdb.errors import EncodingError
from crdtdb.limits import REVS_LIMIT
from crdtdb.wire.elements import (
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
    name_out,
    vector_in,
    vector_out,
)

_ITEMS = 12
_NATIVE = 2
_STAMP_MAX = _CHECK_MAX = 2**64 - 1


def is_successor(encoded: Any) -> bool:
    """Whether a document is encoded as a delta state, not as a whole state."""
    return type(encoded) is list and len(encoded) == _ITEMS


def encode_successor(successor: Successor, known: Journals, tables: Tables) -> Encoded:
    """Return a delta state as plain arrays. `known` are all journals of the document: a name is sent only if it is unique."""
    number, alone = tables.actor_number, successor.alone
    names = [address.part for address in known]
    return [
        *dot_out(successor.dot, number),
        [
            *dot_out(successor.base, number),
            *([digest_out(step[0]), *dot_out(step[1], number)] for step in successor.between),
        ],
        digest_out(successor.digest) if successor.digest is not None else None,
        successor.stamp,
        _NATIVE if successor.native else 0,
        successor.text,
        None if successor.clock.is_up_to(successor.dot) else dots_out(successor.clock, number),
        tables.creations_number(successor.creations),
        successor.check,
        [
            [address_out(address), None if deltas == alone else _deltas_out(deltas, tables)]
            for address, deltas in successor.fields.items()
        ],
        [
            [
                _place_out(address, journal, names),
                vector_out(ahead, number) if (ahead := _beyond(journal)) else None,
                None if journal.creations == successor.creations else tables.creations_number(journal.creations),
                [[*dot_out(dot, number), one.after, one.content] for dot, one in sorted(journal.updates.items())],
            ]
            for address, journal in successor.journals.items()
        ],
    ]


def decode_successor(encoded: Any, tables: Tables, known: Journals) -> Successor | None:
    """Read a delta state. `known` are the receiver's journals; None if a journal that it names isn't among them.

    Raises EncodingError if it is malformed.
    """
    try:
        number, counter, base, digest, stamp, kind, text, clock, creations, check, fields, journals = encoded
        dot, begun = dot_in((number, counter), tables), tables.creations(creations)
        if (
            type(stamp) is not int
            or not 0 <= stamp <= _STAMP_MAX
            or type(check) is not int
            or not 0 <= check <= _CHECK_MAX
        ):
            raise EncodingError("a stamp and a check are numbers of 64 bits")
        if kind not in (0, _NATIVE) or type(kind) is not int or len(base) > REVS_LIMIT:
            raise EncodingError(f"a delta state has a kind, 0 or 2, and at most {REVS_LIMIT} ancestors")
        alone = {dot: Delta(b"", begun)}
        found = {_named(journal[0], known): _journal_in(journal, begun, tables) for journal in journals}
        if None in found:
            return None
        return Successor(
            dot,
            dot_in(base[:2], tables),
            [Ancestor(digest_in(step[0]), None if step[1] is None else dot_in(step[1:], tables)) for step in base[2:]],
            digest_in(digest) if digest is not None else None,
            kind == _NATIVE,
            stamp,
            DotSet({dot.actor: ((1, dot.counter),)}) if clock is None else dots_in(clock, tables),
            begun,
            bytes_in(text) if text is not None else None,
            {
                address_in(address): alone if deltas is None else _deltas_in(deltas, tables)
                for address, deltas in fields
            },
            {address: journal for address, journal in found.items() if address is not None},
            check,
        )
    except EncodingError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise EncodingError(f"not the delta state of a document: {error}") from error


def _deltas_out(deltas: Mapping[Dot, Delta], tables: Tables) -> Encoded:
    return [
        [*dot_out(dot, tables.actor_number), tables.creations_number(one.creations), one.content]
        for dot, one in deltas.items()
    ]


def _deltas_in(encoded: Any, tables: Tables) -> dict[Dot, Delta]:
    return {dot_in(one, tables): Delta(bytes_in(one[3]), tables.creations(one[2])) for one in encoded}


def _place_out(address: Address, journal: Journal, names: list[str]) -> Encoded | bytes:
    """Write the address of a journal: its name alone, if the receiver has exactly one journal of that name."""
    name = name_out(address.part)
    return (
        name if type(name) is bytes and _is_begun(journal) and names.count(address.part) == 1 else address_out(address)
    )


def _is_begun(journal: Journal) -> bool:
    """Whether the journal had updates before those that it carries."""
    writers = {dot.actor for dot in journal.updates}
    return any(update.after for update in journal.updates.values()) or any(
        actor not in writers for actor in journal.vector
    )


def _beyond(journal: Journal) -> Vector:
    """Return the part of a journal's vector that doesn't follow from its updates."""
    highest = journal.highest()
    return {actor: counter for actor, counter in journal.vector.items() if highest.get(actor) != counter}


def _named(encoded: Any, known: Journals) -> Address | None:
    if type(encoded) is not bytes:
        return address_in(encoded)
    named = [address for address in known if address.part == encoded.hex()]
    return named[0] if len(named) == 1 else None


def _journal_in(encoded: Any, creations: Creations, tables: Tables) -> Journal:
    _, vector, begun, updates = encoded
    received = {dot_in(update, tables): Update(counter_in(update[2], 0), bytes_in(update[3])) for update in updates}
    journal = Journal({}, creations if begun is None else tables.creations(begun), received)
    beyond = vector_in(vector, tables) if vector is not None else {}
    return journal._replace(vector={**journal.highest(), **beyond})
