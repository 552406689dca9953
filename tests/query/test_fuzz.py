"""Whatever somebody sends as a selector or a design document is refused by name, or means something: nothing else happens."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import crdtdb
from crdtdb.errors import InvalidInputError, SelectorError, TooLargeError
from crdtdb.query.collation import sort_key
from crdtdb.query.definitions import check_definition, read_definitions
from crdtdb.query.selectors import _NESTING, _SIMPLE, compile_selector
from crdtdb.testing.strategies import json_values
from tests.examples import examples

OPERATORS = st.sampled_from([*_SIMPLE, *_NESTING, "$and", "$or", "$nor", "$not", "$what"])
FIELDS = st.sampled_from(["a", "b", "o.in", "o", "_id"])
VALUES = st.sampled_from([None, True, 0, 1, 2, "", "x", "xy", [], [1, "x"], {}, {"in": 1}, {"in": "x"}, -1, False])
SELECTORS: st.SearchStrategy[Any] = st.recursive(
    VALUES,
    lambda inner: (
        st.dictionaries(FIELDS | OPERATORS, inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["$and", "$or", "$nor", "$in", "$all", "$mod"]), st.lists(inner, max_size=2), max_size=1
        )
    ),
    max_leaves=8,
)
BODIES = st.fixed_dictionaries(
    {}, optional={"a": VALUES, "b": VALUES, "o": st.fixed_dictionaries({}, optional={"in": VALUES})}
)


@examples(400)
@given(SELECTORS | json_values(), BODIES)
def test_a_selector_is_refused_or_tells(selector: Any, document: dict[str, Any]) -> None:
    try:
        matches = compile_selector(selector)
    except SelectorError:
        return
    assert matches(document) in (True, False)


@examples(300)
@given(
    st.lists(BODIES, min_size=1, max_size=6),
    st.lists(SELECTORS, min_size=1, max_size=8),
    st.lists(FIELDS, max_size=2, unique=True),
)
def test_every_query_through_any_index_finds_what_a_look_at_all_finds(
    bodies: list[dict[str, Any]], selectors: list[Any], sort: list[str]
) -> None:
    with crdtdb.open("memory:") as db:
        notes = db["notes"]
        notes.bulk([{"_id": f"d{n}", **body} for n, body in enumerate(bodies)])
        for fields, partial in (
            (["a"], None),
            (["b", "a"], None),
            (["o.in"], None),
            (["o", "b"], None),
            (["a"], {"b": {"$gt": 0}}),
        ):
            notes.create_index(fields, partial=partial)
        for selector in selectors:
            try:
                matches = compile_selector(selector)
            except SelectorError:
                continue
            expected = {one.id for one in notes.all() if one.id[0] != "_" and matches({**one, "_id": one.id})}
            finder = notes.find(selector, sort=sort)
            assert sorted(one.id for one in finder) == sorted(expected), (selector, finder.plan)


@examples(300)
@given(
    st.dictionaries(st.sampled_from(["language", "views", "x"]), json_values() | st.just("query"), max_size=3),
    json_values(),
)
def test_no_design_document_can_do_harm(body: dict[str, Any], part: Any) -> None:
    read_definitions("_design/d", body)
    for view in (
        part,
        {"map": part},
        {"map": {"fields": part}},
        {"map": {"fields": {"a": part}}},
        {"map": {"fields": {"a": "asc"}, "partial_filter_selector": part}},
        {"map": {"fields": {"a": "asc", "b": "asc"}}, "options": part},
        {"map": {"fields": {"a": "asc", "b": "asc"}}, "options": {"def": part}},
        {"map": {"fields": {"a": "asc", "b": "asc"}}, "options": {"def": {"fields": part}}},
        {"map": {"fields": {"a": "asc", "b": "asc"}}, "options": {"def": {"fields": [part, {"b": "asc"}]}}},
    ):
        read_definitions("_design/d", {"language": "query", "views": {"v": view}})
    with suppress(InvalidInputError, TooLargeError):
        check_definition(part)


@given(json_values(), st.text(max_size=3), json_values())
def test_any_document_can_be_written_where_anything_is_indexed(value: Any, key: str, other: Any) -> None:
    with crdtdb.open("memory:") as db:
        notes = db["notes"]
        notes.create_index(["v"])
        notes.create_index(["w", "v"], partial={"v": {"$exists": True}})
        notes.put("a", {"v": value, "w": other, "x" + key: 1})
        assert [one.id for one in notes.find({"v": {"$eq": value}})] == ["a"]
        assert sort_key(notes.get("a")["v"]) == sort_key(value)
        notes.put(
            "_design/odd",
            {"language": "query", "views": {key: value, "w": {"map": {"fields": other}, "options": value}}},
        )
        notes.delete("a", notes.get("a").rev)
        assert list(notes.find({"v": {"$eq": value}})) == []
