"""The methods of a collection that query it: find, indexes, views, and updates by a query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from crdtdb.database.document import Document
from crdtdb.database.queries import indexes
from crdtdb.database.queries.cursor import QueryCursor, check_query, explained
from crdtdb.database.queries.indexes import Documents, IndexInfo
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


class QueriedCollection(Documents, Protocol):
    """What updating by queries needs of a collection."""

    def find(
        self,
        selector: Mapping[str, Any],
        *,
        limit: int | None = None,
        bookmark: str | None = None,
        use_index: str | Sequence[str] | None = None,
    ) -> QueryCursor:
        """Return the documents that match a selector."""

    def bulk(self, documents: Iterable[Mapping[str, Any]]) -> list[Document | CrdtdbError]:
        """Write many documents in one commit."""


class IndexedCollection(Documents, Protocol):
    """What creating an index needs of a collection."""

    _store: Store
    name: str

    def indexes(self) -> list[IndexInfo]:
        """Return the indexes."""


class CollectionQueries:
    """The queries, indexes and views of a collection. `crdtdb.database.collection` has the operations on single documents."""

    _store: Store
    name: str

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
        """Return the documents that match a Mango selector: `for doc in notes.find({"age": {"$gt": 30}})`.

        They come in the order of `sort`, whose fields all have the same direction (`["age"]`, `[{"age": "desc"}]`; documents
        without a field come before those with it), or else in the order of the index. `fields` limits each document to these
        paths. A suitable index is used if there is one; `use_index` names the design document that should have it. Without an
        index all documents are read, see `QueryCursor.warnings`; `allow_fallback=False` refuses that. A query continues at the
        `bookmark` of an earlier cursor. Raises SelectorError, NoUsableIndexError, BookmarkError, InvalidInputError;
        TooLargeError, while it yields, if too many documents would have to be sorted in memory, or a $regex takes too long.
        """
        query = check_query(selector, fields, sort, limit, skip, use_index, bookmark, allow_fallback)
        return QueryCursor(self._store, self.name, query)

    def explain(self, selector: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """Return how `find` would answer with the same arguments: the index, its range, the order, advice."""
        return explained(self.find(selector, **options), self.name)

    def create_index(
        self: IndexedCollection,
        fields: Sequence[str | Mapping[str, str]],
        *,
        name: str | None = None,
        ddoc: str | None = None,
        partial: Mapping[str, Any] | None = None,
    ) -> IndexInfo:
        """Create and build an index over fields, unless it exists; return it.

        It has the documents that have all the fields, and match the selector `partial`, if there is one. Its definition is a
        design document, `_design/` and `ddoc`, which is replicated: every node builds its own. Raises InvalidInputError.
        """
        filtered = {"partial_filter_selector": partial} if partial else {}
        definition = check_definition({"fields": list(fields), **filtered}, ddoc, name)
        indexes.create(self, definition)
        while self._store.derived.build(self.name):
            pass
        return next(one for one in self.indexes() if (one.ddoc, one.name) == (definition.ddoc, definition.name))

    def define_index(self: Documents, definition: IndexDefinition) -> bool:
        """Put an index into its design document; the first query that needs it builds it.

        Returns False if the index was there already. Raises InvalidInputError.
        """
        return indexes.create(self, definition)

    def indexes(self) -> list[IndexInfo]:
        """Return the indexes, the one over ids first."""
        return indexes.listed(self._store, self.name)

    def drop_index(self: Documents, ddoc: str, name: str) -> None:
        """Drop an index, here and, by replication, everywhere. Raises NotFoundError."""
        indexes.drop(self, ddoc, name)

    def view(
        self,
        name: str,
        function: Callable[[Document], Iterable[tuple[Any, Any]]],
        *,
        reduce: str | None = None,
        version: int | str = 1,
    ) -> PythonView:
        """Return a view: the pairs of a key and a value that `function` yields for each document, in the order of the keys.

        Its rows are kept in this store under its name and version: give another version when the function changes. They are
        updated when the view is read. `reduce` is "_count", "_sum", "_stats", "_approx_count_distinct",
        "_first", "_last" (the value of the lowest, or highest, key), "_top_N" or "_bottom_N" (the N highest, or lowest, values;
        N up to 100).
        Raises InvalidInputError.
        """
        mapper = PythonMapper(name, version, function)
        return PythonView(ViewIndex(self._store, self.name, mapper, reducer_named(reduce)))

    # Changes

    def update_many(
        self: QueriedCollection,
        selector: Mapping[str, Any],
        change: Mapping[str, Any] | Callable[[dict[str, Any]], Mapping[str, Any] | None],
        *,
        limit: int = 1_000,
        bookmark: str | None = None,
        use_index: str | Sequence[str] | None = None,
    ) -> ChangedMany:
        """Update up to `limit` of the documents that match a selector, a hundred in a commit; return the result of each.

        `change` is a merge patch, or a function of the body that returns another, or None to leave it. Another call continues
        at the `bookmark` of the result, which is None once all are done. A document that was written in the meantime stays as
        it is, with a ConflictError as its result. Raises what `find` raises.
        """
        checked = check_patch(change) if isinstance(change, Mapping) else change

        def update(documents: list[Document]) -> list[Changed]:
            bodies = [(document, changed_by(checked, document)) for document in documents]
            return write_all(
                self,
                [{**body, "_id": document.id, "_rev": document.rev} for document, body in bodies if body is not None],
            )

        cursor = self.find(selector, limit=check_limit(limit), bookmark=bookmark, use_index=use_index)
        return ChangedMany(*in_slices(cursor, limit, update))

    def delete_many(
        self: QueriedCollection,
        selector: Mapping[str, Any],
        *,
        limit: int = 1_000,
        bookmark: str | None = None,
        use_index: str | Sequence[str] | None = None,
    ) -> ChangedMany:
        """Delete up to `limit` of the documents that match a selector, as `update_many` updates them.

        Of a document with siblings the winner is deleted, so another body may show.
        """

        def delete(documents: list[Document]) -> list[Changed]:
            return write_all(self, [{"_id": one.id, "_rev": one.rev, "_deleted": True} for one in documents])

        cursor = self.find(selector, limit=check_limit(limit), bookmark=bookmark, use_index=use_index)
        return ChangedMany(*in_slices(cursor, limit, delete))


def write_all(collection: QueriedCollection, bodies: list[dict[str, Any]]) -> list[Changed]:
    """Write documents in one commit, and return the result of each."""
    return [
        Changed(body["_id"], None, outcome) if isinstance(outcome, CrdtdbError) else Changed(body["_id"], outcome)
        for body, outcome in zip(bodies, collection.bulk(bodies), strict=True)
    ]
