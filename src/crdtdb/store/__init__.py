"""The store: key layout, commits, dot log, changes feed and replication.

Built on a backend and the pure core; knows nothing of networks.
"""

from crdtdb.store.commit.derived_rows import ViewKey
from crdtdb.store.commit.ledger import SYSTEM
from crdtdb.store.commit.transaction import Transaction, Written
from crdtdb.store.gc.tombstones import ClientsRead, Told
from crdtdb.store.identity import Identity
from crdtdb.store.layout.contents import PIECE_BYTES, ContentMissingError, Upload
from crdtdb.store.layout.history import MissingAncestorError
from crdtdb.store.layout.records import Past, Record
from crdtdb.store.layout.view_rows import Emission, ViewRow, ViewState, read_view, scan_view
from crdtdb.store.notifier import Committed
from crdtdb.store.replication.exchange import Outgoing, Page
from crdtdb.store.replication.receiving import Inspect, Received, trust
from crdtdb.store.replication.reconciliation import (
    Bucket,
    Comparing,
    Difference,
    Place,
    Summing,
    Sums,
    compare,
    differing,
    sums_of,
)
from crdtdb.store.root import CollectionStats, StoreRoot
from crdtdb.store.snapshot import StoreSnapshot
from crdtdb.store.store import Durability, Store

__all__ = [
    "PIECE_BYTES",
    "SYSTEM",
    "Bucket",
    "ClientsRead",
    "CollectionStats",
    "Committed",
    "Comparing",
    "ContentMissingError",
    "Difference",
    "Durability",
    "Emission",
    "Identity",
    "Inspect",
    "MissingAncestorError",
    "Outgoing",
    "Page",
    "Past",
    "Place",
    "Received",
    "Record",
    "Store",
    "StoreRoot",
    "StoreSnapshot",
    "Summing",
    "Sums",
    "Told",
    "Transaction",
    "Upload",
    "ViewKey",
    "ViewRow",
    "ViewState",
    "Written",
    "compare",
    "differing",
    "read_view",
    "scan_view",
    "sums_of",
    "trust",
]
