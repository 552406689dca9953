"""Writes: each takes a document state and returns the next one.

| write | leaves | bodies | fields |
|---|---|---|---|
| `put` on leaf L | replaces L's group by a child of L with its own body | removes the group's, adds its own | the difference |
| `edit` of fields on L | replaces L's group by a child of L with L's body | untouched | deltas |
| `delete` of L | replaces L's group by a deleted child | untouched | untouched |
| `resolve` | replaces the groups that it saw by a child of the highest | removes theirs, adds its own | those it mentions |
| `put` on a deleted document | replaces the winning deleted leaf by its child | replaces all | removes what it saw |

A put takes a whole document. A value at the place of a field isn't part of the body but the new value of the field: its
difference to the value that the author read becomes operations. If the rest is unchanged, the put is an edit of fields.

L's *group* is what the view had merged into L: `crdtdb.documents.groups`. Under every other rev that a write replaces, the
same commit puts a deleted leaf whose rev follows from its parent alone: clients that know only revision trees learn that the
branch is closed, and two nodes that do the same write the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from crdtdb.canonical_json import canonical_of, load
from crdtdb.causality import EMPTY, Dot, DotSet
from crdtdb.crdts import Address, Draft, GapError, Place
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
from crdtdb.documents.fields import (
    NOTHING_GIVEN,
    Plain,
    absorb,
    absorb_mentioned,
    absorb_since,
    adopt,
    check_size,
    join_texts,
    reading,
    remove_fields,
)
from crdtdb.documents.given import Given
from crdtdb.documents.groups import Sight, group, is_revived, seen_among, twins
from crdtdb.documents.replacement import Child, clock_of, keeping, replace_leaves, without_bodies
from crdtdb.documents.revisions import NO_PATH, Rev, child_digest
from crdtdb.documents.state import Body, Leaf, State
from crdtdb.documents.view import NO_BODY, DocumentView, VisibleLeaf, view
from crdtdb.documents.write_context import Write
from crdtdb.errors import ConflictError, NotFoundError

Signed = list[tuple[Address, Dot, bytes]]
"""The deltas of a write, which distinguish its revision from others."""


class Put(Struct, frozen=True, gc=False):
    """Arguments of `put` other than the state and the write."""

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
        state = keeping(state, write, shown, [target])
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
        # The author of a put on one deleted branch of a live document hasn't read the fields that the others show.
        take_in = absorb_mentioned if target.leaf.deleted and not shown.deleted else absorb
        if other is not None:
            other.show_in(draft)
        text = take_in(draft, text, given, write.schema)
        if other is not None:
            text = with_plain_of(text, target.text or NO_BODY, other.path)
        join_texts(draft)
        state, signed = drafted(adopted, write, draft)
        if signed and not target.leaf.deleted and canonical_of(text) == target.form:
            return replace_leaves(state, write, target, replaced, Child(dot=dot, deltas=signed))
    if target.leaf.deleted:
        # Putting on one deleted branch of a living document opens that branch again and nothing else.
        bodies: Mapping[Dot, Body] = {} if shown.deleted else state.bodies
    else:
        bodies = without_bodies(state, [target], replaced)
    fresh = State(state.leaves, bodies, state.fields, state.context, state.journals)
    return replace_leaves(fresh, write, target, replaced, Child(text=text, dot=dot, deltas=signed, removed=removed))


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
        raise ConflictError(write.doc_id, str(rev), tuple(str(sibling.rev) for sibling in shown.siblings))
    write.build_on(state)
    if not is_revived(state, target):
        state = keeping(state, write, shown, [target])
        replaced = twins(state, target) if exact else group(state, shown, target)
        return replace_leaves(state, write, target, replaced, Child(text=text, deleted=True))
    dot = write.sign()
    spent = replace(target, leaf=replace(target.leaf, body_dot=dot))  # or the tombstone would lend the body again
    return replace_leaves(state, write, spent, twins(state, target), Child(text=text, deleted=True, dot=dot))


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
    state = keeping(state, write, shown, targets)
    replaced = group(state, shown, *targets)
    bodies = {} if len(targets) == len(shown.siblings) else without_bodies(state, targets, replaced)
    adopted, _ = _adopted(state, write, target)
    dot, signed = write.sign(), Signed()
    if state.fields or given or write.schema:
        draft = write.draft(adopted, dot, made_from=target.leaf.body_rev)
        bodies_shown = [sibling.text or NO_BODY for sibling in shown.siblings]
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
    return replace_leaves(
        replace(state, bodies=bodies), write, target, replaced, Child(text=text, dot=dot, deltas=signed)
    )


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
    beside = [covered_places(draft, sibling.text or NO_BODY) for sibling in shown.siblings if sibling is not target]

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
            raise ConflictError(write.doc_id, str(rev), tuple(str(sibling.rev) for sibling in shown.siblings))
        return [target]
    if seen is None:
        return list(shown.siblings)
    found = seen_among(shown, seen.revs)
    if not found:
        named = ", ".join(str(rev) for rev in seen.revs) or None
        raise ConflictError(write.doc_id, named, tuple(str(sibling.rev) for sibling in shown.siblings))
    return found


def _absorb_since(draft: Draft, write: Write, text: bytes, given: Given, seen: Sight) -> bytes:
    try:
        return absorb_since(draft, text, given, write.schema, seen.read())
    except GapError as error:
        named = ", ".join(str(rev) for rev in seen.revs)
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
        raise ConflictError(write.doc_id, str(rev), tuple(str(sibling.rev) for sibling in shown.siblings))
    if state.fields:
        write.build_on(state)
    kept = keeping(state, write, shown, [target])
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
        return replace_leaves(after, write, target, replaced, Child(dot=dot, deltas=signed, native=True))
    bodies = without_bodies(after, [target], replaced)
    return replace_leaves(
        replace(after, bodies=bodies), write, target, replaced, Child(text=text, dot=dot, deltas=signed)
    )


def drafted(state: State, write: Write, draft: Draft) -> tuple[State, Signed]:
    """Return a state with the fields of a draft, and the draft's deltas."""
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
    """Return the leaf that a write names; or the winner and one of its alternatives, if it names that."""
    if rev is not None and state.fields and shown.siblings and shown.find(rev) is None:
        winner = shown.siblings[0]
        found = find_alternative(reading(state.fields, state.journals), winner.text or NO_BODY, rev)
        if found is not None:
            return winner, found
    return _named(shown, write, rev), None


def _named(shown: DocumentView, write: Write, rev: Rev | None) -> VisibleLeaf:
    """Return the leaf that a write names, or the leaf that it may replace without a name."""
    if rev is None:
        winner = shown.winner
        if winner is not None and shown.deleted:
            return winner
        raise ConflictError(write.doc_id, None, tuple(str(sibling.rev) for sibling in shown.siblings))
    target = shown.find(rev)
    if target is None:
        raise ConflictError(write.doc_id, str(rev), tuple(str(sibling.rev) for sibling in shown.siblings))
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
