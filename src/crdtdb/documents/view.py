"""View of a state: winner, siblings and leaves. Pure, so equal on all nodes.

The rules are those of section "The document" in docs/explanation/documents.md:

1. leaves with one rev are one; a leaf whose rev lies on another's path is hidden; live before deleted. Hidden too is a live
   leaf that brings nothing new to a deleted one which knew its body: reading made it, and no author;
2. the bodies of the live leaves, less those that a live leaf with another body descends from; equal bodies count once. If
   no live leaf has its body any more, the bodies of the deleted leaves serve: the highest live leaf shows one, each other
   shows with the deleted leaf that has it, as if that lived;
3. the winner is the highest generation, then the highest digest, among those: CouchDB's rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from msgspec import Struct
from msgspec.structs import replace

from crdtdb.canonical_json import canonical_of
from crdtdb.causality import Dot
from crdtdb.crdts import heads
from crdtdb.documents.alternatives import is_disputed
from crdtdb.documents.revisions import DIGEST_BYTES, Ancestry, Rev, is_closing, is_merge
from crdtdb.documents.state import Leaf, State

NO_BODY = b"{}"


class VisibleLeaf(Struct, frozen=True, gc=False):
    """Leaf in a view: one entry per rev, with the text of its body if the state still holds it.

    `heads` are visible edits of fields that the leaf's author hadn't seen; they show with any winner. `lender` is the deleted
    leaf whose body it shows, if it has lost its own.
    """

    dot: Dot
    leaf: Leaf
    text: bytes | None
    heads: tuple[Dot, ...] = ()
    lender: Dot | None = None

    @property
    def form(self) -> bytes | None:
        """Canonical text of its body, which decides equality; None if the state no longer holds it."""
        return canonical_of(self.text) if self.text is not None else None

    @property
    def rev(self) -> Rev:
        """Revision of the visible value: the leaf's own, unless that shows more than its author had seen.

        The additions are edits of fields, or the body of a deleted leaf. The revision is then derived from all of these, so
        that it never names two values: a write on it was made from the value read, and a write on an older one is refused.
        """
        if self.lender is not None:
            return derived_rev(self.leaf.rev, (*self.heads, self.lender))
        return derived_rev(self.leaf.rev, self.heads) if self.heads else self.leaf.rev


class DocumentView(Struct, frozen=True, gc=False):
    """The winner first in every list.

    `leaves` are the revisions as CouchDB lists them, live ones first, each kind from the highest down. `siblings` have
    one entry for each distinct body; more than one is a conflict. Both are empty for a state that holds nothing.
    """

    leaves: tuple[VisibleLeaf, ...]
    siblings: tuple[VisibleLeaf, ...]
    closed: tuple[VisibleLeaf, ...] = ()
    """Hidden live leaves: deleted leaves have seen all that they add. Clients may have read them."""

    @property
    def winner(self) -> VisibleLeaf | None:
        """What a plain read returns; a deleted leaf if all are; None if there is nothing."""
        if self.siblings:
            return self.siblings[0]
        return self.leaves[0] if self.leaves else None

    @property
    def deleted(self) -> bool:
        """Whether a plain read finds nothing."""
        return not self.siblings

    @property
    def complete(self) -> bool:
        """Whether a body that shows is here. It always is, unless its write was lost or is still under way."""
        return (
            not self.siblings
            or self.siblings[0].lender is not None
            or any(visible.text is not None for visible in self.leaves if not visible.leaf.deleted)
        )

    @property
    def conflict(self) -> bool:
        """Whether there is more than one body."""
        return len(self.siblings) > 1

    def find(self, rev: Rev) -> VisibleLeaf | None:
        """Return the sibling or other leaf that shows under this rev, None if there is none.

        One that got a leaf of its own because another was written is found under the rev that it had before.
        """
        found = next((shown for shown in (*self.siblings, *self.leaves) if shown.rev == rev), None)
        return found or next((shown for shown in self.leaves if self._was(shown, rev)), None)

    def _was(self, shown: VisibleLeaf, rev: Rev) -> bool:
        leaf, parent = shown.leaf, shown.leaf.path.parent
        if leaf.deleted or leaf.body_dot != shown.dot or leaf.body_rev == leaf.rev or parent is None:
            return False
        before = Rev(leaf.rev.generation - 1, parent.digest)
        lenders = [(), *((visible.dot,) for visible in self.leaves if visible.leaf.deleted)]
        return any(rev == derived_rev(before, (*shown.heads, *lender)) for lender in lenders)

    def leaf(self, rev: Rev) -> VisibleLeaf | None:
        """Return the leaf whose own rev this is, however it shows."""
        return next((shown for shown in self.leaves if shown.leaf.rev == rev), None)


_NOTHING_SHOWN = DocumentView((), ())


_TAG_BYTES = 6


def derived_rev(rev: Rev, unseen: Sequence[Dot]) -> Rev:
    """Return the name of a leaf together with what its author hadn't seen: its own, or one that begins with the tag of that."""
    if not unseen:
        return rev
    dots = b"".join(b"%b%d," % (dot.actor, dot.counter) for dot in sorted(unseen))
    rest = blake2b(b"%b:%b" % (str(rev).encode(), dots), digest_size=DIGEST_BYTES - _TAG_BYTES).hexdigest()
    return Rev(rev.generation, _tag(rev) + rest)


