"""Simulated clients that type concurrently into declared, absent texts.

Each second has a document of its own: who comes to it first on a node puts it, empty or with the words with which all begin.
Whatever they typed must be in one text, once, on every node: what was typed by one and what all began with.

Beside that some make a field of another type at one path, and some resolve what they see. What no resolution saw must be
listed.
"""

from __future__ import annotations

from itertools import count
from random import Random
from typing import Any

from crdtdb.crdts import List, Map, Set, Text
from crdtdb.database import Database
from crdtdb.database.collection import Collection
from crdtdb.errors import ConflictError, NotFoundError, StoreError
from crdtdb.testing.oracle import Acknowledged
from crdtdb.testing.world import SimulatedNode, World

COLLECTION = "drafts"
DISPUTED = "f"
"""The name of a field for which each may choose another type."""
_SCHEMA = {"body": Text, "items": List}
_BEGINNING = "="
_FIRST_LETTER = 0x3400


class TextClients:
    """People who type, by dice of their own: what others do stays as it would be without them."""

    def __init__(self, world: World, seed: int, rate: float, until: float) -> None:
        """Type about `rate` times a second, until the virtual time `until`."""
        self._world, self._rate, self._until = world, rate, until
        self._dice = Random(f"{seed}/texts")  # noqa: S311
        self._letters = map(chr, count(_FIRST_LETTER))

    def next(self) -> None:
        """Type once, and plan the next time."""
        world, rng = self._world, self._dice
        if world.timeline.now >= self._until:
            return
        node = rng.choice(list(world.nodes.values()))
        if node.engine is not None and node.database is not None and node.engine.readiness.ready:
            try:
                self._write(node, node.database)
            except (ConflictError, NotFoundError):
                pass
            except StoreError as error:
                world.note(f"{node.name} dies: {error}")
                node.kill()
                world.timeline.after(rng.uniform(0.5, 3), world.reviver(node))
        world.timeline.after(rng.expovariate(self._rate), self.next)

    def _write(self, node: SimulatedNode, database: Database) -> None:
        drafts, rng = database.collection(COLLECTION), self._dice
        drafts.declare(_SCHEMA)
        doc_id = f"t{int(self._world.timeline.now)}"
        effects: list[tuple[str, Any]] = []
        if doc_id not in drafts:
            begins = rng.random() < 0.5
            drafts.put(doc_id, {"body": _BEGINNING, "items": [_BEGINNING]} if begins else {})
            if begins:
                effects += [("body", _BEGINNING), ("items", _BEGINNING)]
        with drafts.edit(doc_id) as document:
            for name in _SCHEMA:
                field, letter = document[name], next(self._letters)
                if not hasattr(field, "kind"):  # a store that entered may have written plain values again
                    continue
                field.insert(rng.randint(0, len(field)), letter if name == "body" else [letter])
                effects.append((name, letter))
        if rng.random() < 0.4:
            effects += self._dispute(drafts, doc_id)
        for effect in effects:
            node.acknowledge(Acknowledged(node.name, self._world.timeline.now, COLLECTION, doc_id, None, None, effect))
        self._world.note(f"{node.name} types {COLLECTION}/{doc_id} {effects}")

    def _dispute(self, drafts: Collection, doc_id: str) -> list[tuple[str, Any]]:
        """Make a field of any type where there is none; else decide on the bodies, as one who hasn't looked at other types."""
        siblings = drafts.siblings(doc_id)
        if DISPUTED in siblings[0].body:
            drafts.resolve(doc_id, siblings[0].body, seen=[sibling for sibling in siblings if not sibling.path])
            return []
        letter = next(self._letters)
        kind = self._dice.choice([Text(letter), List([letter]), Set([letter]), Map({letter: 1})])
        with drafts.edit(doc_id) as document:
            document[DISPUTED] = kind
        return [(DISPUTED, letter)]
