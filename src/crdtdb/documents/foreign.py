"""Revisions made elsewhere: by a client that knows trees of revisions and nothing of fields (CouchDB's `new_edits=false`).

Such a revision has a name already, and may come to several nodes. Its plain values at the places of fields are what its author
made of the values in the parent revision: the node applies the difference, signed with the revision, so that it counts once
however many nodes do the same. Where the parent's values aren't known any more, the revision keeps its values as a plain
body: an explicit sibling, which hides nothing. Where the text of one field isn't known any more, its value alone stays plain,
and is a conflict of that field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from crdtdb.causality import EMPTY, Dot, DotSet
from crdtdb.crdts import Field, GapError, Place, Spot, catalogue
from crdtdb.documents.fields import Schema, absorb, kind_declared, reading, remove_fields, whole
from crdtdb.documents.revisions import Ancestor, Path, Rev
from crdtdb.documents.state import Body, Leaf, State
from crdtdb.documents.view import NO_BODY, Shown, view
from crdtdb.documents.writes import Write, clock_of, drafted
from crdtdb.errors import InvalidDocumentError
from crdtdb.jsontext import JSON, canonical, load


class Read(NamedTuple):
    """A revision as it was read: its whole value, fields included, and what its author had seen.

    Of the texts and lists at the paths `folded` it isn't known any more what they were.
    """

    value: bytes
    seen: DotSet
    folded: frozenset[Place] = frozenset()


class Foreign(NamedTuple):
    """A revision made elsewhere. `ancestors` are the digests before its own, newest first. `text` is its whole value.

    A deletion may have a value too; it has none if that is empty.
    """

    rev: Rev
    ancestors: Sequence[str]
    text: bytes | None
    deleted: bool

    def parent(self) -> Rev | None:
        """Return the revision that it was made from."""
        return Rev(self.rev.generation - 1, self.ancestors[0]) if self.ancestors else None

    def line(self) -> list[Rev]:
        """Return all its ancestors, newest first."""
        return [Rev(self.rev.generation - 1 - n, digest) for n, digest in enumerate(self.ancestors)]


def take(
    state: State,
    write: Write,
    foreign: Foreign,
    known: Callable[[Rev], bool],
    read: Callable[[Rev], Read | None],
    stands_for: DotSet = EMPTY,
) -> State:
    """Add a revision made elsewhere; one that is known anywhere in the document's tree changes nothing.

    `known` tells whether a revision that is no leaf is known, `read` returns what one was read as. `stands_for` are writes
    that it takes the place of, and that its clock names.
    """
    shown = view(state)
    twins = {dot: leaf for dot, leaf in state.leaves.items() if leaf.rev == foreign.rev}
    if twins:
        return _longer_path(state, write, foreign, twins)
    if known(foreign.rev) or any(foreign.rev == one.rev for one in shown.leaves):
        return state
    if any(leaf.path.leads_to(foreign.rev, leaf.rev.generation) for leaf in state.leaves.values()):
        return state
    line = set(foreign.line())
    names = {one.leaf.rev for one in shown.leaves if one.rev in line}
    replaced = {dot: leaf for dot, leaf in state.leaves.items() if leaf.rev in line or leaf.rev in names}
    dot, seen, text, with_fields = write.sign(), EMPTY, foreign.text, False
    if not foreign.deleted and text is not None and (state.fields or write.schema):
        if shown.deleted and shown.leaves:
            state, seen, text = _with_new_fields(state, write, foreign, text)
        else:
            state, seen, text = _with_fields(state, write, foreign, text, shown.leaves, read)
        with_fields = bool(state.fields)
    context = state.context.add(dot)
    kept = {held: leaf for held, leaf in state.leaves.items() if held not in replaced}
    body_of = _body_kept(state, replaced, line, text, with_fields)
    leaf = Leaf(
        foreign.rev,
        _path(foreign, replaced),
        clock_of(
            [seen, stands_for, *(one.clock for one in replaced.values())],
            [one.clock for one in kept.values()],
            dot,
            context,
        ),
        foreign.deleted,
        body_of.body_dot if body_of is not None else dot,
        body_of.body_rev if body_of is not None else foreign.rev,
        write.stamp,
        write.creations,
    )
    bodies = dict(state.bodies)
    if body_of is None and not foreign.deleted:
        for one in replaced.values():
            if not one.deleted:
                bodies.pop(one.body_dot, None)
    if body_of is None and text is not None:
        bodies[dot] = Body(text, write.creations)
    return replace(state, leaves={**kept, dot: leaf}, bodies=bodies, context=context)


def _longer_path(state: State, write: Write, foreign: Foreign, twins: Mapping[Dot, Leaf]) -> State:
    """Let a leaf that is here learn of ancestors that it came without: those that are leaves are none any more."""
    line = foreign.line()
    mine = max(twins.values(), key=lambda leaf: len(leaf.path.all()))
    if not line or len(mine.path.all()) >= len(line):
        return state
    if not all(step.digest == rev.digest for step, rev in zip(mine.path.all(), line, strict=False)):
        return state
    replaced = {dot: leaf for dot, leaf in state.leaves.items() if leaf.rev in line or dot in twins}
    kept = {dot: leaf for dot, leaf in state.leaves.items() if dot not in replaced}
    dot = write.sign()
    context = state.context.add(dot)
    leaf = replace(
        mine,
        path=_path(foreign, {}),
        clock=clock_of([one.clock for one in replaced.values()], [one.clock for one in kept.values()], dot, context),
        stamp=write.stamp,
        creations=write.creations,
    )
    return replace(state, leaves={**kept, dot: leaf}, context=context)


def _path(foreign: Foreign, leaves: Mapping[Dot, Leaf]) -> Path:
    """Return the path of the revision: from a leaf on that is here, as that has it, so that its writes are named."""
    line = foreign.line()
    for dot, leaf in sorted(leaves.items(), key=lambda held: held[1].rev, reverse=True):
        if leaf.rev in line and (line[-1] == leaf.rev or leaf.path.leads_to(line[-1], leaf.rev.generation)):
            at = line.index(leaf.rev)
            steps = [Ancestor(digest, None) for digest in foreign.ancestors[:at]]
            return Path([*steps, Ancestor(leaf.rev.digest, dot)], leaf.path)
    return Path([Ancestor(digest, None) for digest in foreign.ancestors])


def _body_kept(
    state: State, replaced: Mapping[Dot, Leaf], line: set[Rev], text: bytes | None, with_fields: bool
) -> Leaf | None:
    """Return a leaf whose body the revision goes on with: it deletes, or has changed fields alone."""
    if text is None:
        return next(iter(sorted(replaced.values(), key=lambda leaf: (leaf.deleted, leaf.rev))), None)
    if with_fields:
        for leaf in state.leaves.values():
            body = state.bodies.get(leaf.body_dot)
            if leaf.body_rev in line and not leaf.deleted and body is not None and body.text == text:
                return leaf
    return None


def _with_new_fields(state: State, write: Write, foreign: Foreign, text: bytes) -> tuple[State, DotSet, bytes]:
    """Remove the fields of a deleted document, and make those of a revision that lives: as a `put` on one does.

    A deleted document may have been collected elsewhere, with all its fields. Whoever lets it live mustn't go on with them.
    """
    seen = state.fields_seen()
    draft = write.draft(state, Dot(write.actor, write.counter), str(foreign.rev), seen)
    remove_fields(draft)
    rest = absorb(draft, text, schema=write.schema)
    after, _ = drafted(state, write, draft)
    return after, seen, rest


def _with_fields(
    state: State,
    write: Write,
    foreign: Foreign,
    text: bytes,
    leaves: Sequence[Shown],
    read: Callable[[Rev], Read | None],
) -> tuple[State, DotSet, bytes]:
    """Apply what the revision does to fields; return what its author had seen, and the text of its body.

    Where what was read isn't known any more, the body is all of it.
    """
    parent = foreign.parent()
    current = next((one for one in leaves if one.rev == parent and not one.leaf.deleted), None)
    known: Read | None = Read(NO_BODY, EMPTY)
    if current is not None:
        draft = reading(state.fields, state.journals, write.open_sequence)
        known = Read(canonical(whole(current.text or NO_BODY, draft)), current.leaf.clock | state.fields_seen())
    elif parent is not None:
        known = read(parent)
    if known is None:
        return state, EMPTY, text
    draft = write.draft(state, Dot(write.actor, write.counter), str(foreign.rev), known.seen)
    rest = canonical(_differ(draft.at(()), load(known.value), load(text), write.schema, known.folded))
    after, _ = drafted(state, write, draft)
    return after, known.seen, rest


def _differ(
    spot: Spot, before: JSON, after: dict[str, JSON], schema: Schema, folded: frozenset[Place]
) -> dict[str, JSON]:
    """Apply the difference between two whole values to the fields, and return what of the second is plain."""
    had = before if isinstance(before, dict) else {}
    plain: dict[str, JSON] = {}
    for child in list(spot.children()):
        if child.path[-1] not in after and child.path[-1] in had:
            catalogue.remove(child)
    for key, value in after.items():
        child = Spot(spot.draft, (*spot.path, key))
        kind = catalogue.shown_kind(child) or kind_declared(schema, child.path)
        if kind is not None:
            if child.path in folded or not _differ_field(catalogue.field_type(kind), child, had, key, value):
                plain[key] = value
        elif isinstance(value, dict) and (any(child.children()) or _declares_below(child, schema)):
            plain[key] = _differ(child, had.get(key), value, schema, folded)
        else:
            plain[key] = value
    return plain


def _differ_field(field: type[Field], child: Spot, had: dict[str, JSON], key: str, value: JSON) -> bool:
    """Apply the difference to one field; return whether that could be done."""
    try:
        after = field.checked(value)
        if key in had and field.kind in child.kinds():
            field.differ(child, field.checked(had[key]), after)
        else:
            field.create(child, after)
    except (GapError, InvalidDocumentError):  # a text that was folded since, a value that the type can't hold
        return False
    return True


def _declares_below(spot: Spot, schema: Schema) -> bool:
    return any(path[: len(spot.path)] == spot.path for path in schema)
