"""A number that a node tells of itself: the form in which those who count hand it to those who show it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Measured(NamedTuple):
    """One value of a metric, with its labels. `counts` is whether it only ever grows."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = MappingProxyType({})
    counts: bool = False