def names(name: Rev, rev: Rev) -> bool:
    """Whether a name means a revision: its own, or one derived from that at any time."""
    return name == rev or (name.generation == rev.generation and name.digest.startswith(_tag(rev)))


def _tag(rev: Rev) -> str:
    return blake2b(str(rev).encode(), digest_size=_TAG_BYTES).hexdigest()


def view(state: State) -> DocumentView:
    """Return what this state shows."""
    if not state.leaves:
        return _NOTHING_SHOWN
    if len(state.leaves) == 1:
        ((dot, leaf),) = state.leaves.items()
        body = state.bodies.get(leaf.body_dot)
        if body is not None or leaf.deleted:
            unseen = _unseen(state, leaf) if state.fields else ()
            shown = VisibleLeaf(dot, leaf, body.text if body is not None else None, unseen)
            return DocumentView((shown,), () if leaf.deleted else (shown,))
    every = _one_a_rev(state)
    leaves = _visible(every)
    closed = _closed(state, leaves)
    leaves = [shown for shown in leaves if shown not in closed] if closed else leaves
    live = [shown for shown in leaves if not shown.leaf.deleted]
    if not live:
        return DocumentView(tuple(leaves), (), tuple(closed))
    held = unreplaced([shown for shown in live if shown.text is not None])
    if not held:
        held = _bodies_of_the_deleted(state, live[0], leaves, every)
    return DocumentView(tuple(leaves), tuple(_distinct(held)), tuple(closed))


class Totals(Struct, frozen=True, gc=False):
    """What a document adds to the counts of its collection."""

    live: int
    deleted: int
    conflicts: int
    """1 if there is more than one body, or a conflict of a field."""
    size: int
    """Bytes of JSON in the bodies that show."""
    revs: int = 0
    """The sum of numbers that the live revisions have, by which two stores see that they show the same."""


def rev_number(rev: Rev) -> int:
    """Return a number that follows from a revision's name."""
    try:
        return int(rev.digest[:16], 16) + rev.generation
    except ValueError:  # a name that a client of CouchDB's API chose
        return int.from_bytes(blake2b(rev.digest.encode(), digest_size=8).digest(), "big") + rev.generation


def totals(state: State) -> Totals:
    """Return what a document adds: cheaper than its view where there is one leaf."""
    if len(state.leaves) == 1:
        (leaf,) = state.leaves.values()
        if leaf.deleted:
            return _DELETED
        body = state.bodies.get(leaf.body_dot)
        heads_beyond = _unseen(state, leaf) if state.fields else ()
        rev = derived_rev(leaf.rev, heads_beyond) if heads_beyond else leaf.rev
        text = body.text if body is not None else NO_BODY
        disputed = bool(state.fields) and is_disputed(state.fields, text)
        return Totals(1, 0, disputed, len(text) if body is not None else 0, rev_number(rev))
    if not state.leaves:
        return NONE
    shown = view(state)
    size = sum(len(sibling.text or b"") for sibling in shown.siblings)
    revs = sum(rev_number(visible.rev) for visible in shown.leaves if not visible.leaf.deleted)
    disputed = bool(shown.siblings and state.fields) and is_disputed(state.fields, shown.siblings[0].text or NO_BODY)
    return Totals(not shown.deleted, shown.deleted, shown.conflict or disputed, size, revs)


