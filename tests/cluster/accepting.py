"""Exchanges of a store without an engine: every history agrees, and every actor may have forked."""

from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.exchanges import Exchanges
from crdtdb.cluster.engine.intake import Intake
from crdtdb.cluster.engine.lineage_check import Agreement
from crdtdb.gossip import GossipConfig
from crdtdb.store import Store


def exchanges_of(store: Store, outbox: Outbox, config: GossipConfig) -> Exchanges:
    """Return the exchanges of a store."""
    intake = Intake(store, lambda link, clock, digest, now: Agreement(True, None), lambda: None)
    return Exchanges(store, config, outbox, intake, lambda peer: None)
