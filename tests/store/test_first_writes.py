"""A document's first write takes a shorter way to its row, and reading one takes a shorter way back: nothing may show that."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtdb.backends.memory import MemoryBackend
from crdtdb.crdts import Counter
from crdtdb.documents import Put, Rev, State, Write, delete, view
from crdtdb.documents.schema import check_schema, declare_in
from crdtdb.errors import ConflictError, NotFoundError
from crdtdb.jsontext import canonical
from crdtdb.store import Store
from crdtdb.testing.invariants import check_store

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


def played(steps: list[Any], way: Callable[[Put], Callable[[State, Write], State]]) -> Store:
    draws, ticks = count(1), count(1_000)
    store = Store(MemoryBackend(), wall=lambda: next(ticks), draw=lambda size: next(draws).to_bytes(size, "big"))
    for step in steps:
        try:
            play(store, step, way)
        except (ConflictError, NotFoundError):
            continue
    while store.sweep():
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
            store.submit(lambda one: one.drop(name))
        case ("renew",):
            store.renew_actor()


@given(st.lists(STEPS, max_size=12))
def test_the_rows_are_those_that_the_long_way_writes(steps: list[Any]) -> None:
    short, long = played(steps, lambda change: change), played(steps, long_way)
    rows = [dict(store._backend.scan(b"", b"\xff" * 8)) for store in (short, long)]
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
