"""A sibling with a plain value where another has a field: a write on the one leaves what the other shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import crdtdb
from crdtdb import Collection, Counter, Flag, List, Map, Register, Set, Sibling, Text
from crdtdb.crdts import Field
from crdtdb.testing.invariants import check_store

Write = Callable[[Collection, Sibling, Any], object]


class Two:
    """Two stores that have met: document "d" is a field at one of its siblings, and plain at the other."""

    def __init__(self, field: Field, plain: Any) -> None:
        self.databases = [crdtdb.open("memory:"), crdtdb.open("memory:")]
        self.notes = self.databases[0].collection("notes")
        self.notes.put("d", {"by": "ada", "x": field})
        self.databases[1]["notes"].put("d", {"by": "bob", "x": plain})
        crdtdb.sync(*self.databases)

    def sibling(self, by: str) -> Sibling:
        return next(one for one in self.notes.siblings("d") if one.body["by"] == by and not one.path)

    def check(self) -> None:
        crdtdb.sync(*self.databases)
        shown = [[(one.rev, one.body) for one in db["notes"].siblings("d")] for db in self.databases]
        assert shown[0] == shown[1]
        for db in self.databases:
            check_store(db.store)


def edited(change: Callable[[Any, Any], None]) -> Write:
    def write(notes: Collection, sibling: Sibling, plain: Any) -> None:
        with notes.edit("d", sibling.rev) as edit:
            change(edit, plain)

    return write


def assign(edit: Any, plain: Any) -> None:
    edit["x"] = plain


def take(notes: Collection, sibling: Sibling, plain: Any) -> None:
    generation, digest = sibling.rev.split("-")
    above = int(generation) + 1
    revisions = {"start": above, "ids": ["a" * 32, digest]}
    assert notes.take(
        [{**sibling.body, "x": plain, "_id": "d", "_rev": f"{above}-{'a' * 32}", "_revisions": revisions}]
    ) == [None]


WRITES: dict[str, Write] = {
    "put": lambda notes, one, plain: notes.put("d", {**one.body, "x": plain, "more": 1}, one.rev),
    "resolve alone": lambda notes, one, plain: notes.resolve("d", {**one.body, "x": plain, "more": 1}, one.rev),
    "resolve, seen": lambda notes, one, plain: notes.resolve("d", {**one.body, "x": plain, "more": 1}, seen=[one]),
    "edit": edited(assign),
    "attach": lambda notes, one, _: notes.attach("d", "f", b"x", rev=one.rev),
    "take": take,
}
KINDS: list[tuple[Field, Any, Any]] = [
    (List([14]), [17], [17, 18]),
    (Set([14]), [17], [17, 18]),
    (Counter(3), 7, 8),
    (Counter(3), "hello", 8),
    (Text("abc"), "xyz", "xy"),
    (Map({"k": 1}), 5, 6),
    (Map({"k": 1}), 5, {"k": 2}),
    (Flag(True), False, "no"),
    (Register(4), "r", "s"),
]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(("field", "plain", "other"), KINDS)
@pytest.mark.parametrize("changes", [False, True])
def test_a_write_on_the_plain_one(write: str, field: Field, plain: Any, other: Any, changes: bool) -> None:
    two = Two(field, plain)
    shown, wanted = two.sibling("ada").body, other if changes and write != "attach" else plain
    WRITES[write](two.notes, two.sibling("bob"), wanted)
    assert (two.sibling("ada").body, two.sibling("bob").body["x"]) == (shown, wanted)
    two.check()


@pytest.mark.parametrize(("field", "plain", "other"), KINDS)
def test_what_is_removed_is_the_plain_value(field: Field, plain: Any, other: Any) -> None:
    for write in (
        lambda notes, one, _: notes.put("d", {"by": "bob"}, one.rev),
        edited(lambda edit, _: edit.__delitem__("x")),
    ):
        two = Two(field, plain)
        shown = two.sibling("ada").body
        write(two.notes, two.sibling("bob"), other)
        assert two.sibling("ada").body == shown
        two.check()


def test_a_schema_that_came_later_changes_nothing() -> None:
    two = Two(List([14]), [17])
    two.notes.declare({"x": List})
    one = two.sibling("bob")
    two.notes.put("d", {**one.body, "x": [17, 18]}, one.rev)
    assert (two.sibling("ada").body["x"], two.sibling("bob").body["x"]) == ([14], [17, 18])
    two.check()


def test_what_no_other_sibling_shows_stays_beside_a_put_that_leaves_the_plain_value() -> None:
    two = Two(List([14]), [17])
    two.notes.delete("d", two.sibling("ada").rev)
    one = two.sibling("bob")
    two.notes.put("d", {**one.body, "more": 1}, one.rev)
    assert [entry.body["x"] for entry in two.notes.siblings("d")] == [[17], [14]]
    two.check()


def test_a_value_of_the_type_means_the_field() -> None:
    two = Two(List([14]), [17])
    one = two.sibling("bob")
    two.notes.put("d", {**one.body, "x": List([14, 17])}, one.rev)
    assert {str(entry.body["x"]) for entry in two.notes.siblings("d")} == {"[14, 17]"}
    two.check()


@pytest.mark.parametrize(("field", "plain", "other"), KINDS)
def test_history_keeps_the_plain_value(field: Field, plain: Any, other: Any) -> None:
    two = Two(field, plain)
    with two.notes.edit("d", two.sibling("bob").rev) as edit:
        edit["more"] = Counter(1)
    one = two.sibling("bob")
    assert one.rev == str(edit.written.rev)
    two.notes.delete("d", one.rev)
    assert two.notes.get("d", one.rev).body == one.body
    assert next(entry for entry in two.notes.history("d") if entry.rev == one.rev).body == one.body
