"""Queries over a collection, the indexes that serve them, views, and changing what a query finds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from crdtdb.database.document import Document
from crdtdb.database.queries import indexes as designs
from crdtdb.database.queries.cursor import QueryCursor, check_query, explained
from crdtdb.database.queries.indexes import IndexInfo
from crdtdb.database.queries.update_many import (
    Changed,
    ChangedMany,
    changed_by,
    check_limit,
    in_slices,
)
from crdtdb.database.queries.views import PythonMapper, PythonView, ViewIndex, reducer_named
from crdtdb.database.validation import check_patch
from crdtdb.errors import CrdtdbError
from crdtdb.query.definitions import IndexDefinition, check_definition
from crdtdb.store import Store


class Querying(ABC):
    """What a collection answers by looking through its documents. `Collection` has the operations on single ones."""

    _store: Store
    name: str

    @abstractmethod
    def get(self, doc_id: str, rev: str | None = None) -> Document:
        """Return a document."""

    @abstractmethod
    def put(self, doc_id: str, body: Mapping[str, Any], rev: str | None = None) -> Document:
        """Write a document."""

    @abstractmethod
    def delete(self, doc_id: str, rev: str | None = None) -> Document:
        """Delete a document."""

    @abstractmethod
    def upsert(self, doc_id: str, change: Callable[[dict[str, Any]], Mapping[str, Any] | None]) -> Document | None:
        """Replace a document by what `change` makes of it, unless that is None."""

    @abstractmethod
    def bulk(self, documents: Iterable[Mapping[str, Any]]) -> list[Document | CrdtdbError]:
        """Write many documents in one commit."""

    # Queries

    def find(
        self,
        selector: Mapping[str, Any],
        *,
        fields: Sequence[str] | None = None,
        sort: Sequence[str | Mapping[str, str]] | None = None,
        limit: int | None = None,
        skip: int = 0,
        use_index: str | Sequence[str] | None = None,
        bookmark: str | None = None,
        allow_fallback: bool = True,
    ) -> QueryCursor:
        """Find the documents that a selector of Mango means, and yield them: `for doc in notes.find({"age": {"$gt": 30}})`.

        They come in the order of `sort`, whose fields all go the same way (`["age"]`, `[{"age": "desc"}]`; what lacks one comes
        before what has it), or else as they are read. With `fields` each has only these. An index is used where one serves;
        `use_index` names the design document that it should be of. Without one all documents are read, which `warnings` of what
        is returned tells, and `allow_fallback=False` refuses. Its `bookmark`, after the last one taken, is where another query
        goes on. Raises SelectorError, NoUsableIndexError, BookmarkError, InvalidInputError; TooLargeError, while it yields, if
        too much would have to be sorted in memory, or a $regex takes too long.
        """
        query = check_query(selector, fields, sort, limit, skip, use_index, bookmark, allow_fallback)
        return QueryCursor(self._store, self.name, query)

    def explain(self, selector: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """Return how `find` would answer with the same arguments: the index and its range, the order, what could be better."""
        return explained(self.find(selector, **options), self.name)

    def create_index(
        self,
        fields: Sequence[str | Mapping[str, str]],
        *,
        name: str | None = None,
        ddoc: str | None = None,
        partial: Mapping[str, Any] | None = None,
    ) -> IndexInfo:
        """Make an index over fields, unless there is one, and build it; return it.

        In it are the documents that have all the fields, and match the selector `partial`, if there is one. It is defined by a
        design document, `_design/` and `ddoc`, which is replicated: every node builds its own. Raises InvalidInputError.
        """
        given = {"fields": list(fields), **({"partial_filter_selector": partial} if partial else {})}
        wanted = check_definition(given, ddoc, name)
        self.define_index(wanted)
        while self._store.derived.build(self.name):
            pass
        return next(one for one in self.indexes() if (one.ddoc, one.name) == (wanted.ddoc, wanted.name))

    def define_index(self, wanted: IndexDefinition) -> bool:
        """Put an index into its design document, and leave its building to whoever is first to need it.

        Return whether it wasn't there. Raises InvalidInputError.
        """
        return designs.create(self, wanted)

    def indexes(self) -> list[IndexInfo]:
        """Return the indexes, that over ids first."""
        return designs.listed(self._store, self.name)

    def drop_index(self, ddoc: str, name: str) -> None:
        """Drop an index, here and, by replication, everywhere. Raises NotFoundError."""
        designs.drop(self, ddoc, name)

    def view(
        self,
        name: str,
        function: Callable[[Document], Iterable[tuple[Any, Any]]],
        *,
        reduce: str | None = None,
        version: int | str = 1,
    ) -> PythonView:
        """Return a view: what `function` yields for each document, pairs of a key and a value, in the order of the keys.

        It is kept in this store under its name and version: give another version when the function changes. It follows what
        changed when it is asked. `reduce` is "_count", "_sum", "_stats" or "_approx_count_distinct". Raises InvalidInputError.
        """
        mapper = PythonMapper(name, version, function)
        return PythonView(ViewIndex(self._store, self.name, mapper, reducer_named(reduce)))

    # Changes

    def update_many(
        self,
        selector: Mapping[str, Any],
        change: Mapping[str, Any] | Callable[[dict[str, Any]], Mapping[str, Any] | None],
        *,
        limit: int = 1_000,
        bookmark: str | None = None,
        use_index: str | Sequence[str] | None = None,
    ) -> ChangedMany:
        """Change up to `limit` of the documents that a selector means, some hundred in a commit; return what became of each.

        `change` is a merge patch, or a function of the body that returns another, or None to leave it. The result's
        `bookmark` is where another call goes on, None when all are done. A document that somebody else wrote meanwhile is
        left as that, with a ConflictError as its result. Raises what `find` does.
        """
        wanted = check_patch(change) if isinstance(change, Mapping) else change

        def act(found: list[Document]) -> list[Changed]:
            bodies = [(one, changed_by(wanted, one)) for one in found]
            return self._changed([{**body, "_id": one.id, "_rev": one.rev} for one, body in bodies if body is not None])

        finder = self.find(selector, limit=check_limit(limit), bookmark=bookmark, use_index=use_index)
        return ChangedMany(*in_slices(finder, limit, act))

    def delete_many(
        self,
        selector: Mapping[str, Any],
        *,
        limit: int = 1_000,
        bookmark: str | None = None,
        use_index: str | Sequence[str] | None = None,
    ) -> ChangedMany:
        """Delete up to `limit` of the documents that a selector means, as `update_many` changes them.

        Of a document with siblings the winner is deleted, so another body may show.
        """

        def act(found: list[Document]) -> list[Changed]:
            return self._changed([{"_id": one.id, "_rev": one.rev, "_deleted": True} for one in found])

        finder = self.find(selector, limit=check_limit(limit), bookmark=bookmark, use_index=use_index)
        return ChangedMany(*in_slices(finder, limit, act))

    def _changed(self, bodies: list[dict[str, Any]]) -> list[Changed]:
        return [
            Changed(body["_id"], None, outcome) if isinstance(outcome, CrdtdbError) else Changed(body["_id"], outcome)
            for body, outcome in zip(bodies, self.bulk(bodies), strict=True)
        ]
