"""Size bounds of documents. They limit new writes; merges are never refused.

Two sides that are each within a bound are beyond it together. So merging, sending, reading and deleting ask nothing here, and
a write is refused only if it adds to what is too much already.
"""

from __future__ import annotations

from crdtdb.documents.state import State
from crdtdb.errors import TooLargeError
from crdtdb.limits import DOCUMENT_BODIES_BYTES_MAX, DOCUMENT_BYTES_MAX, DOCUMENT_LEAVES_MAX


def check_written(doc_id: str, before: State, after: State) -> None:
    """Raise TooLargeError if a write makes a document larger than its bounds allow, and larger than it was."""
    check_leaves(doc_id, len(before.leaves), len(after.leaves))
    fresh = [body for dot, body in after.bodies.items() if dot not in before.bodies]
    for body in fresh:
        check_body(doc_id, len(body.text))
    if fresh:
        size = bodies_bytes(after)
        if size > DOCUMENT_BODIES_BYTES_MAX:
            check_bodies(doc_id, bodies_bytes(before), size)


def check_leaves(doc_id: str, before: int, after: int) -> None:
    """Raise TooLargeError for too many leaves."""
    if after > max(DOCUMENT_LEAVES_MAX, before):
        raise TooLargeError(
            f"document {doc_id!r} would have {after:,} leaves, the limit is {DOCUMENT_LEAVES_MAX:,}: "
            "resolve its conflicts first"
        )


def check_body(doc_id: str, size: int) -> None:
    """Raise TooLargeError for too long a body."""
    if size > DOCUMENT_BYTES_MAX:
        raise TooLargeError(
            f"document {doc_id!r} would have {size:,} bytes of JSON beside its fields, the limit is {DOCUMENT_BYTES_MAX:,}"
        )


def check_bodies(doc_id: str, before: int, after: int) -> None:
    """Raise TooLargeError for too long bodies together."""
    if after > max(DOCUMENT_BODIES_BYTES_MAX, before):
        raise TooLargeError(
            f"the siblings of document {doc_id!r} would have {after:,} bytes of JSON together, the limit is "
            f"{DOCUMENT_BODIES_BYTES_MAX:,}: resolve its conflicts first"
        )


def bodies_bytes(state: State) -> int:
    """Return how many bytes the bodies of a document have, those of replaced leaves that are still kept included."""
    return sum([len(body.text) for body in state.bodies.values()])
