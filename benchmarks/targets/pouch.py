"""PouchDB on LevelDB, in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from benchmarks.targets.base import Ability, Session, Target, Timed, Unavailable, abilities_of
from benchmarks.targets.embedded import EmbeddedSession

MODULES = Path(__file__).parent.parent / "node_modules"
_SCRIPT = Path(__file__).with_suffix(".js")
_ENDING_SECONDS = 20


class PouchSession(Session):
    """Sends whole workloads to PouchDB's process, which times them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def measure(self, ability: Ability, calls: Sequence[tuple[Any, ...]]) -> Timed:
        given, answers = self._process.stdin, self._process.stdout
        assert given is not None
        assert answers is not None
        given.write(json.dumps({"ability": ability, "calls": calls}, default=str) + "\n")
        given.flush()
        return self._read(answers)

    def _read(self, answers: IO[str]) -> Timed:
        line = answers.readline()
        if not line:
            self._process.wait(_ENDING_SECONDS)
            said = self._process.stderr.read() if self._process.stderr is not None else ""
            raise RuntimeError(f"PouchDB's process has ended: {said.strip()[-400:]}")
        return Timed(**json.loads(line))


class Pouch(Target):
    """PouchDB as a Node.js program uses it."""

    name, durability = "PouchDB", "buffered"
    abilities = abilities_of(EmbeddedSession)
    most = 30_000

    @contextmanager
    def open(self, place: Path) -> Iterator[PouchSession]:
        with subprocess.Popen(
            pouch_command(place), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield PouchSession(process)
                assert process.stdin is not None
                process.stdin.close()
                process.wait(_ENDING_SECONDS)
            finally:
                process.kill()


def pouch_command(place: Path) -> list[str]:
    """Return the command of PouchDB's process. Raises Unavailable."""
    return [node_of("pouchdb"), str(_SCRIPT), str(MODULES), str(place / "data")]


def node_of(package: str) -> str:
    """Return the path of Node.js, if a package is there for it. Raises Unavailable."""
    node = shutil.which("node")
    if node is None:
        raise Unavailable("Node.js isn't installed")
    if not (MODULES / package).is_dir():
        raise Unavailable(f"{package} isn't in benchmarks/node_modules: `make bench` puts it there")
    return node
