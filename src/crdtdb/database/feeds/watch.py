"""Notices: what changes in any collection, chosen by patterns, each change once, from a place that can be kept.

A place is opaque text. At the store that gave it, it is a number for each collection; at another it is the node clock of when
the watcher had read everything, so that it goes on there without missing anything, and may be told some changes again.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from crdtdb.causality import EMPTY, DotSet
from crdtdb.database.document import Document
from crdtdb.database.reader import DocumentReader
from crdtdb.documents import totals, view
from crdtdb.documents.schema import SCHEMA_ID
from crdtdb.errors import EncodingError, InvalidInputError, StoreClosedError
from crdtdb.store import SYSTEM, Record, Store, StoreRoot
from crdtdb.wire.cbor import decode, encode

KINDS = ("created", "updated", "deleted", "conflict", "dropped")
PATTERNS_MAX = 100
_PLACE_BYTES_MAX = 1024 * 1024


class Pattern(NamedTuple):
    """What somebody wants to hear of. `collection` and `id` are patterns as a shell has them: `*`, `?`, `[abc]`.

    The database's own collections are meant only where the pattern begins with `system.`.
    """

    collection: str = "*"
    id: str = "*"
    kinds: frozenset[str] = frozenset(KINDS)

    def means(self, name: str) -> bool:
        """Whether it is about a collection."""
        if name.startswith(SYSTEM) and not self.collection.startswith(SYSTEM):
            return False
        return fnmatchcase(name, self.collection)

    def takes(self, name: str, doc_id: str, kind: str) -> bool:
        """Whether it is about a change."""
        return kind in self.kinds and self.means(name) and (kind == "dropped" or fnmatchcase(doc_id, self.id))

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
    """One change. A document is told of at its last change; what lay between two looks is one change.

    `kind` is "deleted", "conflict" if there is more than one body or a conflict of a field, "created" if nothing was before it,
    else "updated"; "dropped" tells of a whole collection, and then `id` and `rev` are empty and `doc` is None.
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
    """A place in the changes of all collections that some patterns mean. For one thread at a time.

    Iterating waits for what is to come, until the database is closed.
    """

    def __init__(self, store: Store, patterns: Iterable[Pattern], since: str | None = None) -> None:
        """Begin after the place `since`: None for now, "0" for the beginning. Raises InvalidInputError for what is no place."""
        self._store, self._patterns = store, tuple(patterns)
        if not 0 < len(self._patterns) <= PATTERNS_MAX:
            raise InvalidInputError(f"{len(self._patterns)} patterns: from 1 to {PATTERNS_MAX}")
        self._mark = store.identity.store_id + store.actor
        self._floor = EMPTY
        self._clock = EMPTY
        self._seqs: dict[str, tuple[int, int]] = {}
        self._seen: StoreRoot | None = None
        self._taken: Iterator[Notice] = iter(())
        if since is None:
            self._clock = store.root.clock
            self._seqs = {
                name: (one.number, one.seq) for name, one in store.root.collections.items() if self._means(name)
            }
        elif since != "0":
            place = _decoded(since)
            self._clock = place.clock
            if place.mark == self._mark:
                self._seqs = place.seqs
            else:
                self._floor = place.clock

    @property
    def place(self) -> str:
        """The place behind the last notice that was taken."""
        clock = [[actor, *(bound for pair in ranges for bound in pair)] for actor, ranges in self._clock.items()]
        seqs = [[name, number, seq] for name, (number, seq) in self._seqs.items()]
        return urlsafe_b64encode(encode([self._mark, clock, seqs])).decode().rstrip("=")

    def take(self) -> Iterator[Notice]:
        """Yield what has changed by now, and move along: whoever stops in the middle goes on from there."""
        self._seen = held = self._store.root
        for name in [one for one in self._seqs if one not in held.names]:
            del self._seqs[name]
            if any(one.takes(name, "", "dropped") for one in self._patterns):
                yield Notice("dropped", name, "", "", (), None)
        for name in sorted(held.names):
            if self._means(name):
                yield from self._of_collection(name)
        self._clock, self._floor = held.clock, EMPTY

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until something was committed since the last look; False if `timeout` seconds passed without.

        Raises StoreClosedError when the database is closed.
        """
        return self._seen is None or self._store.notifier.wait_beyond(self._seen, timeout)

    def __next__(self) -> Notice:
        while True:
            for notice in self._taken:
                return notice
            try:
                self.wait()
            except StoreClosedError:
                raise StopIteration from None
            self._taken = self.take()

    def _means(self, name: str) -> bool:
        return any(one.means(name) for one in self._patterns)

    def _of_collection(self, name: str) -> Iterator[Notice]:
        collection = self._store.root.collections.get(name)
        if collection is None:
            return
        number, since = self._seqs.get(name, (collection.number, 0))
        if number != collection.number:
            number, since = collection.number, 0  # dropped, and made anew
        if collection.seq > since or name not in self._seqs:
            for seq, doc_id, record in self._store.live_view().changes(name, since):
                notice = self._notice(name, doc_id, record)
                self._seqs[name] = (number, seq)
                if notice is not None:
                    yield notice
            last = self._seqs.get(name, (number, since))[1]
            self._seqs[name] = (number, max(collection.seq, last))

    def _notice(self, name: str, doc_id: str, record: Record) -> Notice | None:
        shown = view(record.state)
        if shown.winner is None or doc_id == SCHEMA_ID or all(dot in self._floor for dot in record.state.dots()):
            return None
        if shown.deleted:
            kind = "deleted"
        elif totals(record.state).conflicts:
            kind = "conflict"
        else:
            kind = "created" if shown.winner.rev.generation == 1 else "updated"
        if not any(one.takes(name, doc_id, kind) for one in self._patterns):
            return None
        doc = DocumentReader(self._store, name).latest(doc_id, record, shown)
        assert doc is not None
        return Notice(kind, name, doc_id, doc.rev, doc.conflicts, doc)


def escape(name: str) -> str:
    """Return the pattern that means one collection alone."""
    return "".join(f"[{one}]" if one in "*?[" else one for one in name)


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
