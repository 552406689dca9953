"""Clients that know trees of revisions, between native edits at several stores: what they see is what the stores serve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import count, permutations
from random import Random
from typing import Any

import pytest

import crdtdb
from crdtdb import ConflictError, Database, NotFoundError
from crdtdb.couchdb import Trees
from crdtdb.database.pull import pull
from crdtdb.documents import Rev
from crdtdb.testing.invariants import check_store
from crdtdb.testing.tree_client import Node, TreeClient

DOC = ["d"]


@pytest.fixture
def ada() -> Iterator[Database]:
    with crdtdb.open("memory:") as database:
        yield database


@pytest.fixture
def bob() -> Iterator[Database]:
    with crdtdb.open("memory:") as database:
        yield database


def meet(*databases: Database) -> None:
    for _ in range(2):
        for one, other in permutations(databases, 2):
            crdtdb.sync(one, other)


def bodies(database: Database) -> list[Any]:
    try:
        return sorted(one.body.get("b") for one in database["notes"].siblings("d"))
    except NotFoundError:
        return []


def like(database: Database) -> None:
    with database["notes"].edit("d") as document:
        if "likes" not in document:
            document["likes"] = crdtdb.Counter(0)
        document["likes"].increment()


def check(client: TreeClient, database: Database) -> None:
    """The client has the leaves that are served, with their values, and so the same winner."""
    tree = Trees(database.store, "notes").find("d")
    assert tree is not None
    served = {one.leaf.rev for one in tree.leaves if not one.leaf.deleted}
    mine = client.live("d")
    assert served == set(mine)
    for rev in served:
        assert {key: one for key, one in tree.document(rev).items() if not key.startswith("_")} == mine[rev]
    if served:
        assert tree.winner.leaf.rev == max(mine)


def settle(clients: list[TreeClient], databases: list[Database]) -> None:
    """Let all hear of all, and check that they agree."""
    for _ in range(3):
        meet(*databases)
        for client in clients:
            for database in databases:
                client.push(database.store, "notes", DOC)
                client.pull(database.store, "notes", DOC)
    meet(*databases)
    for database in databases:
        check_store(database.store)
        for client in clients:
            check(client, database)
    assert len({database["notes"].digest() for database in databases}) == 1


@pytest.mark.parametrize("run", range(8))  # which revision of one generation wins is chance
def test_history_32_the_value_that_comes_back(ada: Database, run: int) -> None:
    """A client reads a document with a counter, pushes a child of it with another body, and deletes that child by its rev.

    Meanwhile another one's read has made a merge revision of what the first had read, because of a second sibling. It has no
    author: the branch that the client closed is closed.
    """
    notes, client = ada["notes"], TreeClient()
    notes.put("d", {"b": "before"})
    notes.take([{"_id": "d", "_rev": "1-00", "b": "other"}])
    like(ada)
    client.pull(ada.store, "notes", DOC)
    read = max(client.live("d"))
    assert client.live("d")[read] == {"b": "before", "likes": 1}
    client.put("d", {"b": "second"}, Rev(1, "00"))
    client.push(ada.store, "notes", DOC)
    Trees(ada.store, "notes").get("d")
    child = client.put("d", {"b": "after", "likes": 1}, read)
    client.push(ada.store, "notes", DOC)
    assert bodies(ada) == ["after", "second"]
    client.delete("d", child)
    client.push(ada.store, "notes", DOC)
    assert bodies(ada) == ["second"]
    settle([client], [ada])
    assert bodies(ada) == ["second"]


def test_reading_brings_back_nothing_that_a_client_deletes(ada: Database, bob: Database) -> None:
    """At one node the client deletes what it pushed to another, where a read has made a merge revision of it."""
    client = TreeClient()
    ada["notes"].put("d", {"b": "first"})
    like(ada)
    meet(ada, bob)
    client.pull(ada.store, "notes", DOC)
    (read,) = client.live("d")
    child = client.put("d", {"b": "new", "likes": 1}, read)
    client.push(bob.store, "notes", DOC)
    Trees(bob.store, "notes").get("d")
    client.delete("d", child)
    client.push(ada.store, "notes", DOC)
    settle([client], [ada, bob])
    assert bodies(ada) == bodies(bob) == []


@pytest.mark.parametrize("run", range(16))  # which of the two merge revisions is the higher is chance
def test_history_33_the_read_that_deleted(ada: Database, bob: Database, run: int) -> None:
    """Both increment; ada's read has both edits to merge, bob's read his own alone. The next read joins the two revisions.

    Of the one that it closes the author had seen every edit, as of one that a client deletes: the document was hidden by it,
    and the read after that deleted it everywhere.
    """
    ada["notes"].put("d", {"b": run, "likes": crdtdb.Counter(0)})
    meet(ada, bob)
    like(ada)
    like(bob)
    pull(ada.store, bob.store)
    for database in (ada, bob):
        Trees(database.store, "notes").get("d")
    meet(ada, bob)
    client = TreeClient()
    settle([client], [ada, bob])
    assert list(client.live("d").values()) == [{"b": run, "likes": 2}]
    assert ada["notes"].get("d")["likes"] == bob["notes"].get("d")["likes"] == 2


@pytest.mark.parametrize("run", range(16))
def test_a_client_that_deletes_what_was_joined_deletes_the_document(ada: Database, bob: Database, run: int) -> None:
    """The client has read the revision with both edits; another read joins that to a second one, which shows no more."""
    ada["notes"].put("d", {"b": run, "likes": crdtdb.Counter(0)})
    meet(ada, bob)
    like(ada)
    like(bob)
    pull(ada.store, bob.store)
    client = TreeClient()
    client.pull(ada.store, "notes", DOC)
    Trees(bob.store, "notes").get("d")
    meet(ada, bob)
    Trees(bob.store, "notes").get("d")
    (read,) = client.live("d")
    client.delete("d", read)
    client.push(ada.store, "notes", DOC)
    settle([client], [ada, bob])
    assert bodies(ada) == bodies(bob) == []


def test_a_child_with_an_equal_value_survives_the_deletion_of_its_parent(ada: Database, bob: Database) -> None:
    """A client wrote it: that the other deletes what both have read is no reason to hide it."""
    writer, deleter = TreeClient(), TreeClient()
    ada["notes"].put("d", {"b": 0})
    like(ada)
    meet(ada, bob)
    for client in (writer, deleter):
        client.pull(ada.store, "notes", DOC)
    (read,) = writer.live("d")
    child = writer.put("d", writer.live("d")[read], read)
    writer.push(ada.store, "notes", DOC)
    deleter.delete("d", read)
    deleter.push(bob.store, "notes", DOC)
    settle([writer, deleter], [ada, bob])
    assert list(writer.live("d")) == [child]
    assert bodies(ada) == bodies(bob) == [0]


def test_an_edit_that_the_deleting_client_had_not_seen_lives(ada: Database, bob: Database) -> None:
    """With the body that it had by then, wherever the revisions were pushed: never without one."""
    for pushes, deletes in ((ada, ada), (ada, bob), (bob, ada), (bob, bob)):
        client, notes = TreeClient(), ada["notes"]
        if "d" in notes:
            notes.delete("d", notes.get("d").rev)
        notes.put("d", {"b": 0})
        meet(ada, bob)
        client.pull(ada.store, "notes", DOC)
        like(bob)
        child = client.put("d", {"b": 1}, max(client.live("d")))
        client.push(pushes.store, "notes", DOC)
        client.delete("d", child)
        client.push(deletes.store, "notes", DOC)
        settle([client], [ada, bob])
        assert bodies(ada) in ([0], [1])
        assert ada["notes"].get("d")["likes"] >= 1


def test_a_branch_that_clients_know_is_closed_though_fields_were_edited_on_it(ada: Database, bob: Database) -> None:
    """The merge revision that a client read was edited natively, and that edit was merged into another branch."""
    client = TreeClient()
    ada["notes"].put("d", {"b": 0})
    like(ada)
    meet(ada, bob)
    for number in (1, 2, 3):
        bob["notes"].put("d", {"b": number, "likes": 1}, bob["notes"].get("d").rev)
    client.pull(ada.store, "notes", DOC)
    like(ada)
    settle([client], [ada, bob])
    assert list(client.live("d").values()) == [{"b": 3, "likes": 2}]


def test_edits_that_meet_leave_no_closed_branches(ada: Database, bob: Database) -> None:
    """No client was told of them: their tombstones would pile up."""
    ada["notes"].put("d", {"b": 0})
    for _ in range(6):
        meet(ada, bob)
        for database in (ada, ada, bob, bob):
            like(database)
    meet(ada, bob)
    like(ada)
    record = ada.store.read("notes", "d")
    assert record is not None
    assert [leaf.deleted for leaf in record.state.leaves.values()] == [False]


def test_a_merge_revision_that_a_client_brings_to_another_node_counts_nothing_twice(
    ada: Database, bob: Database
) -> None:
    client = TreeClient()
    bob["notes"].take([{"_id": "d", "_rev": "2-ff", "_revisions": {"start": 2, "ids": ["ff", "ee"]}, "b": "other"}])
    ada["notes"].put("d", {"b": 0})
    like(ada)
    crdtdb.sync(ada, bob)
    client.pull(ada.store, "notes", DOC)
    client.push(bob.store, "notes", DOC)
    settle([client], [ada, bob])
    assert ada["notes"].get("d")["likes"] == bob["notes"].get("d")["likes"] == 1
    assert ada["notes"].get("d").field_conflicts == ()


def served(database: Database) -> dict[Rev, dict[str, Any]]:
    """Return what a reader of revision trees finds: the values of the live leaves by their revs."""
    tree = Trees(database.store, "notes").get("d")
    live = [one.leaf.rev for one in tree.leaves if not one.leaf.deleted]
    return {rev: {key: one for key, one in tree.document(rev).items() if not key.startswith("_")} for rev in live}


@pytest.mark.parametrize("missing", [0, 1], ids=["a merge revision", "a child of one that isn't known"])
def test_a_revision_that_shows_otherwise_here_is_not_served_under_its_name(
    ada: Database, bob: Database, missing: int
) -> None:
    """A node that knew no fields joined a client's revisions to it: its likes are 1, here they are 2, and the line says so."""
    ada["notes"].put("d", {"b": 0})
    like(ada)
    like(ada)
    (read,) = served(ada)
    line = ["3e46ed01" + 24 * "a"] if not missing else ["ff", "ee"]
    name = Rev(read.generation + len(line), line[0])
    value = {"b": 5, "likes": 1} if not missing else {"b": 5}
    client = TreeClient()
    client.pull(ada.store, "notes", DOC)
    parent = read
    for back, digest in reversed(list(enumerate(line))):
        rev = Rev(name.generation - back, digest)
        client.tree("d")[rev] = Node(parent, False, value if not back else None)
        parent = rev
    client.push(ada.store, "notes", DOC)
    client.push(bob.store, "notes", DOC)
    document = ada["notes"].get("d")
    assert (document.rev, document.body) != (str(name), {"b": 5, "likes": 2})
    for database in (ada, bob):
        assert served(database).get(name, value) == value
    settle([client], [ada, bob])
    assert ada["notes"].get("d").body["b"] == 5


