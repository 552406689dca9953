"""The oracle: every write that was acknowledged is live, or one that had seen it replaced it.

It isn't agreement: all nodes may agree on a loss. And it doesn't ask the causality that it is to check: a revision lives
on as a leaf, or as an ancestor on the path of a leaf, and a path grows by the writes that named it alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from crdtdb.crdts import catalogue
from crdtdb.documents import Rev, State, view
from crdtdb.documents.fields import reading
from crdtdb.store import Store


class Acknowledged(NamedTuple):
    """A write that a client was told is done."""

    node: str
    at: float
    collection: str
    doc_id: str
    rev: Rev | None
    text: bytes | None
    effect: tuple[str, Any] | None = None
    """What it added to a field that is only ever added to: the field's name, and an amount or something unique."""


class Lost(AssertionError):
    """An acknowledged write is gone."""


def check_nothing_lost(store: Store, acknowledged: list[Acknowledged]) -> None:
    """Raise Lost for an acknowledged write of which a store knows nothing."""
    for one in acknowledged:
        record = store.read(one.collection, one.doc_id)
        if record is None:
            raise Lost(f"{one}: there is no such document")
        if one.rev is None:
            continue
        if not lives_on(record.state, one.rev):
            raise Lost(
                f"{one}: neither a leaf nor an ancestor of {[str(leaf.rev) for leaf in record.state.leaves.values()]}"
            )
        shown = view(record.state).find(one.rev)
        if shown is not None and not shown.leaf.deleted and one.text is not None and shown.text != one.text:
            raise Lost(f"{one}: the leaf is there with the body {shown.text!r}")


def check_effects(store: Store, acknowledged: list[Acknowledged]) -> None:
    """Raise Lost unless everything that was added to fields is in what they show, or in what is kept beside it."""
    added: dict[tuple[str, str, str], list[Any]] = {}
    for one in acknowledged:
        if one.effect is not None:
            name, what = one.effect
            added.setdefault((one.collection, one.doc_id, name), []).append(what)
    for (collection, doc_id, name), wanted in added.items():
        record = store.read(collection, doc_id)
        assert record is not None
        draft = reading(record.state.fields, record.state.journals, store.opener(collection, doc_id))
        spot = draft.at((name,))
        shown = [catalogue.value(spot), *catalogue.conflicting(spot)]
        if name == "likes":
            if not isinstance(shown[0], int) or shown[0] < sum(wanted):
                raise Lost(f"{doc_id}.{name} shows {shown[0]}, and {sum(wanted)} were acknowledged")
            continue
        held = [item for value in shown if isinstance(value, (str, list, dict)) for item in value]
        lost = [what for what in wanted if what not in held]
        if lost:
            raise Lost(f"{doc_id}.{name} lost {lost}: it shows {shown}")
        if len(set(map(str, held))) != len(held):
            raise Lost(f"{doc_id}.{name} has something twice: {shown}")


def lives_on(state: State, rev: Rev) -> bool:
    """Whether a revision is a leaf, or lies on the path of one."""
    return any(leaf.rev == rev or leaf.path.leads_to(rev, leaf.rev.generation) for leaf in state.leaves.values())
