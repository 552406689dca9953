"""The embedded database: collections of documents over one store."""

from crdtdb.database.database import Database, Synced, open, sync  # noqa: A004 - crdtdb.open

__all__ = [
    "Database",
    "Synced",
    "open",
    "sync",
]
