"""Storage backends. `open_backend` takes a URL; a bare path means LevelDB.

    memory:              nothing is kept
    ./data, leveldb:PATH LevelDB in a directory
    sqlite:FILE          one file, needs nothing but the standard library

Packages may bring others by an entry point in the group `crdtdb.backends`.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import cast

from crdtdb.backends.protocol import Backend, Batch, Capabilities, Reader, Snapshot
from crdtdb.errors import BackendMissingError

__all__ = ["Backend", "Batch", "Capabilities", "Reader", "Snapshot", "open_backend"]

_OWN = {
    "memory": ("crdtdb.backends.memory", "MemoryBackend"),
    "leveldb": ("crdtdb.backends.leveldb", "LevelDBBackend"),
    "sqlite": ("crdtdb.backends.sqlite", "SQLiteBackend"),
}
_URL = re.compile(r"([a-z][a-z0-9+.-]+):(.*)", re.DOTALL)


def open_backend(url: str) -> Backend:
    """Open the backend that a URL names.

    Raises BackendMissingError if there is none of that name or its package isn't installed, and what the backend's own
    `open` raises.
    """
    match = _URL.fullmatch(url)
    scheme, location = match.groups() if match else ("leveldb", url)
    if scheme in _OWN:
        module, name = _OWN[scheme]
        try:
            kind = getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            raise BackendMissingError(
                f"the backend {scheme!r} needs the package {error.name!r}, which isn't installed: run "
                f"`pip install 'crdtdb[{scheme}]'`, or open 'sqlite:FILE' meanwhile"
            ) from error
        return cast("Backend", kind.open(location))
    from importlib.metadata import entry_points  # only another package's backend is looked up

    for point in entry_points(group="crdtdb.backends", name=scheme):
        return cast("Backend", point.load().open(location))
    raise BackendMissingError(
        f"{url!r} names the backend {scheme!r}, which doesn't exist. crdtdb brings "
        f"{', '.join(_OWN)}; a path that has a colon is written as 'leveldb:PATH'"
    )
