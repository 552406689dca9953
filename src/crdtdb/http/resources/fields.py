"""Fields over HTTP: /{db}/{id}/_edit, /{db}/{id}/_why and /{db}/_schema."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from crdtdb.cluster_port import ClusterPort
from crdtdb.database.collection import Collection
from crdtdb.database.document import Document
from crdtdb.errors import InvalidInputError
from crdtdb.http.context import cluster_of, collection_of, database_of, guard_of, ready
from crdtdb.http.json_io import JSONAnswer, flag, read_object
from crdtdb.http.paths import id_of
from crdtdb.threads import COMMITS, READS, VALIDATION

_OF_DOCUMENTS = frozenset({"body", "value", "kept_beside", "shown_instead"})


async def edit(request: Request) -> JSONAnswer:
    """POST /{db}/{id}/_edit : a list of operations on fields, in one commit."""
    ready(request)
    collection, doc_id = collection_of(request), id_of(request)
    body = await read_object(request)
    operations, rev = body.get("operations"), body.get("rev", request.query_params.get("rev"))
    if not isinstance(operations, list) or set(body) - {"operations", "rev"}:
        raise InvalidInputError("the body is an object with an array `operations` and, if it is to be checked, a `rev`")
    guard = guard_of(request)
    if guard is not None:
        collection = Collection(database_of(request).store, collection.name, guard)
    written = await (COMMITS if guard is None else VALIDATION).run(_edit, collection, doc_id, operations, rev)
    return JSONAnswer({"ok": True, "id": doc_id, "rev": written.rev}, 201, {"etag": f'"{written.rev}"'})


def _edit(collection: Collection, doc_id: str, operations: list[Any], rev: str | None) -> Document:
    with collection.edit(doc_id, rev) as document:
        document.perform(operations)
    written: Document = document.written
    return written


async def why(request: Request) -> JSONAnswer:
    """GET /{db}/{id}/_why : everything that made the document what it shows."""
    collection, doc_id = collection_of(request), id_of(request)
    cluster = cluster_of(request)
    return await READS.run(lambda: JSONAnswer(_explained(collection, cluster, doc_id)))


def _explained(collection: Collection, cluster: ClusterPort, doc_id: str) -> dict[str, Any]:
    explained = collection.why(doc_id)
    explained["names"] = {actor: cluster.name_of(actor) for actor in sorted(_actors(explained))}
    return explained


def _actors(value: Any) -> set[str]:
    """Return the actors that an explanation names, but for what documents hold."""
    if isinstance(value, dict):
        found = {value["node"]} if isinstance(value.get("node"), str) else set()
        for key in ("clock", "vector"):
            found.update(value.get(key) or ())
        return found.union(*(_actors(one) for key, one in value.items() if key not in _OF_DOCUMENTS))
    return set().union(*(_actors(one) for one in value)) if isinstance(value, list) else set()


async def schema(request: Request) -> JSONAnswer:
    """GET /{db}/_schema : which fields are declared."""
    return JSONAnswer(collection_of(request).schema())


async def declare(request: Request) -> JSONAnswer:
    """PUT /{db}/_schema : declare fields, as objects of types' names; with replace=true over what is declared."""
    ready(request)
    collection = collection_of(request)
    body, replace = await read_object(request), flag(request, "replace")
    declared = await COMMITS.run(lambda: collection.declare(body, replace=replace))
    return JSONAnswer({"ok": True, "schema": declared}, 201)


ROUTES = [
    Route("/{db}/_schema", schema, methods=["GET"]),
    Route("/{db}/_schema", declare, methods=["PUT"]),
    Route("/{db}/{id:path}/_edit", edit, methods=["POST"]),
    Route("/{db}/{id:path}/_why", why, methods=["GET"]),
]
