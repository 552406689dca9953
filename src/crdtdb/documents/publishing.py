"""Publishing: gives merged documents immutable revisions for CouchDB clients.

In CouchDB's protocol a revision is an immutable plain value, and two live leaves are a conflict. Edits of fields here are
different: they are leaves that share a body, and show the merge of all fields. So before such a client reads the document,
the merged value is *published* as one merge revision. Its name follows from the revisions that it joins and from the value,
so that nodes with the same state publish the same revision. Other revisions that clients have read are closed. A published
document without later changes needs no publishing, so an idle cluster writes nothing.

A *branch* is what the view shows as one body: the live leaves with that body, those whose body it replaced, and (in the
winner's branch) those whose body is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from msgspec.structs import replace

from crdtdb.canonical_json import canonical_merged
from crdtdb.causality import DotSet
from crdtdb.documents.fields import reading, whole
from crdtdb.documents.groups import is_ancestor
from crdtdb.documents.replacement import clock_of, closing
from crdtdb.documents.revisions import DIGEST_BYTES, Rev, merge_digest
from crdtdb.documents.state import Body, Leaf, State
from crdtdb.documents.view import NO_BODY, DocumentView, VisibleLeaf, replaced_by, unreplaced, view
from crdtdb.documents.write_context import Write


class Branch(NamedTuple):
    """The leaves that show one body, highest rev first. `holder` is the one whose body it is, None if it is lent."""

    leaves: tuple[VisibleLeaf, ...]
    holder: VisibleLeaf | None
    text: bytes

    @property
    def published(self) -> bool:
        """Whether the branch is one revision that clients may read."""
        return len(self.leaves) == 1 and not self.leaves[0].leaf.native and self.holder is not None


Kept = Callable[[Rev], bool]
"""Whether the published value of a revision is stored here."""


def is_published(state: State, shown: DocumentView, kept: Kept) -> bool:
    """Whether clients of revision trees may read exactly the leaves that this state shows."""
    if shown.closed:
        return False
    if len(state.leaves) == 1 and not state.fields:
        (leaf,) = state.leaves.values()
        return leaf.deleted or (not leaf.native and bool(shown.siblings) and shown.siblings[0].text is not None)
    return not any(_is_due(number, branch, kept) for number, branch in enumerate(branches(shown)))


def _is_due(number: int, branch: Branch, kept: Kept) -> bool:
    """Whether a branch needs publishing: it isn't one revision, or it no longer shows that revision's published value."""
    if not branch.published:
        return True
    top = branch.leaves[0]
    return bool(top.heads) and (number == 0 or not kept(top.leaf.rev))


def branches(shown: DocumentView) -> list[Branch]:
    """Return the branches, the winner's first; empty for a deleted document."""
    if shown.deleted:
        return []
    live = [visible for visible in shown.leaves if not visible.leaf.deleted]
    held = unreplaced([leaf for leaf in live if leaf.text is not None])
    winner = shown.siblings[0]
    if not held:
        lent = [Branch((sibling,), None, sibling.text or NO_BODY) for sibling in shown.siblings[1:]]
        return [Branch(tuple(live), None, winner.text or NO_BODY), *lent]
    leaves: dict[Rev, list[VisibleLeaf]] = {visible.leaf.body_rev: [] for visible in held}
    for one in live:
        known = one.leaf.body_rev in leaves
        leaves[one.leaf.body_rev if known else _home(one, winner, held)].append(one)
    holders = {visible.leaf.body_rev: visible for visible in reversed(held)}
    found = [
        Branch(tuple(several), holders[body_rev], holders[body_rev].text or NO_BODY)
        for body_rev, several in leaves.items()
    ]
    return sorted(found, key=lambda branch: branch.leaves[0].leaf.rev, reverse=True)


def _home(one: VisibleLeaf, winner: VisibleLeaf, held: list[VisibleLeaf]) -> Rev:
    """Return the name of the body in whose branch a live leaf is that lost its own."""
    for other in held:
        if one.text is not None and replaced_by(one, other):
            return other.leaf.body_rev
    return winner.leaf.body_rev


