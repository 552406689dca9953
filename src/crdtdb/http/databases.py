"""/, /_up, /_cluster, /_all_dbs, and /{db}: CouchDB's databases are crdtdb's collections."""

from __future__ import annotations

from anyio import to_thread
from starlette.requests import Request
from starlette.routing import Route

from crdtdb.database import Database
from crdtdb.http.answers import JSONAnswer, read_object
from crdtdb.http.documents import put_document
from crdtdb.http.errors import RefusedError
from crdtdb.http.state import cluster_of, collection_of, database_of, drawn_id, ready


async def welcome(request: Request) -> JSONAnswer:
    """GET / : who answers."""
    from crdtdb import __version__

    return JSONAnswer(
        {
            "couchdb": "Welcome",
            "version": __version__,
            "uuid": cluster_of(request).cluster,
            "features": [],
            "vendor": {"name": "crdtdb", "version": __version__},
        }
    )


async def up(request: Request) -> JSONAnswer:
    """GET /_up : whether writes are taken."""
    why_not = cluster_of(request).why_not_ready
    if why_not is None:
        return JSONAnswer({"status": "ok"})
    return JSONAnswer({"status": "starting", "reason": why_not}, 404)


async def cluster(request: Request) -> JSONAnswer:
    """GET /_cluster : the members, and how far each is."""
    return JSONAnswer(cluster_of(request).status())


async def all_databases(request: Request) -> JSONAnswer:
    """GET /_all_dbs : the names."""
    return JSONAnswer(database_of(request).collections())


async def create(request: Request) -> JSONAnswer:
    """PUT /{db} : make it."""
    ready(request)
    name = request.path_params["db"]
    if not await to_thread.run_sync(database_of(request).create, name):
        raise RefusedError(412, "file_exists", "The database could not be created, the file already exists.")
    return JSONAnswer({"ok": True}, 201, {"location": f"/{name}"})


async def information(request: Request) -> JSONAnswer:
    """GET /{db} : its counts."""
    collection = collection_of(request)
    counts = database_of(request).store.collection(collection.name)
    return JSONAnswer(
        {
            "db_name": collection.name,
            "doc_count": counts.documents,
            "doc_del_count": counts.deleted,
            "update_seq": counts.seq,
            "purge_seq": 0,
            "instance_start_time": "0",
            "compact_running": False,
            "disk_format_version": 1,
        }
    )


async def drop(request: Request) -> JSONAnswer:
    """DELETE /{db} : drop it, everywhere."""
    ready(request)
    collection = collection_of(request)
    database: Database = database_of(request)
    await to_thread.run_sync(database.drop, collection.name)
    return JSONAnswer({"ok": True})


async def add(request: Request) -> JSONAnswer:
    """POST /{db} : a document whose id is drawn, unless it has one."""
    body = await read_object(request)
    doc_id = body.get("_id")
    return await put_document(request, doc_id if isinstance(doc_id, str) else drawn_id(), body)


async def digest(request: Request) -> JSONAnswer:
    """GET /{db}/_digest : equal on two nodes if they hold the same."""
    collection = collection_of(request)
    found = await to_thread.run_sync(collection.digest)
    return JSONAnswer({"db_name": collection.name, "digest": found})


ROUTES = [
    Route("/", welcome, methods=["GET"]),
    Route("/_up", up, methods=["GET"]),
    Route("/_cluster", cluster, methods=["GET"]),
    Route("/_all_dbs", all_databases, methods=["GET"]),
    Route("/{db}/_digest", digest, methods=["GET"]),
    Route("/{db}", create, methods=["PUT"]),
    Route("/{db}", information, methods=["GET"]),
    Route("/{db}", drop, methods=["DELETE"]),
    Route("/{db}", add, methods=["POST"]),
]
