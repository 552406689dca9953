"""Bodies of several parts: a document with its attachments behind it, and several revisions in one answer."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request
from starlette.responses import StreamingResponse

from crdtdb.canonical_json import dump, parse
from crdtdb.couchdb import ParsedDocument
from crdtdb.couchdb.errors import bad_request
from crdtdb.couchdb.parsing import Follows, parse_document_at
from crdtdb.couchdb.revision_trees import SOURCE, read_source
from crdtdb.database.commands import Uploaded
from crdtdb.documents.content_encoding import GzipDecoder, GzipEncoder, is_compressible
from crdtdb.errors import CrdtdbError, TooLargeError
from crdtdb.http.bodies import share_of
from crdtdb.http.content import accepts, body_of
from crdtdb.http.context import attachment_bytes_max_of, database_of
from crdtdb.store import Store
from crdtdb.threads import ATTACHMENTS, QUERIES

MIXED, RELATED = "multipart/mixed", "multipart/related"
_PARTS_MAX = 1_000


def wants(request: Request, media_type: str) -> str | None:
    """Return a boundary if a request accepts a body of several parts, None if it doesn't.

    As in CouchDB a request that says nothing, or `*/*`, accepts parts.
    """
    return os.urandom(16).hex() if accepts(request, media_type) else None


class Incoming:
    """An attachment on its way in: kept as it comes, or compressed if CouchDB would keep it so."""

    def __init__(self, store: Store, bytes_max: int, content_type: str, *, encoded: bool) -> None:
        """`encoded` says that it comes as gzip."""
        self.upload = store.attachments.upload()
        self.length = 0
        """How many bytes came so far."""
        self._bytes_max = bytes_max
        self._decoder = GzipDecoder() if encoded else None
        self._encoder = GzipEncoder() if not encoded and is_compressible(content_type) else None
        self._decoded = 0
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def digest(self) -> str:
        """CouchDB's name of what came."""
        return "md5-" + b64encode(self._md5.digest()).decode()

    def add(self, data: bytes) -> None:
        """Take more bytes. Raises TooLargeError, and ValueError for what isn't gzip and should be."""
        self.length += len(data)
        self._md5.update(data)
        if self._decoder is not None:
            for piece in self._decoder.pieces(data):
                self._decoded += len(piece)
                self._check(self._decoded)
        self._check(self.length)
        self.upload.add(self._encoder.encode(data) if self._encoder is not None else data)

    def _check(self, size: int) -> None:
        if size > self._bytes_max:
            raise TooLargeError(f"an attachment has more than {self._bytes_max:,} bytes")

    def finish(self, length: int | None = None) -> int | None:
        """End it; return the length that readers are told if it is kept compressed. Raises ValueError for half a gzip.

        `length` is what its sender says it has when it is decoded: that is passed on, as CouchDB does, whatever it really is.
        """
        if self._encoder is not None:
            self.upload.add(self._encoder.finish())
        if self._decoder is not None:
            self._decoder.finish()
        self.upload.finish()
        if self._decoder is not None:
            return self._decoded if length is None else length
        return self.length if self._encoder is not None else None


class Uploads:
    """The attachments that follow a document, in the order in which they come."""

    def __init__(self, store: Store, bytes_max: int) -> None:
        self._store, self._bytes_max = store, bytes_max
        self._all: list[Incoming] = []
        self._filled: dict[str, Incoming] = {}
        self._waiting: dict[str, Follows] = {}

    def expect(self, document: ParsedDocument) -> None:
        """The document says what is to follow."""
        self._waiting = {name: one for name, one in document.attachments.items() if isinstance(one, Follows)}

    def begin(self, name: str | None) -> None:
        """The next attachment begins; `name` is what its part calls it. One that nothing is known of is left out later."""
        if len(self._all) >= _PARTS_MAX:
            raise TooLargeError(f"more than {_PARTS_MAX} attachments in one request")
        free = [one for one in self._waiting if one not in self._filled]
        meant = name if name in free else next(iter(free), None)
        said = self._waiting[meant] if meant is not None else Follows("", None, None)
        self._all.append(Incoming(self._store, self._bytes_max, said.content_type, encoded=said.encoded))
        if meant is not None:
            self._filled[meant] = self._all[-1]

    def add(self, data: bytes) -> None:
        """Bytes of the attachment that came last."""
        self._all[-1].add(data)

    def fill(self, document: ParsedDocument) -> ParsedDocument:
        """Return a document with what followed in the place of what it said would follow. Raises RefusedError."""
        filled = dict(document.attachments)
        for name, one in self._waiting.items():
            came = self._filled.get(name)
            expected = one.encoded_length if one.encoded else one.length
            if (
                came is None
                or (expected is not None and came.length != expected)
                or one.digest not in (None, came.digest)
            ):
                raise bad_request(f"Attachment '{name[:80]}' doesn't follow as the document says")
            try:
                decoded_length = came.finish(one.length)
            except ValueError as error:
                raise bad_request(f"Attachment '{name[:80]}' is {error}") from error
            filled[name] = Uploaded(one.content_type, came.upload, one.revpos, decoded_length)
        return document._replace(attachments=filled)

    def let_go(self) -> None:
        """Discard those that no document refers to."""
        for one in self._all:
            self._store.attachments.forget(one.upload)


