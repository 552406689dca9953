"""The writes: each takes a state and returns the state after it.

| write | leaves | bodies | fields |
|---|---|---|---|
| `put` on leaf L | replaces L's group by a child of L with its own body | removes the group's, adds its own | – |
| `edit` of fields on L | replaces L's group by a child of L with L's body | untouched | deltas |
| `delete` of L | replaces L's group by a deleted child | untouched | untouched |
| `resolve` | replaces all live leaves by a child of the winner | removes all it saw, adds its own | – |
| `put` on a deleted document | replaces the winning deleted leaf by its child | replaces all | removes what it saw |

L's *group* is what the view had merged into L. Under every other rev that a write replaces, the same commit puts a
deleted leaf whose rev follows from its parent alone: clients that know only revision trees learn that the branch is
closed, and two nodes that do the same write the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from crdtdb.causality import EMPTY, Actor, Dot, DotSet
from crdtdb.documents.revisions import NO_PATH, Rev, child_digest
from crdtdb.documents.state import Body, Creations, Delta, Leaf, State
from crdtdb.documents.view import Shown, View, replaced_by, view
from crdtdb.errors import ConflictError, NotFoundError


class Write:
    """What one write is signed with: who, when, and in which collection. Mints its dots."""

    __slots__ = ("actor", "counter", "creations", "doc_id", "stamp", "sweep")

    def __init__(
        self, doc_id: str, actor: Actor, counter: int, stamp: int, creations: Creations, sweep: int = 0
    ) -> None:
        """Sign for `actor`, whose last dot so far has this `counter`."""
        self.doc_id, self.actor, self.counter = doc_id, actor, counter
        self.stamp, self.creations, self.sweep = stamp, creations, sweep

    def mint(self) -> Dot:
        """Return the next dot of the actor."""
        self.counter += 1
        return Dot(self.actor, self.counter)


def put(state: State, write: Write, rev: Rev | None, text: bytes) -> State:
    """Replace leaf `rev` by a child with this body, or make the document if it is new or deleted.

    Raises ConflictError if `rev` isn't a leaf, or is missing while there is a live one.
    """
    if not state.leaves:
        if rev is not None:
            raise ConflictError(write.doc_id, str(rev), ())
        return _first(state, write, text)
    shown = view(state)
    target = _named(shown, write, rev)
    if target.leaf.deleted:
        replaced = _twins(state, target)
        bodies: Mapping[Dot, Body] = {}
        fields = state.fields if not shown.deleted else {}
        if not shown.deleted:
            # Putting on one deleted branch of a living document opens that branch again and nothing else.
            bodies = state.bodies
    else:
        replaced = _group(state, target)
        gone = {leaf.body_dot for leaf in replaced.values() if not leaf.deleted}
        bodies = {dot: body for dot, body in state.bodies.items() if dot not in gone}
        fields = state.fields
    return _replace(State(state.leaves, bodies, fields, state.context), write, target, replaced, text=text)


def delete(state: State, write: Write, rev: Rev | None) -> State:
    """Replace leaf `rev` by a deleted child. The body is kept while anybody might need it.

    Raises NotFoundError if there is no live leaf, ConflictError if `rev` isn't one of them.
    """
    shown = view(state)
    if shown.deleted:
        raise NotFoundError(
            f"document {write.doc_id!r} is {'deleted' if state.leaves else 'missing'}", deleted=bool(state.leaves)
        )
    target = _named(shown, write, rev)
    if target.leaf.deleted:
        raise ConflictError(write.doc_id, str(rev), tuple(str(one.rev) for one in shown.siblings))
    return _replace(state, write, target, _group(state, target), deleted=True)


def resolve(state: State, write: Write, text: bytes) -> State:
    """Replace all live leaves by one child of the winner with this body.

    Raises NotFoundError if there is no live leaf.
    """
    shown = view(state)
    if shown.deleted:
        raise NotFoundError(
            f"document {write.doc_id!r} is {'deleted' if state.leaves else 'missing'}: there is nothing to resolve",
            deleted=bool(state.leaves),
        )
    target = shown.siblings[0]
    replaced = {
        dot: leaf for dot, leaf in state.leaves.items() if not leaf.deleted or _is_ancestor(leaf.rev, target.leaf)
    }
    return _replace(State(state.leaves, {}, state.fields, state.context), write, target, replaced, text=text)


def edit(
    state: State,
    write: Write,
    rev: Rev,
    deltas: Mapping[str, bytes],
    removed: Mapping[str, Collection[Dot]] | None = None,
) -> State:
    """Replace leaf `rev` by a child with the same body, adding one delta to each of these fields.

    `removed` are the dots of each field that the edit takes away. Raises ConflictError if `rev` isn't a live leaf.
    """
    shown = view(state)
    target = _named(shown, write, rev)
    if target.leaf.deleted:
        raise ConflictError(write.doc_id, str(rev), tuple(str(one.rev) for one in shown.siblings))
    dot = write.mint()
    fields = {path: dict(held) for path, held in state.fields.items()}
    for path, dots in (removed or {}).items():
        fields[path] = {held: delta for held, delta in fields.get(path, {}).items() if held not in dots}
    for path, content in deltas.items():
        fields.setdefault(path, {})[dot] = Delta(content, write.creations)
    signed = [(path, dot, content) for path, content in deltas.items()]
    return _replace(
        State(state.leaves, state.bodies, {path: held for path, held in fields.items() if held}, state.context),
        write,
        target,
        _group(state, target),
        dot=dot,
        deltas=signed,
    )


def _named(shown: View, write: Write, rev: Rev | None) -> Shown:
    """Return the leaf that a write names, or the one that it may replace without naming it."""
    if rev is None:
        winner = shown.winner
        if winner is not None and shown.deleted:
            return winner
        raise ConflictError(write.doc_id, None, tuple(str(one.rev) for one in shown.siblings))
    target = shown.find(rev)
    if target is None:
        raise ConflictError(write.doc_id, str(rev), tuple(str(one.rev) for one in shown.siblings))
    return target


def _first(state: State, write: Write, text: bytes) -> State:
    dot = write.mint()
    context = state.context.add(dot)
    rev = Rev(1, child_digest(None, deleted=False, body=text, sweep=write.sweep))
    leaf = Leaf(rev, NO_PATH, _clock((), (), dot, context), False, dot, rev, write.stamp, write.creations)
    bodies = {**state.bodies, dot: Body(text, write.creations)}
    return State({dot: leaf}, bodies, state.fields, context)


def _replace(
    state: State,
    write: Write,
    target: Shown,
    replaced: Mapping[Dot, Leaf],
    *,
    text: bytes | None = None,
    deleted: bool = False,
    dot: Dot | None = None,
    deltas: Iterable[tuple[str, Dot, bytes]] = (),
) -> State:
    """Put a child of `target` in the place of `replaced`, and close the branches that it doesn't continue."""
    dot = dot or write.mint()
    context = state.context.add(dot)
    parent = target.leaf
    rev = Rev(parent.rev.generation + 1, child_digest(parent.rev, deleted=deleted, body=text, deltas=deltas))
    kept = {held: leaf for held, leaf in state.leaves.items() if held not in replaced}
    own_body = text is not None
    child = Leaf(
        rev,
        parent.path.extended(parent.rev.digest, target.dot),
        _clock([leaf.clock for leaf in replaced.values()], [leaf.clock for leaf in kept.values()], dot, context),
        deleted,
        dot if own_body else parent.body_dot,
        rev if own_body else parent.body_rev,
        write.stamp,
        write.creations,
    )
    leaves = {**kept, dot: child}
    for other_dot, other in _to_close(target, replaced):
        closing = write.mint()
        context = context.add(closing)
        leaves[closing] = Leaf(
            Rev(other.rev.generation + 1, child_digest(other.rev, deleted=True, body=None)),
            other.path.extended(other.rev.digest, other_dot),
            _clock([other.clock], [leaf.clock for leaf in leaves.values()], closing, context),
            True,
            other.body_dot,
            other.body_rev,
            write.stamp,
            write.creations,
        )
    bodies = {**state.bodies, dot: Body(text, write.creations)} if text is not None else state.bodies
    return State(leaves, bodies, state.fields, context)


