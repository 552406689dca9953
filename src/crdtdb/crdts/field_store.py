"""Dot store of a document's fields, and the merge of two replicas' stores.

    fields    address -> dot -> Delta     dot stores, under the document's causal context
    journals  address -> Journal          the updates of texts and lists, which carry causality of their own

    address = (path, kind, part)

`path` leads through objects to the field, `kind` is the name of its type, `part` tells apart what one field holds: the
elements of a set, the texts of several lives. The empty part of the empty path, of kind "map", is the
document itself: its *heads* are the dots of the edits of fields that no later edit had seen. So a store that knows the heads
knows whether a state has an edit that another hasn't. At kind "life" of the empty path stands which of its *lives* the
document is in (`crdtdb.crdts.lives`).

A dot may stand under many addresses: one write, many places. That is a map of dot stores, laid flat.

Source: Almeida, Shoker, Baquero, "Delta State Replicated Data Types" (2018), section 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from crdtdb.causality import Dot, DotSet
from crdtdb.crdts.journal import Creations, Journal, join_journals
from crdtdb.errors import DotCollisionError

Place = tuple[str, ...]
"""The path of a field: the keys of the objects that lead to it, from the outside in."""


class Address(NamedTuple):
    """Address of deltas: kind, part and path of a field."""

    path: Place
    kind: str
    part: str = ""


class Delta(NamedTuple):
    """Content that one write added at one address, in the encoding of the field's type."""

    content: bytes
    creations: Creations


Fields = Mapping[Address, Mapping[Dot, Delta]]
Journals = Mapping[Address, Journal]

HEADS = Address((), "map")
LIFE = Address((), "life")
NO_FIELDS: Fields = MappingProxyType({})
NO_JOURNALS: Journals = MappingProxyType({})


def join_fields(mine: Fields, seen_here: DotSet, theirs: Fields, seen_there: DotSet) -> Fields:
    """Return the join of two dot stores: a dot stays if both have it, or one has it and the other never saw it.

    Raises DotCollisionError if one dot names two contents.
    """
    if not mine and not theirs:
        return mine
    joined = {}
    for address in {**mine, **theirs}:  # in an order that doesn't follow from hashes: it is that on the wire
        kept = _join(address, mine.get(address, {}), seen_here, theirs.get(address, {}), seen_there)
        if kept:
            joined[address] = kept
    return joined


def _join(
    address: Address, mine: Mapping[Dot, Delta], seen_here: DotSet, theirs: Mapping[Dot, Delta], seen_there: DotSet
) -> dict[Dot, Delta]:
    kept = {}
    for dot, delta in mine.items():
        other = theirs.get(dot)
        if other is not None and other.content != delta.content:
            raise DotCollisionError(f"dot {dot!r} names two contents of the field {'.'.join(address.path)!r}")
        if other is not None or dot not in seen_there:
            kept[dot] = delta
    for dot, delta in theirs.items():
        if dot not in mine and dot not in seen_here:
            kept[dot] = delta
    return kept


def merge_journals(mine: Journals, theirs: Journals) -> Journals:
    """Return the journals of both. Raises GapError if updates of one don't connect with the other."""
    if not theirs:
        return mine
    return {
        **mine,
        **{
            address: join_journals(mine[address], journal) if address in mine else journal.checked()
            for address, journal in theirs.items()
        },
    }


def heads(fields: Fields) -> Mapping[Dot, Delta]:
    """Return the dots of the edits of fields that no later edit had seen."""
    return fields.get(HEADS, {})
