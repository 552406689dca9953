"""The store: key layout, the one commit, the dot log, the changes feed, what is sent and received.

Built on a backend and the pure core; knows nothing of networks.
"""

from crdtdb.store.exchange import Outgoing, Page, Received
from crdtdb.store.held import Collection, Held
from crdtdb.store.identity import Identity
from crdtdb.store.records import Past, Record
from crdtdb.store.store import Committed, Durability, Store, pull
from crdtdb.store.transaction import JunctionMissingError, Transaction, Written

__all__ = [
    "Collection",
    "Committed",
    "Durability",
    "Held",
    "Identity",
    "JunctionMissingError",
    "Outgoing",
    "Page",
    "Past",
    "Received",
    "Record",
    "Store",
    "Transaction",
    "Written",
    "pull",
]
