"""Laws of the siblings, over random histories: each can be written alone, and a resolution replaces what its author saw."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from random import Random

from crdtdb.crdts import heads
from crdtdb.documents import DocumentView, Rev, Sight, State, Write, delete, edit, put, resolve, view
from crdtdb.documents.groups import group
from crdtdb.testing.replicas import CREATION
from crdtdb.testing.strategies import History, history_of

NEW = b'{"n":"new"}'


WRITES: dict[str, tuple[Callable[[State, Write, Rev], State], bytes | None]] = {
    "put": (lambda state, write, rev: put(state, write, rev, NEW), NEW),
    "delete": (delete, None),
    "resolve": (lambda state, write, rev: resolve(state, write, NEW, rev=rev), NEW),
    "resolve_seen": (lambda state, write, rev: resolve(state, write, NEW, seen=Sight([rev])), NEW),
    "edit": (lambda state, write, rev: edit(state, write, lambda _, body: body.value.update(n="new"), rev), NEW),
}
"""Each write on one sibling, and the text that is to be in that one's place."""


def writer(state: State) -> Write:
    return Write("a", b"W" * 16, state.context.highest(b"W" * 16), 1, CREATION)


@cache
def histories() -> list[History]:
    return [history_of(seed) for seed in range(1_000)]


@cache
def states() -> list[State]:
    """Return the states that show more than one body, or one that isn't that of a live leaf."""
    found = {id(state): state for history in histories() for state in history.states()}
    return [state for state in found.values() if _is_telling(view(state))]


def _is_telling(shown: DocumentView) -> bool:
    return len(shown.siblings) > 1 or any(one.lender is not None for one in shown.siblings)


def test_the_histories_have_what_these_laws_are_about() -> None:
    lent = [state for state in states() if view(state).siblings[0].lender is not None]
    assert len(lent) > 5
    assert any(len(view(state).siblings) > 1 for state in lent)


def test_every_sibling_can_be_written_by_its_rev_alone() -> None:
    for state in states():
        shown = view(state)
        assert len({one.rev for one in shown.siblings}) == len(shown.siblings)
        for target, (what, (write, text)) in product(shown.siblings, WRITES.items()):
            found = shown.find(target.rev)
            assert found is not None
            assert found.text == target.text
            others = {one.text for one in shown.siblings if one is not target}
            written = write(state, writer(state), target.rev)
            after = view(written)
            left = [one.text for one in after.siblings]
            assert set(left) == (others | {text} if text is not None else others), what
            for other in shown.siblings:  # and the names of the others go on to be theirs, unless fields have changed
                if other is not target and heads(written.fields).keys() == heads(state.fields).keys():
                    still = after.find(other.rev)
                    assert still is not None, what
                    assert still.text == other.text


def test_every_live_leaf_is_in_the_group_of_a_sibling() -> None:
    for state in states():
        shown = view(state)
        visible = {one.dot for one in shown.leaves if not one.leaf.deleted}
        if shown.siblings:
            assert {dot for dot, leaf in state.leaves.items() if not leaf.deleted} <= set(
                group(state, shown, *shown.siblings)
            )
            assert visible <= {dot for one in shown.siblings for dot in group(state, shown, one)}


def test_a_resolution_replaces_what_its_author_saw_and_nothing_else() -> None:
    for one in [one for history in histories() for one in history.written]:
        if one.seen is None:
            continue
        seen = {shown.text for shown in view(one.seen).siblings}
        before, after = view(one.before), view(one.after)
        resolved = {shown.text for shown in after.siblings} - {shown.text for shown in before.siblings}
        assert len(resolved) <= 1
        unseen = {shown.text for shown in before.siblings if shown.text not in seen}
        assert unseen <= {shown.text for shown in after.siblings}
        if one.seen == one.before:
            assert len(after.siblings) == 1


def test_deleting_every_sibling_in_any_order_deletes_the_document() -> None:
    for number, state in enumerate(states()):
        revs = [one.rev for one in view(state).siblings]
        Random(number).shuffle(revs)
        for rev in revs:
            state = delete(state, writer(state), rev)
        assert view(state).deleted
