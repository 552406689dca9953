"""Random histories in which texts are removed, collected and made again: no store shows what another has let go of."""

from __future__ import annotations

from contextlib import suppress
from itertools import count, permutations
from random import Random
from typing import Any

import pytest

import crdtdb
from crdtdb.causality import DotSet
from crdtdb.crdts import Draft
from crdtdb.database import Database
from crdtdb.errors import ConflictError, NotFoundError
from crdtdb.testing.invariants import check_store
from tests.store.worlds import Node

SCHEMA = {"body": crdtdb.Text, "items": crdtdb.List}


class History:
    """Three stores; each collects what it knows all to hold, at any time."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.nodes = [Node(f"{name}{seed}") for name in ("ada", "bob", "cy")]
        self.notes = [Database(node.store).collection("notes") for node in self.nodes]
        self.acknowledged = [[DotSet()] * 3 for _ in self.nodes]
        """What each store has heard that each other holds."""
        self.letters = map(chr, count(0x4E00))
        for notes in self.notes:
            notes.declare(SCHEMA)

    def step(self) -> None:
        number, other = self.rng.sample(range(3), 2)
        what = self.rng.choice(
            ["hear"] * 12 + ["collect"] * 4 + ["type"] * 2 + ["put"] * 2 + ["remove"] * 3 + ["delete"]
        )
        if what == "hear":
            self.hear(number, other)
        elif what == "collect":
            self.collect(number)
        else:
            with suppress(NotFoundError, ConflictError):
                self.write(self.notes[number], what)
        check_store(self.nodes[number].store)

    def hear(self, number: int, other: int) -> None:
        (third,) = {0, 1, 2} - {number, other}
        self.nodes[number].hear(self.nodes[other])
        mine = self.acknowledged[number]
        mine[other] = self.nodes[other].store.root.clock
        told = self.acknowledged[other][third]
        if self.nodes[number].store.root.clock >= told:
            mine[third] |= told

    def collect(self, number: int) -> None:
        store = self.nodes[number].store
        cut = store.root.clock
        for other in {0, 1, 2} - {number}:
            cut &= self.acknowledged[number][other]
        store.collector.reach_cut(cut)
        while store.collector.collect(lambda _: None):
            pass

    def write(self, notes: crdtdb.Collection, what: str) -> None:
        rng, name = self.rng, self.rng.choice(["body", "items"])
        if "k" not in notes:
            notes.put("k", {one: self.value(one) for one in SCHEMA if rng.random() < 0.6})
        elif what == "put":
            before = notes.get("k")
            notes.put("k", {**before, name: self.value(name)}, before.rev)
        elif what == "type":
            with notes.edit("k") as document:
                field, letter = document[name], next(self.letters)
                field.insert(rng.randint(0, len(field)), letter if name == "body" else [letter])
        elif what == "remove" and name in notes.get("k"):
            with notes.edit("k") as document:
                del document[name]
                if rng.random() < 0.2:
                    document[name] = self.value(name)
        elif what == "delete":
            notes.delete("k", notes.get("k").rev)

    def value(self, name: str) -> Any:
        text = self.rng.choice(["", "=", next(self.letters)])
        return text if name == "body" else list(text)

    def check(self) -> None:
        for _ in range(2):
            for number, other in permutations(range(3), 2):
                self.hear(number, other)
        shown = []
        for number, notes in enumerate(self.notes):
            self.collect(number)
            check_store(self.nodes[number].store)
            shown.append([(one.rev, one.body) for one in notes.siblings("k")] if "k" in notes else [])
        assert shown[0] == shown[1] == shown[2]
        for _, body in shown[0]:
            typed = [letter for name in SCHEMA for letter in body.get(name, "") if letter != "="]
            assert len(set(typed)) == len(typed), f"something is there twice: {body}"
        assert len({node.digest() for node in self.nodes}) == 1, "equal clocks, and different journals"


def run(seed: int, steps: int = 90) -> None:
    history = History(seed)
    for _ in range(steps):
        history.step()
    history.check()


@pytest.mark.parametrize("seed", range(6))
def test_what_was_removed_and_collected_does_not_come_back(seed: int) -> None:
    run(seed)


@pytest.mark.soak
def test_many_histories() -> None:
    for seed in range(1_000):
        run(seed)


def test_without_lives_it_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule broken: one text a path, whatever was removed there; and collection that knows of no life."""
    monkeypatch.setattr(Draft, "begin_life", lambda self, anchor=None: None)
    monkeypatch.setattr("crdtdb.documents.garbage._living", lambda state: "")
    history = History(0)
    ada = history.notes[0]
    ada.put("k", {"body": "old"})
    history.hear(1, 0)
    ada.put("k", {}, ada.get("k").rev)
    history.hear(1, 0)
    for other in (1, 2):
        history.hear(2, 0)
        history.hear(0, other)
    history.collect(0)
    ada.put("k", {"body": "new"}, ada.get("k").rev)
    with pytest.raises(AssertionError):
        history.check()
