"""Collection creations that a write carries, so a drop takes all or nothing.

A write lives while one of its creations does. What it keeps of a document (a body, the fields) was written under creations
of its own, and must not die before it:

    keeps no fields           every creation that its store knows, and a copy of the body, if it keeps that
    keeps fields, all equal   those of the document: an edit lives and dies with what it was made on
    keeps parts that differ   every creation that its store knows, and a copy of the body

So the body of a living leaf lives, and what a dead write had removed is dead too, whichever store learns of the drop first.
Parts differ where one id was made under two creations before they met. Of such a document a drop takes what was added to
its fields under the creations that it had seen: these were two documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from crdtdb.causality import Dot
from crdtdb.crdts import Creations
from crdtdb.documents.state import Body, State


def shared(state: State, known: Creations) -> Creations | None:
    """Return the creations, of those that are known, that all parts of a document carry; None if they differ.

    A document without parts carries every creation that is known.
    """
    found = known
    for number, creations in enumerate(_parts(state)):
        living = creations if creations is known else creations & known
        if number and living != found:
            return None
        found = living
    return found


def body_again(
    bodies: Mapping[Dot, Body], dot: Dot, creations: Creations, mint: Callable[[], Dot]
) -> tuple[Mapping[Dot, Body], Dot]:
    """Return bodies with one that lives as long as these creations, and its dot: that of a copy, if the body doesn't."""
    body = bodies.get(dot)
    if body is None or body.creations >= creations:
        return bodies, dot
    copy = mint()
    return {**bodies, copy: Body(body.text, creations)}, copy


def _parts(state: State) -> Iterator[Creations]:
    for leaf in state.leaves.values():
        yield leaf.creations
    for body in state.bodies.values():
        yield body.creations
    for deltas in state.fields.values():
        for delta in deltas.values():
            yield delta.creations
    for address, journal in state.journals.items():
        if address in state.fields:
            yield from journal.parts()
