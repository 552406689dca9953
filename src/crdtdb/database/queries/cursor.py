"""Queries over one collection: through an index if a suitable one exists, else through every document.

A query reads one snapshot of the collection. Each document that it yields was read and tested as a whole in that snapshot: an
index only tells where to look.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappush, heappushpop
from typing import Any, NamedTuple

import msgspec

from crdtdb.canonical_json import merged_text
from crdtdb.database.document import Document
from crdtdb.database.queries.indexes import BY_ID, IndexInfo
from crdtdb.database.reader import DocumentReader
from crdtdb.errors import BookmarkError, InvalidInputError, TooLargeError
from crdtdb.limits import FIND_SORTED_MAX
from crdtdb.query.collation import sort_key, text_bound
from crdtdb.query.definitions import DESIGN, ordered_fields
from crdtdb.query.planner import Plan, plan
from crdtdb.query.selectors import ABSENT, Selector, compile_selector, path_of, value_at
from crdtdb.store import Record, Store, StoreSnapshot
from crdtdb.store.layout import keys


class Query(NamedTuple):
    """A query, checked."""

    selector: Selector
    fields: tuple[str, ...] | None
    sort: tuple[str, ...]
    descending: bool
    limit: int | None
    skip: int
    use: tuple[str, str | None] | None
    fallback: bool
    bookmark: bytes | None
    bookmark_plan: str


class Statistics:
    """The cost of a query so far."""

    def __init__(self) -> None:
        self.keys_examined = self.docs_examined = self.results = 0


def check_query(
    selector: Mapping[str, Any],
    fields: Sequence[str] | None = None,
    sort: Sequence[Any] | None = None,
    limit: int | None = None,
    skip: int = 0,
    use_index: str | Sequence[str] | None = None,
    bookmark: str | None = None,
    allow_fallback: bool = True,
) -> Query:
    """Return a checked query. Raises InvalidInputError."""
    for name, number in (("limit", 0 if limit is None else limit), ("skip", skip)):
        if type(number) is not int or number < 0:
            raise InvalidInputError(
                f"`{name}` is a whole number from 0, not {number!r:.80}", fault="invalid_non_neg_integer"
            )
    if fields is not None:
        _check_fields(fields)
    if not isinstance(allow_fallback, bool):
        raise InvalidInputError("`allow_fallback` is true or false", fault="invalid_boolean")
    order, descending = ordered_fields(sort if sort is not None else (), "the fields of `sort`")
    of_plan, place = _read_bookmark(bookmark)
    return Query(
        compile_selector(selector),
        tuple(fields) if fields else None,
        order,
        descending,
        limit,
        skip,
        _used(use_index),
        allow_fallback,
        place,
        of_plan,
    )


def _check_fields(fields: object) -> None:
    says = "`fields` are an array of names, such as ['_id', 'address.city']"
    if not isinstance(fields, (list, tuple)):
        raise InvalidInputError(says, fault="invalid_fields")
    for field in fields:
        if not isinstance(field, str):
            raise InvalidInputError(says, fault="invalid_field")
        if not field:
            raise InvalidInputError(says, fault="invalid_field_name")


def _used(use_index: object) -> tuple[str, str | None] | None:
    given = [use_index] if isinstance(use_index, str) else use_index
    if given is None or given == []:
        return None
    if not isinstance(given, (list, tuple)) or len(given) > 2 or not all(isinstance(one, str) and one for one in given):
        raise InvalidInputError(
            "`use_index` is the name of a design document, or an array of that and an index's name",
            fault="invalid_index_name",
        )
    ddoc = given[0] if given[0].startswith(DESIGN) else DESIGN + given[0]
    return ddoc, given[1] if len(given) == 2 else None


class QueryCursor:
    """One query under way: iterate over it for the documents, as they are found.

    `plan` says how it is answered, `warnings` what could be better; `bookmark`, once some were taken, where the next query can
    go on, None if there is nothing to go on from.
    """

    def __init__(self, store: Store, name: str, query: Query) -> None:
        """Plan a query. An index that is still being built is built first. Raises NoUsableIndexError, BookmarkError."""
        self._store, self._name, self.query = store, name, query
        self._reader = DocumentReader(store, name)
        while store.derived.build(name):
            pass
        self.statistics = Statistics()
        indexes = store.derived.indexes(name) if store.sweeper.is_swept(name) else ()
        self._numbers = {one.definition: one.number for one in indexes}
        self.plan: Plan = plan(
            query.selector, query.sort, query.descending, list(self._numbers), query.use, query.fallback
        )
        self._sort_paths = [path_of(one) for one in query.sort]
        if query.bookmark is not None and query.bookmark_plan != self._plan_name:
            raise BookmarkError(
                f"the bookmark is of a query through {query.bookmark_plan!r}, this one goes through {self._plan_name!r}: "
                "begin without it"
            )
        self._place = query.bookmark

    @property
    def warnings(self) -> tuple[str, ...]:
        """Advice on how the query could be faster."""
        return self.plan.warnings

    @property
    def bookmark(self) -> str | None:
        """The `bookmark` for a query that continues here, None before the first document."""
        if self._place is None:
            return None
        return urlsafe_b64encode(msgspec.msgpack.encode([self._plan_name, self._place])).decode().rstrip("=")

    @property
    def _plan_name(self) -> str:
        return f"{self.plan.name}{'-' if self.plan.reverse else '+'}{'' if self.plan.ordered else ','.join(self.query.sort)}"

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents."""
        if self._name not in self._store.root.collections:
            return
        snapshot, moment = self._store.snapshot()
        try:
            yield from self._page(self._ordered(moment) if self.plan.ordered else self._sorted(moment))
        finally:
            snapshot.close()

    def _page(self, found: Iterator[tuple[bytes, Document]]) -> Iterator[Document]:
        query = self.query
        if query.limit == 0:
            return
        for number, (place, document) in enumerate(found):
            self._place = place
            if number < query.skip:
                continue
            self.statistics.results += 1
            yield document if query.fields is None else _projected(document, query.fields)
            if query.limit is not None and self.statistics.results >= query.limit:
                return

    def _ordered(self, moment: StoreSnapshot) -> Iterator[tuple[bytes, Document]]:
        """Yield what matches, in the order in which it is read, from the bookmark on."""
        for place, doc_id, record in self._candidates(moment, self.query.bookmark):
            document = self._matching(doc_id, record)
            if document is not None:
                yield place, document

    def _sorted(self, moment: StoreSnapshot) -> Iterator[tuple[bytes, Document]]:
        """Yield what matches in the order that is wanted: the keys to sort by are kept in memory, and no documents.

        Raises TooLargeError for more than FIND_SORTED_MAX.
        """
        query = self.query
        most = None if query.limit is None else query.limit + query.skip
        best: list[_Sorted] = []
        for _, doc_id, record in self._candidates(moment, None):
            document = self._matching(doc_id, record)
            if document is None:
                continue
            one = _Sorted(self._sort_key(_Named(document)) + sort_key(doc_id), doc_id, query.descending)
            if query.bookmark is not None and not _Sorted(query.bookmark, "", query.descending).before(one):
                continue
            if most is not None and len(best) >= most:
                heappushpop(best, one)
            elif len(best) >= FIND_SORTED_MAX:
                raise TooLargeError(
                    f"more than {FIND_SORTED_MAX:,} documents would have to be sorted in memory: create an index over "
                    f"{list(query.sort)}, or set a limit"
                )
            else:
                heappush(best, one)
        for one in sorted(best, reverse=True):
            again = moment.read(self._name, one.doc_id)
            document = self._reader.live(one.doc_id, again) if again is not None else None
            if document is not None:
                yield one.key, document

    def _sort_key(self, document: Mapping[str, Any]) -> bytes:
        """Return the key of the fields of a sort: what lacks one comes before all that have it."""
        found = []
        for path in self._sort_paths:
            value = value_at(document, path)
            found.append(b"\x01" if value is ABSENT else sort_key(value))
        return b"".join(found)

    def _candidates(self, moment: StoreSnapshot, place: bytes | None) -> Iterator[tuple[bytes, str, Record]]:
        """Yield the documents that may match, each with its place in what is read; from behind a place on."""
        if self.plan.index is None:
            yield from self._all(moment, place)
            return
        prefix, range_ = keys.entries(self._numbers[self.plan.index]), self.plan.range
        for key, _ in self._behind(moment, prefix, range_.start, range_.stop, place):
            self.statistics.keys_examined += 1
            doc_id = keys.read_entry(key)[1].decode()
            record = moment.read(self._name, doc_id)
            if record is not None:
                yield key[len(prefix) :], doc_id, record

    def _all(self, moment: StoreSnapshot, place: bytes | None) -> Iterator[tuple[bytes, str, Record]]:
        collection = moment.root.collections[self._name].number
        prefix = keys.document(collection, b"")
        start, stop = map(text_bound, (self.plan.range.start, self.plan.range.stop))
        for key, value in self._behind(moment, prefix, start, stop, place):
            raw = key[len(prefix) :]
            if raw.startswith(b"_"):
                continue
            self.statistics.keys_examined += 1
            record = moment.decoded(self._name, key, value)
            if record is not None:
                yield raw, raw.decode(), record

    def _behind(
        self, moment: StoreSnapshot, prefix: bytes, start: bytes, stop: bytes, place: bytes | None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows of a range in the order of the plan, those that come behind a place."""
        if place is not None and self.plan.reverse:
            stop = min(stop, place)
        elif place is not None:
            start = max(start, place + b"\0")
        return moment.rows.scan(prefix + start, prefix + stop, reverse=self.plan.reverse)

    def _matching(self, doc_id: str, record: Record) -> Document | None:
        self.statistics.docs_examined += 1
        document = self._reader.live(doc_id, record)
        return document if document is not None and self.query.selector(_Named(document)) else None


class _Named(Mapping[str, Any]):
    """A document with its `_id` and `_rev`, as a selector sees it."""

    __slots__ = ("_document",)

    def __init__(self, document: Document) -> None:
        self._document = document

    def __getitem__(self, key: str) -> Any:
        if key == "_id":
            return self._document.id
        return self._document.rev if key == "_rev" else self._document[key]

    def __iter__(self) -> Iterator[str]:
        yield from ("_id", "_rev", *self._document)

    def __len__(self) -> int:
        return len(self._document) + 2


class _Sorted(NamedTuple):
    """A document among those that are sorted. The least of them is the one that comes last."""

    key: bytes
    doc_id: str
    descending: bool

    def before(self, other: _Sorted) -> bool:
        """Whether this comes before another."""
        return self.key > other.key if self.descending else self.key < other.key

    def __lt__(self, other: _Sorted) -> bool:  # type: ignore[override]
        return other.before(self)


def project(document: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Return what a document has at some paths, as objects within objects."""
    found: dict[str, Any] = {}
    for field in fields:
        path = path_of(field)
        value = value_at(document, path)
        if value is not ABSENT:
            _put(found, path, value)
    return found


def _projected(document: Document, fields: Sequence[str]) -> Document:
    text = merged_text(project(_Named(document), fields))
    return Document(document.id, document.rev, text, document.conflicts, False, document.state)


def _put(found: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        below = found.setdefault(key, {})
        if not isinstance(below, dict):
            return
        found = below
    found[path[-1]] = value


def _read_bookmark(bookmark: object) -> tuple[str, bytes | None]:
    """Return the plan and the place that a bookmark says. Raises BookmarkError."""
    if bookmark is None or bookmark in ("", "nil"):
        return "", None
    try:
        if not isinstance(bookmark, str):
            raise TypeError("it is a string")
        name, place = msgspec.msgpack.decode(
            urlsafe_b64decode(bookmark + "=" * (-len(bookmark) % 4)), type=tuple[str, bytes]
        )
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise BookmarkError(f"{str(bookmark)[:80]!r} isn't a bookmark that a query gave: {error}") from error
    return name, place


def explained(finder: QueryCursor, name: str) -> dict[str, Any]:
    """Return how a query is answered, as CouchDB's `_explain` does."""
    query, plan_ = finder.query, finder.plan
    index = plan_.index
    return {
        "dbname": name,
        "index": (BY_ID if index is None else IndexInfo.of(index)).json,
        "selector": query.selector.given,
        "opts": {"use_index": [part for part in query.use or () if part], "sort": list(query.sort)},
        "limit": query.limit,
        "skip": query.skip,
        "fields": list(query.fields) if query.fields is not None else "all_fields",
        "range": {
            "start": plan_.range.start.hex(),
            "stop": plan_.range.stop.hex(),
            "narrowed_by": plan_.range.narrowed,
        },
        "covering": False,
        "direction": "rev" if plan_.reverse else "fwd",
        "sorted_in_memory": not plan_.ordered,
        "warnings": list(plan_.warnings),
    }
