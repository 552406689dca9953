"""The table of outcomes: what comes out when two people write at the same time.

Each row is played in both orders, and through a third replica that hears one before the other.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest

from crdtdb.documents import State, view
from crdtdb.testing.replicas import Replica

Act = Callable[[Replica], object]


def loser(replica: Replica) -> State:
    return replica.state()


def put(body: object) -> Act:
    return lambda replica: replica.put("a", body)


def put_on_loser(body: object) -> Act:
    return lambda replica: replica.put("a", body, replica.view().siblings[1].rev)


def increment_loser(by: int) -> Act:
    return lambda replica: replica.increment("a", "likes", by, replica.view().siblings[1].rev)


def increment(by: int) -> Act:
    return lambda replica: replica.increment("a", "likes", by)


def create_with_counter(by: int) -> Act:
    def act(replica: Replica) -> None:
        replica.put("a", {})
        replica.increment("a", "likes", by)

    return act


def remove() -> Act:
    return lambda replica: replica.delete("a")


def remove_loser() -> Act:
    return lambda replica: replica.delete("a", replica.view().siblings[1].rev)


def resolve(body: object) -> Act:
    return lambda replica: replica.resolve("a", body)


def nothing(replica: Replica) -> None:
    """The other does nothing."""


def resolve_after(others: Act, body: object) -> Act:
    """Resolve what was seen before another write came to the same node."""

    def act(replica: Replica) -> None:
        seen = [one.rev for one in replica.view().siblings]
        others(replica)
        replica.resolve("a", body, seen=seen)

    return act


def nothing_yet(ada: Replica, bob: Replica) -> None:
    """The document doesn't exist."""


def one_document(ada: Replica, bob: Replica) -> None:
    ada.put("a", {"title": "old"})
    bob.hear(ada)


def a_conflict(ada: Replica, bob: Replica) -> None:
    ada.put("a", {"title": "ada's"})
    bob.put("a", {"title": "bob's"})
    ada.hear(bob)
    bob.hear(ada)


X, Y, M = {"title": "x"}, {"title": "y"}, {"title": "m"}

ROWS = [
    # at first        ada                      and bob              bodies after      likes
    ("same title", one_document, put(X), put(X), [X], 0),
    ("different titles", one_document, put(X), put(Y), [X, Y], 0),
    ("title and field", one_document, put(X), increment(1), [X], 1),
    ("two increments", one_document, increment(2), increment(3), [{"title": "old"}], 5),
    ("delete and put", one_document, remove(), put(Y), [Y], 0),
    ("delete and edit of a field", one_document, remove(), increment(1), [{"title": "old"}], 1),
    ("two deletes", one_document, remove(), remove(), [], 0),
    ("two creations", nothing_yet, put(X), put(Y), [X, Y], 0),
    ("two creations of the same", nothing_yet, put(X), put(X), [X], 0),
    ("two creations with a counter", nothing_yet, create_with_counter(1), create_with_counter(2), [{}], 3),
    ("resolve and put on a loser", a_conflict, resolve(M), put_on_loser(Y), [M, Y], 0),
    ("resolve and increment a loser", a_conflict, resolve(M), increment_loser(1), [M], 1),
    ("two equal resolutions", a_conflict, resolve(M), resolve(M), [M], 0),
    ("resolve and put on a loser, at one node", a_conflict, resolve_after(put_on_loser(Y), M), nothing, [M, Y], 0),
    ("resolve and increment a loser, at one node", a_conflict, resolve_after(increment_loser(1), M), nothing, [M], 1),
    ("resolve and increment the winner, at one node", a_conflict, resolve_after(increment(1), M), nothing, [M], 1),
    ("two different resolutions", a_conflict, resolve(M), resolve(X), [M, X], 0),
]


def play(before: Callable[[Replica, Replica], None], a: Act, b: Act) -> tuple[Replica, Replica]:
    ada, bob = Replica("ada"), Replica("bob")
    before(ada, bob)
    a(ada)
    b(bob)
    return ada, bob


