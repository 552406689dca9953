"""/{db}/_find, _explain and _index: queries of Mango, as CouchDB takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crdtdb.canonical_json import canonical_merged, dump
from crdtdb.clock import monotonic_seconds
from crdtdb.couchdb import CouchError, Options, Trees
from crdtdb.couchdb.errors import bad_request
from crdtdb.database.document import Document
from crdtdb.database.queries.cursor import QueryCursor, check_query, explained, project
from crdtdb.errors import CrdtdbError, InvalidInputError, NotFoundError
from crdtdb.http.context import collection_of, ready, trees_of
from crdtdb.http.errors import words
from crdtdb.http.json_io import JSONAnswer, read_object
from crdtdb.http.paths import part
from crdtdb.http.streaming import between, streamed
from crdtdb.limits import FIND_LIMIT
from crdtdb.query.definitions import DESIGN, check_definition
from crdtdb.store import Record
from crdtdb.threads import COMMITS, QUERIES

_IGNORED = frozenset({"r", "update", "stable", "stale", "partition"})
"""What CouchDB takes to choose among its copies and how fresh they are: here there is one, and it is fresh."""
_KNOWN = frozenset(
    {
        "selector",
        "fields",
        "sort",
        "limit",
        "skip",
        "use_index",
        "bookmark",
        "allow_fallback",
        "conflicts",
        "execution_stats",
        "count",
    }
)


async def find(request: Request) -> Response:
    """POST /{db}/_find : the documents that a selector means, in pages with a bookmark; or, with `count`, how many they are."""
    trees, body = trees_of(request), _known(await read_object(request), _KNOWN)
    counting, wants_stats = _flag(body, "count"), _flag(body, "execution_stats")
    options = Options(conflicts=_flag(body, "conflicts"))
    begun = monotonic_seconds()
    finder = await QUERIES.run(finder_for, request, {**body, "fields": None, "limit": _limit(body, counting)})
    fields = check_query({}, body.get("fields")).fields

    def rest() -> dict[str, Any]:
        told: dict[str, Any] = {"bookmark": finder.bookmark or "nil"}
        if finder.warnings:
            told["warning"] = "\n".join(finder.warnings)
        if wants_stats:
            told["execution_stats"] = _stats(finder, monotonic_seconds() - begun)
        return told

    if counting:
        number = await QUERIES.run(lambda: sum(1 for _ in finder))
        return JSONAnswer({"count": number, **rest()})
    found = ((_written(one, fields),) for one in found_documents(trees, finder, options))
    return await streamed(QUERIES, between(b'{"docs":[\n', found, lambda: b"\n]," + dump(rest())[1:] + b"\n"))


def found_documents(trees: Trees, cursor: QueryCursor, options: Options) -> Iterator[dict[str, Any]]:
    """Yield the documents of a query as CouchDB has them, in the state in which they were found.

    A document that must be published first is read again, and left out if it doesn't match any more.
    """
    for document in cursor:
        found = as_found(trees, document, options)
        if found is not None and (found[1] or cursor.query.selector(found[0])):
            yield found[0]


def as_found(
    trees: Trees,
    document: Document,
    options: Options = Options(),  # noqa: B008 - a value
) -> tuple[dict[str, Any], bool] | None:
    """Return a document as CouchDB has it, and whether it is as it was found: else it was published, and read again.

    None if it was deleted before it could be published, or its collection was dropped together with its texts.
    """
    try:
        for tree in trees.trees([(document.id, Record.of(0, document.state))]):
            return None if tree.deleted else (tree.document(None, options), tree.state is document.state)
    except NotFoundError:
        return None
    return None


def _written(document: dict[str, Any], fields: tuple[str, ...] | None) -> bytes:
    return dump(document if fields is None else project(document, fields))


def finder_for(request: Request, body: Mapping[str, Any]) -> QueryCursor:
    """Return the query that a request's body describes. Raises RefusedError and what `check_query` does."""
    if "selector" not in body:
        raise CouchError(400, "missing_required_key", "Missing required key: selector")
    if body.get("allow_fallback") is False and not body.get("use_index"):
        raise CouchError(400, "invalid_index", "You must specify an index with the `use_index` parameter.")
    query = check_query(
        body["selector"],
        body.get("fields"),
        body.get("sort"),
        body.get("limit"),
        body.get("skip") or 0,
        body.get("use_index"),
        body.get("bookmark"),
        body.get("allow_fallback", True),
    )
    trees = trees_of(request)
    return QueryCursor(trees.store, trees.name, query)


