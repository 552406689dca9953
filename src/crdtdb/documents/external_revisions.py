"""Import of revisions from CouchDB clients (`new_edits=false`).

Such a revision has a name already, and may come to several nodes. Its plain values at the places of fields are what its author
made of the values in the parent revision: the node applies the difference, signed with the revision, so that it counts once
however many nodes do the same. Where the parent's values aren't known any more, the revision keeps its values as a plain
body: an explicit sibling, which hides nothing. Where the text of one field isn't known any more, its value alone stays plain,
and is a conflict of that field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from msgspec.structs import replace

from crdtdb.canonical_json import JSON, canonical, canonical_merged, canonical_of, document_text, load
from crdtdb.causality import EMPTY, Dot, DotSet
from crdtdb.crdts import NO_FIELDS, Field, GapError, Place, Spot, catalogue, heads
from crdtdb.documents.alternatives import covered_places
from crdtdb.documents.bounds import bodies_bytes, check_bodies, check_body, check_leaves
from crdtdb.documents.fields import Schema, absorb, kind_declared, reading, remove_fields, whole, without_fields
from crdtdb.documents.replacement import clock_of
from crdtdb.documents.revisions import Ancestor, Ancestry, Path, Rev, is_merge
from crdtdb.documents.state import Body, Leaf, State
from crdtdb.documents.view import NO_BODY, VisibleLeaf, view
from crdtdb.documents.write_context import Write
from crdtdb.documents.writes import drafted
from crdtdb.errors import InvalidDocumentError


class Read(NamedTuple):
    """Revision as a client read it: its whole value with fields, and the clock of its author.

    Of the texts and lists at the paths `folded` it isn't known any more what they were.
    """

    value: bytes
    seen: DotSet
    folded: frozenset[Place] = frozenset()


class ExternalRevision(NamedTuple):
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
    foreign: ExternalRevision,
    known: Callable[[Rev], bool],
    read: Callable[[Rev], Read | None],
    stands_for: DotSet = EMPTY,
) -> State:
    """Add an external revision; a revision that is already in the document's tree changes nothing.

    `known` tells whether a revision that is no leaf is known, `read` returns what one was read as. `stands_for` are writes
    that it takes the place of, and that its clock names.
    """
    importing = Import(state, write, known, read, stands_for)
    return importing.state() if importing.take(foreign) else state


class Import:
    """Takes revisions made elsewhere into one document, one after another, each at a cost that doesn't grow with the document.

    That is so without fields: these are read and written for each. What a revision must know of the leaves is indexed and
    kept up to date: their names, the names on their paths, and the highest counter of this actor that they have seen.
    """

    def __init__(
        self,
        state: State,
        write: Write,
        known: Callable[[Rev], bool],
        read: Callable[[Rev], Read | None],
        stands_for: DotSet = EMPTY,
    ) -> None:
        """The arguments are those of `take`."""
        self._before, self._write = state, write
        self._known, self._read, self._stands_for = known, read, stands_for
        self._leaves, self._bodies = dict(state.leaves), dict(state.bodies)
        self._fields, self._journals, self._context = state.fields, state.journals, state.context
        self._dots: dict[Rev, list[Dot]] = {}
        for dot, leaf in state.leaves.items():
            self._dots.setdefault(leaf.rev, []).append(dot)
        self._ancestry = Ancestry((leaf.rev, leaf.path, None) for leaf in state.leaves.values())
        self._highest = [(-leaf.clock.highest(write.actor), dot) for dot, leaf in state.leaves.items()]
        heapify(self._highest)
        self._bytes = bodies_bytes(state)
        self._passed: dict[Dot, Leaf] = {}
        self._passed_bodies: dict[Dot, Body] = {}
        self._shown = view(state).leaves
        self._derived = {visible.rev: visible.leaf.rev for visible in self._shown if visible.rev != visible.leaf.rev}

    @property
    def plain(self) -> bool:
        """Whether more than one revision may be taken: there are no fields, of which each might have seen others."""
        return not (self._fields or self._journals or self._write.schema)

    @property
    def passed(self) -> State:
        """The leaves that were taken and then replaced, with their bodies: they were never seen, but belong to the past."""
        return State(self._passed, self._passed_bodies, NO_FIELDS, self._context)

    def state(self) -> State:
        """Return the state with all that was taken."""
        return State(self._leaves, self._bodies, self._fields, self._context, self._journals)

    def take(self, foreign: ExternalRevision) -> bool:
        """Take a revision; return whether it wasn't known. Raises InvalidDocumentError, TooLargeError."""
        if foreign.rev in self._dots:
            return self._longer_path(foreign)
        if foreign.rev in self._derived or foreign.rev in self._ancestry or self._known(foreign.rev):
            return False
        line = set(foreign.line())
        names = line | {rev for derived, rev in self._derived.items() if derived in line}
        replaced = self._replaced(names)
        plain = foreign.deleted or self.plain
        self._check_bounds(replaced, foreign.text if plain else None)
        state, newest = self.state(), heads(self._fields)
        if state.fields and not (self._shown and all(visible.leaf.deleted for visible in self._shown)):
            self._write.build_on(state)
        dot, text, with_fields = self._write.sign(), foreign.text, False
        seen: DotSet | None = EMPTY
        if not foreign.deleted and text is not None and (state.fields or self._write.schema):
            if self._shown and all(visible.leaf.deleted for visible in self._shown):
                state, seen, text = _with_new_fields(state, self._write, foreign, text)
            else:
                state, seen, text = _with_fields(state, self._write, foreign, text, self._shown, self._read)
            self._fields, self._journals, self._context = state.fields, state.journals, state.context
            with_fields = bool(state.fields)
        if foreign.deleted and not replaced:
            seen = self._seen_by_deleter(foreign)
        from_leaves = [leaf.clock for leaf in replaced.values()] if seen is not None else []
        seen = (seen or EMPTY) | self._stands_for
        unseen = _beyond(newest, [seen, *from_leaves])
        body_of, body_dot = _body_kept(state, replaced, line, text, with_fields), dot
        if body_of is not None:
            body_dot = body_of.body_dot if foreign.deleted else self._keep_body(body_of)
        self._replace(replaced, dot, body_of is None and not foreign.deleted)
        leaf = Leaf(
            foreign.rev,
            _path(foreign, replaced),
            self._clock([seen, *(one.clock for one in replaced.values())], dot, unseen),
            foreign.deleted,
            body_dot,
            body_of.body_rev if body_of is not None else foreign.rev,
            self._write.stamp,
            self._write.creations,
        )
        if body_of is None and text is not None:
            self._bodies[dot] = Body(text, self._write.creations)
            self._bytes += len(text)
        self._add(dot, leaf)
        return True

    def _seen_by_deleter(self, foreign: ExternalRevision) -> DotSet:
        """Return what the author of a deletion had seen, as far as it is known of a revision that is no leaf any more."""
        parent = foreign.parent()
        known = self._read(parent) if parent is not None and self._fields else None
        return known.seen if known is not None else EMPTY

    def _longer_path(self, foreign: ExternalRevision) -> bool:
        """Let a leaf that is here learn of ancestors that it came without: those that are leaves are none any more."""
        twins = {dot: self._leaves[dot] for dot in self._dots[foreign.rev]}
        line = foreign.line()
        mine = max(twins.values(), key=lambda leaf: len(leaf.path.all()))
        if not line or len(mine.path.all()) >= len(line):
            return False
        if not all(step.digest == rev.digest for step, rev in zip(mine.path.all(), line, strict=False)):
            return False
        replaced = self._replaced({*line, foreign.rev})
        dot = self._write.sign()
        self._replace(replaced, dot, False)
        leaf = replace(
            mine,
            path=_path(foreign, {}),
            clock=self._clock(
                [one.clock for one in replaced.values()], dot, _beyond(heads(self._fields), [mine.clock])
            ),
            stamp=self._write.stamp,
            creations=self._write.creations,
        )
        self._add(dot, leaf)
        return True

    def _replaced(self, names: set[Rev]) -> dict[Dot, Leaf]:
        """Return the leaves of these names, in the order in which they stand in the document."""
        dots = [dot for rev in names for dot in self._dots.get(rev, ())]
        if len(dots) > 1:
            chosen = set(dots)
            return {dot: leaf for dot, leaf in self._leaves.items() if dot in chosen}
        return {dot: self._leaves[dot] for dot in dots}

    def _check_bounds(self, replaced: Mapping[Dot, Leaf], text: bytes | None) -> None:
        """Raise TooLargeError for too much, but for what stands for writes that were accepted before."""
        if self._stands_for:
            return
        doc_id, leaves = self._write.doc_id, len(self._leaves)
        check_leaves(doc_id, leaves, leaves - len(replaced) + 1)
        if text is not None:
            gone = {leaf.body_dot for leaf in replaced.values() if not leaf.deleted} & self._bodies.keys()
            check_body(doc_id, len(text))
            check_bodies(
                doc_id, self._bytes, self._bytes + len(text) - sum(len(self._bodies[dot].text) for dot in gone)
            )

    def _replace(self, replaced: Mapping[Dot, Leaf], dot: Dot, with_bodies: bool) -> None:
        """Take leaves out, `with_bodies` those of the live ones, too; `dot` is that of the leaf to come."""
        for held, leaf in replaced.items():
            if held not in self._before.leaves:
                self._passed[held] = leaf
                if leaf.body_dot in self._bodies:
                    self._passed_bodies[leaf.body_dot] = self._bodies[leaf.body_dot]
            del self._leaves[held]
            self._dots.pop(leaf.rev, None)
        for leaf in replaced.values():
            if with_bodies and not leaf.deleted and leaf.body_dot in self._bodies:
                self._bytes -= len(self._bodies.pop(leaf.body_dot).text)
        self._context = self._context.add(dot)

    def _keep_body(self, leaf: Leaf) -> Dot:
        state, dot = self._write.keep_body(self.state(), leaf)
        self._bodies, self._context = dict(state.bodies), state.context
        if dot != leaf.body_dot:
            self._bytes += len(self._bodies[dot].text)
        return dot

    def _clock(self, replaced: list[DotSet], dot: Dot, unseen: DotSet) -> DotSet:
        """Return the clock of a new leaf, of which those that stay are siblings. `unseen` are edits that its value lacks."""
        while self._highest and self._highest[0][1] not in self._leaves:
            heappop(self._highest)
        kept = [self._leaves[self._highest[0][1]].clock] if self._highest else []
        return clock_of(replaced, kept, dot, self._context) - unseen

    def _add(self, dot: Dot, leaf: Leaf) -> None:
        self._leaves[dot] = leaf
        self._dots.setdefault(leaf.rev, []).append(dot)
        self._ancestry.add(leaf.rev, leaf.path, None)
        heappush(self._highest, (-leaf.clock.highest(self._write.actor), dot))


