"""PATCH /{db}/{id}, /{db}/_update_many and _delete_many: changing some values, and changing what a query finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from crdtdb.couchdb import CouchError, ParsedDocument, Trees, Writes, parse_document
from crdtdb.couchdb.errors import checked_id
from crdtdb.database.commands import merge_patch
from crdtdb.database.document import Document
from crdtdb.database.queries.update_many import check_limit, in_slices
from crdtdb.database.validation import check_patch
from crdtdb.errors import CrdtdbError
from crdtdb.http.context import commit, trees_of, writes_of
from crdtdb.http.errors import as_result
from crdtdb.http.json_io import JSONAnswer, read_object
from crdtdb.http.paths import id_of
from crdtdb.http.resources.documents import named_rev, written
from crdtdb.http.resources.queries import as_found, finder_for
from crdtdb.threads import QUERIES, READS, VALIDATION

_KNOWN = frozenset({"selector", "patch", "limit", "bookmark", "use_index", "allow_fallback"})
_LIMIT = 1_000


async def patch(request: Request) -> JSONAnswer:
    """PATCH /{db}/{id} : a JSON merge patch, on the revision that is named, or on what is there."""
    trees, writes, doc_id = trees_of(request), writes_of(request), checked_id(id_of(request))
    wanted, named = check_patch(await read_object(request)), named_rev(request)
    await READS.run(trees.get, doc_id)  # publishes it, as clients of CouchDB must have read what they patch
    return written(request, doc_id, await commit(request, writes, writes.patching(doc_id, wanted, named)))


async def update_many(request: Request) -> JSONAnswer:
    """POST /{db}/_update_many : apply a merge patch to some of the documents that a selector means, with a result for each."""
    body = await read_object(request)
    if "patch" not in body:
        raise CouchError(400, "missing_required_key", "Missing required key: patch")
    wanted = check_patch(body["patch"])
    return await _change(request, body, lambda told: merge_patch(told, wanted))


async def delete_many(request: Request) -> JSONAnswer:
    """POST /{db}/_delete_many : delete some of the documents that a selector means, with a result for each."""
    return await _change(
        request, await read_object(request), lambda told: {"_id": told["_id"], "_rev": told["_rev"], "_deleted": True}
    )


async def _change(
    request: Request, body: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]
) -> JSONAnswer:
    for key in body:
        if key not in _KNOWN:
            raise CouchError(400, "invalid_key", f"Invalid key {key[:80]} for this request.")
    trees, writes, limit = trees_of(request), writes_of(request), check_limit(body.get("limit", _LIMIT))

    def work() -> dict[str, Any]:
        finder = finder_for(request, {**body, "limit": limit})
        results, bookmark = in_slices(finder, limit, lambda found: _changed(trees, writes, found, change))
        failed = sum(1 for one in results if "error" in one)
        return {"results": results, "changed": len(results) - failed, "failed": failed, "bookmark": bookmark or "nil"}

    return JSONAnswer(await (VALIDATION if writes.guarded else QUERIES).run(work))


def _changed(
    trees: Trees, writes: Writes, found: list[Document], change: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[dict[str, Any]]:
    told = [one[0] for one in (as_found(trees, document) for document in found) if one is not None]
    documents = [_parsed(change(one)) for one in told]
    outcomes = writes.bulk(documents, new_edits=True)
    return [
        as_result(one["_id"], outcome)
        if isinstance(outcome, CrdtdbError)
        else {"ok": True, "id": outcome[0], "rev": str(outcome[1])}
        for one, outcome in zip(told, outcomes, strict=True)
    ]


def _parsed(body: dict[str, Any]) -> ParsedDocument | CrdtdbError:
    try:
        return parse_document(body)
    except CrdtdbError as error:
        return error


ROUTES = [
    Route("/{db}/_update_many", update_many, methods=["POST"]),
    Route("/{db}/_delete_many", delete_many, methods=["POST"]),
    Route("/{db}/_design/{design}", patch, methods=["PATCH"]),
    Route("/{db}/{id}", patch, methods=["PATCH"]),
]
