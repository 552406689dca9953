"""The store: key layout, the one commit, the dot log, the changes feed, what is sent and received.

Built on a backend and the pure core; knows nothing of networks.
"""

from crdtdb.store.collecting import Told
from crdtdb.store.comparing import Bucket, Comparing, Difference, Place, Summing, Sums, compare, differing, sums_of
from crdtdb.store.contents import PIECE_BYTES, ContentMissingError, Upload
from crdtdb.store.exchange import Inspect, Outgoing, Page, Received, trust
from crdtdb.store.held import Collection, Held
from crdtdb.store.history import JunctionMissingError
from crdtdb.store.identity import Identity
from crdtdb.store.ledger import SYSTEM
from crdtdb.store.moment import Moment
from crdtdb.store.pulling import pull
from crdtdb.store.records import Past, Record
from crdtdb.store.store import Committed, Durability, Store
from crdtdb.store.syncing import Exchanged, synchronize
from crdtdb.store.transaction import Transaction, Written
from crdtdb.store.views import Emission, ViewRow, ViewState, read_view, scan_view

__all__ = [
    "PIECE_BYTES",
    "SYSTEM",
    "Bucket",
    "Collection",
    "Committed",
    "Comparing",
    "ContentMissingError",
    "Difference",
    "Durability",
    "Emission",
    "Exchanged",
    "Held",
    "Identity",
    "Inspect",
    "JunctionMissingError",
    "Moment",
    "Outgoing",
    "Page",
    "Past",
    "Place",
    "Received",
    "Record",
    "Store",
    "Summing",
    "Sums",
    "Told",
    "Transaction",
    "Upload",
    "ViewRow",
    "ViewState",
    "Written",
    "compare",
    "differing",
    "pull",
    "read_view",
    "scan_view",
    "sums_of",
    "synchronize",
    "trust",
]