@pytest.mark.parametrize("number", range(8))  # which of the two bodies is the first follows from their hashes
def test_a_revision_brought_to_a_deleted_document_keeps_its_value(ada: Database, bob: Database, number: int) -> None:
    """Bob's store drops the deleted document's fields for it; ada's shows it with them. What shows is what was published."""
    client = TreeClient()
    ada["notes"].put("d", {"b": number})
    meet(ada, bob)
    like(ada)
    like(bob)
    client.pull(ada.store, "notes", DOC)
    meet(ada, bob)
    bob["notes"].delete("d", bob["notes"].get("d").rev)
    child = client.put("d", {"b": 100 + number, "likes": 1}, max(client.live("d")))
    client.push(ada.store, "notes", DOC)
    client.push(bob.store, "notes", DOC)
    settle([client], [ada, bob])
    assert child in client.tree("d")


class Story:
    """A random history of native writes at several stores, and of clients that read, push and delete between them."""

    def __init__(self, seed: int, stores: int, clients: int) -> None:
        self.rng = Random(seed)
        self.databases = [crdtdb.open("memory:") for _ in range(stores)]
        self.clients = [TreeClient() for _ in range(clients)]
        self.numbers = count(1)

    def step(self) -> None:
        rng, database, client = self.rng, self.rng.choice(self.databases), self.rng.choice(self.clients)
        what = rng.choice([self.put, self.edit, self.edit, self.loser, self.pull, self.pull, self.push, self.push])
        what = rng.choice([what, what, what, self.child, self.child, self.remove, self.delete, self.sync])
        with suppress(ConflictError, NotFoundError):
            what(database, client)

    def put(self, database: Database, client: TreeClient) -> None:
        notes = database["notes"]
        current = notes.get("d") if "d" in notes else None
        self._put(notes, current, current.rev if current is not None else None)

    def loser(self, database: Database, client: TreeClient) -> None:
        current = database["notes"].get("d")
        if current.conflicts:
            self._put(database["notes"], current, self.rng.choice(current.conflicts))

    def _put(self, notes: crdtdb.Collection, current: crdtdb.Document | None, rev: str | None) -> None:
        likes = {"likes": current["likes"]} if current is not None and "likes" in current else {}
        notes.put("d", {"b": next(self.numbers), **likes}, rev)

    def edit(self, database: Database, client: TreeClient) -> None:
        with database["notes"].edit("d") as document:
            if "likes" not in document:
                document["likes"] = crdtdb.Counter(0)
            if hasattr(
                document["likes"], "increment"
            ):  # or a client brought a plain value, to a store that knew no field
                document["likes"].increment()

    def delete(self, database: Database, client: TreeClient) -> None:
        notes = database["notes"]
        notes.delete("d", self.rng.choice(notes.siblings("d")).rev)

    def pull(self, database: Database, client: TreeClient) -> None:
        client.pull(database.store, "notes", DOC)

    def push(self, database: Database, client: TreeClient) -> None:
        client.push(database.store, "notes", DOC)

    def child(self, database: Database, client: TreeClient) -> None:
        live = client.live("d")
        if live or not client.leaves("d"):
            parent = self.rng.choice(sorted(live)) if live else None
            value: dict[str, Any] = {**(live[parent] if parent is not None else {}), "b": next(self.numbers)}
            if "likes" in value and self.rng.random() < 0.3:
                value["likes"] += 1
            client.put("d", value, parent)

    def remove(self, database: Database, client: TreeClient) -> None:
        live: list[Rev] = sorted(client.live("d"))
        if live:
            client.delete("d", self.rng.choice(live))

    def sync(self, database: Database, client: TreeClient) -> None:
        other = self.rng.choice(self.databases)
        if other is not database:
            crdtdb.sync(database, other)


SHAPES = [(1, 1, 16), (1, 2, 24), (2, 1, 14), (2, 2, 20)]


@pytest.mark.parametrize(("stores", "clients", "steps"), SHAPES)
def test_what_clients_see_is_what_stores_serve(stores: int, clients: int, steps: int) -> None:
    for seed in range(120):
        story = Story(seed, stores, clients)
        for _ in range(steps):
            story.step()
        try:
            if any("notes" in database for database in story.databases):
                settle(story.clients, story.databases)
        except AssertionError as error:
            raise AssertionError(f"seed {seed} with {stores} stores, {clients} clients: {error}") from error
        finally:
            for database in story.databases:
                database.close()
