"""What two sides were allowed is too much together, and merges, travels, is read and deleted all the same. History 30."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import crdtdb
from crdtdb.errors import TooLargeError
from crdtdb.limits import COUNTER_MAX, DOCUMENT_BODIES_BYTES_MAX, DOCUMENT_BYTES_MAX, DOCUMENT_LEAVES_MAX
from crdtdb.testing.invariants import check_store
from tests.store.test_large_documents import revision

Three = tuple[crdtdb.Database, crdtdb.Database, crdtdb.Database]


@pytest.fixture
def three() -> Iterator[Three]:
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob, crdtdb.open("memory:") as cy:
        yield ada, bob, cy


def meet(three: Three) -> None:
    """Two that met before, and the third through one of them; then back."""
    ada, bob, cy = three
    crdtdb.sync(ada, bob)
    crdtdb.sync(cy, bob)
    crdtdb.sync(cy, ada)
    assert len({one.store.root.clock for one in three}) == 1
    for one in three:
        check_store(one.store)


def test_leaves(three: Three) -> None:
    ada, bob, cy = three
    ada["notes"].take([revision(number) for number in range(600)])
    bob["notes"].take([revision(1_000 + number) for number in range(600)])
    meet(three)
    assert all(len(one["notes"].siblings("d")) == 1_200 for one in three)
    (refused,) = cy["notes"].take([revision(5_000)])
    assert isinstance(refused, TooLargeError)
    assert cy["notes"].take([revision(5_000, 7)]) == [None], "it replaces a leaf, and adds none"
    cy["notes"].delete("d", cy["notes"].get("d").rev)
    cy["notes"].put("d", {"v": "x"}, cy["notes"].get("d").rev)
    assert len(cy["notes"].siblings("d")) == 1_199
    ada["notes"].resolve("d", {"v": "mine"})
    meet(three)
    assert all(len(one["notes"].siblings("d")) == 2 for one in three), "her own, and what ada had not seen"
    bob["notes"].resolve("d", {"v": "all"})
    bob["notes"].delete("d", bob["notes"].get("d").rev)
    meet(three)
    assert all("d" not in one["notes"] for one in three)


def test_texts_and_counters(three: Three) -> None:
    ada, bob, cy = three
    for one, letter in ((ada, "x"), (bob, "y")):
        notes = one.collection("notes", schema={"text": crdtdb.Text, "likes": crdtdb.Counter})
        notes.put("d", {"text": letter * 5_000_000, "likes": COUNTER_MAX, "plain": "z" * 3_000_000})
    meet(three)
    notes = cy["notes"]
    doc = notes.get("d")
    assert (len(doc["text"]), doc["likes"], doc.conflicts) in (
        (5_000_000, 2 * COUNTER_MAX, ()),
        (10_000_000, 2 * COUNTER_MAX, ()),
    )
    assert [one.id for one in notes.find({"likes": {"$gt": 0}})] == ["d"]
    with pytest.raises(TooLargeError), notes.edit("d") as edit:
        edit["text"].insert(0, "more")
    with notes.edit("d") as edit:
        edit["text"].delete(0, 100)
    with notes.edit("d") as edit:
        edit["likes"].decrement(3)
    doc = notes.get("d")
    notes.put("d", {**doc, "plain": "small"}, doc.rev)
    meet(three)
    for one in three:
        found = one["notes"].get("d")
        assert (found["plain"], found["likes"]) == ("small", 2 * COUNTER_MAX - 3)
    notes.delete("d", notes.get("d").rev)
    meet(three)
    assert "d" not in ada["notes"]


def test_bodies(three: Three) -> None:
    for number, one in enumerate(three):
        one["notes"].put("d", {"v": str(number) * 7_000_000})
    meet(three)
    notes = three[0]["notes"]
    assert len(notes.siblings("d")) == 3
    large = [{**revision(10 + number), "v": chr(65 + number) * 7_000_000} for number in range(8)]
    outcomes = notes.take([*large, revision(99)])
    fit = (DOCUMENT_BODIES_BYTES_MAX - 21_000_000) // 7_000_000
    assert [one is None for one in outcomes] == [True] * fit + [False] * (8 - fit) + [True]
    assert "together" in str(outcomes[fit])
    assert len(notes.siblings("d")) == 3 + fit + 1
    notes.resolve("d", {"v": "small"})
    meet(three)
    assert [one["notes"].get("d")["v"] for one in three] == ["small"] * 3


WRITES: dict[str, Callable[[crdtdb.Collection], object]] = {
    "put": lambda notes: notes.put("a", {"v": "x" * DOCUMENT_BYTES_MAX}),
    "put on one": lambda notes: notes.put("d", {"v": "x" * DOCUMENT_BYTES_MAX}, notes.get("d").rev),
    "resolve": lambda notes: notes.resolve("d", {"v": "x" * DOCUMENT_BYTES_MAX}),
    "upsert": lambda notes: notes.upsert("d", lambda doc: {**doc, "v": "x" * DOCUMENT_BYTES_MAX}),
}


@pytest.mark.parametrize("how", WRITES)
def test_a_write_of_too_much_is_refused(how: str) -> None:
    with crdtdb.open("memory:") as db:
        db["notes"].put("d", {})
        with pytest.raises(TooLargeError, match="8,388,608"):
            WRITES[how](db["notes"])
        assert [doc.id for doc in db["notes"].all()] == ["d"]
        (outcome,) = db["notes"].bulk([{"_id": "b", "v": "x" * DOCUMENT_BYTES_MAX}])
        assert isinstance(outcome, TooLargeError)
        outcomes = db["notes"].take(
            [revision(1, doc_id="e"), {**revision(2, doc_id="e"), "v": "x" * DOCUMENT_BYTES_MAX}]
        )
        assert outcomes[0] is None
        assert isinstance(outcomes[1], TooLargeError)
        outcomes = db["notes"].take([revision(number, doc_id="f") for number in range(DOCUMENT_LEAVES_MAX + 1)])
        assert [one is None for one in outcomes] == [True] * DOCUMENT_LEAVES_MAX + [False]
