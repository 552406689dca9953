"""Bodies of several parts: a document with its attachments behind it, and several revisions in one answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request
from starlette.responses import StreamingResponse

from crdtdb.canonical_json import parse
from crdtdb.couchdb import ParsedDocument, Tree
from crdtdb.couchdb.errors import bad_request
from crdtdb.couchdb.parsing import Follows, Uploaded
from crdtdb.documents import Rev
from crdtdb.errors import TooLargeError
from crdtdb.http.bodies import share_of
from crdtdb.http.content import body_of
from crdtdb.http.context import attachment_bytes_max_of, database_of
from crdtdb.http.streaming import Writer
from crdtdb.limits import REQUEST_BYTES_MAX
from crdtdb.store import Store, Upload
from crdtdb.threads import ATTACHMENTS, QUERIES

_PARTS_MAX = 1_000


def wants(request: Request, media_type: str) -> str | None:
    """Return a boundary if a request accepts a body of several parts, None if it doesn't."""
    return os.urandom(16).hex() if media_type in request.headers.get("accept", "") else None


class Uploads:
    """The attachments that followed a document, in the order in which they came."""

    def __init__(self, store: Store, bytes_max: int) -> None:
        self._store, self._bytes_max = store, bytes_max
        self.done: list[tuple[str | None, Upload]] = []
        self._kept = False

    def begin(self, name: str | None) -> None:
        """The next attachment begins; `name` is what its part calls it."""
        if len(self.done) >= _PARTS_MAX:
            raise TooLargeError(f"more than {_PARTS_MAX} attachments in one request")
        self.done.append((name, self._store.attachments.upload()))

    def add(self, data: bytes) -> None:
        """Bytes of the attachment that came last."""
        upload = self.done[-1][1]
        upload.add(data)
        if upload.length > self._bytes_max:
            raise TooLargeError(f"an attachment has more than {self._bytes_max:,} bytes")

    def fill(self, document: ParsedDocument) -> ParsedDocument:
        """Return a document with what followed in the place of what it said would follow. Raises RefusedError."""
        waiting = {name: one for name, one in document.attachments.items() if isinstance(one, Follows)}
        by_name = {name: upload for name, upload in self.done if name in waiting}
        others = iter([upload for name, upload in self.done if name not in waiting])
        filled = dict(document.attachments)
        for name, one in waiting.items():
            upload = by_name.get(name) or next(others, None)
            if upload is None or (one.length is not None and upload.finish().length != one.length):
                raise bad_request(f"Attachment '{name[:80]}' doesn't follow as the document says")
            upload.finish()
            filled[name] = Uploaded(one.content_type, upload, one.revpos)
        return document._replace(attachments=filled)

    def let_go(self) -> None:
        """Let go of those that no document came to refer to."""
        for _, upload in self.done:
            self._store.attachments.forget(upload)


async def read_related(request: Request) -> tuple[Any, Uploads]:
    """Read a document and the attachments behind it. Raises RefusedError, TooLargeError."""
    media, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if media != b"multipart/related" or not boundary:
        raise bad_request("multipart/related needs a boundary")
    uploads = Uploads(database_of(request).store, attachment_bytes_max_of(request))
    reader = _Related(uploads)
    share = share_of(request)
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]
        async for chunk in body_of(request):
            share.hold(len(reader.document) + len(chunk))
            await ATTACHMENTS.run(parser.write, chunk)
        if not reader.complete:
            raise bad_request("The multipart body ends too soon")
        return parse(bytes(reader.document)), uploads
    except ValueError as error:
        await ATTACHMENTS.run(uploads.let_go)
        if isinstance(error, TooLargeError):
            raise
        raise bad_request(f"The multipart body can't be read: {error}") from error
    except BaseException:
        await ATTACHMENTS.run(uploads.let_go)
        raise


class _Related:
    """Takes the parts as the parser finds them: the first is the document, the others are attachments."""

    def __init__(self, uploads: Uploads) -> None:
        self.document = bytearray()
        self.complete = False
        self._uploads = uploads
        self._parts = 0
        self._field, self._value = bytearray(), bytearray()
        self._name: str | None = None

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._headers,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._parts += 1
        self._name = None

    def _header(self) -> None:
        if bytes(self._field).lower() == b"content-disposition":
            name = parse_options_header(bytes(self._value))[1].get(b"filename")
            self._name = name.decode("utf-8", "replace") if name is not None else None
        self._field.clear()
        self._value.clear()

    def _headers(self) -> None:
        if self._parts > 1:
            self._uploads.begin(self._name)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._parts > 1:
            self._uploads.add(data[start:end])
            return
        self.document += data[start:end]
        if len(self.document) > REQUEST_BYTES_MAX:
            raise TooLargeError(f"the document has more than {REQUEST_BYTES_MAX:,} bytes")

    def _end(self) -> None:
        self.complete = True


def related(
    store: Store, tree: Tree, rev: Rev, document: dict[str, Any], atts_since: frozenset[Rev], boundary: str
) -> StreamingResponse:
    """Answer with a document and its attachments behind it, streamed."""
    held = tree.attachments(rev)
    since = max((one.generation for one in atts_since if one in tree.line(rev)), default=0)
    following = [name for name, stub in document["_attachments"].items() if stub["revpos"] > since]
    for name in following:
        stub = document["_attachments"][name]
        del stub["stub"]
        stub["follows"] = True

    def body() -> Iterator[bytes]:
        yield f"--{boundary}\r\nContent-Type: application/json\r\n\r\n".encode() + orjson.dumps(document)
        for name in following:
            one = held[name]
            quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", " ").replace("\n", " ")
            yield (
                f'\r\n--{boundary}\r\nContent-Disposition: attachment; filename="{quoted}"\r\n'
                f"Content-Type: {one['content_type']}\r\nContent-Length: {one['length']}\r\n\r\n"
            ).encode()
            yield from store.attachments.read(bytes.fromhex(one["sha256"]))
        yield f"\r\n--{boundary}--".encode()

    return StreamingResponse(
        ATTACHMENTS.iterate(body()),
        headers={"content-type": f'multipart/related; boundary="{boundary}"', "etag": f'"{rev}"'},
    )


def mixed(writer: Writer, rows: Iterator[dict[str, Any]], boundary: str) -> StreamingResponse:
    """Answer with several revisions, each in a part of its own."""

    def body() -> Iterator[bytes]:
        for row in rows:
            said = "application/json" if "ok" in row else 'application/json; error="true"'
            yield f"--{boundary}\r\nContent-Type: {said}\r\n\r\n".encode()
            yield from writer.pieces(row.get("ok", row))
            yield b"\r\n"
        yield f"--{boundary}--".encode()

    return StreamingResponse(
        QUERIES.iterate(body()), headers={"content-type": f'multipart/mixed; boundary="{boundary}"'}
    )
