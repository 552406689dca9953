"""What Apache CouchDB answers, recorded, and the differences from it that are meant.

The scenarios are in the folder that CRDTDB_COUCHDB names.

The table in docs/reference/couchdb-differences.md is what a reader sees and what the replay tolerates: one list, not two.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "couchdb-differences.md"
_COLUMNS = 4


class Difference(NamedTuple):
    """One place in one answer where a node differs from CouchDB."""

    step: str
    """`SCENARIO/NUMBER`."""
    request: str
    kind: str
    """What differs, and at which place of the answer: `value .rows[0].key`."""
    couchdb: str
    here: str

    def __str__(self) -> str:
        return f"{self.step} {self.request}: {self.kind}: CouchDB {self.couchdb}, here {self.here}"


class Accepted(NamedTuple):
    """A line of the table: patterns in which `*` stands for anything, and the reason."""

    step: str
    request: str
    kind: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        """Whether the line means a difference."""
        pairs = zip(self[:3], difference[:3], strict=True)
        return all(_matches(pattern, text) for pattern, text in pairs)


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def accepted() -> list[Accepted]:
    """Return the lines of the table. Raises AssertionError for a line that isn't whole."""
    found = []
    for line in TABLE.read_text().splitlines():
        if not line.startswith("| `"):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        assert len(cells) == _COLUMNS, f"a line of {TABLE.name} has {len(cells)} cells: {line}"
        assert all(cells), f"a line of {TABLE.name} has an empty cell: {line}"
        step, request, kind = (cell.strip("`") for cell in cells[:3])
        found.append(Accepted(step, request, kind, cells[3]))
    return found


def folder() -> Path:
    """Return the folder with the recorded answers, or skip loudly."""
    named = os.environ.get("CRDTDB_COUCHDB")
    if not named or not (Path(named) / "replay.py").is_file():
        pytest.skip("CRDTDB_COUCHDB names no folder with CouchDB's recorded answers")
    return Path(named)


def scenarios(where: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the recorded scenarios by their names."""
    for path in sorted((where / "scenarios").glob("*.json")):
        yield path.stem, json.loads(path.read_text())


def program(where: Path, name: str) -> Any:
    """Return a program of the folder as a module."""
    known = f"crdtdb_couchdb_{name}"
    if known in sys.modules:
        return sys.modules[known]
    spec = importlib.util.spec_from_file_location(known, where / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[known] = module
    return module


def replayer(where: Path) -> Any:
    """Return the program that plays scenarios, as a module."""
    return program(where, "replay")
