"""Rows of replaced revisions: their names, parents and values.

A revision gets its row when it stops being a leaf, or when a descendant of it arrives from elsewhere. One that stays a leaf
gets one too when fields have changed since it was written: its name goes on to mean what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from crdtdb.causality import EMPTY, Dot, DotSet
from crdtdb.crdts import Address, heads
from crdtdb.documents import Ancestor, Leaf, Rev, State, view
from crdtdb.documents.alternatives import covered_places
from crdtdb.documents.fields import reading, sequences_shown, value_without_sequences
from crdtdb.documents.local import locals_in, read_local
from crdtdb.documents.purging import is_mark, purged_by
from crdtdb.documents.revisions import NO_PATH
from crdtdb.errors import CrdtdbError
from crdtdb.store.layout import keys
from crdtdb.store.layout.batch import Rows
from crdtdb.store.layout.records import Past, StoreTables, decode_past, encode_past
from crdtdb.wire.delta_batch import Closed

Scan = Callable[[bytes, bytes], Iterator[tuple[bytes, bytes]]]


class MissingAncestorError(CrdtdbError):
    """A received path continues a revision that isn't here. Request the whole path."""


class HistoryRows(NamedTuple):
    """The replaced revisions of one document, as a transaction sees them."""

    beginning: bytes
    tables: StoreTables
    get: Callable[[bytes], bytes | None]

    def past(self, rev: Rev) -> Past | None:
        """Return the row of a revision, None if there is none."""
        key = keys.revision(self.beginning, *rev)
        value = self.get(key)
        return decode_past(key, value, self.beginning, self.tables) if value is not None else None

    def known(self, rev: Rev) -> bool:
        """Whether there is a row."""
        return self.get(keys.revision(self.beginning, *rev)) is not None

    def kept(self, before: State, after: State) -> Rows:
        """Return the history rows of a write: those of replaced leaves, and of ancestors that arrived with it."""
        rows: Rows = {}
        for dot, leaf in before.leaves.items():
            if dot not in after.leaves or _goes_stale(leaf, before, after):
                rows.update(self._value_row(before, dot, leaf, dot in after.leaves))
        for dot, leaf in after.leaves.items():
            if leaf.path is not NO_PATH and dot not in before.leaves:
                self._keep_path(leaf, after.leaves.values(), rows)
        for dot, body in after.bodies.items():
            if dot not in before.bodies and is_mark(body):
                rows.update((keys.revision(self.beginning, *rev), None) for rev in purged_by(body))
        return rows

    def kept_hidden(self, before: State, after: State) -> Rows:
        """Return the rows of leaves that don't show after a write. To be asked once the rows that `kept` returned are there:
        without them a path would seem to end where they are missing.
        """
        rows: Rows = {}
        for dot, leaf in _hidden(before, after):
            rows.update(self._value_row(before if dot in before.leaves else after, dot, leaf, True))
        return rows

    def kept_in_passing(self, passed: State, before: State, after: State) -> Rows:
        """Return the rows of leaves that came and were replaced within one write, as if each had been written by itself."""
        rows: Rows = {}
        if not passed.leaves:
            return rows
        leaves = {**before.leaves, **passed.leaves, **after.leaves}
        for dot, leaf in sorted(leaves.items()):
            if dot in before.leaves:
                continue
            if leaf.path is not NO_PATH:
                self._keep_path(leaf, leaves.values(), rows)
            if dot in passed.leaves:
                rows.update(self._value_row(passed, dot, leaf, False))
        return rows

    def _value_row(self, before: State, dot: Dot, leaf: Leaf, stays: bool) -> Rows:
        """Return the row of a leaf that is replaced, or stays but no longer shows what clients have read of it."""
        body = before.bodies.get(leaf.body_dot)
        own = leaf.body_rev == leaf.rev
        text = None if body is None or (leaf.deleted and not own) else body.text
        # Without fields the body is the whole value, so an existing row needs no check.
        past = self.past(leaf.rev) if text is None or before.fields or stays else None
        if past is not None and past.text is not None and (text is None or past.seen is not None):
            return {}
        value = _value_of(before, leaf, text)
        row = encode_past(leaf.path.parent, self.tables, leaf.deleted, leaf.stamp, dot, *value)
        return {keys.revision(self.beginning, *leaf.rev): row}

    def filled(self, rev: Rev, text: bytes) -> Rows:
        """Return the row of a revision that is known by its name, with its value in it; none if there is one already."""
        past = self.past(rev)
        if past is None or past.text is not None or past.deleted:
            return {}
        key = keys.revision(self.beginning, *rev)
        return {key: encode_past(past.parent, self.tables, False, past.stamp, past.dot, text, EMPTY)}

    def named(self, closed: Iterable[Closed], state: State) -> Rows:
        """Return rows for revisions of which only the name is known, so that a repeated import of them has no effect."""
        leaves = {leaf.rev for leaf in state.leaves.values()}
        return {
            keys.revision(self.beginning, *one.rev): encode_past(
                Ancestor(one.parent, None) if one.parent is not None else None, self.tables
            )
            for one in closed
            if one.rev not in leaves and not self.known(one.rev)
        }

    def _keep_path(self, leaf: Leaf, leaves: Collection[Leaf], rows: Rows) -> None:
        """Write the rows of a path as far as none are there; `leaves` are those that may have no row yet."""
        known = leaf.path.known
        for back, step in enumerate(known):
            rev = Rev(leaf.rev.generation - 1 - back, step.digest)
            key = keys.revision(self.beginning, *rev)
            if key in rows:
                return
            value = self.get(key)
            if value is not None and (
                back + 1 == len(known) or decode_past(key, value, self.beginning, self.tables).parent
            ):
                return
            if back + 1 < len(known):
                parent: Ancestor | None = known[back + 1]
            elif leaf.path.complete:
                parent = None
            else:
                # What follows is expected to be here; a leaf that stays, hidden, has no row of its own yet.
                twin = next((other for other in leaves if other.rev == rev), None)
                if twin is None:
                    raise MissingAncestorError(f"the ancestors of {rev} aren't here")
                parent = twin.path.parent
            if value is None:
                rows[key] = encode_past(parent, self.tables, dot=step.dot)
            else:  # it came without its ancestors, and this path has them
                past = decode_past(key, value, self.beginning, self.tables)
                rows[key] = encode_past(
                    parent, self.tables, past.deleted, past.stamp, past.dot, past.text, past.seen, past.sequences
                )


