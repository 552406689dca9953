"""Exchange of documents between stores. Rules 4 to 6.

The answer to a clock is read from one snapshot: every document with a live dot that the clock lacks, in the order of the
dot log, in pages. A document is sent at its smallest missing dot only, so a position in the log is the only state between
pages. The last documents are cached as well, so that none is decoded for each of its dots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, NamedTuple

from msgspec.structs import replace

from crdtdb.backends import Snapshot
from crdtdb.causality import EMPTY, Dot, DotSet, Lineages
from crdtdb.crdts import Journals
from crdtdb.documents import Ancestor, Leaf, Rev, State
from crdtdb.documents.bounds import bodies_bytes
from crdtdb.documents.delta_states import Successor, successor_of
from crdtdb.documents.fields import fields_bytes
from crdtdb.limits import (
    PAGE_BYTES_TARGET,
    PAGE_DOCUMENTS_MAX,
    REVS_LIMIT,
)
from crdtdb.store.layout import keys
from crdtdb.store.layout.journals import JournalRows
from crdtdb.store.layout.places import RecentPlaces
from crdtdb.store.layout.records import StoreTables, decode_past, first_of, read_chain, record_of
from crdtdb.store.layout.rows import decode_row
from crdtdb.store.root import StoreRoot
from crdtdb.wire.delta_batch import Closed, ParcelWriter, Steps
from crdtdb.wire.states import First


class Page(NamedTuple):
    """Page of an answer. After the last page the receiver's clock may advance to the parcel's."""

    parcel: list[Any]
    documents: int
    last: bool
    size: int
    """Approximate size in bytes."""


class _Found(NamedTuple):
    """A document to send: its first revision, if it has no more than that, otherwise its state."""

    name: str
    doc_id: str
    state: First | State
    residue: DotSet
    steps: Steps
    closed: tuple[Closed, ...]
    delta_state: Successor | None = None
    """The delta state, if the receiver has the rest of the document."""

    @property
    def size(self) -> int:
        """Approximate size in bytes."""
        if type(self.state) is First:
            return len(self.state.text)
        if self.delta_state is not None:
            return len(self.delta_state.text or b"") + _bytes_of(self.delta_state.journals)
        return bodies_bytes(self.state) + fields_bytes(self.state.fields) + _bytes_of(self.state.journals)

    def add_to(self, writer: ParcelWriter) -> None:
        """Add the document to a parcel."""
        if type(self.state) is First:
            writer.add_first(self.name, self.doc_id, self.state, self.closed)
        elif self.delta_state is not None:
            writer.add_successor(self.name, self.doc_id, self.delta_state, self.state.journals)
        else:
            writer.add(self.name, self.doc_id, self.state, self.residue, self.steps, self.closed)


class AnswerForm(NamedTuple):
    """Form of the documents in an answer."""

    whole: bool = False
    """Send whole paths and journals, independent of the clock."""
    closed: bool = False
    """Include the revisions of collected branches."""
    brief: bool = False
    """Send delta states to what the clock covers, where possible."""
    catalogue: bool = False
    """Include the catalogue of collections, even if it hasn't changed."""


