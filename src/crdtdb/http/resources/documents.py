"""/{db}/{id}: one document, whichever of its revisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crdtdb.canonical_json import whole_document_text
from crdtdb.couchdb import CouchError, Options, ParsedDocument, Tree, Trees, parse_document
from crdtdb.couchdb.errors import bad_request, checked_id, checked_rev, missing
from crdtdb.couchdb.parsing import compressed, parse_document_at
from crdtdb.documents import Rev
from crdtdb.documents.attachments import KEY as ATTACHMENT_KEY
from crdtdb.documents.local import LOCAL
from crdtdb.errors import ConflictError
from crdtdb.http.context import attachment_bytes_max_of, collection_of, commit, name_of, trees_of, writes_of
from crdtdb.http.json_io import JSONAnswer, flag, json_parameter, read_body
from crdtdb.http.multipart import MIXED, RELATED, mixed, read_related, related, wants
from crdtdb.http.paths import id_of, url_of
from crdtdb.http.resources import local_documents
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


def readable_id(doc_id: str) -> str:
    """Return the id of a document that is to be read. Raises CouchError for one that no document can have: there is none."""
    try:
        return checked_id(doc_id)
    except CouchError as error:
        raise missing() from error


async def get(request: Request) -> Response:
    """GET /{db}/{id} : the winner, or the revision `rev`, or several by `open_revs`."""
    trees, doc_id, options = trees_of(request), readable_id(id_of(request)), options_of(request)
    if request.query_params.get("open_revs", "[]") != "[]":  # of no revisions the winner is meant, as in CouchDB
        return await _open_revs(request, trees, doc_id, options)
    rev = checked_rev(request.query_params["rev"]) if "rev" in request.query_params else None
    latest = flag(request, "latest")
    options = options if rev is None else options.of_revision()
    boundary = wants(request, RELATED) if options.attachments else None
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
    writer, boundary = Writer(trees.store), wants(request, MIXED)
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
    tree, options = trees.find(doc_id), options.of_revision()
    if revs is None:
        if tree is None:
            raise missing()
        yield from ({"ok": tree.document(one.leaf.rev, options)} for one in tree.branches(tree.leaves))
        return
    told: set[Rev] = set()
    for text, rev in [(text, checked_rev(text)) for text in revs]:
        chosen = [one.leaf.rev for one in tree.branches(tree.descendants(rev))] if tree is not None and latest else []
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
        document, uploads = parse_document_at(await read_body(request), doc_id), None
    try:
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
        document.check_attachments(attachment_bytes_max_of(request))
        document = await ATTACHMENTS.run(compressed, document)
    if request.query_params.get("new_edits") == "false":
        work = writes.taking(document)
    else:
        work = writes.writing(document._replace(rev=document.rev or named))
    rev = await commit(request, writes, work)
    if request.query_params.get("batch") == "ok":
        return JSONAnswer({"ok": True, "id": document.doc_id}, 202)
    return written(request, document.doc_id, rev, 200 if document.deleted else 201)


async def delete(request: Request) -> JSONAnswer:
    """DELETE /{db}/{id}?rev= : delete one of its siblings."""
    writes, doc_id, rev = writes_of(request), readable_id(id_of(request)), named_rev(request)
    tree = await READS.run(trees_of(request).find, doc_id)
    if tree is None or tree.deleted:
        raise missing(deleted=tree is not None)
    if rev is None:
        raise ConflictError(doc_id, None, ())
    work = writes.writing(parse_document({"_id": doc_id, "_deleted": True})._replace(rev=rev))
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


async def copy(request: Request) -> JSONAnswer:
    """COPY /{db}/{id} : write what a document is under another id, which `Destination` names, with its attachments."""
    doc_id, rev = readable_id(id_of(request)), request.query_params.get("rev")
    trees, named = trees_of(request), checked_rev(rev) if rev is not None else None
    target, over = destination(request)
    found = await READS.run(_copied, trees, doc_id, named)
    return await put_copy(request, target, over, found)


def _copied(trees: Trees, doc_id: str, rev: Rev | None) -> dict[str, Any]:
    tree = trees.get(doc_id)
    if rev is None and tree.deleted:
        raise missing(deleted=True)
    found = {key: value for key, value in tree.document(rev).items() if not key.startswith("_")}
    attachments = tree.attachments(rev)
    return {**found, ATTACHMENT_KEY: attachments} if attachments else found


async def put_copy(request: Request, target: str, over: str | None, value: Mapping[str, Any]) -> JSONAnswer:
    """Write the value of a document, with what is known of its attachments, under another id."""
    if target.startswith(LOCAL):
        kept = {key: one for key, one in value.items() if key != ATTACHMENT_KEY}
        return await local_documents.write(request, name_of(request), target, kept)
    document = parse_document({"_id": checked_id(target)})._replace(
        text=whole_document_text(value), rev=checked_rev(over) if over is not None else None
    )
    writes = writes_of(request)
    return written(request, target, await commit(request, writes, writes.writing(document)))


def destination(request: Request) -> tuple[str, str | None]:
    """Return the id, and the revision that is replaced, that the header `Destination` names. Raises CouchError."""
    named = request.headers.get("destination", "").encode("latin-1").decode("utf-8", "replace")
    if not named:
        raise bad_request("Destination header is mandatory for COPY.")
    if named.startswith(("http://", "https://")):
        raise bad_request("Destination URL must be relative.")
    path, _, query = named.partition("?")
    return unquote(path), dict(parse_qsl(query)).get("rev")


_ENDPOINTS = (("GET", get), ("PUT", put), ("DELETE", delete), ("COPY", copy))

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
