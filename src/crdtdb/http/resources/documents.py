"""/{db}/{id}: one document, whichever of its revisions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crdtdb.couchdb import Options, ParsedDocument, Tree, Trees, incoming
from crdtdb.couchdb.errors import bad_request, checked_id, checked_rev, missing
from crdtdb.couchdb.parsing import compressed
from crdtdb.documents import Rev
from crdtdb.errors import ConflictError
from crdtdb.http.context import collection_of, commit, name_of, trees_of, writes_of
from crdtdb.http.json_io import JSONAnswer, flag, json_parameter, read_body
from crdtdb.http.multipart import mixed, read_related, related, wants
from crdtdb.http.paths import id_of, url_of
from crdtdb.http.streaming import Writer, between, streamed
from crdtdb.threads import ATTACHMENTS, QUERIES, READS


def options_of(request: Request) -> Options:
    """Return what a request wants in its documents. Raises RefusedError."""
    meta = flag(request, "meta")
    since = json_parameter(request, "atts_since")
    if since is not None and not isinstance(since, list):
        raise bad_request("atts_since is a JSON array of revisions")
    return Options(
        revs=flag(request, "revs"),
        revs_info=meta or flag(request, "revs_info"),
        conflicts=meta or flag(request, "conflicts"),
        deleted_conflicts=meta or flag(request, "deleted_conflicts"),
        local_seq=flag(request, "local_seq") or flag(request, "update_seq"),
        attachments=flag(request, "attachments") or since is not None,
        atts_since=frozenset(map(checked_rev, since or ())),
        encodings=flag(request, "att_encoding_info"),
        crdt=flag(request, "crdt"),
    )


async def get(request: Request) -> Response:
    """GET /{db}/{id} : the winner, or the revision `rev`, or several by `open_revs`."""
    trees, doc_id, options = trees_of(request), checked_id(id_of(request)), options_of(request)
    if "open_revs" in request.query_params:
        return await _open_revs(request, trees, doc_id, options)
    rev = checked_rev(request.query_params["rev"]) if "rev" in request.query_params else None
    latest = flag(request, "latest")
    boundary = wants(request, "multipart/related") if options.attachments else None
    writer = Writer(trees.store)
    options = options._replace(mark=writer.mark, parts=boundary is not None)

    def read(at_hand: Tree | None = None) -> tuple[Rev, dict[str, Any]]:
        tree = at_hand or trees.get(doc_id)
        chosen = rev if rev is not None else tree.winner.leaf.rev
        if rev is None and tree.deleted:
            raise missing(deleted=True)
        if latest and rev is not None:
            chosen = next((one.leaf.rev for one in tree.descendants(rev)), rev)
        return chosen, tree.document(chosen, options)

    # The winner alone is read in less time than another thread needs to begin.
    alone = rev is None and not (options.revs or options.revs_info or options.attachments)
    at_hand = trees.at_hand(doc_id) if alone else None
    chosen, document = read(at_hand) if at_hand is not None else await READS.run(read)
    if boundary is not None and document.get("_attachments"):
        return related(trees.store, document, boundary)
    # What isn't the revision's own has no ETag: it changes, and the revision doesn't.
    changing = options.revs_info or options.conflicts or options.deleted_conflicts or options.local_seq
    headers = {} if changing else {"etag": f'"{chosen}"'}
    if headers and is_known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    if not options.attachments:
        return JSONAnswer(document, headers=headers)
    return await streamed(ATTACHMENTS, chain(writer.pieces(document), [b"\n"]), headers)


async def _open_revs(request: Request, trees: Trees, doc_id: str, options: Options) -> Response:
    asked = request.query_params["open_revs"]
    revs = None if asked == "all" else json_parameter(request, "open_revs")
    if revs is not None and (not isinstance(revs, list) or not all(isinstance(one, str) for one in revs)):
        raise bad_request("open_revs is all, or a JSON array of revisions")
    latest = flag(request, "latest")
    writer, boundary = Writer(trees.store), wants(request, "multipart/mixed")
    # CouchDB's replicator asks for parts without `attachments=true`, and expects them.
    wanted = options._replace(attachments=True, parts=True) if boundary else options._replace(mark=writer.mark)
    found = open_revs(trees, doc_id, revs, wanted, latest)
    if boundary is None:
        return await streamed(QUERIES, between(b"[", map(writer.pieces, found), lambda: b"]\n"))
    first = await QUERIES.run(next, found, None)
    rows = chain([first], found) if first is not None else iter(())
    return mixed(trees.store, rows, boundary)


def open_revs(
    trees: Trees, doc_id: str, revs: list[str] | None, options: Options, latest: bool
) -> Iterator[dict[str, Any]]:
    """Yield leaves, or the revisions that are named, each as `ok` or as `missing`. Raises RefusedError at the first step."""
    tree = trees.find(doc_id)
    if revs is None:
        if tree is None:
            raise missing()
        yield from ({"ok": tree.document(one.leaf.rev, options)} for one in tree.leaves)
        return
    told: set[Rev] = set()
    for text, rev in [(text, checked_rev(text)) for text in revs]:
        chosen = [one.leaf.rev for one in tree.descendants(rev)] if tree is not None and latest else []
        for one in chosen or [rev]:
            row = _revision(tree, one, options)
            if row is not None and one in told:
                continue
            told.add(one)
            yield {"ok": row} if row is not None else {"missing": text}


def _revision(tree: Tree | None, rev: Rev, options: Options) -> dict[str, Any] | None:
    try:
        return tree.document(rev, options) if tree is not None else None
    except type(missing()):
        return None


def is_known(request: Request, etag: str) -> bool:
    """Whether a request knows what has this ETag: `If-None-Match` lists it, as a weak one too, or has a `*` (RFC 9110)."""
    known = [one.strip() for one in request.headers.get("if-none-match", "").split(",")]
    return "*" in known or etag in [one.removeprefix("W/") for one in known]


async def put(request: Request) -> JSONAnswer:
    """PUT /{db}/{id} : write it; the revision that it replaces stands in the body, the query or If-Match."""
    collection_of(request)
    doc_id = checked_id(id_of(request))
    if request.headers.get("content-type", "").startswith("multipart/related"):
        document, uploads = await read_related(request, doc_id)
    else:
        document, uploads = incoming(await read_body(request), doc_id), None
    try:
        if document.doc_id != doc_id:
            raise bad_request("Document ID in the body must match the one in the URL.")
        if uploads is not None:
            document = await ATTACHMENTS.run(uploads.fill, document)
        return await write_document(request, document)
    finally:
        if uploads is not None:
            await ATTACHMENTS.run(uploads.let_go)


async def write_document(request: Request, document: ParsedDocument) -> JSONAnswer:
    """Write a document, and answer as CouchDB does."""
    writes = writes_of(request)
    named = named_rev(request)
    if named is not None and document.rev is not None and named != document.rev and not document.ancestors:
        raise bad_request("Document rev from request body and query string have different values")
    if document.attachments:
        document = await ATTACHMENTS.run(compressed, document)
    if request.query_params.get("new_edits") == "false":
        work = writes.taking(document)
    else:
        work = writes.writing(document._replace(rev=document.rev or named))
    return written(request, document.doc_id, await commit(request, writes, work))


async def delete(request: Request) -> JSONAnswer:
    """DELETE /{db}/{id}?rev= : delete one of its siblings."""
    writes, doc_id, rev = writes_of(request), checked_id(id_of(request)), named_rev(request)
    if rev is None:
        tree = await READS.run(trees_of(request).find, doc_id)
        if tree is not None and not tree.deleted:
            raise ConflictError(doc_id, None, ())
    work = writes.writing(incoming({"_id": doc_id, "_deleted": True})._replace(rev=rev))
    rev = await commit(request, writes, work)
    return JSONAnswer({"ok": True, "id": doc_id, "rev": str(rev)}, 200, {"etag": f'"{rev}"'})


def named_rev(request: Request) -> Rev | None:
    """Return the revision that a request names in its query or in If-Match. Raises RefusedError."""
    etag = request.headers.get("if-match")
    named = request.query_params.get("rev") or (etag.strip('"') if etag else None)
    return checked_rev(named) if named else None


def written(request: Request, doc_id: str, rev: object, status: int = 201) -> JSONAnswer:
    """Answer that a document is written, and where it is."""
    headers = {"etag": f'"{rev}"', "location": url_of(request, name_of(request), doc_id)}
    return JSONAnswer({"ok": True, "id": doc_id, "rev": str(rev)}, status, headers)


_ENDPOINTS = (("GET", get), ("PUT", put), ("DELETE", delete))

ROUTES = [
    Route(path, endpoint, methods=[method])
    for path in ("/{db}/_design/{design}", "/{db}/{id}")
    for method, endpoint in _ENDPOINTS
]
SHORTCUTS = [
    Route("/{db:ordinary}/{id:ordinary}", endpoint, methods=[method], include_in_schema=False)
    for method, endpoint in _ENDPOINTS
]
"""The same for names that begin with no `_`, which no other route takes: asked first, they spare the others."""
