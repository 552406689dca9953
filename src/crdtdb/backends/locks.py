"""One opener at a time, over processes and within one.

An flock lets other processes know. It doesn't stop a second open in the same process, and LevelDB's own lock fails
there in the worst way: the failed open drops the lock of the first. So this process keeps a list as well.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from threading import Lock

from crdtdb.errors import StoreLockedError, StorePermissionError

_held: set[tuple[int, int]] = set()
_guard = Lock()


class FileLock:
    """Holds a file's lock until it is closed, or the process ends in whatever way."""

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises StoreLockedError if it is held, StorePermissionError if the file can't be opened."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorePermissionError(
                f"can't open {path}: {error.strerror}. The store needs a directory that this user may write to"
            ) from error
        status = os.fstat(self._file)
        self._identity = (status.st_dev, status.st_ino)
        with _guard:
            if self._identity in _held:
                os.close(self._file)
                raise StoreLockedError(
                    f"{path.parent} is already open in this process: use the database that is open, or close it first"
                )
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.read(self._file, 20).decode(errors="replace").strip() or "unknown"
                os.close(self._file)
                raise StoreLockedError(
                    f"{path.parent} is open in another process (pid {holder}): stop it, or reach its node over HTTP"
                ) from error
            _held.add(self._identity)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, b"%d" % os.getpid(), 0)

    def close(self) -> None:
        """Give the lock back."""
        with _guard:
            if self._identity in _held:
                _held.discard(self._identity)
                os.close(self._file)
