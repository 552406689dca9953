"""All backends: the shipped suite, one state machine in which they must agree, and what goes wrong."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from tests.examples import examples
from tests.inside import connection_of

from crdtdb.backends import Backend, Snapshot, open_backend
from crdtdb.backends.sqlite import SQLiteBackend
from crdtdb.errors import (
    BackendMissingError,
    StoreCorruptedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StorePermissionError,
)
from crdtdb.testing.backend_suite import check_backend

NAMES = ["memory", "leveldb", "sqlite"]


def url(name: str, folder: Path) -> str:
    return {"memory": "memory:", "leveldb": str(folder / "level"), "sqlite": f"sqlite:{folder / 'file.db'}"}[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_suite(name: str, tmp_path: Path) -> None:
    check_backend(lambda: open_backend(url(name, tmp_path)))


KEYS = st.binary(min_size=1, max_size=3)


class AllAgree(RuleBasedStateMachine):
    """The same random program on every backend at once, checked against a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.backends = {name: open_backend(url(name, Path(self.folder.name))) for name in NAMES}
        self.model: dict[bytes, bytes] = {}
        self.snapshots: list[tuple[dict[bytes, bytes], list[Snapshot]]] = []

    @rule(batch=st.dictionaries(KEYS, st.none() | st.binary(max_size=8), max_size=6), durable=st.booleans())
    def write(self, batch: dict[bytes, bytes | None], durable: bool) -> None:
        for backend in self.backends.values():
            backend.write(batch, durable=durable)
        for key, value in batch.items():
            if value is None:
                self.model.pop(key, None)
            else:
                self.model[key] = value

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert {backend.get(key) for backend in self.backends.values()} == {self.model.get(key)}

    @rule(start=KEYS, stop=KEYS, reverse=st.booleans())
    def scan(self, start: bytes, stop: bytes, reverse: bool) -> None:
        expected = sorted(((k, v) for k, v in self.model.items() if start <= k < stop), reverse=reverse)
        for backend in self.backends.values():
            assert list(backend.scan(start, stop, reverse=reverse)) == expected

    @rule()
    def snapshot(self) -> None:
        if len(self.snapshots) < 3:
            self.snapshots.append((dict(self.model), [backend.snapshot() for backend in self.backends.values()]))

    @rule(key=KEYS)
    def read_snapshots(self, key: bytes) -> None:
        for then, snapshots in self.snapshots:
            for snapshot in snapshots:
                assert snapshot.get(key) == then.get(key)
                assert list(snapshot.scan(b"", b"\xff" * 4)) == sorted(then.items())

    @rule()
    def reopen(self) -> None:
        self._close_snapshots()
        for name in ("leveldb", "sqlite"):
            self.backends[name].close()
            self.backends[name] = open_backend(url(name, Path(self.folder.name)))

    def _close_snapshots(self) -> None:
        for _, snapshots in self.snapshots:
            for snapshot in snapshots:
                snapshot.close()
        self.snapshots = []

    def teardown(self) -> None:
        self._close_snapshots()
        for backend in self.backends.values():
            backend.close()
        self.folder.cleanup()


TestAllAgree = AllAgree.TestCase
TestAllAgree.settings = examples(60, stateful_step_count=30)


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(BackendMissingError, match="'nosuch'.*memory, leveldb, sqlite"):
        open_backend("nosuch:x")


def test_a_backend_of_another_package_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata
    from importlib.metadata import EntryPoint

    from crdtdb.backends.memory import MemoryBackend

    def points(*, group: str, name: str) -> list[EntryPoint]:
        assert (group, name) == ("crdtdb.backends", "other")
        return [EntryPoint("other", "crdtdb.backends.memory:MemoryBackend", group)]

    monkeypatch.setattr(importlib.metadata, "entry_points", points)
    backend: Backend = open_backend("other:somewhere")
    assert isinstance(backend, MemoryBackend)


