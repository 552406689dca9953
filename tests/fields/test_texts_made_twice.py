"""One text a path, whoever made it first: history 26, its neighbours, and stores whose texts older versions made."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from itertools import permutations
from typing import Any

import pytest

import crdtdb
from crdtdb.backends.memory import MemoryBackend
from crdtdb.causality import Dot
from crdtdb.crdts import Draft, SequenceField, Signature, lives
from crdtdb.crdts.sequences import Sequence, client_of
from crdtdb.database import Database
from crdtdb.database.pull import pull
from crdtdb.documents.fields import check_received
from crdtdb.errors import EncodingError
from crdtdb.limits import JOURNAL_UPDATES_MAX
from crdtdb.testing.invariants import check_store
from tests.store.worlds import Node

SCHEMA = {"body": crdtdb.Text, "items": crdtdb.List, "deep": {"text": crdtdb.Text}}


class Place:
    """A store with a collection `notes`."""

    def __init__(self, name: str) -> None:
        self.node = Node(name)
        self.notes = Database(self.node.store).collection("notes")

    def declared(self) -> Place:
        self.notes.declare(SCHEMA)
        return self

    def type(self, text: str, path: str = "body", at: int = 0) -> None:
        if "k" not in self.notes:
            self.notes.put("k", {})
        with self.notes.edit("k") as document:
            document[path].insert(at, text)

    def put(self, **body: Any) -> None:
        before = self.notes.get("k") if "k" in self.notes else None
        self.notes.put("k", {**(before or {}), **body}, before.rev if before is not None else None)

    def push(self, rev: str, **body: Any) -> None:
        generation, digest = rev.split("-")
        revisions = {"start": int(generation), "ids": [digest]}
        assert self.notes.take([{"_id": "k", "_rev": rev, "_revisions": revisions, **body}]) == [None]

    def collect(self) -> None:
        """Collect as if everybody had acknowledged all that is here."""
        collector = self.node.store.collector
        collector.reach_cut(self.node.store.root.clock)
        while collector.collect(lambda _: None):
            pass

    def hear(self, other: Place) -> None:
        self.node.hear(other.node)


def met(*places: Place) -> crdtdb.Document:
    """Let all hear of each other, in every order and through a third; return what all show."""
    shown = []
    for order in permutations(places):
        third = Place("third")
        for one in order:
            third.hear(one)
        shown.append(third)
    for _ in range(len(places)):
        for one in places:
            for other in places:
                one.hear(other)
    for one in (*places, *shown):
        check_store(one.node.store)
    documents = [one.notes.get("k") for one in (*places, *shown)]
    for document in documents:
        assert dict(document) == dict(documents[0])
        assert document.conflicts == documents[0].conflicts
        assert document.field_conflicts == documents[0].field_conflicts
    for one in places:  # one may have collected already what others still hold
        one.collect()
        check_store(one.node.store)
        assert dict(one.notes.get("k")) == dict(documents[0])
    assert len({one.node.digest() for one in places}) == 1
    return documents[0]


Act = Callable[[Place], None]
ROWS: list[tuple[str, Act, Act, dict[str, Any]]] = [
    ("typed and typed", lambda a: a.type("Hello"), lambda b: b.type("World"), {"body": {"HelloWorld", "WorldHello"}}),
    ("equal values", lambda a: a.put(body="Hello"), lambda b: b.put(body="Hello"), {"body": {"Hello"}}),
    ("values", lambda a: a.put(body="Hello"), lambda b: b.put(body="World"), {"body": {"HelloWorld", "WorldHello"}}),
    (
        "value and typed",
        lambda a: a.put(body="Hello"),
        lambda b: b.type("World"),
        {"body": {"HelloWorld", "WorldHello"}},
    ),
    ("value and nothing", lambda a: a.put(body="Hello"), lambda b: b.put(body=""), {"body": {"Hello"}}),
    ("equal values of several bytes", lambda a: a.put(body="ß🎉"), lambda b: b.put(body="ß🎉"), {"body": {"ß🎉"}}),
    (
        "an equal beginning, and more typed in one",
        lambda a: (a.put(body="Hello"), a.type("!", at=5))[0],  # type: ignore[func-returns-value]
        lambda b: b.put(body="Hello"),
        {"body": {"Hello!"}},
    ),
    (
        "an equal beginning, and more put by the other",
        lambda a: a.put(body="Hello"),
        lambda b: (b.put(body="Hello"), b.put(body="Oh, Hello"))[0],  # type: ignore[func-returns-value]
        {"body": {"Oh, Hello"}},
    ),
    (
        "an empty one that is written as a whole by both",
        lambda a: (a.put(body=""), a.put(body="Hello"))[0],  # type: ignore[func-returns-value]
        lambda b: (b.put(body=""), b.put(body="Hello"))[0],  # type: ignore[func-returns-value]
        {"body": {"Hello"}},
    ),
    ("lists", lambda a: a.put(items=[1, 2]), lambda b: b.put(items=[1, 2]), {"items": {"[1, 2]"}}),
    ("lists of two", lambda a: a.put(items=[1]), lambda b: b.put(items=["x"]), {"items": {"[1, 'x']", "['x', 1]"}}),
    ("deep", lambda a: a.put(deep={"text": "x"}), lambda b: b.put(deep={"text": "x"}), {"deep": {"{'text': 'x'}"}}),
    (
        "a revision made elsewhere",
        lambda a: a.put(body="Hello"),
        lambda b: b.push("1-feed", body="Hello"),
        {"body": {"Hello"}},
    ),
    (
        "a revision made elsewhere, of another value",
        lambda a: a.type("Hello"),
        lambda b: b.push("1-feed", body="World"),
        {"body": {"HelloWorld", "WorldHello"}},
    ),
    (
        "two revisions made elsewhere",
        lambda a: a.push("1-beef", body="Hello"),
        lambda b: b.push("1-feed", body="Hello"),
        {"body": {"Hello"}},
    ),
]


@pytest.mark.parametrize(("a", "b", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
@pytest.mark.parametrize("swapped", [False, True], ids=["a,b", "b,a"])
def test_history_26_the_text_typed_twice(a: Act, b: Act, expected: dict[str, set[str]], swapped: bool) -> None:
    ada, bob = Place("ada").declared(), Place("bob").declared()
    (b if swapped else a)(ada)
    (a if swapped else b)(bob)
    shown = met(ada, bob)
    for path, values in expected.items():
        assert str(shown[path]) in values
    assert (shown.conflicts, shown.field_conflicts) == ((), ())


@pytest.mark.parametrize("kind", [crdtdb.Text, crdtdb.List])
def test_texts_that_were_made_by_values_of_their_type_are_one(kind: type[SequenceField]) -> None:
    def value(text: str) -> Any:
        return text if kind is crdtdb.Text else list(text)

    for first, second, expected in (("abc", "abc", "abc"), ("abc", "xyz", "abcxyz"), ("", "xyz", "xyz")):
        ada, bob = Place("ada"), Place("bob")
        ada.notes.put("k", {"m": {"t": kind(value(first))}, "map": crdtdb.Map({"t": kind(value(first))})})
        bob.notes.put("k", {"m": {"t": kind(value(second))}, "map": crdtdb.Map({"t": kind(value(second))})})
        shown = met(ada, bob)
        assert sorted(shown["m"]["t"]) == sorted(shown["map"]["t"]) == sorted(expected)
        assert shown.field_conflicts == ()


def test_three_who_type_before_they_have_met_have_one_text() -> None:
    places = [Place(name).declared() for name in ("ada", "bob", "cy")]
    for number, one in enumerate(places):
        one.put(body="same")
        one.type(str(number), at=4)
    assert sorted(met(*places)["body"]) == sorted("same012")


def test_an_edit_that_assigns_and_types_counts_its_beginning_once() -> None:
    ada, bob = Place("ada"), Place("bob")
    for one, letter in ((ada, "a"), (bob, "b")):
        one.notes.put("k", {})
        with one.notes.edit("k") as document:
            document["body"] = crdtdb.Text("Hello")
            document["body"].append(letter)
            assert document["body"].value == "Hello" + letter
        assert one.notes.get("k")["body"] == "Hello" + letter
    assert met(ada, bob)["body"] in ("Helloab", "Helloba")


def test_a_document_put_where_the_schema_came_later_is_adopted_once_and_joined() -> None:
    ada, bob = Place("ada"), Place("bob")
    ada.notes.put("k", {"body": "Hello", "title": "x"})
    bob.hear(ada)
    for one, letter in ((ada, "a"), (bob, "b")):
        one.declared().type(letter, at=5)
    assert sorted(met(ada, bob)["body"]) == sorted("Helloab")


def test_a_value_written_again_after_it_was_erased_is_there() -> None:
    """The client id of a value is used once: where something was typed, whoever writes it writes as himself."""
    ada, bob = Place("ada").declared(), Place("bob").declared()
    ada.put(body="Hello")
    bob.put(body="Hello")
    ada.put(body="")
    ada.put(body="Hello")
    assert ada.notes.get("k")["body"] == "Hello"
    assert met(ada, bob)["body"] == "Hello"
    bob.put(body="")
    assert met(ada, bob)["body"] == ""


def test_a_planted_value_is_the_same_bytes_everywhere_and_of_its_own_client() -> None:
    kinds: tuple[tuple[Any, Any, Any], ...] = (("text", "Hello ß", "Hello"), ("list", list(range(500)), [1]))
    for kind, value, other in kinds:
        updates = set()
        for writer in (b"ada", b"bob"):
            updates.add(Sequence(kind, (), writer).plant(value, b"planter"))
        assert len(updates) == 1
        (update,) = updates
        assert update is not None
        mine, theirs = Sequence(kind, (update,), b"ada"), Sequence(kind, (), b"bob")
        theirs.plant(other, b"another planter")
        for content in (update, theirs.snapshot()):
            mine.apply(content)
            theirs.apply(content)
        assert mine.value() == theirs.value()
        assert len(mine.value()) == len(value) + len(other)  # type: ignore[arg-type]
    assert client_of(b"planter") != client_of(b"another planter")


def test_journals_that_were_folded_before_they_met_are_one_text() -> None:
    ada, bob = Place("ada").declared(), Place("bob").declared()
    for one, letter in ((ada, "a"), (bob, "b")):
        one.put(body="Hello")
        for _ in range(2 * JOURNAL_UPDATES_MAX):
            one.type(letter)
    shown = met(ada, bob)["body"]
    assert (shown.count("a"), shown.count("b"), shown.count("Hello")) == (2 * JOURNAL_UPDATES_MAX,) * 2 + (1,)


# Lives


def test_a_text_of_another_life_is_another_text() -> None:
    ada, bob = Place("ada").declared(), Place("bob").declared()
    ada.put(body="old")
    bob.hear(ada)
    ada.notes.delete("k", ada.notes.get("k").rev)
    ada.put(body="new")
    bob.type("!", at=3)
    shown = met(ada, bob)
    assert shown["body"] == "new"
    assert shown.field_conflicts == (("body",),)
    with ada.notes.edit("k") as document:
        assert document["body"].conflicts == ["old!"]


def test_two_who_put_a_deleted_document_again_begin_one_life() -> None:
    ada, bob = Place("ada").declared(), Place("bob").declared()
    ada.put(body="old")
    ada.notes.delete("k", ada.notes.get("k").rev)
    bob.hear(ada)
    ada.put(body="new")
    bob.type("typed")
    shown = met(ada, bob)
    assert shown["body"] in ("newtyped", "typednew")
    assert shown.field_conflicts == ()


def test_a_text_that_both_removed_and_made_again_is_one() -> None:
    ada, bob = Place("ada").declared(), Place("bob").declared()
    ada.put(body="old")
    bob.hear(ada)
    for one in (ada, bob):
        with one.notes.edit("k") as document:
            del document["body"]
        one.put(body="new")
        with one.notes.edit("k") as document:  # and once more, in one edit
            del document["body"]
            document["body"] = "newer"
        assert one.notes.get("k")["body"] == "newer"
    shown = met(ada, bob)
    assert set(shown["body"].replace("newer", "")) == set()
    assert shown.field_conflicts in ((), (("body",),))


def test_a_text_that_was_removed_and_made_again_is_not_the_one_that_others_hold() -> None:
    """Ada has collected the removed one, bob hasn't: both show the new one, and nothing of the old."""
    ada, bob = Place("ada").declared(), Place("bob").declared()
    ada.put(body="old", title="x")
    bob.hear(ada)
    ada.notes.put("k", {"title": "x"}, ada.notes.get("k").rev)
    bob.hear(ada)
    ada.hear(bob)
    ada.collect()
    record = ada.node.store.read("notes", "k")
    assert record is not None
    assert not record.state.journals
    ada.put(body="new")
    assert met(ada, bob)["body"] == "new"


