"""Renames the writes of a session whose dots another store uses otherwise.

Every row that names a dot of the session, or of one that followed on it, gets the new name; contents, revisions and feeds
stay as they are. Every store with these writes renames them to the same dots, so renaming mints no dot, and two renamed copies
merge into one. All changed rows are one batch: a crash leaves the store before or after it.

The counters below the session count as held under the new actor, which never wrote under them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from crdtdb.backends import Backend
from crdtdb.causality import Dot, DotSet, Fork
from crdtdb.crdts import (
    NO_JOURNALS,
    REMNANT,
    Address,
    Creations,
    Delta,
    Fields,
    Journal,
    Journals,
    Snapshot,
    Strand,
    Update,
    Vector,
    join_vectors,
    joined_vector,
    renamed_baseline,
)
from crdtdb.documents import Ancestor, Body, Leaf, State, merge, totals
from crdtdb.documents.local import LOCAL, read_local
from crdtdb.documents.revisions import Path
from crdtdb.store.layout import keys
from crdtdb.store.layout.batch import Rows
from crdtdb.store.layout.journals import JournalRows
from crdtdb.store.layout.records import StoreTables, decode_past, decode_record, encode_past, encode_record
from crdtdb.store.root import StoreRoot, is_counted, lineage_row, root_rows


def rename(backend: Backend, root: StoreRoot, tables: StoreTables, fork: Fork) -> tuple[Rows, StoreRoot]:
    """Return the rows that change, None for those that go, and what is held then. Reads the whole store."""
    return _Renaming(backend, root, tables, fork).all()


class _Renaming:
    def __init__(self, backend: Backend, root: StoreRoot, tables: StoreTables, fork: Fork) -> None:
        self._backend, self._root, self._tables, self._fork = backend, root, tables, fork
        self._rows: Rows = {}
        self._names = _Names(fork, root.clock)
        self._collections = dict(root.collections)

    def all(self) -> tuple[Rows, StoreRoot]:
        """Return the rows that change, and what is held then."""
        for key, value in self._backend.scan(*keys.rest(b"d")):
            self._document(key, value)
        for key, value in self._backend.scan(*keys.rest(b"h")):
            self._past(key, value)
        self._waiting()
        return self._rows, self._held_then()

    def _held_then(self) -> StoreRoot:
        root, names, actor, tag = self._root, self._names, self._fork.actor, self._fork.session.tag
        lineages = root.lineages.without(self._fork)
        after = replace(
            root,
            clock=names.covered(root.clock),
            names={name: names.creations(creations) for name, creations in root.names.items()},
            marks=names.creations(root.marks),
            residue=names.covered(root.residue),
            collections=self._collections,
            stable=names.covered(root.stable),
            lineages=lineages,
            heard=names.covered(root.heard),
        )
        self._log(root.catalogue.dots(), after.catalogue.dots(), b"")
        self._rows.update(root_rows(root, after, self._tables))
        for key, dots in ((keys.clock, after.clock), (keys.stable, after.stable), (keys.heard, after.heard)):
            if not dots.ranges(actor):
                self._rows[key(self._tables.actor_number(actor))] = None
        for one in (actor, tag):
            self._rows[keys.lineage(self._tables.actor_number(one))] = lineage_row(lineages.of(one))
        return after

    def _log(self, before: Iterable[Dot], after: Iterable[Dot], place: bytes) -> None:
        number, then = self._tables.actor_number, set(after)
        had = set(before)
        self._rows.update((keys.log(number(dot.actor), dot.counter), None) for dot in had - then)
        self._rows.update((keys.log(number(dot.actor), dot.counter), place) for dot in then - had)

    def _waiting(self) -> None:
        number, first = self._tables.known_actor_number(self._fork.actor), self._fork.session.first
        if number is None:
            return
        start, stop = keys.waiting(number, first), keys.after(keys.waiting(number, 0)[:5])
        to = self._tables.actor_number(self._fork.session.tag)
        for key, place in self._backend.scan(start, stop):
            self._rows[key] = None
            self._rows[keys.waiting(to, int.from_bytes(key[5:], "big"))] = place

    def _document(self, key: bytes, value: bytes) -> None:
        record = decode_record(value, self._root.clock, self._tables, self._backend.get, key)
        before, raw = record.stored, key[5:]
        state = self._without_foreseen(before) if raw.startswith(LOCAL.encode()) else before
        after, residue = self._names.state(state), self._names.covered(record.residue)
        if after is before and residue is record.residue:
            return
        if after.journals:
            journals = {
                address: self._journal(int.from_bytes(key[1:5], "big"), raw, address, journal)
                for address, journal in after.journals.items()
            }
            after = replace(after, journals=journals)
        if after.leaves or after.bodies or after.fields:
            self._rows[key] = encode_record(record.seq, after, residue, self._tables)
        else:
            self._rows[key] = None
        self._log(before.dots(), after.dots(), key[1:])
        self._count(int.from_bytes(key[1:5], "big"), raw, before, after)

    def _count(self, number: int, raw: bytes, before: State, after: State) -> None:
        """Count a document again: what it shows may have other names."""
        name = next((name for name, one in self._collections.items() if one.number == number), None)
        if name is not None and is_counted(raw.decode()):
            collection = self._collections[name]
            self._collections[name] = collection.changed(raw, totals(before), after, collection.seq)

    def _without_foreseen(self, state: State) -> State:
        """Leave out the local records that speak of what is renamed: a checkpoint that is gone makes a client look again."""
        gone = {
            leaf.body_dot
            for leaf in state.leaves.values()
            if (body := state.bodies.get(leaf.body_dot)) is not None and self._foresees(leaf, body)
        }
        if not gone:
            return state
        leaves = {dot: leaf for dot, leaf in state.leaves.items() if leaf.body_dot not in gone}
        return replace(state, leaves=leaves, bodies={dot: one for dot, one in state.bodies.items() if dot not in gone})

    def _foresees(self, leaf: Leaf, body: Body) -> bool:
        local = read_local(leaf.rev, body.text)
        return local is not None and self._names.concern(local.clock)

    def _journal(self, number: int, raw: bytes, address: Address, journal: Journal) -> Journal:
        actor, first = self._fork.actor, self._fork.session.first
        if journal.vector.get(actor, 0) < first and not journal.strands:
            return journal
        rows = JournalRows.of(self._backend, self._tables, number, raw, address)
        here = rows.all()
        below: dict[Creations, int] = {}
        for dot, update in here.updates.items():
            renamed, creations = self._fork.renamed(dot), self._creations_of(update)
            if dot.actor == actor and dot.counter < first:
                held = creations or journal.creations
                below[held] = max(below.get(held, 0), dot.counter)
            if renamed != dot or creations != update.creations:
                starts = renamed != dot and update.after < first  # it is the first of the new actor
                self._rows[rows.key_of(dot)] = None
                self._rows[rows.key_of(renamed)] = rows.row_of(
                    Update(0 if starts else update.after, update.content, creations)
                )
        for snapshot in here.snapshots:
            creations, folded = self._creations_of(snapshot), snapshot.vector.get(actor, 0)
            held = creations or journal.creations
            below[held] = (below.get(held, 0) or first - 1) if folded >= first else max(below.get(held, 0), folded)
            self._rows.update(dict.fromkeys(rows.snapshot_row(snapshot)))
            vector = self._vector(snapshot.vector, below[held])
            self._rows.update(rows.snapshot_row(Snapshot(vector, snapshot.content, creations)))
        strands = {
            held: Strand(self._vector(one.vector, below.get(held, 0)), self._vector(one.copied, first - 1))
            for held, one in journal.strands.items()
        }
        if strands:
            return journal._replace(vector=joined_vector(strand.vector for strand in strands.values()), strands=strands)
        return journal._replace(vector=self._vector(journal.vector, below.get(journal.creations, 0)))

    def _creations_of(self, one: Update | Snapshot) -> Creations | None:
        return self._names.creations(one.creations) if one.creations is not None else None

    def _vector(self, vector: Vector, below: int) -> Vector:
        """Return a journal's vector, with what the actor had written in it before the session up to `below`."""
        actor, (first, tag) = self._fork.actor, self._fork.session
        highest = vector.get(actor, 0)
        if highest < first:
            return vector
        rest = {one: counter for one, counter in vector.items() if one != actor}
        return join_vectors({**rest, **({actor: below} if below else {})}, {tag: highest})

    def _past(self, key: bytes, value: bytes) -> None:
        length = int.from_bytes(key[5:7], "big")
        history = key[: 7 + length]
        past = decode_past(key, value, history, self._tables)
        if past.text is not None and history[7:].startswith(LOCAL.encode()):
            local = read_local(past.rev, past.text)
            if local is not None and self._names.concern(local.clock):
                self._rows[key] = None
            return
        parent = self._names.ancestor(past.parent) if past.parent is not None else None
        dot = self._fork.renamed(past.dot) if past.dot is not None else None
        seen = self._fork.renamed_dots(past.seen) if past.seen is not None else None
        if (parent, dot, seen) != (past.parent, past.dot, past.seen):
            self._rows[key] = encode_past(
                parent, self._tables, past.deleted, past.stamp, dot, past.text, seen, past.sequences
            )


