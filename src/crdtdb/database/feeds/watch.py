"""Notices of changes in all collections, chosen by patterns, from a place that a client can keep.

A place is opaque text. At the store that made it, it is a seq for each collection. At another store it is the node clock of the
last complete read: the watch goes on there without missing a change, and may yield some again.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from crdtdb.causality import EMPTY, DotSet
from crdtdb.database.document import Document
from crdtdb.database.feeds.cursor import FeedCursor
from crdtdb.database.reader import DocumentReader
from crdtdb.documents import totals, view
from crdtdb.errors import EncodingError, InvalidInputError, StoreClosedError
from crdtdb.store import SYSTEM, Record, Store, StoreRoot
from crdtdb.wire.cbor import decode, encode

KINDS = ("created", "updated", "deleted", "conflict", "dropped")
PATTERNS_MAX = 100
_PLACE_BYTES_MAX = 1024 * 1024


class Pattern(NamedTuple):
    """Which changes to watch. `collection` and `id` are patterns as a shell has them: `*`, `?`, `[abc]`.

    The database's own collections match only patterns that begin with `system.`.
    """

    collection: str = "*"
    id: str = "*"
    kinds: frozenset[str] = frozenset(KINDS)

    def matches_collection(self, name: str) -> bool:
        """Whether it matches a collection."""
        if name.startswith(SYSTEM) and not self.collection.startswith(SYSTEM):
            return False
        return fnmatchcase(name, self.collection)

    def matches(self, name: str, doc_id: str, kind: str) -> bool:
        """Whether it matches a change."""
        return (
            kind in self.kinds and self.matches_collection(name) and (kind == "dropped" or fnmatchcase(doc_id, self.id))
        )

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Pattern:
        """Read a pattern: `{"collection": "orders-*", "id": "2026-*", "kinds": ["created"]}`. Raises InvalidInputError."""
        unknown = described.keys() - {"collection", "id", "kinds"}
        kinds = described.get("kinds", KINDS)
        texts = [described.get(key, "*") for key in ("collection", "id")]
        if unknown or not all(isinstance(one, str) and 0 < len(one) <= 4_096 for one in texts):
            raise InvalidInputError(
                f"a pattern has `collection` and `id`, texts such as 'orders-*', and `kinds`: {str(dict(described))[:200]}"
            )
        if not isinstance(kinds, Iterable) or isinstance(kinds, str) or not set(kinds) <= set(KINDS) or not kinds:
            raise InvalidInputError(f"kinds of changes are {', '.join(KINDS)}: {str(kinds)[:200]}")
        return cls(texts[0], texts[1], frozenset(kinds))


class Notice(NamedTuple):
    """One change of a document, its last one: changes between two polls are one notice.

    `kind` is "deleted", "conflict" if there is more than one body or a conflict of a field, "created" for a first revision,
    else "updated"; "dropped" is about a whole collection, and then `id` and `rev` are empty and `doc` is None.
    """

    kind: str
    collection: str
    id: str
    rev: str
    conflicts: tuple[str, ...]
    doc: Document | None


class _Place(NamedTuple):
    mark: bytes
    clock: DotSet
    seqs: dict[str, tuple[int, int]]
    """Collection -> its local number, and the last seq that was read."""


class Watch(Iterator[Notice]):
    """A place in the changes of all collections that some patterns match. For one thread at a time.

    Iterating waits for further changes, until the database is closed.
    """

    def __init__(self, store: Store, patterns: Iterable[Pattern], since: str | None = None) -> None:
        """Begin after the place `since`: None for now, "0" for the beginning. Raises InvalidInputError if it isn't a place."""
        self._store, self._patterns = store, tuple(patterns)
        if not 0 < len(self._patterns) <= PATTERNS_MAX:
            raise InvalidInputError(f"{len(self._patterns)} patterns: from 1 to {PATTERNS_MAX}")
        self._mark = store.identity.store_id + store.actor
        self._floor = EMPTY
        self._clock = EMPTY
        self._cursors: dict[str, FeedCursor] = {}
        self._seen: StoreRoot | None = None
        self._notices: Iterator[Notice] = iter(())
        if since is None:
            self._clock = store.root.clock
            self._cursors = {
                name: FeedCursor.here(store, name) for name in store.root.collections if self._matches(name)
            }
        elif since != "0":
            place = _decoded(since)
            self._clock = place.clock
            if place.mark == self._mark:
                self._cursors = {name: FeedCursor(store, name, *seq) for name, seq in place.seqs.items()}
            else:
                self._floor = place.clock

    @property
    def place(self) -> str:
        """The place behind the last notice that was read, as text."""
        clock = [[actor, *(bound for pair in ranges for bound in pair)] for actor, ranges in self._clock.items()]
        cursors = [(name, cursor) for name, cursor in self._cursors.items() if cursor.number is not None]
        seqs = [[name, cursor.number, cursor.seq] for name, cursor in cursors]
        return urlsafe_b64encode(encode([self._mark, clock, seqs])).decode().rstrip("=")

    def poll(self) -> Iterator[Notice]:
        """Yield the changes up to now, and move along: a reader that stops in the middle goes on from there."""
        self._seen = root = self._store.root
        for name in [name for name in self._cursors if name not in root.names]:
            del self._cursors[name]
            if any(pattern.matches(name, "", "dropped") for pattern in self._patterns):
                yield Notice("dropped", name, "", "", (), None)
        for name in sorted(root.names):
            if self._matches(name) and name in self._store.root.collections:
                yield from self._poll_collection(name)
        self._clock, self._floor = root.clock, EMPTY

    take = poll
    """The former name of `poll`."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until something was committed since the last poll; return False if `timeout` seconds passed without.

        Raises StoreClosedError when the database is closed.
        """
        return self._seen is None or self._store.notifier.wait_beyond(self._seen, timeout)

    def __next__(self) -> Notice:
        while True:
            for notice in self._notices:
                return notice
            try:
                self.wait()
            except StoreClosedError:
                raise StopIteration from None
            self._notices = self.poll()

    def _matches(self, name: str) -> bool:
        return any(pattern.matches_collection(name) for pattern in self._patterns)

    def _poll_collection(self, name: str) -> Iterator[Notice]:
        if name not in self._cursors:
            self._cursors[name] = FeedCursor.here(self._store, name, 0)
        for _, doc_id, record in self._cursors[name].read():
            notice = self._notice(name, doc_id, record)
            if notice is not None:
                yield notice

    def _notice(self, name: str, doc_id: str, record: Record) -> Notice | None:
        shown = view(record.state)
        if shown.winner is None or all(dot in self._floor for dot in record.state.dots()):
            return None
        if shown.deleted:
            kind = "deleted"
        elif totals(record.state).conflicts:
            kind = "conflict"
        else:
            kind = "created" if shown.winner.rev.generation == 1 else "updated"
        if not any(pattern.matches(name, doc_id, kind) for pattern in self._patterns):
            return None
        doc = DocumentReader(self._store, name).latest(doc_id, record, shown)
        assert doc is not None
        return Notice(kind, name, doc_id, doc.rev, doc.conflicts, doc)


def escape(name: str) -> str:
    """Return the pattern that matches one collection alone."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _decoded(text: str) -> _Place:
    try:
        if len(text) > _PLACE_BYTES_MAX:
            raise ValueError(text[:80])
        mark, clock, seqs = decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if type(mark) is not bytes or any(type(actor) is not bytes or len(actor) != 16 for actor, *_ in clock):
            raise TypeError(text[:80])
        ranges = {actor: list(zip(bounds[::2], bounds[1::2], strict=True)) for actor, *bounds in clock}
        places = {str(name): (int(number), int(seq)) for name, number, seq in seqs}
        return _Place(mark, DotSet.from_ranges(ranges), places)
    except (ValueError, TypeError, LookupError, EncodingError) as error:
        raise InvalidInputError(f"{text[:80]!r} isn't a place: take one that a notice came with, or '0'") from error
