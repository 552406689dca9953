"""Attachments in the library: put, read, kept by whole documents, merged, synced."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import crdtdb
import crdtdb.aio
from crdtdb.causality import EMPTY
from crdtdb.errors import (
    ConflictError,
    InvalidDocumentError,
    InvalidInputError,
    NotFoundError,
    StoreCorruptedError,
)
from crdtdb.store import ContentMissingError
from crdtdb.testing.invariants import check_store
from crdtdb.wire.delta_batch import DeltaBatch
from tests.inside import backend_of


def test_a_file_is_part_of_its_document() -> None:
    with crdtdb.open("memory:") as db, crdtdb.open("memory:") as other:
        notes = db.collection("notes", schema={"likes": crdtdb.Counter})
        notes.put("a", {"title": "x", "likes": 1})
        doc = notes.attach("a", "f.txt", b"hello", "text/plain")
        assert notes.attachment("a", "f.txt") == b"hello"
        assert doc["_attachments"]["f.txt"]["content_type"] == "text/plain"
        assert (doc["title"], doc["likes"]) == ("x", 1)
        doc = notes.put("a", {**doc, "title": "y"}, doc.rev)  # kept by whoever writes back what he read
        crdtdb.sync(db, other)
        there = other["notes"]
        assert there.attachment("a", "f.txt") == b"hello"
        with there.edit("a") as edit:
            edit["likes"].increment(2)
        notes.attach("a", "g", b"at the same time")
        crdtdb.sync(db, other)
        for one in (notes, there):
            found = one.get("a")
            assert (found["likes"], found.conflicts, sorted(found["_attachments"])) == (3, (), ["f.txt", "g"])
        gone = notes.detach("a", "f.txt")
        assert list(gone["_attachments"]) == ["g"]
        assert notes.attachment("a", "f.txt", doc.rev) == b"hello"
        for database in (db, other):
            check_store(database.store)


def test_what_is_refused_leaves_nothing() -> None:
    with crdtdb.open("memory:") as db:
        notes = db["notes"]
        with pytest.raises(NotFoundError):
            notes.attach("never", "f", b"x")
        first = notes.put("a", {})
        for name in ("", "_f", 7):
            with pytest.raises(InvalidInputError):
                notes.attach("a", name, b"x")  # type: ignore[arg-type]
        notes.put("a", {"n": 1}, first.rev)
        with pytest.raises(ConflictError):
            notes.attach("a", "f", b"x", rev=first.rev)
        for name in ("attachment", "detach"):
            with pytest.raises(NotFoundError):
                getattr(notes, name)("a", "never")
        for wrong in (1, {"f": 1}, {"f": {"data": "aGVsbG8="}}):
            with pytest.raises(InvalidDocumentError):
                notes.put("b", {"_attachments": wrong})
        forged = {"content_type": "a/b", "digest": "md5-", "length": 1, "revpos": 1, "sha256": "00" * 32}
        with pytest.raises(crdtdb.CrdtdbError):
            notes.put("b", {"_attachments": {"f": forged}})
        assert "b" not in notes
        backend = backend_of(db.store)
        assert [key for key, _ in backend.scan(b"A", b"c") if key[:1] in (b"A", b"b")] == []


LARGE = bytes(range(256)) * 2_500
"""Over two pieces."""


def open_two(kinds: tuple[str, str], folder: Path) -> tuple[crdtdb.Database, crdtdb.Database]:
    urls = {"memory": "memory:", "leveldb": f"{folder}/{{}}", "sqlite": f"sqlite:{folder}/{{}}.db"}
    one, other = (urls[kind].format(name) for kind, name in zip(kinds, ("one", "other"), strict=True))
    return crdtdb.open(one), crdtdb.open(other)


def fill(db: crdtdb.Database, name: str, documents: int) -> None:
    """Documents with a file each; of three that follow each other two share one, and the first has a large one, too."""
    notes = db[name]
    for number in range(documents):
        doc_id = f"{name}{number:03}"
        notes.put(doc_id, {"n": number})
        notes.attach(doc_id, "f", f"{name} {number // 2}".encode())
    notes.attach(f"{name}000", "large", LARGE)


@pytest.mark.parametrize("kinds", [("memory", "memory"), ("leveldb", "sqlite"), ("sqlite", "leveldb")])
def test_many_documents_bring_their_attachments_both_ways(kinds: tuple[str, str], tmp_path: Path) -> None:
    one, other = open_two(kinds, tmp_path)
    with one, other:
        fill(one, "a", 40)
        fill(other, "b", 3)
        assert crdtdb.sync(one, other) == (3, 40)
        assert crdtdb.sync(one, other) == (0, 0)
        for db in (one, other):
            for name, documents in (("a", 40), ("b", 3)):
                for number in range(documents):
                    assert db[name].attachment(f"{name}{number:03}", "f") == f"{name} {number // 2}".encode()
                assert db[name].attachment(f"{name}000", "large") == LARGE
            check_store(db.store)


def test_siblings_bring_each_its_attachments_even_through_a_third_store() -> None:
    with crdtdb.open("memory:") as one, crdtdb.open("memory:") as other, crdtdb.open("memory:") as third:
        for db, text in ((one, b"one"), (other, b"other")):
            for number in range(5):
                db["notes"].put(str(number), {"by": text.decode()})
                db["notes"].attach(str(number), "f", text + str(number).encode())
                db["notes"].attach(str(number), "same", b"shared")
        crdtdb.sync(one, other)
        crdtdb.sync(other, third)
        for db in (one, other, third):
            for number in range(5):
                siblings = db["notes"].siblings(str(number))
                assert len(siblings) == 2
                found = {db["notes"].attachment(str(number), "f", sibling.rev) for sibling in siblings}
                assert found == {f"one{number}".encode(), f"other{number}".encode()}
            check_store(db.store)


def test_a_page_names_all_contents_that_it_lacks_at_once() -> None:
    with crdtdb.open("memory:") as db, crdtdb.open("memory:") as other:
        fill(db, "a", 30)
        parcel = DeltaBatch(db.store.replication.outgoing(EMPTY).next_page().parcel)
        with pytest.raises(ContentMissingError) as refused:
            other.store.replication.receive(parcel, advance=True)
        assert len({content.sha256 for content in refused.value.missing}) == len(refused.value.missing) == 16
        assert not other.store.root.clock


def test_a_spoiled_attachment_is_named_and_not_copied() -> None:
    with crdtdb.open("memory:") as db, crdtdb.open("memory:") as other:
        fill(db, "a", 1)
        backend = backend_of(db.store)
        for key, _ in list(backend.scan(b"b", b"c")):
            backend.write({key: b"spoiled"}, durable=False)
        with pytest.raises(StoreCorruptedError, match="isn't what its digest says"):
            crdtdb.sync(db, other)
        assert "a" not in other


def test_aio_syncs_attachments() -> None:
    async def main() -> None:
        async with crdtdb.aio.open("memory:") as one, crdtdb.aio.open("memory:") as other:
            for number in range(3):
                await one.collection("notes").put(str(number), {})
                await one.collection("notes").attach(str(number), "f", str(number).encode())
            await crdtdb.aio.sync(other, one)
            assert await other.collection("notes").attachment("2", "f") == b"2"

    anyio.run(main)
