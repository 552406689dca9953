"""Conflicts of fields: what is kept beside what shows is listed, read, put on, deleted and resolved like a sibling."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from random import Random
from typing import Any

import pytest

import crdtdb
from crdtdb.crdts import catalogue
from crdtdb.database import Database
from crdtdb.errors import ConflictError, UndecidedFieldError
from crdtdb.testing.invariants import check_store
from tests.store.worlds import Node

TYPES = list(catalogue.catalogue().values())
Make = Callable[[crdtdb.Collection], object]


def put(**body: Any) -> Make:
    """Put a document that nobody else knows of."""
    return lambda notes: notes.put("k", {"title": "x", **body})


def added(**fields: Any) -> Make:
    """Add to the document that both know."""

    def make(notes: crdtdb.Collection) -> None:
        with notes.edit("k") as document:
            for name, value in fields.items():
                document[name] = value

    return make


class Two:
    """Two nodes that did something at one path before they heard of each other."""

    def __init__(self, first: Make, second: Make, common: bool = True) -> None:
        self.nodes = [Node("ada"), Node("bob")]
        self.notes = [Database(node.store).collection("notes") for node in self.nodes]
        if common:
            self.notes[0].put("k", {"title": "x"})
            self.nodes[1].hear(self.nodes[0])
        first(self.notes[0])
        second(self.notes[1])
        self.talk()

    def talk(self) -> crdtdb.Document:
        for _ in range(2):
            self.nodes[0].hear(self.nodes[1])
            self.nodes[1].hear(self.nodes[0])
        mine, theirs = (notes.get("k") for notes in self.notes)
        assert (dict(mine), mine.conflicts, mine.field_conflicts) == (
            dict(theirs),
            theirs.conflicts,
            theirs.field_conflicts,
        )
        assert self.nodes[0].digest() == self.nodes[1].digest()
        for node in self.nodes:
            check_store(node.store)
        return mine

    def count(self) -> int:
        (count,) = {node.store.collection("notes").conflicts for node in self.nodes}
        return count


DISPUTES: list[tuple[str, Make, Make, bool, tuple[str, ...], Any, Any]] = [
    ("set, counter", added(f=crdtdb.Set(["s"])), added(f=crdtdb.Counter(7)), True, ("f",), ["s"], 7),
    ("text, register", added(f=crdtdb.Text("t")), added(f=crdtdb.Register("r")), True, ("f",), "t", "r"),
    ("map, text", added(f=crdtdb.Map({"a": 1})), added(f=crdtdb.Text("t")), True, ("f",), {"a": 1}, "t"),
    ("made with the document", put(f=crdtdb.Text("t")), put(f=crdtdb.Counter(7)), False, ("f",), "t", 7),
    ("text, list", put(f=crdtdb.Text("t")), put(f=crdtdb.List([1])), False, ("f",), "t", [1]),
    (
        "plain, counter",
        lambda notes: notes.put("k", {"title": "x", "f": "p"}, notes.get("k").rev),
        added(f=crdtdb.Counter(7)),
        True,
        ("f",),
        "p",
        7,
    ),
]
each_dispute = pytest.mark.parametrize(
    ("first", "second", "common", "path", "shown", "hidden"),
    [row[1:] for row in DISPUTES],
    ids=[row[0] for row in DISPUTES],
)


@each_dispute
def test_a_dispute_shows_wherever_conflicts_do(
    first: Make, second: Make, common: bool, path: tuple[str, ...], shown: Any, hidden: Any
) -> None:
    for order in ((first, second), (second, first)):
        two = Two(*order, common=common)
        notes = two.notes[0]
        document = notes.get("k")
        assert document["f"] == shown
        assert document.field_conflicts == (path,)
        winner, *_, other = notes.siblings("k")
        assert document.conflicts[-1] == other.rev
        assert (winner.body["f"], other.body["f"], other.path) == (shown, hidden, path)
        assert [one.id for one in notes.conflicts()] == ["k"]
        assert two.count() == 1
        assert notes.get("k", conflicts=True)["_conflicts"] == list(document.conflicts)
        read = notes.get("k", other.rev)
        assert (read["f"], read.rev, read.conflicts) == (hidden, other.rev, (winner.rev,))


@each_dispute
def test_what_is_hidden_can_be_put_on_and_deleted_alone(
    first: Make, second: Make, common: bool, path: tuple[str, ...], shown: Any, hidden: Any
) -> None:
    two = Two(first, second, common)
    notes = two.notes[0]
    other = notes.siblings("k")[-1]
    changed = {"str": "changed", "int": 9, "list": [2], "dict": {"n": 9}}[type(hidden).__name__]
    notes.put("k", {**other.body, "title": "y", "f": changed}, other.rev)
    document = two.talk()
    assert (document["title"], document["f"]) == ("y", shown)
    assert notes.siblings("k")[-1].body == {"title": "y", "f": changed}
    with pytest.raises(ConflictError):
        notes.delete("k", other.rev)  # it was another
    notes.delete("k", document.conflicts[-1])
    document = two.talk()
    assert (dict(document), document.conflicts, two.count()) == ({"title": "y", "f": shown}, (), 0)


@each_dispute
def test_a_resolution_says_what_becomes_of_it_or_is_refused(
    first: Make, second: Make, common: bool, path: tuple[str, ...], shown: Any, hidden: Any
) -> None:
    two = Two(first, second, common)
    notes = two.notes[0]
    with pytest.raises(UndecidedFieldError, match="'f'"):
        notes.resolve("k", {"title": "both"})
    with pytest.raises(UndecidedFieldError, match="'f'"):
        notes.resolve("k", {"title": "both"}, seen=notes.siblings("k"))
    siblings = notes.siblings("k")
    assert two.talk()["title"] == "x"
    notes.resolve("k", {**siblings[-1].body, "title": "both"}, seen=siblings)
    document = two.talk()
    assert (document["title"], document["f"]) == ("both", hidden)
    assert (document.conflicts, document.field_conflicts, two.count()) == ((), (), 0)


@each_dispute
def test_a_resolution_that_has_not_seen_it_leaves_it(
    first: Make, second: Make, common: bool, path: tuple[str, ...], shown: Any, hidden: Any
) -> None:
    two = Two(first, second, common)
    notes = two.notes[0]
    if notes.get("k")["f"] == "p":
        return  # which is the body's own, and so was seen
    notes.resolve("k", {"title": "both"}, seen=[one for one in notes.siblings("k") if not one.path])
    document = two.talk()
    assert (document["title"], document["f"], document.field_conflicts) == ("both", shown, (path,))
    assert notes.siblings("k")[-1].body["f"] == hidden


def test_a_type_says_which_is_meant() -> None:
    two = Two(added(f=crdtdb.Text("t")), added(f=crdtdb.Register("r")))
    two.notes[0].resolve("k", {"title": "x", "f": crdtdb.Register("s")})
    document = two.talk()
    assert (document["f"], document.fields) == ("s", {("f",): "register"})
    assert document.conflicts == ()


def test_a_plain_value_may_stay_plain() -> None:
    two = Two(lambda notes: notes.put("k", {"f": "p"}, notes.get("k").rev), added(f=crdtdb.Counter(7)))
    two.notes[0].resolve("k", {"f": "q"})
    document = two.talk()
    assert (dict(document), document.fields, document.conflicts) == ({"f": "q"}, {}, ())


def test_what_neither_can_be_is_refused() -> None:
    two = Two(added(f=crdtdb.Set(["s"])), added(f=crdtdb.Counter(7)))
    with pytest.raises(UndecidedFieldError, match=r"a set \(\['s'\]\) and a counter \(7\) at 'f'"):
        two.notes[0].resolve("k", {"f": "neither"})


def test_an_edit_of_what_is_hidden_while_it_is_resolved_stays() -> None:
    two = Two(added(f=crdtdb.Set(["s"])), added(f=crdtdb.Counter(7)))
    siblings = two.notes[0].siblings("k")
    two.notes[1].put("k", {"title": "x", "f": 9}, siblings[-1].rev)
    two.notes[0].resolve("k", siblings[0].body, seen=siblings)
    document = two.talk()
    assert document["f"] == ["s"]
    assert two.notes[0].siblings("k")[-1].body["f"] == 2, (
        "what was added to the counter, which the resolution hadn't seen"
    )


def test_a_put_without_the_name_removes_what_showed_and_nothing_else() -> None:
    two = Two(added(f=crdtdb.Set(["s"])), added(f=crdtdb.Counter(7)))
    two.notes[0].put("k", {"title": "x"}, two.notes[0].get("k").rev)
    document = two.talk()
    assert (document["f"], document.conflicts) == (7, ())


def test_a_field_below_a_plain_value_is_not_hidden_in_silence() -> None:
    two = Two(put(f="plain"), put(f={"n": crdtdb.Counter(7)}), common=False)
    notes = two.notes[0]
    document = notes.get("k")
    assert document.field_conflicts == ((("f", "n"),) if document["f"] == "plain" else ())
    assert {str(one.body["f"]) for one in notes.siblings("k")} == {"plain", "{'n': 7}"}
    notes.resolve("k", {"title": "x", "f": {"n": 8}})
    assert dict(two.talk()) == {"title": "x", "f": {"n": 8}}


def test_a_text_where_another_has_fields_in_an_object() -> None:
    for chosen in ("t", {"n": 8}):
        two = Two(put(f=crdtdb.Text("t")), put(f={"n": crdtdb.Counter(7)}), common=False)
        notes = two.notes[0]
        assert {str(one.body["f"]) for one in notes.siblings("k")} >= {"t", "{'n': 7}"}
        with pytest.raises(UndecidedFieldError):
            notes.resolve("k", {"title": "x"})
        notes.resolve("k", {"title": "x", "f": chosen})
        document = two.talk()
        assert (dict(document), document.conflicts) == ({"title": "x", "f": chosen}, ())


def test_automatic_resolvers_decide_on_bodies_and_leave_fields() -> None:
    two = Two(put(f=crdtdb.Set(["s"])), put(f=crdtdb.Counter(7), more=1), common=False)
    assert two.count() == 1
    two.notes[0].settle(crdtdb.database.resolvers.last_write_wins)
    document = two.talk()
    assert [one.path for one in two.notes[0].siblings("k")] == [(), ("f",)]
    assert document["f"] == ["s"]


def test_a_function_is_given_all() -> None:
    two = Two(added(f=crdtdb.Set(["s"])), added(f=crdtdb.Counter(7)))
    two.notes[0].resolve("k", lambda siblings: siblings[-1].body)
    assert (two.talk()["f"], two.count()) == (7, 0)


def test_a_document_that_is_deleted_has_no_conflict() -> None:
    two = Two(added(f=crdtdb.Set(["s"])), added(f=crdtdb.Counter(7)))
    two.notes[0].delete("k", two.notes[0].get("k").rev)
    two.nodes[1].hear(two.nodes[0])
    assert two.count() == 0
    check_store(two.nodes[1].store)


@pytest.mark.parametrize("seed", range(12))
def test_random_histories_of_disputes_lose_nothing_that_was_not_seen(seed: int) -> None:
    """Three stores make fields of any type at two paths, edit, put on, delete and resolve what they see; all agree."""
    rng, kinds = Random(seed), list(TYPES)
    nodes = [Node(name) for name in ("ada", "bob", "cy")]
    collections = [Database(node.store).collection("notes") for node in nodes]
    for _ in range(50):
        node, other = rng.sample(range(3), 2)
        notes = collections[node]
        if rng.random() < 0.3 and "k" in collections[other]:
            nodes[node].hear(nodes[other])
        elif "k" not in notes:
            notes.put("k", {"title": "x"})
        else:
            act(notes, rng, kinds)
        check_store(nodes[node].store)
    for _ in range(2):
        for node, other in permutations(range(3), 2):
            nodes[node].hear(nodes[other])
    shown = [[(one.rev, one.body, one.path) for one in notes.siblings("k")] for notes in collections if "k" in notes]
    assert all(one == shown[0] for one in shown)
    assert len({node.digest() for node in nodes}) == 1
    if shown:
        siblings = collections[0].siblings("k")
        body = {"f": "decided", "g": "decided", **siblings[0].body}
        collections[0].resolve("k", body, seen=siblings)
        assert collections[0].get("k").conflicts == ()
        assert collections[0].get("k") == {**collections[0].get("k"), **siblings[0].body}


def act(notes: crdtdb.Collection, rng: Random, kinds: list[Any]) -> None:
    siblings = notes.siblings("k")
    chosen, what = rng.choice(siblings), rng.choice(["make", "make", "edit", "put", "delete", "resolve"])
    read = [(one.rev, one.body) for one in siblings]
    if what == "make":
        name, kind = rng.choice("fg"), rng.choice(kinds)
        if name in siblings[0].body:
            return
        with notes.edit("k") as document:
            document[name] = kind()
    elif what == "edit":
        with notes.edit("k") as document:
            for path, kind in notes.get("k").fields.items():
                if len(path) == 1 and hasattr(document[path[0]], "kind"):
                    operation, arguments = catalogue.field_type(kind).sample(rng, document[path[0]].value)
                    document.perform([{"path": path[0], "operation": operation, **arguments}])
    elif what == "put":
        notes.put("k", {**chosen.body, "title": rng.choice("xyz")}, chosen.rev)
        left = [one.body for one in notes.siblings("k") if one.path]
        assert len(left) >= len([one for one in siblings if one.path]), read
    elif what == "delete" and (chosen.path or sum(not one.path for one in siblings) > 1):
        notes.delete("k", chosen.rev)
        assert chosen.rev not in [one.rev for one in notes.siblings("k")]
    elif what == "resolve":
        notes.resolve("k", chosen.body, seen=siblings)
        assert notes.get("k").conflicts == ()
        assert dict(notes.get("k")) == chosen.body
