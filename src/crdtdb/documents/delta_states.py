"""Delta states: a document as its difference from what the receiver has.

A receiver with the ancestor of a leaf already has most of the state: the body, the unchanged fields, the names of the
ancestors. So a delta state carries, for each address with *new* deltas, all deltas at that address. The receiver takes the
deltas at all other addresses from its own state, as far as the sender's clock covers them; a sum of hashes verifies them.
The hash identifies a single delta that the sender has removed; after more removals the receiver requests the whole state.

The result is the state that would have been sent whole, so merge is independent of this encoding.

Source: Almeida, Shoker, Baquero, "Delta State Replicated Data Types" (2018), for delta states; Eppstein,
Goodrich, Uyeda, Varghese, "What's the Difference?" (2011), of whose tables of sums this is one cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from crdtdb.causality import Dot, DotSet
from crdtdb.crdts import HEADS, NO_FIELDS, NO_JOURNALS, Address, Creations, Delta, Fields, Journals
from crdtdb.documents.hashing import HASH_MASK, hashed, hashed_journals
from crdtdb.documents.revisions import Ancestor, Path, Rev, child_digest
from crdtdb.documents.state import Body, Leaf, State

Older = Callable[[Rev], Callable[[], Iterable[Ancestor]]]
"""Given a revision, returns what reads its ancestors."""

_STEPS_BACK_MAX = 64
"""How many revisions behind its leaves a receiver searches for an ancestor."""


class Successor(Struct, frozen=True, gc=False):
    """Delta state of a document with one leaf, for a receiver with an ancestor of it."""

    dot: Dot
    base: Dot
    """The newest ancestor that the receiver has."""
    between: Sequence[Ancestor]
    """The ancestors after the base, newest first."""
    digest: str | None
    """The digest of the leaf's rev; None if it follows from the rest."""
    native: bool
    stamp: int
    clock: DotSet
    creations: Creations
    text: bytes | None
    """The leaf's own body; None if the receiver has the body that the leaf shows."""
    fields: Fields
    """All deltas at each address with new ones, except those that `touched` implies."""
    journals: Journals
    """The journals with updates that the receiver lacks."""
    check: int
    """Sum of the hashes of what the receiver must have: the body, the deltas at all other addresses, the other journals."""

    @property
    def alone(self) -> Mapping[Dot, Delta]:
        """The deltas at an address where this write has replaced all others, and is empty."""
        return {self.dot: Delta(b"", self.creations)}

    def touched(self) -> Fields:
        """Return the deltas at each address with new ones.

        At the heads and at each changed text or list that is this write alone, unless `fields` says otherwise.
        """
        if not self.fields and not self.journals:
            return NO_FIELDS
        return {**dict.fromkeys((HEADS, *self.journals), self.alone), **self.fields}


def successor_of(
    name: str, doc_id: str, state: State, steps: Sequence[Ancestor], seen: DotSet, lacked: Journals
) -> Successor | None:
    """Return the delta state for a receiver that has `seen` these dots; None if the document has none.

    `steps` are the newest ancestors of its leaf, newest first; `lacked` its journals with the updates outside `seen`.
    """
    base = next((step.dot for step in steps if step.dot is not None and step.dot in seen), None)
    if base is None or len(state.leaves) != 1 or len(state.bodies) != 1 or not state.fields:
        return None
    ((dot, leaf),) = state.leaves.items()
    ((body_dot, body),) = state.bodies.items()
    own = body_dot == dot
    if dot in seen or leaf.deleted or leaf.body_dot != body_dot:
        return None
    if leaf.body_rev != leaf.rev if own else body_dot not in seen:
        return None
    journals = {address: journal for address, journal in lacked.items() if journal.updates or journal.snapshots}
    if any(journal.snapshots or journal.strands for journal in journals.values()):
        return None
    text = body.text if own else None
    delta_state = Successor(
        dot,
        base,
        steps[: [step.dot for step in steps].index(base)],
        None,
        leaf.native,
        leaf.stamp,
        leaf.clock,
        leaf.creations,
        text,
        _told_fields(state, seen, journals, {dot: Delta(b"", leaf.creations)}),
        journals,
        0,
    )
    touched = delta_state.touched()
    rest = {address: deltas for address, deltas in state.fields.items() if address not in touched}
    kept = {address: journal for address, journal in state.journals.items() if address not in journals}
    follows = _digest_of(delta_state, Rev(leaf.rev.generation - 1, steps[0].digest), touched) == leaf.rev.digest
    return replace(
        delta_state,
        digest=None if follows else leaf.rev.digest,
        check=_sum(
            [
                *(one.hash for one in hashed(name, doc_id, _rest(None if own else (body_dot, body), rest))),
                *hashed_journals(name, doc_id, kept),
            ]
        ),
    )


