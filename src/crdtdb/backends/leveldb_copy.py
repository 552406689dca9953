"""Second copy of LevelDB for a child forked from a process that used it.

LevelDB's background thread belongs to a variable of its library, as does its list of locked files. A forked child has copies of
both, and not the thread: its first compaction waits for ever, in whatever store. A library that is loaded a second time has
variables of its own. The loader knows libraries by their names, so the copies, which lie in memory, have another.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import ModuleType

_EXTENSION = "plyvel._plyvel"
_LIBRARY = b"libleveldb"
_numbers = count(1)


def load_copy() -> ModuleType:
    """Load plyvel's extension and LevelDB's library once more. Raises OSError or ImportError where that can't be done."""
    extension = Path(str(sys.modules[_EXTENSION].__file__)).read_bytes()
    library = _library()
    if library is not None:  # else it is a part of the extension
        name = b"libldb%04d" % (next(_numbers) % 10_000)
        ctypes.CDLL(_in_memory(library.read_bytes().replace(_LIBRARY, name)))
        extension = extension.replace(_LIBRARY, name)
    path = _in_memory(extension)
    loader = ExtensionFileLoader(_EXTENSION, path)
    spec = spec_from_file_location(_EXTENSION, path, loader=loader)
    if spec is None:
        raise ImportError(f"{path} can't be loaded as {_EXTENSION}")
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def _library() -> Path | None:
    """Return where the library lies that is loaded, None if there is none of its own."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        place = line.split(None, 5)[5:]
        if place and _LIBRARY.decode() in Path(place[0]).name:
            return Path(place[0])
    return None


def _in_memory(contents: bytes) -> str:
    """Return the path of a file in memory. It stays open: its number must not come to name another file."""
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} has no files in memory to load a library from")
    file = os.memfd_create("leveldb", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(file), "wb") as target:
        target.write(contents)
    return f"/proc/self/fd/{file}"
