"""Causes of file errors by system error number, equal for all backends."""

from __future__ import annotations

import errno
import os

from crdtdb.errors import (
    StoreCorruptedError,
    StoreError,
    StoreFilesError,
    StoreFullError,
    StoreLockedError,
    StorePermissionError,
)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}
_TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE}
_LOCKED = {errno.EAGAIN, errno.EDEADLK, errno.ETXTBSY}


def named_by(code: int | None, doing: str, said: str) -> StoreError:
    """Return the error of this package for a system error number; StoreError for a number without a class of its own.

    `doing` says what was being done, `said` what the system or a library said.
    """
    if code in _FULL:
        return StoreFullError(
            f"{doing}: the disk is full. Nothing of this write was kept. Free some space, then open the store again"
        )
    if code in _PERMISSION:
        return StorePermissionError(f"{doing}: {said}. The store needs a place that this user may write to")
    if code in _TOO_MANY_FILES:
        return StoreFilesError(
            f"{doing}: {said}. The store isn't harmed. Allow the process more open files (`ulimit -n`), or close some, then "
            "open the store again"
        )
    if code in _LOCKED:
        return StoreLockedError(f"{doing}: another program has the files open ({said}): stop it")
    failure = StoreError(f"{doing}: {said}")
    failure.maybe_done = doing.startswith(("writing", "syncing"))
    return failure


def damaged(doing: str, said: str) -> StoreCorruptedError:
    """Return the error for damaged files."""
    return StoreCorruptedError(
        f"{doing}: the data is damaged ({said}). Don't write there any more; move it aside, and let the node join again with "
        "an empty store, or restore a backup"
    )


def number_at_end(said: str) -> int | None:
    """Return the error number whose text ends a message of the form `…: TEXT`, None if none does."""
    text = said.rsplit(": ", 1)[-1].strip()
    return next((code for code in errno.errorcode if os.strerror(code) == text), None)
