"""Replacement of leaves: the new leaf, remaining bodies, closed branches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from itertools import count
from typing import NamedTuple

from msgspec.structs import replace

from crdtdb.canonical_json import canonical_of
from crdtdb.causality import EMPTY, Dot, DotSet
from crdtdb.crdts import Address
from crdtdb.documents.groups import is_revived, twins
from crdtdb.documents.revisions import Ancestry, Rev, child_digest, closing_digest, is_merge
from crdtdb.documents.state import Body, Leaf, State
from crdtdb.documents.view import DocumentView, VisibleLeaf
from crdtdb.documents.write_context import Write


class Child(NamedTuple):
    """What a new leaf brings: a body of its own, deltas of fields, or a deletion."""

    text: bytes | None = None
    """Its body, None if it keeps that of its parent."""
    deleted: bool = False
    dot: Dot | None = None
    """The dot that was signed already, None for the next one."""
    deltas: Iterable[tuple[Address, Dot, bytes]] = ()
    native: bool = False
    removed: DotSet = EMPTY
    """Dots of fields that it removes: its clock names them, since the leaves that did may have been collected."""


def replace_leaves(
    state: State, write: Write, target: VisibleLeaf, replaced: Mapping[Dot, Leaf], child: Child
) -> State:
    """Put a child of `target` in the place of `replaced`, and close the branches that it doesn't continue."""
    text, deleted, dot = child.text, child.deleted, child.dot or write.sign()
    context = state.context.add(dot)
    parent = target.leaf
    form = canonical_of(text) if text is not None else None
    rev = Rev(parent.rev.next_generation, child_digest(target.rev, deleted=deleted, body=form, deltas=child.deltas))
    kept = {other: leaf for other, leaf in state.leaves.items() if other not in replaced}
    own_body = text is not None
    body_dot = dot
    if not own_body:
        state, body_dot = write.keep_body(state, parent) if not deleted else (state, parent.body_dot)
        context |= state.context
    leaf = Leaf(
        rev,
        parent.path.extended(parent.rev.digest, target.dot),
        clock_of(
            [*(leaf.clock for leaf in replaced.values()), child.removed],
            [leaf.clock for leaf in kept.values()],
            dot,
            context,
        ),
        deleted,
        body_dot,
        rev if own_body else parent.body_rev,
        write.stamp,
        write.creations,
        child.native,
    )
    bodies = {**state.bodies, dot: Body(text, write.creations)} if text is not None else state.bodies
    kept[dot] = leaf
    replacing = State(kept, bodies, state.fields, context, state.journals)
    if len(replaced) == 1:  # the target alone: there is no other branch
        return replacing
    return closing(replacing, write, target, replaced)


def closing(state: State, write: Write, target: VisibleLeaf | None, replaced: Mapping[Dot, Leaf]) -> State:
    """Put a deleted leaf under every live rev among `replaced` that the successor of `target` doesn't continue."""
    leaves, context = dict(state.leaves), state.context
    # Of the leaves that stay the latest alone matters: the next is the one just made.
    latest = max((leaf.clock for leaf in leaves.values()), key=lambda clock: clock.highest(write.actor), default=EMPTY)
    for other_dot, other in _to_close(target, replaced, state):
        dot = write.mint()
        context = context.add(dot)
        latest = clock_of([other.clock], [latest], dot, context)
        leaves[dot] = Leaf(
            Rev(other.rev.next_generation, closing_digest(other.rev)),
            other.path.extended(other.rev.digest, other_dot),
            latest,
            True,
            dot,  # it lends its body to no leaf: the successor has one
            other.body_rev,
            write.stamp,
            write.creations,
        )
    return replace(state, leaves=leaves, context=context)


