"""Damaged files, and what is no damage: each is told by what is wrong, and nothing is forgotten in silence."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.inside import backend_of

import crdtdb
from crdtdb.backends import Backend, open_backend
from crdtdb.backends.leveldb import LevelDBBackend
from crdtdb.errors import (
    StoreCorruptedError,
    StoreError,
    StoreFilesError,
    StoreFullError,
    StoreLockedError,
    StorePermissionError,
)

ROWS = 1_000
ADVICE = "the data is damaged.*move it aside.*empty store, or restore a backup"

Damage = Callable[[Path], object]


def filled(backend: Backend) -> None:
    """Write rows into a table and, behind them, as many into a log."""
    for first in (0, ROWS):
        backend.write({b"%06d" % n: os.urandom(300) for n in range(first, first + ROWS)}, durable=True)
        if first == 0 and isinstance(backend, LevelDBBackend):
            backend.reclaim()
    backend.close()


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def cut(file: Path, size: int) -> None:
    os.truncate(file, size)


def flip(file: Path, *places: int) -> None:
    raw = bytearray(file.read_bytes())
    for at in places:
        raw[at : at + 8] = bytes(byte ^ 0x55 for byte in raw[at : at + 8])
    file.write_bytes(raw)


def without(folder: Path, *patterns: str) -> None:
    for pattern in patterns:
        for file in folder.glob(pattern):
            file.unlink()


def directory_in_its_place(file: Path) -> None:
    file.unlink()
    file.mkdir()


LEVELDB: dict[str, Damage] = {
    "a table cut in half": lambda d: cut(only(d, "*.ldb"), 150_000),
    "a table cut to a few bytes": lambda d: cut(only(d, "*.ldb"), 10),
    "an empty table": lambda d: cut(only(d, "*.ldb"), 0),
    "a table that is missing": lambda d: without(d, "*.ldb"),
    "flipped bytes in a table": lambda d: flip(only(d, "*.ldb"), 100_000),
    "flipped bytes in the index of a table": lambda d: flip(only(d, "*.ldb"), only(d, "*.ldb").stat().st_size - 200),
    "flipped bytes in a log": lambda d: flip(only(d, "*.log"), 100_000),
    "a log that is missing": lambda d: without(d, "*.log"),
    "CURRENT is missing": lambda d: without(d, "CURRENT"),
    "CURRENT is empty": lambda d: cut(d / "CURRENT", 0),
    "CURRENT names nothing": lambda d: (d / "CURRENT").write_bytes(b"MANIFEST-000999\n"),
    "CURRENT is a directory": lambda d: directory_in_its_place(d / "CURRENT"),
    "MANIFEST is missing": lambda d: without(d, "MANIFEST-*"),
    "MANIFEST is empty": lambda d: cut(only(d, "MANIFEST-*"), 0),
    "MANIFEST is cut": lambda d: cut(only(d, "MANIFEST-*"), 30),
    "flipped bytes in MANIFEST": lambda d: flip(only(d, "MANIFEST-*"), 10),
    "only the tables are left": lambda d: without(d, "CURRENT", "MANIFEST-*", "*.log", "LOG*", "LOCK", "crdtdb.lock"),
    "only the log is left": lambda d: without(d, "CURRENT", "MANIFEST-*", "*.ldb", "LOG*", "LOCK", "crdtdb.lock"),
    "nothing is left": lambda d: without(d, "CURRENT", "MANIFEST-*", "*.ldb", "*.log", "LOG*", "LOCK"),
}

SQLITE: dict[str, Damage] = {
    "cut in half": lambda f: cut(f, 300_000),
    "cut to its header": lambda f: cut(f, 100),
    "empty": lambda f: cut(f, 0),
    "no database": lambda f: f.write_bytes(b"a letter to the editor " * 400),
    "a damaged header": lambda f: flip(f, 16),
    "another header": lambda f: flip(f, 0),
    "damaged pages": lambda f: flip(f, *range(8192, 400_000, 4096)),
}


def read_all(place: str) -> None:
    backend = open_backend(place)
    try:
        for n in range(2 * ROWS):
            assert backend.get(b"%06d" % n) is not None, f"row {n} is gone, and nothing was said"
    finally:
        backend.close()


def scan_all(place: str) -> None:
    backend = open_backend(place)
    try:
        assert sum(1 for _ in backend.scan(b"", b"\xff")) == 2 * ROWS
    finally:
        backend.close()


def reclaim(place: str) -> None:
    backend = open_backend(place)
    try:
        assert isinstance(backend, LevelDBBackend)
        backend.write({b"000000": b"x", b"%06d" % ROWS: b"x"}, durable=True)
        backend.reclaim()
        backend.write({b"a": b"x"}, durable=True)  # what went wrong beside it shows at the next write
    finally:
        backend.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    filled(open_backend(str(folder / "level")))
    filled(open_backend(f"sqlite:{folder / 'file.db'}"))
    return folder


def refuses_twice(use: Callable[[str], None], place: str) -> None:
    for _ in range(2):  # also the second time: nothing was made in the place of what is missing
        with pytest.raises(StoreCorruptedError, match=ADVICE):
            use(place)


@pytest.mark.parametrize(
    ("use", "kind"),
    [(read_all, kind) for kind in LEVELDB]
    + [(use, kind) for use in (scan_all, reclaim) for kind in LEVELDB if "table" in kind],
)
def test_damage_to_leveldb(use: Callable[[str], None], kind: str, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "level", tmp_path / "level")
    before = sorted(file.name for file in (tmp_path / "level").glob("*.ldb"))
    LEVELDB[kind](tmp_path / "level")
    gone = not list((tmp_path / "level").glob("*.ldb"))
    refuses_twice(use, str(tmp_path / "level"))
    assert gone or set(before) <= {file.name for file in (tmp_path / "level").glob("*.ldb")}, "a table was removed"


@pytest.mark.parametrize("use", [read_all, scan_all])
@pytest.mark.parametrize("kind", SQLITE)
def test_damage_to_sqlite(kind: str, use: Callable[[str], None], whole: Path, tmp_path: Path) -> None:
    for file in whole.glob("file.db*"):
        shutil.copy(file, tmp_path)
    SQLITE[kind](tmp_path / "file.db")
    refuses_twice(use, f"sqlite:{tmp_path / 'file.db'}")


def test_a_log_of_sqlite_without_its_file_is_kept(tmp_path: Path) -> None:
    place = tmp_path / "file.db"
    program = (
        "from crdtdb.backends import open_backend; import os\n"
        f"open_backend('sqlite:{place}').write({{b'a': b'1'}}, durable=True)\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "file.db-wal").stat().st_size
    whole = place.rename(tmp_path / "elsewhere")
    refuses_twice(read_all, f"sqlite:{place}")
    place.touch()
    refuses_twice(read_all, f"sqlite:{place}")
    whole.rename(place)
    backend = open_backend(f"sqlite:{place}")
    assert backend.get(b"a") == b"1"
    backend.close()


@pytest.mark.parametrize("kind", ["a table cut in half", "CURRENT is missing", "flipped bytes in a table"])
def test_a_database_says_the_same(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "level"
    with crdtdb.open(str(place)) as db:
        db["notes"].bulk([{"_id": f"{n}", "text": os.urandom(150).hex()} for n in range(ROWS)])
        backend_of(db.store).reclaim()
    LEVELDB[kind](place)
    with pytest.raises(StoreCorruptedError, match=ADVICE), crdtdb.open(str(place)) as db:
        for n in range(ROWS):
            db["notes"].get(f"{n}")


def test_a_creation_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    """Killed between two files of a new database: nothing was in it, and it must be possible to open it."""
    filled(open_backend(str(tmp_path / "level")))
    for leave in (["MANIFEST-000001", "000001.dbtmp"], ["LOG", "LOCK"], []):
        folder = tmp_path / "-".join(["new", *leave])
        folder.mkdir()
        (folder / "crdtdb.lock").write_bytes(b"17")
        for name in leave:
            shutil.copy(tmp_path / "level" / "LOG", folder / name)
        backend = LevelDBBackend.open(str(folder))
        backend.write({b"a": b"1"}, durable=True)
        backend.close()


def as_nobody(program: str) -> str:
    """Run a program without root's rights, and return what it says on its error output."""
    drop = "import os, crdtdb.backends.leveldb, crdtdb.backends.sqlite\nif os.getuid() == 0: os.setuid(65534)\n"
    done = subprocess.run([sys.executable, "-c", drop + program], capture_output=True, text=True, check=False)
    return done.stderr


