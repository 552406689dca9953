"""Update or delete the matches of a query in batches; a bookmark resumes.

A document that was written in the meantime isn't overwritten: its result is a conflict, and the next pass reads it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from crdtdb.database.commands import merge_patch
from crdtdb.database.document import Document
from crdtdb.database.queries.cursor import QueryCursor
from crdtdb.errors import CrdtdbError, InvalidInputError
from crdtdb.limits import CHANGE_MANY_MAX

T = TypeVar("T")
_SLICE_DOCUMENTS = 100
Change = Mapping[str, Any] | Callable[[dict[str, Any]], Mapping[str, Any] | None]


class Changed(NamedTuple):
    """The result for one match of a query: the document as it is now, or the error that refused it."""

    id: str
    document: Document | None
    error: CrdtdbError | None = None


class ChangedMany(NamedTuple):
    """The results. Another call continues at `bookmark`, which is None once all matches were reached."""

    results: list[Changed]
    bookmark: str | None


def check_limit(limit: object) -> int:
    """Return how many documents one call may change. Raises InvalidInputError."""
    if type(limit) is not int or not 1 <= limit <= CHANGE_MANY_MAX:
        raise InvalidInputError(
            f"`limit` is from 1 to {CHANGE_MANY_MAX:,}, not {limit!r:.40}: go on with the bookmark of the answer"
        )
    return limit


def in_slices(finder: QueryCursor, limit: int, act: Callable[[list[Document]], list[T]]) -> tuple[list[T], str | None]:
    """Let `act` have what a query finds, some documents at a time; return its results and the bookmark to go on from.

    The bookmark is None if fewer than `limit` were found.
    """
    results: list[T] = []
    seen = 0
    found: Iterator[Document] = iter(finder)
    while seen < limit:
        slice_ = list(islice(found, min(_SLICE_DOCUMENTS, limit - seen)))
        if not slice_:
            break
        seen += len(slice_)
        results += act(slice_)
    return results, finder.bookmark if seen >= limit else None


def changed_by(change: Change, document: Document) -> Mapping[str, Any] | None:
    """Return what a document is to become, None to leave it."""
    if isinstance(change, Mapping):
        merged: Mapping[str, Any] = merge_patch(document.body, change)
        return merged
    return change(document.body)