def _identical(one: Mapping[Dot, object], other: Mapping[Dot, object]) -> bool:
    """Whether nothing was renamed. Leaves that differ in the dots of their ancestors alone are equal, and not identical."""
    return all(dot in other and value is other[dot] for dot, value in one.items())


class _Names:
    """The names of what stands in a state, before and after. What nothing is renamed in comes back as it is."""

    def __init__(self, fork: Fork, clock: DotSet) -> None:
        self._fork = fork
        self._branch = clock & fork.branch
        self._rest = clock - self._branch
        self._twice = clock.highest(fork.session.tag) > 0
        """Whether some of these writes are here under their new names already."""

    def concern(self, dots: DotSet) -> bool:
        """Whether a set has a dot that is renamed."""
        return dots.highest(self._fork.actor) >= self._fork.session.first

    def covered(self, dots: DotSet) -> DotSet:
        """Return a renamed clock, with the unused counters of the new actor below the session."""
        if not self.concern(dots):
            return dots
        first, tag = self._fork.session
        renamed = self._fork.renamed_dots(dots)
        return renamed | DotSet({tag: ((1, first - 1),)}) if first > 1 else renamed

    def creations(self, creations: Creations) -> Creations:
        """Return a set of creations."""
        if not any(dot.actor == self._fork.actor for dot in creations):
            return creations
        return frozenset(map(self._fork.renamed, creations))

    def ancestor(self, step: Ancestor) -> Ancestor:
        """Return a step of a path."""
        return step._replace(dot=self._fork.renamed(step.dot)) if step.dot is not None else step

    def state(self, state: State) -> State:
        """Return a document's state. Its journals stay as they are."""
        renamed = State(
            {self._fork.renamed(dot): self._leaf(leaf) for dot, leaf in state.leaves.items()},
            {self._fork.renamed(dot): self._body(body) for dot, body in state.bodies.items()},
            self._fields(state.fields),
            self.covered(state.context),
            self._journals(state.journals),
        )
        if self._twice and any(self._fork.renamed(dot) != dot for dot in state.dots()):
            return self._both(state, renamed)
        same = (
            _identical(renamed.leaves, state.leaves)
            and _identical(renamed.bodies, state.bodies)
            and (renamed.fields, renamed.journals) == (state.fields, state.journals)
            and not any(
                journal.vector.get(self._fork.actor, 0) >= self._fork.session.first
                for journal in state.journals.values()
            )
        )
        return state if same else renamed

    def _both(self, state: State, renamed: State) -> State:
        """Return what is left where a write stands under its old and its new name, and one of them was replaced."""
        tag = self._fork.session.tag
        old = {self._fork.renamed(dot) for dot in state.dots() if self._fork.renamed(dot) != dot}
        new = {dot for dot in state.dots() if dot.actor == tag}
        branch = DotSet({tag: self._branch.ranges(self._fork.actor)})

        def part(wanted: set[Dot], context: DotSet) -> State:
            return State(
                {dot: leaf for dot, leaf in renamed.leaves.items() if dot in wanted},
                {dot: body for dot, body in renamed.bodies.items() if dot in wanted},
                {
                    address: {dot: delta for dot, delta in deltas.items() if dot in wanted}
                    for address, deltas in renamed.fields.items()
                },
                context,
            )

        others = set(renamed.dots()) - old - new
        merged = merge(part(old, branch), part(new | others, self._rest))
        fields = {address: deltas for address, deltas in merged.fields.items() if deltas}
        return replace(merged, fields=fields, journals=renamed.journals)

    def _leaf(self, leaf: Leaf) -> Leaf:
        parent = leaf.path.parent
        renamed = self.ancestor(parent) if parent is not None else None
        path = leaf.path
        if parent is not None and renamed is not None and renamed != parent:
            whole = path.complete and len(path.known) == 1
            path = Path([renamed], None if whole else lambda: [self.ancestor(step) for step in leaf.path.all()[1:]])
        clock, body_dot = self._fork.renamed_dots(leaf.clock), self._fork.renamed(leaf.body_dot)
        creations = self.creations(leaf.creations)
        if path is leaf.path and (clock, body_dot, creations) == (leaf.clock, leaf.body_dot, leaf.creations):
            return leaf
        return replace(leaf, path=path, clock=clock, body_dot=body_dot, creations=creations)

    def _body(self, body: Body) -> Body:
        creations = self.creations(body.creations)
        return body if creations == body.creations else replace(body, creations=creations)

    def _fields(self, fields: Fields) -> Fields:
        return {
            address: {
                self._fork.renamed(dot): Delta(self._content(address, delta.content), self.creations(delta.creations))
                for dot, delta in deltas.items()
            }
            for address, deltas in fields.items()
        }

    def _content(self, address: Address, content: bytes) -> bytes:
        baseline = address.kind == "counter" and address.part == REMNANT
        return renamed_baseline(content, self._fork.renamed) if baseline else content

    def _journals(self, journals: Journals) -> Journals:
        if not journals:
            return NO_JOURNALS
        return {
            address: journal._replace(
                creations=self.creations(journal.creations),
                strands={self.creations(held): strand for held, strand in journal.strands.items()},
            )
            for address, journal in journals.items()
        }
