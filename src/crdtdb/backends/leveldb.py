"""LevelDB by plyvel: the default backend. The only module that imports plyvel.

Opened with paranoid checks, and read with checksums verified: by its defaults LevelDB skips a damaged block without a
word. The sizes below were chosen by `benchmarks/backends.py`; docs/explanation/storage.md has the figures.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn, Self
from weakref import WeakSet

import plyvel

from crdtdb import forks
from crdtdb.backends.failures import damaged, named_by, number_at_end
from crdtdb.backends.leveldb_copy import load_copy
from crdtdb.backends.locks import FileLock
from crdtdb.backends.protocol import Batch, Capabilities
from crdtdb.errors import StoreClosedError, StoreError

_WRITE_BUFFER_BYTES = 16 * 1024 * 1024
_BLOCK_CACHE_BYTES = 32 * 1024 * 1024
_BLOOM_BITS = 10
_MISSHAPEN = {errno.EINVAL, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EIO}
"""Error numbers of a truncated file, a missing one, a path that is no file, and a read error of the disk."""

_iterators: WeakSet[Any] = WeakSet()
_used = False
"""Whether a database was opened in this process, so that LevelDB may have begun its background thread."""
_inherited = False
"""Whether this process was forked from a parent that had opened a database."""


class _Reads:
    """Read access to the database or to a snapshot of it."""

    _source: Any

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, None if there is none."""
        try:
            value: bytes | None = self._source.get(key, verify_checksums=True)
        except (plyvel.Error, RuntimeError) as error:
            _fail(error, "reading")
        return value

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values in the range."""
        process = forks.current()
        rows: Any = None
        try:
            # Plyvel with the start of a range in a reverse scan yields nothing if that is the only key in it.
            rows = self._source.iterator(
                start=None if reverse else start, stop=stop, reverse=reverse, verify_checksums=True
            )
            _iterators.add(rows)
            for row in rows:
                if reverse and row[0] < start:
                    return
                yield row
                process.check()  # before a forked child takes a step in the parent's database
        except (plyvel.Error, RuntimeError) as error:
            _fail(error, "scanning")
        finally:
            if rows is not None and not process.forked:
                rows.close()

    def _leave_to_parent(self) -> None:
        """Keep the copy of a forked child: to free it would write the parent's log, or wait for its threads."""
        forks.never_free(self._source)


class _LevelDBSnapshot(_Reads):
    def __init__(self, source: Any) -> None:
        self._source = source
        forks.own(self, _LevelDBSnapshot._leave_to_parent)

    def close(self) -> None:
        self._source.close()


class LevelDBBackend(_Reads):
    """Ordered map of bytes to bytes in a directory of LevelDB files."""

    def __init__(self, path: Path) -> None:
        """Open or make the directory. Raises what `Backend.open` names."""
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise named_by(error.errno, f"making the directory {path}", str(error.strerror)) from error
        self._path = path
        self._lock = FileLock(path / "crdtdb.lock")
        try:
            _check_whole(path, self._lock.has_store)
            _ready()
            self._source = plyvel.DB(
                str(path),
                create_if_missing=True,
                paranoid_checks=True,
                write_buffer_size=_WRITE_BUFFER_BYTES,
                lru_cache_size=_BLOCK_CACHE_BYTES,
                bloom_filter_bits=_BLOOM_BITS,
            )
            self._lock.note_store()
        except (plyvel.Error, OSError) as error:
            self._lock.close()
            _fail(error, f"opening {path}")
        except StoreError:
            self._lock.close()
            raise
        forks.own(self, LevelDBBackend._leave_to_parent)
        status = path.stat()
        self._capabilities = Capabilities("leveldb", durable=True, place=f"{status.st_dev}:{status.st_ino}")
        self._guard = Lock()
        self._broken: str | None = None

    @classmethod
    def open(cls, location: str) -> Self:
        """Open or make the store in the directory `location`."""
        return cls(Path(location))

    @property
    def capabilities(self) -> Capabilities:
        """Durable; placed by the directory's device and inode."""
        return self._capabilities

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Apply a batch. After a failure every further write is refused: LevelDB's log may end in a torn record."""
        if self._broken is not None:
            raise StoreClosedError(
                f"{self._path} takes no more writes since one failed ({self._broken}). Mend the "
                "cause, then close the store and open it again; what was acknowledged is kept"
            )
        try:
            with self._source.write_batch(sync=durable) as rows:
                for key, value in batch.items():
                    if value is None:
                        rows.delete(key)
                    else:
                        rows.put(key, value)
        except (plyvel.Error, RuntimeError) as error:
            self._broken = str(error)
            _fail(error, f"writing to {self._path}")

    def flush(self) -> None:
        """Sync the log files themselves.

        A synced empty write would sync the newest log alone. LevelDB may just have begun that one, and the one before
        it isn't synced until its rows are in a table.
        """
        for log in self._path.glob("*.log"):
            try:
                file = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # its rows have reached a table, which LevelDB syncs
            try:
                os.fsync(file)
            except OSError as error:
                self._broken = str(error)
                _fail(error, f"syncing {log}")
            finally:
                os.close(file)

    def size(self) -> int:
        """Return how many bytes the store takes on disk."""
        total = 0
        for path in self._path.iterdir():
            with suppress(OSError):  # LevelDB removes files while they are being looked at
                total += path.stat().st_size
        return total

    def reclaim(self) -> None:
        """Reclaim the disk space of removed rows. May take long; reads and writes continue."""
        try:
            self._source.compact_range(
                start=b"\x00", stop=b"\xff" * 8
            )  # without bounds it looks at the newest level alone
        except (plyvel.Error, RuntimeError) as error:
            _fail(error, "reclaiming space")

    def snapshot(self) -> _LevelDBSnapshot:
        """Return the store as it is now."""
        try:
            return _LevelDBSnapshot(self._source.snapshot())
        except (plyvel.Error, RuntimeError) as error:
            _fail(error, "taking a snapshot")

    def close(self) -> None:
        """Flush, close and unlock."""
        with self._guard:
            if self._source.closed:
                return
            if self._broken is None:
                self.flush()
            self._source.close()
            self._lock.close()