NONE = Totals(0, 0, 0, 0)
_DELETED = Totals(0, 1, 0, 0)


def replaced_by(shown: VisibleLeaf, other: VisibleLeaf) -> bool:
    """Whether `other` descends from the write that set the body of `shown`, and has a body of its own."""
    leaf = shown.leaf
    return (
        other.text is not None
        and other.form != shown.form
        and other.leaf.path.leads_to(leaf.body_rev, other.leaf.rev.generation)
    )


def _one_a_rev(state: State) -> list[VisibleLeaf]:
    """Put the dots of each rev together, highest rev first."""
    if len({leaf.rev for leaf in state.leaves.values()}) == len(state.leaves):
        alone = [
            VisibleLeaf(
                dot, leaf, body.text if (body := state.bodies.get(leaf.body_dot)) else None, _unseen(state, leaf)
            )
            for dot, leaf in state.leaves.items()
        ]
        return sorted(alone, key=lambda one: one.leaf.rev, reverse=True)
    by_rev: dict[Rev, list[tuple[Dot, Leaf]]] = {}
    for dot, leaf in state.leaves.items():
        by_rev.setdefault(leaf.rev, []).append((dot, leaf))
    found = []
    for rev in sorted(by_rev, reverse=True):
        twins = by_rev[rev]
        dot, leaf = twins[0]
        if len(twins) > 1:
            dot, leaf = max(twins, key=lambda twin: (len(twin[1].path.all()), twin[0]))
        unseen, knowing = _knowing_most(state, [twin for _, twin in twins])
        held = {state.bodies[twin.body_dot].text: twin.body_dot for twin in knowing if twin.body_dot in state.bodies}
        text = max(held, key=_order, default=None)
        if text is not None and held[text] != leaf.body_dot and _text_of(state, leaf) != text:
            leaf = replace(leaf, body_dot=held[text])
        found.append(VisibleLeaf(dot, leaf, text, unseen))
    return found


def _text_of(state: State, leaf: Leaf) -> bytes | None:
    body = state.bodies.get(leaf.body_dot)
    return body.text if body is not None else None


def _form_of(state: State, leaf: Leaf) -> bytes | None:
    text = _text_of(state, leaf)
    return canonical_of(text) if text is not None else None


def _unseen(state: State, leaf: Leaf) -> tuple[Dot, ...]:
    """Return the heads of the fields that the author of a live leaf hadn't seen."""
    if not state.fields or leaf.deleted:
        return ()
    return tuple(sorted(dot for dot in heads(state.fields) if dot not in leaf.clock))


def _knowing_most(state: State, twins: Sequence[Leaf]) -> tuple[tuple[Dot, ...], Sequence[Leaf]]:
    """Return the heads that the authors of one rev hadn't seen, and the leaves of those who had seen all others.

    Each leaf alone shows what the rev was published with, if nothing came since. What two of them have seen between them may
    be a value that neither showed: they count apart. The rev's own edits are one for all leaves to which they left one body.
    """
    if len(twins) == 1 or not state.fields or twins[0].deleted:
        return _unseen(state, twins[0]), twins
    held = [twin for twin in twins if twin.body_dot in state.bodies] or twins
    forms = {dot: _form_of(state, leaf) for dot, leaf in state.leaves.items() if leaf.rev == twins[0].rev}
    lacking = [
        tuple(dot for dot in _unseen(state, twin) if dot not in forms or forms[dot] != _form_of(state, twin))
        for twin in held
    ]
    least = min(lacking, key=lambda dots: (len(dots), dots))
    return least, [twin for twin, dots in zip(held, lacking, strict=True) if dots == least]


