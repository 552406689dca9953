"""Store interface for replication: send, receive and reconcile."""

from __future__ import annotations

from collections.abc import Iterable

from crdtdb.causality import Dot, DotSet, Fork, Lineages
from crdtdb.store.commit.core import StoreCore
from crdtdb.store.commit.transaction import Transaction
from crdtdb.store.identity import ActorSession
from crdtdb.store.replication.exchange import NO_SNAPSHOT, AnswerForm, Outgoing
from crdtdb.store.replication.lineage_check import learn
from crdtdb.store.replication.receiving import Inspect, Received, receive, trust
from crdtdb.store.replication.reconciliation import Comparing, Taken, Unclosed, discard, restore_lost, shows
from crdtdb.store.replication.renaming import rename
from crdtdb.store.replication.rumor import RumorWriter
from crdtdb.store.snapshot import StoreSnapshot
from crdtdb.wire.delta_batch import DeltaBatch


class ReplicationStore:
    """Exchange, rumors, reconciliation and identity. Safe to use from any number of threads."""

    def __init__(self, core: StoreCore, session: ActorSession) -> None:
        self._core, self._session = core, session
        self._rumors = RumorWriter(core.tables)
        self._entry_clock = core.root.clock
        """The clock of a store before it entered, or was opened: it may be older than what its peers know of it."""

    # Identity

    def reset_identity(self, why: str) -> None:
        """Take a new store identity, keeping the data; the store must reconcile before it counts as a peer. `why` is logged."""

        def reset() -> None:
            self._entry_clock = self._core.root.clock
            self._session.reset(why)

        self._core.alone(reset)

    def end_entry(self) -> None:
        """Record that the store has reconciled with a peer: it counts as one of them."""
        self._core.alone(self._session.end_entry)

    def renew_actor(self, why: str = "a peer knew more of the old one") -> None:
        """Write as a new actor from now on: a peer may hold writes of the old one that are not here. `why` is logged."""
        self._core.alone(lambda: self._session.renew(why))

    def forks(self, clock: DotSet, lineages: Lineages) -> tuple[list[Fork], list[Fork]]:
        """Compare with a store of this clock; return the sessions to be renamed here, and those to be renamed there. Rule 3."""
        root = self._core.root
        return root.lineages.forks(root.reached, lineages, clock)

    def learn_lineages(self, clock: DotSet, lineages: Lineages) -> None:
        """Take over in which sessions the actors of a peer's clock wrote. Raises HistoryForkedError."""
        root = self._core.root
        if root.lineages.joined(root.reached, lineages, clock) is not root.lineages:
            self._core.submit(lambda transaction: learn(transaction.ledger, clock, lineages))

    def rename(self, fork: Fork) -> None:
        """Give the writes of a session other dots: another store holds different writes under theirs. Reads the whole store."""

        def work(transaction: Transaction) -> bool:
            if transaction.rows.all_rows():
                return False  # others have written in this commit, and what they wrote isn't in the backend yet
            rows, transaction.ledger.root = rename(self._core.backend, transaction.ledger.root, self._core.tables, fork)
            transaction.rows.changes.update(rows)
            return True

        while not self._core.submit(work):
            pass
        self._entry_clock = fork.renamed_dots(self._entry_clock)
        self._rumors = RumorWriter(self._core.tables)

    # Exchange

    def durable_clock(self) -> DotSet:
        """Return a node clock of durable writes alone: a loss of power can't take any of them back."""
        return self._core.durable_clock()

    def advance(self, clock: DotSet) -> None:
        """Count all dots of a clock as held: their effect is here."""
        self._core.submit(lambda transaction: transaction.ledger.advance(clock))

    def outgoing(self, theirs: DotSet, whole: bool = False, closed: bool = False, brief: bool = False) -> Outgoing:
        """Return the answer to a clock: all that it lacks, from one snapshot, durable before it is read. Close it afterwards.

        With `whole` each document comes with its whole paths and journals, whatever the clock says; with `closed` it comes
        with the revisions of branches that were collected; with `brief`, where it can, as a delta to what the clock covers.
        """
        core = self._core
        if core.root.clock <= theirs and core.sync:
            return Outgoing(NO_SNAPSHOT, core.root, core.tables, theirs, AnswerForm(whole, closed))
        snapshot, root = core.durable_rows()
        return Outgoing(snapshot, root, core.tables, theirs, AnswerForm(whole, closed, brief))

    def receive(
        self,
        parcel: DeltaBatch,
        advance: bool = False,
        inspect: Inspect = trust,
        lineages: Lineages | None = None,
    ) -> Received:
        """Merge a batch in one commit; with `advance` also take over its clock, as at the end of an exchange.

        `inspect` may refuse a document of a system collection, or a local record, by raising: then nothing of the batch is
        kept. `lineages` are the sender's, None if it sends none. Raises what `crdtdb.store.replication.receiving.receive` does.
        """
        return self._core.submit(lambda transaction: receive(transaction, parcel, advance, inspect, lineages))

    def rumor(
        self, documents: Iterable[tuple[str, str]], *, brief: bool = False, knows_strands: bool = True
    ) -> list[object] | None:
        """Return a batch of documents as they are now, with short paths and the updates that no rumor has carried yet.

        With `brief` a document of an earlier rumor comes as a delta to that; `knows_strands` says whether all receivers know
        strands of journals. None if no document is left, or the batch would be larger than RUMOR_BYTES_MAX.
        """
        snapshot, root = self._core.durable_rows()
        try:
            return self._rumors.parcel(snapshot, root, documents, brief, knows_strands)
        finally:
            snapshot.close()

    # Reconciliation

    def collected_since(self, theirs: DotSet) -> bool:
        """Whether something may have been collected here that a store with this clock has never seen."""
        root = self._core.root
        return bool((root.clock - theirs) & root.stable)

    def comparing(self, theirs: DotSet, closed: bool = False) -> Comparing:
        """Return a snapshot to be compared with a store of this clock. Close it afterwards. `closed` as in `outgoing`."""
        snapshot, root = self._core.durable_rows()
        tables = self._core.tables
        form = AnswerForm(whole=True, closed=closed, catalogue=True)
        outgoing = Outgoing(Unclosed(snapshot), root, tables, theirs, form)
        return Comparing(StoreSnapshot(snapshot, root, tables), outgoing, snapshot)

    def still_shows(self, name: str, doc_id: str, dots: Iterable[Dot]) -> bool:
        """Whether what a document shows still depends on some of these dots."""
        record = self._core.live_view().read(name, doc_id)
        return record is not None and bool(shows(record.state, dots))

    def discard(self, documents: Iterable[tuple[tuple[str, str], list[Dot]]], clock: DotSet) -> list[tuple[str, str]]:
        """Remove from documents the dots that a store of this clock has seen replaced or collected; return which changed.

        See `crdtdb.store.replication.reconciliation`.
        """

        def work(transaction: Transaction) -> list[tuple[str, str]]:
            return [
                (name, doc_id)
                for (name, doc_id), dots in documents
                if name in transaction.ledger.root.collections
                and discard(transaction, name, doc_id, dots, clock, self._entry_clock)
            ]

        return self._core.submit(work)

    def restore_lost(self, parcel: DeltaBatch, lost: Iterable[Dot], repair: bool) -> Taken:
        """Return the documents of a batch of which this store has lost some dots; with `repair` restore them."""
        return self._core.submit(lambda transaction: restore_lost(transaction, parcel, lost, repair))
