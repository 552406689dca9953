"""A revision is what was written under its name, or says that it isn't known: whatever came since, and after a clean stop."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

import crdtdb
from crdtdb import Counter, Database, Text
from crdtdb.canonical_json import canonical
from crdtdb.database.document import Revision
from crdtdb.documents import Rev, view
from crdtdb.errors import CrdtdbError, NotFoundError
from tests.examples import examples

STEP = st.tuples(
    st.sampled_from(["put", "edit", "edit", "delete", "resolve", "take", "sync", "sync", "reopen"]),
    st.integers(0, 1),
    st.integers(0, 2),
    st.integers(0, 5),
)


class Histories:
    """Two stores, and what a model remembers: the value of each revision, and which store wrote it."""

    def __init__(self, folder: Path) -> None:
        self.paths = [str(folder / name) for name in "ab"]
        self.stores = [crdtdb.open(path, durability="buffered") for path in self.paths]
        self.values: dict[str, bytes] = {}
        self.writers: dict[str, int] = {}

    def close(self) -> None:
        for store in self.stores:
            store.close()

    def play(self, what: str, at: int, which: int, value: int) -> None:
        """Do one thing at one store. What the database refuses is no part of a history."""
        notes = self.stores[at]["notes"]
        try:
            siblings = notes.siblings("d")
        except NotFoundError:
            siblings = []
        chosen = siblings[which % len(siblings)] if siblings else None
        rev = chosen.rev if chosen is not None else None
        try:
            if what == "put":
                body: dict[str, Any] = (
                    dict(chosen.body, title=value) if chosen is not None and value % 2 else {"title": value}
                )
                if not siblings and value < 4:
                    body |= {"likes": Counter(value), "text": Text("Hello")}
                self.written(at, notes.put("d", body, rev))
            elif what == "edit" and chosen is not None:
                with notes.edit("d", rev) as edit:
                    self.edit(edit, chosen.body, which, value)
                self.written(at, edit.written)
            elif what == "delete":
                notes.delete("d", rev)
            elif what == "resolve" and chosen is not None:
                self.written(at, notes.resolve("d", {"title": 10 + value}, rev))
            elif what == "take" and chosen is not None:
                above = Rev.parse(chosen.rev)
                ids = [f"{value:032x}", above.digest]
                start = above.generation + 1
                notes.take(
                    [
                        {
                            "_id": "d",
                            "_rev": f"{start}-{ids[0]}",
                            "_revisions": {"start": start, "ids": ids},
                            "title": "x",
                        }
                    ]
                )
            elif what == "sync":
                crdtdb.sync(self.stores[at], self.stores[1 - at])
            elif what == "reopen":
                before = history(self.stores[at])
                self.stores[at].close()
                self.stores[at] = crdtdb.open(self.paths[at], durability="buffered")
                assert history(self.stores[at]) == before
        except CrdtdbError:
            pass

    @staticmethod
    def edit(edit: Any, shown: dict[str, Any], which: int, value: int) -> None:
        if which == 0 and isinstance(shown.get("likes"), int):
            edit["likes"].increment(value + 1)
        elif which == 1 and isinstance(shown.get("text"), str):
            edit["text"].insert(0, "UVWXYZ"[value])
        elif which == 1:
            edit["text"] = Text("New")
        else:
            edit["title"] = 20 + value

    def written(self, at: int, document: Any) -> None:
        self.remember(document.rev, document.body)
        record = self.stores[at].store.read("notes", "d")
        assert record is not None
        if (
            view(record.state).leaf(Rev.parse(document.rev)) is not None
        ):  # the name of the write, not of what shows with it
            self.writers.setdefault(document.rev, at)

    def remember(self, rev: str, value: dict[str, Any]) -> None:
        """Take note of what was read under a name: it must never mean anything else."""
        assert self.values.setdefault(rev, canonical(value)) == canonical(value), rev

    def check(self) -> None:
        for number, store in enumerate(self.stores):
            notes, listed = store["notes"], {one.rev: one for one in history(store)}
            assert len(listed) == len(history(store))
            for one in listed.values():
                if one.body is not None:
                    self.remember(one.rev, one.body)
            for rev in {*self.values, *listed}:
                try:
                    found = notes.get("d", rev)
                except NotFoundError:
                    assert self.writers.get(rev) != number, f"{rev} isn't known where it was written"
                    assert rev not in listed or listed[rev].body is None
                    continue
                assert found.rev == rev
                if rev in listed and not listed[rev].deleted:
                    assert listed[rev].body == found.body
                if not found.deleted:
                    self.remember(rev, found.body)


def history(store: Database) -> list[Revision]:
    try:
        return store["notes"].history("d")
    except NotFoundError:
        return []


@given(st.lists(STEP, min_size=12, max_size=16))
@examples(60, derandomize=True, phases=[Phase.generate])
def test_a_name_means_one_value_and_a_clean_stop_changes_none(steps: list[tuple[str, int, int, int]]) -> None:
    folder = Path(tempfile.mkdtemp())
    histories = Histories(folder)
    try:
        for step in steps:
            histories.play(*step)
            histories.check()
    finally:
        histories.close()
        shutil.rmtree(folder)


@pytest.fixture
def both(tmp_path: Path) -> Any:
    with crdtdb.open(str(tmp_path / "a")) as a, crdtdb.open(str(tmp_path / "b")) as b:
        yield a, b


def in_conflict(a: Database, b: Database) -> tuple[Any, Any]:
    """A title of each store, and a text and a counter that each has edited."""
    a["notes"].put("d", {"title": "x", "text": Text("Hello"), "likes": Counter(1)})
    crdtdb.sync(a, b)
    written = []
    for store, letter in ((a, "A"), (b, "B")):
        notes = store["notes"]
        notes.put("d", {**notes.get("d"), "title": letter}, notes.get("d").rev)
        with notes.edit("d") as edit:
            edit["text"].insert(0, letter)
            edit["likes"].increment()
        written.append(edit.written)
    return written[0], written[1]


def test_a_loser_keeps_its_own_text_where_it_was_written(both: tuple[Database, Database]) -> None:
    """And elsewhere it is said that nobody knows it: the text that shows there is that of both."""
    a, b = both
    by_a, by_b = in_conflict(a, b)
    crdtdb.sync(a, b)
    for store, mine, theirs in ((a, by_a, by_b), (b, by_b, by_a)):
        notes = store["notes"]
        assert len(notes.get("d")["text"]) == len("ABHello")
        assert notes.get("d", mine.rev).body == mine.body
        with pytest.raises(NotFoundError, match="with edits of fields that its author hadn't seen it shows as"):
            notes.get("d", theirs.rev)
        listed = {one.rev: one for one in notes.history("d")}
        assert listed[mine.rev].body == mine.body
        assert listed[theirs.rev].body is None
        assert not listed[theirs.rev].deleted
        for sibling in notes.siblings("d"):
            assert listed[sibling.rev].body == sibling.body
            assert listed[sibling.rev].leaf


@pytest.mark.parametrize("follow", ["put", "edit", "delete"])
def test_a_revision_of_two_stores_is_known_at_both_when_one_of_them_goes_on(
    both: tuple[Database, Database], follow: str
) -> None:
    """The leaf of the other stays, below its descendant. A third store gets both together, and knows what had no fields."""
    a, b = both
    first = a["notes"].put("d", {"title": 4})
    assert b["notes"].put("d", {"title": 4}).rev == first.rev
    if follow == "put":
        a["notes"].put("d", {"title": 5}, first.rev)
    elif follow == "delete":
        a["notes"].delete("d", first.rev)
    else:
        with a["notes"].edit("d") as edit:
            edit["likes"] = Counter(1)
    with crdtdb.open("memory:") as c:
        crdtdb.sync(a, b)
        crdtdb.sync(b, c)
        for store in (a, b) if follow == "edit" else (a, b, c):
            assert store["notes"].get("d", first.rev).body == {"title": 4}
            listed = {one.rev: one for one in store["notes"].history("d")}
            assert listed[first.rev].body == {"title": 4}
            assert not listed[first.rev].leaf


def test_what_was_replaced_after_a_merge_is_whole_or_nothing(both: tuple[Database, Database]) -> None:
    """It was shown without its text and its counter, as if it had had none."""
    a, b = both
    by_a, by_b = in_conflict(a, b)
    crdtdb.sync(a, b)
    a["notes"].resolve("d", {"title": "both"}, seen=[one.rev for one in a["notes"].siblings("d")])
    listed = {one.rev: one for one in a["notes"].history("d")}
    assert listed[by_a.rev].body == by_a.body
    assert listed[by_b.rev].body is None


def test_a_text_is_what_its_reader_saw_also_where_its_branch_had_not_made_it(both: tuple[Database, Database]) -> None:
    """The branch that made the text is deleted, another types in it: that revision had the whole text, not the letter alone."""
    a, b = both
    first = a["notes"].put("d", {"title": 1})
    crdtdb.sync(a, b)
    with a["notes"].edit("d") as edit:
        edit["text"] = Text("Hello")
    mine = a["notes"].put("d", {**edit.written, "title": "A"}, edit.written.rev)
    b["notes"].put("d", {"title": "B"}, first.rev)
    crdtdb.sync(a, b)
    notes = b["notes"]
    (gone,) = [one.rev for one in notes.siblings("d") if one.body["title"] == mine["title"]]
    notes.delete("d", gone)
    with notes.edit("d") as edit:
        edit["text"].insert(0, "X")
    assert edit.written.body == {"title": "B", "text": "XHello"}
    notes.put("d", {"title": 3}, edit.written.rev)
    assert {one.rev: one for one in notes.history("d")}[edit.written.rev].body == edit.written.body


def test_a_body_that_another_put_replaces_is_kept_under_the_edits_name(both: tuple[Database, Database]) -> None:
    """The edit lives on with the body of the put; what it was is still readable where it was made."""
    a, b = both
    first = a["notes"].put("d", {"title": "x", "likes": Counter(1)})
    crdtdb.sync(a, b)
    b["notes"].put("d", {**first.body, "title": "y"}, first.rev)
    with a["notes"].edit("d") as edit:
        edit["likes"].increment()
    crdtdb.sync(a, b)
    assert a["notes"].get("d").body == {"title": "y", "likes": 2}
    assert a["notes"].get("d", edit.written.rev).body == {"title": "x", "likes": 2}
    listed = {one.rev: one for one in a["notes"].history("d")}
    assert listed[edit.written.rev].body == {"title": "x", "likes": 2}
