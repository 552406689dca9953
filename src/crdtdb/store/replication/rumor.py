"""Contents of rumors: current states, newest ancestors and new updates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from crdtdb.backends import Reader
from crdtdb.causality import EMPTY, DotSet
from crdtdb.crdts import Address, Vector
from crdtdb.documents import Ancestor, Leaf, State
from crdtdb.limits import RUMOR_ACTORS_MAX, RUMOR_BYTES_MAX, RUMOR_PATH_LINKS_MAX
from crdtdb.store.layout import keys
from crdtdb.store.layout.journals import JournalRows
from crdtdb.store.layout.records import StoreTables, decode_record, read_chain
from crdtdb.store.replication.exchange import path_until, successor
from crdtdb.store.root import StoreRoot
from crdtdb.wire.delta_batch import ParcelWriter, Steps

_TOLD_MAX = 4_096


class _Told(NamedTuple):
    """Contents of the last rumor of a document."""

    seen: DotSet
    """The node clock at that time, restricted to the document's actors."""
    generation: int
    vectors: Mapping[Address, Vector]


class RumorWriter:
    """Writes the parcels of a store's rumors, and caches what the last rumor of each document carried."""

    def __init__(self, tables: StoreTables) -> None:
        self._tables = tables
        self._told: OrderedDict[tuple[str, str], _Told] = OrderedDict()

    def parcel(
        self,
        rows: Reader,
        root: StoreRoot,
        documents: Iterable[tuple[str, str]],
        brief: bool = False,
        knows_strands: bool = True,
    ) -> list[object] | None:
        """Return a parcel of documents, all read at one moment; None if no document is left, or it is too large.

        The parcel has the whole node clock, like a page. Nothing in a document records what was collected here; if its context
        named only some actors, a receiver could drop a deleted leaf and keep the leaves which that hides.

        With `brief` a document with fields is sent as a delta state of the last rumor. A receiver without that rumor requests
        an exchange: a lost rumor invalidates the later ones that build on it. `knows_strands` as in `ParcelWriter`.
        """
        writer = ParcelWriter(knows_strands)
        if sum(1 for _ in root.clock.actors) > RUMOR_ACTORS_MAX:
            return None
        for name, doc_id in documents:
            collection, raw = root.collections.get(name), doc_id.encode()
            value = rows.get(keys.document(collection.number, raw)) if collection is not None else None
            if collection is None or value is None:
                continue
            history = keys.history(collection.number, raw)
            record = decode_record(value, root.clock, self._tables, rows.get, keys.document(collection.number, raw))
            state = root.living(name, record.state)
            if not state.leaves:
                continue
            before = self._told.pop((name, doc_id), None)
            if state.fields or state.journals:
                self._tell(name, doc_id, state, root)
            state, links = self._fresh(rows, collection.number, doc_id, state, before)
            steps, delta_state = self._short_steps(history, rows, links), None
            if brief and not record.residue:
                delta_state = successor(name, doc_id, state, steps, _known(state, before, root))
            if delta_state is not None:
                writer.add_successor(name, doc_id, delta_state, state.journals)
            else:
                writer.add(name, doc_id, state, record.residue, steps)
        if not len(writer) or writer.size > RUMOR_BYTES_MAX:
            return None
        return writer.finish(root.clock)

    def _tell(self, name: str, doc_id: str, state: State, root: StoreRoot) -> None:
        """Record what a rumor carries of a document with fields."""
        generation = max(leaf.rev.generation for leaf in state.leaves.values())
        vectors = {address: journal.vector for address, journal in state.journals.items()}
        self._told[name, doc_id] = _Told(root.clock.restrict(state.actors()), generation, vectors)
        while len(self._told) > _TOLD_MAX:
            self._told.popitem(last=False)

    def _fresh(self, rows: Reader, number: int, doc_id: str, state: State, before: _Told | None) -> tuple[State, int]:
        """Return a state with the journal updates that no rumor has carried yet, and the length that its paths need.

        For a journal without an earlier rumor that is the newest update. A receiver without the last rumor rejects this one
        anyway, so the paths go back no further than to the last rumor.
        """
        journals, links = {}, RUMOR_PATH_LINKS_MAX
        for address, journal in state.journals.items():
            root = JournalRows.of(rows, self._tables, number, doc_id.encode(), address)
            reported = before.vectors.get(address) if before is not None else None
            journals[address] = (
                root.newest(journal, max(state.leaves)) if reported is None else root.since(journal, reported)
            )
        if before is not None and before.vectors:
            generation = max(leaf.rev.generation for leaf in state.leaves.values())
            links = min(links, max(1, generation - before.generation) + 1)
        return (replace(state, journals=journals) if journals else state), links

    def _short_steps(self, history: bytes, rows: Reader, links: int) -> Steps:
        def steps(leaf: Leaf) -> tuple[Sequence[Ancestor], bool]:
            left = iter(range(1, links))
            older = path_until(
                lambda _: next(left, None) is None, lambda rev: read_chain(rows.get, self._tables, history, rev)
            )
            return older(leaf)

        return steps


def _known(state: State, before: _Told | None, root: StoreRoot) -> DotSet:
    """Return the dots that receivers of a rumor are expected to have seen.

    That is the clock of the last rumor; without one, and if the document has texts or lists, all dots but the last write's.
    """
    if before is not None:
        return before.seen
    return root.clock - DotSet.of(state.leaves) if state.journals else EMPTY
