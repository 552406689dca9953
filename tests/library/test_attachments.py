"""Attachments in the library: put, read, kept by whole documents, merged, synced."""

from __future__ import annotations

import pytest

import crdtdb
from crdtdb.errors import ConflictError, InvalidDocumentError, InvalidInputError, NotFoundError
from crdtdb.testing.invariants import check_store


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
        backend = db.store._backend
        assert [key for key, _ in backend.scan(b"A", b"c") if key[:1] in (b"A", b"b")] == []