def _beyond(edits: Iterable[Dot], clocks: Sequence[DotSet]) -> DotSet:
    """Return the edits that are in none of these clocks."""
    return DotSet.of(sorted(dot for dot in edits if not any(dot in clock for clock in clocks)))


def _path(foreign: ExternalRevision, leaves: Mapping[Dot, Leaf]) -> Path:
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
        form = canonical_of(text)
        for leaf in state.leaves.values():
            body = state.bodies.get(leaf.body_dot)
            if leaf.body_rev in line and not leaf.deleted and body is not None and canonical_of(body.text) == form:
                return leaf
    return None


def _with_new_fields(state: State, write: Write, foreign: ExternalRevision, text: bytes) -> tuple[State, DotSet, bytes]:
    """Remove the fields of a deleted document, and make those of a revision that lives: as a `put` on one does.

    A deleted document may have been collected elsewhere, with all its fields, so a revival of it must not continue them.
    """
    seen = state.fields_seen()
    draft = write.draft(state, Dot(write.actor, write.counter), str(foreign.rev), seen)
    draft.begin_life(str(foreign.parent() or foreign.rev))
    remove_fields(draft)
    rest = absorb(draft, text, schema=write.schema)
    after, _ = drafted(state, write, draft)
    return after, seen, rest


def _with_fields(
    state: State,
    write: Write,
    foreign: ExternalRevision,
    text: bytes,
    leaves: Sequence[VisibleLeaf],
    read: Callable[[Rev], Read | None],
) -> tuple[State, DotSet | None, bytes]:
    """Apply what the revision does to fields; return what its author had seen, and the text of its body.

    Where what was read isn't known any more, the body is all of it. None was seen if it shows here with another value.
    """
    if is_merge(foreign.rev.digest):
        return _merged_elsewhere(state, write, foreign, text)
    parent = foreign.parent()
    current = next((visible for visible in leaves if visible.rev == parent and not visible.leaf.deleted), None)
    known: Read | None = Read(NO_BODY, EMPTY)
    if current is not None:
        draft = reading(state.fields, state.journals, write.open_sequence)
        known = Read(canonical_merged(whole(current.text or NO_BODY, draft)), current.leaf.clock | state.fields_seen())
    elif parent is not None:
        known = read(parent)
    if known is None:
        draft = reading(state.fields, state.journals, write.open_sequence)
        return state, EMPTY if canonical(whole(text, draft)) == canonical(load(text)) else None, text
    draft = write.draft(state, Dot(write.actor, write.counter), str(foreign.rev), known.seen, parent)
    if current is not None:
        draft.covered = covered_places(draft, current.text or NO_BODY)
    rest = document_text(_differ(draft.at(()), load(known.value), load(text), write.schema, known.folded))
    after, _ = drafted(state, write, draft)
    return after, known.seen, rest


