"""The demo's document with a field of every type, edited on both sides of the cut."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from rich.console import RenderableType
from rich.text import Text

from crdtdb.cli.demo.cluster import DemoCluster
from crdtdb.cli.render import table
from crdtdb.errors import ConvergenceError

COLLECTION = "lists"
_ID = "trip"
_SCHEMA = {
    "votes": "counter",
    "booked": "flag",
    "who": "set",
    "where": "register",
    "when": "multivalue",
    "bring": "map",
    "plan": "text",
    "stops": "list",
}
_AT_FIRST = {
    "votes": 1,
    "booked": False,
    "who": ["ada"],
    "where": "?",
    "when": ["May"],
    "bring": {"tent": 1},
    "plan": "We take the train.",
    "stops": ["Basel", "Milano"],
}


class Both(NamedTuple):
    """One field: what n1 does, what n3 does at the same time, and what must come out."""

    field: str
    here: dict[str, Any]
    there: dict[str, Any]
    merged: Any
    told: tuple[str, str]


_EDITS = [
    Both("votes", {"operation": "increment", "by": 2}, {"operation": "increment", "by": 3}, 6, ("+2", "+3")),
    Both("booked", {"operation": "enable"}, {"operation": "disable"}, True, ("on", "off")),
    Both(
        "who",
        {"operation": "add", "element": "bob"},
        {"operation": "add", "element": "cy"},
        ["ada", "bob", "cy"],
        ("add bob", "add cy"),
    ),
    Both(
        "where",
        {"operation": "set", "value": "Genova"},
        {"operation": "set", "value": "Roma"},
        "Roma",
        ("Genova", "Roma, later"),
    ),
    Both(
        "when",
        {"operation": "set", "value": "June"},
        {"operation": "set", "value": "July"},
        ["July", "June"],
        ("June", "July"),
    ),
    Both(
        "bring",
        {"operation": "set", "key": "stove", "value": 1},
        {"operation": "set", "key": "map", "value": 2},
        {"map": 2, "stove": 1, "tent": 1},
        ("stove: 1", "map: 2"),
    ),
    Both(
        "plan",
        {"operation": "insert", "at": 0, "text": "In spring: "},
        {"operation": "insert", "at": 17, "text": " at night"},
        "In spring: We take the train at night.",
        ("types in front", "types inside"),
    ),
    Both(
        "stops",
        {"operation": "insert", "at": 0, "values": ["Bern"]},
        {"operation": "append", "value": "Napoli"},
        ["Bern", "Basel", "Milano", "Napoli"],
        ("Bern first", "Napoli last"),
    ),
]


class FieldStory:
    """Declares, edits on both sides, and shows what came out."""

    def __init__(self, cluster: DemoCluster) -> None:
        self._cluster = cluster

    def begin(self) -> None:
        """Make the document."""
        self._cluster.ask("n1", "PUT", COLLECTION)
        self._cluster.ask("n1", "PUT", COLLECTION, "_schema", body=_SCHEMA)
        self._cluster.ask("n1", "PUT", COLLECTION, _ID, body=_AT_FIRST)

    def edit(self, node: str) -> None:
        """Make all edits of one side, in one commit."""
        operations = [{"path": one.field, **(one.here if node == "n1" else one.there)} for one in _EDITS]
        self._cluster.ask(node, "POST", COLLECTION, _ID, "_edit", body={"operations": operations})

    def outcome(self) -> RenderableType:
        """Return the table of what came out. Raises ConvergenceError if a node has something else."""
        rows = []
        for name in self._cluster.names:
            found = self._cluster.ask(name, "GET", COLLECTION, _ID, conflicts="true", crdt="true")
            wrong = [one.field for one in _EDITS if found.get(one.field) != one.merged]
            if wrong or "_conflicts" in found or any("conflict" in one for one in found["_crdt"]):
                raise ConvergenceError(f"{name} shows {found}: {wrong or 'a conflict'} should have merged")
        for one in _EDITS:
            merged = one.merged if isinstance(one.merged, str) else json.dumps(one.merged)
            rows.append((one.field, _SCHEMA[one.field], Text(one.told[0]), Text(one.told[1]), Text(merged)))
        return table(f"{COLLECTION}/{_ID}", "field", "type", "n1", "n3", "on all three nodes", rows=rows)
