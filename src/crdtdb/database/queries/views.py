"""Views: the pairs that a function emits for each document, kept in the order of the keys, and reduced on request.

A view is updated when it is read: documents that changed since then go through its function, and their pairs replace the
earlier ones. A read sees one snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import groupby, islice
from typing import Any, NamedTuple, Protocol

from crdtdb.canonical_json import canonical
from crdtdb.database.document import Document
from crdtdb.database.reader import DocumentReader
from crdtdb.documents import view as view_of
from crdtdb.errors import InvalidInputError
from crdtdb.query.collation import LAST, sort_key
from crdtdb.query.reducing import Reducer, built_in
from crdtdb.query.selectors import ABSENT
from crdtdb.store import Emission, Record, Store, StoreSnapshot, ViewKey, ViewRow, ViewState, read_view, scan_view
from crdtdb.store.layout import keys
from crdtdb.store.layout.index_rows import is_indexed

_BATCH_DOCUMENTS = 100
_SIGNATURE_BYTES = 16


class Mapper(Protocol):
    """What emits. Equal signatures mean the same function: a view is kept under its signature."""

    @property
    def signature(self) -> bytes:
        """What the view's rows are kept under: 16 bytes."""

    def map(self, store: Store, name: str, documents: Sequence[tuple[str, Record]]) -> list[list[Emission]]:
        """Return what is emitted for each of some live documents."""


class Fold(Protocol):
    """Makes reducers, one for each group."""

    def __call__(self) -> Reducer:
        """Return a reducer that has seen nothing."""


@dataclass(frozen=True, kw_only=True)
class ViewQuery:
    """Which rows are asked for. `start` and `end` are keys, in the order in which the rows come."""

    start: Any = ABSENT
    end: Any = ABSENT
    start_id: str | None = None
    end_id: str | None = None
    inclusive_end: bool = True
    descending: bool = False
    keys: tuple[Any, ...] | None = None
    limit: int | None = None
    skip: int = 0
    group_level: int | None = 0
    """Of reduced rows: 0 puts all together, None keeps whole keys apart, a number their first so many elements."""

    def __post_init__(self) -> None:
        """Check it. Raises InvalidInputError."""
        for name, number in (("limit", self.limit), ("skip", self.skip), ("group_level", self.group_level)):
            if number is not None and (type(number) is not int or number < 0):
                raise InvalidInputError(f"`{name}` is a whole number from 0, not {number!r:.80}")
        low, high = self._ends()
        if low is not ABSENT and high is not ABSENT and sort_key(low) > sort_key(high):
            raise InvalidInputError(
                "no rows can match your key range: the first key comes after the last, reverse them or set `descending` "
                f"to {str(not self.descending).lower()}"
            )

    def _ends(self) -> tuple[Any, Any]:
        return (self.end, self.start) if self.descending else (self.start, self.end)

    def ranges(self) -> list[tuple[bytes, bytes]]:
        """Return between which places the rows stand: one range, or one for each of `keys`."""
        if self.keys is not None:
            return [(key, key + LAST) for key in map(sort_key, self.keys)]
        low, high = self._ends()
        low_id, high_id = (self.end_id, self.start_id) if self.descending else (self.start_id, self.end_id)
        low_in, high_in = (self.inclusive_end, True) if self.descending else (True, self.inclusive_end)
        start = b"" if low is ABSENT else _place(low, low_id, not low_in)
        stop = LAST if high is ABSENT else _place(high, high_id, high_in)
        return [(start, stop)] if start < stop else []


def _place(key: Any, doc_id: str | None, behind: bool) -> bytes:
    """Return the place of a key, or of one document's row under it; or what comes behind that."""
    place = sort_key(key) + (keys.id_place(doc_id.encode()) if doc_id is not None else b"")
    return place + LAST if behind else place


class Reduced(NamedTuple):
    """A group of rows, and what they come to. `key` is None if all are together."""

    key: Any
    value: Any


