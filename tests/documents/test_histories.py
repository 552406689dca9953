"""Histories that broke earlier drafts of the design, on the pure core. Those that need a network are in tests/sim."""

from __future__ import annotations

from msgspec.structs import replace

from crdtdb.canonical_json import canonical
from crdtdb.causality import Dot, DotSet
from crdtdb.documents import (
    NO_PATH,
    NOTHING,
    Ancestor,
    Body,
    Leaf,
    Path,
    Rev,
    State,
    Write,
    merge,
    put,
    view,
)
from crdtdb.testing.replicas import CREATION, Replica


def test_history_1_the_twin_siblings() -> None:
    """Ada's node takes two writes of two clients on one parent. They are siblings; a put on one leaves the other."""
    ada = Replica("ada")
    ada.put("a", {"n": 0})
    parent_state, parent = ada.state(), ada.view().leaves[0].rev

    # Both clients name the same parent; the second write knows nothing of the first.
    one = put(parent_state, Write("a", ada.actor, 1, 1, CREATION), parent, canonical({"n": 1}))
    two = put(parent_state, Write("a", ada.actor, 2, 2, CREATION), parent, canonical({"n": 2}))
    both = merge(one, two)
    assert [shown.text for shown in view(both).siblings] in ([b'{"n":1}', b'{"n":2}'], [b'{"n":2}', b'{"n":1}'])

    # Neither clock claims the other's dot.
    first, second = both.leaves[Dot(ada.actor, 2)], both.leaves[Dot(ada.actor, 3)]
    assert Dot(ada.actor, 2) not in second.clock
    assert Dot(ada.actor, 3) not in first.clock

    # A put on the second leaves the first, and its clock doesn't claim it either.
    after = put(both, Write("a", ada.actor, 3, 3, CREATION), second.rev, canonical({"n": 3}))
    assert {shown.text for shown in view(after).siblings} == {b'{"n":1}', b'{"n":3}'}
    assert Dot(ada.actor, 2) not in after.leaves[Dot(ada.actor, 4)].clock
    assert Dot(ada.actor, 3) in after.leaves[Dot(ada.actor, 4)].clock


def test_history_4_the_hidden_twin() -> None:
    """A and B make the same put q; A puts y on it, C puts z; all merge; y is removed: q must not come back to light."""
    ada, bob, cy = Replica("ada"), Replica("bob"), Replica("cy")
    q = ada.put("a", {"is": "q"})
    assert bob.put("a", {"is": "q"}) == q
    cy.hear(bob)
    ada.put("a", {"is": "y"})
    cy.put("a", {"is": "z"})
    for one in (ada, bob, cy):
        for other in (ada, bob, cy):
            one.hear(other)
    assert {str(body) for body in ada.bodies()} == {"{'is': 'y'}", "{'is': 'z'}"}

    y = next(shown.rev for shown in ada.view().siblings if shown.text == b'{"is":"y"}')
    ada.delete("a", y)
    bob.hear(ada)
    for one in (ada, bob):
        assert one.bodies() == [{"is": "z"}]

    # Once y's deleted leaf is gone too, z's path alone has to hide what is left of q.
    for one in (ada, bob):
        held = {dot: leaf for dot, leaf in one.state().leaves.items() if not leaf.deleted}
        assert view(replace(one.state(), leaves=held)).siblings[0].text == b'{"is":"z"}'
        assert not view(replace(one.state(), leaves=held)).conflict


def test_history_4_the_hidden_twin_under_a_cut_path() -> None:
    """The same where a path holds no more than `revs_limit` ancestors: the oldest are forgotten alike everywhere."""
    ada, bob = Replica("ada"), Replica("bob")
    ada.put("a", {"n": 0})
    for n in range(1, 1_010):
        ada.put("a", {"n": n})
    bob.hear(ada)
    (shown,) = bob.view().leaves
    assert shown.rev.generation == 1_010
    assert len(shown.leaf.path.all()) == 1_000
    assert bob.view() == ada.view()


def test_history_6_the_equal_creation() -> None:
    """A and B create q; A puts y; B increments a field: y, incremented, no conflict, whoever hears of it how."""
    ada, bob = Replica("ada"), Replica("bob")
    ada.put("a", {"is": "q"})
    bob.put("a", {"is": "q"})
    ada.put("a", {"is": "y"})
    bob.increment("a", "likes", 1)
    cy, dan = Replica("cy"), Replica("dan")
    cy.hear(ada)
    cy.hear(bob)
    dan.hear(bob)
    dan.hear(ada)
    for one in (cy, dan):
        assert one.bodies() == [{"is": "y"}]
        assert one.count("a", "likes") == 1

    # And when somebody who saw all that deletes it, the body q doesn't come back.
    cy.delete("a")
    assert cy.view().deleted


def test_history_22_the_recurring_digest() -> None:
    """Two leaves whose digests are equal at different generations are two leaves."""
    actor, digest = b"A" * 16, "d" * 32

    def leaf(dot: Dot, generation: int, path: Path) -> Leaf:
        rev = Rev(generation, digest)
        return Leaf(rev, path, DotSet.of([dot]), False, dot, rev, 0, CREATION)

    low, high = Dot(actor, 1), Dot(actor, 2)
    state = State(
        {low: leaf(low, 2, NO_PATH), high: leaf(high, 4, Path([Ancestor("e" * 32, None)]))},
        {low: Body(b'{"n":1}', CREATION), high: Body(b'{"n":2}', CREATION)},
        {},
        DotSet.of([low, high]),
    )
    assert [str(shown.rev) for shown in view(state).leaves] == [f"4-{digest}", f"2-{digest}"]
    assert view(state).conflict

    # A digest on the path hides the leaf of its own generation alone.
    path = Path([Ancestor("e" * 32, None), Ancestor(digest, None)])
    hidden = replace(state, leaves={low: leaf(low, 2, NO_PATH), high: leaf(high, 4, path)})
    assert [str(shown.rev) for shown in view(hidden).leaves] == [f"4-{digest}"]
    other = replace(state, leaves={low: leaf(low, 3, NO_PATH), high: leaf(high, 4, path)})
    assert len(view(other).leaves) == 2


def test_nothing_merges_to_nothing() -> None:
    assert merge(NOTHING, NOTHING) == NOTHING
    assert view(NOTHING).winner is None
