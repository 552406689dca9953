"""One suite of laws over the whole catalogue of field types, and hostile bytes against each of them."""

from __future__ import annotations

import contextlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtdb.causality import EMPTY, Dot
from crdtdb.crdts import Address, Delta, Draft, Field, Flag, Journal, Signature, Snapshot, Spot, Update, catalogue
from crdtdb.crdts.sequences import Sequence
from crdtdb.documents.fields import check_received
from crdtdb.errors import CrdtdbError, EncodingError, InvalidDocumentError, InvalidInputError
from crdtdb.testing.laws import NOTHING_KNOWN, PATH, FieldReplica, check_field_type
from crdtdb.testing.strategies import json_values
from tests.examples import examples
from tests.inside import types_of

TYPES = list(catalogue.catalogue().values())
each_type = pytest.mark.parametrize("kind", TYPES, ids=[kind.kind for kind in TYPES])


@each_type
@examples(60)
@given(seed=st.integers(0, 2**32))
def test_laws(kind: type[Field], seed: int) -> None:
    check_field_type(kind, Random(seed))


class NotAJoin(Flag):
    """A flag that is wrong: what it shows is who came last in memory."""

    @classmethod
    def value(cls, spot: Spot) -> bool:
        return [delta.content for delta in spot.dots("flag").values()][-1] == b"1"


def test_the_laws_find_a_type_that_breaks_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(types_of(catalogue), "flag", NotAJoin)
    with pytest.raises(AssertionError, match="equal states must show equal values"):
        for seed in range(200):
            check_field_type(NotAJoin, Random(seed))


@each_type
@examples(150)
@given(data=st.data())
def test_a_value_is_taken_or_refused_by_a_named_error(kind: type[Field], data: st.DataObject) -> None:
    value = data.draw(
        json_values() | st.sampled_from([float("nan"), object(), {1: 2}, "\ud800", 2**70, (1, 2), {1, 2}])
    )
    try:
        field = kind(value)
    except InvalidInputError:
        return
    draft = Draft({}, {}, Signature(Dot(b"a" * 16, 1), 1))
    with contextlib.suppress(InvalidDocumentError):  # a multi-value register shows lists that can't be written back
        field.create(draft.at(PATH), field.initial)
        shown = kind.value(draft.at(PATH))
        assert kind.checked(shown) == shown


@each_type
@examples(150)
@given(data=st.data())
def test_any_arguments_are_taken_or_refused_and_nothing_is_half_done(kind: type[Field], data: st.DataObject) -> None:
    replica = FieldReplica(kind, 1, iter(range(1, 1_000)))  # type: ignore[arg-type]
    rng = Random(data.draw(st.integers(0, 1_000)))
    for _ in range(4):
        replica.edit(rng)
    draft = Draft(replica.state.fields, replica.state.journals, Signature(Dot(b"z" * 16, 1), 5_000))
    operation = data.draw(st.sampled_from([*kind.operations, "nonsense"]))
    names = st.sampled_from(["by", "at", "count", "text", "values", "value", "element", "key", "other"])
    arguments = data.draw(st.dictionaries(names, json_values(4) | st.integers(-3, 9), max_size=3))
    before = replica.state
    try:
        catalogue.apply(draft.at(PATH), operation, arguments, kind.kind)
        draft.outcome()
    except CrdtdbError:
        pass
    assert replica.state == before


contents = st.binary(max_size=60) | json_values(6).map(lambda value: str(value).encode("utf-8", "replace"))


@each_type
@examples(300)
@given(part=st.sampled_from(["", "-", "=1", '="x"', "00ff00ff00ff00ff"]) | st.text(max_size=12), content=contents)
def test_random_bytes_as_a_delta_are_refused_or_readable(kind: type[Field], part: str, content: bytes) -> None:
    """What passes the check must be readable: no crash later, wherever the value is looked at."""
    fields = {Address(PATH, kind.kind, part): {Dot(b"a" * 16, 1): Delta(content, frozenset())}}
    try:
        check_received(fields, {})
    except EncodingError:
        return
    draft = Draft(fields, {}, Signature(Dot(b"b" * 16, 1), 1))
    spot = draft.at(PATH)
    if spot.kinds():
        kind.value(spot)
        kind.reset(spot)
        draft.outcome()


@pytest.mark.parametrize("kind", ["text", "list"])
@examples(400)
@given(data=st.data())
def test_random_bytes_as_updates_and_snapshots_are_refused_or_readable(kind: str, data: st.DataObject) -> None:
    good = update_of(kind)
    at, byte = data.draw(st.integers(0, len(good) - 1)), data.draw(st.binary(min_size=1, max_size=1))
    mutated = st.just(good[:at] + byte + good[at + 1 :])
    content = data.draw(st.binary(max_size=120) | mutated | st.integers(0, len(good)).map(lambda at: good[:at]))
    dot = Dot(b"a" * 16, 1)
    address = Address(PATH, kind, "00" * 8)
    as_snapshot = data.draw(st.booleans())
    journal = (
        Journal({dot.actor: 1}, frozenset(), {}, (Snapshot({dot.actor: 1}, content),))
        if as_snapshot
        else Journal({dot.actor: 1}, frozenset(), {dot: Update(0, content)})
    )
    try:
        check_received({}, {address: journal})
    except EncodingError:
        return
    opened = Sequence(kind, journal.contents(), b"reader")  # type: ignore[arg-type]
    opened.value()
    opened.snapshot()


def update_of(kind: str) -> bytes:
    sequence = Sequence(kind, (), b"writer")  # type: ignore[arg-type]
    with sequence.editing() as step:
        step((0, 0, "hello wörld" if kind == "text" else [1, "x", {"a": [2.5]}]))
        step((1, 2, "" if kind == "text" else []))
    made = sequence.taken()
    assert made is not None
    return made


def test_a_kind_that_this_version_does_not_know_is_left_alone() -> None:
    fields = {Address(PATH, "hologram"): {Dot(b"a" * 16, 1): Delta(b"\xff\x00", frozenset())}}
    check_received(fields, {})
    assert NOTHING_KNOWN._replace(fields=fields, context=EMPTY).fields == fields