class ViewIndex:
    """A view of one collection."""

    def __init__(self, store: Store, name: str, mapper: Mapper, fold: Fold | None = None) -> None:
        self._store, self._name, self._mapper, self._fold = store, name, mapper, fold

    @property
    def state(self) -> ViewState | None:
        """How far the view has come, None if nobody has asked it yet."""
        return self._store.derived.view(self._name, self._mapper.signature)

    def update(self) -> None:
        """Let the view follow what has changed by now, batch by batch. Raises what its function raises."""
        while not self._store.sweeper.is_swept(self._name):
            self._store.sweeper.sweep()
        collection = self._store.root.collections.get(self._name)
        if collection is None:
            return
        while True:
            state = self.state
            since = state.seq if state is not None else 0
            if since >= collection.seq:
                return
            batch = list(islice(self._store.live_view().changes(self._name, since), _BATCH_DOCUMENTS))
            seq = batch[-1][0] if len(batch) == _BATCH_DOCUMENTS else max(collection.seq, batch[-1][0] if batch else 0)
            emitted = self._emitted([(doc_id, record) for _, doc_id, record in batch])
            key = ViewKey(self._name, collection.number, self._mapper.signature)
            moved = self._store.derived.put_emissions(key, since, seq, emitted)
            if moved is None and self._store.root.collections.get(self._name, collection).number != collection.number:
                return  # dropped, and made anew: whoever asks now doesn't mean what was before

    def _emitted(self, batch: Sequence[tuple[str, Record]]) -> list[tuple[bytes, list[Emission]]]:
        live = [
            (doc_id, record)
            for doc_id, record in batch
            if is_indexed(doc_id) and (record.single is not None or not view_of(record.state).deleted)
        ]
        mapped = dict(zip((doc_id for doc_id, _ in live), self._mapper.map(self._store, self._name, live), strict=True))
        return [(doc_id.encode(), mapped.get(doc_id, [])) for doc_id, _ in batch]

    def rows(self, query: ViewQuery = ViewQuery()) -> Iterator[ViewRow]:
        """Yield rows in the order of their keys, then of their documents' ids."""
        stop = None if query.limit is None else query.skip + query.limit
        snapshot, moment = self._store.snapshot()
        try:
            yield from (row for _, row in islice(self._scan(moment, query), query.skip, stop))
        finally:
            snapshot.close()

    def count_before(self, query: ViewQuery, count_max: int) -> int:
        """Return how many rows of the view come before those of a query, at most one more than `count_max`."""
        ranges = query.ranges()
        snapshot, moment = self._store.snapshot()
        try:
            collection = moment.root.collections.get(self._name)
            if collection is None or not ranges:
                return 0
            state = read_view(moment.rows.get, collection.number, self._mapper.signature)
            if state is None:
                return 0
            start, stop = (ranges[0][1], LAST) if query.descending else (b"", ranges[0][0])
            before = scan_view(moment.rows, state.number, start, stop, query.descending)
            return sum(1 for _ in islice(before, count_max + 1)) if start < stop else 0
        finally:
            snapshot.close()

    def reduced(self, query: ViewQuery = ViewQuery()) -> Iterator[Reduced]:
        """Yield groups of rows, reduced. Raises InvalidInputError if the view has no reduce, or a row can't be reduced."""
        if self._fold is None:
            raise InvalidInputError("the view has no reduce: ask for its rows")
        stop = None if query.limit is None else query.skip + query.limit
        snapshot, moment = self._store.snapshot()
        try:
            yield from islice(self._groups(moment, query, self._fold), query.skip, stop)
        finally:
            snapshot.close()

    def _groups(self, moment: StoreSnapshot, query: ViewQuery, fold: Fold) -> Iterator[Reduced]:
        level = query.group_level

        def of_group(item: tuple[int, ViewRow]) -> tuple[int, bytes]:
            return item[0], sort_key(_group_key(item[1].key, level))

        numbered = self._scan(moment, query)
        for _, group in groupby(numbered, of_group if level != 0 else lambda item: item[0]):
            reducer, key = fold(), None
            for number, (_, row) in enumerate(group):
                key = _group_key(row.key, level) if number == 0 else key
                reducer.add(row.key, row.id, row.value)
            yield Reduced(None if level == 0 else key, reducer.result())

    def _scan(self, moment: StoreSnapshot, query: ViewQuery) -> Iterator[tuple[int, ViewRow]]:
        """Yield rows, each with the number of the range that it is of; with `keys`, in their order."""
        collection = moment.root.collections.get(self._name)
        state = (
            read_view(moment.rows.get, collection.number, self._mapper.signature) if collection is not None else None
        )
        if state is None:
            return
        ranges = query.ranges()
        if query.keys is not None and query.descending:
            ranges.reverse()
        for number, (start, stop) in enumerate(ranges):
            for _, row in scan_view(moment.rows, state.number, start, stop, query.descending):
                yield number, row


def _group_key(key: Any, level: int | None) -> Any:
    return key[:level] if level is not None and isinstance(key, list) else key


class PythonMapper:
    """A Python function of a document that yields keys and values. It is known by a name and a version."""

    def __init__(self, name: str, version: int | str, function: Callable[[Document], Iterable[Emission]]) -> None:
        self._function = function
        named = canonical(["python", name, version])
        self.signature = blake2b(named, digest_size=_SIGNATURE_BYTES).digest()

    def map(self, store: Store, name: str, documents: Sequence[tuple[str, Record]]) -> list[list[Emission]]:
        """Return what the function yields for each document. Raises what it raises, and InvalidInputError for other things."""
        reader, found = DocumentReader(store, name), []
        for doc_id, record in documents:
            document = reader.live(doc_id, record)
            assert document is not None, "deleted documents aren't mapped"
            found.append([_checked(one) for one in self._function(document) or ()])
        return found


def _checked(emission: object) -> Emission:
    if not isinstance(emission, tuple) or len(emission) != 2:
        raise InvalidInputError(f"a view's function yields pairs of a key and a value, not {str(emission)[:80]!r}")
    canonical(list(emission))
    return emission


def reducer_named(reduce: str | None) -> Fold | None:
    """Return a reduce that is built in. Raises InvalidInputError."""
    return built_in(reduce) if reduce is not None else None


class PythonView:
    """A view of Python's, as `Collection.view` returns it."""

    def __init__(self, index: ViewIndex) -> None:
        self._index = index

    def rows(self, *, key: Any = ABSENT, **options: Any) -> Iterator[ViewRow]:
        """Yield rows, after the view has followed what changed.

        `key` asks for one key, `keys` for several, `start` and `end` for those between, the end included unless
        `inclusive_end=False`; `descending` turns the order round; `skip` and `limit` count. Raises InvalidInputError.
        """
        query = _query(key, options)
        self._index.update()
        return self._index.rows(query)

    def reduced(self, *, key: Any = ABSENT, group: bool = False, **options: Any) -> Iterator[Reduced]:
        """Yield the reduced rows: one group of all, one for each key with `group`, or for its first `group_level` elements."""
        query = _query(key, options)
        self._index.update()
        return self._index.reduced(replace(query, group_level=None) if group else query)


def _query(key: Any, options: dict[str, Any]) -> ViewQuery:
    if key is not ABSENT:
        options = {**options, "start": key, "end": key}
    if options.get("keys") is not None:
        options = {**options, "keys": tuple(options["keys"])}
    try:
        return ViewQuery(**options)
    except TypeError as error:
        raise InvalidInputError(f"a view isn't asked so: {error}") from error