def all_ways(ada: Replica, bob: Replica) -> list[Replica]:
    """Return every replica that hears of both, by every route."""
    first, second, cy, dan = Replica("ada heard bob"), Replica("bob heard ada"), Replica("cy"), Replica("dan")
    first.hear(ada)
    first.hear(bob)
    second.hear(bob)
    second.hear(ada)
    cy.hear(ada)  # cy hears of ada's write alone, dan of bob's, then each of the other
    dan.hear(bob)
    cy.hear(dan)
    dan.hear(cy)
    return [first, second, cy, dan]


@pytest.mark.parametrize(
    ("before", "a", "b", "bodies", "likes"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
@pytest.mark.parametrize("swapped", [False, True], ids=["a,b", "b,a"])
def test_at_the_same_time(
    before: Callable[[Replica, Replica], None], a: Act, b: Act, bodies: list[object], likes: int, swapped: bool
) -> None:
    ada, bob = play(before, b, a) if swapped else play(before, a, b)
    ends = all_ways(ada, bob)
    for end in ends:
        assert sorted(map(str, end.bodies())) == sorted(map(str, bodies))
        assert end.count("a", "likes") == likes
        assert end.state() == ends[0].state()
        assert end.view() == ends[0].view()


@pytest.mark.parametrize("swapped", [False, True], ids=["a,b", "b,a"])
def test_removing_a_loser_while_it_is_put_leaves_the_conflict(swapped: bool) -> None:
    ada, bob = play(a_conflict, *((put_on_loser(Y), remove_loser()) if swapped else (remove_loser(), put_on_loser(Y))))
    winner = play(a_conflict, lambda _: None, lambda _: None)[0].bodies()[0]
    for end in all_ways(ada, bob):
        assert sorted(map(str, end.bodies())) == sorted(map(str, [winner, Y]))


def test_the_same_edit_has_one_rev() -> None:
    ada, bob = play(one_document, put(X), put(X))
    assert ada.view().winner is not None
    for end in all_ways(ada, bob):
        assert [shown.rev for shown in end.view().leaves] == [ada.view().leaves[0].rev]


def test_the_winner_is_the_highest_generation_then_the_highest_digest() -> None:
    ada, bob = play(nothing_yet, put(X), put(Y))
    ends = all_ways(ada, bob)
    assert ends[0].view().siblings[0].rev == max(ada.view().leaves[0].rev, bob.view().leaves[0].rev)
    # A second generation wins, whatever its digest.
    for body in range(8):
        other = Replica("other")
        other.put("a", {"n": body})
        other.put("a", {"n": body + 1})
        other.hear(ada)
        assert other.view().siblings[0].rev.generation == 2


def test_a_delete_that_lost_against_an_edit_is_a_deleted_conflict() -> None:
    ada, bob = play(one_document, remove(), put(Y))
    for end in all_ways(ada, bob):
        assert [shown.leaf.deleted for shown in end.view().leaves] == [False, True]
        assert not end.view().conflict


def test_a_put_on_a_deleted_document_goes_on_with_its_generations() -> None:
    ada = Replica("ada")
    ada.put("a", X)
    ada.delete("a")
    assert ada.view().deleted
    assert ada.put("a", Y).generation == 3
    assert ada.bodies() == [Y]
    assert len(ada.state().leaves) == len(ada.state().bodies) == 1


def test_a_resolution_closes_the_branches_that_it_leaves() -> None:
    ada, bob = play(a_conflict, resolve(M), lambda _: None)
    lost = bob.view().siblings[1].rev
    closed = [shown for shown in ada.view().leaves if shown.leaf.deleted]
    assert [shown.leaf.path.leads_to(lost, shown.rev.generation) for shown in closed] == [True]


def test_three_at_once_agree_in_every_order() -> None:
    names = ["ada", "bob", "cy"]
    base = Replica("base")
    base.put("a", {"title": "old"})
    people = []
    for name in names:
        one = Replica(name)
        one.hear(base)
        people.append(one)
    people[0].put("a", X)
    people[1].delete("a")
    people[2].increment("a", "likes", 4)
    seen = set()
    for order in permutations(people):
        end = Replica("end")
        for one in order:
            end.hear(one)
        seen.add((str(end.bodies()), end.count("a", "likes"), str(view(end.state()).leaves)))
    assert len(seen) == 1
