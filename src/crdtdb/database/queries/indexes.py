"""Indexes as a collection's users make, list and drop them: as design documents, which are replicated like any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from crdtdb.database.document import Document
from crdtdb.errors import InvalidInputError, NotFoundError
from crdtdb.query.definitions import DESIGN, LANGUAGE, IndexDefinition, definition_json, read_definitions
from crdtdb.query.planner import ALL
from crdtdb.store import Store


class IndexInfo(NamedTuple):
    """An index that a collection has. `ddoc` is None for the one over ids, which is always there."""

    ddoc: str | None
    name: str
    fields: tuple[str, ...]
    descending: bool = False
    partial: Mapping[str, Any] | None = None
    building: bool = False
    """Whether this store hasn't read all documents for it yet."""

    @classmethod
    def of(cls, one: IndexDefinition, building: bool = False) -> IndexInfo:
        """Return what is told of an index."""
        partial = one.partial.given if one.partial is not None else None
        return cls(one.ddoc, one.name, one.fields, one.descending, partial, building)

    @property
    def json(self) -> dict[str, Any]:
        """As CouchDB lists it."""
        definition = definition_json(self.fields, self.descending, self.partial)
        kind = "special" if self.ddoc is None else "json"
        return {"ddoc": self.ddoc, "name": self.name, "type": kind, "partitioned": False, "def": definition}


BY_ID = IndexInfo(None, ALL, ("_id",))


class Documents(Protocol):
    """What is asked of a collection."""

    def upsert(self, doc_id: str, change: Callable[[dict[str, Any]], Mapping[str, Any] | None]) -> Document | None:
        """Replace a document by what `change` makes of it, unless that is None."""

    def delete(self, doc_id: str, rev: str | None = None) -> Document:
        """Delete a document."""

    def get(self, doc_id: str) -> Document:
        """Return a document."""


def create(documents: Documents, wanted: IndexDefinition) -> bool:
    """Put an index into its design document; return whether it wasn't there.

    Raises InvalidInputError if the design document is of another language, or has another index of that name.
    """
    made = False

    def add(body: dict[str, Any]) -> dict[str, Any] | None:
        nonlocal made
        if body.get("language", LANGUAGE) != LANGUAGE or (body and "language" not in body):
            raise InvalidInputError(
                f"{wanted.ddoc!r} is a design document of language {body.get('language', 'javascript')!r}: "
                "give the index another `ddoc`"
            )
        for one in read_definitions(wanted.ddoc, body):
            if one.name == wanted.name:
                if one.json() == wanted.json():
                    made = False
                    return None
                raise InvalidInputError(
                    f"{wanted.ddoc!r} has another index {wanted.name!r}, over {list(one.fields)}: "
                    "drop it first, or give this one another name"
                )
        made = True
        views = body.get("views") or {}
        if not isinstance(views, Mapping):
            raise InvalidInputError(f"{wanted.ddoc!r} has `views` that are no object: give the index another `ddoc`")
        return {**body, "language": LANGUAGE, "views": {**views, wanted.name: wanted.view()}}

    documents.upsert(wanted.ddoc, add)
    return made


def drop(documents: Documents, ddoc: str, name: str) -> None:
    """Take an index out of its design document, which goes with its last. Raises NotFoundError."""
    ddoc = ddoc if ddoc.startswith(DESIGN) else DESIGN + ddoc
    found = documents.get(ddoc)
    if not any(one.name == name for one in read_definitions(ddoc, found)):
        raise NotFoundError(f"{ddoc!r} has no index {name!r}")
    if len(found["views"]) > 1:
        documents.upsert(ddoc, lambda body: _without(body, name))
    else:
        documents.delete(ddoc, found.rev)


def _without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {**body, "views": {key: view for key, view in body["views"].items() if key != name}}


def listed(store: Store, collection: str) -> list[IndexInfo]:
    """Return the indexes of a collection: that over ids first, the others by their names."""
    found = [IndexInfo.of(one.definition, one.cursor is not None) for one in store.derived.indexes(collection)]
    return [BY_ID, *sorted(found, key=lambda one: (one.ddoc or "", one.name))]
