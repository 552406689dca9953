"""/{db}/{id}/{attachment}: the bytes of one attachment, in and out as a stream."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from crdtdb.couchdb import CouchError, Trees
from crdtdb.couchdb.errors import bad_request, checked_attachment_name, checked_id, checked_rev
from crdtdb.couchdb.revision_trees import read_source, source_of
from crdtdb.database.commands import Uploaded
from crdtdb.documents.attachments import is_encoded
from crdtdb.documents.content_encoding import GZIP
from crdtdb.errors import CrdtdbError
from crdtdb.http.context import attachment_bytes_max_of, database_of, duty_of, name_of, trees_of, writes_of
from crdtdb.http.json_io import JSONAnswer, decimal
from crdtdb.http.multipart import Incoming
from crdtdb.http.paths import id_of, part, url_of
from crdtdb.http.resources.documents import is_known, named_rev, readable_id
from crdtdb.threads import ATTACHMENTS, READS


async def get(request: Request) -> Response:
    """GET /{db}/{id}/{attachment} : its bytes, or a range of them."""
    trees, doc_id, name = trees_of(request), readable_id(id_of(request)), part(request, "attachment")
    rev = checked_rev(request.query_params["rev"]) if "rev" in request.query_params else None
    entry = (await READS.run(lambda: trees.get(doc_id).attachments(rev))).get(name)
    if entry is None:
        raise CouchError(404, "not_found", "Document is missing attachment")
    etag, encoded = f'"{entry["digest"].removeprefix("md5-")}"', is_encoded(entry)
    headers = {
        "etag": etag,
        "accept-ranges": "none" if encoded else "bytes",
        "content-type": entry["content_type"],
        "cache-control": "must-revalidate",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox",
    }
    if is_known(request, etag):
        return Response(status_code=304, headers=headers)
    if encoded:
        return _encoded(request, trees, entry, headers)
    length = entry["length"]
    headers["content-md5"] = entry["digest"].removeprefix("md5-")
    start, stop, status = 0, length, 200
    asked = _range(request.headers.get("range"), length)
    if asked is not None:
        start, stop, status = *asked, 206
        headers["content-range"] = f"bytes {start}-{stop - 1}/{length}"
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    pieces = trees.store.attachments.read(bytes.fromhex(entry["sha256"]), start, stop)
    return StreamingResponse(ATTACHMENTS.iterate(pieces), status, headers)


def _encoded(request: Request, trees: Trees, entry: dict[str, Any], headers: dict[str, str]) -> Response:
    """Answer with an attachment that is kept compressed: as it is for who takes gzip, expanded for others."""
    headers["vary"] = "accept-encoding"
    as_kept = _takes_gzip(request.headers.get("accept-encoding", ""))
    if as_kept:
        headers.update({"content-encoding": GZIP, "content-length": str(entry["length"])})
    if request.method == "HEAD":
        return Response(headers=headers)
    pieces = read_source(trees.store, source_of(entry), encoded=as_kept)
    return StreamingResponse(ATTACHMENTS.iterate(pieces), headers=headers)


def _takes_gzip(header: str) -> bool:
    """Whether an Accept-Encoding takes gzip: by its name, or by `*` where its name doesn't stand (RFC 9110, 12.5.3)."""
    weights: dict[str, bool] = {}
    for part_of_it in header.lower().split(","):
        coding, _, parameter = part_of_it.strip().partition(";")
        weight = parameter.replace(" ", "").removeprefix("q=")
        weights[coding.strip()] = weight.strip("0.") != "" or weight == ""
    return weights.get(GZIP, weights.get("x-gzip", weights.get("*", False)))


def _range(header: str | None, length: int) -> tuple[int, int] | None:
    """Return the bytes that a request asks for, None for all; what isn't one range of bytes is left out of account."""
    if header is None or not header.startswith("bytes="):
        return None
    first, dash, last = header.removeprefix("bytes=").partition("-")
    from_byte, to_byte = decimal(first), decimal(last)
    if not dash or (first and from_byte is None) or (last and to_byte is None):
        return None
    if from_byte is not None:
        start, stop = from_byte, length if to_byte is None else min(length, to_byte + 1)
    elif to_byte is not None:
        start, stop = max(0, length - to_byte), length
    else:
        return None
    if start >= stop:
        raise CouchError(416, "requested_range_not_satisfiable", f"The attachment has {length} bytes.")
    return start, stop


async def put(request: Request) -> JSONAnswer:
    """PUT /{db}/{id}/{attachment} : put it into the document, which is made if need be."""
    writes, doc_id = writes_of(request), checked_id(id_of(request))
    name, rev = checked_attachment_name(part(request, "attachment")), named_rev(request)
    content_type = request.headers.get("content-type", "application/octet-stream")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", GZIP):
        raise CouchError(415, "bad_content_type", "Only gzip and identity content-encodings are supported")
    store = database_of(request).store
    came = Incoming(store, attachment_bytes_max_of(request), content_type, encoded=encoding == GZIP)
    try:
        async for chunk in request.stream():
            await ATTACHMENTS.run(came.add, chunk)
        said = request.headers.get("content-md5")
        if said is not None and f"md5-{said}" != came.digest:
            raise CouchError(400, "content_md5_mismatch", "Possible message corruption.")
        # CouchDB tells the length of what was sent, also where it was sent compressed.
        decoded_length = await ATTACHMENTS.run(came.finish, came.length)
        attached: Any = Uploaded(content_type, came.upload, None, decoded_length)
        new = await duty_of(writes).run(writes.attach, doc_id, rev, name, attached)
    except ValueError as error:
        if isinstance(error, CrdtdbError):
            raise
        raise bad_request(f"The attachment is {error}") from error
    finally:
        await ATTACHMENTS.run(store.attachments.forget, came.upload)
    where = url_of(request, name_of(request), doc_id, name)
    return JSONAnswer({"ok": True, "id": doc_id, "rev": str(new)}, 201, {"location": where})


async def delete(request: Request) -> JSONAnswer:
    """DELETE /{db}/{id}/{attachment}?rev= : take it away."""
    writes, doc_id, rev = writes_of(request), checked_id(id_of(request)), named_rev(request)
    new = await duty_of(writes).run(writes.attach, doc_id, rev, part(request, "attachment"), None)
    return JSONAnswer({"ok": True, "id": doc_id, "rev": str(new)})


ROUTES = [
    Route(path, endpoint, methods=[method])
    for path in ("/{db}/_design/{design}/{attachment:path}", "/{db}/{id}/{attachment:path}")
    for method, endpoint in (("GET", get), ("PUT", put), ("DELETE", delete))
]
