"""Compaction looks without holding up anybody, and lets go in small commits of what it found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import crdtdb
from crdtdb.backends.protocol import Batch
from crdtdb.database import Database
from crdtdb.errors import NotFoundError
from crdtdb.store.gc.compaction import forget_values, replaced_values
from crdtdb.testing.invariants import check_store
from tests.inside import backend_of, core_of


@pytest.fixture
def db() -> Iterator[Database]:
    with crdtdb.open("memory:") as database:
        yield database


def rewritten(db: Database, documents: int, times: int) -> None:
    notes = db["notes"]
    for n in range(documents):
        rev = None
        for value in range(times):
            rev = notes.put(f"d{n}", {"value": value}, rev).rev


def watched(db: Database) -> list[Batch]:
    batches: list[Batch] = []
    write = backend_of(db.store).write

    def spy(batch: Batch, *, durable: bool) -> None:
        batches.append(dict(batch))
        write(batch, durable=durable)

    backend_of(db.store).write = spy
    return batches


def values(db: Database, doc_id: str) -> list[Any]:
    return [None if one.body is None else one.body["value"] for one in db["notes"].history(doc_id)]


def test_a_writer_waits_for_a_hundred_revisions_at_most(db: Database) -> None:
    rewritten(db, documents=30, times=21)
    batches = watched(db)
    db.compact("notes")
    assert [len(batch) for batch in batches] == [100] * 6
    assert all(values(db, f"d{n}") == [20, *[None] * 20] for n in range(30))
    check_store(db.store)


def test_documents_that_were_never_rewritten_cost_no_commit(db: Database) -> None:
    db["notes"].bulk([{"_id": f"d{n}", "value": n} for n in range(2_500)])
    batches = watched(db)
    db.compact("notes")
    assert batches == []


def test_more_rows_than_one_look_reads_are_all_looked_at(db: Database) -> None:
    rewritten(db, documents=2, times=1_600)
    db.compact("notes")
    assert sum(value is not None for n in range(2) for value in values(db, f"d{n}")) == 2
    batches = watched(db)
    db.compact("notes")
    assert batches == [], "there is nothing left"


def test_what_changes_between_the_look_and_the_commit_is_looked_at_again(db: Database) -> None:
    rewritten(db, documents=2, times=3)
    store, number = db.store, db.store.collection("notes").number
    due = replaced_values(backend_of(store), core_of(store).tables, number, store.root.stable, b"")
    notes = db["notes"]
    notes.put("d0", {"value": "new"}, notes.get("d0").rev)
    notes.delete("d1", notes.get("d1").rev)
    store.submit(lambda transaction: forget_values(transaction, core_of(store).tables, "notes", number, due))
    assert values(db, "d0") == ["new", 2, None, None], "what was a leaf when it was looked at keeps its value"
    assert values(db, "d1")[1:] == [2, None, None]
    check_store(store)


def test_a_collection_that_was_dropped_and_made_again_meanwhile_is_left_alone(db: Database) -> None:
    rewritten(db, documents=1, times=3)
    store, number = db.store, db.store.collection("notes").number
    due = replaced_values(backend_of(store), core_of(store).tables, number, store.root.stable, b"")
    store.submit(lambda transaction: transaction.ledger.drop("notes"))  # its rows wait for the sweep
    rewritten(db, documents=1, times=3)
    batches = watched(db)
    store.submit(lambda transaction: forget_values(transaction, core_of(store).tables, "notes", number, due))
    assert batches == [], "what the sweep is to remove isn't written again"
    assert values(db, "d0") == [2, 1, 0]


def test_a_leaf_keeps_the_value_that_its_readers_were_told(db: Database) -> None:
    """It has a row among the replaced revisions once fields have changed that its author hadn't seen."""
    notes = db["notes"]
    rev = notes.put("a", {"value": 0, "likes": crdtdb.Counter(0)}).rev
    with crdtdb.open("memory:") as other:
        crdtdb.sync(db, other)
        notes.put("a", {"value": "here", "likes": 0}, rev)
        other["notes"].put("a", {"value": "there", "likes": 0}, rev)
        crdtdb.sync(db, other)
    loser = notes.siblings("a")[1].rev
    with notes.edit("a") as edit:
        edit["likes"].increment()
    (row,) = [one for one in db.store.live_view().past("notes", "a") if str(one.rev) == loser]
    assert row.text is not None
    db.compact("notes")
    assert row in db.store.live_view().past("notes", "a")
    check_store(db.store)


def test_contents_of_attachments_that_no_revision_has_go(db: Database) -> None:
    notes = db["notes"]
    for n in range(45):  # more than a commit looks after
        notes.put(f"d{n}", {"value": n})
        for text in (b"old", b"new"):
            notes.attach(f"d{n}", "f", text + b"%d" % n)
    old = [notes.history(f"d{n}")[1].rev for n in range(45)]
    db.compact("notes")
    check_store(db.store)
    assert [notes.attachment(f"d{n}", "f") for n in range(45)] == [b"new%d" % n for n in range(45)]
    for n, rev in enumerate(old):
        with pytest.raises(NotFoundError):
            notes.attachment(f"d{n}", "f", rev=rev)
    left = [key for key, _ in backend_of(db.store).scan(b"A", b"B")]
    assert len(left) == 45, "one content each, and not two"