def _ready() -> None:
    """Make LevelDB ready to be used in this process. Raises StoreError if it can't be in a forked child."""
    global _used, _inherited, plyvel
    if _inherited:
        try:
            plyvel = load_copy()
        except (OSError, ImportError) as error:
            raise StoreError(
                f"LevelDB can't be used in this process ({error}): the process it was forked from has used it, and its "
                "background thread stayed there. Start the process by 'spawn' or 'forkserver', or open the first LevelDB after "
                "the fork"
            ) from error
        _inherited = False
    _used = True


def _after_fork_in_child() -> None:
    global _used, _inherited
    _inherited, _used = _inherited or _used, False
    for rows in list(_iterators):
        forks.never_free(rows)
    _iterators.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _check_whole(path: Path, has_store: bool) -> None:
    """Raise StoreCorruptedError if files are missing over whose absence LevelDB would begin an empty database.

    Without CURRENT it makes a new one and removes the tables; without a log it does without what was written last. From
    its second manifest on, which it writes when a database is opened first, there is always a log.
    """
    names = {file.name for file in path.iterdir()}
    current = path / "CURRENT"
    logs, tables = ({name for name in names if name.endswith(end)} for end in ((".log",), (".ldb", ".sst")))
    if "CURRENT" not in names:
        begun = names & {"MANIFEST-000001"} == {name for name in names if name.startswith("MANIFEST-")}
        if has_store or logs or tables or not begun:
            raise damaged(f"opening {path}", "the file CURRENT is missing, and without it the others mean nothing")
    elif not logs and current.read_bytes() != b"MANIFEST-000001\n":
        raise damaged(f"opening {path}", "there is no .log file, which had what was written last")


def _fail(error: Exception, doing: str) -> NoReturn:
    """Raise the matching error of this package, with its cause and the remedy."""
    first = error.args[0] if error.args else ""
    said = first.decode(errors="replace") if isinstance(first, bytes) else str(error)
    if isinstance(error, RuntimeError):
        raise StoreClosedError(f"{doing}: the store is closed") from error
    if isinstance(error, plyvel.CorruptionError):
        raise damaged(doing, said) from error
    # LevelDB tells of errors of the system by their texts alone: "IO error: PATH: TEXT", "NotFound: PATH: TEXT".
    code = error.errno if isinstance(error, OSError) and error.errno else number_at_end(said)
    if said.endswith("already held by process"):
        code = errno.EAGAIN
    if code in _MISSHAPEN and not (code == errno.EIO and doing.startswith(("writing", "syncing"))):
        raise damaged(doing, said) from error
    raise named_by(code, doing, said) from error
