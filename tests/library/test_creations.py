"""Collections that are created and dropped by several stores at once: a document is there whole, or it isn't there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from itertools import count, permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest

import crdtdb
from crdtdb import Database
from crdtdb.causality import Dot
from crdtdb.couchdb import Trees
from crdtdb.crdts import Creations, catalogue
from crdtdb.documents import Write, view
from crdtdb.documents.creations import shared
from crdtdb.documents.fields import reading
from crdtdb.errors import ConflictError, NotFoundError
from crdtdb.store import MissingAncestorError
from crdtdb.store.replication import receiving
from crdtdb.testing.invariants import check_store
from crdtdb.wire.delta_batch import DeltaBatch
from tests.inside import store_of

FIELDS: dict[str, Callable[[], Any]] = {
    "likes": crdtdb.Counter,
    "tags": crdtdb.Set,
    "body": crdtdb.Text,
    "items": crdtdb.List,
}

IDS = "abc"

Effect = tuple[str, str]
"""A field, and what was added to it."""


class Writer:
    """A store with somebody who writes to it, and what the writes on each document had seen."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.database = crdtdb.open("memory:")
        self.notes = self.database.collection("notes")

    def leaves(self, doc_id: str) -> set[Dot]:
        record = self.database.store.read("notes", doc_id)
        return set(record.state.leaves) if record is not None else set()

    def siblings(self, doc_id: str) -> list[tuple[str, bytes | None]]:
        record = self.database.store.read("notes", doc_id)
        assert record is not None
        return [(str(one.rev), one.text) for one in view(record.state).siblings]

    def write(self) -> None:
        rng, world = self.world.rng, self.world
        doc_id = rng.choice(IDS)
        before = self.leaves(doc_id)
        record, known = self.database.store.read("notes", doc_id), self.database.store.root.names.get("notes")
        if record is not None and known is not None and shared(record.state, known) is None:
            world.mixed.add(doc_id)
        seen = set().union(*(world.seen[dot] for dot in before)) if before else set()
        removed = set().union(*(world.removed[dot] for dot in before)) if before else set()
        current = self.notes.get(doc_id) if doc_id in self.notes else None
        made = f"{next(world.numbers)}"
        what = rng.choice(
            ["put", "put", "resolve", "delete", *["likes", "tags", "body", "items"] * 2, "attach", "plain"]
        )
        if current is None or what == "plain":
            revived = current is None
            value = {"n": made} if current is None else {**current, "n": made}
            with suppress(ConflictError):
                self.notes.put(doc_id, value, None if current is None else current.rev)
                self.record(doc_id, before, seen, removed | (seen if revived and before else set()), None)
            return
        rev = rng.choice([current.rev, *current.conflicts])
        try:
            if what == "put":
                chosen = self.notes.get(doc_id, rev=rev)
                self.notes.put(doc_id, {**chosen, "n": made}, rev)
            elif what == "resolve":
                self.notes.resolve(doc_id, {"n": made})
                world.resolved.add(doc_id)
            elif what == "delete":
                self.notes.delete(doc_id, rev)
            elif what == "attach":
                self.notes.attach(doc_id, f"f{made}", made.encode(), rev=current.rev)
            else:
                with self.notes.edit(doc_id) as doc:
                    if what not in doc:
                        doc[what] = FIELDS[what]()
                    self.add(doc[what], what, made)
                self.record(doc_id, before, seen, removed, (what, made))
                return
        except (ConflictError, NotFoundError):
            return
        self.record(doc_id, before, seen, removed, None)

    def drop(self) -> None:
        if "notes" in self.database:
            self.database.drop("notes")

    def add(self, field: Any, what: str, made: str) -> None:
        if what == "likes":
            field.increment(1 << int(made))
        elif what == "tags":
            field.add(made)
        elif what == "body":
            field.append(f"{made},")
        else:
            field.append(made)

    def record(
        self, doc_id: str, before: set[Dot], seen: set[Effect], removed: set[Effect], effect: Effect | None
    ) -> None:
        record = self.database.store.read("notes", doc_id)
        assert record is not None
        for dot in self.leaves(doc_id) - before:
            self.world.seen[dot] = seen | ({effect} if effect is not None else set())
            self.world.removed[dot] = removed
            if effect is not None:
                self.world.creations[effect] = record.state.leaves[dot].creations

    def added(self, doc_id: str) -> dict[str, Any]:
        """What the fields of a document hold, shown or beside what shows."""
        record = self.database.store.read("notes", doc_id)
        assert record is not None
        state = record.state
        draft = reading(state.fields, state.journals, self.database.store.opener("notes", doc_id))
        found: dict[str, Any] = {}
        for what in FIELDS:
            spot = draft.at((what,))
            if not spot.kinds():
                continue
            values = [catalogue.value(spot), *catalogue.conflicting(spot)]
            if what == "likes":
                found[what] = {f"{bit}" for bit in range(200) if values[0] >> bit & 1}  # type: ignore[operator]
            elif what == "body":
                found[what] = {one for value in values for one in str(value).split(",") if one}
            else:
                found[what] = {one for value in values for one in value}  # type: ignore[union-attr]
        return found


