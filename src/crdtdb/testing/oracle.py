"""The oracle: every write that was acknowledged is live, or one that had seen it replaced it.

It isn't agreement: all nodes may agree on a loss. And it doesn't ask the causality that it is to check: a revision lives
on as a leaf, or as an ancestor on the path of a leaf, and a path grows by the writes that named it alone.
"""

from __future__ import annotations

from typing import NamedTuple

from crdtdb.documents import Rev, State, view
from crdtdb.store import Store


class Acknowledged(NamedTuple):
    """A write that a client was told is done."""

    node: str
    at: float
    collection: str
    doc_id: str
    rev: Rev
    text: bytes | None


class Lost(AssertionError):
    """An acknowledged write is gone."""


def check_nothing_lost(store: Store, acknowledged: list[Acknowledged]) -> None:
    """Raise Lost for an acknowledged write of which a store knows nothing."""
    for one in acknowledged:
        record = store.read(one.collection, one.doc_id)
        if record is None:
            raise Lost(f"{one}: there is no such document")
        if not lives_on(record.state, one.rev):
            raise Lost(
                f"{one}: neither a leaf nor an ancestor of {[str(leaf.rev) for leaf in record.state.leaves.values()]}"
            )
        shown = view(record.state).find(one.rev)
        if shown is not None and not shown.leaf.deleted and one.text is not None and shown.text != one.text:
            raise Lost(f"{one}: the leaf is there with the body {shown.text!r}")


def lives_on(state: State, rev: Rev) -> bool:
    """Whether a revision is a leaf, or lies on the path of one."""
    return any(leaf.rev == rev or leaf.path.leads_to(rev, leaf.rev.generation) for leaf in state.leaves.values())