@pytest.mark.parametrize("pattern", ["*.ldb", "CURRENT", "MANIFEST-*", "*.log", "LOCK", "crdtdb.lock"])
def test_a_file_of_leveldb_that_may_not_be_read_is_no_damage(pattern: str, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "level", tmp_path / "level")
    for folder in (*tmp_path.parents[:2], tmp_path, tmp_path / "level"):
        folder.chmod(0o777)
    for file in (tmp_path / "level").iterdir():
        file.chmod(0o666)
    only(tmp_path / "level", pattern).chmod(0)
    said = as_nobody(
        "from crdtdb.backends import open_backend\n"
        f"b = open_backend({str(tmp_path / 'level')!r})\n"
        "for row in b.scan(b'', b'\\xff'): pass"
    )
    assert StorePermissionError.__name__ in said, said


def test_a_file_of_sqlite_that_may_not_be_read_is_no_damage(whole: Path, tmp_path: Path) -> None:
    for file in whole.glob("file.db*"):
        shutil.copy(file, tmp_path)
        (tmp_path / file.name).chmod(0o666)
    for folder in (*tmp_path.parents[:2], tmp_path):
        folder.chmod(0o777)
    (tmp_path / "file.db").chmod(0)
    said = as_nobody(
        f"from crdtdb.backends import open_backend\nb = open_backend({'sqlite:' + str(tmp_path / 'file.db')!r})"
    )
    assert StorePermissionError.__name__ in said, said


