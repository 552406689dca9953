"""Keystrokes of real people, replayed. The traces come from the folder that CRDTDB_TRACES names."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

import crdtdb
from crdtdb.crdts.sequences import client_of, writer_under
from crdtdb.store import Store
from crdtdb.testing.invariants import check_store
from crdtdb.wire.delta_batch import DeltaBatch
from tests.store.worlds import Node

EDITS_A_COMMIT = 100


def trace(name: str) -> dict[str, Any]:
    folder = os.environ.get("CRDTDB_TRACES")
    if folder is None:
        pytest.skip(f"CRDTDB_TRACES names no folder with {name}")
    with gzip.open(Path(folder) / name) as file:
        found: dict[str, Any] = json.load(file)
    return found


def runs_of(transactions: list[dict[str, Any]]) -> list[list[int]]:
    """Cut a history of several authors into stretches that one author typed without hearing of the other."""
    followers: dict[int, int] = {}
    for one in transactions:
        for parent in one["parents"]:
            followers[parent] = followers.get(parent, 0) + 1
    runs: list[list[int]] = []
    for number, one in enumerate(transactions):
        last = runs[-1][-1] if runs else -1
        goes_on = one["parents"] == [last] and transactions[last]["agent"] == one["agent"] and followers.get(last) == 1
        runs[-1].append(number) if goes_on else runs.append([number])
    return runs


class Author:
    """One of two people at two nodes: what is typed, and how much of the other's has been heard."""

    def __init__(self, name: str) -> None:
        self.node = Node(name)
        self.notes = crdtdb.Database(self.node.store).collection("notes")
        self.sent: list[tuple[int, list[object]]] = []
        """After each stretch: the number of its last transaction, and what tells of it."""
        self.heard = 0

    @property
    def store(self) -> Store:
        return self.node.store

    def client(self) -> int:
        """Return the Yrs client id of the author's session in the collection; the session begins with a first write."""
        crdtdb.Database(self.store).collection("begun").put(self.store.actor.hex(), {})
        tag = self.store.root.lineages.of(self.store.actor).sessions[-1].tag
        return client_of(writer_under(tag, self.store.root.names["notes"]))

    def type(self, transactions: list[dict[str, Any]]) -> None:
        with self.notes.edit("text") as document:
            body = document["body"]
            for one in transactions:
                for at, removed, added in one["patches"]:
                    if removed:
                        body.delete(at, removed)
                    if added:
                        body.insert(at, added)

    def tell(self, number: int) -> None:
        parcel = self.store.replication.rumor([("notes", "text")])
        assert parcel is not None
        self.sent.append((number, parcel))

    def hear(self, other: Author, upto: int) -> None:
        """Take what the other sent, as far as the parents of what is typed next go."""
        while self.heard < len(other.sent) and other.sent[self.heard][0] <= upto:
            self.store.replication.receive(DeltaBatch(other.sent[self.heard][1]))
            self.heard += 1


@pytest.mark.timeout(400)
def test_two_friends_write_one_text_on_two_nodes() -> None:
    """The parents of each stretch say what its author had heard by then; both end with what the real two ended with.

    Where both typed at one place at the same time, the trace has the first author's words first. Yrs puts the lower client id
    first, so the first author gets the node with that.
    """
    found = trace("friendsforever.json.gz")
    transactions = found["txns"]
    ada, bob = Author("ada"), Author("bob")
    ada.notes.put("text", {"body": crdtdb.Text()})
    bob.node.hear(ada.node)
    authors = sorted((ada, bob), key=Author.client)
    for run in runs_of(transactions):
        first = transactions[run[0]]
        author, other = authors[first["agent"]], authors[1 - first["agent"]]
        author.hear(
            other, max((one for one in first["parents"] if transactions[one]["agent"] != first["agent"]), default=-1)
        )
        author.type([transactions[number] for number in run])
        author.tell(run[-1])
    for author, other in (authors, authors[::-1]):
        author.hear(other, len(transactions))
        author.node.hear(other.node)
    assert authors[0].notes.get("text")["body"] == authors[1].notes.get("text")["body"] == found["endContent"]
    assert authors[0].node.digest() == authors[1].node.digest()
    for author in authors:
        check_store(author.store)


@pytest.mark.timeout(400)
def test_the_writing_of_a_paper_goes_through_one_text(tmp_path: Path) -> None:
    """259,778 keystrokes, a commit for each hundred: the text is what it became, here, after a restart, and at a peer."""
    found = trace("automerge-paper.json.gz")
    patches = [patch for one in found["txns"] for patch in one["patches"]]
    place = str(tmp_path / "data")
    with crdtdb.open(place, durability="buffered") as db:
        notes = db.collection("notes")
        notes.put("paper", {"body": crdtdb.Text(found["startContent"])})
        for start in range(0, len(patches), EDITS_A_COMMIT):
            with notes.edit("paper") as document:
                body = document["body"]
                for at, removed, added in patches[start : start + EDITS_A_COMMIT]:
                    if removed:
                        body.delete(at, removed)
                    if added:
                        body.insert(at, added)
        assert notes.get("paper")["body"] == found["endContent"]
        check_store(db.store)
    with crdtdb.open(place) as db, crdtdb.open("memory:") as other:
        assert db["notes"].get("paper")["body"] == found["endContent"]
        crdtdb.sync(db, other)
        assert other["notes"].get("paper")["body"] == found["endContent"]
