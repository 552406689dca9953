"""Processor model of the simulation: the time that work on documents takes.

Each time that the state of a document is decoded or encoded costs so much for each of its dots. A node is busy for as long as
that takes: what reaches it meanwhile waits, but for signs of life, and a turn of its engine that takes too long fails the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from crdtdb.store.layout import records
from crdtdb.wire import delta_batch as parcels
from crdtdb.wire import states

DOT_SECONDS = 20e-6
"""About what decoding takes on a slow machine."""
TURN_SECONDS_MAX = 0.2


class Processor:
    """Counts what was decoded and encoded."""

    def __init__(self) -> None:
        self._dots = 0

    def take(self) -> float:
        """Return the seconds that were spent since the last time."""
        dots, self._dots = self._dots, 0
        return dots * DOT_SECONDS

    @contextmanager
    def metered(self) -> Iterator[None]:
        """Count while the block lasts."""
        with ExitStack() as stack:
            for module in (records, parcels):
                stack.enter_context(patch.object(module, "decode_state", self._decoding(states.decode_state)))
                stack.enter_context(patch.object(module, "encode_state", self._encoding(states.encode_state)))
            yield

    def _decoding(self, decode: Callable[..., Any]) -> Callable[..., Any]:
        def metered(*arguments: Any) -> Any:
            decoded = decode(*arguments)
            self._dots += len(decoded[0].dots())
            return decoded

        return metered

    def _encoding(self, encode: Callable[..., Any]) -> Callable[..., Any]:
        def metered(state: Any, *arguments: Any) -> Any:
            self._dots += len(state.dots())
            return encode(state, *arguments)

        return metered
