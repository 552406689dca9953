"""The collections that the database keeps of itself: replicated like any other, written by the database alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crdtdb.documents import State, View, Write, delete, put, resolve, view
from crdtdb.jsontext import canonical, load
from crdtdb.store import Store, Transaction


class SystemCollection:
    """One of them, read again whenever it has changed."""

    def __init__(self, store: Store, name: str) -> None:
        """`name` begins with `system.`."""
        self._store, self.name = store, name
        self._read_at: tuple[int, int] | None = None

    def changed(self) -> bool:
        """Whether there is something else to read than at the last call; so whoever asks has to read."""
        collection = self._store.held.collections.get(self.name)
        at = (collection.number, collection.seq) if collection is not None else None
        if at == self._read_at:
            return False
        self._read_at = at
        return True

    def views(self) -> Iterator[tuple[str, View]]:
        """Yield each document that isn't deleted."""
        if self.name in self._store.held.names:
            for doc_id, record in self._store.documents(self.name):
                shown = view(record.state)
                if not shown.deleted:
                    yield doc_id, shown

    def bodies(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what each document says, the winner where there are several."""
        for doc_id, shown in self.views():
            text = shown.siblings[0].text
            if text is not None:
                yield doc_id, load(text)

    def say(self, doc_id: str, body: dict[str, Any]) -> bool:
        """Let a document say this; return whether it didn't yet, and was written."""
        text = canonical(body)

        def work(transaction: Transaction) -> bool:
            with transaction.seeding():
                return (
                    transaction.write(self.name, doc_id, lambda state, write: _say(state, write, text)).dot is not None
                )

        return self._store.submit(work)

    def unsay(self, doc_id: str) -> bool:
        """Delete a document; return whether it was there."""

        def work(transaction: Transaction) -> bool:
            with transaction.seeding():
                return transaction.write(self.name, doc_id, _unsay).dot is not None

        return self.name in self._store.held.names and self._store.submit(work)


def _say(state: State, write: Write, text: bytes) -> State:
    shown = view(state)
    if shown.deleted:
        return put(state, write, None, text)
    if not shown.conflict and shown.siblings[0].text == text:
        return state
    return resolve(state, write, text)


def _unsay(state: State, write: Write) -> State:
    while not (shown := view(state)).deleted:
        state = delete(state, write, shown.siblings[0].rev)
    return state
