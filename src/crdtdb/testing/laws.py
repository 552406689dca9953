"""Laws of field types, checked on one field of any type.

    check_field_type(MyField, Random(7))

Replicas of one field edit, hear of each other in any order, any number of times. Merge must be a join; an edit must be nothing
but its delta; equal states must show equal values; what a type writes it must accept from a peer.
"""

from __future__ import annotations

from itertools import count
from random import Random
from typing import NamedTuple

from crdtdb.canonical_json import JSON
from crdtdb.causality import EMPTY, Dot, DotSet
from crdtdb.crdts import (
    NO_FIELDS,
    NO_JOURNALS,
    Draft,
    Field,
    Fields,
    Journals,
    Signature,
    catalogue,
    join_fields,
    merge_journals,
)
from crdtdb.documents.fields import check_received, read_all, reading

PATH = ("field",)


class FieldState(NamedTuple):
    """One replica's knowledge of one field, outside of any document."""

    fields: Fields
    journals: Journals
    context: DotSet

    def join(self, other: FieldState) -> FieldState:
        """Return what both know."""
        return FieldState(
            join_fields(self.fields, self.context, other.fields, other.context),
            merge_journals(self.journals, other.journals),
            self.context | other.context,
        )

    def value(self) -> JSON:
        """Return what the field shows, None if it isn't there."""
        spot = reading(self.fields, self.journals).at(PATH)
        shown: JSON = read_all(catalogue.value(spot)) if spot.kinds() else None
        return shown


NOTHING_KNOWN = FieldState(NO_FIELDS, NO_JOURNALS, EMPTY)


class FieldReplica:
    """Someone who edits the field."""

    def __init__(self, kind: type[Field], number: int, stamps: count[int]) -> None:
        self.kind, self.actor = kind, bytes([number]) * 16
        self.state, self._counter, self._stamps = NOTHING_KNOWN, 0, stamps

    def edit(self, rng: Random) -> None:
        """Make the field, apply a random operation, bring it to another value, or now and then remove it."""
        self._counter += 1
        dot = Dot(self.actor, self._counter)
        draft = Draft(self.state.fields, self.state.journals, Signature(dot, next(self._stamps)))
        spot = draft.at(PATH)
        if not spot.kinds():
            self.kind.create(spot, self.kind().initial)
        elif rng.random() < 0.08:
            self.kind.reset(spot)
        else:
            operation, arguments = self.kind.sample(rng, self.kind.value(spot))
            catalogue.apply(spot, operation, arguments)
        outcome = draft.outcome()
        self.state = FieldState(outcome.fields, outcome.journals, self.state.context.add(dot))


def delta_of(before: FieldState, after: FieldState) -> FieldState:
    """Return what an edit changed, as little as can be sent: its dot, the dots that it removed, and where these still stand.

    A delta merges under those dots alone, so it removes nothing that didn't travel with it.
    """
    left = {(address, dot) for address, deltas in before.fields.items() for dot in deltas}
    left -= {(address, dot) for address, deltas in after.fields.items() for dot in deltas}
    dots = (after.context - before.context) | DotSet.of(dot for _, dot in left)
    fields = {
        address: {dot: delta for dot, delta in deltas.items() if dot in dots}
        for address, deltas in after.fields.items()
    }
    journals = {
        address: journal._replace(updates={dot: one for dot, one in journal.updates.items() if dot in dots})
        for address, journal in after.journals.items()
    }
    return FieldState({address: deltas for address, deltas in fields.items() if deltas}, journals, dots)


def check_field_type(kind: type[Field], rng: Random, replicas: int = 3, steps: int = 24) -> None:
    """Play a random history and check every law on it. Raises AssertionError that names the law."""
    stamps = count(1)
    people = [FieldReplica(kind, number, stamps) for number in range(1, replicas + 1)]
    states, deltas = [NOTHING_KNOWN], []
    for _ in range(steps):
        person = rng.choice(people)
        if rng.random() < 0.4:
            person.state = person.state.join(rng.choice(people).state)
        else:
            before = person.state
            person.edit(rng)
            _check_edit(kind, before, person.state)
            deltas.append(delta_of(before, person.state))
        states.append(person.state)
    _check_join(rng, states)
    _check_agreement(rng, states, deltas)


def _check_edit(kind: type[Field], before: FieldState, after: FieldState) -> None:
    assert before.join(delta_of(before, after)) == after, f"{kind.kind}: an edit must be nothing but its delta"
    assert before.join(after) == after, f"{kind.kind}: an edit must only add to what was known"
    assert after.join(before) == after, f"{kind.kind}: merging an older state must change nothing"
    check_received(after.fields, after.journals)
    shown = after.value()
    if shown is not None or kind.nothing() is None:
        checked = kind.checked(shown)
        assert checked == shown, f"{kind.kind}: what shows must be a value that the type can hold"
    spot = Draft(after.fields, after.journals, Signature(Dot(b"\xee" * 16, 1), 10**9)).at(PATH)
    if spot.kinds() and len(shown if isinstance(shown, list) else []) < 2:
        kind.assign(spot, kind.checked(shown))
        assert not spot.draft.outcome().signed, f"{kind.kind}: assigning what shows must be no operation"


def _check_join(rng: Random, states: list[FieldState]) -> None:
    for _ in range(8):
        a, b, c = (rng.choice(states) for _ in range(3))
        assert a.join(b) == b.join(a), "merge must be commutative"
        assert a.join(b).join(c) == a.join(b.join(c)), "merge must be associative"
        assert a.join(a) == a, "merge must be idempotent"
        assert a.join(b).join(b) == a.join(b), "hearing something twice must change nothing"


def _check_agreement(rng: Random, states: list[FieldState], deltas: list[FieldState]) -> None:
    ends = []
    for _ in range(3):
        order = [*states, *rng.sample(states, min(4, len(states)))]
        rng.shuffle(order)
        end = NOTHING_KNOWN
        for state in order:
            end = end.join(state)
        ends.append(end)
    assert ends[0] == ends[1] == ends[2], "any order of delivery must give one state"
    assert ends[0].value() == ends[1].value() == ends[2].value(), "equal states must show equal values"
    if not ends[0].journals:  # updates of texts and lists build on each other, so those that come too early are refused
        rng.shuffle(deltas)
    by_deltas = NOTHING_KNOWN
    for delta in [*deltas, *deltas[: len(deltas) // 2]]:
        by_deltas = by_deltas.join(delta)
    assert by_deltas == ends[0], "the deltas of all edits, in any order, must give what their states give"
