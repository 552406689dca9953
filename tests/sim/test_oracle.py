"""The oracle itself: what it takes for a fault, and what it doesn't."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import crdtdb
from crdtdb import Database
from crdtdb.testing.oracle import Origins, check_names


@pytest.fixture
def ada() -> Iterator[Database]:
    with crdtdb.open("memory:") as database:
        yield database


@pytest.fixture
def bob() -> Iterator[Database]:
    with crdtdb.open("memory:") as database:
        yield database


def test_a_value_of_which_a_drop_took_a_part_may_differ_and_no_other(ada: Database, bob: Database) -> None:
    """Both make notes, and d in it. Of ada's increment, made on both, a drop of her creation takes what was made under that."""
    origins = Origins()
    for one in (ada, bob):
        origins.watch(one.store)
        one["notes"].put("d", {"likes": crdtdb.Counter(1)})
    (hers,) = ada.store.root.names["notes"]
    alone = ada["notes"].put("alone", {"n": 1})
    crdtdb.sync(ada, bob)
    with ada["notes"].edit("d") as document:
        document["likes"].increment()
    assert document.written is not None
    shown = document.written.rev
    assert origins.in_part("notes", "d", shown, {hers})
    assert not origins.in_part("notes", "d", shown, set()), "nothing was dropped"
    assert not origins.in_part("notes", "d", shown, ada.store.root.names["notes"]), "all of it is gone"
    assert not origins.in_part("notes", "alone", alone.rev, {hers})


def test_one_name_with_two_values_is_found(ada: Database, bob: Database) -> None:
    for one, value in ((ada, 1), (bob, 2)):
        one["notes"].take([{"_id": "d", "_rev": "1-aa", "n": value}])
    with pytest.raises(AssertionError, match="1-aa"):
        check_names([ada, bob], lambda *_: False)
    check_names([ada, bob], lambda *names: names == ("notes", "d", "1-aa"))