def publish(kept: Kept, state: State, write: Write) -> State:
    """Return the state with a merge revision for each branch that clients can't read as it is.

    The winner's branch is published again after changes of fields; the other branches keep their published value if it is
    stored here (`kept`). Without it such a branch gets a higher rev too: `lift` then raises the winner above it. Nothing is
    published while no body is here: the revision would replace one that another node still holds.
    """
    if not view(state).complete:
        return state
    write.build_on(state)
    state = _without_closed(state, write)
    value = reading(state.fields, state.journals, write.open_sequence)
    seen = state.fields_seen()
    for number, branch in enumerate(branches(view(state))):
        if _is_due(number, branch, kept):
            state = _merge_revision(state, write, branch, canonical_merged(whole(branch.text, value)), seen)
    return state


def _without_closed(state: State, write: Write) -> State:
    """Delete the leaves that other leaves closed, so that clients see them as deleted."""
    for one in view(state).closed:
        replaced = {dot: leaf for dot, leaf in state.leaves.items() if leaf.rev == one.leaf.rev}
        kept = {dot: leaf for dot, leaf in state.leaves.items() if dot not in replaced}
        state = closing(replace(state, leaves=kept), write, None, replaced)
        write.dot = max(state.leaves.keys() - kept.keys())
    return state


def lift(text: bytes, state: State, write: Write) -> State:
    """Return the state with the branch of this text one generation higher, if another one wins: reading chooses no winner."""
    found = branches(view(state))
    place = next((number for number, one in enumerate(found) if one.text == text), 0)
    if place == 0:
        return state
    write.build_on(state)
    value = reading(state.fields, state.journals, write.open_sequence)
    return _merge_revision(state, write, found[place], canonical_merged(whole(text, value)), state.fields_seen())


def winning(state: State) -> bytes | None:
    """Return the text of the winner's branch, None if there is none."""
    return next((branch.text for branch in branches(view(state))), None)


def _merge_revision(state: State, write: Write, branch: Branch, plain: bytes, seen: DotSet) -> State:
    target = branch.leaves[0]
    joined = sorted({visible.leaf.rev for visible in branch.leaves})
    replaced: dict[object, Leaf] = {
        dot: leaf
        for dot, leaf in state.leaves.items()
        if leaf.rev in joined or any(is_ancestor(leaf.rev, visible.leaf) for visible in branch.leaves)
    }
    kept = {dot: leaf for dot, leaf in state.leaves.items() if dot not in replaced}
    dot = write.sign()
    holder = branch.holder
    state, body_dot = write.keep_body(state, holder.leaf) if holder is not None else (state, dot)
    context = state.context.add(dot)
    takes_body = holder is not None and holder.leaf.body_rev != target.leaf.body_rev
    rev = Rev(target.leaf.rev.next_generation, merge_digest(_digest(joined, plain), takes_body=takes_body))
    merged = Leaf(
        rev,
        target.leaf.path.extended(target.leaf.rev.digest, target.dot),
        clock_of(
            [seen, *(leaf.clock for leaf in replaced.values())], [leaf.clock for leaf in kept.values()], dot, context
        ),
        False,
        body_dot,
        holder.leaf.body_rev if holder is not None else rev,
        write.stamp,
        write.creations,
    )
    bodies = state.bodies if holder is not None else {**state.bodies, dot: Body(branch.text, write.creations)}
    after = replace(state, leaves={**kept, dot: merged}, bodies=bodies, context=context)
    return closing(after, write, target, {dot: leaf for dot, leaf in state.leaves.items() if dot in replaced})


def _digest(joined: list[Rev], plain: bytes) -> str:
    names = ",".join(map(str, joined)).encode()
    text = b"15:crdtdb/1/merged%d:%b%d:%b" % (len(names), names, len(plain), plain)
    return blake2b(text, digest_size=DIGEST_BYTES).hexdigest()
