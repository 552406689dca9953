"""SQLite backend of the standard library: one file, without LevelDB.

A rowid table with a unique index on the key: `WITHOUT ROWID` spills rows of a kilobyte and takes 4.5 times the disk.
The write-ahead log is synced at each durable write, and left to the operating system at the others.

SQLite keeps a list of the locks that the process has on files, and a forked child has a copy of the list, but not the locks. So
no connection may be in use at a fork, and the child closes its copies at once, before SQLite is asked for the same file again.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import NoReturn, Self
from weakref import WeakSet

from crdtdb import forks
from crdtdb.backends.failures import damaged, named_by
from crdtdb.backends.locks import FileLock
from crdtdb.backends.protocol import Batch, Capabilities
from crdtdb.errors import StoreClosedError, StoreError

_PAGE_ROWS = 256
_FILES_OPEN = 4
"""Maximum descriptors of one connection beside the database file: log, index of the log, journal, directory."""
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
    sqlite3.SQLITE_IOERR_DATA,
}
_NUMBERS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_AUTH: errno.EACCES,
    sqlite3.SQLITE_BUSY: errno.EAGAIN,
    sqlite3.SQLITE_LOCKED: errno.EAGAIN,
}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS flushes (number INTEGER NOT NULL);
"""


class _Reads:
    """Read access over one connection, which threads share under a lock."""

    _connection: sqlite3.Connection
    _guard: RLock

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, None if there is none."""
        try:
            with self._guard:
                row = self._connection.execute("SELECT value FROM rows WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            _fail(error, "reading")
        return row[0] if row is not None else None

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values in the range, a page at a time, so that a slow reader blocks no writer."""
        order = "DESC" if reverse else "ASC"
        page: list[tuple[bytes, bytes]] = []
        while start < stop:
            try:
                with self._guard:
                    page = self._connection.execute(
                        f"SELECT key, value FROM rows WHERE key >= ? AND key < ? ORDER BY key {order} LIMIT ?",  # noqa: S608
                        (start, stop, _PAGE_ROWS),
                    ).fetchall()
            except sqlite3.Error as error:
                _fail(error, "scanning")
            yield from forks.in_this_process(page)
            if len(page) < _PAGE_ROWS:
                return
            if reverse:
                stop = page[-1][0]
            else:
                start = page[-1][0] + b"\0"

    def _leave_to_parent(self) -> None:
        """Close the copy of a forked child. The parent's connection keeps it from touching the log."""
        self._connection.close()


class _SQLiteSnapshot(_Reads):
    def __init__(self, path: Path) -> None:
        self._guard = RLock()
        self._connection = _connect(path)
        self._connection.execute("BEGIN")
        self._connection.execute("SELECT 1 FROM rows LIMIT 1").fetchone()
        forks.own(self, _SQLiteSnapshot._leave_to_parent)
        _snapshots.add(self)

    def close(self) -> None:
        with self._guard:
            self._connection.close()


