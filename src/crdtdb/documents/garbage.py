"""Garbage of a document state, removed once it is stable. Rules 8 and 9.

Every member has the *stable* writes, and all writes concurrent to them. So no later message can depend on a stable tombstone,
or on a stable body without a leaf. Collection removes only dots: the node clock still covers them, so a late old version
restores nothing, and the tombstone needs no tombstone of its own.

Collection never changes the view of a document: its winner, siblings, live leaves and fields stay. It is confluent: the state
after a later cut is the same with or without collections at earlier cuts.

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
    """Return a state without its garbage; the same object if it has none.

    `told` is the part of `stable` that every client which may return has read: tombstones beyond it stay.
    """
    if not state.leaves:
        return _nothing(state) if _all_stable(state, stable) else state
    shown = view(state)
    if shown.deleted:
        gone = all(dot in told for dot in state.leaves) and _all_stable(state, stable)
        return _nothing(state) if gone else state
    leaves: dict[Dot, Leaf] = dict(state.leaves)
    if not (_is_lent(shown) or shown.closed):  # otherwise hidden leaves decide what the view shows
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
    """Whether the state has garbage once all its dots are stable."""
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
    """Whether every live leaf has lost its body, so that deleted leaves lend theirs."""
    return all(visible.text is None for visible in shown.leaves if not visible.leaf.deleted)


def _without_hidden(state: State, shown: DocumentView, stable: DotSet) -> dict[Dot, Leaf]:
    """Remove the leaves on the path of another leaf."""
    visible = {visible.leaf.rev for visible in shown.leaves}
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
    """Remove the deleted leaves that hide no other leaf: that leaf would reappear."""
    going = {dot: leaf for dot, leaf in leaves.items() if leaf.deleted and dot in told}
    if not going:
        return leaves
    paths = Ancestry((leaf.rev, leaf.path, dot) for dot, leaf in going.items())
    hiding = {dot for rev in {leaf.rev for leaf in leaves.values()} for dot in paths.labels(rev)}
    return {dot: leaf for dot, leaf in leaves.items() if dot not in going or dot in hiding}


def _bodies(state: State, leaves: dict[Dot, Leaf], stable: DotSet) -> dict[Dot, Body]:
    """Remove the bodies without a leaf, if no unknown concurrent write on these leaves is possible."""
    bodies = dict(state.bodies)
    if all(dot in stable for dot in leaves):
        used = {leaf.body_dot for leaf in leaves.values()}
        bodies = {dot: body for dot, body in bodies.items() if dot in used or dot not in stable}
    return bodies


def _fields(fields: Fields, stable: DotSet) -> Fields:
    """Remove the remnants of removals, where no unknown concurrent write can continue the removed field."""
    unneeded = [(address, dot) for address, dot in unneeded_baselines(fields) if dot in stable]
    if not unneeded:
        return fields
    kept: dict[Address, dict[Dot, Delta]] = {address: dict(deltas) for address, deltas in fields.items()}
    for address, dot in unneeded:
        del kept[address][dot]
    return {address: deltas for address, deltas in kept.items() if deltas}


def _journals(state: State, stable: DotSet) -> Journals:
    """Remove the texts and lists that no field shows any more.

    Those of the document's current life stay: a text that is created there again continues the old one. A removal by an older
    version of crdtdb began no new life.
    """
    living = _living(state)
    dead = [
        address
        for address, journal in state.journals.items()
        if address not in state.fields and address.part != living and _reaches(stable, journal.vector)
    ]
    return {address: one for address, one in state.journals.items() if address not in dead} if dead else state.journals


def _living(state: State) -> str:
    """Return the part name of texts and lists in the document's current life."""
    return lives.current(delta.content for delta in state.fields.get(LIFE, {}).values()).part
