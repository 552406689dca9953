"""What the bodies of requests come as: their media type, and their compression."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from starlette.requests import Request

from crdtdb.couchdb.errors import CouchError, bad_request

_GZIP_WINDOW_BITS = 31
_PIECE_BYTES = 256 * 1024
"""How much of a compressed body is expanded at a time: what is read is bounded by its size as it really is."""


def check_json(request: Request) -> None:
    """Raise RefusedError unless a request says that it brings JSON.

    As CouchDB, and as browsers need it: a page may send `text/plain` to another origin without asking, and no JSON.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise CouchError(415, "bad_content_type", "Content-Type must be application/json")


def accepts(request: Request, media_type: str) -> bool:
    """Whether a request accepts answers of this type: it has no `Accept`, or one that names it, by `*` too (RFC 9110)."""
    kind = media_type.partition("/")[0]
    weights = {}
    for one in request.headers.get("accept", "").split(",") if request.headers.get("accept") else ["*/*"]:
        name, *parameters = (part.strip().lower() for part in one.split(";"))
        weights[name] = not any(
            part.removeprefix("q=").strip("0.") == "" for part in parameters if part.startswith("q=")
        )
    named = (weights.get(name) for name in (media_type, f"{kind}/*", "*/*"))
    return next((weight for weight in named if weight is not None), False)


async def body_of(request: Request) -> AsyncIterator[bytes]:
    """Yield a request's body, expanded if it came compressed. Raises RefusedError."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        async for part in request.stream():
            yield part
    elif encoding in ("gzip", "x-gzip"):
        async for part in _expanded(request):
            yield part
    else:
        raise CouchError(415, "bad_content_type", f"{encoding[:40]} is not a supported content encoding.")


async def _expanded(request: Request) -> AsyncIterator[bytes]:
    expander = zlib.decompressobj(wbits=_GZIP_WINDOW_BITS)
    try:
        async for part in request.stream():
            left = part
            while left or expander.unconsumed_tail:
                yield expander.decompress(left, _PIECE_BYTES)
                left = expander.unconsumed_tail
                if expander.eof:
                    if expander.unused_data:
                        raise bad_request("The request's body goes on behind its gzip")
                    break
    except zlib.error as error:
        raise bad_request(f"The request's body is no gzip: {error}") from error
    if not expander.eof:
        raise bad_request("The request's body is cut off within its gzip")
