"""Resolving: what its author saw is replaced, the rest stays beside it; and each listed sibling can be written alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import crdtdb
from crdtdb import Collection, ConflictError, Database, Document, InvalidInputError, NotFoundError, Sibling, aio
from crdtdb.couchdb import Trees
from crdtdb.testing.invariants import check_store


@pytest.fixture(params=["memory:", "leveldb", "sqlite"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    urls = {"memory:": "memory:", "leveldb": str(tmp_path / "data"), "sqlite": f"sqlite:{tmp_path}/data.db"}
    with crdtdb.open(urls[request.param]) as database:
        yield database


@pytest.fixture
def others() -> Iterator[tuple[Database, Database]]:
    with crdtdb.open("memory:") as bob, crdtdb.open("memory:") as cy:
        yield bob, cy


def meet(*databases: Database) -> None:
    """Let all hear of all, and check that they hold the same."""
    for _ in range(2):
        for one in databases:
            for other in databases:
                if one is not other:
                    crdtdb.sync(one, other)
    for one in databases:
        check_store(one.store)
    assert len({one["notes"].digest() for one in databases}) == 1


def titles(notes: Collection, doc_id: str = "d") -> list[str]:
    try:
        return sorted(one.body["title"] for one in notes.siblings(doc_id))
    except NotFoundError:
        return []


def two_and_one_to_come(ada: Database, bob: Database, cy: Database) -> None:
    """Ada sees her own and Bob's; Cy's hasn't arrived."""
    for one, title in ((ada, "a"), (bob, "b"), (cy, "c")):
        one["notes"].put("d", {"title": title, "likes": crdtdb.Counter(1)})
    crdtdb.sync(ada, bob)


SEEN: dict[str, Any] = {
    "the document": lambda notes: {"seen": notes.get("d")},
    "siblings": lambda notes: {"seen": notes.siblings("d")},
    "revisions": lambda notes: {"seen": [one.rev for one in notes.siblings("d")]},
    "the other way round": lambda notes: {"seen": [one.rev for one in reversed(notes.siblings("d"))]},
}


@pytest.mark.parametrize("how", SEEN)
def test_history_25_the_resolve_that_had_not_seen(here: Database, others: tuple[Database, Database], how: str) -> None:
    """Ada sees two siblings and decides; Cy's arrives meanwhile: it stays beside the resolution."""
    bob, cy = others
    two_and_one_to_come(here, bob, cy)
    notes = here["notes"]
    seen = SEEN[how](notes)
    crdtdb.sync(here, cy)
    written = notes.resolve("d", {"title": "m"}, **seen)
    assert written["title"] == "m"
    assert titles(notes) == ["c", "m"]
    meet(here, bob, cy)
    for one in (here, bob, cy):
        assert titles(one["notes"]) == ["c", "m"]
        assert one["notes"].get("d")["likes"] == 3


def test_a_revision_alone_means_that_sibling(here: Database, others: tuple[Database, Database]) -> None:
    bob, cy = others
    two_and_one_to_come(here, bob, cy)
    notes = here["notes"]
    meet(here, bob, cy)
    for one in notes.siblings("d"):
        if one.body["title"] == "b":
            notes.resolve("d", {"title": "m"}, rev=one.rev)
            with pytest.raises(ConflictError):
                notes.resolve("d", {"title": "again"}, rev=one.rev)
    assert titles(notes) == ["a", "c", "m"]
    meet(here, bob, cy)
    assert titles(cy["notes"]) == ["a", "c", "m"]


def test_a_resolution_that_comes_after_a_put_on_a_loser_stands_beside_it(
    here: Database, others: tuple[Database, Database]
) -> None:
    """The same comes out whether the put was made here or elsewhere, before or after: one never hides the other."""
    bob, cy = others
    two_and_one_to_come(here, bob, cy)
    crdtdb.sync(bob, cy)  # cy's is seen by bob, and nobody else
    notes, seen = here["notes"], here["notes"].siblings("d")
    notes.put("d", {"title": "b2", "likes": 2}, seen[1].rev)
    resolved = notes.resolve("d", {"title": "m"}, seen=seen)
    assert titles(notes) == ["b2", "m"]
    notes.put("d", {"title": "m2", "likes": 2}, resolved.rev)
    with pytest.raises(ConflictError):  # nothing of what was seen is there any more
        notes.resolve("d", {"title": "too late"}, seen=seen)
    meet(here, bob, cy)
    assert titles(cy["notes"]) == ["b2", "c", "m2"]


