"""Which index a query reads, and from where to where."""

from __future__ import annotations

from typing import Any

import pytest

from crdtdb.errors import InvalidInputError, NoUsableIndexError
from crdtdb.query.collation import LAST, sort_key
from crdtdb.query.definitions import IndexDefinition, check_definition, ordered_fields, read_definitions
from crdtdb.query.planner import NO_INDEX, SORTED, Plan, plan
from crdtdb.query.selectors import compile_selector


def index(*fields: str, name: str = "", partial: dict[str, Any] | None = None) -> IndexDefinition:
    given: dict[str, Any] = {"fields": list(fields)}
    if partial:
        given["partial_filter_selector"] = partial
    return check_definition(given, name or "-".join(fields), name or "-".join(fields))


AGE, NAME, AGE_NAME, CITY = (
    index("age"),
    index("name"),
    index("age", "name"),
    index("city", partial={"age": {"$gt": 5}}),
)
ALL = [AGE, NAME, AGE_NAME, CITY]


def planned(selector: dict[str, Any], *sort: str, **options: Any) -> Plan:
    return plan(compile_selector(selector), sort, False, ALL, **options)


@pytest.mark.parametrize(
    ("selector", "sort", "chosen"),
    [
        ({"age": 5}, [], AGE),
        ({"age": {"$gt": 5}, "name": {"$exists": True}}, [], AGE),
        ({"age": 5, "name": "x"}, [], AGE_NAME),
        ({"age": 5, "name": {"$gt": "x"}}, [], AGE_NAME),
        ({"age": 5, "name": {"$exists": False}}, [], AGE),
        ({"$and": [{"age": {"$gt": 5}}, {"$or": [{"age": {"$lt": 9}}]}]}, [], AGE),
        ({"$or": [{"age": 5}, {"name": "x"}]}, [], None),
        ({"$not": {"age": {"$gt": 5}}}, [], AGE),
        ({"age": {"$exists": False}}, [], None),
        ({"title": "x"}, [], None),
        ({"age": {"$gt": 5}, "_id": "a"}, [], None),
        ({"age": 5, "name": {"$gt": None}}, ["name"], AGE_NAME),
        ({"age": {"$gt": 5}, "name": {"$gt": None}}, ["name"], NAME),
        ({"age": {"$gt": 5}, "name": {"$gt": None}}, ["age", "name"], AGE_NAME),
        ({"age": {"$gt": 5}}, ["name"], AGE),  # who lacks a name must be found too
        ({"city": "Rome"}, [], None),
        ({"city": {"$lt": "Rome"}, "age": {"$gt": 5}}, [], AGE),
        ({"city": "Rome", "age": {"$gt": 5}}, [], CITY),
        ({"city": "Rome", "age": {"$gt": 5.0}, "name": {"$ne": 1}}, ["city"], CITY),
    ],
)
def test_the_index_that_is_chosen(selector: dict[str, Any], sort: list[str], chosen: IndexDefinition | None) -> None:
    found = planned(selector, *sort)
    assert found.index is chosen


def test_ranges() -> None:
    five, nine = sort_key(5), sort_key(9)
    assert planned({"age": 5}).range[:2] == (five, five + LAST)
    assert planned({"age": {"$gt": 5, "$lte": 9}}).range[:2] == (five + LAST, nine + LAST)
    assert planned({"age": {"$gte": 5, "$lt": 9}}).range[:2] == (five, nine)
    assert planned({"age": {"$ne": 5}}).range[:2] == (b"", LAST)
    found = planned({"age": 5, "name": {"$beginsWith": "ad"}}).range
    assert found.start.startswith(five)
    assert found.narrowed == 2
    by_id = planned({"_id": {"$gt": "a"}})
    assert by_id.index is None
    assert by_id.warnings == ()


def test_what_is_said_of_a_query_without_an_index() -> None:
    assert planned({"title": "x"}).warnings == (NO_INDEX,)
    assert planned({"title": {"$gt": "x"}}, "title").warnings == (SORTED, NO_INDEX)
    assert planned({"title": "x"}, "_id").warnings == (NO_INDEX,)
    assert planned({"age": {"$gt": 5}}, "name").warnings == (SORTED,)
    with pytest.raises(NoUsableIndexError, match="create one"):
        planned({"title": "x"}, fallback=False)


def test_the_index_that_is_asked_for() -> None:
    both = {"age": 5, "name": "x"}
    assert planned(both, use=("_design/age", None)).index is AGE
    assert planned(both, use=("_design/age", "age")).index is AGE
    other = planned(both, use=("_design/title", "t"))
    assert other.index is AGE_NAME
    assert other.warnings == ("_design/title t was not used because it does not contain a valid index for this query.",)
    assert planned({"city": "Rome"}, use=("_design/city", None)).index is CITY, "who names a partial index means it"
    assert planned({"city": "Rome"}, use=("_design/nothing", None)).index is None


@pytest.mark.parametrize(
    "given",
    [
        [],
        "age",
        {},
        {"fields": []},
        {"fields": "age"},
        {"fields": [5]},
        {"fields": [""]},
        {"fields": [{"a": "up"}]},
        {"fields": [{"a": "asc", "b": "asc"}]},
        {"fields": [{"a": "asc"}, {"b": "desc"}]},
        {"fields": ["a", "a"]},
        {"fields": ["a"], "feilds": ["b"]},
        {"fields": ["a"], "partial_filter_selector": {"a": {"$what": 1}}},
        {"fields": ["a"], "partial_filter_selector": {"a": {"$regex": "x"}}},
        {"fields": ["a"], "partial_filter_selector": {"$not": {"a": {"$regex": "x"}}}},
        {"fields": ["a"], "partial_filter_selector": {"a": {"$elemMatch": {"$regex": "x"}}}},
    ],
)
def test_definitions_that_are_refused(given: Any) -> None:
    with pytest.raises(InvalidInputError):
        check_definition(given)


@pytest.mark.parametrize("names", [("", None), (None, ""), ("x" * 600, None), ("_design/", None)])
def test_names_that_are_refused(names: tuple[str | None, str | None]) -> None:
    with pytest.raises(InvalidInputError, match="is a string of 1 to 512"):
        check_definition({"fields": ["a"]}, *names)


def test_a_definition_through_its_design_document() -> None:
    one = check_definition({"fields": [{"b": "desc"}, {"a": "desc"}], "partial_filter_selector": {"c": 1}}, "d", "n")
    body = {
        "language": "query",
        "views": {"n": one.view(), "odd": {"map": "function"}, "bad": {"map": {"fields": [{}]}}},
    }
    (again,) = read_definitions("_design/d", body)
    assert again.json() == one.json()
    assert again.fields == ("b", "a")
    assert read_definitions("_design/d", {**body, "language": "javascript"}) == []
    assert read_definitions("_design/d", {"language": "query", "views": 5}) == []
    assert ordered_fields(["a", {"b": "asc"}], "x") == (("a", "b"), False)
