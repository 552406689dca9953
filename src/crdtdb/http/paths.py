"""The segments of a path: a slash that belongs to a name comes as %2F, and must not be taken for one that parts two names."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from crdtdb.http.json_io import JSONAnswer
from crdtdb.http.methods import method_of

_SLASH = "\ud800"
"""Stands for a slash within a segment while a request is routed: what no UTF-8 decodes to."""


class _Ordinary(Convertor[str]):
    """A name that begins with no `_`: of a database or document of its own, and not of something that the API adds."""

    regex = "[^/_][^/]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("ordinary", _Ordinary())


class Segments:
    """Decodes a path segment by segment, before it is routed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw: bytes = scope.get("raw_path") or scope["path"].encode()
            try:
                segments = _decoded(raw.partition(b"?")[0])
            except UnicodeDecodeError:
                refusal = {"error": "illegal_docid", "reason": "The path isn't UTF-8."}
                await JSONAnswer(refusal, 400)(scope, receive, send)
                return
            path = "/" + "/".join(part.replace("/", _SLASH) for part in segments)
            scope = {**scope, "path": path, "method": method_of(scope)}
        await self._app(scope, receive, send)


def _decoded(raw: bytes) -> list[str]:
    """Return the names in a path. Doubled slashes part names as single ones do: clients join URLs carelessly.

    Behind the database's name a plus is a blank, as CouchDB has it; `%2B` is a plus.
    """
    parts = [part for part in raw.split(b"/") if part]
    names = [
        unquote_to_bytes(part.replace(b"+", b" ") if number else part).decode() for number, part in enumerate(parts)
    ]
    if len(names) > 1 and names[1].startswith(("_design/", "_local/")):  # its slash was encoded
        names[1:2] = names[1].split("/", 1)
    return names


def url_of(request: Request, *names: str) -> str:
    """Return the absolute URL of what these names lead to, each with its slashes encoded, and colons not: as CouchDB has it."""
    path = "/".join(quote(name, safe=":") for name in names)
    return f"{request.url.scheme}://{request.headers.get('host', request.url.netloc)}/{path}"


def part(request: Request, name: str) -> str:
    """Return a name that stands in the path."""
    value: str = request.path_params[name]
    return value.replace(_SLASH, "/")


def id_of(request: Request) -> str:
    """Return the document's id: an ordinary one, or `_design/…` or `_local/…`, whose slash may stand as it is."""
    for kind in ("design", "local"):
        if kind in request.path_params:
            return f"_{kind}/{part(request, kind)}"
    return part(request, "id")
