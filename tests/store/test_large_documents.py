"""Documents with many dots: how often they are decoded and written, whatever is done with them. History 27."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import crdtdb
from crdtdb.backends.memory import MemoryBackend
from crdtdb.causality import EMPTY, DotSet
from crdtdb.couchdb.parsing import parse_document
from crdtdb.couchdb.revision_trees import Options, Trees
from crdtdb.couchdb.writes import Writes
from crdtdb.documents import Rev
from crdtdb.documents.revisions import Path
from crdtdb.store import Store
from crdtdb.store.commit import document_rows as transactions
from crdtdb.store.layout import records
from crdtdb.store.layout.places import RecentPlaces
from crdtdb.testing.invariants import check_store
from crdtdb.wire.delta_batch import DeltaBatch
from tests.inside import store_of


def digest(number: int) -> str:
    return f"{number:032x}"


def revision(*numbers: int, deleted: bool = False, doc_id: str = "d") -> dict[str, Any]:
    """A revision made elsewhere; the numbers are those of its digests, its own first."""
    return {
        "_id": doc_id,
        "_rev": f"{len(numbers)}-{digest(numbers[0])}",
        "_revisions": {"start": len(numbers), "ids": [digest(number) for number in numbers]},
        **({"_deleted": True} if deleted else {"v": numbers[0]}),
    }


def grown(db: crdtdb.Database, elements: int, doc_id: str = "d") -> DotSet:
    """Make a set element by element; return the clock before the first."""
    notes = db.collection("notes", schema={"s": crdtdb.Set})
    clock = db.store.root.clock
    notes.put(doc_id, {"s": []})
    for number in range(elements):
        with notes.edit(doc_id) as edit:
            edit["s"].add(str(number))
    return clock


@contextmanager
def counted(patch: pytest.MonkeyPatch, module: Any, name: str) -> Iterator[list[int]]:
    """Count the calls of a function."""
    calls, original = [0], getattr(module, name)

    def counting(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        return original(*arguments, **named)

    with patch.context() as context:
        context.setattr(module, name, counting)
        yield calls


def pages(store: Store, clock: DotSet) -> list[list[Any]]:
    outgoing, found = store.replication.outgoing(clock), []
    while True:
        page = outgoing.next_page()
        found.append(page.parcel)
        if page.last:
            return found


def names(parcels: list[list[Any]]) -> list[str]:
    return [shipped.doc_id for parcel in parcels for shipped in DeltaBatch(parcel).documents]


def test_an_exchange_decodes_each_document_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with crdtdb.open("memory:") as db, crdtdb.open("memory:") as other:
        before = grown(db, 40)
        db["notes"].take([revision(number, doc_id="c") for number in range(40)])
        for number in range(40):  # both go on, in turns
            with db["notes"].edit("d") as edit:
                edit["s"].add(f"more {number}")
            db["notes"].take([revision(100 + number, doc_id="c")])
        with counted(monkeypatch, records, "decode_state") as decoded:
            parcels = pages(db.store, before)
            assert sorted(names(parcels)) == ["c", "d"]
            assert decoded[0] == 2
        with counted(monkeypatch, records, "decode_state") as decoded:
            assert db.store.live_view().first_unseen("notes", before) > 0
            assert decoded[0] == 2
        crdtdb.sync(db, other)
        assert other["notes"].digest() == db["notes"].digest()


def test_what_is_forgotten_on_the_way_is_sent_once_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb.store.replication.exchange.RecentPlaces", lambda: RecentPlaces(2))
    with crdtdb.open("memory:") as db:
        for turn in range(4):
            for doc_id in "abcde":
                db["notes"].take([revision(turn, doc_id=doc_id)])
        assert sorted(names(pages(db.store, EMPTY))) == list("abcde")


def test_many_revisions_of_a_document_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    conflicts = [revision(number) for number in range(50)]
    children = [revision(1_000 + number, number) for number in range(50)]
    with crdtdb.open("memory:") as db:
        for documents in (conflicts, children):
            with counted(monkeypatch, transactions, "encode_record") as encoded:
                assert db["notes"].take([*documents, revision(7, doc_id="other")]) == [None] * 51
            assert encoded[0] <= 2
        writes = Writes(db.store, "more")
        with counted(monkeypatch, transactions, "encode_record") as encoded:
            outcomes = writes.bulk([parse_document(one) for one in (*conflicts, *children)], new_edits=False)
        assert encoded[0] == 1
        assert outcomes == [("d", Rev.parse(one["_rev"])) for one in (*conflicts, *children)]
        for name in ("notes", "more"):
            assert len(db[name].siblings("d")) == 50
            assert db[name].get("d", f"1-{digest(3)}")["v"] == 3, "what came and was replaced at once is readable"
        check_store(db.store)


def test_of_many_revisions_each_has_its_own_outcome() -> None:
    with crdtdb.open("memory:") as db:
        notes = db["notes"]
        assert notes.take([revision(number) for number in range(990)]) == [None] * 990
        outcomes = notes.take([revision(2_000 + number) for number in range(12)] + [revision(3_000, 1)])
        assert [type(one) for one in outcomes] == [type(None)] * 10 + [crdtdb.errors.TooLargeError] * 2 + [type(None)]
        assert len(notes.siblings("d")) == 1_000
        assert notes.get("d", f"2-{digest(3_000)}")["v"] == 3_000


def test_a_leaf_that_comes_again_with_its_ancestors_learns_of_them() -> None:
    with crdtdb.open("memory:") as db:
        stemmed = {key: value for key, value in revision(3, 2, 1).items() if key != "_revisions"}
        assert db["notes"].take([stemmed, revision(9), revision(3, 2, 1), revision(3, 2, 1)]) == [None] * 4
        record = db.store.read("notes", "d")
        assert record is not None
        paths = {leaf.rev.digest: [step.digest for step in leaf.path.all()] for leaf in record.state.leaves.values()}
        assert paths == {digest(9): [], digest(3): [digest(2), digest(1)]}


NODES = 15


def line_of(node: int) -> list[int]:
    """Return a node of the tree in which each has two children, and all above it."""
    line = [node]
    while line[-1] > 1:
        line.append(line[-1] // 2)
    return line


REVISIONS = st.tuples(st.integers(1, NODES), st.booleans(), st.booleans())
"""A node of the tree, whether it is deleted, and whether it comes early."""


@given(st.lists(REVISIONS, max_size=12))
def test_together_or_one_by_one_is_the_same(revisions: list[tuple[int, bool, bool]]) -> None:
    """Siblings, chains, deletions, doubles; some of them before."""
    read = [revision(*line_of(node), deleted=deleted) for node, deleted, _ in revisions]
    first = sum(1 for *_, early in revisions if early) // 2
    together, alone = (Store(MemoryBackend(), wall=lambda: 1_000, draw=lambda size: bytes(size)) for _ in range(2))
    many, one = crdtdb.Database(together)["notes"], crdtdb.Database(alone)["notes"]
    for part in (read[:first], read[first:]):
        many.take(part)
        for document in part:
            one.take([document])
    left, right = (store.read("notes", "d") for store in (together, alone))
    assert (left is None) == (right is None)
    if left is not None and right is not None:
        assert left.state == right.state
        assert list(together.live_view().past("notes", "d")) == list(alone.live_view().past("notes", "d"))
    assert together.root.clock == alone.root.clock


def steps_of(monkeypatch: pytest.MonkeyPatch, conflicts: int, act: Callable[[crdtdb.Collection], object]) -> int:
    """Return how many steps of paths an act on a document with so many conflicts looks at."""
    with crdtdb.open("memory:") as db:
        lines = [(1_000 + number, number) for number in range(conflicts)]
        db["notes"].take([revision(*(line if line[1] % 2 else (9_000 + line[1], *line))) for line in lines])
        with counted(monkeypatch, Path, "step") as steps:
            act(db["notes"])
        return steps[0]


ACTS: dict[str, Callable[[crdtdb.Collection], object]] = {
    "read": lambda notes: notes.get("d"),
    "siblings": lambda notes: notes.siblings("d"),
    "put": lambda notes: notes.put("d", {"v": "x"}, notes.get("d").rev),
    "delete": lambda notes: notes.delete("d", notes.get("d").rev),
    "resolve": lambda notes: notes.resolve("d", {"v": "x"}),
    "import": lambda notes: notes.take([revision(5_000 + number, 2_000, number) for number in range(9)]),
    "page": lambda notes: pages(store_of(notes), EMPTY),
    "known": lambda notes: [Trees(store_of(notes), "notes").known("d")(Rev(2, digest(n))) for n in range(5)],
    "tree": lambda notes: [
        Trees(store_of(notes), "notes").get("d").document(None, Options(conflicts=True, revs=True, revs_info=True))
    ],
}


@pytest.mark.parametrize("act", ACTS)
def test_a_document_with_twice_the_conflicts_costs_twice_as_much(monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    few, many = (steps_of(monkeypatch, conflicts, ACTS[act]) for conflicts in (100, 200))
    assert many <= 2 * few + 100, "paths are looked at in proportion to the conflicts"


def test_large_and_slow_documents_are_named_until_they_are_not() -> None:
    with crdtdb.open("memory:") as db, crdtdb.open("memory:") as other:
        db["notes"].put("small", {})
        db["notes"].put("long", {"v": "x" * 3_000_000})
        db["notes"].take([revision(number) for number in range(300)])
        crdtdb.sync(db, other)
        for one in (db, other):
            found = {large.doc_id: large for large in one.store.metrics.large_documents()}
            assert found.keys() == {"long", "d"}
            assert (found["d"].leaves, found["long"].size > 3_000_000) == (300, True)
            assert "notes/d is large: 300 leaves" in str(found["d"])
        db["notes"].put("long", {}, db["notes"].get("long").rev)
        assert [large.doc_id for large in db.store.metrics.large_documents()] == ["d"]
        db.drop("notes")
        assert db.store.metrics.large_documents() == []
