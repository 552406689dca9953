"""A collection as CouchDB's protocol sees it: trees of immutable revisions, attachments, local documents, a changes feed.

Synchronous and without a network, like the collection that it is about; `crdtdb.http` puts it behind routes.
"""

from crdtdb.couchdb.changes import ChangesFeed, Wanted
from crdtdb.couchdb.checkpoints import Checkpoints
from crdtdb.couchdb.errors import CouchError
from crdtdb.couchdb.local_documents import delete_local, get_local, local_ids, put_local
from crdtdb.couchdb.parsing import ParsedDocument, parse_document
from crdtdb.couchdb.revision_trees import Options, Tree, Trees
from crdtdb.couchdb.update_seq import encode_seq, seq_now
from crdtdb.couchdb.writes import Outcome, Writes

__all__ = [
    "ChangesFeed",
    "Checkpoints",
    "CouchError",
    "Options",
    "Outcome",
    "ParsedDocument",
    "Tree",
    "Trees",
    "Wanted",
    "Writes",
    "delete_local",
    "encode_seq",
    "get_local",
    "local_ids",
    "parse_document",
    "put_local",
    "seq_now",
]