def _merged_elsewhere(
    state: State, write: Write, foreign: ExternalRevision, text: bytes
) -> tuple[State, DotSet | None, bytes]:
    """Leave the fields alone: a node made the revision of edits that come by themselves, and a client brought it here.

    If it shows just what the fields show here, it has seen them. If not, it has seen none, whatever it descends from: that node
    may have known none. Its name goes on to mean the value that it came with, and the next read publishes what shows.
    """
    draft, line = reading(state.fields, state.journals, write.open_sequence), set(foreign.line())
    value = canonical(load(text))
    bodies = [
        state.bodies[leaf.body_dot].text
        for leaf in state.leaves.values()
        if leaf.body_rev in line and leaf.body_dot in state.bodies
    ]
    same = next((body for body in bodies if canonical(whole(body, draft)) == value), None)
    rest = same if same is not None else without_fields(draft, text)
    equal = same is not None or canonical(whole(rest, draft)) == value
    return state, state.fields_seen() if equal else None, rest


def _differ(
    spot: Spot, before: JSON, after: dict[str, JSON], schema: Schema, folded: frozenset[Place]
) -> dict[str, JSON]:
    """Apply the difference between two whole values to the fields, and return the plain part of the second."""
    had = before if isinstance(before, dict) else {}
    plain: dict[str, JSON] = {}
    for child in list(spot.children()):
        if child.path[-1] not in after and child.path[-1] in had:
            catalogue.remove_shown(child)
    for key, value in after.items():
        child = Spot(spot.draft, (*spot.path, key))
        covered = child.draft.is_covered(child.path)
        kind = None if covered else catalogue.shown_kind(child) or kind_declared(schema, child.path)
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
