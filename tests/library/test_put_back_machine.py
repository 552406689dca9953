"""Three stores that are copied, put back and synced in any order: all agree in the end, and nothing acknowledged is lost."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import crdtdb
from crdtdb.backends.memory import MemoryBackend
from crdtdb.backends.protocol import Capabilities
from crdtdb.store import Store
from crdtdb.testing.invariants import check_store
from tests.examples import examples
from tests.inside import backend_of, session_of

NAMES = ("ada", "bob", "cy")
IDS = ("a", "b")
Rows = dict[bytes, bytes | None]


class Disk(MemoryBackend):
    """Rows that pretend to lie at one place for ever."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("memory", durable=False, place="here")


class Person:
    """One store, and the copies of its files. What it was told is done is owed, unless its files are put back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.owed: list[tuple[str, int]] = []
        self.copies: list[tuple[Rows, list[tuple[str, int]]]] = []
        self.open({})

    def open(self, rows: Rows) -> None:
        disk = Disk()
        disk.write(rows, durable=False)
        self.db = crdtdb.Database(Store(disk))

    def rows(self) -> Rows:
        """Return the files of the closed store."""
        store = self.db.store
        session_of(store).identity.stopped(backend_of(store))
        return dict(backend_of(store).scan(b"", b"\xff" * 8))

    def copy(self) -> None:
        rows = self.rows()
        self.copies.append((rows, list(self.owed)))
        self.open(rows)

    def restart(self) -> None:
        self.open(self.rows())

    def put_back(self, number: int) -> None:
        """Put a copy back: what came after it is owed by nobody, though others may have it."""
        rows, owed = self.copies[number % len(self.copies)]
        self.owed = list(owed)
        self.open(dict(rows))

    def put(self, doc_id: str, value: int) -> None:
        """Put a value that is told apart from all others, on what is read."""
        notes = self.db["notes"]
        rev = notes.get(doc_id).rev if doc_id in notes else None
        notes.put(doc_id, {"seen": [*seen(notes, doc_id), value]}, rev=rev)
        self.owed.append((doc_id, value))

    def add(self, value: int) -> None:
        """Add to a set, and type into a text, that only ever grow."""
        fields = self.db.collection("fields")
        if "f" not in fields:
            fields.put("f", {"kept": crdtdb.Set([]), "count": crdtdb.Counter(0)})
        with fields.edit("f") as edit:
            edit["kept"].add(value)
            edit["count"].increment(1)
        self.owed.append(("f", value))


def seen(notes: crdtdb.Collection, doc_id: str) -> list[int]:
    """Return what whoever puts on the winner has seen of a document."""
    return list(notes.get(doc_id)["seen"]) if doc_id in notes else []


ACTS = ("put", "put", "put", "add", "add", "drop", "copy", "restart", "back", "back", "sync", "sync")
steps = st.lists(
    st.tuples(
        st.sampled_from(ACTS),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    max_size=30,
)


def play(program: list[tuple[str, int, int, int]]) -> list[Person]:
    people = [Person(name) for name in NAMES]
    for number, (what, here, there, pick) in enumerate(program):
        person = people[here]
        if what == "put":
            person.put(IDS[pick % 2], number)
        elif what == "add":
            person.add(number)
        elif what == "drop" and pick == 0 and "scrap" in person.db:
            person.db.drop("scrap")
        elif what == "drop":
            person.db["scrap"].upsert("x", lambda body: {"n": body.get("n", 0) + 1})
        elif what == "copy":
            person.copy()
        elif what == "restart":
            person.restart()
        elif what == "back" and person.copies:
            person.put_back(pick)
        elif what == "sync" and here != there:
            crdtdb.sync(person.db, people[there].db)
            shown = [described(one.db) for one in (person, people[there])]
            assert shown[0] == shown[1], "after a sync both show the same"
    return people


def described(db: crdtdb.Database) -> dict[str, Any]:
    return {
        name: {doc.id: sorted(str(one.body) for one in db[name].siblings(doc.id)) for doc in db[name].all()}
        for name in db.collections()
    }


def check(program: list[tuple[str, int, int, int]]) -> None:
    people = play(program)
    for _ in range(3):
        for one in people:
            for other in people:
                if one is not other:
                    crdtdb.sync(one.db, other.db)
    assert len({str(described(one.db)) for one in people}) == 1
    assert len({one.db.store.root.clock for one in people}) == 1
    for one in people:
        check_store(one.db.store)
        notes = one.db["notes"]
        alive = {(doc.id, value) for doc in notes.all() for s in notes.siblings(doc.id) for value in s.body["seen"]}
        if "f" in one.db["fields"]:
            field = one.db["fields"].get("f")
            alive |= {("f", value) for value in field["kept"]}
            assert field["count"] == len(field["kept"]), "each add counts once"
        for person in people:
            assert set(person.owed) <= alive, f"{person.name} is owed {set(person.owed) - alive}"


@examples(100)
@given(steps)
def test_stores_that_are_put_back_agree_and_lose_nothing(program: list[tuple[str, int, int, int]]) -> None:
    check(program)


def random_program(seed: int) -> list[tuple[str, int, int, int]]:
    rng = Random(seed)
    return [
        (rng.choice(ACTS), rng.randrange(3), rng.randrange(3), rng.randrange(4)) for _ in range(rng.randint(10, 60))
    ]


def test_long_programs() -> None:
    for seed in range(30):
        check(random_program(seed))


@pytest.mark.soak
def test_many_long_programs() -> None:
    for seed in range(30, 5_000):
        check(random_program(seed))


def test_the_machine_finds_histories_that_look_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb.store.identity.draw_tag", lambda draw, milliseconds: bytes(16))
    with pytest.raises((AssertionError, crdtdb.ConvergenceError)):
        for seed in range(20):
            check(random_program(seed))
