"""/{db}/{id}, /{db}/_all_docs, /{db}/_bulk_docs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.routing import Route

from crdtdb.collection import Collection
from crdtdb.document import Document
from crdtdb.errors import CrdtdbError, InvalidInputError
from crdtdb.http.answers import JSONAnswer, flag, number, read_object, text
from crdtdb.http.errors import as_result
from crdtdb.http.state import collection_of, drawn_id, ready


def as_couchdb(document: Document, *, conflicts: bool = False) -> dict[str, Any]:
    """Return a document with its names inside, as CouchDB has it."""
    shown: dict[str, Any] = {"_id": document.id, "_rev": document.rev}
    if document.deleted:
        shown["_deleted"] = True
    shown.update(document)
    if conflicts and document.conflicts:
        shown["_conflicts"] = list(document.conflicts)
    return shown


async def get(request: Request) -> JSONAnswer:
    """GET /{db}/{id} : the winner, or the revision `rev`; with crdt=true which field is of which type."""
    collection, conflicts = collection_of(request), flag(request, "conflicts")
    document = collection.get(request.path_params["id"], request.query_params.get("rev"), crdt=flag(request, "crdt"))
    return JSONAnswer(as_couchdb(document, conflicts=conflicts), headers={"etag": f'"{document.rev}"'})


async def put(request: Request) -> JSONAnswer:
    """PUT /{db}/{id} : write it; the revision that it replaces stands in the body, the query or If-Match."""
    return await put_document(request, request.path_params["id"], await read_object(request))


async def put_document(request: Request, doc_id: str, body: dict[str, Any]) -> JSONAnswer:
    """Write a document, and answer as CouchDB does."""
    ready(request)
    collection = collection_of(request)
    named = body.get("_id", doc_id)
    if named != doc_id:
        raise InvalidInputError(f"the document says that its _id is {str(named)[:80]!r}, the path {doc_id[:80]!r}")
    rev = _rev_in(request) or body.get("_rev")
    if body.get("_deleted"):
        return _written(await to_thread.run_sync(collection.delete, doc_id, rev), 200)
    document = await to_thread.run_sync(collection.put, doc_id, body, rev)
    return _written(document, 201)


async def delete(request: Request) -> JSONAnswer:
    """DELETE /{db}/{id}?rev= : delete one of its siblings."""
    ready(request)
    collection = collection_of(request)
    document = await to_thread.run_sync(collection.delete, request.path_params["id"], _rev_in(request))
    return _written(document, 200)


async def all_documents(request: Request) -> JSONAnswer:
    """GET or POST /{db}/_all_docs : a range of ids, or the `keys` of the body."""
    collection = collection_of(request)
    keys = None
    if request.method == "POST":
        keys = (await read_object(request)).get("keys")
        if keys is not None and (not isinstance(keys, list) or not all(isinstance(key, str) for key in keys)):
            raise InvalidInputError("keys is an array of strings")
    include, conflicts = flag(request, "include_docs"), flag(request, "conflicts")
    rows = await to_thread.run_sync(lambda: _rows(request, collection, keys, include, conflicts))
    return JSONAnswer({"total_rows": len(collection), "offset": number(request, "skip", 0), "rows": rows})


def _rows(
    request: Request, collection: Collection, keys: list[str] | None, include: bool, conflicts: bool
) -> list[dict[str, Any]]:
    if keys is not None:
        return [_row_of_key(collection, key, include, conflicts) for key in keys]
    key = text(request, "key")
    documents: Iterable[Document] = collection.all(
        key if key is not None else text(request, "startkey", "start_key"),
        key if key is not None else text(request, "endkey", "end_key"),
        descending=flag(request, "descending"),
        skip=number(request, "skip", 0) or 0,
        limit=number(request, "limit"),
        inclusive_end=flag(request, "inclusive_end", True),
    )
    return [_row(document, include, conflicts) for document in documents]


def _row(document: Document, include: bool, conflicts: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"id": document.id, "key": document.id, "value": {"rev": document.rev}}
    if include:
        row["doc"] = as_couchdb(document, conflicts=conflicts)
    return row


def _row_of_key(collection: Collection, key: str, include: bool, conflicts: bool) -> dict[str, Any]:
    found = next(iter(collection.all(keys=[key])), None)
    return _row(found, include, conflicts) if found is not None else {"key": key, "error": "not_found"}


async def bulk(request: Request) -> JSONAnswer:
    """POST /{db}/_bulk_docs : many documents in one commit, each with its own result."""
    ready(request)
    collection = collection_of(request)
    body = await read_object(request)
    documents = body.get("docs")
    if not isinstance(documents, list):
        raise InvalidInputError("the body is an object with an array `docs`")
    if body.get("new_edits") is False:
        return JSONAnswer(await to_thread.run_sync(_take, collection, documents), 201)
    named = [{"_id": drawn_id(), **one} if isinstance(one, Mapping) else one for one in documents]
    results = await to_thread.run_sync(collection.bulk, named)
    return JSONAnswer(
        [
            as_result(one.get("_id") if isinstance(one, Mapping) else None, result)
            if isinstance(result, CrdtdbError)
            else {"ok": True, "id": result.id, "rev": result.rev}
            for one, result in zip(named, results, strict=True)
        ],
        201,
    )


def _take(collection: Collection, documents: list[Any]) -> list[dict[str, Any]]:
    """Take revisions made elsewhere; as CouchDB does, answer with those alone that were refused."""
    results = zip(documents, collection.take(documents), strict=True)
    return [
        as_result(one.get("_id") if isinstance(one, Mapping) else None, error)
        for one, error in results
        if error is not None
    ]


def _rev_in(request: Request) -> str | None:
    etag = request.headers.get("if-match")
    return request.query_params.get("rev") or (etag.strip('"') if etag else None)


def _written(document: Document, status: int) -> JSONAnswer:
    return JSONAnswer({"ok": True, "id": document.id, "rev": document.rev}, status, {"etag": f'"{document.rev}"'})


ROUTES = [
    Route("/{db}/_all_docs", all_documents, methods=["GET", "POST"]),
    Route("/{db}/_bulk_docs", bulk, methods=["POST"]),
    Route("/{db}/{id:path}", get, methods=["GET"]),
    Route("/{db}/{id:path}", put, methods=["PUT"]),
    Route("/{db}/{id:path}", delete, methods=["DELETE"]),
]
