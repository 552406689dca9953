"""Schema of a collection: the paths and types of its fields.

It is a document of the collection under a reserved id: it is replicated like others, and dropped with the collection. Its
declarations are the elements of a set, so two nodes that declare different fields concurrently declare both. Concurrent
declarations of two types for one path contradict: writes to that path are refused until a new declaration replaces them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crdtdb.crdts import Draft, Field, Place, Set, catalogue
from crdtdb.documents.fields import CONTRADICTION, NO_SCHEMA, Schema, reading
from crdtdb.documents.state import State
from crdtdb.documents.view import NO_BODY
from crdtdb.documents.write_context import Write
from crdtdb.documents.writes import edit, put
from crdtdb.errors import SchemaError
from crdtdb.limits import FIELD_KEY_BYTES_MAX, FIELD_PATH_STEPS_MAX

SCHEMA_ID = "_schema"
_DECLARED: Place = ("fields",)


def read_schema(state: State) -> Schema:
    """Return what a schema's document says."""
    if not state.fields:
        return NO_SCHEMA
    spot = reading(state.fields, state.journals).at(_DECLARED)
    found: dict[Place, str] = {}
    for element in Set.value(spot):
        path, kind = element  # type: ignore[misc, str-unpack]
        place = tuple(path)  # type: ignore[arg-type]
        found[place] = kind if found.get(place, kind) == kind else CONTRADICTION  # type: ignore[assignment]
    return found


def check_schema(declared: Mapping[str, Any]) -> Schema:
    """Return a schema that was given as types by name, objects within objects. Raises SchemaError."""
    found: dict[Place, str] = {}
    _collect(declared, (), found)
    return found


def _collect(declared: Any, path: Place, found: dict[Place, str]) -> None:
    if not isinstance(declared, Mapping):
        raise SchemaError(f"a schema is an object of types such as {{'likes': crdtdb.Counter}}, not {declared!r}")
    for key, kind in declared.items():
        if not isinstance(key, str) or not key or key.startswith("_" if not path else "\0"):
            raise SchemaError(f"{key!r} can't be the name of a field: a string that doesn't begin with '_'")
        place = (*path, key)
        if len(key.encode()) > FIELD_KEY_BYTES_MAX or len(place) > FIELD_PATH_STEPS_MAX:
            raise SchemaError(f"the path of the field {key[:40]!r} is longer than the limits allow")
        if isinstance(kind, Mapping):
            _collect(kind, place, found)
        elif isinstance(kind, type) and issubclass(kind, Field) and kind.kind in catalogue.catalogue():
            found[place] = kind.kind
        elif isinstance(kind, str) and kind in catalogue.catalogue():
            found[place] = kind
        else:
            raise SchemaError(
                f"{'.'.join(place)!r} is declared as {kind!r}: a type is one of {', '.join(catalogue.catalogue())}"
            )


def check_agrees(known: Schema, wanted: Schema) -> None:
    """Raise SchemaError if a schema contradicts what is declared already, or itself."""
    for path, kind in wanted.items():
        where = ".".join(path)
        if known.get(path, kind) == CONTRADICTION:
            raise SchemaError(
                f"two types were declared for {where!r} at the same time: declare it again with replace=True"
            )
        if known.get(path, kind) != kind:
            raise SchemaError(f"{where!r} is declared as a {known[path]} already, not a {kind}")
        for depth in range(1, len(path)):
            if known.get(path[:depth], wanted.get(path[:depth])) not in (None, "map"):
                raise SchemaError(
                    f"{where!r} lies in {'.'.join(path[:depth])!r}, which is declared as a field of its own"
                )
        for other, its_kind in known.items():
            if other[: len(path)] == path and other != path and kind != "map":
                raise SchemaError(f"{'.'.join(other)!r} is declared as a {its_kind}, so {where!r} can't be a {kind}")


def declare_in(state: State, write: Write, wanted: Schema, known: Schema, replace: bool) -> State:
    """Add declarations to a schema's document; with `replace` those of the same paths go."""
    if not state.leaves:
        state = put(state, write, None, NO_BODY)
    return edit(state, write, lambda draft, _: _declare(draft, wanted, known, replace))


def _declare(draft: Draft, wanted: Schema, known: Schema, replace: bool) -> None:
    spot = draft.at(_DECLARED)
    if not spot.kinds():
        Set.create(spot, [])
    if replace:
        for element in Set.value(spot):
            if tuple(element[0]) in wanted:  # type: ignore[index, arg-type]
                Set.operations["remove"](spot, element=element)
    for path, kind in wanted.items():
        if replace or known.get(path) != kind:
            Set.operations["add"](spot, element=[list(path), kind])


def as_tree(schema: Schema) -> dict[str, Any]:
    """Return a schema as objects within objects, kinds by their names."""
    tree: dict[str, Any] = {}
    for path, kind in sorted(schema.items()):
        inside = tree
        for key in path[:-1]:
            below = inside.setdefault(key, {})
            inside = below if isinstance(below, dict) else {}
        inside[path[-1]] = kind
    return tree
