"""Leaf groups: the leaves that a listed sibling represents in a write.

The listing (`crdtdb.documents.view`) shows one leaf for several: those with its body or an equal one, and those whose body
is gone or was replaced on the way to it. Together with what they hide they are the sibling's *group*. Every live leaf is in
a group, so a write on each sibling in turn replaces all of them. One that is listed is in its own group alone, so a write on
one sibling leaves the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from crdtdb.causality import Dot
from crdtdb.documents.revisions import Ancestry, Rev, takes_body
from crdtdb.documents.state import Leaf, State
from crdtdb.documents.view import DocumentView, VisibleLeaf, names, replaced_by


class Sight(NamedTuple):
    """What the author of a resolution was shown: the revisions of siblings, and the value of one if it is known.

    `read` returns that value, fields included, None if it isn't known any more. It is asked for only if fields have changed.
    """

    revs: Collection[Rev]
    read: Callable[[], Mapping[str, Any] | None] = lambda: None


def group(state: State, shown: DocumentView, *targets: VisibleLeaf) -> dict[Dot, Leaf]:
    """Return the leaves that the view merged into `targets`, which a write on them replaces."""
    if len(state.leaves) == 1:
        return dict(state.leaves)
    members = [one for one in targets if not is_revived(state, one)]
    forms = {member.form for member in members}
    others = {sibling.leaf.rev for sibling in shown.siblings if sibling.form not in forms}
    rest = [visible for visible in shown.leaves if not visible.leaf.deleted and visible.leaf.rev not in others]
    joining = members
    while joining and rest:  # what was replaced by what is merged into a target is merged into that target
        joining = [one for one in rest if one.text is None or one.form in forms or _is_replaced(one, joining)]
        members = [*members, *joining]
        rest = [one for one in rest if one not in joining]
    found = _with_ancestors(state, [visible.leaf for visible in (*targets, *members)])
    if {sibling.leaf.rev for sibling in shown.siblings} <= {
        visible.leaf.rev for visible in targets
    }:  # all, and so what tombstones hide
        found.update((dot, leaf) for dot, leaf in state.leaves.items() if not leaf.deleted)
    return found


def twins(state: State, target: VisibleLeaf) -> dict[Dot, Leaf]:
    """Return the leaves with the revision of `target`, and those that it hides: an exact write on it replaces these."""
    return _with_ancestors(state, [target.leaf])


def is_revived(state: State, target: VisibleLeaf) -> bool:
    """Whether `target` is a deleted leaf that shows with its body, since no live one has one."""
    return not target.leaf.deleted and state.leaves[target.dot].deleted


def seen_among(shown: DocumentView, revs: Collection[Rev]) -> list[VisibleLeaf]:
    """Return the siblings in the view that listed these revisions, the winner first.

    A sibling was seen under its own name, or under an older one if fields alone have been edited since; not if its body was
    put by a write on the one that was seen.
    """
    current = {sibling.rev for sibling in shown.siblings}
    bodies = {body for rev in revs if rev not in current for body in _bodies_under(shown, rev)}
    forms = {visible.form for visible in shown.leaves if visible.text is not None and visible.leaf.body_rev in bodies}
    return [sibling for sibling in shown.siblings if sibling.rev in revs or sibling.form in forms]


def is_ancestor(rev: Rev, leaf: Leaf) -> bool:
    """Whether a revision lies on the path of a leaf."""
    return leaf.path.leads_to(rev, leaf.rev.generation)


def _is_replaced(one: VisibleLeaf, others: Iterable[VisibleLeaf]) -> bool:
    return any(replaced_by(one, other) for other in others)


def _with_ancestors(state: State, members: Iterable[Leaf]) -> dict[Dot, Leaf]:
    """Return the leaves with the revisions of `members`, and those that they hide, which would reappear otherwise."""
    chosen = list(members)
    revs = {one.rev for one in chosen}
    hidden = Ancestry((one.rev, one.path, None) for one in chosen)
    return {dot: leaf for dot, leaf in state.leaves.items() if leaf.rev in revs or leaf.rev in hidden}


def _bodies_under(shown: DocumentView, rev: Rev) -> set[Rev]:
    """Return the writes of the bodies that have been shown under a name, as far as the leaves tell."""
    return {
        visible.leaf.body_rev
        for visible in shown.leaves
        if _is_on(visible.leaf, rev) and _had_body(visible.leaf, rev.generation)
    }


def _had_body(leaf: Leaf, generation: int) -> bool:
    """Whether the revision of this generation on a leaf's line showed the leaf's body already.

    Not if a put came later, nor if a merge revision did that took the body of another branch.
    """
    if leaf.body_rev.generation >= generation:
        return leaf.body_rev == _on_line(leaf, generation)
    later = (_on_line(leaf, one) for one in range(leaf.rev.generation, generation, -1))
    return not any(rev is not None and takes_body(rev.digest) for rev in later)


def _is_on(leaf: Leaf, name: Rev) -> bool:
    """Whether a name means a leaf or a revision on its path."""
    rev = _on_line(leaf, min(name.generation, leaf.rev.generation))
    return rev is not None and names(name, rev)


def _on_line(leaf: Leaf, generation: int) -> Rev | None:
    """Return the revision of a generation that a leaf is or descends from, None if it isn't known."""
    if generation == leaf.rev.generation:
        return leaf.rev
    step = leaf.path.step(leaf.rev.generation - generation - 1)
    return Rev(generation, step.digest) if step is not None else None
