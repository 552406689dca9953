"""What a rumor tells of documents: their state now, the newest steps of their paths, the updates that no rumor told before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from msgspec.structs import replace

from crdtdb.backends import Reader
from crdtdb.causality import Actor
from crdtdb.crdts import Address, Vector
from crdtdb.documents import State
from crdtdb.limits import RUMOR_BYTES_MAX, RUMOR_PATH_LINKS_MAX
from crdtdb.store import keys
from crdtdb.store.exchange import path_until
from crdtdb.store.held import Held
from crdtdb.store.journals import JournalRows
from crdtdb.store.records import StoreTables, decode_record, read_chain
from crdtdb.wire.parcels import ParcelWriter, Steps

_TOLD_MAX = 4_096


class RumorWriter:
    """Makes the parcels of a store's rumors, and remembers of the newest journals what they have told."""

    def __init__(self, tables: StoreTables) -> None:
        self._tables = tables
        self._told: OrderedDict[tuple[str, str, Address], tuple[Vector, int]] = OrderedDict()

    def parcel(self, rows: Reader, held: Held, documents: Iterable[tuple[str, str]]) -> list[object] | None:
        """Return a parcel of documents, all read at one moment; None if none is left, or they are too large."""
        writer, actors = ParcelWriter(), set[Actor]()
        for name, doc_id in documents:
            collection, raw = held.collections.get(name), doc_id.encode()
            value = rows.get(keys.document(collection.number, raw)) if collection is not None else None
            if collection is None or value is None:
                continue
            history = keys.history(collection.number, raw)
            record = decode_record(value, held.clock, self._tables, rows.get, keys.document(collection.number, raw))
            state = held.living(name, record.state)
            if state.leaves:
                state, links = self._fresh(rows, collection.number, name, doc_id, state)
                writer.add(name, doc_id, state, record.residue, self._short_steps(history, rows, links))
                actors |= state.actors()
                if collection.sweep:  # there may have been an earlier life, which nothing here names any more
                    actors.update(held.clock.actors)
        if not len(writer) or writer.size > RUMOR_BYTES_MAX:
            return None
        return writer.finish(held.clock.restrict(actors))

    def _fresh(self, rows: Reader, number: int, name: str, doc_id: str, state: State) -> tuple[State, int]:
        """Return a state with the updates of its journals that no rumor has told yet, and how long its paths need be.

        Of a journal never told it is the newest update. Who lacks an earlier one can't take the rumor anyway, so the paths go
        back no further than to what the last rumor told.
        """
        journals, links = {}, RUMOR_PATH_LINKS_MAX
        generation = max(leaf.rev.generation for leaf in state.leaves.values())
        for address, journal in state.journals.items():
            held = JournalRows.of(rows, self._tables, number, doc_id.encode(), address)
            told = self._told.pop((name, doc_id, address), None)
            if told is None:
                journals[address] = held.newest(journal, max(state.leaves))
            else:
                journals[address] = held.since(journal, told[0])
                links = min(links, max(1, generation - told[1]) + 1)
            self._told[name, doc_id, address] = (journal.vector, generation)
        while len(self._told) > _TOLD_MAX:
            self._told.popitem(last=False)
        return (replace(state, journals=journals), links) if journals else (state, links)

    def _short_steps(self, history: bytes, rows: Reader, links: int) -> Steps:
        left = iter(range(1, links))
        return path_until(
            lambda _: next(left, None) is None, lambda rev: read_chain(rows.get, self._tables, history, rev)
        )