def succeed(delta_state: Successor, name: str, doc_id: str, mine: State, seen: DotSet, older: Older) -> State | None:
    """Return the state that a delta state encodes, with the context `seen`; None if it doesn't follow from `mine`.

    `mine` is the state of the receiver; `older` reads the ancestors of a revision.
    """
    base = _rev_of(delta_state.base, mine)
    held = _body_of(mine, seen) if delta_state.text is None else None
    if base is None or (delta_state.text is None and held is None):
        return None
    touched = delta_state.touched()
    rest = {
        address: known
        for address, deltas in mine.fields.items()
        if address not in touched and (known := {dot: delta for dot, delta in deltas.items() if dot in seen})
    }
    things = list(hashed(name, doc_id, _rest(held[:2] if held is not None else None, rest)))
    kept = {address: journal for address, journal in mine.journals.items() if address not in delta_state.journals}
    sums = [*(thing.hash for thing in things), *hashed_journals(name, doc_id, kept)]
    surplus = (_sum(sums) - delta_state.check) & HASH_MASK
    if surplus:
        removed = next((thing for thing in things if thing.hash == surplus and thing.address is not None), None)
        if removed is None or removed.address is None:
            return None
        rest[removed.address].pop(removed.dot)
    fields = {address: deltas for address, deltas in {**rest, **touched}.items() if deltas}
    steps = [*delta_state.between, Ancestor(base.digest, delta_state.base)]
    digest = delta_state.digest or _digest_of(
        delta_state, Rev(base.generation + len(delta_state.between), steps[0].digest), touched
    )
    rev = Rev(base.generation + len(steps), digest)
    body_dot, body, body_rev = (
        held if held is not None else (delta_state.dot, Body(delta_state.text or b"", delta_state.creations), rev)
    )
    leaf = Leaf(
        rev,
        Path(steps, older(base) if base.generation > 1 else None),
        delta_state.clock,
        False,
        body_dot,
        body_rev,
        delta_state.stamp,
        delta_state.creations,
        delta_state.native,
    )
    return State({delta_state.dot: leaf}, {body_dot: body}, fields, seen, {**mine.journals, **delta_state.journals})


def _told_fields(state: State, seen: DotSet, journals: Journals, alone: Mapping[Dot, Delta]) -> Fields:
    """Return the deltas at the addresses with new ones, where a receiver can't infer them."""
    news = {address for address, deltas in state.fields.items() if any(dot not in seen for dot in deltas)}
    if not news and not journals:
        return NO_FIELDS
    guessed = {HEADS, *journals}
    fields: dict[Address, Mapping[Dot, Delta]] = {}
    for address in sorted(news | guessed):
        deltas = state.fields.get(address, {})
        if deltas != alone or address not in guessed:
            fields[address] = deltas
    return fields if fields or journals else {HEADS: state.fields[HEADS]}


def _rest(body: tuple[Dot, Body] | None, fields: Fields) -> State:
    """Return what the receiver must have, as a state."""
    return State({}, dict([body]) if body is not None else {}, fields, DotSet(), NO_JOURNALS)


def _sum(hashes: Iterable[int]) -> int:
    return sum(hashes) & HASH_MASK


def _digest_of(delta_state: Successor, parent: Rev, touched: Fields) -> str:
    """Return the digest of the leaf if its author saw the parent alone."""
    deltas = [
        (address, dot, delta.content)
        for address, held in touched.items()
        for dot, delta in held.items()
        if dot == delta_state.dot
    ]
    deltas += [
        (address, dot, update.content)
        for address, journal in delta_state.journals.items()
        for dot, update in journal.updates.items()
        if dot == delta_state.dot
    ]
    return child_digest(parent, deleted=False, body=delta_state.text, deltas=deltas)


def _rev_of(dot: Dot, state: State) -> Rev | None:
    """Return the revision that a write made, if it is a leaf or not far behind one."""
    if dot in state.leaves:
        return state.leaves[dot].rev
    for leaf in state.leaves.values():
        for back in range(_STEPS_BACK_MAX):
            step = leaf.path.step(back)
            if step is None:
                break
            if step.dot == dot:
                return Rev(leaf.rev.generation - 1 - back, step.digest)
    return None


def _body_of(state: State, seen: DotSet) -> tuple[Dot, Body, Rev] | None:
    """Return the only body among these dots, and the revision that set it; None if there isn't exactly one."""
    bodies = [dot for dot in state.bodies if dot in seen]
    if len(bodies) != 1:
        return None
    (dot,) = bodies
    revs = [leaf.body_rev for leaf in state.leaves.values() if leaf.body_dot == dot]
    return (dot, state.bodies[dot], revs[0]) if revs else None
