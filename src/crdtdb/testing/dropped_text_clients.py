"""Simulated clients that type into texts of collections that get dropped.

One text may so have words of several creations. What was typed under a creation that was never dropped is owed, in whatever
order nodes hear of drops and of words.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from random import Random

from crdtdb.crdts import List, Text
from crdtdb.database import Database
from crdtdb.errors import ConflictError, NotFoundError, StoreError
from crdtdb.testing.oracle import Acknowledged
from crdtdb.testing.world import SimulatedNode, World
from crdtdb.wire.messages import STRANDS_SINCE

COLLECTION = "essays"
_FIELDS = {"words": Text, "lines": List}
_DROPS = 0.15
_FIRST_LETTER = 0x4E00


class DroppedTextClients:
    """People who type and drop, by dice of their own: what others do stays as it would be without them."""

    def __init__(self, world: World, seed: int, rate: float, until: float) -> None:
        """Act about `rate` times a second, until the virtual time `until`."""
        self._world, self._rate, self._until = world, rate, until
        self._rng = Random(f"{seed}/essays")  # noqa: S311
        self._letters = map(chr, count(_FIRST_LETTER))

    def next(self) -> None:
        """Act once, and plan the next time; never while a node speaks a version that knows nothing of strands."""
        world, rng = self._world, self._rng
        if world.timeline.now >= self._until or any(node.minor < STRANDS_SINCE for node in world.nodes.values()):
            return
        node = rng.choice(list(world.nodes.values()))
        if node.engine is not None and node.database is not None and node.engine.readiness.ready:
            try:
                self._act(node, node.database)
            except StoreError as error:
                world.note(f"{node.name} dies: {error}")
                node.kill()
                world.timeline.after(rng.uniform(0.5, 3), world.reviver(node))
        world.timeline.after(rng.expovariate(self._rate), self.next)

    def _act(self, node: SimulatedNode, database: Database) -> None:
        if COLLECTION in database and self._rng.random() < _DROPS:
            self._world.dropped |= database.store.root.names[COLLECTION]
            database.drop(COLLECTION)
            self._world.note(f"{node.name} drops {COLLECTION}")
            return
        with suppress(ConflictError, NotFoundError):
            self._type(node, database)

    def _type(self, node: SimulatedNode, database: Database) -> None:
        essays, doc_id = database.collection(COLLECTION), self._rng.choice("ab")
        name, letter = self._rng.choice(list(_FIELDS)), next(self._letters)
        if doc_id not in essays:
            essays.put(doc_id, {})
        with essays.edit(doc_id) as document:
            if name not in document:
                document[name] = _FIELDS[name]()
            if not hasattr(document[name], "kind"):  # a store that entered may have written plain values again
                return
            at = self._rng.randint(0, len(document[name]))
            document[name].insert(at, letter if name == "words" else [letter])
        record = database.store.read(COLLECTION, doc_id)
        assert record is not None
        creations = max(record.state.leaves.values(), key=lambda leaf: leaf.stamp).creations
        now = self._world.timeline.now
        node.acknowledge(Acknowledged(node.name, now, COLLECTION, doc_id, None, None, (name, letter), creations))
        self._world.note(f"{node.name} types {COLLECTION}/{doc_id} {name} {letter}")
