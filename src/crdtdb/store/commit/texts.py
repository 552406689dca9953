"""Open texts and lists of one transaction, and the rows of their updates."""

from __future__ import annotations

from msgspec.structs import replace

from crdtdb.crdts import EMPTY_JOURNAL, Address, GapError, Journal, Sequence, join_vectors, kind_of, within
from crdtdb.documents import State, Write
from crdtdb.errors import TooLargeError
from crdtdb.limits import SEQUENCE_BYTES_MAX
from crdtdb.store.layout import keys
from crdtdb.store.layout.batch import Rows
from crdtdb.store.layout.journals import JournalRows, Scan, at_rest, is_to_fold
from crdtdb.store.layout.records import StoreTables
from crdtdb.store.open_sequences import Open, OpenSequences, Slot

_FEW = 4
"""Up to this many texts and lists of a document, their total size is checked only if one of them is large."""


class Texts:
    """Texts and lists of a transaction: `opened` are the open ones, `grown` the journals that may have much to fold."""

    def __init__(self, tables: StoreTables, scan: Scan, sequences: OpenSequences, writer: bytes) -> None:
        """`scan` yields rows as the transaction sees them; `sequences` are those that the store has open.

        `writer` signs what is edited here.
        """
        self._tables, self._scan, self._sequences, self._writer = tables, scan, sequences, writer
        self.opened: dict[Slot, Open] = {}
        self.grown: list[tuple[str, str, Address]] = []

    def journal(self, number: int, raw: bytes, address: Address) -> JournalRows:
        """Return a journal's rows."""
        return JournalRows(keys.journal(keys.journals(number, raw), address), self._tables, self._scan)

    def open(self, number: int, raw: bytes, address: Address, journal: Journal, writer: bytes) -> Sequence:
        """Open a text or list for an edit: from the cache, or from its rows and the journal.

        Raises GapError if the journal is of an earlier time, and what it was then has been folded since.
        """
        slot = (number, raw, address)
        if not journal.updates and len(journal.strands) < 2:
            mine = self.opened.pop(slot, None)
            if mine is not None and mine.vector == journal.vector and mine.writer == writer:
                return mine.sequence
            found = self._sequences.take(slot, journal.vector, writer) if mine is None else None
            if found is not None:
                return found
        contents, held = self.journal(*slot).contents(journal)
        if not within(join_vectors(held, journal.highest()), journal.vector):
            raise GapError("the journal of the text or list has been folded: its earlier value isn't known any more")
        return Sequence(kind_of(address), [*contents, *journal.contents()], writer)

    def look(self, slot: Slot, journal: Journal) -> Sequence:
        """Return a text or list for reading, as this transaction leaves it. It stays open and unchanged."""
        mine = self.opened.get(slot)
        if mine is not None and mine.vector == journal.vector:
            return mine.sequence
        contents, _ = self.journal(*slot).contents(journal)
        return Sequence(kind_of(slot[2]), [*contents, *journal.contents()], self._writer)

    def keep(self, slot: Slot, name: str, before: Journal, journal: Journal) -> Rows:
        """Return the rows of a journal's new updates, and apply them to the open text or list."""
        if is_to_fold(journal):
            self.grown.append((name, slot[1].decode(), slot[2]))
        if not journal.snapshots:
            self._follow(slot, before, journal)
        return self.journal(*slot).write(journal)

    def put_updates(self, rows: Rows, name: str, place: tuple[int, bytes], before: State, after: State) -> State:
        """Put the updates of a document's texts and lists in rows of their own; return what stays in the document's row.

        `place` is the collection's number and the document's id.
        """
        for address, journal in after.journals.items():
            if journal.updates or journal.snapshots:
                known = before.journals.get(address, EMPTY_JOURNAL)
                rows.update(self.keep((*place, address), name, known, journal))
        return replace(after, journals={address: at_rest(journal) for address, journal in after.journals.items()})

    def leave(self, number: int, raw: bytes, after: State, write: Write) -> None:
        """Record the texts and lists that a write opened, as it leaves them."""
        for address, sequence in write.opened.items():
            slot, journal = (number, raw, address), after.journals.get(address)
            if journal is None or len(journal.strands) > 1 or address in write.derived:
                self.opened.pop(slot, None)
                continue
            self.opened[slot] = Open(sequence, journal.vector, sequence.writer, sequence.size)

    def _follow(self, slot: Slot, before: Journal, journal: Journal) -> None:
        """Apply the updates of other actors to an open text or list."""
        opened = self.opened.pop(slot, None)
        if opened is None:
            sequence = self._sequences.take(slot, before.vector)
        else:
            sequence = opened.sequence if opened.vector == before.vector else None
        if sequence is not None and len(journal.strands) < 2:  # one vector may stand for several texts then
            for content in journal.contents():
                sequence.apply(content)
            self.opened[slot] = Open(sequence, journal.vector, sequence.writer, sequence.size)

    def check_size(self, number: int, raw: bytes, before: State, after: State, write: Write) -> None:
        """Raise TooLargeError if an unsaved write makes the texts and lists larger than a document allows.

        What was merged may be so already; then something may still be taken away.
        """
        large = any(sequence.size > SEQUENCE_BYTES_MAX // 4 for sequence in write.opened.values())
        if not large and (not write.opened or len(after.journals) <= _FEW):
            return
        size = sum(self.journal(number, raw, address).size() for address in after.journals)
        size += sum(len(update.content) for journal in after.journals.values() for update in journal.updates.values())
        if size > SEQUENCE_BYTES_MAX and self._grows(number, raw, before, write):
            raise TooLargeError(
                f"the texts and lists of document {raw.decode()!r}, with those of its earlier lives, would have "
                f"{size:,} bytes, the limit is {SEQUENCE_BYTES_MAX:,}: put the rest into another document"
            )

    def _grows(self, number: int, raw: bytes, before: State, write: Write) -> bool:
        """Whether a write adds to the total size of the texts and lists that it opened."""
        held = 0
        for address in write.opened:
            if address in before.journals:
                contents, _ = self.journal(number, raw, address).contents(before.journals[address])
                held += Sequence(kind_of(address), contents, self._writer).length
        return sum(sequence.length for sequence in write.opened.values()) > held