def _hidden(before: State, after: State) -> list[tuple[Dot, Leaf]]:
    """Return the leaves that stay after a write, or came with it, and that the view hides.

    Two stores wrote one revision, and one of them wrote on: the leaf of the other stays, below its descendant.
    """
    if len(after.leaves) == 1 or after.leaves.keys() <= before.leaves.keys():
        return []
    shown = {visible.leaf.rev for visible in view(after).leaves}
    return [(dot, leaf) for dot, leaf in after.leaves.items() if leaf.rev not in shown]


def _goes_stale(leaf: Leaf, before: State, after: State) -> bool:
    """Whether a leaf that stays showed what its author left, and shows more edits of fields after a write, or no body."""
    if leaf.deleted:
        return False
    old, new = heads(before.fields), heads(after.fields)
    loses_body = leaf.body_dot in before.bodies and leaf.body_dot not in after.bodies
    return (loses_body or old.keys() != new.keys()) and all(dot in leaf.clock for dot in old)


def _value_of(before: State, leaf: Leaf, text: bytes | None) -> tuple[bytes | None, DotSet | None, list[Address]]:
    """Return the value of a revision that is being replaced, what its author had seen, and its texts and lists.

    Of these the journals keep what they were: reading them here would cost each keystroke as much as they are long. If the
    fields have changed since the revision was written, its body is all that is known.
    """
    if not before.fields or leaf.deleted:
        return text, EMPTY, []
    if text is None or not all(head in leaf.clock for head in heads(before.fields)):
        return text, None, []
    draft = reading(before.fields, before.journals)
    covered = covered_places(draft, text)
    value = value_without_sequences(text, draft)
    draft.covered = covered
    return value, leaf.clock | before.fields_seen(), sequences_shown(draft)


def superseded(history: HistoryRows, scan: Scan, clock: DotSet, after: State) -> Rows:
    """Return the removal of older versions of a local record: the newest that is served stays, and those after it."""
    rows: Rows = {}
    is_found = any(local.clock <= clock for local in locals_in(after))
    for key, value in sorted(scan(*keys.rest(history.beginning)), reverse=True):
        if is_found:
            rows[key] = None
        else:
            past = decode_past(key, value, history.beginning, history.tables)
            local = read_local(past.rev, past.text) if past.text is not None else None
            is_found = local is not None and local.clock <= clock
    return rows
