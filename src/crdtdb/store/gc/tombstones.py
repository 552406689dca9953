"""Incremental collection of tombstones, queued by the dot that must be stable.

The cost of a pass is proportional to the garbage: it reads the queue rows whose dots have become stable, in slices of one
commit each, while other work continues. Rules 8 and 9 of docs/explanation/replication.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from crdtdb.backends import Reader
from crdtdb.causality import EMPTY, DotSet
from crdtdb.documents.garbage import collect
from crdtdb.documents.stamps import milliseconds
from crdtdb.documents.state import State
from crdtdb.limits import STAMP_AHEAD_MILLISECONDS_MAX
from crdtdb.store.commit.document_rows import uncovered
from crdtdb.store.commit.transaction import Transaction
from crdtdb.store.layout import keys
from crdtdb.store.layout.records import StoreTables

_SLICE_DOCUMENTS = 25
"""Writers wait for a slice: so many are three milliseconds, and share an fsync that is a fraction of one."""

_REST_MILLISECONDS_MAX = 3_600_000


class ClientsRead(NamedTuple):
    """What the clients of a collection that may return have read of it."""

    clock: DotSet | None
    """What all clients with a checkpoint have read, None if no client has one."""
    hold_milliseconds: int = 0
    """Minimum age of a tombstone before removal, for clients that haven't connected yet."""


Told = Callable[[str], ClientsRead | None]
"""Given a collection's name, returns what its clients have read, None if no client is expected to return."""


class Resting:
    """Collections in which every queued document is too young for collection, with the end of their rest.

    Without it each pass would read again the rows that stay for weeks.
    """

    def __init__(self) -> None:
        self._until: dict[int, int] = {}
        self._found: dict[int, int] = {}

    def rests(self, number: int, now: int) -> bool:
        """Whether a pass can skip a collection. `now` is in milliseconds since 1970."""
        return self._until.get(number, 0) > now

    def found(self, number: int, until: int) -> None:
        """Record the time until which a document stays, in milliseconds since 1970."""
        self._found[number] = min(until, self._found.get(number, until))

    def end_pass(self, now: int) -> None:
        """Replace the recorded times of the collections in a pass by what the pass found."""
        latest = now + _REST_MILLISECONDS_MAX
        kept = {number: until for number, until in self._until.items() if until > now}
        self._until = {
            number: min(latest, self._found.get(number, latest), kept.get(number, latest))
            for number in kept.keys() | self._found.keys()
        }
        self._found = {}


class Rules(NamedTuple):
    """Rules of a pass."""

    told: Told
    grace_milliseconds: int
    """Minimum age of a tombstone of any collection."""
    now: int
    """In milliseconds since 1970."""
    resting: Resting


class Slice(NamedTuple):
    """Result of a slice. `after` is the key to continue from, None at the end of the pass."""

    after: bytes | None
    collected: int
    held_back: int
    unheld: DotSet
    """Dots in document contexts that the node clock doesn't cover yet, so that the documents wait."""


def collect_slice(transaction: Transaction, rows: Reader, tables: StoreTables, rules: Rules, after: bytes) -> Slice:
    """Remove the stable garbage of some documents, from the key `after` on."""
    found = list(islice(_lined_up(transaction, rows, tables, rules, after), _SLICE_DOCUMENTS))
    names = {collection.number: name for name, collection in transaction.ledger.root.collections.items()}
    collected = held_back = 0
    unheld = EMPTY
    for key, number, raw in found:
        transaction.rows.changes[key] = None
        name = names.get(number)
        if name is None:
            continue
        record = transaction.load(name, raw.decode())
        stable = transaction.ledger.root.stable
        until, read = _stays_until(record.state, rules.told(name), rules)
        state = collect(record.state, stable, stable if read is None else stable & read)
        beyond = uncovered(record.residue, transaction.ledger.root.clock)
        if beyond:
            unheld |= beyond
            transaction.rows.changes[keys.due(number, raw)] = b""  # it has seen what the node clock doesn't cover yet
            continue
        if state is not record.state:
            transaction.documents.shrink(name, raw.decode(), record, state)
            collected += 1
        transaction.ledger.await_collection(number, raw, state)
        if transaction.rows.changes.get(keys.due(number, raw)) is not None:
            held_back += 1
            rules.resting.found(number, until)
    return Slice(found[-1][0] + b"\0" if len(found) == _SLICE_DOCUMENTS else None, collected, held_back, unheld)


def _stays_until(state: State, clients: ClientsRead | None, rules: Rules) -> tuple[int, DotSet | None]:
    """Return until when a document is too young for removal, and the clients' read clock, None if there is no such limit."""
    hold = max(rules.grace_milliseconds, clients.hold_milliseconds if clients is not None else 0)
    made = [milliseconds(leaf.stamp) for leaf in state.leaves.values() if leaf.deleted]
    until = max((stamp + hold for stamp in made if stamp < rules.now + STAMP_AHEAD_MILLISECONDS_MAX), default=0)
    if hold and until > rules.now:
        return until, EMPTY
    return 0, clients.clock if clients is not None else None


def _lined_up(
    transaction: Transaction, rows: Reader, tables: StoreTables, rules: Rules, after: bytes
) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield the key, collection and id of each document that waits for clients only, or for dots that are stable now."""
    names = {collection.number: name for name, collection in transaction.ledger.root.collections.items()}
    start, stop = keys.rest(b"G")
    place = max(start, after)
    while place < stop and (row := next(iter(rows.scan(place, stop)), None)) is not None:
        collection = int.from_bytes(row[0][1:5], "big")
        _, end = keys.rest(keys.due(collection, b""))
        name = names.get(collection)
        if name is None or rules.told(name) is None or not rules.resting.rests(collection, rules.now):
            for key, _ in rows.scan(place, end):
                yield key, collection, key[5:]
        place = end
    numbered = sorted(
        (tables.known_actor_number(actor) or 0, ranges) for actor, ranges in transaction.ledger.root.stable.items()
    )
    for number, ranges in numbered:
        for first, last in ranges:
            start, stop = keys.waiting(number, first), keys.waiting(number, last + 1)
            if after < stop:
                for key, place in rows.scan(max(start, after), stop):
                    yield key, *keys.read_place(place)
