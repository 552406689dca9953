"""The lock files: one version of each package, hashes, no addresses, and a part for the unit tests."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked(name: str) -> dict[str, str]:
    """Return the version of each package in a lock file."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    assert "://" not in text
    assert "--index" not in text
    packages = re.findall(r"^([a-z0-9-]+)==(\S+)[^\n]*\\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(packages) == len(re.findall(r"^\S", text, re.MULTILINE)), "a package without a hash"
    return dict(packages)


def names(group: str) -> set[str]:
    """Return the packages that a dependency group asks for."""
    wanted: set[str] = set()
    for entry in PROJECT["dependency-groups"][group]:
        if isinstance(entry, dict):
            wanted |= names(entry["include-group"])
        else:
            wanted.add(re.split(r"[<>=; \[]", entry)[0])
    return wanted


def test_the_lock_of_the_unit_tests_is_a_part_of_the_other() -> None:
    tests, everything = locked("test"), locked("dev")
    assert tests.items() < everything.items()
    assert names("test") <= tests.keys()
    assert names("dev") <= everything.keys()


def test_what_only_interop_and_benchmarks_need_is_not_in_the_unit_tests_environment() -> None:
    others = names("interop") | names("bench") | names("docs") | names("lint")
    assert others
    assert not others & locked("test").keys()


def test_what_is_subclassed_has_an_upper_bound() -> None:
    (bound,) = [entry for entry in PROJECT["project"]["optional-dependencies"]["node"] if entry.startswith("uvicorn")]
    assert re.search(r"<\d", bound)