class World:
    """Some stores, and what every leaf's author had seen of the fields."""

    def __init__(self, seed: int, stores: int = 3) -> None:
        self.rng, self.numbers = Random(seed), count()
        self.seen: dict[Dot, set[Effect]] = {}
        self.removed: dict[Dot, set[Effect]] = {}
        self.creations: dict[Effect, Creations] = {}
        self.resolved: set[str] = set()
        self.mixed: set[str] = set()
        """Documents that were written on when two creations had each made a part of them."""
        self.writers = [Writer(self, name) for name in "abcd"[:stores]]

    def step(self) -> None:
        one, other = self.rng.sample(self.writers, 2)
        act = self.rng.random()
        if act < 0.5:
            one.write()
        elif act < 0.6:
            one.drop()
        else:
            crdtdb.sync(one.database, other.database)

    def check(self) -> None:
        for _ in range(2):
            for one in self.writers:
                for other in self.writers:
                    if one is not other:
                        crdtdb.sync(one.database, other.database)
        shown = []
        for one in self.writers:
            check_store(one.database.store)
            documents = {}
            for doc_id in IDS:
                if doc_id not in one.notes:
                    continue
                current = one.notes.get(doc_id)
                siblings = one.siblings(doc_id)
                assert all(b'"n":' in (text or b"") for _, text in siblings), f"{doc_id} has lost a body: {siblings}"
                leaves = one.leaves(doc_id)
                wanted = set().union(*(self.seen[dot] for dot in leaves if dot in self.seen))
                wanted -= set().union(*(self.removed[dot] for dot in leaves if dot in self.removed))
                alive = one.database.store.root.names["notes"]
                allowed = set(wanted)
                if doc_id in self.mixed:  # a counter's own run is one, and lives as long as its last step
                    wanted = {effect for effect in wanted if self.creations[effect] & alive}
                found = {(what, made) for what, several in one.added(doc_id).items() for made in several}
                lacking, surplus = wanted - found, found - allowed
                if doc_id in self.resolved:  # which leaves one of two texts that were begun at the same time
                    lacking = {effect for effect in lacking if effect[0] not in ("body", "items")}
                # Whoever goes on with a text that is removed elsewhere at the same time keeps all of it.
                surplus = {effect for effect in surplus if effect[0] not in ("body", "items")}
                assert not lacking | surplus, f"{one.name}: {doc_id} lacks {lacking}, and has {surplus} too many"
                for name in current.get("_attachments", {}):
                    assert one.notes.attachment(doc_id, name) == name[1:].encode()
                documents[doc_id] = (siblings, dict(current), found)
            shown.append((documents, one.database.store.root.clock))
        assert all(one == shown[0] for one in shown), f"the stores differ: {shown}"

    def close(self) -> None:
        for one in self.writers:
            one.database.close()


def play(seed: int) -> None:
    """Two stores create the collection and write, the third hears of one; then anything happens, in any order."""
    world = World(seed)
    ada, bob, cy = world.writers
    try:
        for one in (ada, ada, ada, bob):
            one.write()
        crdtdb.sync(cy.database, ada.database)
        crdtdb.sync(bob.database, ada.database)
        acts = [cy.drop, *[bob.write] * 3, *[ada.write] * 2, cy.write, world.step]
        world.rng.shuffle(acts)
        for act in acts:
            act()
        for _ in range(world.rng.randint(0, 20)):
            world.step()
        world.check()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    finally:
        world.close()


@pytest.mark.parametrize("chunk", range(4))
def test_whatever_is_dropped_no_document_is_ever_a_part(chunk: int) -> None:
    for seed in range(chunk, 160, 4):
        play(seed)


