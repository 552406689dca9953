"""Texts and lists for readers, opened from rows on first access and cached."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from crdtdb import forks
from crdtdb.canonical_json import JSON
from crdtdb.crdts import Journal, OpenSequence, Sequence, kind_of, within, writer_under
from crdtdb.errors import NotFoundError
from crdtdb.store.commit.core import StoreCore
from crdtdb.store.identity import ActorSession
from crdtdb.store.layout.journals import JournalRows
from crdtdb.store.open_sequences import Open, OpenSequences, Slot

T = TypeVar("T")


class SequenceReader:
    """Opens texts and lists to be read. Safe to use from any number of threads."""

    def __init__(self, core: StoreCore, sequences: OpenSequences, session: ActorSession) -> None:
        self._core, self._sequences, self._session = core, sequences, session
        forks.own(self)

    def opener(self, name: str, doc_id: str) -> OpenSequence:
        """Return a function that opens the texts and lists of a document for reading, at their current values."""
        collection = self._core.root.collections.get(name)
        number = collection.number if collection is not None else 0
        return lambda address, journal, _: _Readable(self, (number, doc_id.encode(), address), journal)  # type: ignore[return-value]

    def look(self, slot: Slot, journal: Journal, what: Callable[[Sequence], T]) -> T:
        """Return the result of `what` on a text or list, from the cache or opened from its rows."""
        several = len(journal.strands) > 1  # then one vector may stand for several texts
        result = self._sequences.read(slot, journal.vector, what) if not several else None
        if result is not None:
            return result[0]
        rows = JournalRows.of(self._core.backend, self._core.tables, *slot)
        contents, vector = rows.contents(journal)
        if not within(journal.vector, vector):
            raise NotFoundError("the text or list is gone: its document was dropped since it was read", deleted=True)
        writer = writer_under(self._session.tag, journal.creations)
        sequence = Sequence(kind_of(slot[2]), contents, writer)
        made = what(sequence)
        if not several:
            self._sequences.keep(slot, Open(sequence, vector, writer, sequence.size))
        return made


class _Readable:
    """Read-only proxy of a sequence: each call goes to the store."""

    def __init__(self, reader: SequenceReader, slot: Slot, journal: Journal) -> None:
        self._reader, self._slot, self._journal = reader, slot, journal

    @property
    def length(self) -> int:
        return self._reader.look(self._slot, self._journal, lambda sequence: sequence.length)

    @property
    def untouched(self) -> bool:
        return self._reader.look(self._slot, self._journal, lambda sequence: sequence.untouched)

    def value(self) -> JSON:
        return self._reader.look(self._slot, self._journal, lambda sequence: sequence.value())