def _to_close(target: VisibleLeaf | None, replaced: Mapping[Dot, Leaf], state: State) -> list[tuple[Dot, Leaf]]:
    """Return one leaf for each live rev that was replaced and that nothing else replaced, nor the target, continues.

    Edits of fields aren't branches that clients have read, and would leave one behind for each that met another. So they
    are closed only if there is a merge revision or a put below them that no leaf of `state` continues.
    """
    by_rev = {leaf.rev: (dot, leaf) for dot, leaf in sorted(replaced.items()) if not leaf.deleted}
    edits = [(dot, leaf) for dot, leaf in by_rev.values() if leaf.native]
    for _, leaf in edits:
        del by_rev[leaf.rev]
    ends = Ancestry((leaf.rev, leaf.path, None) for _, leaf in by_rev.values())
    if target is not None:
        by_rev.pop(target.leaf.rev, None)
        ends.add(target.leaf.rev, target.leaf.path, None)
        edits = [(dot, leaf) for dot, leaf in edits if leaf.rev != target.leaf.rev and leaf.rev not in ends]
    closed = [by_rev[rev] for rev in sorted(by_rev) if rev not in ends]
    if edits:
        open_ends = Ancestry(
            (leaf.rev, leaf.path, None) for leaf in (*state.leaves.values(), *(one for _, one in closed))
        )
        closed += [(dot, leaf) for dot, leaf in edits if _continues_what_was_told(leaf, open_ends)]
    return closed


def _continues_what_was_told(edit: Leaf, ends: Ancestry[None]) -> bool:
    """Whether an edit of fields descends from a merge revision or the write of its body, and none of `ends` does."""
    for back in count():
        step = edit.path.step(back)
        if step is None:
            return False
        rev = Rev(edit.rev.generation - 1 - back, step.digest)
        if rev in ends:
            return False
        if rev == edit.body_rev or is_merge(step.digest):
            ends.add(edit.rev, edit.path, None)
            return True
    raise AssertionError


def keeping(state: State, write: Write, shown: DocumentView, targets: Items[VisibleLeaf]) -> State:
    """Give a live leaf to each sibling that shows with the body of a deleted one, and isn't among `targets`.

    They show only while no live leaf has a body, and the write that comes is to leave them as they are.
    """
    chosen = {visible.leaf.rev for visible in targets}
    for one in shown.siblings:
        if one.leaf.rev not in chosen and one.text is not None and (one.lender or is_revived(state, one)):
            dot, replaced = write.mint(), twins(state, one)
            kept = {held: leaf for held, leaf in state.leaves.items() if held not in replaced}
            context = state.context.add(dot)
            kept[dot] = Leaf(
                Rev(one.leaf.rev.next_generation, child_digest(one.leaf.rev, deleted=False, body=one.form)),
                one.leaf.path.extended(one.leaf.rev.digest, one.dot),
                clock_of(
                    [leaf.clock for leaf in replaced.values()], [leaf.clock for leaf in kept.values()], dot, context
                ),
                False,
                dot,
                one.leaf.body_rev,
                write.stamp,
                write.creations,
            )
            bodies = {**state.bodies, dot: Body(one.text, write.creations)}
            state = replace(state, leaves=kept, bodies=bodies, context=context)
    return state


def without_bodies(state: State, targets: Items[VisibleLeaf], replaced: Mapping[Dot, Leaf]) -> dict[Dot, Body]:
    """Return the bodies but for those that the targets show, and those of the live leaves that are replaced."""
    gone = {visible.leaf.body_dot for visible in targets}
    gone.update(leaf.body_dot for leaf in replaced.values() if not leaf.deleted)
    return {held: body for held, body in state.bodies.items() if held not in gone}


def clock_of(replaced: Items[DotSet], kept: Items[DotSet], dot: Dot, context: DotSet) -> DotSet:
    """Return the clock of a new leaf: all that it replaces, and itself.

    Counters are node-wide, so between two dots of an actor lie its writes to other documents. They are counted in, to
    keep one range, as far down as the context reaches without a gap; a leaf that stays is a sibling, and its dots of
    this actor are left out by a gap.
    """
    actor, counter = dot
    ranges = context.ranges(actor)
    joined = EMPTY
    for clock in replaced:
        joined |= clock
    if len(ranges) == 1 and ranges[0][1] == counter and not kept:
        mine = joined.ranges(actor)
        # As nearly always, no sibling was ever left out.
        if not mine or (len(mine) == 1 and mine[0][0] == ranges[0][0]):
            return DotSet({**dict(joined.items()), actor: ranges})
    sibling = max((clock.highest(actor) for clock in kept), default=0)
    if sibling >= counter:
        return joined.add(dot)
    seen_from = next(first for first, last in reversed(context.ranges(actor)) if first <= counter)
    first = max(sibling + 1, joined.highest(actor) + 1, seen_from)
    return joined | DotSet({actor: ((first, counter),)})
