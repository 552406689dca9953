"""The store: what a commit keeps, what an exchange moves, and what a drop leaves."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest

from crdtdb.backends import open_backend
from crdtdb.backends.memory import MemoryBackend
from crdtdb.canonical_json import canonical
from crdtdb.causality import DotSet
from crdtdb.database.pull import pull
from crdtdb.documents import Ancestor, Path, Rev, put, view
from crdtdb.errors import (
    ConflictError,
    InvalidInputError,
    StoreClosedError,
    StoreFormatError,
    StoreFullError,
    StoreLockedError,
)
from crdtdb.limits import REVS_LIMIT
from crdtdb.store import MissingAncestorError, Store, Transaction
from crdtdb.testing.invariants import check_store
from crdtdb.testing.virtual import VirtualDisk
from crdtdb.wire.delta_batch import DeltaBatch
from tests.inside import backend_of
from tests.store.worlds import Node


def rows(store: Store) -> dict[bytes, bytes]:
    return dict(backend_of(store).scan(b"", b"\xff" * 8))


def log_rows(store: Store) -> int:
    return sum(1 for key in rows(store) if key.startswith(b"l"))


def test_a_document_is_read_as_it_was_written_and_after_a_reopen(tmp_path: FilePath) -> None:
    for url in (str(tmp_path / "level"), f"sqlite:{tmp_path / 'file.db'}"):
        store = Store.open(url)
        actor = store.actor
        first = store.write("notes", "a", lambda state, write: put(state, write, None, canonical({"n": 1})))
        rev = view(first.state).leaves[0].rev
        store.write("notes", "a", lambda state, write: put(state, write, rev, canonical({"n": 2})))
        digest, clock = store.live_view().digest("notes"), store.root.clock
        store.close()

        again = Store.open(url)
        assert again.actor == actor, "a clean stop keeps the actor"
        assert (again.live_view().digest("notes"), again.root.clock) == (digest, clock)
        past = again.live_view().revision("notes", "a", rev)
        assert past is not None
        assert past.text == b'{"n":1}'
        counts = again.collection("notes")
        assert (counts.documents, counts.deleted, counts.seq) == (1, 0, 2)
        assert [(seq, doc_id) for seq, doc_id, _ in again.live_view().changes("notes")] == [(2, "a")]
        again.close()
        again.close()
        with pytest.raises(StoreClosedError):
            again.write("notes", "b", lambda state, write: put(state, write, None, b"{}"))


def test_a_failed_write_leaves_nothing() -> None:
    ada = Node("ada")
    ada.put("a", {"n": 1})
    before = rows(ada.store)

    def doubtful(transaction: Transaction) -> None:
        transaction.write("other", "b", lambda state, write: put(state, write, None, b"{}"))
        raise RuntimeError("the writer changed its mind")

    with pytest.raises(RuntimeError, match="changed its mind"):
        ada.store.submit(doubtful)
    with pytest.raises(ConflictError):
        ada.put("a", {"n": 2}, Rev(7, "f" * 32))
    assert rows(ada.store) == before
    assert "other" not in ada.store.root.names


def test_a_stop_that_was_not_clean_draws_a_new_actor() -> None:
    backend = MemoryBackend()
    first = Store(backend)
    first.write("notes", "a", lambda state, write: put(state, write, None, b"{}"))
    second = Store(backend)  # the first was never closed
    assert second.actor != first.actor
    assert second.identity.store_id == first.identity.store_id
    assert second.identity.why == "the last stop wasn't clean"
    assert second.live_view().digest("notes") == first.live_view().digest("notes")


def test_a_copy_of_a_store_draws_a_new_actor(tmp_path: FilePath) -> None:
    """History 14 in small: one disk copied, and both started."""
    store = Store.open(str(tmp_path / "one"))
    store.close()
    (tmp_path / "two").mkdir()
    for file in (tmp_path / "one").iterdir():
        (tmp_path / "two" / file.name).write_bytes(file.read_bytes())
    copy = Store.open(str(tmp_path / "two"))
    assert copy.actor != store.actor
    copy.close()


def test_a_second_opener_and_another_format_get_clear_errors(tmp_path: FilePath) -> None:
    store = Store.open(str(tmp_path / "data"))
    with pytest.raises(StoreLockedError, match="already open in this process"):
        Store.open(str(tmp_path / "data"))
    store.close()
    backend = open_backend(str(tmp_path / "data"))
    backend.write({b"!format": b"crdtdb 8"}, durable=True)
    backend.close()
    with pytest.raises(StoreFormatError, match="format 8, this version of crdtdb reads up to 7: upgrade"):
        Store.open(str(tmp_path / "data"))
    backend = open_backend(str(tmp_path / "data"))
    backend.write({b"!format": b"crdtdb 1"}, durable=True)
    backend.close()
    with pytest.raises(StoreFormatError, match="format 1, from before attachments"):
        Store.open(str(tmp_path / "data"))
    foreign = open_backend(f"sqlite:{tmp_path / 'foreign.db'}")
    foreign.write({b"x": b"y"}, durable=True)
    foreign.close()
    with pytest.raises(StoreFormatError, match="didn't write"):
        Store.open(f"sqlite:{tmp_path / 'foreign.db'}")
    with pytest.raises(InvalidInputError, match="'sync' or 'buffered'"):
        Store(MemoryBackend(), durability="never")  # type: ignore[arg-type]


def test_a_full_disk_refuses_the_commit_whole_and_the_store_can_still_be_closed() -> None:
    disk = VirtualDisk()
    store = Store(disk.open())
    store.write("notes", "a", lambda state, write: put(state, write, None, b"{}"))
    before = rows(store)
    disk.full_in = 0
    with pytest.raises(StoreFullError):
        store.write("notes", "b", lambda state, write: put(state, write, None, b"{}"))
    assert rows(store) == before
    assert store.read("notes", "b") is None
    store.write("notes", "c", lambda state, write: put(state, write, None, b"{}"))
    check_store(store)
    disk.full_in = 0
    store.close()  # what marks a clean stop can't be written
    again = Store(disk.open())
    assert again.identity.why == "the last stop wasn't clean"
    assert [doc_id for doc_id, _ in again.live_view().documents("notes")] == ["a", "c"]


def test_large_documents_travel_one_a_page() -> None:
    ada, bob = Node("ada"), Node("bob")
    for n in range(4):
        ada.put(f"d{n}", {"text": "x" * 3_000_000})
    outgoing = ada.store.replication.outgoing(bob.store.root.clock)
    pages = [outgoing.next_page()]
    while not pages[-1].last:
        pages.append(outgoing.next_page())
    assert [page.documents for page in pages] == [1, 1, 1, 1]
    assert bob.hear(ada) == 4


def test_the_log_holds_live_dots_alone() -> None:
    ada = Node("ada")
    for n in range(50):
        ada.put("a", {"n": n})
    assert log_rows(ada.store) == 2, "the creation, and the one live dot"
    assert ada.store.root.clock.highest(ada.store.actor) == 51


def test_an_exchange_moves_what_is_missing_and_no_more() -> None:
    ada, bob = Node("ada"), Node("bob")
    for n in range(30):
        ada.put(f"d{n}", {"n": n})
    assert bob.hear(ada) == 30
    assert bob.hear(ada) == 0
    assert ada.store.replication.outgoing(bob.store.root.clock).nothing
    ada.put("d3", {"n": "changed"})
    bob.put("d4", {"n": "changed too"})
    assert bob.hear(ada) == 1
    assert ada.hear(bob) == 1
    assert ada.digest() == bob.digest()
    assert ada.store.root.clock == bob.store.root.clock


def test_paths_travel_as_far_as_the_receiver_lacks_them() -> None:
    ada, bob = Node("ada"), Node("bob")
    for n in range(300):
        ada.put("a", {"n": n})
    bob.hear(ada)
    ada.put("a", {"n": "last"})
    page = ada.store.replication.outgoing(bob.store.root.clock).next_page()
    (document,) = page.parcel[5]
    assert len(document[2]) < 200, "one link, not three hundred"
    bob.hear(ada)
    for node in (ada, bob):
        record = node.store.read("notes", "a")
        assert record is not None
        (leaf,) = record.state.leaves.values()
        assert len(leaf.path.all()) == 300
        assert leaf.path.leads_to(Rev(1, leaf.path.all()[-1].digest), 301)


def test_a_rumor_with_a_short_path_is_refused_where_the_junction_is_missing() -> None:
    ada, bob = Node("ada"), Node("bob")
    for n in range(20):
        ada.put("a", {"n": n})
    parcel = ada.store.replication.rumor([("notes", "a")])
    assert parcel is not None
    before = rows(bob.store)
    with pytest.raises(MissingAncestorError):
        bob.store.replication.receive(DeltaBatch(parcel))
    assert rows(bob.store) == before
    bob.hear(ada)
    ada.put("a", {"n": "more"})
    parcel = ada.store.replication.rumor([("notes", "a")])
    assert parcel is not None
    assert bob.store.replication.receive(DeltaBatch(parcel)).news == [("notes", "a")]
    assert bob.store.replication.receive(DeltaBatch(parcel)).news == [], "a doubled rumor tells nothing new"
    assert bob.bodies("a") == [{"n": "more"}]


def test_history_8_the_half_exchange() -> None:
    """Bob has half of a snapshot when ada dies for good. His clock hasn't moved; cy still gives him the rest."""
    ada, bob, cy = Node("ada"), Node("bob"), Node("cy")
    ada.put("old", {"v": 1})
    cy.hear(ada)
    ada.put("old", {"v": 2})  # replaces what cy holds
    for n in range(2500):
        ada.put(f"n{n:04}", {"n": n})
    outgoing = ada.store.replication.outgoing(bob.store.root.clock)
    page = outgoing.next_page()
    assert not page.last
    bob.store.replication.receive(DeltaBatch(page.parcel))
    assert not bob.store.root.clock >= ada.store.root.clock
    lacking = [f"n{n:04}" for n in range(2500) if not bob.bodies(f"n{n:04}")]
    assert lacking

    # Ada is gone, but had told cy everything.
    cy.hear(ada)
    assert bob.hear(cy) >= len(lacking)
    assert bob.digest() == cy.digest()