def _order(text: bytes) -> tuple[bytes, bytes]:
    """Return by what one of several texts under one name is chosen; of equal bodies in two orders, their bytes decide."""
    return blake2b(canonical_of(text), digest_size=16).digest(), text


def _visible(shown: list[VisibleLeaf]) -> list[VisibleLeaf]:
    """Hide what lies on another leaf's path, and put live before deleted. Takes and keeps the order of revs."""
    top = shown[0].leaf.rev.generation if shown else 0
    ancestry = Ancestry((visible.leaf.rev, visible.leaf.path, None) for visible in shown)
    visible = [visible for visible in shown if visible.leaf.rev.generation == top or visible.leaf.rev not in ancestry]
    return sorted(visible, key=lambda one: one.leaf.deleted)


def _closed(state: State, leaves: list[VisibleLeaf]) -> list[VisibleLeaf]:
    """Return the live leaves that bring nothing to deleted ones: those knew the body, and have seen every edit of fields.

    A merge revision is made by reading. A client that deletes what it was made of closes it too, without knowing its name.
    A deleted leaf that a write left under a branch which it joined to its own closes nothing: the write goes on with all of it.
    """
    deleted = [visible for visible in leaves if visible.leaf.deleted and not is_closing(visible.leaf.rev.digest)]
    doubtful = [visible for visible in leaves if not visible.leaf.deleted and is_merge(visible.leaf.rev.digest)]
    if not deleted or not doubtful:
        return []
    newest = heads(state.fields)
    closing = [visible for visible in deleted if all(dot in visible.leaf.clock for dot in newest)]
    ancestry = Ancestry((visible.leaf.rev, visible.leaf.path, None) for visible in closing)
    return [visible for visible in doubtful if visible.leaf.body_rev in ancestry]


def unreplaced(shown: list[VisibleLeaf]) -> list[VisibleLeaf]:
    """Return those of these leaves, which all have a body, that no other with another body descends from."""
    if all(visible.leaf.body_rev == visible.leaf.rev for visible in shown):
        return shown
    ancestry = Ancestry(
        (visible.leaf.rev, visible.leaf.path, visible.form) for visible in shown if visible.text is not None
    )
    return [
        visible
        for visible in shown
        if visible.leaf.body_rev == visible.leaf.rev or not ancestry.labels(visible.leaf.body_rev) - {visible.form}
    ]


def _bodies_of_the_deleted(
    state: State, winner: VisibleLeaf, leaves: list[VisibleLeaf], every: list[VisibleLeaf]
) -> list[VisibleLeaf]:
    """Lend the highest live leaf a body that only deleted leaves still have; with the others the deleted leaves show.

    An edit of fields lost its body to a put, and the put was deleted by an author who hadn't seen the edit.
    """
    deleted = [visible for visible in leaves if visible.leaf.deleted and visible.text is not None]
    held = unreplaced([visible for visible in deleted if visible.leaf.body_rev != visible.leaf.rev])
    if not held:  # a revision made elsewhere, deleted by one that came without it
        hidden = [
            visible
            for visible in every
            if visible not in leaves and visible.text is not None and not visible.leaf.deleted
        ]
        held = unreplaced(hidden)[:1]
    if not held:
        return [replace(winner, text=NO_BODY)]
    lender, *others = held
    body = {"body_dot": lender.leaf.body_dot, "body_rev": lender.leaf.body_rev}
    return [
        replace(winner, leaf=replace(winner.leaf, **body), text=lender.text, lender=lender.dot),
        *(_revived(state, alternative) for alternative in others),
    ]


def _revived(state: State, one: VisibleLeaf) -> VisibleLeaf:
    """Return a deleted leaf as it shows with its body."""
    leaf = replace(one.leaf, deleted=False)
    return replace(one, leaf=leaf, heads=_unseen(state, leaf))


def _distinct(shown: list[VisibleLeaf]) -> list[VisibleLeaf]:
    seen: set[bytes | None] = set()
    distinct = []
    for one in shown:
        form = one.form if len(shown) > 1 else None
        if form not in seen:
            seen.add(form)
            distinct.append(one)
    return distinct