def test_edits_under_all_creations_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit carries all creations that are known, and may outlive what it was made on."""
    monkeypatch.setattr(Write, "build_on", lambda self, state: None)
    monkeypatch.setattr(Write, "keep_body", lambda self, state, leaf: (state, leaf.body_dot))
    with pytest.raises(AssertionError, match="lost a body|lacks"):
        for seed in range(160):
            play(seed)


def edit(notes: crdtdb.Collection) -> None:
    with notes.edit("d") as doc:
        doc["likes"].increment(2)


def type_on(notes: crdtdb.Collection) -> None:
    with notes.edit("d") as doc:
        doc["body"].append(" world")


def attach(notes: crdtdb.Collection) -> None:
    notes.attach("d", "more", b"more")


def put(notes: crdtdb.Collection) -> None:
    notes.put("d", {**notes.get("d"), "title": "new"}, notes.get("d").rev)


def publish(notes: crdtdb.Collection) -> None:
    edit(notes)
    assert Trees(store_of(notes), "notes").find("d") is not None


WRITES = [(False, write) for write in (edit, type_on, publish, attach, put)] + [(True, attach), (True, put)]
"""Whether the document is plain JSON alone, and what bob does with it."""


@pytest.mark.parametrize(("plain", "write"), WRITES)
def test_history_23_the_two_creations_and_the_drop(plain: bool, write: Callable[[crdtdb.Collection], None]) -> None:
    """Ada and bob create notes at the same time; ada's d has a body and fields. Cy knows her creation only, and drops it.

    Bob, knowing both, goes on with d. Whoever meets whom first: d is whole, or it isn't there. Plain JSON that he put whole
    lives, since nobody dropped what he wrote it under; an edit shares the lot of what it was made on.
    """
    outcomes = []
    for order in permutations([(0, 1), (1, 2), (0, 2)]):
        with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob, crdtdb.open("memory:") as cy:
            fields = (
                {} if plain else {"likes": crdtdb.Counter(1), "body": crdtdb.Text("hello"), "tags": crdtdb.Set(["x"])}
            )
            ada["notes"].put("d", {"title": "old", **fields})
            ada["notes"].attach("d", "file", b"bytes")
            bob["notes"].put("e", {"n": 1})
            crdtdb.sync(cy, ada)
            crdtdb.sync(bob, ada)
            cy.drop("notes")
            write(bob["notes"])
            wanted = dict(bob["notes"].get("d"))
            stores = (ada, bob, cy)
            for _ in range(2):
                for first, second in order:
                    crdtdb.sync(stores[first], stores[second])
            shown = [dict(one["notes"].get("d")) if "d" in one["notes"] else None for one in stores]
            assert shown[0] == shown[1] == shown[2]
            assert shown[0] in (None, wanted)
            assert all(one["notes"].get("e") == {"n": 1} for one in stores), "nobody dropped bob's creation"
            for one in stores:
                check_store(one.store)
                if shown[0] is not None:
                    assert all(one["notes"].attachment("d", name) for name in wanted["_attachments"])
            outcomes.append(shown[0])
    assert all(one == outcomes[0] for one in outcomes), "the order in which they meet decides nothing"
    assert (outcomes[0] is not None) == plain


def test_an_edit_of_a_document_outlives_the_drop_of_one_of_its_creations() -> None:
    """Ada made d when she knew both creations: cy's drop of the one that he knows takes neither d nor an edit of it."""
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob, crdtdb.open("memory:") as cy:
        ada.create("notes")
        bob.create("notes")
        crdtdb.sync(cy, ada)
        crdtdb.sync(ada, bob)
        cy.drop("notes")
        ada["notes"].put("d", {"title": "t", "likes": crdtdb.Counter(1)})
        crdtdb.sync(bob, ada)
        edit(bob["notes"])
        for one in (ada, bob):
            crdtdb.sync(cy, one)
        crdtdb.sync(ada, bob)
        for one in (ada, bob, cy):
            assert one["notes"].get("d") == {"title": "t", "likes": 3}


def test_one_content_of_two_lives() -> None:
    """A document with a file is dropped, and made again elsewhere with the same file: it arrives with its bytes."""
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        ada["notes"].put("d", {})
        ada["notes"].attach("d", "file", b"bytes")
        crdtdb.sync(ada, bob)
        ada.drop("notes")
        ada["notes"].put("d", {"n": 2})
        ada["notes"].attach("d", "file", b"bytes")
        crdtdb.sync(bob, ada)
        assert bob["notes"].attachment("d", "file") == b"bytes"
        check_store(bob.store)


@pytest.mark.parametrize("url", ["memory:", "leveldb", "sqlite"])
def test_one_page_gives_up_an_attachment_and_needs_it(url: str, tmp_path: Path) -> None:
    """Of a collection that was made anew the first document has lost its attachment, and the second has the same bytes.

    They were gone when the second was looked at, so the page waited for them, and for ever: the first took what was fetched.
    """
    where = {"memory:": "memory:", "leveldb": str(tmp_path / "bob"), "sqlite": f"sqlite:{tmp_path}/bob.db"}[url]
    with crdtdb.open("memory:") as ada, crdtdb.open(where) as bob:
        ada["notes"].put("a", {"n": 1})
        ada["notes"].attach("a", "file", b"bytes")
        crdtdb.sync(ada, bob)
        ada.drop("notes")
        ada["notes"].put("a", {"n": 2})
        ada["notes"].put("b", {"n": 3})
        ada["notes"].attach("b", "file", b"bytes")
        with closing(ada.store.replication.outgoing(bob.store.root.clock)) as outgoing:
            page = outgoing.next_page()
            assert page.last
            bob.store.replication.receive(DeltaBatch(page.parcel), True, lineages=outgoing.lineages)
        assert bob["notes"].attachment("b", "file") == b"bytes"
        check_store(bob.store)


