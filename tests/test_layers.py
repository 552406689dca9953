"""The page on layers: every function and class that it names is there."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "layers.md"
NAMES = sorted(set(re.findall(r"`([a-z_][a-z_.]*):([A-Za-z_.]+)`", PAGE.read_text(encoding="utf-8"))))


def test_the_page_names_the_stations() -> None:
    assert len(NAMES) > 25


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[":".join(pair) for pair in NAMES])
def test_a_name_of_the_page_exists(module: str, name: str) -> None:
    found: object = import_module(f"crdtdb.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    assert found is not None