def like(database: Database) -> None:
    with database["notes"].edit("d") as document:
        document["likes"].increment()


def read_as_a_tree(*databases: Database) -> None:
    """What clients of CouchDB's protocol read is published before."""
    for one in databases:
        Trees(one.store, "notes").get("d")


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("edits", [1, 4])
def test_history_34_the_put_on_the_line_of_the_edit_that_was_seen(
    here: Database, others: tuple[Database, Database], edits: int, published: bool
) -> None:
    """Bob puts another body, not having seen Ada's edits of a field. A read joins the two, as a child of whichever is higher.

    Often that is Ada's, of which she saw the old body. So a resolution by what she saw took the new one for the old.
    """
    (bob, _), notes = others, here["notes"]
    notes.put("d", {"title": "old", "likes": crdtdb.Counter(1)})
    meet(here, bob)
    for _ in range(edits):
        like(here)
    if published:
        read_as_a_tree(here)
    seen = notes.siblings("d")
    old = bob["notes"].get("d")
    bob["notes"].put("d", {**old, "title": "new"}, old.rev)
    meet(here, bob)
    read_as_a_tree(bob)
    meet(here, bob)
    for database in (here, bob):
        with pytest.raises(ConflictError):
            database["notes"].resolve("d", {"title": "resolved"}, seen=seen)
        assert titles(database["notes"]) == ["new"]


@pytest.mark.parametrize("run", range(4))  # which revision is the higher is chance
def test_what_was_seen_after_branches_were_joined_is_resolved(
    here: Database, others: tuple[Database, Database], run: int
) -> None:
    """Edits of a field and reads that came since replace nothing of it."""
    (bob, cy), notes = others, here["notes"]
    notes.put("d", {"title": f"old {run}", "likes": crdtdb.Counter(1)})
    meet(here, bob)
    like(here)
    old = bob["notes"].get("d")
    bob["notes"].put("d", {**old, "title": "new"}, old.rev)
    meet(here, bob)
    read_as_a_tree(here)
    cy["notes"].put("d", {"title": "cy"})
    meet(here, bob, cy)
    seen = notes.siblings("d")
    like(bob)
    meet(here, bob, cy)
    read_as_a_tree(here, bob)
    like(here)
    meet(here, bob, cy)
    notes.resolve("d", {"title": "resolved", "likes": 4}, seen=seen)
    meet(here, bob, cy)
    assert titles(notes) == ["resolved"]
    assert cy["notes"].get("d")["likes"] >= 4


def test_fields_that_were_edited_since_keep_their_edits(here: Database, others: tuple[Database, Database]) -> None:
    """The author copies what the fields showed; increments, elements and letters that came meanwhile stay."""
    bob, cy = others
    notes = here["notes"]
    notes.put("d", {"title": "a", "likes": crdtdb.Counter(5), "tags": crdtdb.Set(["x"]), "text": crdtdb.Text("hi")})
    bob["notes"].put("d", {"title": "b"})
    meet(here, bob, cy)
    seen = notes.siblings("d")
    names = [one.rev for one in seen]
    for database in (here, bob):
        with database["notes"].edit("d") as document:
            document["likes"].increment(10)
            document["tags"].add("y")
            document["text"].insert(2, "!")
    meet(here, bob, cy)
    assert {one.rev for one in notes.siblings("d")}.isdisjoint(names)  # they show under other names by now
    with pytest.raises(ConflictError, match="the value read at 'likes' isn't known here"):
        notes.resolve("d", {**seen[0].body, "title": "m"}, seen=names)  # no value of them was given
    with pytest.raises(ConflictError, match="the value read at 'text' isn't known here"):
        notes.resolve("d", {**seen[0].body, "text": "hi there"}, seen=seen)
    notes.resolve("d", {**seen[0].body, "likes": 6, "title": "m"}, seen=seen)
    meet(here, bob, cy)
    assert cy["notes"].get("d") == {"title": "m", "likes": 26, "tags": ["x", "y"], "text": "hi!!"}
    assert cy["notes"].get("d").conflicts == ()


