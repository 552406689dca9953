"""Regular expressions of queries, within bounds on time and memory that bite while they match.

A pattern may go through a text in more ways than there are atoms, so each match has a bound in CPU; and so have all matches of
a query together, or many documents would each take a little less. What a match remembers grows with the text, by some hundred
MB a second at worst: texts beyond a size are matched one at a time. The interpreter is free for others meanwhile.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import Any

from crdtdb.clock import thread_seconds
from crdtdb.errors import SelectorError, TooLargeError
from crdtdb.limits import (
    PATTERN_BYTES_MAX,
    PATTERN_LARGE_TEXT_BYTES,
    PATTERN_SECONDS_FREE,
    PATTERN_SECONDS_MAX,
    PATTERN_SECONDS_PER_TEXT,
)

_large = Lock()


def _after_fork_in_child() -> None:
    global _large
    _large = Lock()  # a thread that isn't there may hold the other


os.register_at_fork(after_in_child=_after_fork_in_child)


class Budget:
    """The CPU that all patterns of one query may take: some seconds, and a millisecond for each text."""

    def __init__(self) -> None:
        self._left = PATTERN_SECONDS_FREE

    def spend(self, seconds: float) -> None:
        """Take what a match took. Raises TooLargeError if the query has taken too much."""
        self._left = min(PATTERN_SECONDS_FREE, self._left + PATTERN_SECONDS_PER_TEXT) - seconds
        if self._left < 0:
            raise TooLargeError(
                f"the regular expressions of a query took {PATTERN_SECONDS_FREE:.0f} s more than "
                f"{PATTERN_SECONDS_PER_TEXT * 1000:.0f} ms a text: repetitions within repetitions may take for ever"
            )


class Pattern:
    """A regular expression that was checked."""

    def __init__(self, source: object, budget: Budget) -> None:
        """Raises SelectorError for what isn't one, or is too long."""
        if not isinstance(source, str) or len(source) > PATTERN_BYTES_MAX:
            raise SelectorError(f"$regex takes a regular expression of at most {PATTERN_BYTES_MAX:,} characters")
        import regex  # most selectors have none, and to import it takes as long as the rest of this package

        try:
            self._compiled: Any = regex.compile(source)
        except (regex.error, RecursionError, OverflowError, MemoryError) as error:
            raise SelectorError(f"$regex takes a regular expression: {error}") from error
        self._source, self._budget = source, budget

    def found_in(self, text: str) -> bool:
        """Whether a text has a match. Raises TooLargeError if it takes too much time or memory."""
        if len(text) <= PATTERN_LARGE_TEXT_BYTES:
            return self._found_in(text)
        with _large:
            return self._found_in(text)

    def _found_in(self, text: str) -> bool:
        begun = thread_seconds()
        try:
            found = self._compiled.search(text, timeout=PATTERN_SECONDS_MAX, concurrent=True) is not None
        except (TimeoutError, MemoryError) as error:
            raise TooLargeError(
                f"the regular expression {self._source[:80]!r} took over {PATTERN_SECONDS_MAX} s, or too much memory, over one "
                "text: repetitions within repetitions may take for ever"
            ) from error
        self._budget.spend(thread_seconds() - begun)
        return found
