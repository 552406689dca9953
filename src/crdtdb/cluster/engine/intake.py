"""What peers send to be merged: pages and rumors, once the histories agree and the documents were inspected. Rule 3."""

from __future__ import annotations

from collections.abc import Callable

from crdtdb.causality import DotSet, Lineages
from crdtdb.cluster.engine.lineage_check import Agreement
from crdtdb.cluster.engine.links import Link
from crdtdb.cluster.engine.system_documents import Inspection
from crdtdb.store import Received, Store
from crdtdb.wire.delta_batch import DeltaBatch

Agree = Callable[[Link, DotSet, bytes | None, float], Agreement]
"""Returns whether a peer means the same writes by the dots of a clock, given with the digest that came with it."""


class Intake:
    """Merges batches of documents that came over links."""

    def __init__(self, store: Store, agree: Agree, check_forkable: Callable[[], None]) -> None:
        """`check_forkable` raises ProtocolError if no other node can know more writes of this node's actor than its store."""
        self._store, self.agree, self._check_forkable = store, agree, check_forkable
        self.news = False
        """Whether something was merged since conflicts were last resolved."""

    def merge(self, link: Link, batch: DeltaBatch, lineages: Lineages | None, *, advance: bool = False) -> Received:
        """Merge a batch whose history agrees. With `advance` the node's clock takes over the batch's.

        Raises ProtocolError and EncodingError for what no sound peer sends, and what `Store.receive` raises.
        """
        received = self._store.replication.receive(batch, advance, self._inspection(link, batch), lineages)
        self.news = self.news or bool(received.news)
        return received

    def _inspection(self, link: Link, batch: DeltaBatch) -> Inspection:
        """Return what inspects the documents of a batch. Raises ProtocolError if the batch knows writes that can't exist.

        Where this node drew its actor since it started, no peer can know more of its writes: its store wasn't put back.
        """
        mine = self._store.actor
        if batch.clock.highest(mine) > self._store.root.clock.highest(mine):
            self._check_forkable()
        # Not its former actors: of those others could forge documents, and have it refused for passing them on.
        return Inspection({link.greeting.actor} if link.greeting is not None else set())