def test_a_document_that_was_read_says_itself_what_was_seen(here: Database, others: tuple[Database, Database]) -> None:
    bob, cy = others
    two_and_one_to_come(here, bob, cy)
    notes = here["notes"]
    winner = notes.get("d")
    loser = notes.get("d", rev=winner.conflicts[0])
    crdtdb.sync(here, cy)
    notes.resolve("d", loser)  # keep the loser
    assert titles(notes) == sorted([loser["title"], "c"])
    cy["notes"].put("e", {"title": "e"})
    with pytest.raises(InvalidInputError, match="what was seen is document 'e'"):
        notes.resolve("d", {"title": "m"}, seen=cy["notes"].get("e"))


def test_a_function_is_given_what_is_there_until_that_is_what_it_replaces(
    here: Database, others: tuple[Database, Database]
) -> None:
    bob, cy = others
    two_and_one_to_come(here, bob, cy)
    notes, calls = here["notes"], []

    def join(siblings: list[Sibling]) -> dict[str, Any] | None:
        calls.append([one.body["title"] for one in siblings])
        if len(calls) == 1:
            crdtdb.sync(here, cy)  # another sibling arrives while the author thinks
        return {"title": "+".join(sorted(calls[-1]))} if len(siblings) > 1 else None

    assert notes.resolve("d", join)["title"] == "a+b+c"
    assert [len(one) for one in calls] == [2, 3]
    assert titles(notes) == ["a+b+c"]
    assert notes.resolve("d", join)["title"] == "a+b+c"  # it leaves what is no conflict
    for wrong in ({"rev": "1-a"}, {"seen": ["1-a"]}):
        with pytest.raises(InvalidInputError):
            notes.resolve("d", join, **wrong)


def test_a_resolver_replaces_what_it_was_given(here: Database, others: tuple[Database, Database]) -> None:
    bob, cy = others
    two_and_one_to_come(here, bob, cy)
    given = []

    def resolver(conflict: crdtdb.Conflict) -> dict[str, Any]:
        given.append(len(conflict.siblings))
        if len(given) == 1:
            crdtdb.sync(here, cy)
        return {"title": f"of {len(conflict.siblings)}"}

    notes = here["notes"]
    assert notes.settle(resolver) == 0  # another came meanwhile: the next time
    assert titles(notes) == ["a", "b", "c"]
    assert notes.settle(resolver) == 1
    assert titles(notes) == ["of 3"]


@pytest.mark.parametrize("wrong", [{"seen": []}, {"seen": ["x"]}, {"seen": ["1-a"], "rev": "1-a"}, {"seen": [7]}])
def test_what_was_seen_is_checked(here: Database, wrong: dict[str, Any]) -> None:
    notes = here["notes"]
    notes.put("d", {"title": "x"})
    with pytest.raises(InvalidInputError):
        notes.resolve("d", {}, **wrong)
    assert titles(notes) == ["x"]


def test_what_was_never_there_was_not_seen(here: Database) -> None:
    notes = here["notes"]
    notes.put("d", {"title": "x"})
    for wrong in ({"seen": ["1-abc", "2-def"]}, {"rev": "1-abc"}):
        with pytest.raises(ConflictError):
            notes.resolve("d", {"title": "y"}, **wrong)
    with pytest.raises(NotFoundError):
        notes.resolve("nothing", {}, seen=["1-abc"])


def siblings_of_the_deleted(ada: Database, bob: Database, cy: Database) -> None:
    """Ada and Bob create d; Ada puts on hers and deletes it, Bob deletes his; Cy increments a counter on Ada's first."""
    first = ada["notes"].put("d", {"title": "x"})
    bob["notes"].put("d", {"title": "z"})
    crdtdb.sync(ada, cy)
    second = ada["notes"].put("d", {"title": "y"}, first.rev)
    ada["notes"].delete("d", second.rev)
    bob["notes"].delete("d", bob["notes"].get("d").rev)
    with cy["notes"].edit("d") as document:
        document["likes"] = crdtdb.Counter(1)
    meet(ada, bob, cy)


