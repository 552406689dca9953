"""Texts and lists at rest and on their way: what a keystroke stores and ships, folding, the cache, failures."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

import crdtdb
from crdtdb.backends.memory import MemoryBackend
from crdtdb.backends.protocol import Batch
from crdtdb.causality import DotSet
from crdtdb.crdts import Sequence
from crdtdb.crdts.sequences import client_of
from crdtdb.database import Database
from crdtdb.database.pull import pull
from crdtdb.errors import ConflictError, InvalidInputError, StoreFullError, TooLargeError
from crdtdb.limits import JOURNAL_UPDATES_MAX
from crdtdb.store import MissingAncestorError, Store
from crdtdb.store.layout import keys
from crdtdb.store.open_sequences import Open, OpenSequences
from crdtdb.store.sequence_reader import SequenceReader
from crdtdb.testing.invariants import check_store
from crdtdb.testing.virtual import VirtualDisk
from crdtdb.wire.codec import encode_message
from crdtdb.wire.delta_batch import DeltaBatch
from crdtdb.wire.messages import PageMessage
from tests.inside import backend_of, sequences_of, store_of
from tests.store.worlds import Node


class People:
    """Ada and bob, who have one text between them."""

    def __init__(self, text: str = "") -> None:
        self.ada, self.bob = Node("ada"), Node("bob")
        self.notes, self.bobs = (Database(one.store).collection("notes") for one in (self.ada, self.bob))
        self.notes.put("a", {"title": "x", "body": crdtdb.Text(text)})
        self.bob.hear(self.ada)

    def same(self) -> str:
        self.ada.hear(self.bob)
        self.bob.hear(self.ada)
        mine, theirs = self.notes.get("a")["body"], self.bobs.get("a")["body"]
        assert mine == theirs
        assert self.ada.digest() == self.bob.digest()
        for one in (self.ada, self.bob):
            check_store(one.store)
        return str(mine)


def keystroke(notes: crdtdb.Collection, at: int, letter: str = "x") -> None:
    with notes.edit("a") as document:
        document["body"].insert(at, letter)


@pytest.mark.parametrize("length", [1_000, 1_000_000])
def test_a_keystroke_stores_and_ships_tens_of_bytes_however_long_the_text_is(length: int) -> None:
    people = People("lorem ipsum " * (length // 12))
    keystroke(people.notes, length // 2)
    people.bob.hear(people.ada)
    batches: list[Batch] = []
    backend = backend_of(people.ada.store)
    write = backend.write

    def spy(batch: Batch, *, durable: bool) -> None:
        batches.append(dict(batch))
        write(batch, durable=durable)

    backend.write = spy
    keystroke(people.notes, length // 2 + 1)
    (batch,) = batches
    updates = [len(key) + len(value) for key, value in batch.items() if key.startswith(b"t") and value is not None]
    assert len(updates) == 1
    assert updates[0] < 100
    assert sum(len(key) + len(value or b"") for key, value in batch.items()) < 600
    outgoing = people.ada.store.replication.outgoing(people.bob.store.root.clock)
    page = outgoing.next_page()
    outgoing.close()
    assert len(encode_message(PageMessage(1, 0, True, page.parcel))) < 300
    people.bob.store.replication.receive(DeltaBatch(page.parcel), advance=True)
    assert people.same()[length // 2 : length // 2 + 2] == "xx"


def test_reading_another_field_does_not_open_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    people = People("hello")
    opened: list[object] = []
    look = SequenceReader.look

    def noted(self: SequenceReader, *rest: Any) -> Any:
        opened.append(rest)
        return look(self, *rest)

    monkeypatch.setattr(SequenceReader, "look", noted)
    document = people.notes.get("a")
    assert document["title"] == "x"
    assert set(document) == {"title", "body"}
    assert document.fields == {("body",): "text"}
    assert [one["title"] for one in people.notes.all()] == ["x"]
    assert opened == []
    assert document["body"] == "hello"
    assert len(opened) == 1


def rows_of_updates(store: Store) -> int:
    return sum(1 for key, _ in backend_of(store).scan(*keys.rest(b"t")) if len(key) > 20 and key[-13:-12] == b"1")


def test_updates_fold_into_a_snapshot_and_a_peer_that_lacks_a_few_gets_those_alone() -> None:
    people = People("start ")
    for n in range(3 * JOURNAL_UPDATES_MAX):
        keystroke(people.notes, 6 + n, "abc"[n % 3])
    assert rows_of_updates(people.ada.store) < 2 * JOURNAL_UPDATES_MAX
    people.bob.hear(people.ada)  # who lacks much gets the snapshot
    assert len(people.same()) == 6 + 3 * JOURNAL_UPDATES_MAX
    store_of(people.notes).sweeper.grown.append(("notes", "a", next(iter(_state(people.ada).journals))))
    before = people.bob.store.root.clock
    keystroke(people.notes, 0, "!")
    people.notes.fold()
    parcel = DeltaBatch(people.ada.store.replication.outgoing(before).next_page().parcel)
    (journal,) = parcel.state(parcel.documents[0], lambda _: lambda: ())[0].journals.values()
    assert journal.snapshots == ()
    assert len(journal.updates) == 1
    assert people.same().startswith("!start")


def _state(node: Node) -> Any:
    record = node.store.read("notes", "a")
    assert record is not None
    return record.state


def test_a_peer_that_was_away_during_the_folding_types_on() -> None:
    people = People("")
    for n in range(200):
        keystroke(people.bobs, n, "b")
    for n in range(4 * JOURNAL_UPDATES_MAX):
        keystroke(people.notes, n, "a")
    text = people.same()
    assert (text.count("a"), text.count("b")) == (4 * JOURNAL_UPDATES_MAX, 200)
    keystroke(people.bobs, 0, "c")
    keystroke(people.notes, 0, "d")
    assert sorted(people.same()[:2]) == ["c", "d"]


def test_history_7_the_half_delta() -> None:
    """Ada ships new leaves and one update of two: bob loses neither his own text nor the second update, in either order."""
    for order in ((0, 1), (1, 0)):
        people = People("old ")
        keystroke(people.bobs, 4, "b")
        parcels = []
        for letter in "12":
            keystroke(people.notes, 4, letter)
            parcels.append(people.ada.store.replication.rumor([("notes", "a")]))
        for number in order:
            parcel = parcels[number]
            assert parcel is not None
            try:
                people.bob.store.replication.receive(DeltaBatch(parcel))
            except MissingAncestorError:
                assert number == 1  # it builds on the first, which isn't here: nothing of it is taken
                assert people.bobs.get("a")["body"] == "old b"
        assert sorted(people.same()) == sorted("old b12")


def test_history_7_the_half_delta_of_a_set() -> None:
    """The same where the context decides: a document's small fields travel whole, or a context would take what didn't come."""
    ada, bob = Node("ada"), Node("bob")
    notes, bobs = Database(ada.store).collection("notes"), Database(bob.store).collection("notes")
    notes.put("a", {"tags": crdtdb.Set(["older"])})
    bob.hear(ada)
    with bobs.edit("a") as document:
        document["tags"].add("bob's")
    parcels = []
    for element in ("one", "two"):
        with notes.edit("a") as document:
            document["tags"].add(element)
        parcels.append(ada.store.replication.rumor([("notes", "a")]))
    for parcel in reversed(parcels):
        assert parcel is not None
        bob.store.replication.receive(DeltaBatch(parcel))
        assert set(bobs.get("a")["tags"]) == {"older", "bob's", "one", "two"}


def test_a_commit_that_fails_leaves_no_text_in_memory_that_the_disk_has_not() -> None:
    disk, rng = VirtualDisk(), Random(1)
    store = Store(disk.open(), draw=rng.randbytes)
    notes = Database(store).collection("notes")
    notes.put("a", {"body": crdtdb.Text("safe")})
    keystroke(notes, 4, "!")
    disk.full_in = 0
    with pytest.raises(StoreFullError):
        keystroke(notes, 0, "lost")
    assert notes.get("a")["body"] == "safe!"
    keystroke(notes, 5, "?")  # a client id that had gone on from the lost edit would diverge here
    other = Store(MemoryBackend())
    pull(other, store)
    assert notes.get("a")["body"] == Database(other)["notes"].get("a")["body"] == "safe!?"
    check_store(store)


def test_an_edit_that_raises_leaves_the_text_as_it_was() -> None:
    people = People("hello")
    with pytest.raises(RuntimeError), people.notes.edit("a") as document:
        document["body"].insert(0, "lost ")
        raise RuntimeError
    with pytest.raises(InvalidInputError, match="positions 99 to 99"), people.notes.edit("a") as document:
        document["body"].insert(0, "lost ")
        document["body"].insert(99, "x")
    assert people.same() == "hello"


def test_every_actor_writes_under_a_client_id_of_its_own() -> None:
    backend, rng = MemoryBackend(), Random(2)
    actors = set()
    for n in range(4):  # each start after a stop that wasn't clean is another actor
        store = Store(backend, draw=rng.randbytes)
        actors.add(store.actor)
        notes = Database(store).collection("notes")
        if n == 0:
            notes.put("a", {"body": crdtdb.Text()})
        keystroke(notes, n, str(n))
    assert len({client_of(actor) for actor in actors}) == 4
    assert notes.get("a")["body"] == "0123"
    check_store(store)


def test_positions_mean_what_they_meant_when_the_edit_began() -> None:
    """Two edits of one process overlap: each finds its place in what the other left."""
    people = People("hello world")
    with people.notes.edit("a") as slow:
        slow["body"].delete(0, 5)
        slow["body"].insert(0, "goodbye")
        with people.notes.edit("a") as fast:
            fast["body"].insert(0, "Oh, ")
            fast["body"].insert(15, "!")
        slow["body"].append("?")
    assert people.same() in ("Oh, goodbye world!?", "Oh, goodbye world?!", "goodbyeOh,  world!?", "goodbyeOh,  world?!")


def test_positions_in_a_list_and_after_what_a_peer_sent() -> None:
    ada, bob = Node("ada"), Node("bob")
    notes, bobs = Database(ada.store).collection("notes"), Database(bob.store).collection("notes")
    notes.put("a", {"items": crdtdb.List([1, 2, 3]), "body": crdtdb.Text("né")})
    bob.hear(ada)
    with notes.edit("a") as document:
        document["items"].delete(2)
        document["items"].append("last")
        document["body"].insert(2, "🎉")
        with bobs.edit("a") as theirs:
            theirs["items"].insert(0, ["first", {"n": 1.5}])
            theirs["body"].insert(0, "ß")
        ada.hear(bob)
    bob.hear(ada)
    assert notes.get("a")["items"] == bobs.get("a")["items"] == ["first", {"n": 1.5}, 1, 2, "last"]
    assert notes.get("a")["body"] == bobs.get("a")["body"] == "ßné🎉"


def test_an_edit_that_lasts_while_thousands_of_others_are_made_is_refused() -> None:
    people = People("hello")
    with pytest.raises(ConflictError), people.notes.edit("a") as slow:
        slow["body"].append("lost")
        for n in range(4 * JOURNAL_UPDATES_MAX):
            keystroke(people.notes, n)
    assert people.same() == "x" * 4 * JOURNAL_UPDATES_MAX + "hello"


def test_a_deleted_branch_that_is_opened_again_leaves_the_fields_of_the_others_alone() -> None:
    people = People("hello")
    people.notes.put("a", {**people.notes.get("a"), "title": "ada's"}, people.notes.get("a").rev)
    people.bobs.put("a", {**people.bobs.get("a"), "title": "bob's"}, people.bobs.get("a").rev)
    people.same()
    closed = people.notes.delete("a", people.notes.siblings("a")[1].rev)
    people.notes.put("a", {"title": "again"}, closed.rev)
    assert people.same() == "hello"


def test_an_edit_can_be_tied_to_a_revision() -> None:
    people = People("hello")
    rev = people.notes.get("a").rev
    with people.notes.edit("a", rev) as document:
        document["body"].append("!")
    with pytest.raises(ConflictError), people.notes.edit("a", rev) as document:
        document["body"].append("?")
    with pytest.raises(ConflictError), people.notes.edit("a", people.notes.get("a").rev) as document:
        document["body"].append("?")
        keystroke(people.notes, 0)
    assert people.same() == "xhello!"


def test_a_text_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb.store.commit.texts.SEQUENCE_BYTES_MAX", 10_000)
    people = People("x" * 5_000)
    with pytest.raises(TooLargeError, match="the limit is 10,000"):
        keystroke(people.notes, 0, "y" * 6_000)
    assert people.same() == "x" * 5_000
    with pytest.raises(TooLargeError):
        people.notes.put("b", {"body": crdtdb.Text("x" * 11_000)})
    small, large = people.notes.bulk(
        [{"_id": "c", "body": crdtdb.Text("x")}, {"_id": "d", "body": crdtdb.Text("x" * 11_000)}]
    )
    assert isinstance(small, crdtdb.Document)
    assert isinstance(large, TooLargeError)
    assert [one.id for one in people.notes.all()] == ["a", "c"]
    people.same()


def test_the_open_texts_are_bounded_in_number_and_bytes() -> None:
    cache = OpenSequences(number_max=3, bytes_max=100)
    slots = [(1, b"%d" % n, crdtdb.Text) for n in range(5)]
    for slot in slots:
        cache.keep(slot, Open(Sequence("text"), {}, b"w", 10))  # type: ignore[arg-type]
    assert len(cache) == 3
    cache.keep(slots[0], Open(Sequence("text"), {}, b"w", 95))  # type: ignore[arg-type]
    assert len(cache) == 1
    assert cache.take(slots[0], {b"a" * 16: 1}, b"w") is None, "one that holds something else is of no use"  # type: ignore[arg-type]
    assert len(cache) == 0


def test_a_thousand_texts_can_be_open_in_turn() -> None:
    node = Node("ada")
    notes = Database(node.store).collection("notes")
    for n in range(200):
        notes.put(f"d{n}", {"body": crdtdb.Text(f"text {n}")})
    for n in range(200):
        with notes.edit(f"d{n}") as document:
            document["body"].append("!")
    assert len(sequences_of(node.store)) <= 64
    assert notes.get("d17")["body"] == "text 17!"
    check_store(node.store)


def test_two_edits_of_one_text_in_one_group_commit() -> None:
    """Writers that share a commit see what those before them in it did."""
    people = People("")
    store = people.ada.store

    def work(transaction: Any) -> None:
        from crdtdb.crdts import Text
        from crdtdb.documents import edit

        for letter in "abc":
            transaction.write(
                "notes",
                "a",
                lambda state, write, letter=letter: edit(
                    state, write, lambda draft, _: Text.operations["append"](draft.at(("body",)), text=letter)
                ),
            )

    store.submit(work)
    assert people.same() == "abc"


def test_a_text_of_a_deleted_document_lives_on_with_an_edit_that_had_not_seen_the_deletion() -> None:
    people = People("hello")
    people.notes.delete("a", people.notes.get("a").rev)
    keystroke(people.bobs, 5, "!")
    assert people.same() == "hello!"


def test_a_text_made_anew_while_somebody_types_in_the_old_one_is_a_conflict_of_the_field() -> None:
    people = People("old")
    people.notes.delete("a", people.notes.get("a").rev)
    people.notes.put("a", {"title": "x", "body": crdtdb.Text("new")})
    keystroke(people.bobs, 3, "!")
    shown = people.same()
    assert shown in ("old!", "new")
    with people.notes.edit("a") as document:
        assert document["body"].conflicts == [{"old!": "new", "new": "old!"}[shown]]
        document["body"].settle()
    assert people.same() == shown
    assert people.bobs.get("a").field_conflicts == ()


def test_a_dropped_collection_leaves_no_row_of_its_texts() -> None:
    people = People("hello")
    keystroke(people.notes, 0)
    people.ada.drop()
    people.bob.hear(people.ada)
    for node in (people.ada, people.bob):
        assert list(backend_of(node.store).scan(*keys.rest(b"t"))) == []
        check_store(node.store)


def test_a_text_reaches_a_node_that_knows_nothing() -> None:
    people = People("hello")
    for n in range(20):
        keystroke(people.notes, n)
    cy = Node("cy")
    outgoing = people.ada.store.replication.outgoing(DotSet())
    cy.store.replication.receive(DeltaBatch(outgoing.next_page().parcel), advance=True)
    outgoing.close()
    assert Database(cy.store)["notes"].get("a")["body"] == "x" * 20 + "hello"
    check_store(cy.store)
