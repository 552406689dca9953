"""CouchDB's replication protocol from the other side: moving documents between any two databases that speak it."""

from crdtdb.couchdb.replication.asgi_transport import StreamingASGITransport
from crdtdb.couchdb.replication.endpoint import Endpoint, Peer
from crdtdb.couchdb.replication.errors import PeerError, ReplicationError
from crdtdb.couchdb.replication.replication import Progress, Replication, Wanted

__all__ = [
    "Endpoint",
    "Peer",
    "PeerError",
    "Progress",
    "Replication",
    "ReplicationError",
    "StreamingASGITransport",
    "Wanted",
]
