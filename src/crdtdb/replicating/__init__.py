"""CouchDB's replication protocol from the other side: moving documents between any two databases that speak it."""

from crdtdb.replicating.endpoint import Endpoint, Peer
from crdtdb.replicating.errors import PeerError, ReplicationError
from crdtdb.replicating.inside import Inside
from crdtdb.replicating.replication import Progress, Replication, Wanted

__all__ = ["Endpoint", "Inside", "Peer", "PeerError", "Progress", "Replication", "ReplicationError", "Wanted"]
