"""Simulated clients that create, drop and write one collection concurrently.

Its documents have a body, fields and attachments. What was written under a creation that was never dropped is owed, whole; and
whatever is there has its body.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from random import Random

from crdtdb.crdts import Counter, Set
from crdtdb.database import Database
from crdtdb.documents import Rev, view
from crdtdb.errors import ConflictError, NotFoundError, StoreError
from crdtdb.store import Store
from crdtdb.testing.oracle import Acknowledged
from crdtdb.testing.world import SimulatedNode, World

COLLECTION = "brief"


class DropClients:
    """People who write and drop, by dice of their own: what others do stays as it would be without them."""

    def __init__(self, world: World, seed: int, rate: float, until: float) -> None:
        """Act about `rate` times a second, until the virtual time `until`."""
        self._world, self._rate, self._until = world, rate, until
        self._dice = Random(f"{seed}/drops")  # noqa: S311
        self._numbers = count()

    def next(self) -> None:
        """Act once, and plan the next time."""
        world, rng = self._world, self._dice
        if world.timeline.now >= self._until:
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
        if COLLECTION in database and self._dice.random() < 0.1:
            self._world.dropped |= database.store.root.names[COLLECTION]
            database.drop(COLLECTION)
            self._world.note(f"{node.name} drops {COLLECTION}")
            return
        with suppress(ConflictError, NotFoundError):
            self._write(node, database)

    def _write(self, node: SimulatedNode, database: Database) -> None:
        rng, brief, number = self._dice, database.collection(COLLECTION), next(self._numbers)
        doc_id, effect = rng.choice("abc"), None
        what = rng.choice(["put", "likes", "likes", "tags", "attach"])
        current = brief.get(doc_id) if doc_id in brief else None
        if current is None:
            fields = {"likes": Counter(0), "tags": Set()} if rng.random() < 0.7 else {}
            document = brief.put(doc_id, {"n": number, **fields})
        elif what == "put":
            document = brief.put(doc_id, {**current, "n": number}, current.rev)
        elif what == "attach":
            document = brief.attach(doc_id, rng.choice("xy"), b"%d" % rng.randrange(3))
        else:
            with brief.edit(doc_id) as edited:
                if what not in edited or not hasattr(edited[what], "kind"):
                    return
                if what == "likes":
                    edited[what].increment(number)
                else:
                    edited[what].add(f"{number}")
            assert edited.written is not None
            document, effect = edited.written, (what, number if what == "likes" else f"{number}")
        record = database.store.read(COLLECTION, doc_id)
        assert record is not None
        rev = Rev.parse(document.rev)
        leaf = next(
            (visible.leaf for visible in view(record.state).leaves if rev in (visible.rev, visible.leaf.rev)), None
        )
        if leaf is not None:
            at, creations = self._world.timeline.now, leaf.creations
            kept = None if leaf.native else leaf.rev  # an edit that has met another is no branch of its own
            node.acknowledge(Acknowledged(node.name, at, COLLECTION, doc_id, kept, None, effect, creations))
        self._world.note(f"{node.name} {what} {COLLECTION}/{doc_id} {document.rev[:10]}")


def check_whole(store: Store) -> None:
    """Raise AssertionError for a document that is there without its body."""
    for name in store.root.names:
        for doc_id, record in store.live_view().documents(name):
            shown = view(record.state)
            assert shown.complete, f"{name}/{doc_id} has no body: {record.state}"
            if name == COLLECTION:
                assert all(b'"n":' in (sibling.text or b"") for sibling in shown.siblings), (
                    f"{doc_id}: {shown.siblings}"
                )
