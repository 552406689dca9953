"""Garbage of a document state, removed once it is stable. Rules 8 and 9.

What is *stable* is held by every member, and so is all that was written by somebody who hadn't seen it. So nothing can arrive
any more that would need a stable tombstone, or a stable body to which no leaf belongs. Collecting removes dots and nothing
else: the node clock goes on covering them, so an old version that arrives late brings nothing back, and no tombstone for the
tombstone is needed.

It never changes what a document shows: not its winner, its siblings, its live leaves or its fields. And it is confluent:
whoever collects at a later cut reaches the same state, whether he collected at earlier ones or not.

Source: Gonçalves, Almeida, Baquero, Fonte, "DottedDB: Anti-Entropy without Merkle Trees, Deletes without Tombstones" (2017).
"""

from __future__ import annotations

from msgspec.structs import replace

from crdtdb.causality import Dot, DotSet
from crdtdb.crdts import LIFE, Address, Delta, Fields, Journals, Vector, lives
from crdtdb.crdts.counter import unneeded_baselines
from crdtdb.documents.revisions import Ancestry
from crdtdb.documents.state import NOTHING, Body, Leaf, State
from crdtdb.documents.view import DocumentView, view


def collect(state: State, stable: DotSet, told: DotSet) -> State:
    """Return a state without what nobody needs; the same object if there is nothing of that kind.

    `told` is the part of `stable` of which every client that may come back has heard: tombstones beyond it stay.
    """
    if not state.leaves:
        return _nothing(state) if _all_stable(state, stable) else state
    shown = view(state)
    if shown.deleted:
        gone = all(dot in told for dot in state.leaves) and _all_stable(state, stable)
        return _nothing(state) if gone else state
    leaves: dict[Dot, Leaf] = dict(state.leaves)
    if not (_is_lent(shown) or shown.closed):  # then leaves that don't show decide what does
        leaves = _without_tombstones(_without_hidden(state, shown, stable), told)
    bodies = _bodies(state, leaves, stable)
    fields, journals = state.fields, state.journals
    if all(dot in stable for dot in leaves):
        fields = _fields(state.fields, stable)
        journals = _journals(state, stable)
    if (
        len(leaves) == len(state.leaves)
        and len(bodies) == len(state.bodies)
        and fields is state.fields
        and journals is state.journals
    ):
        return state
    return State(leaves, bodies, fields, state.context, journals)


def has_garbage(state: State) -> bool:
    """Whether there is something to be collected as soon as all is stable."""
    if len(state.leaves) == 1 and not state.fields and not state.journals:
        (leaf,) = state.leaves.values()
        if not leaf.deleted and len(state.bodies) == 1 and leaf.body_dot in state.bodies:
            return False
    return bool(state.leaves or state.bodies) and collect(state, state.context, state.context) is not state


def _nothing(state: State) -> State:
    return replace(NOTHING, context=state.context)


def _all_stable(state: State, stable: DotSet) -> bool:
    return all(dot in stable for dot in state.dots()) and all(
        _reaches(stable, journal.vector) for journal in state.journals.values()
    )


def _reaches(stable: DotSet, vector: Vector) -> bool:
    return stable >= DotSet.of(Dot(actor, counter) for actor, counter in vector.items())


def _is_lent(shown: DocumentView) -> bool:
    """Whether no live leaf has its body any more, so that those of deleted leaves serve."""
    return all(one.text is None for one in shown.leaves if not one.leaf.deleted)


def _without_hidden(state: State, shown: DocumentView, stable: DotSet) -> dict[Dot, Leaf]:
    """Leave out the leaves that lie on the path of another one."""
    visible = {one.leaf.rev for one in shown.leaves}
    hiding = (
        (leaf.rev, leaf.path, None) for dot, leaf in state.leaves.items() if leaf.rev in visible and dot in stable
    )
    hidden = Ancestry(hiding)
    return {
        dot: leaf
        for dot, leaf in state.leaves.items()
        if leaf.rev in visible or dot not in stable or leaf.rev not in hidden
    }


def _without_tombstones(leaves: dict[Dot, Leaf], told: DotSet) -> dict[Dot, Leaf]:
    """Leave out the deleted leaves that hide no other: that one would come back to light."""
    going = {dot: leaf for dot, leaf in leaves.items() if leaf.deleted and dot in told}
    if not going:
        return leaves
    paths = Ancestry((leaf.rev, leaf.path, dot) for dot, leaf in going.items())
    hiding = {dot for rev in {leaf.rev for leaf in leaves.values()} for dot in paths.labels(rev)}
    return {dot: leaf for dot, leaf in leaves.items() if dot not in going or dot in hiding}


def _bodies(state: State, leaves: dict[Dot, Leaf], stable: DotSet) -> dict[Dot, Body]:
    """Leave out the bodies to which no leaf belongs, if nobody can be writing on one of these leaves without our knowing."""
    bodies = dict(state.bodies)
    if all(dot in stable for dot in leaves):
        used = {leaf.body_dot for leaf in leaves.values()}
        bodies = {dot: body for dot, body in bodies.items() if dot in used or dot not in stable}
    return bodies


def _fields(fields: Fields, stable: DotSet) -> Fields:
    """Leave out what removals left to be known, where nobody can be going on with what was removed."""
    unneeded = [(address, dot) for address, dot in unneeded_baselines(fields) if dot in stable]
    if not unneeded:
        return fields
    kept: dict[Address, dict[Dot, Delta]] = {address: dict(deltas) for address, deltas in fields.items()}
    for address, dot in unneeded:
        del kept[address][dot]
    return {address: deltas for address, deltas in kept.items() if deltas}


def _journals(state: State, stable: DotSet) -> Journals:
    """Leave out the texts and lists that no field shows any more.

    But for those of the life that the document is in: who makes one there goes on with what this had. An older version that
    removed it began no other life.
    """
    living = _living(state)
    dead = [
        address
        for address, journal in state.journals.items()
        if address not in state.fields and address.part != living and _reaches(stable, journal.vector)
    ]
    return {address: one for address, one in state.journals.items() if address not in dead} if dead else state.journals


def _living(state: State) -> str:
    """Return the part of the texts and lists of the life that a document is in."""
    return lives.current(delta.content for delta in state.fields.get(LIFE, {}).values()).part
