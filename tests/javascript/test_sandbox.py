"""The process in which JavaScript runs can only compute, even if the engine were broken: a probe in Python in its place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import crdtdb.javascript
from crdtdb.javascript import Function, Scripts
from tests.inside import view_processes

pytestmark = pytest.mark.processes
FOLDER = Path(crdtdb.javascript.__file__).parent
ATTEMPTS = {
    "read a file": "open('/etc/hostname')",
    "read a file of its own": "open(sys.argv[1] + '/kept')",
    "write a file": "os.open(sys.argv[1] + '/new', os.O_CREAT | os.O_WRONLY)",
    "list a folder": "os.listdir('/')",
    "look at a file": "os.stat('/etc/hostname')",
    "remove a file": "os.unlink(sys.argv[1] + '/kept')",
    "rename a file": "os.rename(sys.argv[1] + '/kept', sys.argv[1] + '/other')",
    "make a folder": "os.mkdir(sys.argv[1] + '/folder')",
    "change a mode": "os.chmod(sys.argv[1] + '/kept', 0o777)",
    "open a socket": "socket.socket()",
    "open a local socket": "socket.socket(socket.AF_UNIX)",
    "open a pipe": "os.pipe()",
    "start a process": "os.fork() or os._exit(0)",
    "run a program": "os.execv('/bin/true', ['true'])",
    "signal its parent": "os.kill(os.getppid(), 0)",
    "change its limits": "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))",
    "see other processes": "open('/proc/1/cmdline')",
    "fill memory": "bytearray(2 << 30)",
    "map a file": "mmap.mmap(os.open('/etc/hostname', os.O_RDONLY), 1)",
}
PROBE = """
import sys
sys.path.append(sys.argv[2])
import errno, json, mmap, os, resource, socket, sandbox
for name in sys.argv[4:]:
    setattr(sandbox, '_' + name, lambda libc: False)
found = {"layers": sandbox.enter(1 << 30), "environment": sorted(os.environ)}
for name, attempt in json.loads(sys.argv[3]).items():
    try:
        eval(attempt)
        found[name] = "done"
    except (OSError, MemoryError, ValueError) as error:
        found[name] = type(error).__name__
sys.stdout.write(json.dumps(found))
sys.stdout.flush()
"""


def probe(folder: Path, attempts: dict[str, str], *without: str) -> dict[str, object]:
    """Return what came of each attempt in the sandbox, of which some layers are left out."""
    (folder / "kept").write_text("here")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROBE, str(folder), str(FOLDER), json.dumps(attempts), *without],
        capture_output=True,
        env={"TZ": "UTC0"},
        cwd="/",
        timeout=60,
        check=True,
    )
    assert (folder / "kept").read_text() == "here"
    found: dict[str, object] = json.loads(done.stdout)
    return found


def refused(found: dict[str, object]) -> set[str]:
    return {name for name in ATTEMPTS if found.get(name, "done") != "done"}


def test_nothing_can_be_done_but_computing(tmp_path: Path) -> None:
    found = probe(tmp_path, ATTEMPTS)
    assert found["environment"] == ["LC_CTYPE", "TZ"], "Python sets the first one itself"
    if "seccomp" not in found["layers"]:  # type: ignore[operator]
        pytest.skip("this machine has no seccomp, which no package brings")
    assert refused(found) == ATTEMPTS.keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]


def test_files_are_out_of_reach_without_seccomp(tmp_path: Path) -> None:
    found = probe(tmp_path, ATTEMPTS, "seccomp")
    if "landlock" not in found["layers"]:  # type: ignore[operator]
        pytest.skip("this machine has no Landlock, which no package brings")
    assert refused(found) >= {name for name in ATTEMPTS if "file" in name or "folder" in name or "socket" in name} - {
        "look at a file"
    }


def test_nothing_can_be_opened_by_limits_alone(tmp_path: Path) -> None:
    attempts = {name: attempt for name, attempt in ATTEMPTS.items() if name not in ("run a program", "start a process")}
    attempts = {
        name: attempt for name, attempt in attempts.items() if not name.startswith(("remove", "rename", "change"))
    }
    found = probe(tmp_path, attempts, "seccomp", "landlock")
    assert found["layers"] == ["limits"]
    opening = {name for name in ATTEMPTS if name.startswith(("read", "write", "list", "open", "see", "map", "fill"))}
    assert refused(found) >= opening


def test_scripts_run_in_it() -> None:
    scripts = Scripts()
    try:
        assert scripts.map(Function("v", "doc => emit(doc._id)"), [{"_id": "a"}]) == [[("a", None)]]
        (process,) = view_processes(scripts).idle
        assert "limits" in process.layers
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        if "seccomp" in process.layers:
            assert "Seccomp:\t2" in status
    finally:
        scripts.close()


@pytest.mark.parametrize(
    "source",
    [
        "doc => emit(typeof require)",
        "doc => emit(typeof std + typeof os)",
        "doc => emit(typeof fetch)",
        "doc => emit(typeof process)",
        "doc => emit(typeof Worker)",
    ],
)
def test_scripts_have_no_name_for_the_machine(source: str) -> None:
    scripts = Scripts()
    try:
        ((emission,),) = scripts.map(Function("v", source), [{"_id": "a"}])
        assert emission[0] in ("undefined", "undefinedundefined")
    finally:
        scripts.close()


def test_no_module_can_be_imported() -> None:
    scripts = Scripts()
    try:
        for name in ("fs", "std", "os", "/etc/passwd", "file:///etc/passwd"):
            source = f"doc => {{ import('{name}').then(m => emit('loaded'), e => emit('refused')); emit('asked') }}"
            found = scripts.map(Function("v", source), [{"_id": "a"}])
            assert ("loaded", None) not in found[0]
    finally:
        scripts.close()