def write(notes: Collection, what: str, rev: str) -> Document:
    if what == "put":
        return notes.put("d", {"title": "new", "likes": 1}, rev)
    if what == "delete":
        return notes.delete("d", rev)
    if what == "resolve":
        return notes.resolve("d", {"title": "new"}, rev=rev)
    with notes.edit("d", rev=rev) as document:
        document["title"] = "new"
    written: Document = document.written
    return written


@pytest.mark.parametrize("what", ["put", "delete", "resolve", "edit"])
@pytest.mark.parametrize("number", [0, 1])
def test_history_28_the_sibling_that_could_not_be_touched(
    here: Database, others: tuple[Database, Database], number: int, what: str
) -> None:
    """Each sibling that is listed can be read, put on, deleted, resolved and edited by its rev, alone."""
    siblings_of_the_deleted(here, *others)
    notes = here["notes"]
    listed = notes.siblings("d")
    assert [one.body["title"] for one in listed] == ["y", "z"]
    for one in listed:
        assert notes.get("d", rev=one.rev).body == one.body
        assert not notes.get("d", rev=one.rev).deleted
    written = write(notes, what, listed[number].rev)
    left = {listed[1 - number].body["title"]} | (set() if what == "delete" else {"new"})
    assert set(titles(notes)) == left
    assert written.deleted == (what == "delete")
    still = notes.get("d", rev=listed[1 - number].rev)  # under the name that it had
    assert still.body == listed[1 - number].body
    meet(here, *others)
    for database in others:
        assert set(titles(database["notes"])) == left
        assert database["notes"].get("d")["likes"] == 1
    for title in sorted(left):  # and so can what is left, to the end
        rev = next(one.rev for one in notes.siblings("d") if one.body["title"] == title)
        notes.delete("d", rev)
    meet(here, *others)
    assert titles(others[0]["notes"]) == []


def test_siblings_of_the_deleted_are_resolved_together(here: Database, others: tuple[Database, Database]) -> None:
    siblings_of_the_deleted(here, *others)
    here["notes"].resolve("d", {"title": "both"}, seen=here["notes"].siblings("d"))
    meet(here, *others)
    assert titles(others[1]["notes"]) == ["both"]
    assert others[1]["notes"].get("d") == {"title": "both", "likes": 1}


def test_two_who_write_different_siblings_of_the_deleted_lose_neither(
    here: Database, others: tuple[Database, Database]
) -> None:
    bob, cy = others
    siblings_of_the_deleted(here, bob, cy)
    here["notes"].put("d", {"title": "new y", "likes": 1}, here["notes"].siblings("d")[0].rev)
    bob["notes"].put("d", {"title": "new z", "likes": 1}, bob["notes"].siblings("d")[1].rev)
    with cy["notes"].edit("d") as document:
        document["likes"].increment(5)
    meet(here, bob, cy)
    assert {"new y", "new z"} <= set(titles(cy["notes"]))
    assert cy["notes"].get("d")["likes"] == 6


def test_it_is_the_same_to_await() -> None:
    async def story() -> None:
        async with aio.open("memory:") as db:
            notes = db.collection("notes")
            await notes.put("d", {"title": "a"})
            async with aio.open("memory:") as other, aio.open("memory:") as third:
                await other.collection("notes").put("d", {"title": "b"})
                await third.collection("notes").put("d", {"title": "c"})
                await aio.sync(db, other)
                seen = await notes.siblings("d")
                await aio.sync(db, third)
            await notes.resolve("d", {"title": "m"}, seen=seen)
            assert {one.body["title"] for one in await notes.siblings("d")} == {"m", "c"}
            await notes.resolve("d", lambda siblings: {"title": f"of {len(siblings)}"})
            assert await notes.get("d") == {"title": "of 2"}

    anyio.run(story)
