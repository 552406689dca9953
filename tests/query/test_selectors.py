"""Every operator of a selector, what it takes and what it matches."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from crdtdb.errors import SelectorError, TooLargeError
from crdtdb.query.collation import sort_key
from crdtdb.query.selectors import compile_selector, path_of

DOCUMENT: dict[str, Any] = {
    "n": 5,
    "title": "first",
    "on": True,
    "none": None,
    "tags": ["a", "b"],
    "people": [{"name": "ada", "age": 36}, {"name": "bob", "age": 9}],
    "deep": {"er": {"x": 1.5}},
    "a.b": "dotted",
}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ({}, True),
        ({"n": 5}, True),
        ({"n": "5"}, False),
        ({"on": 1}, False),
        ({"none": None}, True),
        ({"missing": None}, False),
        ({"n": {"$eq": 5.0}}, True),
        ({"n": {"$ne": 5}}, False),
        ({"missing": {"$ne": 5}}, False),
        ({"n": {"$gt": 4, "$lt": 6}}, True),
        ({"n": {"$gte": 5, "$lte": 4}}, False),
        ({"title": {"$gt": 1_000}}, True),  # strings come after numbers
        ({"missing": {"$gt": 0}}, False),
        ({"n": {"$in": [1, 5]}}, True),
        ({"tags": {"$in": ["b"]}}, True),
        ({"n": {"$nin": [1, 5]}}, False),
        ({"missing": {"$nin": [1]}}, False),
        ({"tags": {"$all": ["b", "a"]}}, True),
        ({"tags": {"$all": ["c"]}}, False),
        ({"missing": {"$exists": False}}, True),
        ({"none": {"$exists": True}}, True),
        ({"tags": {"$type": "array"}}, True),
        ({"on": {"$type": "number"}}, False),
        ({"tags": {"$size": 2}}, True),
        ({"n": {"$mod": [3, 2]}}, True),
        ({"title": {"$regex": "^fi"}}, True),
        ({"n": {"$regex": "5"}}, False),
        ({"title": {"$beginsWith": "fir"}}, True),
        ({"people": {"$elemMatch": {"name": "bob", "age": {"$lt": 10}}}}, True),
        ({"people": {"$allMatch": {"age": {"$gt": 10}}}}, False),
        ({"deep": {"$keyMapMatch": {"$eq": "er"}}}, True),
        ({"deep.er.x": 1.5}, True),
        ({"deep": {"er": {"x": {"$gt": 1}}}}, True),
        ({"people.1.name": "bob"}, True),
        ({r"a\.b": "dotted"}, True),
        ({"$and": [{"n": 5}, {"on": True}]}, True),
        ({"$or": [{"n": 6}, {"on": True}]}, True),
        ({"$nor": [{"n": 6}, {"on": False}]}, True),
        ({"$not": {"n": 6}}, True),
        ({"n": {"$not": {"$gt": 4}}}, False),
        ({"$not": {"$not": {"n": 5}}}, True),
        ({"$not": {"$or": [{"n": 5}, {"on": False}]}}, False),
        ({"$not": {"$and": [{"n": 5}, {"on": False}]}}, True),
        ({"$not": {"$nor": [{"n": 5}, {"on": False}]}}, True),
        ({"$nor": [{"n": 5}]}, False),
        ({"n": {"$not": {"$gt": 4, "$lt": 5}}}, True),
        ({"$not": {"missing": {"$gt": 3}}}, False),  # a negation asks for something that is there, as in CouchDB
        ({"$not": {"missing": {"$exists": True}}}, True),
        ({"missing": {"$not": {"$exists": True}}}, True),
        ({"missing": {"$not": {"$regex": "x"}}}, False),
        ({"title": {"$not": {"$regex": "x"}}}, True),
        ({"missing": {"$exists": False, "$ne": 3}}, False),
        ({"missing": {"$or": [{"$exists": False}, {"$gt": 3}]}}, True),
        ({"tags": {"$not": {"$elemMatch": {"$eq": "z"}}}}, True),
        ({"tags": {"$elemMatch": {"$in": ["b", "z"]}}}, True),
        ({"tags": {"$all": []}}, False),
        ({"tags": {"$all": [["a", "b"]]}}, True),
        ({"tags": {"$in": [["a", "b"]]}}, True),
        ({"tags": {"$nin": ["b"]}}, False),
        ({"tags": {"$allMatch": {"$type": "string"}}}, True),
        ({"on": {"$type": "boolean"}}, True),
        ({"n": {"$type": "number"}}, True),
        ({"deep": {"$type": "object"}}, True),
        ({"none": {"$type": "null"}}, True),
        ({"deep": {"$eq": {"er": {"x": 1.5}}}}, True),
        ({"deep": {}}, False),
        ({"n": {"$mod": [-3, 2]}}, True),
        ({"none": {"$lt": False}}, True),
        ({"people": {"$elemMatch": {"$not": {"age": {"$gt": 9}}}}}, True),
        ({"$and": []}, False),
        ({"$or": []}, False),
        ({"$not": {}}, False),
    ],
)
def test_selectors(selector: dict[str, Any], matches: bool) -> None:
    assert compile_selector(selector)(DOCUMENT) is matches


@pytest.mark.parametrize(
    "selector",
    [
        [],
        {"$no": 1},
        {"n": {"$size": "2"}},
        {"n": {"$in": 1}},
        {"n": {"$exists": 1}},
        {"n": {"$type": 5}},
        {"n": {"$mod": [0, 1]}},
        {"n": {"$regex": "("}},
        {"$and": {}},
        {"n": {"$beginsWith": 1}},
        {"n": {"$text": "word"}},
        {"n": {"$size": -1}},
        {"n": {"$type": []}},
        {"n": {"$mod": [2.0, 1]}},
        {"n": {"$regex": "x" * 20_000}},
        {"n": {"$regex": None}},
        {"n": {"$all": "a"}},
        {"n": {"$nin": "a"}},
        {"n": {"$eq": {1}}},
        {5: 1},
        {"$not": {"$exists": True, "$what": 1}},
        None,
        "n",
    ],
)
def test_what_is_no_selector_is_refused(selector: Any) -> None:
    with pytest.raises(SelectorError):
        compile_selector(selector)


def test_a_selector_that_is_too_deep_is_refused() -> None:
    selector: dict[str, Any] = {"n": 1}
    for _ in range(200):
        selector = {"$not": selector}
    with pytest.raises(SelectorError, match="deep"):
        compile_selector(selector)


def test_a_selector_of_too_many_conditions_is_refused() -> None:
    with pytest.raises(SelectorError, match="more than 10,000"):
        compile_selector({"$or": [{"n": number} for number in range(10_001)]})


def test_a_regular_expression_that_takes_for_ever_is_stopped() -> None:
    matches = compile_selector({"title": {"$regex": "^(a|a|aa)+$"}})
    with pytest.raises(TooLargeError, match="took over 0.5 s"):
        matches({"title": "a" * 60 + "!"})
    assert matches({"title": "aaa"})


def test_the_opposite_of_an_operator_is_its_negation_where_something_is() -> None:
    values: list[Any] = [None, True, -7, 5, 5.5, "5", "abc", [], ["abc"], [5, "abc"], {}, {"x": 1}]
    operators: list[dict[str, Any]] = [
        *({name: value} for name in ("$lt", "$lte", "$gt", "$gte", "$eq", "$ne") for value in values),
        {"$in": [5, "abc"]},
        {"$nin": [5, "abc"]},
        {"$all": ["abc"]},
        {"$size": 1},
        {"$mod": [5, 0]},
        {"$type": "string"},
        {"$regex": "b"},
        {"$beginsWith": "a"},
        {"$elemMatch": {"$eq": 5}},
        {"$allMatch": {"$eq": "abc"}},
        {"$keyMapMatch": {"$eq": "x"}},
    ]
    for operator in operators:
        straight, negated = compile_selector({"f": operator}), compile_selector({"f": {"$not": operator}})
        for value in values:
            assert straight({"f": value}) is not negated({"f": value}), (operator, value)
        assert not straight({})
        assert not negated({})


def test_values_have_couchdbs_order() -> None:
    ordered: list[Any] = [
        None,
        False,
        True,
        -1,
        0,
        1.5,
        2,
        "",
        "a",
        "b",
        [],
        [1],
        [1, 0],
        [2],
        {},
        {"a": 1},
        {"a": 2},
        {"b": 1},
    ]
    mixed = list(ordered)
    Random(1).shuffle(mixed)
    assert sorted(mixed, key=sort_key) == ordered
    assert path_of("a.b") == ("a", "b")


def test_many_texts_that_each_take_a_little_less() -> None:
    """Each match stays below the bound of one; all of them together don't below that of a query."""
    matches = compile_selector({"text": {"$regex": "(?:x|x)*$"}})
    text = "x" * 17 + "!"
    with pytest.raises(TooLargeError, match="expressions of a query|took over"):
        for _ in range(100_000):
            matches({"text": text})
    again = compile_selector({"text": {"$regex": "^x+!$"}})
    assert all(again({"text": text}) for _ in range(10_000))


def test_patterns_over_large_texts() -> None:
    assert compile_selector({"text": {"$regex": "y$"}})({"text": "x" * 2_000_000 + "y"})
    with pytest.raises(TooLargeError, match="too much memory"):
        compile_selector({"text": {"$regex": "((x)|(y))*[^x]"}})({"text": "x" * 4_000_000})