def _known(body: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    for key in body:
        if key not in known and key not in _IGNORED:
            raise CouchError(400, "invalid_key", f"Invalid key {key[:80]} for this request.")
    for name, fault in (("limit", "invalid_non_neg_integer"), ("fields", "invalid_fields")):
        if name in body and body[name] is None:
            raise CouchError(400, fault, f"`{name}` can't be null")
    if "r" in body and (type(body["r"]) is not int or body["r"] < 1):
        raise CouchError(400, "invalid_pos_integer", f"{str(body['r'])[:80]} is not an integer greater than zero")
    for name in ("update", "stable"):
        _flag(body, name)
    return body


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise CouchError(400, "invalid_boolean", f"Invalid boolean value: {str(value)[:80]}")
    return value


def _limit(body: Mapping[str, Any], counting: bool) -> Any:
    limit = body.get("limit")
    return (None if counting else FIND_LIMIT) if limit is None else limit


def _stats(finder: QueryCursor, seconds: float) -> dict[str, Any]:
    return {
        "total_keys_examined": finder.statistics.keys_examined,
        "total_docs_examined": finder.statistics.docs_examined,
        "total_quorum_docs_examined": 0,
        "results_returned": finder.statistics.results,
        "execution_time_ms": round(seconds * 1000, 3),
    }


async def explain(request: Request) -> JSONAnswer:
    """POST /{db}/_explain : how `_find` would answer the same: through which index, in which range, in which order."""
    name, body = collection_of(request).name, _known(await read_object(request), _KNOWN)
    canonical_merged(body.get("selector"))  # it is written back as it came, unless it is nested too deeply
    finder = await QUERIES.run(finder_for, request, {**body, "limit": _limit(body, False)})
    return JSONAnswer(explained(finder, name))


async def list_indexes(request: Request) -> JSONAnswer:
    """GET /{db}/_index : the indexes, that over ids first."""
    found = collection_of(request).indexes()
    return JSONAnswer({"total_rows": len(found), "indexes": [one.json for one in found]})


async def create_index(request: Request) -> JSONAnswer:
    """POST /{db}/_index : make an index, as a design document, unless there is one."""
    collection, body = collection_of(request), await read_object(request)
    ready(request)
    given = body.get("index", body.get("def"))
    if given is None:
        raise CouchError(400, "missing_required_key", "Missing required key: index")
    if body.get("type", "json") != "json":
        raise CouchError(
            400, "invalid_index", f"there are indexes of type json, and none of {str(body['type'])[:40]!r}"
        )
    wanted = check_definition(given, _name(body, "ddoc"), _name(body, "name"))
    made = await COMMITS.run(collection.define_index, wanted)
    return JSONAnswer({"result": "created" if made else "exists", "id": wanted.ddoc, "name": wanted.name})


def _name(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidInputError(f"`{name}` is a string")
    return value or None


async def delete_index(request: Request) -> JSONAnswer:
    """DELETE /{db}/_index/{ddoc}/json/{name} : drop an index, here and everywhere."""
    collection = collection_of(request)
    ready(request)
    ddoc = part(request, "design") if "design" in request.path_params else part(request, "ddoc")
    await COMMITS.run(collection.drop_index, ddoc, part(request, "name"))
    return JSONAnswer({"ok": True})


async def delete_indexes(request: Request) -> JSONAnswer:
    """POST /{db}/_index/_bulk_delete : drop all indexes of some design documents."""
    collection, body = collection_of(request), await read_object(request)
    ready(request)
    ddocs = body.get("docids")
    if not isinstance(ddocs, list) or not all(isinstance(one, str) for one in ddocs):
        raise bad_request("`docids` is an array of ids of design documents")
    done: dict[str, list[dict[str, Any]]] = {"success": [], "fail": []}
    for ddoc in ddocs:
        try:
            await COMMITS.run(_drop_all, collection.indexes, collection.drop_index, ddoc)
            done["success"].append({"id": ddoc, "ok": True})
        except CrdtdbError as error:
            done["fail"].append({"id": ddoc, "error": words(error)[1], "reason": words(error)[2]})
    return JSONAnswer(done)


def _drop_all(indexes: Callable[[], list[Any]], drop: Callable[[str, str], None], ddoc: str) -> None:
    wanted = ddoc if ddoc.startswith(DESIGN) else DESIGN + ddoc
    found = [one for one in indexes() if one.ddoc == wanted]
    if not found:
        raise NotFoundError(f"there is no index of {wanted!r}")
    for one in found:
        drop(wanted, one.name)


ROUTES = [
    Route("/{db}/_find", find, methods=["POST"]),
    Route("/{db}/_explain", explain, methods=["POST"]),
    Route("/{db}/_index", list_indexes, methods=["GET"]),
    Route("/{db}/_index", create_index, methods=["POST"]),
    Route("/{db}/_index/_bulk_delete", delete_indexes, methods=["POST"]),
    Route("/{db}/_index/_design/{design}/json/{name}", delete_index, methods=["DELETE"]),
    Route("/{db}/_index/{ddoc}/json/{name}", delete_index, methods=["DELETE"]),
]
