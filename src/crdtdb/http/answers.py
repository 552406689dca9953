"""JSON in and out."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from crdtdb.errors import InvalidInputError, TooLargeError
from crdtdb.jsontext import parse
from crdtdb.limits import REQUEST_BYTES_MAX


class JSONAnswer(Response):
    """A JSON answer with a newline at the end, as CouchDB and people at terminals like it."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(content, status_code, headers)

    def render(self, content: Any) -> bytes:
        """Write the content."""
        return orjson.dumps(content) + b"\n"


async def read_body(request: Request) -> Any:
    """Return the JSON that a request brings. Raises InvalidDocumentError, TooLargeError."""
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > REQUEST_BYTES_MAX:
        raise TooLargeError(f"the request has {int(said):,} bytes, the limit is {REQUEST_BYTES_MAX:,}")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > REQUEST_BYTES_MAX:
            raise TooLargeError(f"the request has more than {REQUEST_BYTES_MAX:,} bytes")
        parts.append(part)
    return parse(b"".join(parts))


async def read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request brings."""
    value = await read_body(request)
    if not isinstance(value, dict):
        raise InvalidInputError("Document must be a JSON object")
    return value


def flag(request: Request, name: str, default: bool = False) -> bool:
    """Return a query parameter that is true or false. Raises InvalidInputError."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if value not in ("true", "false"):
        raise InvalidInputError(f"{name} is true or false, not {value[:40]!r}")
    return value == "true"


def number(request: Request, name: str, default: int | None = None) -> int | None:
    """Return a query parameter that is a number from 0. Raises InvalidInputError."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise InvalidInputError(f"{name} is a number from 0, not {value[:40]!r}")
    return int(value)


def text(request: Request, *names: str) -> str | None:
    """Return a query parameter that is a JSON string, under whichever of its names. Raises InvalidInputError."""
    for name in names:
        value = request.query_params.get(name)
        if value is not None:
            parsed = parse(value)
            if not isinstance(parsed, str):
                raise InvalidInputError(f"{name} is a JSON string, not {value[:40]!r}")
            return parsed
    return None
