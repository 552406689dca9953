"""The order of values as bytes: that of CouchDB's examples, and total, whatever the values."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crdtdb.query.collation import LAST, sort_key, text_bound, text_range

IN_ORDER: list[Any] = [
    None,
    False,
    True,
    -(2**2000),
    -1e300,
    -(2**63),
    -(2**63) + 1,
    -2.5,
    -1,
    -5e-324,
    0,
    5e-324,
    1,
    1.5,
    2**53,
    2**53 + 1,
    2**53 + 2,
    2**64 - 2,
    2**64 - 1,
    1e300,
    2**2000,
    "",
    "\0",
    "\0a",
    "A",
    "a",
    "a\0",
    "a\0\xff",
    "a\x01",
    "aa",
    "b",
    "\uffff",
    "\U0001f600",
    [],
    [None],
    [1],
    [1, 2],
    [2],
    ["a"],
    [[]],
    {},
    {"a": 1},
    {"a": 1, "b": 1},
    {"a": 2},
    {"b": 1},
    {"b": 1, "c": 0},
]

numbers = st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


def test_objects_are_compared_by_their_members_in_order() -> None:
    in_order = [{"a": 1}, {"a": 1, "b": 2}, {"a": 2}, {"b": 1}, {"b": 2, "a": 1}]
    for lower, higher in pairwise(in_order):
        assert sort_key(lower) < sort_key(higher), (lower, higher)


def test_the_order_of_kinds_and_of_values_within_them() -> None:
    for lower, higher in pairwise(IN_ORDER):
        assert sort_key(lower) < sort_key(higher), (lower, higher)


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (0.0, -0.0), (2**60, float(2**60)), ((1,), [1])])
def test_equal_values_have_equal_keys(one: Any, other: Any) -> None:
    assert sort_key(one) == sort_key(other)


@given(numbers, st.integers(-(2**64), 2**64))
@example(float(2**53), 2**53 + 1)
@example(1.8446744073709552e19, 2**64 - 1)
def test_numbers_are_ordered_exactly(one: float, other: int) -> None:
    assert (sort_key(one) < sort_key(other)) == (one < other)
    assert (sort_key(one) == sort_key(other)) == (one == other)


@given(st.text(), st.text())
def test_texts_are_ordered_by_their_code_points(one: str, other: str) -> None:
    assert (sort_key(one) < sort_key(other)) == (one < other)


@given(values, values)
def test_no_key_is_the_beginning_of_another(one: Any, other: Any) -> None:
    first, second = sort_key(one), sort_key(other)
    assert first == second or not (first.startswith(second) or second.startswith(first))
    assert not first.endswith(LAST + LAST)
    assert first < first + LAST
    assert (first + LAST < second) == (first < second)


@given(st.lists(values, max_size=3), st.lists(values, max_size=3))
def test_arrays_are_ordered_element_by_element(one: list[Any], other: list[Any]) -> None:
    keys = [sort_key(each) for each in one], [sort_key(each) for each in other]
    assert (sort_key(one) < sort_key(other)) == (keys[0] < keys[1])


@given(st.text(max_size=3), st.text(max_size=4))
def test_a_range_of_texts_has_those_that_begin_so(beginning: str, text: str) -> None:
    first, last = text_range(beginning)
    assert (first <= sort_key(text) < last) == text.startswith(beginning)


@given(st.text(max_size=4), st.text(max_size=3))
def test_the_bound_of_a_key_among_texts(text: str, limit: str) -> None:
    raw, key = text.encode(), sort_key(limit)
    for bound in (key, key + LAST, *text_range(limit)):
        assert (raw >= text_bound(bound)) == (sort_key(text) >= bound), bound
    assert text_bound(sort_key(5)) == b""
    assert text_bound(sort_key([])) == LAST


def test_what_isnt_json_is_refused() -> None:
    with pytest.raises(TypeError, match="a set is not JSON"):
        sort_key({1})
