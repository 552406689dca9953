"""JSON answers that are written as they are read: however much is asked for, some hundred kB are in memory.

A page is filled in a worker thread and sent before the next is begun, so a client that reads slowly holds one page. Attachments
within documents come from the store piece by piece: a document is written with a mark in the place of each, which no document
can have, since it is drawn for each request.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from starlette.responses import Response, StreamingResponse

from crdtdb.canonical_json import dump
from crdtdb.couchdb.revision_trees import SOURCE_CHARACTERS, read_source
from crdtdb.limits import ANSWER_PAGE_BYTES
from crdtdb.store import Store
from crdtdb.threads import Duty

_BASE64_BYTES = 3


class Writer:
    """Writes the values of one answer as JSON."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.mark = os.urandom(16).hex()
        """What stands before the source of an attachment in the place of its bytes: see `crdtdb.couchdb.Options`."""

    def pieces(self, value: Any) -> Iterator[bytes]:
        """Yield the JSON of a value, with the bytes of attachments where their marks are."""
        first, *others = dump(value).split(self.mark.encode())
        yield first
        for other in others:
            yield from _base64(read_source(self._store, other[:SOURCE_CHARACTERS].decode()))
            yield other[SOURCE_CHARACTERS:]


def _base64(pieces: Iterable[bytes]) -> Iterator[bytes]:
    left = b""
    for piece in pieces:
        whole = left + piece
        end = len(whole) - len(whole) % _BASE64_BYTES
        left = whole[end:]
        yield b64encode(whole[:end])
    yield b64encode(left)


def between(head: bytes, rows: Iterable[Iterable[bytes]], tail: Callable[[], bytes]) -> Iterator[bytes]:
    """Yield rows, each in pieces, with commas between them. `tail` is called when all are written."""
    yield head
    for number, row in enumerate(rows):
        if number:
            yield b",\n"
        yield from row
    yield tail()


async def streamed(duty: Duty, pieces: Iterator[bytes], headers: dict[str, str] | None = None) -> Response:
    """Return an answer of these pieces, which are made in threads of a duty. Raises what the first page raises.

    An answer of one page has a length; one of several is chunked.
    """
    first, whole = await duty.run(_page, pieces)
    if whole:
        return Response(first, headers=headers, media_type="application/json")

    async def pages() -> AsyncIterator[bytes]:
        yield first
        ended = False
        while not ended:
            page, ended = await duty.run(_page, pieces)
            yield page

    return StreamingResponse(pages(), headers=headers, media_type="application/json")


def _page(pieces: Iterator[bytes]) -> tuple[bytes, bool]:
    """Return the next pieces together, and whether they were the last."""
    page = bytearray()
    for piece in pieces:
        page += piece
        if len(page) >= ANSWER_PAGE_BYTES:
            return bytes(page), False
    return bytes(page), True
