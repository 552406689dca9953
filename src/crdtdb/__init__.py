"""crdtdb: a replicated document database.

Edits made at the same time on different nodes merge by themselves where they can, and where they can't they stay side by
side as an explicit conflict: never silently lost, the same on every node.
"""

from crdtdb.changing import Changed, ChangedMany
from crdtdb.collection import Collection
from crdtdb.crdts import Counter, Flag, List, Map, MultiValue, Register, Set, Text
from crdtdb.database import Database, Synced, open, sync  # noqa: A004 - crdtdb.open
from crdtdb.designs import IndexInfo
from crdtdb.document import Change, Document, Revision, Sibling
from crdtdb.editing import DocumentEdit, FieldEdit, ObjectEdit
from crdtdb.errors import (
    BackendMissingError,
    BackupError,
    BookmarkError,
    CertificateError,
    ConfigurationError,
    ConflictError,
    ConvergenceError,
    CrdtdbError,
    DotCollisionError,
    EncodingError,
    InvalidDocumentError,
    InvalidIdError,
    InvalidInputError,
    InvalidRevError,
    LockError,
    MissingStubError,
    NotFoundError,
    NoUsableIndexError,
    ProtocolError,
    SchemaError,
    SelectorError,
    StoreClosedError,
    StoreCorruptedError,
    StoreError,
    StoreFormatError,
    StoreFullError,
    StoreLockedError,
    StorePermissionError,
    SystemCollectionError,
    TooLargeError,
    UnavailableError,
)
from crdtdb.finding import Finder
from crdtdb.resolvers import Conflict, Resolver, first_write_wins, last_write_wins, three_way_merge

__version__ = "0.1.0"

__all__ = [
    "BackendMissingError",
    "BackupError",
    "BookmarkError",
    "CertificateError",
    "Change",
    "Changed",
    "ChangedMany",
    "Collection",
    "ConfigurationError",
    "Conflict",
    "ConflictError",
    "ConvergenceError",
    "Counter",
    "CrdtdbError",
    "Database",
    "Document",
    "DocumentEdit",
    "DotCollisionError",
    "EncodingError",
    "FieldEdit",
    "Finder",
    "Flag",
    "IndexInfo",
    "InvalidDocumentError",
    "InvalidIdError",
    "InvalidInputError",
    "InvalidRevError",
    "List",
    "LockError",
    "Map",
    "MissingStubError",
    "MultiValue",
    "NoUsableIndexError",
    "NotFoundError",
    "ObjectEdit",
    "ProtocolError",
    "Register",
    "Resolver",
    "Revision",
    "SchemaError",
    "SelectorError",
    "Set",
    "Sibling",
    "StoreClosedError",
    "StoreCorruptedError",
    "StoreError",
    "StoreFormatError",
    "StoreFullError",
    "StoreLockedError",
    "StorePermissionError",
    "Synced",
    "SystemCollectionError",
    "Text",
    "TooLargeError",
    "UnavailableError",
    "__version__",
    "first_write_wins",
    "last_write_wins",
    "open",
    "sync",
    "three_way_merge",
]