@pytest.mark.parametrize("name", ["level", "file.db"])
def test_too_many_open_files_are_no_damage(name: str, whole: Path, tmp_path: Path) -> None:
    """With each number of files that may be opened besides: the error is the same, until they are enough."""
    shutil.copytree(whole, tmp_path / "copy")
    place = f"{'sqlite:' if name == 'file.db' else ''}{tmp_path / 'copy' / name}"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(one.name) for one in Path("/proc/self/fd").iterdir())
    gaps: list[int] = []  # descriptors below the highest that are free would be used in spite of the limit
    while not gaps or gaps[-1] < highest:
        gaps.append(os.open(os.devnull, os.O_RDONLY))
    refused, highest = 0, gaps[-1]
    try:
        for more in range(2, 40):
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + more, hard))
            try:
                scan_all(place)
                break
            except StoreError as error:
                assert type(error) is StoreFilesError, repr(error)  # noqa: PT017
                refused += 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for gap in gaps:
            os.close(gap)
    assert refused
    read_all(place)


def test_another_program_that_has_leveldb_open_is_no_damage(tmp_path: Path) -> None:
    """And the words of a path aren't those of an error."""
    folder = tmp_path / "checksum corruption: no space left"
    LevelDBBackend.open(str(folder)).close()
    program = f"import plyvel, sys\ndb = plyvel.DB({str(folder)!r})\nprint('open', flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(StoreLockedError, match="another program"):
            LevelDBBackend.open(str(folder))
        other.communicate(b"")
    LevelDBBackend.open(str(folder)).close()


def test_a_disk_that_is_full_where_a_path_speaks_of_damage(tmp_path: Path) -> None:
    program = (
        "import resource, signal\n"
        "from crdtdb.backends import open_backend\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"b = open_backend({str(tmp_path / 'corruption checksum permission denied')!r})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "b.write({b'a': b'x' * 1_000_000}, durable=True)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert StoreFullError.__name__ in done.stderr, done.stderr