async def read_related(request: Request, doc_id: str) -> tuple[ParsedDocument, Uploads]:
    """Read a document and the attachments behind it, which `Uploads.fill` puts into it. Raises RefusedError, TooLargeError.

    `doc_id` goes over the `_id` that the document has.
    """
    media, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if media != b"multipart/related" or not boundary:
        raise bad_request("multipart/related needs a boundary")
    uploads = Uploads(database_of(request).store, attachment_bytes_max_of(request))
    share = share_of(request)
    reader = _Related(uploads, doc_id, share.request_bytes_max)
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]
        async for chunk in body_of(request):
            share.hold(len(reader.text) + len(chunk))
            await ATTACHMENTS.run(parser.write, chunk)
        if not reader.complete:
            raise bad_request("The multipart body ends too soon")
        return reader.document, uploads
    except ValueError as error:
        await ATTACHMENTS.run(uploads.let_go)
        if isinstance(error, CrdtdbError):
            raise
        raise bad_request(f"The multipart body can't be read: {error}") from error
    except BaseException:
        await ATTACHMENTS.run(uploads.let_go)
        raise


class _Related:
    """Takes the parts as the parser finds them: the first is the document, the others are attachments."""

    def __init__(self, uploads: Uploads, doc_id: str, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.text = bytearray()
        self.complete = False
        self._doc_id = doc_id
        self._document: ParsedDocument | None = None
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

    @property
    def document(self) -> ParsedDocument:
        """The first part, which says what the others are. Raises RefusedError, InvalidDocumentError."""
        if self._document is None:
            self._document = parse_document_at(parse(bytes(self.text)), self._doc_id)
            self._uploads.expect(self._document)
        return self._document

    def _headers(self) -> None:
        if self._parts > 1 and self.document:
            self._uploads.begin(self._name)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._parts > 1:
            self._uploads.add(data[start:end])
            return
        self.text += data[start:end]
        if len(self.text) > self._bytes_max:
            raise TooLargeError(f"the document has more than {self._bytes_max:,} bytes")

    def _end(self) -> None:
        self.complete = True


def related(store: Store, document: dict[str, Any], boundary: str) -> StreamingResponse:
    """Answer with a document that was read in `parts`, and its attachments behind it, streamed."""
    kind, pieces = _in_parts(store, document, boundary)
    headers = {"content-type": kind, "etag": f'"{document["_rev"]}"'}
    return StreamingResponse(ATTACHMENTS.iterate(pieces), headers=headers)


def _in_parts(store: Store, document: dict[str, Any], boundary: str) -> tuple[str, Iterator[bytes]]:
    """Return a document and the attachments that follow it, with its media type: JSON alone if none does."""
    entries = document.get("_attachments", {})
    sources = {name: entry.pop(SOURCE) for name, entry in entries.items() if SOURCE in entry}
    text = dump(document)
    if not sources:
        return "application/json", iter([text])

    def pieces() -> Iterator[bytes]:
        yield f"--{boundary}\r\nContent-Type: application/json\r\n\r\n".encode() + text
        for name, source in sources.items():
            yield f"\r\n--{boundary}\r\n{_part_head(name, entries[name])}\r\n".encode()
            yield from read_source(store, source, encoded=True)
        yield f"\r\n--{boundary}--".encode()

    return f'multipart/related; boundary="{boundary}"', pieces()


def _part_head(name: str, entry: Mapping[str, Any]) -> str:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", " ").replace("\n", " ")
    encoding = entry.get("encoding")
    return (
        f'Content-Disposition: attachment; filename="{quoted}"\r\nContent-Type: {entry["content_type"]}\r\n'
        f"Content-Length: {entry['length'] if encoding is None else entry['encoded_length']}\r\n"
        + (f"Content-Encoding: {encoding}\r\n" if encoding is not None else "")
    )


def mixed(store: Store, rows: Iterator[dict[str, Any]], boundary: str, kind: str = MIXED) -> StreamingResponse:
    """Answer with several revisions that were read in `parts`, each in a part of its own with its attachments."""

    def body() -> Iterator[bytes]:
        for row in rows:
            if "ok" in row:
                said, pieces = _in_parts(store, row["ok"], os.urandom(16).hex())
            else:
                said, pieces = 'application/json; error="true"', iter([dump(row.get("error", row))])
            yield f"--{boundary}\r\nContent-Type: {said}\r\n\r\n".encode()
            yield from pieces
            yield b"\r\n"
        yield f"--{boundary}--".encode()

    return StreamingResponse(QUERIES.iterate(body()), headers={"content-type": f'{kind}; boundary="{boundary}"'})
