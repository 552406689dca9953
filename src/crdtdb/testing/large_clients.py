"""Simulated clients that make documents with many dots."""

from __future__ import annotations

from random import Random

from crdtdb.crdts import Set
from crdtdb.database import Database
from crdtdb.errors import CrdtdbError, StoreError
from crdtdb.testing.world import SimulatedNode, World

_LARGE = 0.12
"""The part of the seeds in which there are such people, and work takes time."""
_ELEMENTS_MAX, _CONFLICTS_MAX = 200, 160


def work_takes_time(seed: int) -> bool:
    """Whether a seed is one of those."""
    return Random(f"{seed}/large").random() < _LARGE  # noqa: S311


class LargeClients:
    """They write to whatever node is up, by dice of their own."""

    def __init__(self, world: World, seed: int, until: float) -> None:
        self._world, self._until = world, until
        self._dice = Random(f"{seed}/large clients")  # noqa: S311
        self._elements = self._conflicts = 0

    def next(self) -> None:
        """Write a little more, and plan the next time."""
        world, rng = self._world, self._dice
        if world.timeline.now >= self._until:
            return
        node = rng.choice(list(world.nodes.values()))
        if node.engine is not None and node.database is not None and node.engine.readiness.ready:
            self._write(node, node.database)
        world.timeline.after(rng.uniform(0.05, 0.25), self.next)

    def _write(self, node: SimulatedNode, database: Database) -> None:
        world, rng = self._world, self._dice
        try:
            large = database.collection("large", schema={"members": Set})
            if rng.random() < 0.5 and self._elements < _ELEMENTS_MAX:
                large.put_if_absent("set", {"members": []})
                for _ in range(20):
                    self._elements += 1
                    with large.edit("set") as edit:
                        edit["members"].add(str(self._elements))
            elif self._conflicts < _CONFLICTS_MAX:
                self._conflicts += 40
                large.take(
                    [
                        {"_id": "conflicts", "_rev": f"1-{rng.getrandbits(128):032x}", "n": rng.getrandbits(32)}
                        for _ in range(40)
                    ]
                )
        except StoreError as error:
            world.note(f"{node.name} dies: {error}")
            node.kill()
            world.timeline.after(rng.uniform(0.5, 3), world.reviver(node))
        except CrdtdbError as error:
            world.note(f"{node.name} refuses more of a large document: {error}")
