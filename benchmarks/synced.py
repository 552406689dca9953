"""Whether a target does what its row says of durability: its fsyncs are counted by watching its system calls (strace).

A target that is said to be synced must make at least one for each write that comes alone; a buffered one, hardly any.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.documents import GENERATED
from benchmarks.results import Result, Synced
from benchmarks.targets import Target

_WRITES = 60
_CALLS = "fsync,fdatasync,msync,sync_file_range"
_CALL = re.compile(rf"\b({_CALLS.replace(',', '|')})\(")


def count_fsyncs(targets: Sequence[Target], result: Result, tell: Callable[[str], None]) -> None:
    """Count the fsyncs of each target that this process can start, for a number of writes one after the other."""
    if shutil.which("strace") is None:
        result.skipped["fsyncs"] = "strace isn't installed, so nobody counted them"
        return
    for target in targets:
        tell(f"counting fsyncs: {target!r}")
        none, some = (_fsyncs(target, writes) for writes in (0, _WRITES))
        if none is None or some is None:
            result.skipped[f"fsyncs of {target!r}"] = "strace may not watch it here"
            continue
        result.synced.append(
            Synced(target=target.name, durability=target.durability, writes=_WRITES, fsyncs=max(0, some - none))
        )


def _fsyncs(target: Target, writes: int) -> int | None:
    with tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as folder:
        log = Path(folder) / "log"
        command = ["strace", "-f", "-qq", "-e", f"trace={_CALLS}", "-o", str(log), sys.executable, "-m", "benchmarks"]
        done = subprocess.run(
            [*command, "write-some", repr(target), str(writes)], capture_output=True, text=True, check=False
        )
        if done.returncode or not log.exists():
            return None
        return sum(1 for line in log.read_text().splitlines() if _CALL.search(line))


def write(target: Target, writes: int) -> None:
    """Write some documents, each by itself: what is watched."""
    with tempfile.TemporaryDirectory(prefix="crdtdb-bench-") as folder:
        for name in ("server", "session"):
            (Path(folder) / name).mkdir()
        with target.running(Path(folder) / "server"), target.open(Path(folder) / "session") as session:
            for call in GENERATED.take(writes):
                session.measure("put", [call])
