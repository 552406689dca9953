"""Documents: the state of a replica, its merge, its view and its writes.

Pure: no clock, no randomness, no disk. Built on `crdtdb.causality` and `crdtdb.crdts` alone.
"""

from crdtdb.documents.fields import NO_SCHEMA, NOTHING_GIVEN, Plain, Schema
from crdtdb.documents.given import Given
from crdtdb.documents.groups import Sight
from crdtdb.documents.revisions import NO_PATH, Ancestor, Path, Rev, child_digest, first_digest
from crdtdb.documents.stamps import HybridClock
from crdtdb.documents.state import NOTHING, Body, Leaf, State, merge
from crdtdb.documents.view import NO_BODY, NONE, DocumentView, Totals, VisibleLeaf, totals, view
from crdtdb.documents.write_context import Write
from crdtdb.documents.writes import Put, delete, edit, put, resolve

__all__ = [
    "NONE",
    "NOTHING",
    "NOTHING_GIVEN",
    "NO_BODY",
    "NO_PATH",
    "NO_SCHEMA",
    "Ancestor",
    "Body",
    "DocumentView",
    "Given",
    "HybridClock",
    "Leaf",
    "Path",
    "Plain",
    "Put",
    "Rev",
    "Schema",
    "Sight",
    "State",
    "Totals",
    "VisibleLeaf",
    "Write",
    "child_digest",
    "delete",
    "edit",
    "first_digest",
    "merge",
    "put",
    "resolve",
    "totals",
    "view",
]
