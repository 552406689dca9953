"""What CouchDB lacks: /{db}/_conflicts, /{db}/{id}/_siblings, /_resolve and /_history."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from crdtdb.collection import Collection
from crdtdb.couchdb import Trees, incoming
from crdtdb.couchdb.words import bad_request, checked_id, checked_rev
from crdtdb.documents import Rev
from crdtdb.errors import UnavailableError
from crdtdb.http.answers import JSONAnswer, json_parameter, number, read_object
from crdtdb.http.documents import named_rev, written
from crdtdb.http.paths import id_of
from crdtdb.http.port import ClusterPort
from crdtdb.http.state import cluster_of, collection_of, duty_of, trees_of, writes_of
from crdtdb.threads import QUERIES, READS
from crdtdb.wallclock import iso


async def conflicts(request: Request) -> JSONAnswer:
    """GET /{db}/_conflicts : every document with more than one body or a conflict of a field, and all its bodies."""
    collection, limit = collection_of(request), number(request, "limit")
    rows = await QUERIES.run(lambda: _conflicts(collection, cluster_of(request), limit, trees_of(request)))
    return JSONAnswer({"rows": rows})


def _conflicts(collection: Collection, cluster: ClusterPort, limit: int | None, trees: Trees) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for document in collection.conflicts():
        if limit is not None and len(rows) >= limit:
            break
        row: dict[str, Any] = {"id": document.id, "siblings": _siblings(collection, cluster, document.id, trees)}
        if document.field_conflicts:
            row["fields"] = [list(path) for path in document.field_conflicts]
        rows.append(row)
    return rows


async def siblings(request: Request) -> JSONAnswer:
    """GET /{db}/{id}/_siblings : all bodies that a document has, the winner first."""
    collection, doc_id = collection_of(request), id_of(request)
    return JSONAnswer(
        {
            "id": doc_id,
            "siblings": await READS.run(_siblings, collection, cluster_of(request), doc_id, trees_of(request)),
        }
    )


async def resolve(request: Request) -> JSONAnswer:
    """POST /{db}/{id}/_resolve : replace the siblings that were `seen` by the body; the sibling `rev` alone; or all."""
    body, writes, doc_id = await read_object(request), writes_of(request), checked_id(id_of(request))
    rev, seen = _seen(request, body)
    document = incoming({**{key: value for key, value in body.items() if key != "_seen"}, "_id": doc_id, "_rev": None})
    new = await duty_of(writes).run(writes.resolve, document, rev, seen)
    return written(doc_id, new, 201)


def _seen(request: Request, body: dict[str, Any]) -> tuple[Rev | None, list[Rev] | None]:
    """Return the one sibling that a resolution means, and those that its author saw; None where it doesn't say.

    A body as it was read with `conflicts=true` says so by its `_rev` and `_conflicts`. Raises RefusedError.
    """
    named, seen = named_rev(request), _seen_in_query(request)
    if seen is None:
        seen = body.get("_seen")
    if seen is None and named is None and body.get("_rev") is not None:
        others = body.get("_conflicts")
        if others is None:
            return checked_rev(body["_rev"]), None
        seen = [body["_rev"], *others] if isinstance(others, list) else others
    if seen is None:
        return named, None
    if not isinstance(seen, list) or not seen or named is not None:
        raise bad_request("seen is a JSON array of the revisions of siblings, and rev the revision of one: give either")
    return None, [checked_rev(one) for one in seen]


def _seen_in_query(request: Request) -> Any:
    several = request.query_params.getlist("seen")
    if any(one.startswith("[") for one in several):
        return json_parameter(request, "seen")
    return [rev for one in several for rev in one.split(",")] or None


async def history(request: Request) -> JSONAnswer:
    """GET /{db}/{id}/_history : every revision that is known here, newest first."""
    collection, doc_id = collection_of(request), id_of(request)
    rows = [
        {
            "rev": one.rev,
            "parent": one.parent,
            "deleted": one.deleted,
            "leaf": one.leaf,
            "time": iso(one.time) if one.time else None,
            "body": one.body,
        }
        for one in await READS.run(collection.history, doc_id)
    ]
    return JSONAnswer({"id": doc_id, "revisions": rows})


def _siblings(collection: Collection, cluster: ClusterPort, doc_id: str, trees: Trees) -> list[dict[str, Any]]:
    """List the siblings, after publishing what isn't: under these names they can then be read."""
    with suppress(UnavailableError):  # a node that isn't ready reads, and writes nothing
        trees.find(doc_id)
    return [
        {
            "rev": one.rev,
            "node": cluster.name_of(one.node),
            "time": iso(one.time),
            "clock": {actor.hex(): [list(pair) for pair in ranges] for actor, ranges in sorted(one.clock.items())},
            "body": one.body,
            **({"path": list(one.path)} if one.path else {}),
        }
        for one in collection.siblings(doc_id)
    ]


ROUTES = [
    Route("/{db}/_conflicts", conflicts, methods=["GET"]),
    Route("/{db}/{id:path}/_siblings", siblings, methods=["GET"]),
    Route("/{db}/{id:path}/_resolve", resolve, methods=["POST"]),
    Route("/{db}/{id:path}/_history", history, methods=["GET"]),
]
