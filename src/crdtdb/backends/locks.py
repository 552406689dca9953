"""Exclusive open of a store, across processes and within one.

An flock lets other processes know. It doesn't stop a second open in the same process, and LevelDB's own lock fails
there in the worst way: the failed open drops the lock of the first. So this process keeps a list as well.

A forked child shares the locks of its parent: to unlock there would unlock the parent's file, and a descriptor that it kept
would hold the lock when the parent has closed. So the child closes its descriptors, at the fork, and begins with an empty list.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from threading import RLock

from crdtdb.backends.failures import named_by
from crdtdb.errors import StoreLockedError

_held: dict[tuple[int, int], FileLock] = {}
_guard = RLock()
_BYTES_MAX = 64
_STORE = b"store\n"


class FileLock:
    """Lock on a file until `close` or the end of the process. The file names the holder."""

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises StoreLockedError if it is held, and what the system's error says if it can't be opened."""
        with _guard:
            self._file = _opened(path)
            self._written = os.pread(self._file, _BYTES_MAX, 0)
            status = os.fstat(self._file)
            self._identity = (status.st_dev, status.st_ino)
            if self._identity in _held:
                os.close(self._file)
                raise StoreLockedError(
                    f"{path.parent} is already open in this process: use the database that is open, or close it first"
                )
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = self._written.decode(errors="replace").split()[:1] or ["unknown"]
                os.close(self._file)
                raise StoreLockedError(
                    f"{path.parent} is open in another process (pid {holder[0]}): stop it, or reach its node over HTTP"
                ) from error
            _held[self._identity] = self
        self._write(b"%d\n" % os.getpid() + (_STORE if self.has_store else b""))

    @property
    def has_store(self) -> bool:
        """Whether a store was opened here before, and `note_store` said so: its files were here then."""
        return _STORE in self._written

    def note_store(self) -> None:
        """Record in the file that a store is here, for later openers."""
        if not self.has_store:
            self._write(b"%d\n" % os.getpid() + _STORE)

    def _write(self, contents: bytes) -> None:
        self._written = contents
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, contents, 0)

    def close(self) -> None:
        """Release the lock."""
        with _guard:
            if _held.get(self._identity) is self:
                del _held[self._identity]
                # Closing alone leaves it locked where a copy of the descriptor is still open.
                fcntl.flock(self._file, fcntl.LOCK_UN)
                os.close(self._file)

    def leave_to_parent(self) -> None:
        """Close the descriptor of a forked child, and leave the lock alone."""
        os.close(self._file)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise named_by(error.errno, f"opening {path}", str(error.strerror)) from error


def _after_fork_in_parent() -> None:
    _guard.release()


def _after_fork_in_child() -> None:
    global _guard
    _guard = RLock()
    for lock in _held.values():
        lock.leave_to_parent()
    _held.clear()


os.register_at_fork(
    before=lambda: _guard.acquire(), after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
