"""What a state shows: the winner, the siblings and the leaves. A pure function, so equal on all nodes.

The rules are those of section "The document" in docs/explanation/documents.md:

1. leaves with one rev are one; a leaf whose rev lies on another's path is hidden; live before deleted;
2. the bodies of the live leaves, less those that a live leaf with another body descends from; equal bodies count once;
3. the winner is the highest generation, then the highest digest, among those: CouchDB's rule.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from crdtdb.causality import Dot
from crdtdb.documents.revisions import Rev
from crdtdb.documents.state import Leaf, State

NO_BODY = b"{}"


class Shown(NamedTuple):
    """A leaf as the view has it: one entry a rev, with the text of its body where the state still holds it."""

    dot: Dot
    leaf: Leaf
    text: bytes | None

    @property
    def rev(self) -> Rev:
        """The rev of the leaf."""
        return self.leaf.rev


class View(NamedTuple):
    """The winner first in every list.

    `leaves` are the revisions as CouchDB lists them, live ones first, each kind from the highest down. `siblings` have
    one entry for each distinct body; more than one is a conflict. Both are empty for a state that holds nothing.
    """

    leaves: tuple[Shown, ...]
    siblings: tuple[Shown, ...]

    @property
    def winner(self) -> Shown | None:
        """What a plain read returns; a deleted leaf if all are; None if there is nothing."""
        if self.siblings:
            return self.siblings[0]
        return self.leaves[0] if self.leaves else None

    @property
    def deleted(self) -> bool:
        """Whether a plain read finds nothing."""
        return not self.siblings

    @property
    def conflict(self) -> bool:
        """Whether there is more than one body."""
        return len(self.siblings) > 1

    def find(self, rev: Rev) -> Shown | None:
        """Return the leaf of this rev, None if it isn't one."""
        return next((shown for shown in self.leaves if shown.leaf.rev == rev), None)


_NOTHING_SHOWN = View((), ())


def view(state: State) -> View:
    """Return what this state shows."""
    if not state.leaves:
        return _NOTHING_SHOWN
    if len(state.leaves) == 1:
        ((dot, leaf),) = state.leaves.items()
        body = state.bodies.get(leaf.body_dot)
        if body is not None or leaf.deleted:
            shown = Shown(dot, leaf, body.text if body is not None else None)
            return View((shown,), () if leaf.deleted else (shown,))
    leaves = _visible(_one_a_rev(state))
    live = [shown for shown in leaves if not shown.leaf.deleted]
    if not live:
        return View(tuple(leaves), ())
    held = _unreplaced([shown for shown in live if shown.text is not None])
    if not held:
        held = _bodies_of_the_deleted(live[0], leaves)
    return View(tuple(leaves), tuple(_distinct(held)))


def shows(state: State) -> bool:
    """Whether a plain read finds the document: cheaper than its view where there is one leaf."""
    if len(state.leaves) == 1:
        (leaf,) = state.leaves.values()
        return not leaf.deleted
    return bool(state.leaves) and not view(state).deleted


def replaced_by(shown: Shown, other: Shown) -> bool:
    """Whether `other` descends from the write that set the body of `shown`, and has a body of its own."""
    leaf = shown.leaf
    return (
        other.text is not None
        and other.text != shown.text
        and other.leaf.path.leads_to(leaf.body_rev, other.leaf.rev.generation)
    )


def _one_a_rev(state: State) -> list[Shown]:
    """Put the dots of each rev together, highest rev first."""
    by_rev: dict[Rev, list[tuple[Dot, Leaf]]] = {}
    for dot, leaf in state.leaves.items():
        by_rev.setdefault(leaf.rev, []).append((dot, leaf))
    found = []
    for rev in sorted(by_rev, reverse=True):
        twins = by_rev[rev]
        dot, leaf = twins[0]
        if len(twins) > 1:
            dot, leaf = max(twins, key=lambda twin: (len(twin[1].path.all()), twin[0]))
        texts = {state.bodies[twin.body_dot].text for _, twin in twins if twin.body_dot in state.bodies}
        found.append(Shown(dot, leaf, max(texts, key=_hash) if texts else None))
    return found


def _hash(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).digest()


def _visible(shown: list[Shown]) -> list[Shown]:
    """Hide what lies on another leaf's path, and put live before deleted. Takes and keeps the order of revs."""
    top = shown[0].leaf.rev.generation if shown else 0
    visible = [
        one
        for one in shown
        if one.leaf.rev.generation == top
        or not any(other.leaf.path.leads_to(one.leaf.rev, other.leaf.rev.generation) for other in shown)
    ]
    return sorted(visible, key=lambda one: one.leaf.deleted)


def _unreplaced(shown: list[Shown]) -> list[Shown]:
    return [
        one for one in shown if one.leaf.body_rev == one.leaf.rev or not any(replaced_by(one, other) for other in shown)
    ]


def _bodies_of_the_deleted(winner: Shown, leaves: list[Shown]) -> list[Shown]:
    """Lend the highest live leaf the bodies that only deleted leaves still have.

    An edit of fields lost its body to a put, and the put was deleted by somebody who hadn't seen the edit.
    """
    held = _unreplaced([shown for shown in leaves if shown.leaf.deleted and shown.text is not None])
    if not held:
        return [Shown(winner.dot, winner.leaf, NO_BODY)]
    return [Shown(winner.dot, winner.leaf, held[0].text), *held[1:]]


def _distinct(shown: list[Shown]) -> list[Shown]:
    seen: set[bytes | None] = set()
    distinct = []
    for one in shown:
        if one.text not in seen:
            seen.add(one.text)
            distinct.append(one)
    return distinct