@pytest.mark.parametrize("name", ["leveldb", "sqlite"])
def test_a_second_opener_is_told(name: str, tmp_path: Path) -> None:
    place = url(name, tmp_path)
    first = open_backend(place)
    with pytest.raises(StoreLockedError, match="in this process"):
        open_backend(place)
    program = f"from crdtdb.backends import open_backend\nopen_backend({place!r})"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "StoreLockedError" in other.stderr
    assert "is open in another process (pid " in other.stderr
    first.write({b"a": b"1"}, durable=True)
    first.close()
    again = open_backend(place)
    assert again.get(b"a") == b"1"
    again.close()


@pytest.mark.parametrize("name", ["leveldb", "sqlite"])
def test_a_place_that_is_no_place_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    scheme = "" if name == "leveldb" else "sqlite:"
    with pytest.raises(StoreError, match=r"file"):
        open_backend(f"{scheme}{tmp_path}/file/data")


@pytest.mark.parametrize("name", ["leveldb", "sqlite"])
def test_a_damaged_file_is_named_and_not_read_over(name: str, tmp_path: Path) -> None:
    place = url(name, tmp_path)
    backend = open_backend(place)
    for n in range(300):
        backend.write({b"k%05d" % n: b"value" * 50}, durable=False)
    backend.close()
    damaged = tmp_path / "file.db" if name == "sqlite" else next((tmp_path / "level").glob("*.log"))
    raw = bytearray(damaged.read_bytes())
    if name == "sqlite":
        raw[:100] = b"garbage, not a database".ljust(100, b"!")
    else:
        raw[len(raw) // 2] ^= 0xFF
    damaged.write_bytes(raw)
    with pytest.raises(StoreCorruptedError, match="damaged.*move it aside"):
        open_backend(place)


def test_a_torn_tail_opens_without_its_last_batch(tmp_path: Path) -> None:
    """A machine that lost power in the middle of a write."""
    backend = open_backend(str(tmp_path / "level"))
    backend.write({b"a": b"1"}, durable=True)
    backend.write({b"b": b"2" * 100}, durable=True)
    backend.close()
    log = next((tmp_path / "level").glob("*.log"))
    log.write_bytes(log.read_bytes()[:-40])
    backend = open_backend(str(tmp_path / "level"))
    assert list(backend.scan(b"", b"\xff")) == [(b"a", b"1")]
    backend.close()


class SmallDisk(NamedTuple):
    """A folder with little room, and what makes room."""

    folder: Path
    limit: Callable[[Backend], None]
    free: Callable[[], None]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small file system where one may be mounted; elsewhere the limits that the system and SQLite have themselves."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode == 0:

        def grow() -> None:
            subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)

        yield SmallDisk(folder, lambda backend: None, grow)
        subprocess.run(["umount", str(folder)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(backend: Backend) -> None:
        if isinstance(backend, SQLiteBackend):
            connection_of(backend).execute("PRAGMA max_page_count=2000")
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8_000_000, hard))

    yield SmallDisk(folder, limit, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["leveldb", "sqlite"])
def test_a_full_disk_keeps_what_was_acknowledged(name: str, small_disk: SmallDisk) -> None:
    place = url(name, small_disk.folder)
    backend = open_backend(place)
    small_disk.limit(backend)
    written = 0
    with pytest.raises(StoreFullError, match="disk is full.*Free some space"):
        for n in range(10_000):
            backend.write({b"k%05d" % n: n.to_bytes(2, "big") * 50_000}, durable=True)
            written = n + 1
    backend.close()
    assert written > 10
    spare = small_disk.folder / ("level" if name == "leveldb" else "") / "LOG.old"
    spare.unlink(missing_ok=True)
    small_disk.free()
    backend = open_backend(place)
    rows = list(backend.scan(b"k", b"l"))
    assert rows == [(b"k%05d" % n, n.to_bytes(2, "big") * 50_000) for n in range(written)]
    backend.close()


def test_a_directory_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    """Root may write anywhere, so this opens as somebody else, or as who runs the tests."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o500)
    tmp_path.chmod(0o755)
    program = (
        "import os, sys\n"
        "from crdtdb.backends import open_backend\n"
        "import crdtdb.backends.leveldb, crdtdb.backends.sqlite\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        f"open_backend({str(folder / 'inner')!r})"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert StorePermissionError.__name__ in other.stderr, other.stderr
    assert "this user may write" in other.stderr
