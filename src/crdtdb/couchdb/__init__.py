"""A collection as CouchDB's protocol sees it: trees of immutable revisions, attachments, local documents, a changes feed.

Synchronous and without a network, like the collection that it is about; `crdtdb.http` puts it behind routes.
"""

from crdtdb.couchdb.changes import ChangesFeed, Wanted
from crdtdb.couchdb.holding import Checkpoints
from crdtdb.couchdb.incoming import Incoming, incoming
from crdtdb.couchdb.locals import delete_local, get_local, local_ids, put_local
from crdtdb.couchdb.seqs import encode_seq, seq_now
from crdtdb.couchdb.trees import Options, Tree, Trees
from crdtdb.couchdb.words import RefusedError
from crdtdb.couchdb.writes import Writes

__all__ = [
    "ChangesFeed",
    "Checkpoints",
    "Incoming",
    "Options",
    "RefusedError",
    "Tree",
    "Trees",
    "Wanted",
    "Writes",
    "delete_local",
    "encode_seq",
    "get_local",
    "incoming",
    "local_ids",
    "put_local",
    "seq_now",
]
