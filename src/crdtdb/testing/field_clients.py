"""Simulated clients that edit fields of every type at random.

A *ledger* is only ever added to: amounts to a counter, something unique to everything else. So whatever was acknowledged must
be in it, on every node, once. A *playground* takes any operation, deletes and re-creations too; all nodes must read the same.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from crdtdb.crdts import Counter, Field, Flag, List, Map, MultiValue, Register, Set, Text, catalogue
from crdtdb.database import Database
from crdtdb.database.editing import DocumentEdit
from crdtdb.errors import InvalidInputError
from crdtdb.testing.oracle import Acknowledged
from crdtdb.testing.world import SimulatedNode, World

_FIELDS: dict[str, Callable[[], Field]] = {
    "likes": Counter,
    "on": Flag,
    "tags": Set,
    "reg": Register,
    "mv": MultiValue,
    "m": Map,
    "body": Text,
    "items": List,
}


class FieldClients:
    """People who edit fields on whatever node is up."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = count(1)
        self._letters = map(chr, count(0x4E00))

    def write(self, node: SimulatedNode, database: Database) -> None:
        """Edit once."""
        if self._world.rng.random() < 0.5:
            self._add_to_ledger(node, database)
        else:
            self._play(node, database)

    def _add_to_ledger(self, node: SimulatedNode, database: Database) -> None:
        rng, ledger = self._world.rng, database.collection("ledger")
        doc_id = rng.choice("ab")
        if doc_id not in ledger:
            ledger.put_if_absent(doc_id, {name: kind() for name, kind in _FIELDS.items()})
        chosen = rng.sample(["likes", "tags", "m", "body", "items"], rng.randint(1, 2))
        fields = ledger.get(doc_id).fields
        chosen = [
            name for name in chosen if (name,) in fields
        ]  # a store that entered may have written plain values again
        if not chosen:
            return
        with ledger.edit(doc_id) as document:
            effects = [(name, self._added(document, name)) for name in chosen]
        for effect in effects:
            ack = Acknowledged(node.name, self._world.timeline.now, "ledger", doc_id, None, None, effect)
            node.acknowledge(ack)
        self._world.note(f"{node.name} edit ledger/{doc_id} {effects}")

    def _added(self, document: DocumentEdit, name: str) -> Any:
        rng, field = self._world.rng, document[name]
        if name == "likes":
            by = rng.randint(1, 9)
            field.increment(by)
            return by
        unique = next(self._letters)
        if name == "tags":
            field.add(unique)
        elif name == "m":
            field[unique] = next(self._numbers)
        elif name == "body":
            field.insert(rng.randint(0, len(field)), unique)
        else:
            field.insert(rng.randint(0, len(field)), [unique])
        return unique

    def _play(self, node: SimulatedNode, database: Database) -> None:
        rng, playground = self._world.rng, database.collection("playground")
        doc_id = rng.choice("abc")
        current = playground.get(doc_id) if doc_id in playground else None
        if current is None:
            chosen = rng.sample(sorted(_FIELDS), 5)
            playground.put(doc_id, {"title": rng.randint(0, 2), **{name: _FIELDS[name]() for name in chosen}})
            what = "put"
        elif rng.random() < 0.15:
            what = rng.choice(["delete", "put", "resolve"])
            if what == "delete":
                playground.delete(doc_id, current.rev)
            elif what == "put":
                playground.put(doc_id, {**current, "title": rng.randint(0, 2)}, current.rev)
            else:
                playground.resolve(doc_id, {**current, "title": "resolved"})
        else:
            what = self._edit(database, doc_id)
        self._world.note(f"{node.name} {what} playground/{doc_id}")

    def _edit(self, database: Database, doc_id: str) -> str:
        rng, done = self._world.rng, []
        with database.collection("playground").edit(doc_id) as document:
            for name in rng.sample(sorted(_FIELDS), 3):
                if name not in document:
                    document[name] = _FIELDS[name]()
                field = document[name]
                if not hasattr(field, "kind"):  # another client put a plain value there
                    continue
                operation, arguments = catalogue.field_type(field.kind).sample(rng, field.value)
                try:
                    document.perform([{"path": name, "operation": operation, **arguments}])
                except InvalidInputError as error:
                    raise AssertionError(f"{operation} {arguments} of {field!r}: {error}") from error
                done.append(f"{name}.{operation}")
        return " ".join(done) or "nothing"
