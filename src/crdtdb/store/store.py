"""The store: one door to disk. Local writes and deltas from peers go through the same commit.

Reads take what is committed, from any thread, without a lock. What a commit changes (documents, node clock, dot log,
changes feed, counts) is one atomic batch, and nothing of it is seen before it is as durable as the store promises.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, islice
from threading import Condition
from typing import Any, Literal, NamedTuple, TypeVar

from crdtdb import forks
from crdtdb.backends import Backend, Snapshot, open_backend
from crdtdb.canonical_json import JSON
from crdtdb.causality import Actor, Dot, DotSet, Fork, Lineages, Session
from crdtdb.clock import WallClock, monotonic_seconds, wall_milliseconds
from crdtdb.crdts import Address, Journal, OpenSequence, Place, Sequence, kind_of, within
from crdtdb.documents import NO_SCHEMA, HybridClock, Rev, Schema, State, Write
from crdtdb.documents.local import Local, locals_in, read_local, served
from crdtdb.documents.schema import SCHEMA_ID, read_schema
from crdtdb.errors import InvalidInputError, NotFoundError, StoreClosedError, StoreError
from crdtdb.limits import LINEAGE_SESSIONS_MAX, REVS_LIMIT
from crdtdb.store.attachments import Attachments
from crdtdb.store.backup import write_backup
from crdtdb.store.commit.group_commit import Committer
from crdtdb.store.commit.ledger import Origin
from crdtdb.store.commit.texts import Texts
from crdtdb.store.commit.transaction import Transaction, Written
from crdtdb.store.derived import Derived
from crdtdb.store.gc.collector import Collector
from crdtdb.store.gc.sweep import pending, sweep_slice
from crdtdb.store.identity import Identity, draw_tag, load_identity
from crdtdb.store.large_documents import LargeDocument, LargeDocuments
from crdtdb.store.layout import keys
from crdtdb.store.layout.journals import JournalRows, value_then
from crdtdb.store.layout.records import Past, Record, StoreTables, decode_past, read_chain
from crdtdb.store.layout.version import check_format
from crdtdb.store.migrations import upgrade
from crdtdb.store.open_sequences import Open, OpenSequences, Slot
from crdtdb.store.replication.digests import digest_of
from crdtdb.store.replication.exchange import NO_SNAPSHOT, Inspect, Outgoing, Received, receive, trust
from crdtdb.store.replication.lineage_check import learn
from crdtdb.store.replication.reconciliation import Comparing, Taken, Unclosed, let_go, shows, take_back
from crdtdb.store.replication.renaming import rename
from crdtdb.store.replication.rumor import RumorWriter
from crdtdb.store.root import CollectionStats, StoreRoot, read_root, root_rows
from crdtdb.store.snapshot import StoreSnapshot, decoded
from crdtdb.wire.delta_batch import DeltaBatch

T = TypeVar("T")
Durability = Literal["sync", "buffered"]


class Committed(NamedTuple):
    """What a commit tells those who listen: the collections with new changes, and what was written here, not received.

    `named` is whether a collection was made or dropped here.
    """

    names: frozenset[str]
    written: tuple[tuple[str, str], ...]
    named: bool


class Store:
    """Documents, their causality and their history over one backend. Safe to use from any number of threads."""

    def __init__(
        self,
        backend: Backend,
        durability: Durability = "sync",
        wall: WallClock = wall_milliseconds,
        draw: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Open what is in the backend, or make a new store in it.

        `durability` is what an acknowledged write outlives: "sync" a loss of power, "buffered" the end of the process.
        `draw` returns that many random bytes. Raises StoreFormatError for a store of another format.
        """
        if durability not in ("sync", "buffered"):
            raise InvalidInputError(f"durability is 'sync' or 'buffered', not {durability!r}")
        self._backend, self._wall, self._draw = backend, wall, draw
        self._sync = durability == "sync"
        version = check_format(backend)
        if version != keys.FORMAT_VERSION:
            upgrade(backend, version)
        self._tables = StoreTables(backend)
        self._root = read_root(backend, self._tables)
        self._flushed: DotSet | None = None
        self._brought = self._root.clock
        """What a store that enters held before it did, or before it was opened: it may be older than what others know."""
        self._identity = load_identity(backend, draw)
        self._session_begun = False
        """Whether anything was written since the store was opened, or took its actor."""
        self._tag = draw_tag(draw, wall())
        self._stamps = HybridClock()
        self._sequences = OpenSequences()
        self._schemas: dict[int, Schema] = {}
        self._origin = Origin(
            self._identity.actor,
            draw,
            lambda: self._stamps.now(self._wall()),
            lambda stamp: self._stamps.observe(stamp, self._wall()),
            self._sequences,
            self._schemas,
            self._schema_of,
            self._next_session(),
            LargeDocuments(monotonic_seconds),
        )
        self._committer = Committer(self._begin, self._finish)
        self._bell = Condition()
        self._listening = 0
        self._closed = False
        self.failure: StoreError | None = None
        """Why a commit could not be written, if one couldn't: whoever runs a node should end it and start it again."""
        self._sweeps = pending(backend)
        self.grown: list[tuple[str, str, Address]] = []
        """The journals of many updates, which wait to be folded."""
        self._rumors = RumorWriter(self._tables)
        self.commits = self.written_documents = self.read_documents = 0
        self.commit_seconds = 0.0
        """What was written and read since the store was opened, and how long writing took."""
        self.collector = Collector(backend, self._tables, self.submit, lambda: self._root, wall)
        """What lets go of what nobody needs any more."""
        self.derived = Derived(backend, self.submit, lambda: self._root)
        """What is derived from documents: indexes and views."""
        self.attachments = Attachments(backend, self.submit, draw)
        """The contents of attachments."""
        self.listeners: list[Callable[[Committed], None]] = []
        """Called after each commit, in the thread that led it: they must not wait, nor write."""
        forks.own(self)
        self.attachments.sweep()
        if len(self._root.lineages.of(self.actor).sessions) >= LINEAGE_SESSIONS_MAX:
            self.renew_actor("the old one has written in as many sessions as it may")

    @classmethod
    def open(cls, url: str, durability: Durability = "sync") -> Store:
        """Open the store that a URL or path names."""
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
        return self._root

    @property
    def identity(self) -> Identity:
        """Which store this is, and which of its incarnations."""
        return self._identity

    @property
    def actor(self) -> Actor:
        """The actor that this store writes as."""
        return self._identity.actor

    def large_documents(self) -> list[LargeDocument]:
        """Return the documents that are large or slow, as far as they were written or merged since the store was opened."""
        return [one for one in self._origin.large.worst() if one.name in self._root.names]

    @property
    def tag(self) -> bytes:
        """What tells the session of this store, since it was opened or took its actor, from any other of the actor."""
        return self._tag

    @property
    def size(self) -> int | None:
        """How many bytes the store takes on disk, None if it lies on none."""
        return self._backend.size()

    @property
    def kind(self) -> str:
        """The name of the backend."""
        return self._backend.capabilities.name

    def collection(self, name: str) -> CollectionStats:
        """Return a collection's counts. Raises NotFoundError."""
        found = self._root.collections.get(name)
        if found is None:
            raise NotFoundError(f"there is no collection {name!r}")
        return found

    def read(self, name: str, doc_id: str) -> Record | None:
        """Return a document, None if there was never one, or all of it was dropped."""
        root = self._root
        collection = root.collections.get(name)
        if collection is None:
            return None
        key = keys.document(collection.number, doc_id.encode())
        value = self._backend.get(key)
        self.read_documents += 1  # about: threads that read at the same moment may count once
        return decoded(self._backend, root, self._tables, name, key, value) if value is not None else None

    def documents(
        self, name: str, start: str = "", stop: str | None = None, reverse: bool = False, local: bool = False
    ) -> Iterator[tuple[str, Record]]:
        """Yield the documents with `start <= id < stop`, in the order of their ids' UTF-8; with `local` local records too."""
        root = self._root
        number = self.collection(name).number
        first = keys.document(number, start.encode())
        last = keys.after(keys.document(number, b"")) if stop is None else keys.document(number, stop.encode())
        for key, value in self._backend.scan(first, last, reverse=reverse):
            if key.startswith(b"_local/", 5) and not local:
                continue
            record = decoded(self._backend, root, self._tables, name, key, value)
            if record is not None:
                yield key[5:].decode(), record

    def opener(self, name: str, doc_id: str) -> OpenSequence:
        """Return what opens the texts and lists of a document for a reader: as they are when they are looked at."""
        collection = self._root.collections.get(name)
        number = collection.number if collection is not None else 0
        return lambda address, journal, _: _Readable(self, (number, doc_id.encode(), address), journal)  # type: ignore[return-value]

    def look(self, slot: Slot, journal: Journal, what: Callable[[Sequence], T]) -> T:
        """Return what `what` makes of a text or list, which is opened unless it is open."""
        found = self._sequences.read(slot, journal.vector, what)
        if found is not None:
            return found[0]
        rows = JournalRows.of(self._backend, self._tables, *slot)
        contents, vector = rows.contents(journal.vector)
        if not within(journal.vector, vector):
            raise NotFoundError("the text or list is gone: its document was dropped since it was read", deleted=True)
        sequence = Sequence(kind_of(slot[2]), contents, self._tag)
        made = what(sequence)
        self._sequences.keep(slot, Open(sequence, vector, self._tag, sequence.size))
        return made

    def past(self, name: str, doc_id: str) -> Iterator[Past]:
        """Yield the replaced revisions of a document, highest generation first."""
        history = keys.history(self.collection(name).number, doc_id.encode())
        for key, value in self._backend.scan(*keys.rest(history), reverse=True):
            yield decode_past(key, value, history, self._tables)

    def revision(self, name: str, doc_id: str, rev: Rev) -> Past | None:
        """Return one replaced revision, None if it isn't known."""
        history = keys.history(self.collection(name).number, doc_id.encode())
        key = keys.revision(history, *rev)
        value = self._backend.get(key)
        return decode_past(key, value, history, self._tables) if value is not None else None

    def value_of(self, name: str, doc_id: str, past: Past) -> dict[str, Any] | None:
        """Return what a replaced revision was read as, None if that isn't known: all of it, or nothing."""
        if not past.known:
            return None
        value, folded = self._then(name, doc_id, past)
        return None if folded else value

    def body_of(self, name: str, doc_id: str, past: Past) -> dict[str, Any] | None:
        """Return what is known of a replaced revision's value, None if nothing is. Fields may be missing in it."""
        return self._then(name, doc_id, past)[0] if past.text is not None else None

    def _then(self, name: str, doc_id: str, past: Past) -> tuple[dict[str, Any], frozenset[Place]]:
        number, raw = self.collection(name).number, doc_id.encode()
        return value_then(past, lambda address: JournalRows.of(self._backend, self._tables, number, raw, address))

    def changes(self, name: str, since: int = 0, reverse: bool = False) -> Iterator[tuple[int, str, Record]]:
        """Yield the changes with a seq above `since`: each document once, at its last change."""
        return StoreSnapshot(self._backend, self._root, self._tables).changes(name, since, reverse)

    def live_view(self) -> StoreSnapshot:
        """Return what is read as it is now, and may change while it is read."""
        return StoreSnapshot(self._backend, self._root, self._tables)

    def line(self, name: str, doc_id: str, rev: Rev) -> list[Rev]:
        """Return a replaced revision and its ancestors, newest first."""
        history = keys.history(self.collection(name).number, doc_id.encode())
        steps = islice(read_chain(self._backend.get, self._tables, history, rev), REVS_LIMIT)
        return [rev, *(Rev(rev.generation - 1 - n, step.digest) for n, step in enumerate(steps))]

    @contextmanager
    def durable_snapshot(self) -> Iterator[StoreSnapshot]:
        """Give everything as it is at one moment, and durable: what a clock says of it then holds for all that is read."""
        snapshot, root = self._durable_rows()
        try:
            yield StoreSnapshot(snapshot, root, self._tables)
        finally:
            snapshot.close()

    def local(self, name: str, doc_id: str) -> Local | None:
        """Return a local record: the newest that speaks of nothing which isn't here. None if there is none."""
        record = self.read(name, doc_id)
        if record is None:
            return None
        past = (read_local(one.rev, one.text) for one in self.past(name, doc_id) if one.text is not None)
        older = (one for one in past if one is not None)
        return served(chain(locals_in(record.state), older), self._root.clock)

    def wait(self, name: str, number: int | None, since: int, timeout: float | None) -> bool:
        """Wait until a collection has a change above `since`; return whether it has, False after `timeout` seconds.

        `number` is the local number that `since` belongs to: another means that all is new.

        Raises StoreClosedError when the store is closed meanwhile.
        """

        def changed() -> bool:
            collection = self._root.collections.get(name)
            if collection is None:
                return self._closed
            return self._closed or collection.number != number or collection.seq > since

        with self._bell:
            self._listening += 1
            try:
                rung = self._bell.wait_for(changed, timeout)
            finally:
                self._listening -= 1
        if self._closed:
            raise StoreClosedError("the store is closed")
        return rung

    def wait_beyond(self, seen: StoreRoot, timeout: float | None) -> bool:
        """Wait until something else is held than what was `seen`; False if `timeout` seconds passed without.

        Raises StoreClosedError when the store is closed meanwhile.
        """
        with self._bell:
            self._listening += 1
            try:
                rung = self._bell.wait_for(lambda: self._closed or self._root is not seen, timeout)
            finally:
                self._listening -= 1
        if self._closed:
            raise StoreClosedError("the store is closed")
        return rung

    def ring(self) -> None:
        """Wake everyone who waits, to look again."""
        # Whoever begins to listen after this looks first, and finds what was committed before.
        if self._listening:
            with self._bell:
                self._bell.notify_all()

    def digest(self, name: str) -> str:
        """Return a digest of all that a collection holds: equal on two nodes if their documents are."""
        return digest_of((doc_id, record.state) for doc_id, record in self.documents(name, local=True))

    # Writes

    def submit(self, work: Callable[[Transaction], T]) -> T:
        """Run work in a transaction; return when it is committed."""
        return self._committer.submit(work)

    def submit_all(self, works: Iterable[Callable[[Transaction], T]]) -> list[T | BaseException]:
        """Run each of these as `submit` does, in one commit if nothing is in the way; return a result or an error for each."""
        return self._committer.submit_all(works)

    def write(self, name: str, doc_id: str, change: Callable[[State, Write], State]) -> Written:
        """Apply one write to a document."""
        return self._committer.submit(lambda transaction: transaction.write(name, doc_id, change))

    def flush(self) -> None:
        """Make everything durable that was committed. At durability "sync" it is already."""
        if not self._sync:
            self._backend.flush()

    def durable_clock(self) -> DotSet:
        """Return a node clock that says nothing of writes which a loss of power could take back."""
        clock = self._root.clock
        if self._flushed is not clock:
            self.flush()
            self._flushed = clock
        return clock

    def sweep(self) -> bool:
        """Fold a journal, or remove a slice of what dropped collections left; return whether there is more to do."""
        if self.fold():
            return bool(self._sweeps) or bool(self.grown)
        number = next(iter(self._sweeps), None)
        if number is None:
            return self.derived.work()
        if self._committer.submit(lambda transaction: sweep_slice(transaction, self._backend, self._tables, number)):
            self._committer.alone(lambda: self._swept(number))
        return bool(self._sweeps) or self.derived.waits

    def fold(self) -> bool:
        """Fold a journal of many updates, if one is waiting for that; return whether one was."""
        try:
            name, doc_id, address = self.grown.pop()
        except IndexError:
            return False
        self._committer.submit(lambda transaction: transaction.fold(name, doc_id, address))
        return True

    def is_swept(self, name: str) -> bool:
        """Whether nothing of a collection waits to be removed that was dropped: until then its indexes may show that."""
        collection = self._root.collections.get(name)
        return collection is None or collection.number not in self._sweeps

    def snapshot(self) -> tuple[Snapshot, StoreSnapshot]:
        """Return everything as it is at one moment, whether it is durable or not. Close the snapshot afterwards."""

        def take() -> tuple[Snapshot, StoreSnapshot]:
            snapshot = self._backend.snapshot()
            return snapshot, StoreSnapshot(snapshot, self._root, self._tables)

        return self._committer.alone(take)

    def _swept(self, number: int) -> None:
        if number in self._sweeps:  # another thread may have swept the last slice as well
            self._sweeps.remove(number)

    def keep_roster(self, encoded: bytes) -> None:
        """Keep what gossip knows of the members."""
        self._committer.submit(lambda transaction: transaction.rows.update({keys.ROSTER: encoded}))

    def kept_roster(self) -> bytes | None:
        """Return what `keep_roster` kept."""
        return self._backend.get(keys.ROSTER)

    def keep_promises(self, rows: Mapping[str | None, bytes | None]) -> None:
        """Keep what was promised for each lock, or forget it (None), and under None what isn't of one lock. Durably."""
        batch = {keys.PROMISES if name is None else keys.PROMISE + name.encode(): row for name, row in rows.items()}
        if batch:
            self._committer.alone(lambda: self._backend.write(batch, durable=True))

    def promises(self) -> dict[str | None, bytes]:
        """Return what `keep_promises` kept."""
        found: dict[str | None, bytes] = {
            key[len(keys.PROMISE) :].decode(): row for key, row in self._backend.scan(*keys.rest(keys.PROMISE))
        }
        header = self._backend.get(keys.PROMISES)
        return found if header is None else {None: header, **found}

    def stamp(self) -> int:
        """Return the hybrid logical clock: later than everything that was written or received here."""
        return self._committer.alone(lambda: self._stamps.now(self._wall()))

    def reset_identity(self, why: str) -> None:
        """Be another store from now on, with all that this one holds: to be compared before it counts as one of its peers."""

        def begin() -> Identity:
            self._brought = self._root.clock
            return self._identity.begun_anew(self._backend, self._draw, why)

        self._take_identity(begin)

    def entered(self) -> None:
        """Take note that the comparison is over."""
        self._identity = self._committer.alone(lambda: self._identity.entered(self._backend))

    def renew_actor(self, why: str = "a peer knew more of the old one") -> None:
        """Write as a new actor from now on: somebody may hold writes of the old one that are not here."""
        self._take_identity(lambda: self._identity.renewed(self._backend, self._draw, why))

    def _take_identity(self, make: Callable[[], Identity]) -> None:
        """Write as somebody else from now on, in a session that hasn't begun."""

        def take() -> None:
            self._identity = make()
            self._tag, self._session_begun = draw_tag(self._draw, self._wall()), False

        self._committer.alone(take)

    def _next_session(self) -> Session:
        return Session(self._root.clock.highest(self.actor) + 1, self._tag)

    def forks(self, clock: DotSet, lineages: Lineages) -> tuple[list[Fork], list[Fork]]:
        """Compare with a store of this clock; return which writes are to be renamed here, and which there. Rule 3."""
        return self._root.lineages.forks(self._root.clock, lineages, clock)

    def learn(self, clock: DotSet, lineages: Lineages) -> None:
        """Take over what a store of this clock knows of the sessions in which actors wrote. Raises HistoryForkedError."""
        if self._root.lineages.joined(self._root.clock, lineages, clock) is not self._root.lineages:
            self._committer.submit(lambda transaction: learn(transaction, clock, lineages))

    def rename(self, fork: Fork) -> None:
        """Give the writes of a session other names: another store holds different ones under theirs. Reads the whole store."""

        def work(transaction: Transaction) -> bool:
            if transaction.all_rows():
                return False  # others have written in this commit, and what they wrote isn't in the backend yet
            rows, transaction.root = rename(self._backend, transaction.root, self._tables, fork)
            transaction.rows.update(rows)
            return True

        while not self._committer.submit(work):
            pass
        self._brought = fork.renamed_dots(self._brought)
        self._rumors = RumorWriter(self._tables)

    # Exchange

    def outgoing(self, theirs: DotSet, whole: bool = False, closed: bool = False, brief: bool = False) -> Outgoing:
        """Return the answer to a clock: all that it lacks, from one snapshot, durable before it is read.

        With `whole` each document comes with its whole paths and journals, whatever the clock says; with `closed` it comes
        with the names of branches that were collected; with `brief`, if it can be, by what it adds to what the clock covers.
        """
        if self._root.clock <= theirs and self._sync:
            return Outgoing(NO_SNAPSHOT, self._root, self._tables, theirs, whole, closed=closed)

        snapshot, root = self._durable_rows()
        return Outgoing(snapshot, root, self._tables, theirs, whole, closed=closed, brief=brief)

    def _durable_rows(self) -> tuple[Snapshot, StoreRoot]:
        """Return the rows and the clock of one moment, durable. Documents under another moment's clock would lie.

        A clock that is newer than a document says of what came between that it was removed; an older one forgets what the
        document had replaced.
        """

        def take() -> tuple[Snapshot, StoreRoot]:
            self.flush()
            return self._backend.snapshot(), self._root

        return self._committer.alone(take)

    @contextmanager
    def backup(self) -> Iterator[Iterator[bytes]]:
        """Give a backup of what is here at one moment, piece by piece, while everything else goes on."""
        snapshot, _ = self._durable_rows()
        try:
            yield write_backup(snapshot)
        finally:
            snapshot.close()

    def collected_since(self, theirs: DotSet) -> bool:
        """Whether something may have been collected here of which a store with this clock has never heard."""
        return bool((self._root.clock - theirs) & self._root.stable)

    def comparing(self, theirs: DotSet, closed: bool = False) -> Comparing:
        """Return one moment of this store, to be compared with another that has this clock. Close it afterwards.

        `closed` as in `outgoing`.
        """
        snapshot, root = self._durable_rows()
        outgoing = Outgoing(Unclosed(snapshot), root, self._tables, theirs, whole=True, catalogue=True, closed=closed)
        return Comparing(StoreSnapshot(snapshot, root, self._tables), outgoing, snapshot)

    def still_shows(self, name: str, doc_id: str, dots: Iterable[Dot]) -> bool:
        """Whether a document still needs some of these dots for what it shows."""
        record = self.read(name, doc_id)
        return record is not None and bool(shows(record.state, dots))

    def let_go(self, documents: Iterable[tuple[tuple[str, str], list[Dot]]], clock: DotSet) -> list[tuple[str, str]]:
        """Take out of documents the dots that a store of this clock has seen replaced or collected; return which changed.

        See `crdtdb.store.replication.reconciliation`.
        """

        def work(transaction: Transaction) -> list[tuple[str, str]]:
            return [
                (name, doc_id)
                for (name, doc_id), dots in documents
                if name in transaction.root.collections
                and let_go(transaction, name, doc_id, dots, clock, self._brought)
            ]

        return self._committer.submit(work)

    def take_back(self, parcel: DeltaBatch, wanted: Iterable[Dot], repair: bool) -> Taken:
        """Return the documents of a parcel of which this store has lost some dots; with `repair` they come back."""
        return self._committer.submit(lambda transaction: take_back(transaction, parcel, wanted, repair))

    def advance(self, clock: DotSet) -> None:
        """Count what a clock covers as held: the effect of all of it is here."""
        self._committer.submit(lambda transaction: transaction.advance(clock))

    def receive(
        self,
        parcel: DeltaBatch,
        advance: bool = False,
        inspect: Inspect = trust,
        lineages: Lineages | None = None,
    ) -> Received:
        """Merge a parcel in one commit; with `advance` also take over its clock, as at the end of an exchange.

        `inspect` may refuse a document of a system collection, or a local record, by raising: then nothing of it is kept.
        `lineages` are the sender's, None if it tells none. See `crdtdb.store.replication.exchange.receive` for what it raises.
        """
        return self._committer.submit(lambda transaction: receive(transaction, parcel, advance, inspect, lineages))

    def rumor(self, documents: Iterable[tuple[str, str]], *, brief: bool = False) -> list[object] | None:
        """Return a parcel of the documents as they are now, with short paths and the updates that weren't told yet.

        With `brief` those that were told before come by what has been added since. None if none is left, or they are too large.
        """
        snapshot, root = self._durable_rows()
        try:
            return self._rumors.parcel(snapshot, root, documents, brief)
        finally:
            snapshot.close()

    def close(self) -> None:
        """Wait for commits under way, and close. Closing twice does no harm."""

        def last() -> None:
            # A store that can't be written any more stays marked as running: the next open draws a new actor.
            with suppress(StoreError):
                self._identity.stopped(self._backend)
            try:
                self._backend.close()
            finally:
                self._closed = True
                self.ring()

        self._committer.close(last)

    def schema(self, name: str) -> Schema:
        """Return the schema of a collection, empty if it has none."""
        collection = self._root.collections.get(name)
        return self._schema_of(name, collection.number, self._backend.get) if collection is not None else NO_SCHEMA

    def _schema_of(self, name: str, number: int, get: Callable[[bytes], bytes | None]) -> Schema:
        found = self._schemas.get(number)
        if found is None:
            key = keys.document(number, SCHEMA_ID.encode())
            value = get(key)
            record = decoded(self._backend, self._root, self._tables, name, key, value) if value is not None else None
            found = self._schemas[number] = read_schema(record.state) if record is not None else NO_SCHEMA
        return found

    def _take_over(self, texts: Texts) -> None:
        """Keep open what a commit opened, and take note of what is to be folded."""
        self.grown += [place for place in texts.grown if place not in self.grown]
        for slot, opened in texts.opened.items():
            self._sequences.keep(slot, opened)

    def _begin(self) -> Transaction:
        if not self._session_begun or self._origin.actor != self._identity.actor:
            self._origin = self._origin._replace(actor=self._identity.actor, session=self._next_session())
        return Transaction(self._backend, self._root, self._tables, self._origin, self.derived.all)

    def _finish(self, transaction: Transaction) -> None:
        transaction.index()
        # What was begun before the store took another actor may end after it.
        is_current = transaction.actor == self._identity.actor
        begun = (self._session_begun and is_current) or transaction.begin_session()
        rows = transaction.all_rows()
        rows.update(root_rows(self._root, transaction.root, self._tables))
        if not rows:
            return
        if self._tables.unsaved:
            rows.update(self._tables.unsaved)
        started = monotonic_seconds()
        try:
            self._backend.write(rows, durable=self._sync)
        except StoreError as error:
            self.failure = error
            raise
        self.commits += 1
        self.commit_seconds += monotonic_seconds() - started
        self._session_begun = begun if is_current else self._session_begun
        self.written_documents += len(transaction.written)
        if self._tables.unsaved:
            self._tables.unsaved = {}
        self._root = transaction.root
        self.derived.committed(transaction)
        if transaction.swept:
            self._sweeps += [number for number in transaction.swept if number not in self._sweeps]
        if transaction.opened is not None:
            self._take_over(transaction.opened)
        for number in transaction.declared:
            self._schemas.pop(number, None)
        self.ring()
        if self.listeners:
            committed = Committed(frozenset(transaction.touched), tuple(transaction.written), transaction.named)
            for listener in self.listeners:
                listener(committed)


class _Readable:
    """Stands in for a sequence where nobody will edit it: what is asked of it is asked of the store."""

    def __init__(self, store: Store, slot: Slot, journal: Journal) -> None:
        self._store, self._slot, self._journal = store, slot, journal

    @property
    def length(self) -> int:
        return self._store.look(self._slot, self._journal, lambda sequence: sequence.length)

    @property
    def untouched(self) -> bool:
        return self._store.look(self._slot, self._journal, lambda sequence: sequence.untouched)

    def value(self) -> JSON:
        return self._store.look(self._slot, self._journal, lambda sequence: sequence.value())