def test_a_document_that_was_collected_and_born_again_is_not_the_one_that_others_hold() -> None:
    for first in ({"body": "new"}, {}):
        ada, bob = Place("ada").declared(), Place("bob").declared()
        ada.put(body="old")
        bob.hear(ada)
        ada.notes.delete("k", ada.notes.get("k").rev)
        bob.hear(ada)
        ada.hear(bob)
        ada.collect()
        assert ada.node.store.read("notes", "k") is None
        ada.put(**first)
        if not first:
            ada.type("new")
        assert met(ada, bob)["body"] == "new"


def test_what_claims_to_be_a_life_is_checked() -> None:
    for content in (b"", b"1", b"x:" + b"0" * 16, b"1:" + b"g" * 16, b"9" * 40 + b":" + b"0" * 16, b"1:00"):
        with pytest.raises(EncodingError):
            check_received({crdtdb.crdts.LIFE: {Dot(b"a" * 16, 1): crdtdb.crdts.Delta(content, frozenset())}}, {})
    life = lives.FIRST.after(b"x").after(b"y")
    assert lives.read_life(life.encoded()) == life
    assert lives.FIRST.part < lives.FIRST.after(b"x").part < life.part
    assert lives.is_of_a_life(life.part)


# Texts that older versions made, each under the name of the write that made it


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make texts as an older version does, until the result is called."""

    def begin(cls: type[SequenceField], spot: Any, value: Any) -> str:
        signature: Signature = spot.draft.signature
        origin = signature.origin or f"{signature.dot.actor.hex()}:{signature.dot.counter}"
        part = blake2b(origin.encode(), digest_size=8).hexdigest()
        length = cls.sequence(spot, part).length
        cls.change(spot, [(0, length, value)] if length or value else [], part)
        return part

    monkeypatch.setattr(SequenceField, "begin", classmethod(begin))
    monkeypatch.setattr(Sequence, "untouched", property(lambda self: False))
    monkeypatch.setattr(Draft, "begin_life", lambda self, anchor=None: None)
    return monkeypatch.undo


def doubled(first: str, second: str) -> tuple[Place, Place]:
    ada, bob = Place("ada"), Place("bob")
    for one, text in ((ada, first), (bob, second)):
        one.notes.put("k", {"title": "x", "body": crdtdb.Text(text), "items": crdtdb.List(list(text))})
    ada.hear(bob)
    bob.hear(ada)
    return ada, bob


def test_two_texts_of_older_versions_are_listed_until_the_next_write_joins_them(older: Callable[[], None]) -> None:
    ada, bob = doubled("Hello", "World")
    older()
    shown = met(ada, bob)
    assert shown["body"] in ("Hello", "World")
    assert shown.field_conflicts == (("body",), ("items",))
    ada.put(title="y")
    bob.put(title="y")  # two nodes that join the same join it once
    joined = met(ada, bob)
    assert joined["body"] in ("HelloWorld", "WorldHello")
    assert sorted(joined["items"]) == sorted("HelloWorld")
    assert (joined.conflicts, joined.field_conflicts) == ((), ())


def test_two_texts_of_older_versions_are_joined_by_who_types(older: Callable[[], None]) -> None:
    ada, bob = doubled("Hello", "World")
    older()
    for one, letter in ((ada, "a"), (bob, "b")):
        with one.notes.edit("k") as document:
            document["body"].append(letter)
            document["items"].append(letter)
    joined = met(ada, bob)
    assert sorted(joined["body"]) == sorted(joined["items"]) == sorted("HelloWorldab")
    assert "Hello" in joined["body"]
    assert "World" in joined["body"]
    assert joined.field_conflicts == ()


def test_two_texts_of_older_versions_with_the_same_words_have_them_once(older: Callable[[], None]) -> None:
    ada, bob = doubled("same words", "same words")
    older()
    with ada.notes.edit("k") as document:
        document["body"].append("!")
    bob.put(title="y")
    joined = met(ada, bob)
    assert joined["body"] == "same words!"
    assert "".join(joined["items"]) == "same words"


def test_a_read_joins_nothing(older: Callable[[], None]) -> None:
    ada, bob = doubled("Hello", "World")
    older()
    before = ada.node.store.root.clock
    with ada.notes.edit("k") as document:
        assert document["body"].conflicts
    assert ada.node.store.root.clock == before
    assert met(ada, bob).field_conflicts


def test_a_text_that_a_peer_of_an_older_version_makes_is_joined(older: Callable[[], None]) -> None:
    ada, bob = Place("ada").declared(), Place("bob").declared()
    ada.put(body="Hello")
    older()
    bob.put(body="World")
    assert met(ada, bob)["body"] == "World"
    assert met(ada, bob).field_conflicts == (("body",),)
    bob.type("!", at=5)
    joined = met(ada, bob)
    assert joined["body"] in ("HelloWorld!", "World!Hello")
    assert joined.field_conflicts == ()


def test_a_text_removed_by_an_older_version_is_gone_on_with(older: Callable[[], None]) -> None:
    """Who removed it began no other life, so the journal stays: what is made anew says in it what goes."""
    older()
    ada, bob = Place("ada").declared(), Place("bob").declared()
    ada.put(body="old", title="x")
    bob.hear(ada)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Draft, "begin_life", lambda self, anchor=None: None)
        bob.notes.put("k", {"title": "x"}, bob.notes.get("k").rev)
    ada.hear(bob)
    ada.collect()
    ada.put(body="new")
    assert met(ada, bob)["body"] == "new"


def test_a_store_that_pulls_from_nothing_but_pages_has_the_text() -> None:
    ada, bob = Place("ada").declared(), Place("bob").declared()
    ada.put(body="Hello")
    bob.put(body="Hello")
    ada.hear(bob)
    other = crdtdb.store.Store(MemoryBackend())
    pull(other, ada.node.store)
    assert Database(other)["notes"].get("k")["body"] == "Hello"