def test_history_9_the_late_frame() -> None:
    """A rumor with an old version comes after everything it told was replaced: nothing comes back."""
    ada, bob = Node("ada"), Node("bob")
    ada.put("a", {"v": "old"})
    late = ada.store.replication.rumor([("notes", "a")])
    assert late is not None
    ada.put("a", {"v": "new"})
    ada.delete("a")
    bob.hear(ada)
    digest = bob.digest()
    assert bob.store.replication.receive(DeltaBatch(late)).news == []
    assert bob.bodies("a") == []
    assert bob.digest() == digest


def test_a_path_that_came_in_part_goes_on_where_it_met_what_was_there() -> None:
    """Seed 401: a deletion came with the end of its path; read one generation too high, it hid nothing."""
    ada, bob = Node("ada"), Node("bob")
    ada.put("a", {"v": 0})
    bob.put("a", {"v": 0})  # a twin, which the path of what follows hides
    for n in range(1, 3):
        ada.put("a", {"v": n})
    bob.hear(ada)
    for n in range(3, 6):
        ada.put("a", {"v": n})
    ada.delete("a")
    bob.hear(ada)
    assert bob.bodies("a") == []
    assert bob.store.collection("notes").documents == 0
    check_store(bob.store)


def test_a_rumor_overtaken_by_a_newer_one_brings_nothing_back() -> None:
    ada, bob = Node("ada"), Node("bob")
    ada.put("a", {"v": "old"})
    late = ada.store.replication.rumor([("notes", "a")])
    ada.put("a", {"v": "new"})
    newer = ada.store.replication.rumor([("notes", "a")])
    assert late is not None
    assert newer is not None
    bob.store.replication.receive(DeltaBatch(newer))
    assert bob.store.replication.receive(DeltaBatch(late)).news == []
    assert bob.digest() == ada.digest()


