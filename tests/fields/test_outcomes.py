"""The table of outcomes for fields: what comes out when two edit one at the same time. Both orders, and through others."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from crdtdb.crdts import Counter, Field, Flag, List, Map, MultiValue, Register, Set, Text
from crdtdb.documents.alternatives import conflicts
from crdtdb.documents.fields import reading
from crdtdb.testing.replicas import Replica
from tests.documents.test_outcomes import all_ways

Act = Callable[[Replica], object]

START: dict[str, Any] = {
    "title": "old",
    "likes": Counter(10),
    "on": Flag(False),
    "tags": Set(["a"]),
    "reg": Register("old"),
    "mv": MultiValue(["old"]),
    "m": Map({"k": "old", "n": Counter(1), "deep": Map({"x": 1})}),
    "body": Text("hello"),
    "items": List([1, 2, 3]),
}


def do(path: str, operation: str, **arguments: Any) -> Act:
    return lambda replica: replica.apply("a", path, operation, **arguments)


def both(*acts: Act) -> Act:
    def act(replica: Replica) -> None:
        for one in acts:
            one(replica)

    return act


def put(**changed: Any) -> Act:
    """Write the whole document as a client that knows no fields: what it read, with something changed."""

    def act(replica: Replica) -> None:
        (read, *_) = replica.values()
        assert isinstance(read, dict)
        replica.put("a", {**read, **changed})

    return act


def remove(replica: Replica) -> None:
    replica.delete("a")


def make_anew(**body: Any) -> Act:
    def act(replica: Replica) -> None:
        replica.delete("a")
        replica.put("a", body)

    return act


ROWS: list[tuple[str, Act, Act, dict[str, Any]]] = [
    ("two increments", do("likes", "increment", by=2), do("likes", "increment", by=3), {"likes": 15}),
    ("increment and decrement", do("likes", "increment", by=2), do("likes", "decrement", by=3), {"likes": 9}),
    ("title and increment", put(title="x"), do("likes", "increment"), {"title": "x", "likes": 11}),
    ("two whole documents that add 1", put(likes=11), put(likes=11), {"likes": 12}),
    ("whole document and increment", put(likes=15, title="x"), do("likes", "increment"), {"likes": 16, "title": "x"}),
    ("enable and disable", do("on", "enable"), do("on", "disable"), {"on": True}),
    ("two enables, one taken back", do("on", "enable"), both(do("on", "enable"), do("on", "disable")), {"on": True}),
    (
        "add and remove of an element",
        do("tags", "add", element="a"),
        do("tags", "remove", element="a"),
        {"tags": ["a"]},
    ),
    ("adds of two elements", do("tags", "add", element="b"), do("tags", "add", element=7), {"tags": ["a", "b", 7]}),
    ("two removes", do("tags", "remove", element="a"), do("tags", "discard", element="a"), {"tags": []}),
    ("an element by a whole document", put(tags=["a", "b"]), do("tags", "remove", element="a"), {"tags": ["b"]}),
    ("two values side by side", do("mv", "set", value="x"), do("mv", "set", value="y"), {"mv": ["x", "y"]}),
    ("one value twice", do("mv", "set", value="x"), do("mv", "set", value="x"), {"mv": ["x"]}),
    ("update and remove of a key", do("m", "set", key="k", value="new"), do("m", "remove", key="k"), {"m.k": "new"}),
    ("increment and remove of a key", do("m.n", "increment", by=5), do("m", "remove", key="n"), {"m.n": 5}),
    (
        "edit deep inside and remove",
        do("m.deep", "set", key="y", value=2),
        do("m", "remove", key="deep"),
        {"m.deep": {"y": 2}},
    ),
    (
        "two keys",
        do("m", "set", key="p", value=1),
        do("m", "set", key="q", value=2),
        {"m.p": 1, "m.q": 2, "m.k": "old"},
    ),
    (
        "typing in one text",
        do("body", "insert", at=0, text="Oh, "),
        do("body", "append", text="!"),
        {"body": "Oh, hello!"},
    ),
    (
        "erasing what both erase",
        do("body", "delete", at=0, count=2),
        do("body", "delete", at=1, count=2),
        {"body": "lo"},
    ),
    (
        "inserts in one list",
        do("items", "insert", at=0, values=[0]),
        do("items", "append", value=4),
        {"items": [0, 1, 2, 3, 4]},
    ),
    ("delete and append", do("items", "delete", at=1), do("items", "append", value=4), {"items": [1, 3, 4]}),
    (
        "text by a whole document",
        put(body="hello world"),
        do("body", "insert", at=0, text="Oh, "),
        {"body": "Oh, hello world"},
    ),
    ("deletion and increment", remove, do("likes", "increment"), {"title": "old", "likes": 11, "body": "hello"}),
    ("deletion and typing", remove, do("body", "append", text="!"), {"title": "old", "body": "hello!", "likes": 10}),
    ("deletion and add", remove, do("tags", "add", element="b"), {"tags": ["a", "b"]}),
    (
        "made anew and increment",
        make_anew(title="new", likes=Counter(3)),
        do("likes", "increment", by=2),
        {"likes": 5, "title": "new"},
    ),
    ("made anew and add", make_anew(tags=Set(["n"])), do("tags", "add", element="b"), {"tags": ["b", "n"]}),
    ("made anew and enable", make_anew(on=Flag(False)), do("on", "enable"), {"on": True}),
    (
        "made anew and key",
        make_anew(m=Map({"z": 1})),
        do("m", "set", key="k", value="kept"),
        {"m": {"k": "kept", "z": 1}},
    ),
    (
        "made anew without the field",
        make_anew(title="new"),
        do("likes", "increment", by=2),
        {"likes": 2, "title": "new"},
    ),
]


def start(replica: Replica) -> None:
    replica.put("a", START)


def shown(replica: Replica, path: str) -> object:
    (value, *_) = replica.values()
    for key in path.split("."):
        value = value[key]  # type: ignore[index]
    return value


@pytest.mark.parametrize(("a", "b", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
@pytest.mark.parametrize("swapped", [False, True], ids=["a,b", "b,a"])
def test_at_the_same_time(a: Act, b: Act, expected: dict[str, Any], swapped: bool) -> None:
    ada, bob = Replica("ada"), Replica("bob")
    start(ada)
    bob.hear(ada)
    (b if swapped else a)(ada)
    (a if swapped else b)(bob)
    ends = all_ways(ada, bob)
    for end in ends:
        assert len(end.view().siblings) == 1, f"no conflict: {end.values()}"
        for path, value in expected.items():
            assert shown(end, path) == value, path
        assert end.state() == ends[0].state()
        assert end.view() == ends[0].view()
        assert end.values() == ends[0].values()


def test_the_later_write_of_a_register_stays() -> None:
    ada, bob = Replica("ada"), Replica("bob")
    start(ada)
    bob.hear(ada)
    ada.apply("a", "reg", "set", value="ada's")
    for _ in range(4):
        bob.apply("a", "likes", "increment")  # lets bob's clock run ahead
    bob.apply("a", "reg", "set", value="bob's")
    for end in all_ways(ada, bob):
        assert shown(end, "reg") == "bob's"


@pytest.mark.parametrize("name", ["likes", "on", "tags", "mv", "m"])
def test_a_field_that_is_created_twice_joins(name: str) -> None:
    values: dict[str, tuple[Field, Field, object]] = {
        "likes": (Counter(1), Counter(2), 3),
        "on": (Flag(True), Flag(False), True),
        "tags": (Set(["x"]), Set(["y"]), ["x", "y"]),
        "mv": (MultiValue([1]), MultiValue([2]), [1, 2]),
        "m": (Map({"x": 1}), Map({"y": Counter(2)}), {"x": 1, "y": 2}),
    }
    ada, bob = Replica("ada"), Replica("bob")
    ada.put("a", {name: values[name][0]})
    bob.put("a", {name: values[name][1]})
    for end in all_ways(ada, bob):
        assert end.values() == [{name: values[name][2]}]


@pytest.mark.parametrize("swapped", [False, True])
def test_a_text_that_is_created_twice_is_one_and_equal_words_are_there_once(swapped: bool) -> None:
    ada, bob = Replica("ada"), Replica("bob")
    (ada if swapped else bob).put("a", {"body": Text("same words")})
    (bob if swapped else ada).put("a", {"body": Text("same words")})
    ends = all_ways(ada, bob)
    for end in ends:
        assert end.values() == [{"body": "same words"}]
        assert end.state() == ends[0].state()
        assert conflicts(reading(end.state().fields, end.state().journals), b"{}") == []
    ends[0].apply("a", "body", "append", text="!")
    ends[1].hear(ends[0])
    assert ends[1].values() == [{"body": "same words!"}]


def test_two_types_at_one_path_are_a_conflict_of_the_field() -> None:
    ada, bob = Replica("ada"), Replica("bob")
    ada.put("a", {"x": 1})
    bob.hear(ada)
    ada.make("a", "f", Set(["kept"]))
    bob.make("a", "f", Counter(7))
    for end in all_ways(ada, bob):
        assert end.field("a", "f") == ["kept"]  # the first in the catalogue; the counter is kept beside it


def test_a_plain_value_written_over_a_field_that_its_author_did_not_know_shows() -> None:
    ada, bob = Replica("ada"), Replica("bob")
    ada.put("a", {"x": 1})
    bob.hear(ada)
    ada.put("a", {"x": 1, "likes": "many"})
    bob.make("a", "likes", Counter(7))
    for end in all_ways(ada, bob):
        assert end.values() == [{"x": 1, "likes": "many"}]
        assert end.field("a", "likes") == 7


def test_an_edit_on_a_loser_shows_whoever_wins() -> None:
    ada, bob = Replica("ada"), Replica("bob")
    ada.put("a", {"title": "ada's", "likes": Counter(1)})
    bob.put("a", {"title": "bob's", "likes": Counter(1)})
    ada.hear(bob)
    bob.hear(ada)
    ada.resolve("a", {"title": "m", "likes": 2})
    bob.increment("a", "likes", 1, bob.view().siblings[1].rev)
    for end in all_ways(ada, bob):
        assert end.values() == [{"title": "m", "likes": 3}]


def test_three_edit_every_field_at_once_and_agree_in_every_order() -> None:
    base = Replica("base")
    start(base)
    people = []
    for number, name in enumerate(("ada", "bob", "cy")):
        one = Replica(name)
        one.hear(base)
        one.apply("a", "likes", "increment", by=number + 1)
        one.apply("a", "tags", "add", element=name)
        one.apply("a", "m", "set", key=name, value=number)
        one.apply("a", "body", "insert", at=number, text=name)
        one.apply("a", "items", "insert", at=number, values=[name])
        people.append(one)
    seen = set()
    for order in permutations(people):
        end = Replica("end")
        for one in order:
            end.hear(one)
        (value,) = end.values()
        seen.add(str(value))
        assert isinstance(value, dict)
        assert value["likes"] == 16
        assert value["tags"] == ["a", "ada", "bob", "cy"]
        assert sorted(value["body"]) == sorted("helloadabobcy")
        assert sorted(map(str, value["items"])) == sorted(map(str, [1, 2, 3, "ada", "bob", "cy"]))
    assert len(seen) == 1


def test_one_name_never_means_two_values() -> None:
    """What was read under a name is what its writer gets to write on: an edit that came meanwhile changes the name."""
    ada, bob = Replica("ada"), Replica("bob")
    start(ada)
    bob.hear(ada)
    ada.put("a", {**_whole(ada), "title": "ada's"})
    read = ada.view().siblings[0].rev
    bob.increment("a", "likes", 1)
    ada.hear(bob)
    now = ada.view().siblings[0].rev
    assert now != read
    assert ada.view().find(read) is None
    ada.put("a", {**_whole(ada), "likes": 20}, now)
    assert ada.count("a", "likes") == 20
    bob.put("a", {**_whole(bob), "title": "bob's"})
    names: dict[object, str] = {}
    for replica in (ada, bob, *all_ways(ada, bob)):
        for sibling, value in zip(replica.view().siblings, replica.values(), strict=True):
            assert names.setdefault(sibling.rev, str(value)) == str(value)


def _whole(replica: Replica) -> dict[str, Any]:
    (value, *_) = replica.values()
    assert isinstance(value, dict)
    return value
