"""Revisions made elsewhere, by writers that know no fields: what they change counts once, wherever it arrives."""

from __future__ import annotations

from typing import Any

import pytest

import crdtdb
from crdtdb.database import Database
from crdtdb.errors import CrdtdbError
from crdtdb.limits import JOURNAL_UPDATES_MAX
from crdtdb.testing.invariants import check_store
from tests.store.worlds import Node

SCHEMA = {"likes": crdtdb.Counter, "tags": crdtdb.Set, "body": crdtdb.Text, "on": crdtdb.Flag}


class Nodes:
    """Two nodes that hold one document, and a client that read it from either."""

    def __init__(self, **body: Any) -> None:
        self.nodes = [Node("ada"), Node("bob")]
        self.collections = [Database(node.store).collection("notes") for node in self.nodes]
        self.collections[0].declare(SCHEMA)
        self.first = self.collections[0].put("a", {"title": "x", "likes": 5, "tags": ["t"], "body": "hello", **body})
        self.talk()

    def talk(self) -> dict[str, Any]:
        for _ in range(2):
            self.nodes[0].hear(self.nodes[1])
            self.nodes[1].hear(self.nodes[0])
        for node in self.nodes:
            check_store(node.store)
        values = [dict(one.get("a")) for one in self.collections]
        assert values[0] == values[1]
        assert self.nodes[0].digest() == self.nodes[1].digest()
        return values[0]

    def push(self, number: int, rev: str, parents: list[str], **body: Any) -> CrdtdbError | None:
        generation, digest = rev.split("-")
        ids = [digest, *(one.split("-")[1] for one in parents)]
        (result,) = self.collections[number].take(
            [{"_id": "a", "_rev": rev, "_revisions": {"start": int(generation), "ids": ids}, **body}]
        )
        return result


def test_history_18_the_double_push() -> None:
    """A PouchDB pushes one revision that adds 2 to a counter to two nodes: +2."""
    nodes = Nodes()
    whole = {**nodes.first, "likes": 7}
    for number in (0, 1):
        assert nodes.push(number, "2-cafe", [nodes.first.rev], **whole) is None
        assert nodes.collections[number].get("a").rev == "2-cafe"
    assert nodes.talk() == whole
    assert nodes.collections[0].get("a").rev == "2-cafe"
    nodes.push(0, "2-cafe", [nodes.first.rev], **whole)  # once more, now that all know it
    assert nodes.talk() == whole


def test_one_revision_types_in_a_text_once_though_two_nodes_take_it() -> None:
    nodes = Nodes()
    whole = {**nodes.first, "body": "hello world", "tags": ["t", "u"], "on": True}
    for number in (0, 1):
        nodes.push(number, "2-cafe", [nodes.first.rev], **whole)
    assert nodes.talk() == whole


def test_a_revision_that_creates_a_document_at_two_nodes_creates_its_fields_once() -> None:
    nodes = Nodes()
    for number in (0, 1):
        (result,) = nodes.collections[number].take(
            [{"_id": "new", "_rev": "1-feed", "_revisions": {"start": 1, "ids": ["feed"]}, "likes": 3, "body": "once"}]
        )
        assert result is None
    nodes.talk()
    for collection in nodes.collections:
        assert dict(collection.get("new")) == {"likes": 3, "body": "once"}
        assert collection.get("new").field_conflicts == ()


def test_two_writers_from_one_parent_each_add_one() -> None:
    """They push to different nodes, or to one: +2, and no conflict."""
    for targets in ((0, 1), (0, 0)):
        nodes = Nodes()
        nodes.push(targets[0], "2-aaaa", [nodes.first.rev], **{**nodes.first, "likes": 6})
        nodes.push(targets[1], "2-bbbb", [nodes.first.rev], **{**nodes.first, "likes": 6})
        assert nodes.talk()["likes"] == 7
        assert nodes.collections[0].get("a").conflicts == ()


def test_a_writer_who_read_before_native_edits_changes_only_what_it_changed() -> None:
    """It removes what it had seen, adds what it added; what came meanwhile stays."""
    nodes = Nodes()
    with nodes.collections[0].edit("a") as document:
        document["likes"].increment(10)
        document["tags"].add("t")  # once more: the removal hadn't seen this add
        document["tags"].add("meanwhile")
        document["body"].insert(0, "Oh, ")
    for number in (0, 1):
        nodes.push(number, "2-cafe", [nodes.first.rev], **{**nodes.first, "likes": 4, "tags": ["v"], "body": "hello!"})
    assert nodes.talk() == {"title": "x", "likes": 14, "tags": ["meanwhile", "t", "v"], "body": "Oh, hello!"}
    assert nodes.collections[0].get("a").conflicts == ()


