"""A document's first write takes a shorter way to its row, and reading one takes a shorter way back: nothing may show that."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtdb.backends.memory import MemoryBackend
from crdtdb.canonical_json import canonical
from crdtdb.causality import EMPTY, Dot
from crdtdb.crdts import Counter
from crdtdb.database.pull import pull
from crdtdb.documents import Put, Rev, State, Write, delete, view
from crdtdb.documents.schema import check_schema, declare_in
from crdtdb.errors import ConflictError, EncodingError, NotFoundError
from crdtdb.limits import AHEAD_RANGES_MAX
from crdtdb.store import Store
from crdtdb.store.layout import records
from crdtdb.testing.invariants import check_store
from crdtdb.wire import delta_batch as parcels
from crdtdb.wire.cbor import decode, encode
from crdtdb.wire.delta_batch import DeltaBatch, FrameTables
from crdtdb.wire.states import First, decode_state, encode_first, first_in
from tests.inside import backend_of

NAMES = st.sampled_from(["notes", "tasks"])
IDS = st.sampled_from(["a", "b", "ä", "_design/d"])
BODIES = st.sampled_from(
    [{}, {"n": 1}, {"n": 2, "likes": 3}, {"indexes": {"by": {"fields": ["n"]}}}, {"text": "_attachments"}]
)
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES, st.lists(st.tuples(IDS, BODIES), min_size=1, max_size=3)),
    st.tuples(st.just("delete"), NAMES, IDS),
    st.tuples(st.just("declare"), NAMES),
    st.tuples(st.just("drop"), NAMES),
    st.tuples(st.just("renew")),
)


def long_way(change: Put) -> Callable[[State, Write], State]:
    """The same put, as something the store knows nothing about."""
    return lambda state, write: change(state, write)


def played(steps: list[Any], way: Callable[[Put], Callable[[State, Write], State]], first_draw: int = 1) -> Store:
    draws, ticks = count(first_draw), count(1_000)
    store = Store(MemoryBackend(), wall=lambda: next(ticks), draw=lambda size: next(draws).to_bytes(size, "big"))
    for step in steps:
        try:
            play(store, step, way)
        except (ConflictError, NotFoundError):
            continue
    while store.sweeper.sweep():
        pass
    return store


def play(store: Store, step: Any, way: Callable[[Put], Callable[[State, Write], State]]) -> None:
    match step:
        case ("put", name, documents):
            changes = [(doc_id, way(Put(None, canonical(body)))) for doc_id, body in documents]
            store.submit(lambda one: [one.write(name, doc_id, change).rev for doc_id, change in changes])
        case ("delete", name, doc_id):
            record = store.read(name, doc_id)
            shown = view(record.state).winner if record is not None else None
            rev = shown.rev if shown is not None else None
            store.write(name, doc_id, lambda state, write: delete(state, write, rev))
        case ("declare", name):
            schema = check_schema({"likes": Counter})
            store.write(name, "_schema", lambda state, write: declare_in(state, write, schema, {}, False))
        case ("drop", name):
            store.submit(lambda one: one.ledger.drop(name))
        case ("renew",):
            store.replication.renew_actor()


@given(st.lists(STEPS, max_size=12))
def test_the_rows_are_those_that_the_long_way_writes(steps: list[Any]) -> None:
    short, long = played(steps, lambda change: change), played(steps, long_way)
    rows = [dict(backend_of(store).scan(b"", b"\xff" * 8)) for store in (short, long)]
    assert rows[0] == rows[1]
    check_store(short)


@given(STEPS.filter(lambda step: step[0] == "put"))
def test_what_a_write_returns_is_what_the_long_way_returns(step: Any) -> None:
    _, name, documents = step
    doc_id, body = documents[0]
    change = Put(None, canonical(body))
    short, long = played([], lambda one: one), played([], long_way)
    ours, theirs = short.write(name, doc_id, change), long.write(name, doc_id, long_way(change))
    assert (ours.rev, ours.dot, ours.state) == (theirs.rev, theirs.dot, theirs.state)


def read(encoded: list[Any]) -> list[object]:
    parcel = DeltaBatch(decode(encode(encoded)))
    return [(one.name, one.doc_id, one.closed, parcel.state(one, lambda rev: lambda: ())) for one in parcel.documents]


def exchanged(one: list[Any], other: list[Any], later: list[Any], advance: bool) -> list[object]:
    """Let a third store take in, and pass on, what two others hold; return what went over the wire, and all rows."""
    stores = [played(steps, lambda change: change, draw) for steps, draw in ((one, 1), (other, 1 << 32))]
    draws, ticks = count(1 << 64), count(10)
    middle = Store(MemoryBackend(), wall=lambda: next(ticks), draw=lambda size: next(draws).to_bytes(size, "big"))
    sent: list[object] = []
    for store in [*stores, *stores]:
        outgoing = store.replication.outgoing(middle.root.clock, closed=not middle.root.clock)
        page = outgoing.next_page()
        sent.append(read(page.parcel))
        middle.replication.receive(DeltaBatch(decode(encode(page.parcel))), advance)
        for step in later:
            with suppress(ConflictError, NotFoundError):
                play(store, step, lambda change: change)
    sent.append(read(middle.replication.outgoing(EMPTY, closed=True).next_page().parcel))
    while middle.sweeper.sweep():
        pass
    check_store(middle)
    digests = {name: middle.live_view().digest(name) for name in middle.root.names}
    return [*sent, middle.stamp(), dict(backend_of(middle).scan(b"", b"\xff" * 8)), digests]


@given(st.lists(STEPS, max_size=8), st.lists(STEPS, max_size=8), st.lists(STEPS, max_size=3), st.booleans())
def test_an_exchange_moves_what_it_moves_the_long_way(
    one: list[Any], other: list[Any], later: list[Any], advance: bool
) -> None:
    short = exchanged(one, other, later, advance)
    with pytest.MonkeyPatch.context() as patch:
        for module in (parcels, records):
            patch.setattr(module, "first_in", lambda encoded, tables: None)
        long = exchanged(one, other, later, advance)
    assert short == long


def test_dots_beyond_many_gaps_wait_with_their_documents() -> None:
    """Rumors that come with holes between them may not make the node clock ever longer."""
    sender, receiver = (played([], lambda change: change, draw) for draw in (1, 1 << 32))
    for number in range(2 * AHEAD_RANGES_MAX + 100):
        sender.write("notes", str(number), Put(None, b"{}"))
        if number % 2:
            rumor = sender.replication.rumor([("notes", str(number))])
            assert rumor is not None
            receiver.replication.receive(DeltaBatch(decode(encode(rumor))))
    assert len(receiver.root.clock.ranges(sender.actor)) == AHEAD_RANGES_MAX
    assert receiver.collection("notes").documents == AHEAD_RANGES_MAX + 50
    check_store(receiver)
    pull(receiver, sender)
    assert receiver.root.clock.ranges(sender.actor) == sender.root.clock.ranges(sender.actor)
    assert receiver.live_view().digest("notes") == sender.live_view().digest("notes")
    check_store(receiver)


def test_a_first_revision_that_comes_late_doesnt_rise_again() -> None:
    """It was deleted here by somebody who had seen it, and its tombstone collected: the node clock still knows."""
    sender, receiver = (played([], lambda change: change, draw) for draw in (1, 1 << 32))
    first = sender.write("notes", "a", Put(None, b"{}")).rev
    late = sender.replication.rumor([("notes", "a")])
    assert late is not None
    pull(receiver, sender)
    receiver.write("notes", "a", lambda state, write: delete(state, write, first))
    receiver.collector.reach_cut(receiver.root.clock)
    while receiver.collector.collect(lambda _: None, False, 0):
        pass
    assert receiver.read("notes", "a") is None
    assert receiver.replication.receive(DeltaBatch(decode(encode(late)))).news == []
    assert receiver.read("notes", "a") is None


@pytest.mark.parametrize("place", range(11))
@pytest.mark.parametrize("value", [None, True, -1, 2**70, b"", b"x" * 17, "x", [], [[1]], 1.5])
def test_what_is_no_first_revision_is_left_to_the_reader_of_states(place: int, value: object) -> None:
    """Whatever stands there instead, it is read as a state is, or refused as one is."""
    tables = FrameTables([bytes(16)], [frozenset([Dot(bytes(16), 1)])])
    encoded = encode_first(First(Dot(bytes(16), 7), b"d" * 16, 5, tables.sets[0], b"{}"), tables)
    encoded[0][0][place] = value
    first = first_in(encoded, tables)
    try:
        state, _ = decode_state(encoded, EMPTY, tables, lambda rev: lambda: ())
    except EncodingError:
        assert first is None
        return
    if first is not None:
        ((dot, leaf),), ((body_dot, body),) = state.leaves.items(), state.bodies.items()
        assert (dot, body_dot, leaf.rev.digest, leaf.stamp) == (first.dot, first.dot, first.digest.hex(), first.stamp)
        assert (leaf.creations, body.creations, body.text) == (first.creations, first.creations, first.text)


def test_a_record_is_single_while_it_has_one_live_leaf_and_no_fields() -> None:
    store = played([], lambda one: one)
    assert store.write("notes", "a", Put(None, b"{}")).record.single is not None
    found = store.read("notes", "a")
    assert found is not None
    assert found.single is not None
    first = Rev.parse(found.single.rev)
    second = store.write("notes", "a", Put(first, b'{"n":1}')).rev
    found = store.read("notes", "a")
    assert found is not None
    assert found.single is not None
    assert (found.single.rev, found.single.text) == (str(second), b'{"n":1}')
    store.write("notes", "a", lambda state, write: delete(state, write, second))
    found = store.read("notes", "a")
    assert found is not None
    assert found.single is None


def test_a_second_first_write_is_a_conflict() -> None:
    store = played([], lambda one: one)
    store.write("notes", "a", Put(None, b"{}"))
    with pytest.raises(ConflictError):
        store.write("notes", "a", Put(None, b'{"n":1}'))
