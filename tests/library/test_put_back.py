"""Files put back in place: nothing of either history is lost, whatever is synced with whom, and in which order."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

import crdtdb
from crdtdb.backends import Backend
from crdtdb.backends.memory import MemoryBackend
from crdtdb.backends.protocol import Capabilities
from crdtdb.testing.invariants import check_store
from crdtdb.wire.delta_batch import DeltaBatch
from tests.inside import backend_of, session_of
from tests.store.test_collection import collect


class Kept:
    """A database on a disk whose files are copied, and put back into the same place: inode and all."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.place = folder / "data"

    def open(self) -> crdtdb.Database:
        return crdtdb.open(str(self.place) if self.kind == "leveldb" else f"sqlite:{self.place}")

    def copy(self) -> Path:
        to = self.folder / f"copy{len(list(self.folder.iterdir()))}"
        if self.kind == "leveldb":
            shutil.copytree(self.place, to)
        else:
            shutil.copyfile(self.place, to)
        return to

    def put_back(self, copy: Path) -> None:
        if self.kind == "leveldb":
            for file in self.place.iterdir():
                file.unlink()
            shutil.copytree(copy, self.place, dirs_exist_ok=True)
        else:
            shutil.copyfile(copy, self.place)


@pytest.fixture(params=["leveldb", "sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    return Kept(tmp_path, request.param)


def begin(kept: Kept, other: crdtdb.Database) -> Path:
    """Ada writes, syncs with Bob, stops, and copies her files."""
    with kept.open() as ada:
        notes = ada["notes"]
        notes.put("both", {"v": 0})
        notes.put("post", {"likes": crdtdb.Counter(5), "text": crdtdb.Text("Hello"), "tags": crdtdb.Set(["a"])})
        notes.put("gone", {"v": 0})
        crdtdb.sync(ada, other)
    return kept.copy()


def write(ada: crdtdb.Database, word: str, by: int) -> None:
    """What Ada does after the copy, and again after it was put back."""
    notes = ada["notes"]
    notes.put(word, {"by": word})
    notes.put("both", {"v": word}, rev=notes.get("both").rev)
    notes.put("same", {"v": "the same"})
    with notes.edit("post") as post:
        post["likes"].increment(by)
        post["text"].insert(0, word)
        post["tags"].add(word)
    ada[f"made-{word}"].put("x", {"by": word})


def check(*databases: crdtdb.Database) -> None:
    """Both histories are there, once, and all hold the same."""
    for db in databases:
        check_store(db.store)
        notes = db["notes"]
        assert notes.get("first") == {"by": "first"}
        assert notes.get("second") == {"by": "second"}
        assert sorted(sibling.body["v"] for sibling in notes.siblings("both")) == ["first", "second"]
        assert notes.get("same") == {"v": "the same"}
        assert not notes.get("same").conflicts, "what is equal is there once"
        post = notes.get("post")
        assert post["likes"] == 5 + 2 + 3
        assert sorted(post["tags"]) == ["a", "first", "second"]
        assert post["text"] in ("firstsecondHello", "secondfirstHello")
        assert db["made-first"].get("x") == {"by": "first"}
        assert db["made-second"].get("x") == {"by": "second"}
    assert len({db["notes"].digest() for db in databases}) == 1
    assert len({db.store.root.clock for db in databases}) == 1


@pytest.mark.parametrize("further", [0, 7])
def test_files_are_put_back_and_written_again(kept: Kept, further: int) -> None:
    bob = crdtdb.open("memory:")
    copy = begin(kept, bob)
    with kept.open() as ada:
        write(ada, "first", 2)
        crdtdb.sync(ada, bob)
    kept.put_back(copy)
    with kept.open() as ada:
        before = ada.store.actor
        write(ada, "second", 3)
        ada["notes"].bulk([{"_id": f"{n}"} for n in range(further)])  # as many writes as were lost, or more
        done = crdtdb.sync(ada, bob)
        assert (done.renamed, done.new_actors, done.mended) == (1, 1, ())
        assert done.pulled >= 4
        assert done.pushed >= 4
        assert ada.store.actor != before
        check(ada, bob)
        assert crdtdb.sync(bob, ada) == crdtdb.Synced(0, 0)
        ada["notes"].put("later", {})
        assert crdtdb.sync(ada, bob) == crdtdb.Synced(0, 1)
    with kept.open() as ada:
        ada["notes"].put("after a restart", {})
        assert crdtdb.sync(ada, bob) == crdtdb.Synced(0, 1)
        check(ada, bob)
    bob.close()


def test_files_are_put_back_and_nothing_is_written(kept: Kept) -> None:
    bob = crdtdb.open("memory:")
    copy = begin(kept, bob)
    with kept.open() as ada:
        write(ada, "first", 2)
        crdtdb.sync(ada, bob)
    kept.put_back(copy)
    with kept.open() as ada:
        done = crdtdb.sync(bob, ada)
        assert (done.renamed, done.new_actors) == (0, 1), "Bob knows more of Ada's actor than she does"
        with ada["notes"].edit("post") as post:
            post["likes"].increment(3)
        crdtdb.sync(bob, ada)
        assert bob["notes"].get("post")["likes"] == 10
        assert ada["notes"].digest() == bob["notes"].digest()
    bob.close()


@pytest.mark.parametrize("order", ["ada first", "others first"])
def test_two_others_hold_different_histories_of_one(kept: Kept, order: str) -> None:
    """Bob has what Ada wrote first, Cy what she wrote the second time; they meet when she is there, or gone for good."""
    bob, cy = crdtdb.open("memory:"), crdtdb.open("memory:")
    copy = begin(kept, bob)
    with kept.open() as ada:
        write(ada, "first", 2)
        crdtdb.sync(ada, bob)
    kept.put_back(copy)
    with kept.open() as ada:
        write(ada, "second", 3)
        crdtdb.sync(ada, cy)
        cy["notes"].put("second", {"by": "second"}, rev=None) if "second" not in cy["notes"] else None
        with cy["notes"].edit("post") as post:
            post["tags"].discard("nothing")
        cy["made-second"].put("y", {"by": "cy"})
        if order == "ada first":
            crdtdb.sync(ada, bob)
        done = crdtdb.sync(bob, cy)
        assert done.renamed == 1
        for _ in range(2):
            crdtdb.sync(cy, ada)
            crdtdb.sync(ada, bob)
        check(ada, bob, cy)
        assert all(db["made-second"].get("y") == {"by": "cy"} for db in (ada, bob, cy))
    bob.close()
    cy.close()


@pytest.mark.parametrize("written", ["before", "after", "never"])
@pytest.mark.parametrize("later", ["first", "second"])
def test_a_context_names_writes_of_a_lost_history(kept: Kept, later: str, written: str) -> None:
    """Cy hears of a document whose author had seen Ada's first history, and nothing else of it; then she is put back.

    What Cy's document has seen of the first history must not pass for what Ada writes under the same dots the second time.
    Ada writes it before she syncs with Cy, or after; or Bob, who has the first history, never comes back.
    """
    bob, cy = crdtdb.open("memory:"), crdtdb.open("memory:")
    copy = begin(kept, bob)
    crdtdb.sync(bob, cy)
    with kept.open() as ada:
        session_of(ada.store).tag = (b"\xff" if later == "first" else b"\x01") * 16
        ada["notes"].bulk([{"_id": f"first {n}"} for n in range(9)])
        crdtdb.sync(ada, bob)
    with bob["notes"].edit("post") as post:
        post["tags"].add("bob")
    parcel = bob.store.replication.rumor([("notes", "post")])
    assert parcel is not None
    cy.store.replication.receive(DeltaBatch(parcel), lineages=bob.store.root.lineages)
    kept.put_back(copy)
    with kept.open() as ada:
        session_of(ada.store).tag = (b"\x01" if later == "first" else b"\xff") * 16
        if written == "after":
            assert crdtdb.sync(ada, cy).new_actors == 1, "Cy knows more of Ada's actor than she does"
        with ada["notes"].edit("post") as post:
            post["tags"].add("second")
        crdtdb.sync(ada, cy)
        others = [ada, cy] if written == "never" else [ada, cy, bob]
        for _ in range(2):
            for db in others[1:]:
                crdtdb.sync(ada, db)
        for db in others:
            check_store(db.store)
            assert sorted(db["notes"].get("post")["tags"]) == ["a", "bob", "second"]
        assert len({db["notes"].digest() for db in others}) == 1
    bob.close()
    cy.close()


def test_three_histories_of_one(kept: Kept) -> None:
    bob, cy = crdtdb.open("memory:"), crdtdb.open("memory:")
    copy = begin(kept, bob)
    for word, by, other in (("first", 2, bob), ("second", 3, cy)):
        with kept.open() as ada:
            write(ada, word, by)
            crdtdb.sync(ada, other)
        kept.put_back(copy)
    with kept.open() as ada:
        ada["notes"].put("third", {"by": "third"})
        with ada["notes"].edit("post") as post:
            post["likes"].increment(100)
        crdtdb.sync(bob, cy)
        for _ in range(2):
            crdtdb.sync(ada, cy)
            crdtdb.sync(bob, ada)
        for db in (ada, bob, cy):
            check_store(db.store)
            assert db["notes"].get("third") == {"by": "third"}
            assert db["notes"].get("post")["likes"] == 110
        assert len({db["notes"].digest() for db in (ada, bob, cy)}) == 1
    bob.close()
    cy.close()


def test_a_delete_and_a_drop_of_the_second_history_count(kept: Kept) -> None:
    bob = crdtdb.open("memory:")
    with kept.open() as ada:
        ada["old"].put("x", {})
    copy = begin(kept, bob)
    with kept.open() as ada:
        write(ada, "first", 2)
        crdtdb.sync(ada, bob)
    kept.put_back(copy)
    with kept.open() as ada:
        ada["notes"].delete("gone", ada["notes"].get("gone").rev)
        ada.drop("old")
        crdtdb.sync(ada, bob)
        for db in (ada, bob):
            assert "gone" not in db["notes"]
            assert "old" not in db
            assert db["notes"].get("first") == {"by": "first"}
            check_store(db.store)
    bob.close()


def test_an_attachment_of_either_history_stays(kept: Kept) -> None:
    bob = crdtdb.open("memory:")
    copy = begin(kept, bob)
    for word in ("first", "second"):
        with kept.open() as ada:
            rev = ada["notes"].get("gone").rev
            ada["notes"].attach("gone", f"{word}.txt", word.encode() * 50_000, "text/plain", rev=rev)
            crdtdb.sync(ada, bob)
        if word == "first":
            kept.put_back(copy)
    siblings = bob["notes"].siblings("gone")
    found = {
        bob["notes"].attachment("gone", f"{w}.txt", rev=s.rev)
        for s in siblings
        for w in ("first", "second")
        if w in str(s.body)
    }
    assert found == {b"first" * 50_000, b"second" * 50_000}
    check_store(bob.store)
    bob.close()


def test_a_value_put_for_a_field_and_history_survive_a_renaming(kept: Kept) -> None:
    """Ada's second history has revisions of several generations, and a conflict that she resolved."""
    bob = crdtdb.open("memory:")
    copy = begin(kept, bob)
    with kept.open() as ada:
        write(ada, "first", 2)
        crdtdb.sync(ada, bob)
    kept.put_back(copy)
    with kept.open() as ada:
        notes = ada["notes"]
        for n in range(5):
            notes.put("both", {"v": f"second {n}"}, rev=notes.get("both").rev)
        before = [one.rev for one in notes.history("both")]
        crdtdb.sync(ada, bob)
        for db in (ada, bob):
            assert {sibling.body["v"] for sibling in db["notes"].siblings("both")} == {"first", "second 4"}
            shown = [one.rev for one in db["notes"].history("both")]
            assert set(before) <= set(shown)
            check_store(db.store)
        notes.resolve("both", {"v": "both"})
        crdtdb.sync(ada, bob)
        assert bob["notes"].get("both") == {"v": "both"}
    bob.close()


class Placed(MemoryBackend):
    """Rows that stay where they are: a memory backend that pretends to lie on a disk."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("memory", durable=False, place="here")


def rows_of(backend: Backend) -> dict[bytes, bytes | None]:
    return dict(backend.scan(b"", b"\xff" * 8))


def reopened(rows: dict[bytes, bytes | None]) -> crdtdb.Database:
    backend = Placed()
    backend.write(rows, durable=False)
    return crdtdb.Database(crdtdb.store.Store(backend))


def test_what_nobody_noticed_is_mended_where_clocks_are_equal() -> None:
    """A machine was set back while it ran: two histories of one session, equal clocks, and different documents."""
    first = reopened({})
    first["notes"].put("x", {"v": 0})
    bob = crdtdb.open("memory:")
    crdtdb.sync(first, bob)
    session_of(first.store).identity.stopped(backend_of(first.store))
    kept = rows_of(backend_of(first.store))
    tag = session_of(first.store).tag
    histories = []
    for word in ("first", "second"):
        db = reopened(dict(kept))
        session_of(db.store).tag = tag
        db["notes"].put("x", {"v": word}, rev=db["notes"].get("x").rev)
        db["notes"].put(word, {})
        histories.append(db)
    crdtdb.sync(histories[0], bob)
    done = crdtdb.sync(bob, histories[1])
    assert done.mended, "it isn't said that nothing was to be done"
    for db in (bob, histories[1]):
        check_store(db.store)
        assert {sibling.body["v"] for sibling in db["notes"].siblings("x")} == {"first", "second"}
        assert {"first", "second"} <= {one.id for one in db["notes"].all()}
    assert bob["notes"].digest() == histories[1]["notes"].digest()


def test_rows_that_were_lost_come_back() -> None:
    one, other = crdtdb.open("memory:"), crdtdb.open("memory:")
    one["notes"].bulk([{"_id": f"{n}", "n": n} for n in range(20)])
    crdtdb.sync(one, other)
    lose(other, "7")
    done = crdtdb.sync(one, other)
    assert done.mended == ("notes/7",)
    assert other["notes"].get("7") == {"n": 7}
    assert crdtdb.sync(one, other) == crdtdb.Synced(0, 0)


def lose(db: crdtdb.Database, doc_id: str) -> None:
    """Take a document's rows out, and its counts: as if part of a file had been put back."""

    def work(transaction: crdtdb.store.Transaction) -> None:
        record = transaction.load("notes", doc_id)
        empty = crdtdb.documents.State({}, {}, {}, record.state.context)
        transaction.documents.save("notes", doc_id, record, empty, record.residue)

    db.store.submit(work)


def test_files_are_put_back_after_others_have_collected(kept: Kept) -> None:
    """Ada deletes, Bob collects, and her files go back to before: what was deleted stays so, and what is new comes along."""
    bob = crdtdb.open("memory:")
    copy = begin(kept, bob)
    with kept.open() as ada:
        ada["notes"].delete("gone", ada["notes"].get("gone").rev)
        crdtdb.sync(ada, bob)
    collect(bob.store)
    assert bob.store.read("notes", "gone") is None
    kept.put_back(copy)
    with kept.open() as ada:
        assert "gone" in ada["notes"]
        ada["notes"].put("new", {})
        crdtdb.sync(ada, bob)
        for db in (ada, bob):
            assert "gone" not in db["notes"]
            assert "new" in db["notes"]
            assert not db.store.identity.entering
            check_store(db.store)
        assert ada["notes"].digest() == bob["notes"].digest()
    bob.close()


def test_others_write_while_it_is_noticed(kept: Kept) -> None:
    """No write of another thread goes on under names that are being changed."""
    bob = crdtdb.open("memory:")
    copy = begin(kept, bob)
    with kept.open() as ada:
        write(ada, "first", 2)
        crdtdb.sync(ada, bob)
    kept.put_back(copy)
    with kept.open() as ada:
        write(ada, "second", 3)
        written: list[str] = []
        stop = threading.Event()

        def keep_writing() -> None:
            while not stop.is_set():
                ada["notes"].put(f"n{len(written)}", {})
                written.append(f"n{len(written)}")

        writer = threading.Thread(target=keep_writing)
        writer.start()
        done = crdtdb.sync(ada, bob)
        stop.set()
        writer.join()
        assert (done.renamed, done.new_actors) == (1, 1)
        crdtdb.sync(ada, bob)
        check(ada, bob)
        assert set(written) <= {doc.id for doc in bob["notes"].all()}
    bob.close()
