"""Node rows beside the documents: the cluster roster and lock promises."""

from __future__ import annotations

from collections.abc import Mapping

from crdtdb.store.commit.core import StoreCore
from crdtdb.store.layout import keys


class MetaRows:
    """Reads and writes the rows of roster and promises. They never leave the store."""

    def __init__(self, core: StoreCore) -> None:
        self._core = core

    def put_roster(self, encoded: bytes) -> None:
        """Keep what gossip knows of the members, as `encoded` by the cluster."""
        self._core.submit(lambda transaction: transaction.rows.changes.update({keys.ROSTER: encoded}))

    def roster(self) -> bytes | None:
        """Return the row of `put_roster`, None if there is none."""
        return self._core.backend.get(keys.ROSTER)

    def put_promises(self, rows: Mapping[str | None, bytes | None]) -> None:
        """Keep the promise of each lock by its name, durably; None removes it. Under the name None: what concerns all locks."""
        batch = {keys.PROMISES if name is None else keys.PROMISE + name.encode(): row for name, row in rows.items()}
        if batch:
            self._core.alone(lambda: self._core.backend.write(batch, durable=True))

    def promises(self) -> dict[str | None, bytes]:
        """Return the rows of `put_promises`."""
        rows = self._core.backend.scan(*keys.rest(keys.PROMISE))
        promises: dict[str | None, bytes] = {key[len(keys.PROMISE) :].decode(): row for key, row in rows}
        header = self._core.backend.get(keys.PROMISES)
        return promises if header is None else {None: header, **promises}