def _to_close(target: Shown, replaced: Mapping[Dot, Leaf]) -> list[tuple[Dot, Leaf]]:
    """Return one leaf for each live rev that was replaced and that nothing else replaced, nor the target, continues."""
    by_rev = {leaf.rev: (dot, leaf) for dot, leaf in sorted(replaced.items()) if not leaf.deleted}
    by_rev.pop(target.leaf.rev, None)
    ends = [target.leaf, *(leaf for _, leaf in by_rev.values())]
    return [by_rev[rev] for rev in sorted(by_rev) if not any(_is_ancestor(rev, end) for end in ends)]


def _group(state: State, target: Shown) -> dict[Dot, Leaf]:
    """Return what the view had merged into `target`: the leaves that a write on it replaces.

    Those with its rev, its body or an equal one; those whose body is gone or was replaced on the way to `target`; and
    its ancestors, which it hides.
    """
    if len(state.leaves) == 1:
        return dict(state.leaves)
    group = {}
    for dot, leaf in state.leaves.items():
        if _is_ancestor(leaf.rev, target.leaf) or leaf.rev == target.leaf.rev:
            group[dot] = leaf
        elif not leaf.deleted:
            body = state.bodies.get(leaf.body_dot)
            text = body.text if body is not None else None
            if (
                text is None
                or leaf.body_dot == target.leaf.body_dot
                or text == target.text
                or replaced_by(Shown(dot, leaf, text), target)
            ):
                group[dot] = leaf
    return group


def _twins(state: State, target: Shown) -> dict[Dot, Leaf]:
    return {
        dot: leaf
        for dot, leaf in state.leaves.items()
        if leaf.rev == target.leaf.rev or _is_ancestor(leaf.rev, target.leaf)
    }


def _is_ancestor(rev: Rev, leaf: Leaf) -> bool:
    return leaf.path.leads_to(rev, leaf.rev.generation)


def _clock(replaced: Sequence[DotSet], kept: Sequence[DotSet], dot: Dot, context: DotSet) -> DotSet:
    """Return the clock of a new leaf: all that it replaces, and itself.

    Counters are node-wide, so between two dots of an actor lie its writes to other documents. They are counted in, to
    keep one range, as far down as the context reaches without a gap; a leaf that stays is a sibling, and its dots of
    this actor are left out by a gap.
    """
    actor, counter = dot
    ranges = context.ranges(actor)
    if len(ranges) == 1 and not (replaced or kept):
        return DotSet({actor: ranges})
    joined = EMPTY
    for clock in replaced:
        joined |= clock
    sibling = max((clock.highest(actor) for clock in kept), default=0)
    if sibling >= counter:
        return joined.add(dot)
    seen_from = next(first for first, last in reversed(context.ranges(actor)) if first <= counter)
    first = max(sibling + 1, joined.highest(actor) + 1, seen_from)
    return joined | DotSet({actor: ((first, counter),)})