class SQLiteBackend(_Reads):
    """Ordered map of bytes to bytes in one SQLite file, with its write-ahead log beside it."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises what `Backend.open` names."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise named_by(error.errno, f"making the directory {path.parent}", str(error.strerror)) from error
        self._path = path
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        self._guard = RLock()
        try:
            _check_whole(path, self._lock.has_store)
            with _opening:
                self._connection = _connect(path)
                self._connection.executescript("PRAGMA journal_mode=WAL;" + _SCHEMA)
                forks.own(self, SQLiteBackend._leave_to_parent)
                _backends.add(self)
        except sqlite3.Error as error:
            self._lock.close()
            _fail(error, f"opening {path}", path)
        except StoreError:
            self._lock.close()
            raise
        except OSError as error:
            self._lock.close()
            raise named_by(error.errno, f"opening {path}", str(error.strerror)) from error
        self._lock.note_store()
        path.chmod(0o600)
        status = path.stat()
        self._capabilities = Capabilities("sqlite", durable=True, place=f"{status.st_dev}:{status.st_ino}")

    @classmethod
    def open(cls, location: str) -> Self:
        """Open or make the store in the file `location`."""
        return cls(Path(location))

    @property
    def capabilities(self) -> Capabilities:
        """Durable; placed by the file's device and inode."""
        return self._capabilities

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Apply a batch in one transaction."""
        put = [(key, value) for key, value in batch.items() if value is not None]
        gone = [(key,) for key, value in batch.items() if value is None]
        with self._guard:
            try:
                self._connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany(
                    "INSERT INTO rows VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", put
                )
                self._connection.executemany("DELETE FROM rows WHERE key = ?", gone)
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                if not isinstance(error, sqlite3.ProgrammingError) and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                _fail(error, f"writing to {self._path}")

    def flush(self) -> None:
        """Write a row that is synced: the log is one file, so all before it is synced with it."""
        with self._guard:
            try:
                self._connection.execute("PRAGMA synchronous=FULL")
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.execute(
                    "INSERT OR REPLACE INTO flushes (rowid, number) VALUES (1, "
                    "coalesce((SELECT number FROM flushes WHERE rowid = 1), 0) + 1)"
                )
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                _fail(error, f"syncing {self._path}")

    def size(self) -> int:
        """Return how many bytes the store takes on disk."""
        total = 0
        for ending in ("", "-wal", "-shm"):
            with suppress(OSError):
                total += self._path.with_name(self._path.name + ending).stat().st_size
        return total

    def snapshot(self) -> _SQLiteSnapshot:
        """Return the store as it is now: a read transaction on a connection of its own."""
        with self._guard:
            try:
                self._connection.execute("SELECT 1")
                return _SQLiteSnapshot(self._path)
            except sqlite3.Error as error:
                _fail(error, "taking a snapshot", self._path)

    def close(self) -> None:
        """Close and unlock."""
        with self._guard:
            self._connection.close()
        self._lock.close()


_opening = RLock()
_backends: WeakSet[SQLiteBackend] = WeakSet()
_snapshots: WeakSet[_SQLiteSnapshot] = WeakSet()
_paused: list[_Reads] = []


def _before_fork() -> None:
    """Block until no thread uses a connection, then hold the locks: every user of a connection holds one of them."""
    _opening.acquire()
    for group in (_backends, _snapshots):
        for reads in group:
            reads._guard.acquire()
            _paused.append(reads)


def _after_fork_in_parent() -> None:
    while _paused:
        _paused.pop()._guard.release()
    _opening.release()


def _after_fork_in_child() -> None:
    global _opening
    _opening = RLock()
    for group in (_paused, _backends, _snapshots):
        group.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)


def _check_whole(path: Path, has_store: bool) -> None:
    """Raise StoreCorruptedError if the file is empty, or isn't there, where SQLite would forget what is in its log."""
    size = path.stat().st_size if path.exists() else None
    log = path.with_name(path.name + "-wal")
    if not size and log.exists() and log.stat().st_size:
        raise damaged(f"opening {path}", f"the file is {'missing' if size is None else 'empty'}, and {log.name} is not")
    if size == 0 and has_store:
        raise damaged(f"opening {path}", "the file is empty, and had a store")


def _fail(error: sqlite3.Error, doing: str, path: Path | None = None) -> NoReturn:
    """Raise the matching error of this package, with its cause and the remedy."""
    code: int | None = getattr(error, "sqlite_errorcode", None)  # errors of the module itself have none
    said = str(error)
    if isinstance(error, sqlite3.ProgrammingError):
        raise StoreClosedError(f"{doing}: the store is closed") from error
    primary = code & 0xFF if code is not None else None
    if code in _DAMAGED or primary in _DAMAGED:
        raise damaged(doing, said) from error
    if primary == sqlite3.SQLITE_CANTOPEN and path is not None:
        raise named_by(_why_not_opened(path), doing, said) from error
    raise named_by(_NUMBERS.get(primary or 0), doing, said) from error


def _why_not_opened(path: Path) -> int | None:
    """Return the error number of opening as many files as SQLite has open, which it doesn't tell."""
    opened: list[int] = []
    try:
        opened.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        opened += (os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC) for _ in range(_FILES_OPEN))
    except OSError as error:
        return error.errno
    finally:
        for file in opened:
            os.close(file)
    return None
