"""Simulated clients that resolve conflicts from stale reads of any node.

These clients never delete, and every body has a unique number. So what a resolution's author hadn't seen
must be there after it, and every increment must be in the counter, whatever value of it was copied from a sibling.
"""

from __future__ import annotations

from itertools import count
from random import Random

from crdtdb.crdts import Counter
from crdtdb.database import Database
from crdtdb.database.collection import Collection
from crdtdb.database.document import Sibling
from crdtdb.errors import ConflictError, NotFoundError, StoreError
from crdtdb.testing.oracle import Acknowledged, Lost
from crdtdb.testing.world import SimulatedNode, World

COLLECTION = "debates"


class ResolvingClients:
    """People with views of their own, by dice of their own: what others do stays as it would be without them."""

    def __init__(self, world: World, seed: int, rate: float, until: float) -> None:
        """Act about `rate` times a second, until the virtual time `until`."""
        self._world, self._rate, self._until = world, rate, until
        self._rng = Random(f"{seed}/sights")  # noqa: S311
        self._numbers = count()
        self._sights: list[tuple[str, list[Sibling]]] = []

    def next(self) -> None:
        """Act once, and plan the next time."""
        world, rng = self._world, self._rng
        if world.timeline.now >= self._until:
            return
        node = rng.choice(list(world.nodes.values()))
        if node.engine is not None and node.database is not None and node.engine.readiness.ready:
            try:
                self._act(node, node.database)
            except (ConflictError, NotFoundError):
                pass
            except StoreError as error:
                world.note(f"{node.name} dies: {error}")
                node.kill()
                world.timeline.after(rng.uniform(0.5, 3), world.reviver(node))
        world.timeline.after(rng.expovariate(self._rate), self.next)

    def _act(self, node: SimulatedNode, database: Database) -> None:
        debates, rng = database.collection(COLLECTION), self._rng
        what = rng.choice(["put", "put", "look", "look", "like", "resolve", "resolve"])
        if what == "resolve" and self._sights:
            self._resolve(node, debates, *self._sights.pop(rng.randrange(len(self._sights))))
            return
        doc_id = f"r{int(self._world.timeline.now / 2)}"
        if what == "look":
            self._sights.append((doc_id, debates.siblings(doc_id)))
        elif what == "put" or doc_id not in debates:
            current = rng.choice(debates.siblings(doc_id)) if doc_id in debates else None
            body = current.body if current is not None else {"likes": Counter(0)}
            written = debates.put(
                doc_id, {**body, "n": next(self._numbers)}, current.rev if current is not None else None
            )
            self._world.note(f"{node.name} put {COLLECTION}/{doc_id} {written.rev[:10]}")
        elif what == "like":
            by = rng.randint(1, 9)
            with debates.edit(doc_id) as document:
                if not hasattr(
                    document["likes"], "increment"
                ):  # a store that entered may have written plain values again
                    return
                document["likes"].increment(by)
            effect = ("likes", by)
            ack = Acknowledged(node.name, self._world.timeline.now, COLLECTION, doc_id, None, None, effect)
            node.acknowledge(ack)
            self._world.note(f"{node.name} likes {COLLECTION}/{doc_id} by {by}")

    def _resolve(self, node: SimulatedNode, debates: Collection, doc_id: str, seen: list[Sibling]) -> None:
        read = {one.body["n"] for one in seen}
        before = {sibling.body["n"] for sibling in debates.siblings(doc_id)}
        number = next(self._numbers)
        debates.resolve(doc_id, {**self._rng.choice(seen).body, "n": number}, seen=seen)
        after = {sibling.body["n"] for sibling in debates.siblings(doc_id)}
        self._world.note(f"{node.name} resolves {COLLECTION}/{doc_id}, having seen {sorted(read)} of {sorted(before)}")
        if not (before - read) | {number} <= after:
            raise Lost(f"{doc_id}: a resolution that had seen {read} left {after} of {before}")
