"""The store: one door to disk for local writes and replicated deltas.

Readers see what is committed, from any thread, without a lock. What a commit changes (documents, node clock, dot log,
changes feed, counts) is one atomic batch, and readers see nothing of it before it is as durable as the store promises.

    store.live_view(), snapshot(), durable_snapshot()   reads: `StoreSnapshot`
    store.submit(work), write(...)                      writes: `Transaction`
    store.replication                                   exchange, rumors, reconciliation, identity
    store.attachments, derived, meta                    contents; indexes and views; rows of a node beside its documents
    store.collector, sweeper                            maintenance
    store.notifier, metrics                             waiting for commits; counters
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, TypeVar

from crdtdb import forks
from crdtdb.backends import Backend, Snapshot, open_backend
from crdtdb.causality import Actor
from crdtdb.clock import WallClock, monotonic_seconds, wall_milliseconds
from crdtdb.crdts import OpenSequence
from crdtdb.documents import NO_SCHEMA, HybridClock, Schema, State, Write
from crdtdb.errors import InvalidInputError, NotFoundError, StoreError
from crdtdb.limits import LINEAGE_SESSIONS_MAX
from crdtdb.store.attachments import Attachments
from crdtdb.store.backup import write_backup
from crdtdb.store.commit.core import StoreCore
from crdtdb.store.commit.derived_rows import update_indexes
from crdtdb.store.commit.ledger import Origin
from crdtdb.store.commit.schemas import Schemas
from crdtdb.store.commit.transaction import Transaction, Written
from crdtdb.store.derived import Derived
from crdtdb.store.gc.collector import Collector
from crdtdb.store.gc.sweep import Sweeper
from crdtdb.store.identity import ActorSession, Identity
from crdtdb.store.large_documents import LargeDocuments
from crdtdb.store.layout import keys
from crdtdb.store.layout.records import Record
from crdtdb.store.layout.version import check_format
from crdtdb.store.meta import MetaRows
from crdtdb.store.metrics import StoreMetrics
from crdtdb.store.migrations import upgrade
from crdtdb.store.notifier import CommitNotifier, Committed
from crdtdb.store.open_sequences import OpenSequences
from crdtdb.store.replication.port import ReplicationStore
from crdtdb.store.root import CollectionStats, StoreRoot, root_rows
from crdtdb.store.sequence_reader import SequenceReader
from crdtdb.store.snapshot import StoreSnapshot, decoded

T = TypeVar("T")
Durability = Literal["sync", "buffered"]


class Store:
    """Documents, their causality and their history over one backend. Safe to use from any number of threads."""

    def __init__(
        self,
        backend: Backend,
        durability: Durability = "sync",
        wall: WallClock = wall_milliseconds,
        draw: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Open the store in a backend, or create one there.

        `durability` is what an acknowledged write outlives: "sync" a loss of power, "buffered" the end of the process.
        `wall` returns milliseconds since 1970; `draw` returns that many random bytes. Raises InvalidInputError for another
        durability, StoreFormatError for a store of an unknown format.
        """
        if durability not in ("sync", "buffered"):
            raise InvalidInputError(f"durability is 'sync' or 'buffered', not {durability!r}")
        self._backend, self._wall = backend, wall
        version = check_format(backend)
        if version != keys.FORMAT_VERSION:
            upgrade(backend, version)
        self._core = StoreCore(backend, durability == "sync", self._begin, self._finish)
        self._committer = self._core.committer
        self._session = ActorSession(backend, draw, wall)
        self._stamps = HybridClock()
        self._sequences = OpenSequences()
        self._schemas = Schemas(self._core.live_view)
        large = LargeDocuments(monotonic_seconds)
        self._origin = Origin(
            self._session.identity.actor,
            draw,
            lambda: self._stamps.now(self._wall()),
            lambda stamp: self._stamps.observe(stamp, self._wall()),
            self._sequences,
            self._schemas,
            self._session.next(self.root.clock),
            large,
        )
        self.failure: StoreError | None = None
        """The error of a failed commit, None if all were written: after it, restart the process."""
        self._reader = SequenceReader(self._core, self._sequences, self._session)
        self.replication = ReplicationStore(self._core, self._session)
        """Exchange, rumors, reconciliation and identity."""
        self.meta = MetaRows(self._core)
        """The rows of roster and promises."""
        self.notifier = CommitNotifier(lambda: self._core.root)
        """Wakes waiters and calls listeners after each commit."""
        self.metrics = StoreMetrics(large, lambda: self._core.root)
        """Counters since the store was opened."""
        self.collector = Collector(self._core, wall)
        """Incremental garbage collector: tombstones, bodies, expired history."""
        self.derived = Derived(self._core)
        """Indexes and views."""
        self.sweeper = Sweeper(self._core, self.derived)
        """Folds journals, and removes the rows of dropped collections."""
        self.attachments = Attachments(self._core, draw)
        """The contents of attachments."""
        forks.own(self)
        self.attachments.sweep()
        if len(self.root.lineages.of(self.actor).sessions) >= LINEAGE_SESSIONS_MAX:
            self.replication.renew_actor("the old one has written in as many sessions as it may")

    @classmethod
    def open(cls, url: str, durability: Durability = "sync") -> Store:
        """Open the store that a URL or path names. Raises as `Store` does, and what opening its backend raises."""
        backend = open_backend(url)
        try:
            return cls(backend, durability)
        except BaseException:
            backend.close()
            raise

    # What is committed

    @property
    def root(self) -> StoreRoot:
        """The node clock, the collections and their counts."""
        return self._core.root

    @property
    def identity(self) -> Identity:
        """Which store this is, and which of its incarnations."""
        return self._session.identity

    @property
    def actor(self) -> Actor:
        """The actor that this store writes as."""
        return self._session.identity.actor

    @property
    def tag(self) -> bytes:
        """Distinguishes this store's session, since it was opened or took its actor, from the actor's other sessions."""
        return self._session.tag

    @property
    def size(self) -> int | None:
        """Bytes on disk, None for a store in memory."""
        return self._backend.size()

    @property
    def kind(self) -> str:
        """The name of the backend."""
        return self._backend.capabilities.name

    def collection(self, name: str) -> CollectionStats:
        """Return a collection's counts. Raises NotFoundError."""
        stats = self._core.root.collections.get(name)
        if stats is None:
            raise NotFoundError(f"there is no collection {name!r}")
        return stats

    def schema(self, name: str) -> Schema:
        """Return the schema of a collection, empty if it has none."""
        collection = self._core.root.collections.get(name)
        return self._schemas.read(name, collection.number, self._backend.get) if collection is not None else NO_SCHEMA

    # Reads

    def read(self, name: str, doc_id: str) -> Record | None:
        """Return a document, None if there was never one, or all of it was dropped."""
        core = self._core
        root = core.root
        collection = root.collections.get(name)
        if collection is None:
            return None
        key = keys.document(collection.number, doc_id.encode())
        value = core.backend.get(key)
        self.metrics.read_documents += 1
        return decoded(core.backend, root, core.tables, name, key, value) if value is not None else None

    def live_view(self) -> StoreSnapshot:
        """Return a view of the current rows under the current root; commits may change the rows during a read."""
        return self._core.live_view()

    def snapshot(self) -> tuple[Snapshot, StoreSnapshot]:
        """Return a snapshot of the store, durable or not. Close it afterwards."""
        return self._core.snapshot()

    @contextmanager
    def durable_snapshot(self) -> Iterator[StoreSnapshot]:
        """Give a snapshot of durable commits only, so that its clock never covers a write that a power loss could undo."""
        snapshot, root = self._core.durable_rows()
        try:
            yield StoreSnapshot(snapshot, root, self._core.tables)
        finally:
            snapshot.close()

    @contextmanager
    def backup(self) -> Iterator[Iterator[bytes]]:
        """Give a backup of one moment, piece by piece, while other work continues."""
        snapshot, _ = self._core.durable_rows()
        try:
            yield write_backup(snapshot)
        finally:
            snapshot.close()

    def opener(self, name: str, doc_id: str) -> OpenSequence:
        """Return a function that opens the texts and lists of a document for reading, at their current values."""
        return self._reader.opener(name, doc_id)

    # Writes

    def submit(self, work: Callable[[Transaction], T]) -> T:
        """Run work in a transaction; return its result when it is committed.

        The work of several threads may share a commit, and run in any of them. Work that raises leaves nothing behind, and its
        error is raised here. Raises StoreClosedError, and NestedCommitError inside submitted work.
        """
        return self._committer.submit(work)

    def submit_all(self, works: Iterable[Callable[[Transaction], T]]) -> list[T | BaseException]:
        """Run each of these as `submit` does, in one commit if nothing is in the way; return a result or an error for each."""
        return self._committer.submit_all(works)

    def write(self, name: str, doc_id: str, change: Callable[[State, Write], State]) -> Written:
        """Apply one write to a document."""
        return self._committer.submit(lambda transaction: transaction.write(name, doc_id, change))

    def flush(self) -> None:
        """Make durable what was committed. At durability "sync" it is already."""
        self._core.flush()

    def stamp(self) -> int:
        """Return the next hybrid timestamp, later than those of all writes here."""
        return self._committer.alone(lambda: self._stamps.now(self._wall()))

    def close(self) -> None:
        """Wait for commits in progress, and close. A second call does nothing."""

        def last() -> None:
            # A store that can't be written any more stays marked as running: the next open draws a new actor.
            with suppress(StoreError):
                self._session.stop()
            try:
                self._backend.close()
            finally:
                self.notifier.close()

        self._committer.close(last)

    # The commit

    def _begin(self) -> Transaction:
        core, session = self._core, self._session
        if not session.begun or self._origin.actor != session.identity.actor:
            self._origin = self._origin._replace(actor=session.identity.actor, session=session.next(core.root.clock))
        return Transaction(self._backend, core.root, core.tables, self._origin, self.derived.all)

    def _finish(self, transaction: Transaction) -> None:
        core, session, documents, ledger = self._core, self._session, transaction.documents, transaction.ledger
        if documents.followed:
            update_indexes(transaction)
        if documents.released:
            transaction.contents.remove_unreferred()
        # What was begun before the store took another actor may end after it.
        is_current = ledger.actor == session.identity.actor
        begun = (session.begun and is_current) or ledger.begin_session()
        rows = transaction.rows.all_rows()
        rows.update(root_rows(core.root, ledger.root, core.tables))
        if not rows:
            return
        if core.tables.unsaved:
            rows.update(core.tables.unsaved)
        started = monotonic_seconds()
        try:
            self._backend.write(rows, durable=core.sync)
        except StoreError as error:
            self.failure = error
            raise
        metrics = self.metrics
        metrics.commits += 1
        metrics.commit_seconds += monotonic_seconds() - started
        metrics.written_documents += len(transaction.written)
        if is_current:
            session.begun = begun
        if core.tables.unsaved:
            core.tables.unsaved = {}
        core.root = ledger.root
        self._publish(transaction)

    def _publish(self, transaction: Transaction) -> None:
        """Pass a commit to each part of the store, then notify."""
        self.derived.committed(transaction)
        documents, ledger = transaction.documents, transaction.ledger
        if ledger.swept or documents.opened is not None:
            self.sweeper.committed(transaction)
        if documents.opened is not None:
            for slot, opened in documents.opened.opened.items():
                self._sequences.keep(slot, opened)
        if documents.declared:
            self._schemas.forget(documents.declared)
        notifier = self.notifier
        notifier.notify()
        if notifier.listeners:
            committed = Committed(frozenset(ledger.touched), tuple(transaction.written), ledger.named)
            for listener in notifier.listeners:
                listener(committed)
