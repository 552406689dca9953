"""Oracle: every acknowledged write is live, or a later one replaced it.

It isn't agreement: all nodes may agree on a loss. And it doesn't ask the causality that it is to check: a revision lives
on as a leaf, or as an ancestor on the path of a leaf, and a path grows by the writes that named it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import Any, NamedTuple

from crdtdb.canonical_json import canonical_merged
from crdtdb.causality import Dot, DotSet
from crdtdb.crdts import Creations, catalogue
from crdtdb.database import Database
from crdtdb.documents import NO_BODY, Rev, State, view
from crdtdb.documents.alternatives import alternatives, value_of
from crdtdb.documents.fields import reading
from crdtdb.store import Record, Store, Transaction
from crdtdb.store.root import is_counted


class Acknowledged(NamedTuple):
    """Write that a node acknowledged to a client."""

    node: str
    at: float
    collection: str
    doc_id: str
    rev: Rev | None
    text: bytes | None
    effect: tuple[str, Any] | None = None
    """What it added to a field that is only ever added to: the field's name, and an amount or something unique."""
    creations: Creations = frozenset()
    """Those of its collection that it lives under, where these may be dropped."""


class Lost(AssertionError):
    """An acknowledged write is gone."""


class Graves:
    """What stores have collected: the tombstones, and every revision that one of them had seen, by collection and id."""

    def __init__(self) -> None:
        self.revs: dict[tuple[str, str], set[Rev]] = {}

    def watch(self, store: Store) -> None:
        """Take note of what a store collects from now on."""
        begin = store._committer._begin

        def watched() -> Transaction:
            transaction = begin()
            shrink = transaction.documents.shrink

            def bury(name: str, doc_id: str, before: Record, after: State) -> None:
                for dot, leaf in before.state.leaves.items():
                    if dot not in after.leaves and leaf.deleted:
                        line = [Rev(leaf.rev.generation - 1 - n, step.digest) for n, step in enumerate(leaf.path.all())]
                        self.revs.setdefault((name, doc_id), set()).update([leaf.rev, *line])
                shrink(name, doc_id, before, after)

            transaction.documents.shrink = bury  # type: ignore[method-assign]
            return transaction

        store._committer._begin = watched

    def hold(self, name: str, doc_id: str, rev: Rev) -> bool:
        """Whether a revision was deleted, and its tombstone collected."""
        return rev in self.revs.get((name, doc_id), ())


class Origins:
    """Under which creations of its collection each revision was written."""

    def __init__(self) -> None:
        self.creations: dict[tuple[str, str, str], Creations] = {}

    def watch(self, store: Store) -> None:
        """Take note of what a store writes or takes in from now on."""
        begin = store._committer._begin

        def watched() -> Transaction:
            transaction = begin()
            save = transaction.documents.save

            def note(name: str, doc_id: str, before: Record, after: State, residue: DotSet) -> None:
                for dot, leaf in after.leaves.items():
                    if dot not in before.state.leaves:
                        self.creations[name, doc_id, str(leaf.rev)] = leaf.creations
                save(name, doc_id, before, after, residue)

            transaction.documents.save = note  # type: ignore[method-assign]
            return transaction

        store._committer._begin = watched

    def in_part(self, name: str, doc_id: str, rev: str, dropped: Set[Dot]) -> bool:
        """Whether some of the creations that a revision was written under have been dropped, and it lives under others.

        It shows what was made under all of them: a store that learns of the drop first never sees the whole.
        """
        creations = self.creations.get((name, doc_id, rev), frozenset())
        return not creations.isdisjoint(dropped) and not creations <= dropped


def check_nothing_rises(store: Store, graves: Graves) -> None:
    """Raise AssertionError for a revision that lives though its tombstone was collected.

    A store that was put back may write the same again, and who deleted the first hadn't seen the second.
    """
    lineages = store.root.lineages
    for (name, doc_id), buried in graves.revs.items():
        record = store.read(name, doc_id)
        if record is not None:
            risen = [
                str(leaf.rev)
                for dot, leaf in record.state.leaves.items()
                if not leaf.deleted and leaf.rev in buried and not lineages.is_renamed(dot.actor)
            ]
            assert not risen, f"{name}/{doc_id}: {risen} live, and were deleted by a write that had seen them"


def check_nothing_lost(store: Store, acknowledged: list[Acknowledged], graves: Graves) -> None:
    """Raise Lost for an acknowledged write of which a store knows nothing, and that wasn't deleted and collected."""
    for one in acknowledged:
        if one.rev is not None and graves.hold(one.collection, one.doc_id, one.rev):
            continue
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
    """Raise Lost unless everything that was added to fields is in what they show or list, once; in one text, if in one."""
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
        shown = [catalogue.value(spot)]
        if name not in ("body", "items"):  # those are one, and others may be of several types
            winner = view(record.state).siblings[0]
            listed = alternatives(draft, winner.text or NO_BODY)
            shown += [value_of(other, draft) for other in listed if other.path == (name,)]
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


def check_names(databases: Iterable[Database], may_differ: Callable[[str, str, str], bool]) -> None:
    """Raise AssertionError where one name of a revision means two values, at one store or at two.

    `may_differ` is given the collection, the id and the name, and says for which a drop has taken a part of the value.
    """
    values: dict[tuple[str, str, str], tuple[bytes, str]] = {}
    for database in databases:
        for name in database.collections(system=True):
            collection = database.collection(name)
            for doc_id, _ in database.store.live_view().documents(name):
                for one in collection.history(doc_id) if is_counted(doc_id) else ():
                    if one.body is None:
                        continue
                    mine = canonical_merged(one.body), database.store.actor.hex()[:8]
                    other = values.setdefault((name, doc_id, one.rev), mine)
                    if other[0] == mine[0] or may_differ(name, doc_id, one.rev):
                        continue
                    raise AssertionError(f"{name}/{doc_id}: {one.rev} is {other} at one, {mine} at another")


def lives_on(state: State, rev: Rev) -> bool:
    """Whether a revision is a leaf, or lies on the path of one."""
    return any(leaf.rev == rev or leaf.path.leads_to(rev, leaf.rev.generation) for leaf in state.leaves.values())
