"""Simulated clients of indexes, and the check of every index against documents.

A design document is replicated like any other: what one node defines, all build, while they are killed, cut off and written to.
"""

from __future__ import annotations

from typing import Any

from crdtdb.database import Database
from crdtdb.database.collection import Collection
from crdtdb.errors import NotFoundError
from crdtdb.testing.world import SimulatedNode, World

_INDEXED = {"notes": "n", "tasks": "n", "scrap": "n", "ledger": "likes"}
"""The collections with indexes, and the name that these are over: a plain value, or a counter."""


class QueryClients:
    """People who ask whatever node is up."""

    def __init__(self, world: World) -> None:
        self._world = world

    def act(self, node: SimulatedNode, database: Database) -> None:
        """Define an index, drop one, or ask."""
        rng = self._world.rng
        name = rng.choice(list(_INDEXED))
        what = rng.choice(["define", "define", "drop", "ask", "ask", "ask"])
        collection, field = database.collection(name), _INDEXED[name]
        if what == "define":
            collection.create_index([field], name=f"by-{field}", ddoc=rng.choice(["one", "other"]))
        elif what == "drop":
            defined = [one for one in collection.indexes() if one.ddoc is not None]
            if not defined:
                raise NotFoundError("there is no index to drop")
            chosen = rng.choice(defined)
            collection.drop_index(str(chosen.ddoc), chosen.name)
        else:
            check_answers(collection, field, rng.randint(-3, 40))
        self._world.note(f"{node.name} {what} by {field} at {name}")


def check_queries(database: Database) -> None:
    """Raise AssertionError if a query finds something else than a look at every document does."""
    for name, field in _INDEXED.items():
        for least in (-3, 0, 10):
            check_answers(database.collection(name), field, least)


def check_answers(collection: Collection, field: str, least: int) -> None:
    """Raise AssertionError unless all documents are found whose field is no less than a number, in their order."""

    def place(document: Any) -> tuple[int, str]:
        return document[field], document.id

    found = [place(one) for one in collection.find({field: {"$gte": least}}, sort=[field])]
    wanted = sorted(place(one) for one in collection.all() if type(one.get(field)) is int and one[field] >= least)
    assert found == wanted, f"{collection.name}: {field} >= {least} finds {found}, and there is {wanted}"
