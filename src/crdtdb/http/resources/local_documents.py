"""/{db}/_local/{id}: what a client keeps beside the documents, such as its checkpoints."""

from __future__ import annotations

from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from crdtdb.couchdb import delete_local, get_local, put_local
from crdtdb.couchdb.errors import bad_request, missing
from crdtdb.couchdb.local_documents import local_rows
from crdtdb.http.context import collection_of, database_of, ready
from crdtdb.http.json_io import JSONAnswer, flag, json_parameter, number, read_body, read_optional_object
from crdtdb.http.paths import id_of, url_of
from crdtdb.threads import COMMITS, QUERIES, READS


async def get(request: Request) -> JSONAnswer:
    """GET /{db}/_local/{id} : the newest that speaks of nothing which isn't here."""
    name = collection_of(request).name
    if request.query_params.keys() & {"rev", "open_revs"}:
        raise missing()  # it has no revisions but the one that is there
    found = await READS.run(get_local, database_of(request).store, name, id_of(request))
    if flag(request, "revs"):
        found["_revisions"] = {"start": 0, "ids": [found["_rev"].removeprefix("0-")]}
    return JSONAnswer(found, headers={"etag": f'"{found["_rev"]}"'})


async def put(request: Request) -> JSONAnswer:
    """PUT /{db}/_local/{id} : write it."""
    name, body = collection_of(request).name, await read_body(request)
    return await write(request, name, id_of(request), body)


async def write(request: Request, name: str, doc_id: str, body: Any) -> JSONAnswer:
    """Write a local document, whatever the request's own path, and answer as CouchDB does."""
    ready(request)
    etag = request.headers.get("if-match")
    named = request.query_params.get("rev") or (etag.strip('"') if etag else None)
    rev = await COMMITS.run(put_local, database_of(request).store, name, doc_id, body, named)
    if request.query_params.get("new_edits") == "false" and isinstance(body.get("_rev"), str):
        rev = body["_rev"]
    status = 200 if body.get("_deleted") is True else 201
    headers = {"etag": f'"{rev}"', "location": url_of(request, name, doc_id)}
    return JSONAnswer({"ok": True, "id": doc_id, "rev": rev}, status, headers)


async def delete(request: Request) -> JSONAnswer:
    """DELETE /{db}/_local/{id} : delete it."""
    ready(request)
    name, doc_id = collection_of(request).name, id_of(request)
    rev = await COMMITS.run(delete_local, database_of(request).store, name, doc_id)
    return JSONAnswer({"ok": True, "id": doc_id, "rev": rev}, 200, {"etag": f'"{rev}"'})


async def copy(request: Request) -> JSONAnswer:
    """COPY /{db}/_local/{id} : write what it is under another id."""
    from crdtdb.http.resources.documents import destination, put_copy

    name = collection_of(request).name
    found = await READS.run(get_local, database_of(request).store, name, id_of(request))
    target, over = destination(request)
    return await put_copy(request, target, over, {key: one for key, one in found.items() if not key.startswith("_")})


async def nameless(_: Request) -> JSONAnswer:
    """/{db}/_local : names no document."""
    raise bad_request("Invalid _local document id.")


async def attachment(_: Request) -> JSONAnswer:
    """/{db}/_local/{id}/{attachment} : local documents have none."""
    raise bad_request("_local documents do not accept attachments.")


async def all_locals(request: Request) -> JSONAnswer:
    """GET or POST /{db}/_local_docs : their ids and revisions; those of `keys`, or all."""
    name, store = collection_of(request).name, database_of(request).store
    body = await read_optional_object(request) if request.method == "POST" else {}
    key = json_parameter(request, "key")
    keys = [key] if key is not None else body.get("keys", json_parameter(request, "keys"))
    if keys is not None and not isinstance(keys, list):
        raise bad_request("`keys` parameter must be an array.")
    skip, limit = number(request, "skip", 0) or 0, number(request, "limit")
    with_documents, descending = flag(request, "include_docs"), flag(request, "descending")

    def read() -> list[dict[str, Any]]:
        rows = local_rows(store, name, keys, descending)
        found = list(islice(rows, skip, None if limit is None else skip + limit))
        return [
            {**row, "doc": get_local(store, name, row["id"])} if with_documents and "id" in row else row
            for row in found
        ]

    return JSONAnswer({"total_rows": None, "offset": None, "rows": await QUERIES.run(read)})


ROUTES = [
    Route("/{db}/_local_docs", all_locals, methods=["GET", "POST"]),
    Route("/{db}/_local", nameless, methods=["GET", "PUT", "DELETE"]),
    Route("/{db}/_local/{local}/{attachment:path}", attachment, methods=["GET", "PUT", "DELETE"]),
    Route("/{db}/_local/{local}", get, methods=["GET"]),
    Route("/{db}/_local/{local}", put, methods=["PUT"]),
    Route("/{db}/_local/{local}", delete, methods=["DELETE"]),
    Route("/{db}/_local/{local}", copy, methods=["COPY"]),
]
