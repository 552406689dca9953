"""Views through the library: rows that were kept are those that a look at every document makes, whatever happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

import crdtdb
from crdtdb.errors import InvalidInputError
from crdtdb.query.collation import sort_key
from crdtdb.query.reducing import Distinct
from crdtdb.store import ViewKey, scan_view
from crdtdb.store.layout import keys
from crdtdb.testing.invariants import check_store
from tests.examples import examples
from tests.inside import backend_of, index_of
from tests.library.machines import IDS, TwoDatabases

TAGS = st.lists(st.sampled_from(["x", "y", "xy", 1, None, ["x"]]), max_size=3)


def emit(document: crdtdb.Document) -> Iterator[tuple[Any, Any]]:
    for tag in document.get("tags", ()):
        yield [tag, document.get("n")], document.get("likes", 0)


class Views(TwoDatabases):
    """Random writes, merges, drops and restarts, and a view that is asked now and then."""

    schema: ClassVar = {"likes": crdtdb.Counter}

    @rule(doc_id=IDS, tags=TAGS, n=st.integers(0, 2), there=st.booleans())
    def write(self, doc_id: str, tags: list[Any], n: int, there: bool) -> None:
        notes = self.notes(there)
        notes.upsert(doc_id, lambda body: {**body, "tags": tags, "n": n, "likes": body.get("likes", 0) + 1})

    @rule()
    def drop(self) -> None:
        if "notes" in self.db:
            self.db.drop("notes")

    def naive(self) -> list[tuple[bytes, str, Any, Any]]:
        found = []
        for document in self.db["notes"].all():
            for number, (key, value) in enumerate(emit(document)):
                found.append(
                    (sort_key(key) + keys.id_place(document.id.encode()) + bytes([number]), document.id, key, value)
                )
        return sorted(found, key=lambda one: one[0])

    @rule(descending=st.booleans(), skip=st.integers(0, 2), limit=st.none() | st.integers(0, 3))
    def ask(self, descending: bool, skip: int, limit: int | None) -> None:
        view = self.db["notes"].view("tags", emit, reduce="_sum")
        expected = [one[1:] for one in self.naive()]
        expected = expected[::-1] if descending else expected
        wanted = expected[skip : None if limit is None else skip + limit]
        assert list(view.rows(descending=descending, skip=skip, limit=limit)) == wanted
        state = index_of(view).state
        assert (state.rows if state is not None else 0) == len(expected)
        for level in (0, 1, 2):
            sums: Counter[bytes] = Counter()
            for _, key, value in expected:
                sums[sort_key(None if level == 0 else key[:level])] += value
            groups = {sort_key(one.key): one.value for one in view.reduced(group_level=level)}
            assert groups == dict(sums)

    @invariant()
    def nothing_is_left_over(self) -> None:
        if hasattr(self, "db"):
            while self.db.store.sweeper.sweep():
                pass
            check_views(self.db)


def check_views(db: crdtdb.Database) -> None:
    """Look for rows of views that are gone."""
    backend = backend_of(db.store)
    living = {
        db.store.derived.view(name, key[5:]).number  # type: ignore[union-attr]
        for name, one in db.store.root.collections.items()
        for key, _ in backend.scan(*keys.rest(keys.view(one.number, b"")))
    }
    numbers = {int.from_bytes(key[1:5], "big") for kind in (b"I", b"j") for key, _ in backend.scan(*keys.rest(kind))}
    assert numbers <= living


TestViews = Views.TestCase
TestViews.settings = examples(100, stateful_step_count=30)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[crdtdb.Database]:
    with crdtdb.open(str(tmp_path / "data"), durability="buffered") as opened:
        yield opened


def test_ranges(db: crdtdb.Database) -> None:
    notes = db["notes"]
    notes.bulk([{"_id": f"d{n}", "n": n // 2} for n in range(10)])
    view = notes.view("n", lambda doc: [(doc["n"], None)])

    def ids(**options: Any) -> list[str]:
        return [one.id for one in view.rows(**options)]

    assert ids(key=2) == ["d4", "d5"]
    assert ids(keys=[4, 0]) == ["d8", "d9", "d0", "d1"]
    assert ids(start=1, end=2) == ["d2", "d3", "d4", "d5"]
    assert ids(start=1, end=2, inclusive_end=False) == ["d2", "d3"]
    assert ids(start=2, end=1, descending=True) == ["d5", "d4", "d3", "d2"]
    assert ids(start=2, end=1, descending=True, inclusive_end=False) == ["d5", "d4"]
    assert ids(start=1, start_id="d3", end=2, end_id="d4") == ["d3", "d4"]
    assert ids(start=1, start_id="d3", end=2, end_id="d5", inclusive_end=False) == ["d3", "d4"]
    assert ids(start=2, start_id="d4", end=1, end_id="d3", descending=True) == ["d4", "d3"]
    assert ids(start=4) == ["d8", "d9"]
    assert ids(end=0) == ["d0", "d1"]
    assert ids(start=[]) == []
    assert ids(limit=0) == []
    bad: list[dict[str, Any]] = [
        {"start": 2, "end": 1},
        {"start": 1, "end": 2, "descending": True},
        {"limit": -1},
        {"skip": "1"},
        {"what": 1},
        {"group_level": True},
    ]
    for options in bad:
        with pytest.raises(InvalidInputError):
            ids(**options)
    with pytest.raises(InvalidInputError, match="no reduce"):
        list(view.reduced())
    with pytest.raises(InvalidInputError, match="built in"):
        notes.view("n", lambda doc: [], reduce="_median")
    with pytest.raises(InvalidInputError, match="pairs"):
        list(notes.view("bad", lambda doc: [doc["n"]]).rows())


def test_a_view_reads_what_changed_and_nothing_else(db: crdtdb.Database) -> None:
    notes = db["notes"]
    notes.bulk([{"_id": f"d{n:03}", "n": n} for n in range(250)])
    seen: list[str] = []

    def follow(doc: crdtdb.Document) -> list[tuple[Any, Any]]:
        seen.append(doc.id)
        return [(doc["n"], None)]

    view = notes.view("n", follow)
    assert len(list(view.rows())) == 250
    assert len(seen) == 250
    seen.clear()
    notes.upsert("d005", lambda body: {"n": -1})
    notes.delete("d006", notes.get("d006").rev)
    notes.put("_design/x", {"views": {}})
    assert [one.id for one in view.rows(limit=2)] == ["d005", "d000"]
    assert seen == ["d005"]
    assert len(list(notes.view("n", follow, version=2).rows())) == 249, "another version is another view"


def test_two_who_ask_at_the_same_time_and_one_who_writes(db: crdtdb.Database) -> None:
    notes = db["notes"]
    notes.bulk([{"_id": f"d{n:03}", "n": 1} for n in range(400)])
    failed: list[BaseException] = []

    def work(ask: bool) -> None:
        try:
            for n in range(60):
                if ask:
                    list(notes.view("n", lambda doc: [(doc["n"], 1)], reduce="_count").reduced())
                else:
                    notes.upsert(f"d{n:03}", lambda body: {"n": body["n"] + 1})
        except BaseException as error:
            failed.append(error)

    threads = [Thread(target=work, args=(number < 2,)) for number in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert not failed
    groups = list(notes.view("n", lambda doc: [(doc["n"], 1)], reduce="_count").reduced(group=True))
    assert groups == [(1, 340), (2, 60)]
    check_store_without_views(db)


def check_store_without_views(db: crdtdb.Database) -> None:
    db.store.derived.drop_views("notes")
    while db.store.sweeper.sweep():
        pass
    check_store(db.store)
    assert next(iter(backend_of(db.store).scan(*keys.rest(b"v"))), None) is None


def test_reduces(db: crdtdb.Database) -> None:
    notes = db["notes"]
    notes.bulk([{"_id": f"d{n}", "n": n, "kind": "ab"[n % 2]} for n in range(1, 6)])

    versions = count()

    def reduced(reduce: str, value: Any, **options: Any) -> Any:
        view = notes.view("v", lambda doc: [(doc["kind"], value(doc["n"]))], reduce=reduce, version=next(versions))
        return [tuple(one) for one in view.reduced(**options)]

    assert reduced("_sum", lambda n: n) == [(None, 15)]
    assert reduced("_sum", lambda n: n, group=True) == [("a", 6), ("b", 9)]
    assert reduced("_sum", lambda n: [n, 1] if n % 2 else 10) == [(None, [29, 3])]
    assert reduced("_sum", lambda n: {"x": n, "y": {"z": 1}}) == [(None, {"x": 15, "y": {"z": 5}})]
    assert reduced("_count", lambda n: "text", group=True, limit=1) == [("a", 2)]
    assert reduced("_stats", lambda n: n) == [(None, {"sum": 15, "count": 5, "min": 1, "max": 5, "sumsqr": 55})]
    assert reduced("_stats", lambda n: [n, -n])[0][1][1] == {"sum": -15, "count": 5, "min": -5, "max": -1, "sumsqr": 55}
    again = {"sum": 1, "count": 2, "min": 0, "max": 1, "sumsqr": 1}
    assert reduced("_stats", lambda n: again)[0][1] == {"sum": 5, "count": 10, "min": 0, "max": 1, "sumsqr": 5}
    assert reduced("_approx_count_distinct", lambda n: None) == [(None, 2)]
    assert reduced("_sum", lambda n: {"b": [n], "a": {"z": n}} if n < 4 else {"a": {"z": 1, "y": 2}}) == [
        (None, {"a": {"y": 4, "z": 8}, "b": [6]})
    ]
    assert reduced("_sum", lambda n: [0] * n) == [(None, [0] * 5)]
    for options in ({}, {"descending": True}):
        assert reduced("_first", lambda n: [n], **options) == [(None, [2])]
        assert reduced("_last", lambda n: n, **options) == [(None, 5)]
        assert reduced("_top_2", lambda n: n, **options) == [(None, [5, 4])]
        assert reduced("_bottom_2", lambda n: "x" if n == 1 else n, **options) == [(None, [2, 3])]
    assert reduced("_top_100", lambda n: n // 2, group=True) == [("a", [2, 1]), ("b", [2, 1, 0])]
    for reduce, value in (
        ("_sum", lambda n: "x"),
        ("_sum", lambda n: [n, "x"]),
        ("_sum", lambda n: True),
        ("_sum", lambda n: {"x": 1} if n % 2 else 1),
        ("_sum", lambda n: {"x": "s"}),
        ("_top_101", lambda n: n),
        ("_stats", lambda n: {"sum": 1}),
        ("_stats", lambda n: [n] * n),
    ):
        with pytest.raises(InvalidInputError):
            reduced(reduce, value)


def test_about_how_many_are_distinct() -> None:
    for number in (1, 10, 1_000, 50_000):
        distinct = Distinct()
        for n in range(number):
            distinct.add([n, "x"], "", None)
            if n % 3 == 0:
                distinct.add([n, "x"], "", None)
        assert abs(distinct.result() - number) <= max(1, number * 0.06)


def test_who_comes_late_with_older_rows_changes_nothing(db: crdtdb.Database) -> None:
    """Two asked at the same time; the slower one's function saw the document as it was before."""
    db["notes"].put("a", {"n": 1})
    number, store, signature = db.store.collection("notes").number, db.store.derived, b"s" * 16
    key = ViewKey("notes", number, signature)
    assert store.put_emissions(key, 0, 5, [(b"a", [(2, None)])]) is not None
    assert store.put_emissions(key, 0, 4, [(b"a", [(1, None)])]) is None
    assert store.put_emissions(key._replace(collection=number + 1), 5, 6, []) is None, (
        "of a collection that was dropped since"
    )
    state = store.view("notes", signature)
    assert state is not None
    assert (state.seq, state.rows) == (5, 1)
    rows = [row for _, row in scan_view(backend_of(db.store), state.number, b"", b"\xff", False)]
    assert [(row.id, row.key) for row in rows] == [("a", 2)]
