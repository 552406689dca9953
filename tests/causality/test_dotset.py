"""Dot sets against plain sets of dots."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtdb.causality import EMPTY, Dot, DotSet
from crdtdb.testing.strategies import dot_sets, dots


def plain(these: DotSet) -> set[Dot]:
    return set(these.dots())


@given(st.lists(dots()))
def test_it_holds_what_it_was_given(given_dots: list[Dot]) -> None:
    these = DotSet.of(given_dots)
    assert plain(these) == set(given_dots)
    added = EMPTY
    for dot in given_dots:
        added = added.add(dot)
    assert added == these


@given(dot_sets(), dot_sets())
def test_operations_are_those_of_sets(one: DotSet, two: DotSet) -> None:
    assert plain(one | two) == plain(one) | plain(two)
    assert plain(one - two) == plain(one) - plain(two)
    assert (one >= two) == (plain(one) >= plain(two))
    assert (one == two) == (plain(one) == plain(two))
    assert one | two == two | one


@given(dot_sets(), dots())
def test_membership(these: DotSet, dot: Dot) -> None:
    assert (dot in these) == (dot in plain(these))
    assert these.highest(dot.actor) == max((d.counter for d in plain(these) if d.actor == dot.actor), default=0)


@given(dot_sets())
def test_ranges_are_ascending_disjoint_and_never_adjacent(these: DotSet) -> None:
    for _, ranges in these.items():
        assert all(first <= last for first, last in ranges)
        assert all(one[1] + 1 < two[0] for one, two in pairwise(ranges))
    assert DotSet.from_ranges(dict(these.items())) == these


@given(dot_sets())
def test_the_version_vector_is_what_nothing_is_missing_below(these: DotSet) -> None:
    for actor, counter in these.version_vector().items():
        assert all(Dot(actor, n) in these for n in range(1, counter + 1))
        assert Dot(actor, counter + 1) not in these


@pytest.mark.parametrize("wrong", [(0, 3), (5, 4), (-1, -1)])
def test_a_range_that_is_none_is_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not a range of counters"):
        DotSet.from_ranges({b"A" * 16: [wrong]})
