"""Texts of several creations of their collection: a drop takes the words that it had seen, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

import crdtdb
from crdtdb import Database
from crdtdb.causality import Dot
from crdtdb.crdts import GapError, Journal, Snapshot, Strand, Update
from crdtdb.crdts.journal import join_journals
from crdtdb.database.pull import pull
from crdtdb.errors import EncodingError
from crdtdb.limits import JOURNAL_UPDATES_MAX
from crdtdb.testing.invariants import check_store
from crdtdb.wire.delta_batch import DeltaBatch
from crdtdb.wire.states import _journal_in

_FIRST_LETTER = 0x4E00


class Typists:
    """Some stores that create, drop and type into one document, in any order, and what each letter was written under."""

    def __init__(self, seed: int, stores: int) -> None:
        self.rng = Random(seed)
        self.stores = [crdtdb.open("memory:") for _ in range(stores)]
        self.written: dict[str, tuple[str, frozenset[Dot]]] = {}
        self.log: list[tuple[Any, ...]] = []

    def step(self) -> None:
        """Type, drop or sync."""
        at, other = self.rng.sample(range(len(self.stores)), 2)
        act = self.rng.random()
        if act < 0.45:
            self.type(at)
        elif act < 0.55 and "notes" in self.stores[at]:
            self.stores[at].drop("notes")
            self.log.append((at, "drops"))
        elif act >= 0.55:
            crdtdb.sync(self.stores[at], self.stores[other])
            self.log.append((at, "syncs with", other))

    def type(self, at: int) -> None:
        """Put a letter anywhere into a text or list, which is made if it isn't there."""
        store, letter = self.stores[at], chr(_FIRST_LETTER + len(self.written))
        notes, name = store["notes"], self.rng.choice(["body", "items"])
        if "k" not in notes:
            notes.put("k", {"n": len(self.written)})
        with notes.edit("k") as document:
            if name not in document:
                document[name] = crdtdb.Text() if name == "body" else crdtdb.List()
            place = self.rng.randint(0, len(document[name]))
            document[name].insert(place, letter if name == "body" else [letter])
        record = store.store.read("notes", "k")
        assert record is not None
        leaf = max(record.state.leaves.values(), key=lambda leaf: leaf.stamp)
        self.written[letter] = name, leaf.creations
        self.log.append((at, "types", name, letter, len(leaf.creations)))

    def check(self) -> None:
        """All read the same, and what was written under a creation that lives is there, beside what shows if not in it."""
        sync_all(self.stores)
        shown = []
        for one in self.stores:
            check_store(one.store)
            alive = one.store.root.names.get("notes", frozenset())
            siblings = one["notes"].siblings("k") if alive and "k" in one["notes"] else []
            for letter, (name, creations) in self.written.items():
                if creations & alive:
                    assert any(letter in sibling.body.get(name, "") for sibling in siblings), f"{letter} is lost"
            shown.append(([sibling.body for sibling in siblings], one.store.root.clock))
        assert all(one == shown[0] for one in shown), f"under equal clocks the stores show {shown}"

    def close(self) -> None:
        """Close the stores."""
        for one in self.stores:
            one.close()


def sync_all(stores: list[Database]) -> None:
    """Let all stores have everything."""
    for _ in range(2):
        for one in stores:
            for other in stores:
                if one is not other:
                    crdtdb.sync(one, other)


def play(seed: int) -> None:
    """One history of two to four stores."""
    typists = Typists(seed, 2 + seed % 3)
    try:
        for _ in range(typists.rng.randint(5, 25)):
            typists.step()
        typists.check()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}, after {typists.log}") from error
    finally:
        typists.close()


def test_texts_are_equal_under_equal_clocks_and_lose_what_was_dropped_alone() -> None:
    for seed in range(120):
        play(seed)


@pytest.mark.soak
def test_many_histories_of_texts() -> None:
    for seed in range(120, 5_000):
        play(seed)


def keep_all_strands(patch: pytest.MonkeyPatch) -> None:
    """A journal lives whole as long as a part of it does."""
    living = Journal.living
    patch.setattr(Journal, "living", lambda journal, alive: journal if living(journal, alive) is not None else None)


def copy_nothing(patch: pytest.MonkeyPatch) -> None:
    """Who writes under more creations than the rest of a text builds on it all the same."""
    patch.setattr(Journal, "outlives_none_of", lambda journal, creations: True)