def test_a_text_of_a_dropped_document_doesnt_go_on_in_one_that_was_made_anew() -> None:
    """Ada drops notes and makes d again; bob hears of the new d in a rumor, before he hears of the drop."""
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        ada["notes"].put("d", {"body": crdtdb.Text("old")})
        crdtdb.sync(ada, bob)
        ada.drop("notes")
        ada["notes"].put("d", {"body": crdtdb.Text("new")})
        rumor = ada.store.replication.rumor([("notes", "d")])
        assert rumor is not None
        with pytest.raises(MissingAncestorError):  # a node asks for an exchange then
            bob.store.replication.receive(DeltaBatch(rumor))
        crdtdb.sync(ada, bob)
        assert ada["notes"].get("d") == bob["notes"].get("d") == {"body": "new"}


def all_meet(stores: Sequence[Database]) -> None:
    for _ in range(2):
        for one, other in permutations(stores, 2):
            crdtdb.sync(one, other)
    for one in stores:
        check_store(one.store)


@pytest.mark.parametrize("url", ["memory:", "leveldb", "sqlite"])
def test_a_drop_leaves_what_lives_under_a_creation_of_which_it_knew_nothing(url: str, tmp_path: Path) -> None:
    """Ada and bob create notes. Bob, who knows both, writes, and cy hears of that in a rumor: he knows bob's creation alone.

    He may not take the document before he knows of ada's: his drop would take it from him, and from nobody else.
    """
    where = {"memory:": "memory:", "leveldb": str(tmp_path / "cy"), "sqlite": f"sqlite:{tmp_path}/cy.db"}[url]
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob, crdtdb.open(where) as cy:
        ada["notes"].put("a", {"by": "ada"})
        bob["notes"].put("b", {"by": "bob"})
        crdtdb.sync(cy, bob)
        crdtdb.sync(ada, bob)
        bob["notes"].put("k", {"by": "bob"})
        rumor = bob.store.replication.rumor([("notes", "k")])
        assert rumor is not None
        with pytest.raises(MissingAncestorError):  # a node asks for an exchange then
            cy.store.replication.receive(DeltaBatch(rumor))
        cy.drop("notes")
        all_meet([ada, bob, cy])
        assert [doc.id for doc in cy["notes"].all()] == ["a", "k"]
        assert len({one["notes"].digest() for one in (ada, bob, cy)}) == 1


def test_what_a_store_holds_under_a_creation_that_it_never_learned_of_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier versions took such documents. An exchange with such a store brings no more, so nobody waits for it."""
    ada, bob, cy, dan = stores = [crdtdb.open("memory:") for _ in range(4)]
    ada["notes"].put("a", {"by": "ada"})
    bob["notes"].put("b", {"by": "bob"})
    for other in (cy, dan):
        crdtdb.sync(other, bob)
    crdtdb.sync(ada, bob)
    bob["notes"].put("k", {"by": "bob"})
    rumor = bob.store.replication.rumor([("notes", "k")])
    assert rumor is not None
    with monkeypatch.context() as earlier:
        earlier.setattr(receiving, "_learn", lambda *_: None)
        cy.store.replication.receive(DeltaBatch(rumor))
    crdtdb.sync(dan, cy)
    assert "k" in dan["notes"]
    all_meet(stores)
    assert len({one["notes"].digest() for one in stores}) == 1
    for store in stores:
        store.close()


def test_a_drop_takes_one_of_two_texts_that_became_one() -> None:
    ada, bob, cy, dan, eve = stores = [crdtdb.open("memory:") for _ in range(5)]
    for store, text in ((ada, "A"), (bob, "B")):
        store.collection("notes", schema={"body": crdtdb.Text}).put("k", {"body": text})
    crdtdb.sync(cy, bob)  # cy knows bob's creation alone, and drops it
    cy.drop("notes")
    for other in (ada, bob, cy):  # dan has both texts when he learns of the drop
        crdtdb.sync(dan, other)
    for other in (ada, cy, bob):  # eve learns of the drop before bob's text
        crdtdb.sync(eve, other)
    for store in stores:
        for other in stores:
            if other is not store:
                crdtdb.sync(store, other)
    shown = {store["notes"].get("k")["body"] for store in stores}
    for store in stores:
        store.close()
    assert len(shown) == 1
