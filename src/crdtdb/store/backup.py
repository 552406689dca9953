"""Backups: a consistent copy of a store in one file with a checksum.

    file   = header, parts, trailer           a sequence of CBOR items
    header = ["crdtdb-backup", 1, format version, rows, node clock as text for people]
    part   = [[key, value], ...]              in the order of keys, about a megabyte each
    trailer = [SHA-256 of all that came before]

A restored store has a new identity and enters its cluster by reconciliation: documents that the members have deleted stay
deleted, and writes that only the backup has come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import chain
from typing import IO, Any, NamedTuple

from crdtdb.backends import Backend, Reader
from crdtdb.errors import BackupError, EncodingError
from crdtdb.store.layout import keys
from crdtdb.wire.cbor import decode, encode

_NAME, _VERSION = "crdtdb-backup", 1
_PART_BYTES = 1 << 20
_LENGTH_BYTES = 8
_OWN = b"!"
"""Prefix of the keys of a store's identity, promises and process, which a backup leaves out: a restored store is a new one."""

Progress = Callable[[int], None]


class Header(NamedTuple):
    """Header of a backup."""

    format_version: int
    rows: int


def write_backup(rows: Reader) -> Iterator[bytes]:
    """Yield a backup of a snapshot, piece by piece."""
    count = sum(1 for key, _ in rows.scan(b"", b"\xff" * 8) if not key.startswith(_OWN))
    digest = sha256()
    for item in chain([[_NAME, _VERSION, keys.FORMAT_VERSION, count]], _parts(rows)):
        piece = _framed(encode(item))
        digest.update(piece)
        yield piece
    yield _framed(encode([digest.digest()]))


def _parts(rows: Reader) -> Iterator[list[Any]]:
    part: list[Any] = []
    size = 0
    for key, value in rows.scan(b"", b"\xff" * 8):
        if key.startswith(_OWN):
            continue
        part.append([key, value])
        size += len(key) + len(value)
        if size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _framed(item: bytes) -> bytes:
    return len(item).to_bytes(_LENGTH_BYTES, "big") + item


def check_backup(file: IO[bytes], progress: Progress = lambda _: None) -> Header:
    """Read a whole backup, and return its header. Raises BackupError if it is damaged, truncated or no backup."""
    header, seen = None, 0
    for item in _items(file):
        if header is None:
            header = _header(item)
        else:
            seen += len(item)
            progress(len(item))
    if header is None or seen != header.rows:
        raise BackupError(
            f"the backup has {seen} rows, and its header says {header.rows if header else 'some'}: it is cut off"
        )
    return header


def restore_backup(file: IO[bytes], backend: Backend, progress: Progress = lambda _: None) -> None:
    """Write a checked backup into an empty backend. Raises BackupError if the backend has rows."""
    if next(iter(backend.scan(b"", b"\xff" * 8)), None) is not None:
        raise BackupError("there is data at that place already: choose an empty one")
    items = _items(file)
    header = _header(next(items))
    for item in items:
        backend.write(dict(item), durable=False)
        progress(len(item))
    mark = b"%s %d" % (keys.FORMAT_NAME.encode(), header.format_version)
    backend.write({keys.FORMAT: mark, keys.ENTERING: b""}, durable=True)


def _header(item: Any) -> Header:
    if item[:1] != [_NAME]:
        raise BackupError("this isn't a backup of crdtdb")
    if item[1] != _VERSION or item[2] > keys.FORMAT_VERSION:
        raise BackupError(f"the backup is of a newer crdtdb (backup {item[1]}, store {item[2]}): restore it with that")
    return Header(item[2], item[3])


def _items(file: IO[bytes]) -> Iterator[Any]:
    """Yield all items but the trailer, and check that. Raises BackupError."""
    file.seek(0)
    digest = sha256()
    before: list[Any] = []
    try:
        while frame := file.read(_LENGTH_BYTES):
            length = int.from_bytes(frame, "big")
            if length > 1 << 32:
                raise BackupError("this isn't a backup of crdtdb")
            content = file.read(length)
            if len(content) != length:
                raise BackupError("the backup is cut off")
            if before:
                yield before.pop()
            item = decode(content)
            if type(item) is not list or not item:
                raise BackupError("this isn't a backup of crdtdb")
            if len(item) == 1 and type(item[0]) is bytes:
                if item[0] != digest.digest() or file.read(1):
                    raise BackupError("the backup is damaged: its checksum is wrong")
                return
            digest.update(frame + content)
            before.append(item)
    except (EncodingError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, BackupError):
            raise
        raise BackupError(f"the backup can't be read: {error}") from error
    raise BackupError("the backup is cut off, or this isn't one")
