"""The collections that the database keeps of itself: replicated like any other, written by the database alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from crdtdb.canonical_json import canonical, load
from crdtdb.documents import NO_BODY, DocumentView, State, VisibleLeaf, Write, delete, put, resolve, view
from crdtdb.errors import CrdtdbError, InvalidDocumentError
from crdtdb.store import Store, Transaction

Check = Callable[[str, dict[str, Any]], object]
"""Given the id and the body of a document, raises whatever it likes unless its owner could have written it."""
_log = logging.getLogger("crdtdb.database.system_collection")


def check_system_document(check: Check, doc_id: str, text: bytes) -> dict[str, Any]:
    """Return the body of a document of a system collection. Raises InvalidDocumentError for one that its owner never writes."""
    try:
        body = load(text)
        if type(body) is not dict:
            raise TypeError(f"it is {type(body).__name__}, not an object")
        check(doc_id, body)
    except (CrdtdbError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise InvalidDocumentError(f"malformed: {type(error).__name__}: {error}") from error
    return body


class SystemCollection:
    """One of them, read again whenever it has changed.

    Other nodes may have written anything there. What `check` doesn't allow counts as absent, with a warning, until the owner
    of the document writes it again.
    """

    def __init__(self, store: Store, name: str, check: Check = lambda doc_id, body: None) -> None:  # noqa: ARG005
        """`name` begins with `system.`."""
        self._store, self.name, self._check = store, name, check
        self._read_at: tuple[int, int] | None = None
        self._warned: set[tuple[str, str]] = set()
        self.malformed: frozenset[str] = frozenset()
        """The ids of the documents that had no readable body when all were last read."""

    def changed(self) -> bool:
        """Whether there is something else to read than at the last call; so whoever asks has to read."""
        collection = self._store.root.collections.get(self.name)
        at = (collection.number, collection.seq) if collection is not None else None
        if at == self._read_at:
            return False
        self._read_at = at
        return True

    def views(self) -> Iterator[tuple[str, DocumentView]]:
        """Yield each document that isn't deleted, with those of its siblings that are as their owner writes them."""
        malformed: set[str] = set()
        if self.name in self._store.root.names:
            for doc_id, record in self._store.live_view().documents(self.name):
                shown = view(record.state)
                sound = tuple(one for one in shown.siblings if self._is_sound(doc_id, one))
                if sound:
                    yield doc_id, shown if len(sound) == len(shown.siblings) else replace(shown, siblings=sound)
                elif not shown.deleted:
                    malformed.add(doc_id)
        self.malformed = frozenset(malformed)

    def _is_sound(self, doc_id: str, one: VisibleLeaf) -> bool:
        try:
            check_system_document(self._check, doc_id, one.text or b"")
        except InvalidDocumentError as error:
            if (doc_id, str(one.rev)) not in self._warned:
                self._warned.add((doc_id, str(one.rev)))
                _log.warning("ignoring the document %r of %s, revision %s: %s", doc_id[:200], self.name, one.rev, error)
            return False
        return True

    def bodies(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what each document says, the winner where there are several."""
        for doc_id, shown in self.views():
            yield doc_id, load(shown.siblings[0].text or NO_BODY)

    def say(self, doc_id: str, body: dict[str, Any]) -> bool:
        """Let a document say this; return whether it didn't yet, and was written."""
        text = canonical(body)

        def work(transaction: Transaction) -> bool:
            with transaction.ledger.seeding():
                return (
                    transaction.write(self.name, doc_id, lambda state, write: _say(state, write, text)).dot is not None
                )

        return self._store.submit(work)

    def delete(self, doc_id: str) -> bool:
        """Delete a document; return whether it was there."""

        def work(transaction: Transaction) -> bool:
            with transaction.ledger.seeding():
                return transaction.write(self.name, doc_id, _unsay).dot is not None

        return self.name in self._store.root.names and self._store.submit(work)


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
