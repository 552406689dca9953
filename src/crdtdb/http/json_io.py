"""JSON in and out, and the parameters of a request."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from crdtdb.canonical_json import dump, parse, parse_documents
from crdtdb.couchdb.errors import bad_request, query_parse_error
from crdtdb.errors import InvalidDocumentError, TooLargeError
from crdtdb.http.bodies import Share, share_of
from crdtdb.http.content import body_of
from crdtdb.limits import BODIES_FREE_BYTES
from crdtdb.threads import PARSING


class JSONAnswer(Response):
    """A JSON answer with a newline at the end, as CouchDB and people at terminals like it."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(content, status_code, headers)

    def render(self, content: Any) -> bytes:
        """Write the content."""
        return dump(content) + b"\n"


ROWS_MAX = 10**18
"""More rows than there can be, and little enough to count with: what a `limit` or `skip` beyond it means."""
_DECIMAL_DIGITS_MAX = 18  # what fits 64 bits, whatever the digits


def decimal(text: str) -> int | None:
    """Return the number that a header or parameter writes in ASCII digits, None for anything else or over 18 of them.

    `str.isdigit` alone takes digits of other scripts and superscripts, which `int` refuses.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DECIMAL_DIGITS_MAX else None


async def read_bytes(request: Request, bytes_max: int | None = None) -> bytes:
    """Return what a request brings, at most `bytes_max`, by default what the node's configuration says.

    Raises TooLargeError; UnavailableError while too many are large.
    """
    share = share_of(request)
    if bytes_max is None:
        bytes_max = share.request_bytes_max
    declared = decimal(request.headers.get("content-length", ""))
    if declared is not None and declared > bytes_max:
        raise TooLargeError(f"the request has {declared:,} bytes, the limit is {bytes_max:,}: see request_bytes_max")
    parts, size = [], 0
    async for part in body_of(request):
        size += len(part)
        share.hold(size)
        if size > bytes_max:
            raise TooLargeError(f"the request has more than {bytes_max:,} bytes: see request_bytes_max")
        parts.append(part)
    return b"".join(parts)


async def read_body(request: Request) -> Any:
    """Return the JSON that a request brings. Raises InvalidDocumentError, TooLargeError."""
    return await _parsed(request, await read_bytes(request))


async def _parsed(request: Request, data: bytes, read: Callable[[bytes], Any] = parse) -> Any:
    """Parse JSON; what is large beside the event loop."""
    if len(data) <= BODIES_FREE_BYTES:
        return read(data)
    return await PARSING.run(_parse_within, share_of(request), data, read)


def _parse_within(share: Share, data: bytes, read: Callable[[bytes], Any]) -> Any:
    share.hold_parsed(data)
    return read(data)


async def read_documents(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request brings, with documents of which each is kept or refused by itself."""
    value = await _parsed(request, await read_bytes(request), parse_documents)
    if not isinstance(value, dict):
        raise bad_request("Request body must be a JSON object")
    return value


async def read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request brings."""
    value = await read_body(request)
    if not isinstance(value, dict):
        raise bad_request("Request body must be a JSON object")
    return value


async def read_optional_object(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request brings, an empty one if it brings nothing."""
    data = await read_bytes(request)
    value = await _parsed(request, data) if data.strip() else {}
    if not isinstance(value, dict):
        raise bad_request("Request body must be a JSON object")
    return value


def flag(request: Request, name: str, default: bool = False) -> bool:
    """Return a query parameter that is true or false. Raises RefusedError."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if value.lower() not in ("true", "false"):
        raise query_parse_error(f'Invalid boolean parameter: "{value[:40]}"')
    return value.lower() == "true"


def number(request: Request, name: str, default: int | None = None) -> int | None:
    """Return a query parameter that is a number from 0. Raises RefusedError."""
    value = request.query_params.get(name)
    if value is None:
        return default
    parsed = decimal(value)
    if parsed is None:
        raise query_parse_error(f'Invalid value for {name}: "{value[:40]}"')
    return parsed


def json_parameter(request: Request, *names: str) -> Any:
    """Return a query parameter that is JSON, under whichever of its names; None if it isn't there. Raises RefusedError."""
    for name in names:
        value = request.query_params.get(name)
        if value is not None:
            try:
                return parse(value)
            except InvalidDocumentError as error:
                raise bad_request("invalid UTF-8 JSON") from error
    return None


def parsed_parameter(request: Request, name: str, as_json: Collection[str]) -> Any:
    """Return a query parameter: JSON, if its name is one of these. Raises RefusedError."""
    value = request.query_params[name]
    if name not in as_json:
        return value
    try:
        return parse(value)
    except InvalidDocumentError as error:
        raise bad_request("invalid UTF-8 JSON") from error


def text(request: Request, *names: str) -> str | None:
    """Return a query parameter that is a JSON string, under whichever of its names. Raises RefusedError."""
    value = json_parameter(request, *names)
    if value is not None and not isinstance(value, str):
        raise query_parse_error(f"{names[0]} is a JSON string")
    return value
