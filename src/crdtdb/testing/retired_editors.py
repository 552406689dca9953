"""Scenario: a retired, partitioned node edits what others collect.

Two members see a document deleted and acknowledge it; one of them retires the third, which edits the document, and the other,
which hasn't heard of the retirement, takes the edit. In some clusters it is played once, by dice of its own.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import combinations
from random import Random

from crdtdb.crdts import Counter
from crdtdb.database import Database
from crdtdb.errors import ConflictError, InvalidInputError, NotFoundError, StoreError
from crdtdb.testing.world import World

COLLECTION = "retired"
_DOCUMENT = "x"
_ODDS = 0.2


class RetiredEditor:
    """One such history, step by step, beside everything else that happens."""

    def __init__(self, world: World, seed: int, seconds: float) -> None:
        self._world, self._dice, self._seconds = world, Random(f"{seed}/retired"), seconds  # noqa: S311
        self._retiring, self._hearing, self._editor = self._dice.sample(sorted(world.nodes), 3)

    def plan(self) -> None:
        """Plan the steps, or none."""
        if self._dice.random() >= _ODDS:
            return
        steps = [self._make, self._part, self._delete, self._retire, self._edit, self._meet]
        for number, step in enumerate(steps):
            self._world.timeline.after(self._seconds * (number + self._dice.random() / 2) / len(steps), step)

    def _make(self) -> None:
        database = self._ready(self._editor)
        if database is not None:
            with suppress(ConflictError, NotFoundError, StoreError):
                database.collection(COLLECTION).put(_DOCUMENT, {"n": 1, "likes": Counter(1)})

    def _part(self) -> None:
        self._cut(self._editor)

    def _delete(self) -> None:
        database = self._ready(self._retiring)
        if database is not None:
            with suppress(ConflictError, NotFoundError, StoreError):
                notes = database.collection(COLLECTION)
                notes.delete(_DOCUMENT, notes.get(_DOCUMENT).rev)

    def _retire(self) -> None:
        engine = self._world.nodes[self._retiring].engine
        if engine is None or not engine.readiness.ready or self._world.retired:
            return
        self._cut(self._editor, self._hearing)
        with suppress(InvalidInputError, NotFoundError, StoreError):
            engine.upkeep.retire(self._editor, force=True)
            self._world.retired = True
            self._world.note(f"{self._retiring} retires {self._editor}, and {self._hearing} doesn't hear of it")

    def _edit(self) -> None:
        database = self._ready(self._editor)
        if database is not None:
            with suppress(ConflictError, NotFoundError, StoreError):
                with database.collection(COLLECTION).edit(_DOCUMENT) as document:
                    document["likes"].increment(2)
                self._world.note(f"{self._editor} edits {COLLECTION}/{_DOCUMENT}")

    def _meet(self) -> None:
        self._world.weather.cut = set()
        self._world.note("the network is whole")

    def _cut(self, *side: str) -> None:
        names = list(self._world.nodes)
        self._world.weather.cut = {
            frozenset(pair) for pair in combinations(names, 2) if (pair[0] in side) != (pair[1] in side)
        }
        self._world.note(f"the network is cut: {sorted(side)} | {sorted(set(names) - set(side))}")

    def _ready(self, name: str) -> Database | None:
        node = self._world.nodes[name]
        return node.database if node.engine is not None and node.engine.readiness.ready else None
