"""/{db}/_local/{id}: what a client keeps beside the documents, such as its checkpoints."""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import Route

from crdtdb.couchdb import delete_local, get_local, local_ids, put_local
from crdtdb.http.context import collection_of, database_of, ready
from crdtdb.http.json_io import JSONAnswer, read_body
from crdtdb.http.paths import id_of
from crdtdb.threads import COMMITS, QUERIES, READS


async def get(request: Request) -> JSONAnswer:
    """GET /{db}/_local/{id} : the newest that speaks of nothing which isn't here."""
    name = collection_of(request).name
    return JSONAnswer(await READS.run(get_local, database_of(request).store, name, id_of(request)))


async def put(request: Request) -> JSONAnswer:
    """PUT /{db}/_local/{id} : write it."""
    ready(request)
    name, body = collection_of(request).name, await read_body(request)
    doc_id, named = id_of(request), request.query_params.get("rev")
    rev = await COMMITS.run(put_local, database_of(request).store, name, doc_id, body, named)
    return JSONAnswer({"ok": True, "id": doc_id, "rev": rev}, 201)


async def delete(request: Request) -> JSONAnswer:
    """DELETE /{db}/_local/{id} : delete it."""
    ready(request)
    name, doc_id = collection_of(request).name, id_of(request)
    rev = await COMMITS.run(delete_local, database_of(request).store, name, doc_id)
    return JSONAnswer({"ok": True, "id": doc_id, "rev": rev}, 200)


async def all_locals(request: Request) -> JSONAnswer:
    """GET /{db}/_local_docs : their ids and revisions."""
    name = collection_of(request).name
    found = await QUERIES.run(lambda: list(local_ids(database_of(request).store, name)))
    rows = [{"id": doc_id, "key": doc_id, "value": {"rev": rev}} for doc_id, rev in found]
    return JSONAnswer({"total_rows": None, "offset": None, "rows": rows})


ROUTES = [
    Route("/{db}/_local_docs", all_locals, methods=["GET"]),
    Route("/{db}/_local/{local}", get, methods=["GET"]),
    Route("/{db}/_local/{local}", put, methods=["PUT"]),
    Route("/{db}/_local/{local}", delete, methods=["DELETE"]),
]
