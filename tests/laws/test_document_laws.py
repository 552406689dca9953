"""Laws of the document, over random histories of four replicas."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from crdtdb.causality import Dot
from crdtdb.crdts import Address
from crdtdb.documents import NOTHING, State, merge, view
from crdtdb.testing.strategies import History, histories


@given(histories(), st.data())
def test_merge_is_associative_commutative_and_idempotent(history: History, data: st.DataObject) -> None:
    states = st.sampled_from([*history.states(), NOTHING])
    a, b, c = data.draw(states), data.draw(states), data.draw(states)
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)


@given(histories(), st.data())
def test_any_delivery_of_any_subset_of_the_writes_gives_one_state(history: History, data: st.DataObject) -> None:
    states = history.states()
    subset = data.draw(st.lists(st.sampled_from(range(len(states))), unique=True))
    order = data.draw(st.permutations(subset))
    doubled = data.draw(st.lists(st.sampled_from(subset), max_size=4)) if subset else []
    one = two = NOTHING
    for index in subset:
        one = merge(one, states[index])
    for index in [*order, *doubled]:
        two = merge(two, states[index])
    assert one == two
    assert view(one) == view(two)


@examples(200)
@given(histories())
def test_nothing_is_gone_unless_a_write_that_had_seen_it_replaced_it(history: History) -> None:
    end = NOTHING
    for state in history.states():
        end = merge(end, state)
    made: set[Dot] = set()
    removed_leaves: set[Dot] = set()
    removed_bodies: set[Dot] = set()
    bodies: set[Dot] = set()
    for one in history.written:
        made |= set(one.after.leaves) - set(one.before.leaves)
        bodies |= set(one.after.bodies) - set(one.before.bodies)
        removed_leaves |= set(one.before.leaves) - set(one.after.leaves)
        removed_bodies |= set(one.before.bodies) - set(one.after.bodies)
    assert set(end.leaves) == made - removed_leaves
    assert set(end.bodies) == bodies - removed_bodies


@examples(200)
@given(histories())
def test_every_live_leaf_is_in_the_view_or_replaced_in_it(history: History) -> None:
    """A body that a live leaf shows is a sibling, unless a sibling descends from the write that set it."""
    for state in history.states():
        shown = view(state)
        texts = {one.text for one in shown.siblings}
        for dot, leaf in state.leaves.items():
            body = state.bodies.get(leaf.body_dot)
            if leaf.deleted or body is None or body.text in texts:
                continue
            followers = [
                other for other in state.leaves.values() if other.path.leads_to(leaf.body_rev, other.rev.generation)
            ]
            assert followers, f"{dot} shows a body that nobody replaced and that is no sibling"


@examples(200)
@given(histories())
def test_edits_of_fields_are_there_unless_one_that_had_seen_them_replaced_them(history: History) -> None:
    end = NOTHING
    for state in history.states():
        end = merge(end, state)
    made: set[tuple[Address, Dot]] = set()
    removed: set[tuple[Address, Dot]] = set()
    for one in history.written:
        before, after = _deltas(one.before), _deltas(one.after)
        made |= after - before
        removed |= before - after
    assert _deltas(end) == made - removed


def _deltas(state: State) -> set[tuple[Address, Dot]]:
    return {(address, dot) for address, deltas in state.fields.items() for dot in deltas}


@examples(200)
@given(histories())
def test_the_actors_of_a_state_name_all_it_has_seen(history: History) -> None:
    """What a replica ships as the context of a document: its clock, restricted to these. Nothing may be missing."""
    for state in history.states():
        assert state.context.restrict(state.actors()) == state.context


@examples(200)
@given(histories())
def test_a_clock_never_claims_a_concurrent_leaf(history: History) -> None:
    for state in history.states():
        for dot, leaf in state.leaves.items():
            for other_dot, other in state.leaves.items():
                if dot != other_dot and dot in other.clock:
                    # Claimed, so it must be an ancestor in the view's sense: the other's clock covers all of it.
                    assert other.clock >= leaf.clock


@given(histories())
def test_deleting_all_siblings_deletes_the_document(history: History) -> None:
    for replica in history.replicas.values():
        for _ in range(20):
            siblings = replica.view().siblings
            if not siblings:
                break
            replica.delete("a", siblings[0].rev)
        assert replica.view().deleted