def test_a_writer_who_removes_a_field_takes_away_what_it_had_seen() -> None:
    nodes = Nodes()
    with nodes.collections[1].edit("a") as edit:
        edit["likes"].increment(10)
        edit["tags"].add("u")
    nodes.talk()
    nodes.push(0, "2-cafe", [nodes.first.rev], title="x", body="hello")
    assert nodes.talk() == {"title": "x", "body": "hello", "likes": 10, "tags": ["u"]}


def test_where_the_parent_is_not_known_the_revision_is_an_explicit_sibling() -> None:
    nodes = Nodes()
    nodes.push(0, "5-cafe", ["4-unknown"], title="y", likes=100, tags=[], body="other")
    shown = nodes.talk()
    assert shown == {"title": "y", "likes": 100, "tags": [], "body": "other"}
    siblings = nodes.collections[1].siblings("a")
    assert [one.body["likes"] for one in siblings] == [100, 5]
    assert nodes.collections[1].get("a").field_conflicts == (("body",), ("likes",), ("tags",))
    nodes.collections[1].resolve("a", {"title": "both", "likes": 105, "tags": ["t"], "body": "hello"})
    assert nodes.talk() == {"title": "both", "likes": 105, "tags": ["t"], "body": "hello"}
    assert nodes.collections[0].get("a").field_conflicts == ()


def test_a_text_of_which_nobody_knows_any_more_what_it_was_is_a_conflict_of_the_field() -> None:
    nodes = Nodes()
    for n in range(4 * JOURNAL_UPDATES_MAX):
        with nodes.collections[0].edit("a") as edit:
            edit["body"].insert(5 + n, "x")
    nodes.push(0, "2-cafe", [nodes.first.rev], **{**nodes.first, "body": "hello!", "likes": 6})
    assert nodes.talk() == {**nodes.first, "body": "hello!", "likes": 6}
    document = nodes.collections[1].get("a")
    assert document.field_conflicts == (("body",),)
    assert [one.id for one in nodes.collections[1].conflicts()] == ["a"]
    typed = "hello" + "x" * 4 * JOURNAL_UPDATES_MAX
    (described,) = [one for one in nodes.collections[1].why("a")["fields"] if one["path"] == ["body"]]
    assert (described["value"], described["shown_instead"]) == (typed, "hello!")
    nodes.collections[1].put("a", {**document, "body": typed + "!"}, document.rev)
    assert nodes.talk()["body"] == typed + "!"
    assert nodes.collections[0].get("a").field_conflicts == ()


def test_a_revision_that_is_known_changes_nothing() -> None:
    nodes = Nodes()
    second = nodes.collections[0].put("a", {**nodes.first, "likes": 6}, nodes.first.rev)
    before = nodes.collections[0].last_seq
    nodes.push(0, nodes.first.rev, [], **nodes.first)
    nodes.push(0, second.rev, [nodes.first.rev], **second)
    assert nodes.collections[0].last_seq == before


def test_trees_of_plain_documents_arrive_in_any_order() -> None:
    nodes = Nodes()
    collection = nodes.collections[0]
    revisions = [
        {"_id": "t", "_rev": "3-c", "_revisions": {"start": 3, "ids": ["c", "b", "a"]}, "n": 3},
        {"_id": "t", "_rev": "2-x", "_revisions": {"start": 2, "ids": ["x", "a"]}, "n": 9},
        {"_id": "t", "_rev": "3-y", "_revisions": {"start": 3, "ids": ["y", "x", "a"]}, "_deleted": True},
        {"_id": "t", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "n": 2},
    ]
    assert collection.take(revisions) == [None] * 4
    assert collection.get("t").rev == "3-c"
    assert [one.rev for one in collection.siblings("t")] == ["3-c"]
    assert collection.get("t", "2-x")["n"] == 9
    nodes.talk()
    assert nodes.collections[1].get("t").rev == "3-c"


@pytest.mark.parametrize(
    "wrong",
    [
        {"_id": "a"},
        {"_id": "a", "_rev": "nonsense"},
        {"_id": "a", "_rev": "2-b", "_revisions": {"start": 3, "ids": ["b", "a"]}},
        {"_id": "a", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["c", "a"]}},
        {"_id": "a", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a", "z"]}},
        {"_id": "a", "_rev": "2-b", "_revisions": {"start": 2, "ids": []}},
        {"_id": "a", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", 7]}},
        {"_id": "a", "_rev": "2-b", "_revisions": 7},
        {"_id": "_a", "_rev": "2-b"},
        {"_id": "a", "_rev": "2-b", "_x": 1},
        7,
    ],
    ids=str,
)
def test_what_is_no_revision_is_refused_with_a_named_error(wrong: Any) -> None:
    nodes = Nodes()
    before = nodes.nodes[0].digest()
    (result,) = nodes.collections[0].take([wrong])
    assert isinstance(result, CrdtdbError)
    assert nodes.nodes[0].digest() == before