def test_history_19_the_dropped_collection() -> None:
    """Bob is cut off while ada drops and makes `notes` again: his old documents aren't in the new one."""
    ada, bob = Node("ada"), Node("bob")
    ada.put("a", {"v": "old"})
    bob.hear(ada)
    bob.put("b", {"v": "bob's old"})
    ada.drop()
    ada.put("c", {"v": "new"})
    ada.hear(bob)
    bob.hear(ada)
    ada.hear(bob)
    for node in (ada, bob):
        assert [doc_id for doc_id, _ in node.store.live_view().documents("notes")] == ["c"]
        assert node.store.collection("notes").documents == 1
    assert ada.digest() == bob.digest()
    assert log_rows(bob.store) == log_rows(ada.store)

    # Two nodes that make a name at the same time have one collection.
    ada.put("x", {"v": 1}, name="both")
    bob.put("y", {"v": 2}, name="both")
    ada.hear(bob)
    bob.hear(ada)
    assert ada.digest("both") == bob.digest("both")
    assert {doc_id for doc_id, _ in ada.store.live_view().documents("both")} == {"x", "y"}

    # A drop doesn't take a creation that it had not seen.
    cy = Node("cy")
    cy.put("z", {"v": 3}, name="both")
    ada.drop("both")
    ada.hear(cy)
    assert [doc_id for doc_id, _ in ada.store.live_view().documents("both")] == ["z"]
    cy.hear(bob)  # holds x and y under the creations that ada dropped
    ada.hear(cy)
    cy.hear(ada)
    for node in (ada, cy):
        assert [doc_id for doc_id, _ in node.store.live_view().documents("both")] == ["z"]
        assert node.store.collection("both").documents == 1
    assert ada.digest("both") == cy.digest("both")


