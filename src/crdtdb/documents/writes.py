"""The writes: each takes a state and returns the state after it.

| write | leaves | bodies | fields |
|---|---|---|---|
| `put` on leaf L | replaces L's group by a child of L with its own body | removes the group's, adds its own | the difference |
| `edit` of fields on L | replaces L's group by a child of L with L's body | untouched | deltas |
| `delete` of L | replaces L's group by a deleted child | untouched | untouched |
| `resolve` | replaces the groups that it saw by a child of the highest | removes theirs, adds its own | those it mentions |
| `put` on a deleted document | replaces the winning deleted leaf by its child | replaces all | removes what it saw |

A put takes a whole document. What stands in it at the place of a field isn't a body but what the author wants of the field: the
difference to what was read becomes operations. If the rest is as it was, the put is an edit of fields.

L's *group* is what the view had merged into L: `crdtdb.documents.groups`. Under every other rev that a write replaces, the
same commit puts a deleted leaf whose rev follows from its parent alone: clients that know only revision trees learn that the
branch is closed, and two nodes that do the same write the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Items
from itertools import count

from msgspec import Struct
from msgspec.structs import replace

from crdtdb.canonical_json import canonical_of, load
from crdtdb.causality import EMPTY, Actor, Dot, DotSet, Session
from crdtdb.crdts import Address, Creations, Draft, GapError, OpenSequence, Place, Sequence, Signature, open_at_hand
from crdtdb.documents.alternatives import (
    Alternative,
    alternatives,
    covered_places,
    decide,
    drop,
    find_alternative,
    value_at,
    with_plain_of,
)
from crdtdb.documents.creations import body_again, shared
from crdtdb.documents.fields import (
    NO_SCHEMA,
    NOTHING_GIVEN,
    Given,
    Plain,
    Schema,
    absorb,
    absorb_mentioned,
    absorb_since,
    adopt,
    check_size,
    join_texts,
    reading,
    remove_fields,
)
from crdtdb.documents.groups import Sight, group, is_revived, seen_among, twins
from crdtdb.documents.revisions import NO_PATH, Ancestry, Rev, child_digest, closing_digest, is_merge
from crdtdb.documents.state import Body, Leaf, State
from crdtdb.documents.view import NO_BODY, DocumentView, VisibleLeaf, view
from crdtdb.errors import ConflictError, NotFoundError

Signed = list[tuple[Address, Dot, bytes]]
"""The deltas of a write, by which its revision is told from others."""


NO_SESSION = Session(0, b"")


class Write:
    """What one write is signed with: who, when, and in which collection. Mints its dots.

    `schema` says which types the collection's fields have, `open_sequence` opens the texts and lists that are edited.
    `creations` are all that are known, until the write takes those of what it builds on.
    """

    __slots__ = (
        "actor",
        "counter",
        "creations",
        "derived",
        "doc_id",
        "dot",
        "open_sequence",
        "opened",
        "schema",
        "session",
        "stamp",
        "sweep",
    )

    def __init__(
        self,
        doc_id: str,
        actor: Actor,
        counter: int,
        stamp: int,
        creations: Creations,
        sweep: int = 0,
        schema: Schema = NO_SCHEMA,
        open_sequence: OpenSequence = open_at_hand,
        session: Session = NO_SESSION,
    ) -> None:
        """Sign for `actor`, whose last dot so far has this `counter`, in a session of its lineage."""
        self.doc_id, self.actor, self.counter = doc_id, actor, counter
        self.stamp, self.creations, self.sweep = stamp, creations, sweep
        self.schema, self.open_sequence, self.session = schema, open_sequence, session
        self.dot: Dot | None = None
        """The dot of the leaf that the write made."""
        self.opened: dict[Address, Sequence] = {}
        """The texts and lists that the write opened, as it leaves them."""
        self.derived: set[Address] = set()
        """Those of them that are signed by another than the actor, so nobody can go on with them."""

    def sign(self) -> Dot:
        """Return the next dot of the actor, which is to be that of the leaf that the write makes."""
        self.dot = self.mint()
        return self.dot

    @property
    def writer(self) -> bytes:
        """What the updates of texts and lists are signed with: no two histories of one actor may share it."""
        return self.session.tag or self.actor

    def mint(self) -> Dot:
        """Return the next dot of the actor."""
        self.counter += 1
        return Dot(self.actor, self.counter)

    def build_on(self, state: State) -> None:
        """Take the creations of a document that the write keeps parts of, if all its parts carry the same."""
        self.creations = shared(state, self.creations) or self.creations

    def keep_body(self, state: State, leaf: Leaf) -> tuple[State, Dot]:
        """Return a state with the body of a leaf as one that lives as long as the write, and its dot."""
        bodies, dot = body_again(state.bodies, leaf.body_dot, self.creations, self.mint)
        if dot == leaf.body_dot:
            return state, dot
        return replace(state, bodies=bodies, context=state.context.add(dot)), dot

    def draft(
        self,
        state: State,
        dot: Dot,
        origin: str | None = None,
        seen: DotSet | None = None,
        made_from: Rev | None = None,
    ) -> Draft:
        """Return the fields of a state, to be changed under a dot; `origin` and `seen` as a `Signature` has them.

        `made_from` is a revision that tells this document from earlier ones of its name, which may have been collected here and
        not elsewhere; None for a document that is new.
        """
        root = "" if not self.sweep else str(made_from) if made_from is not None else f"after {self.sweep}"
        signature = Signature(dot, self.stamp, self.creations, origin, seen, *self.session, self.doc_id, root)
        return Draft(state.fields, state.journals, signature, self.open_sequence)


class Put(Struct, frozen=True, gc=False):
    """A put that is to be done: what `put` is given beside the state and the write."""

    rev: Rev | None
    text: bytes
    given: Given = NOTHING_GIVEN
    exact: bool = False

    @property
    def may_be_first(self) -> bool:
        """Whether it may make a document that has nothing but a body."""
        return self.rev is None and not self.given

    def __call__(self, state: State, write: Write) -> State:
        return put(state, write, self.rev, self.text, self.given, exact=self.exact)


def put(
    state: State, write: Write, rev: Rev | None, text: bytes, given: Given = NOTHING_GIVEN, *, exact: bool = False
) -> State:
    """Replace leaf `rev` by a child with this body, or make the document if it is new or deleted.

    `given` are values of field types that stand in the body. An `exact` put replaces the leaf alone, and not those with an
    equal body: to clients that know trees of revisions these are branches of their own. Raises ConflictError if `rev` isn't
    a leaf, or is missing while there is a live one; InvalidDocumentError for a value that the field at its place can't hold.
    """
    if not state.leaves:
        if rev is not None:
            raise ConflictError(write.doc_id, str(rev), ())
        return _first(state, write, text, given)
    shown = view(state)
    target, other = _named_or_alternative(state, shown, write, rev)
    if state.fields and not shown.deleted:
        write.build_on(state)
    if not target.leaf.deleted:
        state = _keeping(state, write, shown, [target])
    replaced = twins(state, target) if target.leaf.deleted or exact else group(state, shown, target)
    adopted, _ = _adopted(state, write, target)
    dot, signed, removed = write.sign(), Signed(), EMPTY
    if state.fields or given or write.schema:
        draft = write.draft(adopted, dot, made_from=target.leaf.body_rev)
        if shown.deleted:
            draft.begin_life(str(target.leaf.rev))
            remove_fields(draft)
            removed = DotSet.of(dot for deltas in state.fields.values() for dot in deltas)
        else:
            _cover(draft, write, shown, target, text, [*given, *([other.path] if other is not None else [])])
        # Whoever opens one deleted branch of a living document again hasn't read the fields that the others show.
        take_in = absorb_mentioned if target.leaf.deleted and not shown.deleted else absorb
        if other is not None:
            other.show_in(draft)
        text = take_in(draft, text, given, write.schema)
        if other is not None:
            text = with_plain_of(text, target.text or NO_BODY, other.path)
        join_texts(draft)
        state, signed = drafted(adopted, write, draft)
        if signed and not target.leaf.deleted and canonical_of(text) == target.form:
            return _replace(state, write, target, replaced, dot=dot, deltas=signed)
    if target.leaf.deleted:
        # Putting on one deleted branch of a living document opens that branch again and nothing else.
        bodies: Mapping[Dot, Body] = {} if shown.deleted else state.bodies
    else:
        bodies = _without_bodies(state, [target], replaced)
    fresh = State(state.leaves, bodies, state.fields, state.context, state.journals)
    return _replace(fresh, write, target, replaced, text=text, dot=dot, deltas=signed, removed=removed)


def delete(state: State, write: Write, rev: Rev | None, text: bytes | None = None, *, exact: bool = False) -> State:
    """Replace leaf `rev` by a deleted child. The body is kept while a node might need it; `text` is one of the tombstone.

    `exact` as in `put`. Raises NotFoundError if there is no live leaf, ConflictError if `rev` isn't one of them.
    """
    shown = view(state)
    if shown.deleted:
        raise NotFoundError(
            f"document {write.doc_id!r} is {'deleted' if state.leaves else 'missing'}", deleted=bool(state.leaves)
        )
    target, other = _named_or_alternative(state, shown, write, rev)
    if other is not None:
        return edit(state, write, lambda draft, _: drop(draft, other), target.rev, exact=exact)
    if target.leaf.deleted:
        raise ConflictError(write.doc_id, str(rev), tuple(str(one.rev) for one in shown.siblings))
    write.build_on(state)
    if not is_revived(state, target):
        state = _keeping(state, write, shown, [target])
        replaced = twins(state, target) if exact else group(state, shown, target)
        return _replace(state, write, target, replaced, text=text, deleted=True)
    dot = write.sign()
    spent = replace(target, leaf=replace(target.leaf, body_dot=dot))  # or the tombstone would lend the body again
    return _replace(state, write, spent, twins(state, target), text=text, deleted=True, dot=dot)


def resolve(
    state: State,
    write: Write,
    text: bytes,
    given: Given = NOTHING_GIVEN,
    *,
    rev: Rev | None = None,
    seen: Sight | None = None,
) -> State:
    """Replace the siblings that were `seen` by one child of the highest of them with this body; the others stay beside it.

    `rev` means one of them alone; without either, all that are there are seen. What has replaced a body that was seen wasn't
    seen itself, so it stays; edits of fields alone replace none. Fields stay as they are unless the body has another value
    for them than was read. Where two things are kept at one path, and were seen, the body says which stays. Raises
    NotFoundError if there is no live leaf, ConflictError if `rev` is none of the siblings, if none that was seen is there any
    more, or if it isn't known what was read of a field that has changed; UndecidedFieldError.
    """
    shown = view(state)
    if shown.deleted:
        raise NotFoundError(
            f"document {write.doc_id!r} is {'deleted' if state.leaves else 'missing'}: there is nothing to resolve",
            deleted=bool(state.leaves),
        )
    if rev is not None and _named_or_alternative(state, shown, write, rev)[1] is not None:
        return put(state, write, rev, text, given)
    targets = _seen(shown, write, rev, seen)
    target = targets[0]
    if state.fields:
        write.build_on(state)
    state = _keeping(state, write, shown, targets)
    replaced = group(state, shown, *targets)
    bodies = {} if len(targets) == len(shown.siblings) else _without_bodies(state, targets, replaced)
    adopted, _ = _adopted(state, write, target)
    dot, signed = write.sign(), Signed()
    if state.fields or given or write.schema:
        draft = write.draft(adopted, dot, made_from=target.leaf.body_rev)
        bodies_shown = [one.text or NO_BODY for one in shown.siblings]
        if len(targets) < len(shown.siblings):
            hidden = alternatives(draft, bodies_shown[0], bodies_shown[1:]) if seen is not None else []
            meant = [*given, *(one.path for one in hidden if seen is not None and one.rev in seen.revs)]
            _cover(draft, write, shown, target, text, meant)
        if rev is None:
            decide(draft, bodies_shown, text, given, write.doc_id, seen.revs if seen is not None else None)
        if seen is None or all(one.rev in seen.revs for one in targets):
            text = absorb_mentioned(draft, text, given, write.schema)
        else:
            text = _absorb_since(draft, write, text, given, seen)
        state, signed = drafted(adopted, write, draft)
    return _replace(replace(state, bodies=bodies), write, target, replaced, text=text, dot=dot, deltas=signed)


def _cover(
    draft: Draft, write: Write, shown: DocumentView, target: VisibleLeaf, text: bytes, meant: Iterable[Place]
) -> None:
    """Leave the fields alone over which the body of the leaf that is written has a plain value: its author saw that.

    At the places that are `meant` the field is: by a value of its type, or by its own name; and where a value is changed for
    which the schema has a field that no other sibling shows.
    """
    body = target.text or NO_BODY
    places = covered_places(draft, body)
    if not places:
        return
    meant, declared, before, after = set(meant), write.schema.keys(), load(body), load(text)
    beside = [covered_places(draft, one.text or NO_BODY) for one in shown.siblings if one is not target]

    def is_left(place: Place) -> bool:
        if any(path[: len(place)] == place for path in meant):
            return False
        return (
            not any(path[: len(place)] == place for path in declared)
            or any(place not in others for others in beside)
            or value_at(before, place) == value_at(after, place)
        )

    draft.covered = frozenset(filter(is_left, places))


def _seen(shown: DocumentView, write: Write, rev: Rev | None, seen: Sight | None) -> list[VisibleLeaf]:
    """Return the siblings that a resolution replaces, the highest first."""
    if rev is not None:
        target = _named(shown, write, rev)
        if target.leaf.deleted:
            raise ConflictError(write.doc_id, str(rev), tuple(str(one.rev) for one in shown.siblings))
        return [target]
    if seen is None:
        return list(shown.siblings)
    found = seen_among(shown, seen.revs)
    if not found:
        named = ", ".join(str(one) for one in seen.revs) or None
        raise ConflictError(write.doc_id, named, tuple(str(one.rev) for one in shown.siblings))
    return found


def _absorb_since(draft: Draft, write: Write, text: bytes, given: Given, seen: Sight) -> bytes:
    try:
        return absorb_since(draft, text, given, write.schema, seen.read())
    except GapError as error:
        named = ", ".join(str(one) for one in seen.revs)
        raise ConflictError(write.doc_id, named, (f"another ({error})",)) from error


def edit(
    state: State,
    write: Write,
    change: Callable[[Draft, Plain], None],
    rev: Rev | None = None,
    *,
    exact: bool = False,
) -> State:
    """Replace the winner, or leaf `rev`, by a child with what `change` makes of the fields and of the body.

    An edit that changes nothing is no write. `exact` as in `put`. Raises NotFoundError if there is no live leaf,
    ConflictError if `rev` isn't one, and what `change` raises.
    """
    shown = view(state)
    if shown.deleted:
        raise NotFoundError(
            f"document {write.doc_id!r} is {'deleted' if state.leaves else 'missing'}: there is nothing to edit",
            deleted=bool(state.leaves),
        )
    target = shown.siblings[0] if rev is None else _named(shown, write, rev)
    if target.leaf.deleted:
        raise ConflictError(write.doc_id, str(rev), tuple(str(one.rev) for one in shown.siblings))
    if state.fields:
        write.build_on(state)
    kept = _keeping(state, write, shown, [target])
    replaced = twins(kept, target) if exact else group(kept, shown, target)
    adopted, text = _adopted(kept, write, target)
    dot = write.sign()
    draft, body = write.draft(adopted, dot, made_from=target.leaf.body_rev), Plain(text)
    change(draft, body)
    if draft.touched() or body.text() != (target.text or NO_BODY):
        join_texts(draft)
    after, signed = drafted(adopted, write, draft)
    text = body.text()
    if text == (target.text or NO_BODY):
        if not signed:
            return state
        return _replace(after, write, target, replaced, dot=dot, deltas=signed, native=True)
    bodies = _without_bodies(after, [target], replaced)
    return _replace(replace(after, bodies=bodies), write, target, replaced, text=text, dot=dot, deltas=signed)


def drafted(state: State, write: Write, draft: Draft) -> tuple[State, Signed]:
    """Return a state with what a draft made of its fields, and the deltas of that."""
    fields, journals, signed, opened = draft.outcome()
    check_size(state.fields, fields)
    write.opened.update(opened)
    if draft.signature.origin is not None:
        write.derived.update(opened)
    return replace(state, fields=fields, journals=journals), signed


def _adopted(state: State, write: Write, target: VisibleLeaf) -> tuple[State, bytes]:
    """Make fields of what stands plain in a body at places for which the schema has a type.

    It is signed with the rev of that body, so two nodes that do the same make it once; under a dot of its own before that of
    the write. Returns the state and the text of the body without it.
    """
    text = target.text or NO_BODY
    if not write.schema or target.leaf.deleted:
        return state, text
    dot = Dot(write.actor, write.counter + 1)
    draft = write.draft(state, dot, origin=str(target.leaf.body_rev), made_from=target.leaf.body_rev)
    rest = adopt(draft, text, write.schema)
    if rest == text:
        return state, text
    write.mint()
    adopted, _ = drafted(state, write, draft)
    return replace(adopted, context=adopted.context.add(dot)), rest


def _named_or_alternative(
    state: State, shown: DocumentView, write: Write, rev: Rev | None
) -> tuple[VisibleLeaf, Alternative | None]:
    """Return the leaf that a write names; or the winner, and what is kept beside one of its fields, if it names that."""
    if rev is not None and state.fields and shown.siblings and shown.find(rev) is None:
        winner = shown.siblings[0]
        found = find_alternative(reading(state.fields, state.journals), winner.text or NO_BODY, rev)
        if found is not None:
            return winner, found
    return _named(shown, write, rev), None


def _named(shown: DocumentView, write: Write, rev: Rev | None) -> VisibleLeaf:
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


def _first(state: State, write: Write, text: bytes, given: Given) -> State:
    dot, signed = write.sign(), Signed()
    if given or write.schema:
        draft = write.draft(state, dot)
        if "text" in write.schema.values() or "list" in write.schema.values():
            draft.part()  # those that come to it later belong to this life
        text = absorb(draft, text, given, write.schema)
        state, signed = drafted(state, write, draft)
    context = state.context.add(dot)
    rev = Rev(1, child_digest(None, deleted=False, body=canonical_of(text), sweep=write.sweep, deltas=signed))
    leaf = Leaf(rev, NO_PATH, clock_of((), (), dot, context), False, dot, rev, write.stamp, write.creations)
    bodies = {**state.bodies, dot: Body(text, write.creations)}
    return State({dot: leaf}, bodies, state.fields, context, state.journals)


def _replace(
    state: State,
    write: Write,
    target: VisibleLeaf,
    replaced: Mapping[Dot, Leaf],
    *,
    text: bytes | None = None,
    deleted: bool = False,
    dot: Dot | None = None,
    deltas: Iterable[tuple[Address, Dot, bytes]] = (),
    native: bool = False,
    removed: DotSet = EMPTY,
) -> State:
    """Put a child of `target` in the place of `replaced`, and close the branches that it doesn't continue.

    `removed` are dots of fields that it removes: its clock names them, since the leaves that did may have been collected.
    """
    dot = dot or write.sign()
    context = state.context.add(dot)
    parent = target.leaf
    form = canonical_of(text) if text is not None else None
    rev = Rev(parent.rev.next_generation, child_digest(target.rev, deleted=deleted, body=form, deltas=deltas))
    kept = {held: leaf for held, leaf in state.leaves.items() if held not in replaced}
    own_body = text is not None
    body_dot = dot
    if not own_body:
        state, body_dot = write.keep_body(state, parent) if not deleted else (state, parent.body_dot)
        context |= state.context
    child = Leaf(
        rev,
        parent.path.extended(parent.rev.digest, target.dot),
        clock_of(
            [*(leaf.clock for leaf in replaced.values()), removed], [leaf.clock for leaf in kept.values()], dot, context
        ),
        deleted,
        body_dot,
        rev if own_body else parent.body_rev,
        write.stamp,
        write.creations,
        native,
    )
    bodies = {**state.bodies, dot: Body(text, write.creations)} if text is not None else state.bodies
    kept[dot] = child
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
            dot,  # it lends no body to anybody: the successor has one
            other.body_rev,
            write.stamp,
            write.creations,
        )
    return replace(state, leaves=leaves, context=context)


def _to_close(target: VisibleLeaf | None, replaced: Mapping[Dot, Leaf], state: State) -> list[tuple[Dot, Leaf]]:
    """Return one leaf for each live rev that was replaced and that nothing else replaced, nor the target, continues.

    Edits of fields aren't branches that clients were told of, and would leave one behind for each that met another. So they
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


def _keeping(state: State, write: Write, shown: DocumentView, targets: Items[VisibleLeaf]) -> State:
    """Give a live leaf to each sibling that shows with the body of a deleted one, and isn't among `targets`.

    They show only while no live leaf has a body, and the write that comes is to leave them as they are.
    """
    chosen = {one.leaf.rev for one in targets}
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


def _without_bodies(state: State, targets: Items[VisibleLeaf], replaced: Mapping[Dot, Leaf]) -> dict[Dot, Body]:
    """Return the bodies but for those that the targets show, and those of the live leaves that are replaced."""
    gone = {one.leaf.body_dot for one in targets}
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
