"""What CouchDB lacks: /{db}/_conflicts, /{db}/{id}/_siblings, /_resolve and /_history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crdtdb.canonical_json import dump
from crdtdb.clock import iso
from crdtdb.cluster_port import ClusterPort
from crdtdb.couchdb import Trees, parse_document
from crdtdb.couchdb.errors import bad_request, checked_id, checked_rev
from crdtdb.database.collection import Collection
from crdtdb.database.reader import DocumentReader
from crdtdb.documents import Rev
from crdtdb.errors import NotFoundError, UnavailableError
from crdtdb.http.context import cluster_of, collection_of, duty_of, trees_of, writes_of
from crdtdb.http.json_io import JSONAnswer, json_parameter, number, read_object
from crdtdb.http.paths import id_of
from crdtdb.http.resources.documents import named_rev, written
from crdtdb.http.streaming import between, streamed
from crdtdb.threads import QUERIES, READS


async def conflicts(request: Request) -> Response:
    """GET /{db}/_conflicts : every document with more than one body or a conflict of a field, and all its bodies."""
    collection, limit = collection_of(request), number(request, "limit")
    rows = _conflicts(collection, cluster_of(request), trees_of(request))
    return await streamed(QUERIES, between(b'{"rows":[', islice(rows, limit), lambda: b"]}\n"))


def _conflicts(collection: Collection, cluster: ClusterPort, trees: Trees) -> Iterator[Iterator[bytes]]:
    for document in collection.conflicts():
        paths = dump([list(path) for path in document.field_conflicts]) if document.field_conflicts else None
        tail = b',"fields":%b}' % paths if paths is not None else b"}"
        rows = _siblings(cluster, document.id, trees)
        with suppress(NotFoundError):  # deleted in the meantime
            yield _row(document.id, chain([next(rows)], rows), tail)


def _row(doc_id: str, rows: Iterator[tuple[bytes]], tail: bytes) -> Iterator[bytes]:
    return between(b'{"id":%b,"siblings":[' % dump(doc_id), rows, lambda: b"]" + tail)


async def siblings(request: Request) -> Response:
    """GET /{db}/{id}/_siblings : all bodies that a document has, the winner first."""
    collection_of(request)
    trees, doc_id = trees_of(request), checked_id(id_of(request))
    return await streamed(READS, _row(doc_id, _siblings(cluster_of(request), doc_id, trees), b"}\n"))


async def resolve(request: Request) -> JSONAnswer:
    """POST /{db}/{id}/_resolve : replace the siblings that were `seen` by the body; the sibling `rev` alone; or all."""
    body, writes, doc_id = await read_object(request), writes_of(request), checked_id(id_of(request))
    rev, seen = _seen(request, body)
    document = parse_document(
        {key: value for key, value in body.items() if key not in ("_seen", "_rev")} | {"_id": doc_id}
    )
    new = await duty_of(writes).run(writes.resolve, document, rev, seen)
    return written(request, doc_id, new)


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


async def history(request: Request) -> Response:
    """GET /{db}/{id}/_history : every revision that is known here, newest first."""
    collection, doc_id = collection_of(request), checked_id(id_of(request))
    rows = (
        (
            dump(
                {
                    "rev": one.rev,
                    "parent": one.parent,
                    "deleted": one.deleted,
                    "leaf": one.leaf,
                    "time": iso(one.time) if one.time else None,
                    "body": one.body,
                }
            ),
        )
        for one in DocumentReader(trees_of(request).store, collection.name).revisions(doc_id)
    )
    return await streamed(READS, between(b'{"id":%b,"revisions":[' % dump(doc_id), rows, lambda: b"]}\n"))


def _siblings(cluster: ClusterPort, doc_id: str, trees: Trees) -> Iterator[tuple[bytes]]:
    """Yield the siblings, after publishing what isn't: under these names they can then be read."""
    with suppress(UnavailableError):  # a node that isn't ready reads, and writes nothing
        trees.find(doc_id)
    for one in DocumentReader(trees.store, trees.name).siblings(doc_id):
        row = {
            "rev": one.rev,
            "node": cluster.name_of(one.node),
            "time": iso(one.time),
            "clock": {actor.hex(): [list(pair) for pair in ranges] for actor, ranges in sorted(one.clock.items())},
            "body": one.body,
            **({"path": list(one.path)} if one.path else {}),
        }
        yield (dump(row),)


ROUTES = [
    Route("/{db}/_conflicts", conflicts, methods=["GET"]),
    Route("/{db}/{id:path}/_siblings", siblings, methods=["GET"]),
    Route("/{db}/{id:path}/_resolve", resolve, methods=["POST"]),
    Route("/{db}/{id:path}/_history", history, methods=["GET"]),
]
