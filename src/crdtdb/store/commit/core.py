"""Committed state of a store: rows, root, and the only way to change them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from crdtdb.backends import Backend, Snapshot
from crdtdb.causality import DotSet
from crdtdb.store.commit.group_commit import Committer, Work
from crdtdb.store.commit.transaction import Transaction
from crdtdb.store.layout.records import StoreTables
from crdtdb.store.root import StoreRoot, read_root
from crdtdb.store.snapshot import StoreSnapshot

T = TypeVar("T")


class StoreCore:
    """Backend, tables and root of a store. The root is one immutable value: readers take it without a lock."""

    def __init__(
        self,
        backend: Backend,
        sync: bool,
        begin: Callable[[], Transaction],
        finish: Callable[[Transaction], None],
    ) -> None:
        """With `sync` each commit is durable when it returns. `begin` and `finish` as in `Committer`."""
        self.backend, self.sync = backend, sync
        self.tables = StoreTables(backend)
        self.root = read_root(backend, self.tables)
        self.committer = Committer(begin, finish)
        self._flushed: DotSet | None = None

    def submit(self, work: Work[T]) -> T:
        """Run work in a transaction; return when it is committed."""
        return self.committer.submit(work)

    def alone(self, act: Callable[[], T]) -> T:
        """Run `act` while no transaction is open."""
        return self.committer.alone(act)

    def flush(self) -> None:
        """Make durable what was committed. With `sync` it is already."""
        if not self.sync:
            self.backend.flush()

    def durable_clock(self) -> DotSet:
        """Return the node clock of durable writes alone: a loss of power can't take any of them back."""
        clock = self.root.clock
        if self._flushed is not clock:
            self.flush()
            self._flushed = clock
        return clock

    def live_view(self) -> StoreSnapshot:
        """Return the rows as they are, under the root of this moment."""
        return StoreSnapshot(self.backend, self.root, self.tables)

    def snapshot(self) -> tuple[Snapshot, StoreSnapshot]:
        """Return a snapshot of rows and root of one moment, durable or not. The caller closes it."""

        def take() -> tuple[Snapshot, StoreSnapshot]:
            rows = self.backend.snapshot()
            return rows, StoreSnapshot(rows, self.root, self.tables)

        return self.alone(take)

    def durable_rows(self) -> tuple[Snapshot, StoreRoot]:
        """Return rows and root of one moment, durable. The caller closes the rows.

        Documents under another moment's clock would lie: a newer clock says of what came between that it was removed, an
        older one forgets what the document had replaced.
        """

        def take() -> tuple[Snapshot, StoreRoot]:
            self.flush()
            return self.backend.snapshot(), self.root

        return self.alone(take)
