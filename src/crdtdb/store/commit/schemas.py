"""Schemas of collections, decoded once and kept until a commit changes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from crdtdb.documents import NO_SCHEMA, Schema
from crdtdb.documents.schema import SCHEMA_ID, read_schema
from crdtdb.store.layout import keys
from crdtdb.store.snapshot import StoreSnapshot


class Schemas:
    """Cache of schemas by the numbers of their collections."""

    def __init__(self, live_view: Callable[[], StoreSnapshot]) -> None:
        self._live_view = live_view
        self.known: dict[int, Schema] = {}

    def read(self, name: str, number: int, get: Callable[[bytes], bytes | None]) -> Schema:
        """Return the schema of a collection, empty if it has none. `get` reads its row."""
        schema = self.known.get(number)
        if schema is None:
            key = keys.document(number, SCHEMA_ID.encode())
            value = get(key)
            record = self._live_view().decoded(name, key, value) if value is not None else None
            schema = self.known[number] = read_schema(record.state) if record is not None else NO_SCHEMA
        return schema

    def forget(self, numbers: Iterable[int]) -> None:
        """Discard the schemas that a commit changed."""
        for number in numbers:
            self.known.pop(number, None)