class Outgoing:
    """Answer to one clock, in pages. Close it early: it holds a snapshot."""

    def __init__(
        self, snapshot: Snapshot, root: StoreRoot, tables: StoreTables, theirs: DotSet, form: AnswerForm
    ) -> None:
        """`snapshot` was taken under `root`; `theirs` is the receiver's clock."""
        self._snapshot, self._root, self._tables = snapshot, root, tables
        self._theirs, self._whole, self._closed, self._brief = theirs, form.whole, form.closed, form.brief
        self.knows_strands = True
        """Whether the receiver knows that the updates of one journal may have several sets of creations: protocol 1.4."""
        self._missing = root.clock - theirs
        self._names = {collection.number: name for name, collection in root.collections.items()}
        self._histories: dict[bytes, bool] = {}
        """Whether a collection has replaced revisions of any document: read once, since most documents have none."""
        self._met = RecentPlaces()
        self._documents = self._walk()
        self._ahead: _Found | None = None
        self._catalogue_due = form.catalogue or form.whole or any(dot in self._missing for dot in root.catalogue.dots())

    @property
    def lineages(self) -> Lineages:
        """The sessions of the actors in the snapshot's clock."""
        return self._root.lineages

    @property
    def lineages_digest(self) -> bytes:
        """Digest of the lineages of the snapshot's clock."""
        return self._root.lineages.digest(self._root.clock)

    @property
    def nothing(self) -> bool:
        """Whether the receiver lacks no dot of this store."""
        return not self._missing

    def next_page(self) -> Page:
        """Return the next page. Don't call it after the last one."""
        writer = ParcelWriter(self.knows_strands)
        if self._catalogue_due:
            sweeps = {name: one.sweep for name, one in self._root.collections.items()}
            writer.add_catalogue(self._root.catalogue, self._root.residue, sweeps)
            self._catalogue_due = False
        found = self._ahead or next(self._documents, None)
        while found is not None and writer.size < PAGE_BYTES_TARGET and len(writer) < PAGE_DOCUMENTS_MAX:
            if len(writer) and found.size > PAGE_BYTES_TARGET:
                break  # a large document gets its own page, or the page might not fit a frame
            found.add_to(writer)
            found = next(self._documents, None)
        self._ahead = found
        if found is None:
            self.close()
        return Page(writer.finish(self._root.clock), len(writer), found is None, writer.size)

    def close(self) -> None:
        """Release the snapshot."""
        self._documents = iter(())
        self._snapshot.close()

    def _walk(self) -> Iterator[_Found]:
        for actor, ranges in sorted(self._missing.items()):
            number = self._tables.known_actor_number(actor)
            if number is None:
                continue
            for first, last in ranges:
                for key, value in self._snapshot.scan(keys.log(number, first), keys.log(number, last + 1)):
                    if value and value not in self._met:
                        found = self._document(Dot(actor, int.from_bytes(key[5:], "big")), value)
                        if found is not None:
                            yield found

    def _document(self, dot: Dot, place: bytes) -> _Found | None:
        number, raw = keys.read_place(place)
        name = self._names.get(number)
        key = keys.document(number, raw)
        value = self._snapshot.get(key) if name is not None else None
        if name is None or value is None:
            return None
        history = keys.history(number, raw)
        encoded = decode_row(value)
        first = first_of(encoded, self._root.clock, self._tables)
        if first is not None and first.creations == self._root.names[name]:
            closed = self._closed_revs(history, frozenset([Rev(1, first.digest.hex())])) if self._closed else ()
            return _Found(name, raw.decode(), first, EMPTY, _no_steps, closed)
        self._met.add(place)
        record = record_of(encoded, self._root.clock, self._tables, self._snapshot.get, key)
        if dot != min(root for root in record.state.dots() if root in self._missing):
            return None
        living = self._root.living(name, record.state)
        if living.journals:
            living = replace(living, journals=self._journals(number, raw, living.journals))
        closed = self._closed_revs(history, _on_paths(living)) if self._closed and living.leaves else ()
        steps = self._steps(history)
        delta_state = None
        if self._brief and not record.residue and not closed:
            delta_state = successor(name, raw.decode(), living, steps, self._theirs)
        return _Found(name, raw.decode(), living, record.residue, steps, closed, delta_state)

    def _closed_revs(self, history: bytes, on_paths: Set[Rev]) -> tuple[Closed, ...]:
        """Return the revisions in the history but on no leaf's path, newest first: collected branches."""
        collection = history[:5]
        if collection not in self._histories:
            self._histories[collection] = any(True for _ in self._snapshot.scan(*keys.rest(collection)))
        if not self._histories[collection]:
            return ()
        found: list[Closed] = []
        for key, value in self._snapshot.scan(*keys.rest(history), reverse=True):
            past = decode_past(key, value, history, self._tables)
            if past.rev not in on_paths and len(found) < REVS_LIMIT:
                found.append(Closed(past.rev, past.parent.digest if past.parent is not None else None))
        return tuple(found)

    def _journals(self, number: int, raw: bytes, journals: Journals) -> Journals:
        """Return the journals of a document with the updates that the receiver lacks."""
        shipped = {}
        for address, journal in journals.items():
            rows = JournalRows.of(self._snapshot, self._tables, number, raw, address)
            shipped[address] = (
                rows.whole(journal) if self._whole else rows.lacking(journal, self._theirs, self._missing)
            )
        return shipped

    def _steps(self, history: bytes) -> Steps:
        if self._whole:
            return lambda leaf: (leaf.path.all(), False)
        return path_until(
            lambda step: step.dot is not None and step.dot in self._theirs,
            lambda rev: read_chain(self._snapshot.get, self._tables, history, rev),
        )


def _no_steps(_: Leaf) -> tuple[Sequence[Ancestor], bool]:
    return (), False


def _on_paths(state: State) -> set[Rev]:
    """Return the revisions of the leaves and of their ancestors."""
    found = {leaf.rev for leaf in state.leaves.values()}
    for leaf in state.leaves.values():
        top = leaf.rev.generation
        found.update(Rev(top - 1 - back, step.digest) for back, step in enumerate(leaf.path.all()))
    return found


def successor(name: str, doc_id: str, state: State, steps: Steps, seen: DotSet) -> Successor | None:
    """Return the delta state for a receiver that has `seen` these dots; None if the document has none.

    The journals of `state` have only the updates outside `seen`.
    """
    if len(state.leaves) != 1 or not state.fields:
        return None
    (leaf,) = state.leaves.values()
    return successor_of(name, doc_id, state, steps(leaf)[0], seen, state.journals)


class _NoSnapshot:
    """Placeholder for a snapshot that is never read."""

    def get(self, key: bytes) -> bytes | None:  # noqa: ARG002
        return None

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:  # noqa: ARG002
        return iter(())

    def close(self) -> None:
        pass


NO_SNAPSHOT = _NoSnapshot()


def path_until(enough: Callable[[Ancestor], bool], older: Callable[[Rev], Iterator[Ancestor]]) -> Steps:
    """Return a function that cuts a path after the first step that is `enough`."""

    def steps(leaf: Leaf) -> tuple[Sequence[Ancestor], bool]:
        parent = leaf.path.parent
        if parent is None:
            return (), False
        taken = [parent]
        if leaf.path.complete and len(leaf.path.known) == 1:
            return taken, False
        if enough(parent):
            return taken, True
        for step in older(Rev(leaf.rev.generation - 1, parent.digest)):
            taken.append(step)
            if enough(step):
                return taken, True
            if len(taken) == REVS_LIMIT:
                break
        return taken, False

    return steps


def _bytes_of(journals: Journals) -> int:
    return sum(len(content) for journal in journals.values() for content in journal.contents())