@pytest.mark.parametrize("broken", [keep_all_strands, copy_nothing])
def test_a_broken_rule_is_found(broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    with pytest.raises((AssertionError, GapError)):
        for seed in range(300):
            play(seed)


@pytest.fixture
def three() -> Iterator[list[Database]]:
    stores = [crdtdb.open("memory:") for _ in range(3)]
    yield stores
    for store in stores:
        store.close()


def begin(store: Database, text: str) -> None:
    store.collection("notes", schema={"body": crdtdb.Text}).put("k", {"body": text})


def append(store: Database, text: str) -> None:
    with store["notes"].edit("k") as document:
        document["body"].append(text)


def strands(store: Database) -> int:
    record = store.store.read("notes", "k")
    assert record is not None
    (journal,) = record.state.journals.values()
    return len(journal.all_strands())


def test_who_goes_on_with_both_texts_keeps_both(three: list[Database]) -> None:
    """Bob knows both creations when he types: cy's drop of the one that he knows takes nothing of what bob had before him."""
    ada, bob, cy = three
    begin(ada, "A")
    begin(bob, "B")
    crdtdb.sync(cy, ada)
    crdtdb.sync(bob, ada)
    assert strands(bob) == 2
    append(bob, "!")
    wanted = bob["notes"].get("k")["body"]
    assert set(wanted) == {"A", "B", "!"}
    cy.drop("notes")
    sync_all(three)
    assert {one["notes"].get("k")["body"] for one in three} == {wanted}
    append(ada, "?")
    sync_all(three)
    assert {one["notes"].get("k")["body"] for one in three} == {wanted + "?"}
    for one in three:
        check_store(one.store)


def test_who_drops_a_text_and_begins_another_loses_neither(three: list[Database]) -> None:
    """Ada's first text lives on in cy's copy: what she begins after her drop must have other names of Yrs."""
    ada, bob, cy = three
    begin(ada, "")
    append(ada, "A")
    crdtdb.sync(cy, ada)
    begin(bob, "")
    append(bob, "B")
    ada.drop("notes")
    crdtdb.sync(cy, bob)
    append(cy, "!")
    begin(ada, "")
    append(ada, "C")
    sync_all(three)
    assert {"".join(sorted(one["notes"].get("k")["body"])) for one in three} == {"!ABC"}


def test_a_text_is_copied_once_and_then_grows_by_what_is_typed(three: list[Database]) -> None:
    ada, bob, _ = three
    begin(ada, "A" * 10_000)
    begin(bob, "B")
    crdtdb.sync(bob, ada)
    append(bob, "!")
    record = bob.store.read("notes", "k")
    assert record is not None
    clock = bob.store.root.clock
    append(bob, "?")
    outgoing = bob.store.replication.outgoing(clock)
    assert outgoing.next_page().size < 1_000


def test_what_is_left_of_a_text_stands_in_a_store_that_is_opened_again(tmp_path: Any) -> None:
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as cy:
        begin(ada, "A")
        with crdtdb.open(str(tmp_path)) as bob:
            begin(bob, "B")
            crdtdb.sync(cy, bob)
            crdtdb.sync(bob, ada)
            shown = bob["notes"].get("k")["body"]
        cy.drop("notes")
        with crdtdb.open(str(tmp_path)) as bob:
            assert bob["notes"].get("k")["body"] == shown
            crdtdb.sync(bob, cy)
            assert bob["notes"].get("k")["body"] == "A"
            while bob.store.sweeper.sweep():
                pass
            check_store(bob.store)
            append(bob, "!")
        with crdtdb.open(str(tmp_path)) as bob:
            assert bob["notes"].get("k")["body"] == "A!"
            check_store(bob.store)


def test_each_strand_is_folded_by_itself(three: list[Database]) -> None:
    ada, bob, cy = three
    begin(ada, "A")
    begin(bob, "B")
    for _ in range(JOURNAL_UPDATES_MAX):
        append(bob, "b")
    crdtdb.sync(cy, bob)
    crdtdb.sync(bob, ada)
    bob.store.sweeper.grown.append(("notes", "k", next(iter(bob.store.read("notes", "k").state.journals))))  # type: ignore[union-attr]
    assert bob.store.sweeper.fold()
    check_store(bob.store)
    assert len(bob["notes"].get("k")["body"]) == JOURNAL_UPDATES_MAX + 2
    cy.drop("notes")
    sync_all(three)
    assert [one["notes"].get("k")["body"] for one in three] == ["A"] * 3
    for one in three:
        while one.store.sweeper.sweep():
            pass
        check_store(one.store)


def test_an_older_version_gets_one_journal_without_strands(three: list[Database]) -> None:
    """It reads the whole text, as it always did; what comes back from it counts once."""
    ada, bob, cy = three
    begin(ada, "A")
    begin(bob, "B")
    crdtdb.sync(bob, ada)
    append(bob, "!")
    outgoing = bob.store.replication.outgoing(cy.store.root.clock)
    outgoing.knows_strands = False
    cy.store.replication.receive(DeltaBatch(outgoing.next_page().parcel), True)
    assert strands(cy) == 1
    assert cy["notes"].get("k")["body"] == bob["notes"].get("k")["body"]
    append(cy, "?")
    sync_all(three)
    assert {one["notes"].get("k")["body"] for one in three} == {bob["notes"].get("k")["body"]}
    assert sorted(bob["notes"].get("k")["body"]) == sorted("AB!?")
    for one in three:
        check_store(one.store)


X, Y = b"x" * 16, b"y" * 16
ONE, OTHER = frozenset([Dot(X, 1)]), frozenset([Dot(Y, 1)])


def test_an_update_of_a_strand_needs_those_before_it_in_strands_that_live_as_long() -> None:
    begun = Journal({X: 2}, ONE, {Dot(X, 2): Update(0, b"a")})
    both = begun.grown(Dot(X, 3), b"b", ONE | OTHER, whole=True)
    assert both.updates[Dot(X, 3)].after == 0
    later = both.grown(Dot(X, 4), b"c", ONE)
    assert later.updates[Dot(X, 4)].after == 3
    alone = later._replace(updates={Dot(X, 4): later.updates[Dot(X, 4)]})
    with pytest.raises(GapError):
        join_journals(begun, alone)
    assert join_journals(both, alone).vector == {X: 4}


def test_parts_that_were_copied_are_none() -> None:
    """Else a document would be of several parts for ever, and each write in it under all creations that are known."""
    begun = Journal({X: 2}, ONE, {Dot(X, 2): Update(0, b"a")})
    both = begun.grown(Dot(Y, 3), b"b", ONE | OTHER, whole=True)
    assert list(both.parts()) == [ONE | OTHER]
    assert both.outlives_none_of(ONE | OTHER)
    assert set(both.grown(Dot(X, 4), b"c", OTHER).parts()) == {OTHER, ONE | OTHER}


class Tables:
    knows_strands = True
    sets = (ONE, OTHER)

    def actor(self, number: int) -> bytes:
        return (X, Y)[number]

    def creations(self, number: int) -> frozenset[Dot]:
        return self.sets[number]


@pytest.mark.parametrize(
    "encoded",
    [
        [["text", "", "k"], 0, [0, 2], [[0, 2, 0, b"a", 1]], []],
        [["text", "", "k"], 0, [0, 2], [[0, 2, 0, b"a", 1]], [], [[0, [0, 2], []]]],
        [["text", "", "k"], 0, [0, 3], [[0, 2, 0, b"a"]], [], [[0, [0, 2], []]]],
        [["text", "", "k"], 0, [0, 2], [], [[[0, 2], b"a", 1]], [[0, [0, 2], []]]],
    ],
)
def test_strands_that_contradict_their_updates_are_refused(encoded: Any) -> None:
    with pytest.raises(EncodingError):
        _journal_in(encoded, [], Tables())  # type: ignore[arg-type]


def test_strands_are_read_as_they_were_written() -> None:
    encoded = [
        ["text", "", "k"],
        0,
        [0, 2, 1, 3],
        [[1, 3, 0, b"b", 1]],
        [[[0, 2], b"a"]],
        [[0, [0, 2], []], [1, [1, 3], [0, 2]]],
    ]
    _, journal = _journal_in(encoded, [], Tables())  # type: ignore[arg-type]
    assert journal.updates == {Dot(Y, 3): Update(0, b"b", OTHER)}
    assert journal.snapshots == (Snapshot({X: 2}, b"a"),)
    assert journal.strands == {ONE: Strand({X: 2}), OTHER: Strand({Y: 3}, {X: 2})}


def test_what_is_typed_after_a_drop_is_told_from_what_was_typed_before() -> None:
    """Bob's text has a copy of what ada typed. She drops notes, begins d again, and types one letter after another."""
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        for store, letter in ((ada, "A"), (bob, "B")):
            store["notes"].put("d", {"body": crdtdb.Text()})
            with store["notes"].edit("d") as document:
                document["body"].insert(0, letter)
        pull(bob.store, ada.store)
        with bob["notes"].edit("d") as document:
            document["body"].insert(0, "b")
        ada.drop("notes")
        ada["notes"].put("d", {"body": crdtdb.Text()})
        for letter in "YZ":
            with ada["notes"].edit("d") as document:
                document["body"].insert(0, letter)
        for _ in range(2):
            crdtdb.sync(ada, bob)
        shown = [store["notes"].get("d")["body"] for store in (ada, bob)]
        assert shown[0] == shown[1]
        assert set(shown[0]) >= {"b", "Y", "Z"}


def test_an_update_of_an_older_version_goes_on_with_the_strand_in_which_it_began() -> None:
    """It names no creations, and comes in a journal of one strand: who lacks what it builds on must find that out."""
    actor, other = b"a" * 16, b"b" * 16
    hers, his = frozenset({Dot(actor, 1)}), frozenset({Dot(other, 1)})
    mine = Journal({actor: 2}, hers, {Dot(actor, 2): Update(0, b"first")})
    mine = join_journals(mine, Journal({other: 2}, his, {Dot(other, 2): Update(0, b"his")}))
    blurred = Journal({actor: 3, other: 2}, hers | his, {Dot(actor, 3): Update(2, b"second")})
    joined = join_journals(mine, blurred)
    assert joined.updates[Dot(actor, 3)].after == 2
    assert joined.strands[hers].vector == {actor: 3}