def test_a_drop_leaves_no_row_behind() -> None:
    ada = Node("ada")
    ada.put("keep", {"v": 1}, name="other")
    before = len(rows(ada.store))
    for n in range(1200):
        ada.put(f"d{n}", {"n": n})
        if n % 3 == 0:
            ada.put(f"d{n}", {"n": -n})
    ada.drop()
    left = len(rows(ada.store))
    # The set of creations stays interned, and the drop has a mark in the log.
    assert left - before <= 3
    assert ada.bodies("keep", "other") == [{"v": 1}]


def test_a_late_frame_of_a_dropped_collection_is_ignored() -> None:
    ada, bob = Node("ada"), Node("bob")
    ada.put("a", {"v": 1})
    late = ada.store.replication.rumor([("notes", "a")])
    assert late is not None
    ada.drop()
    bob.hear(ada)
    assert bob.store.replication.receive(DeltaBatch(late)).news == []
    assert "notes" not in bob.store.root.names
    assert bob.hear(ada) == 0


def test_writers_in_many_threads_lose_nothing(tmp_path: FilePath) -> None:
    store = Store.open(str(tmp_path / "data"))
    errors: list[Exception] = []

    def work(thread: int) -> None:
        try:
            for n in range(100):
                store.write("notes", f"{thread}-{n}", lambda state, write: put(state, write, None, b"{}"))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.collection("notes").documents == 800
    assert store.root.clock == DotSet.vector({store.actor: 801})
    assert [seq for seq, _, _ in store.live_view().changes("notes")] == list(range(1, 801))
    store.close()


def test_a_buffered_store_ships_only_what_is_durable() -> None:
    flushed: list[bool] = []

    class Watched(MemoryBackend):
        def flush(self) -> None:
            flushed.append(True)

    store = Store(Watched(), durability="buffered")
    other = Store(MemoryBackend())
    store.write("notes", "a", lambda state, write: put(state, write, None, b"{}"))
    assert not flushed
    pull(other, store)
    assert flushed
    flushed.clear()
    store.replication.rumor([("notes", "a")])
    assert flushed


def test_what_is_sent_while_others_write_is_of_one_moment() -> None:
    """A document read before a commit, under a clock read after it, would say that the commit's write was removed."""
    ada, bob = Store(MemoryBackend()), Store(MemoryBackend())
    stop = threading.Event()
    errors: list[Exception] = []

    def write() -> None:
        rev = None
        try:
            while not stop.is_set():
                written = ada.write("notes", "a", lambda state, write: put(state, write, rev, b'{"n":1}'))
                assert written.dot is not None
                rev = written.state.leaves[written.dot].rev
        except Exception as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # let the threads meet in as many places as they can
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(1000):
            encoded = ada.replication.rumor([("notes", "a")])
            if encoded is None:
                continue
            parcel = DeltaBatch(encoded)
            state, _ = parcel.state(parcel.documents[0], lambda rev: lambda: ())
            (dot,) = state.leaves
            assert parcel.clock.highest(dot.actor) == dot.counter, "the clock is that of the document's commit"
            try:
                bob.replication.receive(parcel)
            except MissingAncestorError:
                pull(bob, ada)
    finally:
        stop.set()
        writer.join()
        sys.setswitchinterval(interval)
    assert errors == []
    pull(bob, ada)
    assert bob.live_view().digest("notes") == ada.live_view().digest("notes")
    check_store(bob)


def test_a_document_with_more_revisions_than_are_kept_reaches_a_node_that_has_nothing_of_it() -> None:
    ada, bob = Node("ada"), Node("bob")
    for n in range(REVS_LIMIT + 200):
        ada.put("a", {"n": n})
    bob.hear(ada)
    assert bob.bodies("a") == [{"n": REVS_LIMIT + 199}]
    check_store(bob.store)
    bob.put("a", {"n": "bob's"})
    ada.hear(bob)
    assert ada.digest() == bob.digest()


def test_a_path_is_read_no_further_than_somebody_looks() -> None:
    read = []

    def older() -> Iterator[Ancestor]:
        for n in range(1_000):
            read.append(n)
            yield Ancestor(f"{n}", None)

    path = Path((Ancestor("parent", None),), older)
    assert path.leads_to(Rev(99, "parent"), 100)
    assert read == []
    assert path.leads_to(Rev(96, "2"), 100)
    assert not path.leads_to(Rev(96, "other"), 100)
    assert read == [0, 1, 2]
    assert path.extended("child", None).leads_to(Rev(95, "3"), 101)
    assert read == [0, 1, 2, 3]
    assert len(path.all()) == REVS_LIMIT
    assert path.all()[4].digest == "3"
