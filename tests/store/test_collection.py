"""Collection on a real LevelDB: what was deleted leaves no row, and its space goes back to the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import crdtdb
from crdtdb.causality import EMPTY
from crdtdb.couchdb import Checkpoints, put_local, seq_now
from crdtdb.database.pull import pull
from crdtdb.documents import Write, delete, put, view
from crdtdb.documents.garbage import collect as collect_state
from crdtdb.store import ClientsRead, Record, Store, Transaction
from crdtdb.store.layout import keys
from crdtdb.testing.invariants import check_store
from crdtdb.wire.codec import parcel_in
from crdtdb.wire.delta_batch import DeltaBatch
from tests.inside import backend_of, set_wall, wall_of


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def collect(store: Store, told: ClientsRead | None = None, grace: float = 0) -> None:
    store.collector.reach_cut(store.root.clock)
    again = True
    while store.collector.collect(lambda _: told, again, grace):
        again = False


def test_disk_space_comes_back(tmp_path: Path) -> None:
    with crdtdb.open(str(tmp_path / "data"), durability="buffered") as db:
        notes = db["notes"]
        for part in range(10):
            notes.bulk([{"_id": f"{part}-{n:04}", "text": os.urandom(500).hex()} for n in range(500)])
        notes.attach("0-0000", "file", b"x" * 100_000, "text/plain", rev=notes.get("0-0000").rev)
        full = size_of(tmp_path / "data")
        documents = [(one.id, one.rev) for one in notes.all()]
        notes.bulk([{"_id": doc_id, "_rev": rev, "_deleted": True} for doc_id, rev in documents])
        assert full > 4_000_000
        collect(db.store)
        db.store.collector.reclaim()
        left = {key[:1] for key, _ in backend_of(db.store).scan(b"", b"\xff" * 8)}
        assert left <= {b"!", b"a", b"e", b"k", b"w", b"y", b"z", b"c", b"n", b"l"}, (
            "names, clocks and counts are all that is left"
        )
        assert not any(value for _, value in backend_of(db.store).scan(*keys.rest(b"l"))), (
            "of the log the collection's own dot"
        )
        assert size_of(tmp_path / "data") < full / 20
        assert db.store.collection("notes").sweep > 0


def test_a_young_checkpoint_holds_its_tombstones() -> None:
    """History 15 and 16: a client that has read so far, and is away, still finds what was deleted meanwhile."""
    now = [1_700_000_000_000]
    with crdtdb.open("memory:") as db:
        store = db.store
        notes = db["notes"]
        notes.put("seen", {"v": 1})
        notes.put("unseen", {"v": 1})
        notes.delete("seen", notes.get("seen").rev)
        record = {"last_seq": seq_now(store, "notes")}
        put_local(store, "notes", "_local/pouch", record)
        put_local(store, "notes", "_local/settings", {"last": 17})
        notes.delete("unseen", notes.get("unseen").rev)
        checkpoints = Checkpoints(store, 3600, lambda: now[0])
        set_wall(store, lambda: now[0])
        now[0] = (
            max(
                leaf.stamp
                for _, one in store.live_view().documents("notes", local=True)
                for leaf in one.state.leaves.values()
            )
            >> 16
        )
        ((name, _, _),) = checkpoints.young("notes")
        assert name == "_local/pouch"
        collect(store, checkpoints.told("notes"))
        assert store.read("notes", "seen") is not None, "who comes for the first time has to hear of it"
        assert store.read("notes", "unseen") is not None
        assert store.collector.waiting(9) == (0, 2)
        now[0] += 3_000_000
        put_local(store, "notes", "_local/pouch", {"last_seq": record["last_seq"], "_rev": "0-1"})
        now[0] += 1_000_000
        collect(store, checkpoints.told("notes"))
        assert store.read("notes", "seen") is None, "too old for who comes first, and read by who came"
        assert store.read("notes", "unseen") is not None
        now[0] += 3_700_000
        assert checkpoints.told("notes") is None
        collect(store, None)
        assert store.read("notes", "unseen") is None


@pytest.mark.parametrize("said", [{"source_last_seq": "12-g1AAAACTeJzLYWBgYMpgTmEQ"}, {"last_seq": 17}])
def test_who_replicated_to_a_collection_finds_its_tombstones(said: dict[str, Any]) -> None:
    """Brought from CouchDB, deleted here: the first replication back, days later, has to tell of it."""
    now = [1_700_000_000_000]
    with crdtdb.open("memory:") as db:
        store, notes = db.store, db["notes"]
        set_wall(store, lambda: now[0])
        for name in ("old", "young"):
            notes.put(name, {"v": 1})
        put_local(store, "notes", "_local/push", said)
        notes.delete("old", notes.get("old").rev)
        notes.delete("young", notes.get("young").rev)
        checkpoints = Checkpoints(store, 3600, lambda: now[0])
        made = {
            name: max(leaf.stamp for leaf in store.read("notes", name).state.leaves.values()) >> 16  # type: ignore[union-attr]
            for name in ("old", "young")
        }
        now[0] = made["young"] + 1_000_000
        collect(store, checkpoints.told("notes"), grace=300)
        assert store.read("notes", "old") is not None
        assert store.collector.waiting(9) == (0, 2)
        now[0] = made["young"] + 3_601_000
        assert Checkpoints(store, 3600, lambda: now[0]).told("notes") is None
        collect(store, checkpoints.told("notes"), grace=300)
        assert store.read("notes", "old") is None
        assert store.read("notes", "young") is None


def test_a_pass_leaves_out_what_is_too_young(monkeypatch: pytest.MonkeyPatch) -> None:
    with crdtdb.open("memory:") as db:
        now = [wall_of(db.store)()]
        set_wall(db.store, lambda: now[0])
        for n in range(60):
            db["notes"].put(f"d{n:02}", {"v": 1})
            db["notes"].delete(f"d{n:02}", db["notes"].get(f"d{n:02}").rev)
        hold = ClientsRead(None, 3_600_000)
        collect(db.store, hold)
        assert db.store.collector.waiting(99) == (0, 60)
        loaded = list[str]()
        load = Transaction.load

        def noted(self: Transaction, name: str, doc_id: str) -> Record:
            loaded.append(doc_id)
            return load(self, name, doc_id)

        monkeypatch.setattr(Transaction, "load", noted)
        collect(db.store, hold)
        assert loaded == [], "none of them was looked at again"
        now[0] += 3_700_000
        collect(db.store, hold)
        assert len(loaded) >= 60
        assert db.store.read("notes", "d00") is None


def test_a_young_tombstone_stays() -> None:
    with crdtdb.open("memory:") as db:
        db["notes"].put("a", {"v": 1})
        db["notes"].delete("a", db["notes"].get("a").rev)
        collect(db.store, None, grace=300)
        assert db.store.read("notes", "a") is not None
        collect(db.store)
        assert db.store.read("notes", "a") is None


def test_a_resolved_branch_goes_and_its_names_stay_known() -> None:
    """History 16 after collection: who was away pushes the loser again, and changes nothing."""
    with crdtdb.open("memory:") as db:
        notes = db["notes"]
        left, right = (
            {"_id": "a", "_rev": f"2-{one * 32}", "_revisions": {"start": 2, "ids": [one * 32, "0" * 32]}, "v": one}
            for one in "12"
        )
        assert notes.take([left, right]) == [None, None]
        notes.resolve("a", {"v": "both"})
        assert len(db.store.read("notes", "a").state.leaves) == 2  # type: ignore[union-attr]
        collect(db.store)
        record = db.store.read("notes", "a")
        assert record is not None
        assert (len(record.state.leaves), len(record.state.bodies)) == (1, 1)
        digest = notes.digest()
        assert notes.take([left, right]) == [None, None]
        assert notes.digest() == digest
        assert not notes.get("a").conflicts


def test_the_cut_never_moves_back_and_outlives_a_restart(tmp_path: Path) -> None:
    with crdtdb.open(str(tmp_path / "data")) as db:
        db["notes"].put("a", {"v": 1})
        cut = db.store.root.clock
        db.store.collector.reach_cut(cut)
        db.store.collector.reach_cut(EMPTY)
        assert db.store.root.stable == cut
    with crdtdb.open(str(tmp_path / "data")) as db:
        assert db.store.root.stable == cut
        assert next(iter(backend_of(db.store).scan(*keys.rest(b"y"))), None) is not None


def test_a_document_made_anew_replaces_its_earlier_life_also_when_others_pass_it_on() -> None:
    """Ada has collected a deleted document and makes it anew. Cy, who hasn't, hears of it from bob, who hasn't either."""
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob, crdtdb.open("memory:") as cy:
        for db in (ada, bob, cy):
            notes = db.collection("notes", schema={"likes": crdtdb.Counter})
            if "x" not in notes:
                notes.put("x", {"likes": 1})
            with notes.edit("x") as edit:
                edit["likes"].increment(1)
            for one, other in ((ada, bob), (bob, cy), (ada, cy)):
                crdtdb.sync(one, other)
        cy["notes"].delete("x", cy["notes"].get("x").rev)
        crdtdb.sync(ada, cy)
        crdtdb.sync(ada, bob)
        ada.store.collector.reach_cut(ada.store.root.clock)
        while ada.store.collector.collect(lambda name: None):
            pass
        assert ada.store.read("notes", "x") is None
        ada["notes"].put("x", {"likes": 7})
        for teller, hearer in ((ada, bob), (bob, cy)):
            parcel = teller.store.replication.rumor([("notes", "x")])
            assert parcel is not None
            hearer.store.replication.receive(parcel_in(parcel))
        states = [db.store.read("notes", "x") for db in (ada, bob, cy)]
        assert len({tuple(one.state.dots()) for one in states if one is not None}) == 1
        assert cy["notes"].get("x")["likes"] == 7


def test_what_a_put_on_a_deleted_document_removes_is_named_though_who_wrote_it_was_collected() -> None:
    """A deleted branch is collected from a document that lives on, and leaves an increment behind that nothing else names."""
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as cy:
        notes = ada.collection("notes", schema={"likes": crdtdb.Counter})
        notes.put("x", {"likes": 1, "n": 0})
        crdtdb.sync(ada, cy)
        with cy["notes"].edit("x") as edit:
            edit["likes"].increment(1)
        cy["notes"].delete("x", cy["notes"].get("x").rev)
        notes.put("x", {"likes": 1, "n": 1}, rev=notes.get("x").rev)
        crdtdb.sync(ada, cy)
        record = ada.store.read("notes", "x")
        assert record is not None
        assert len(record.state.leaves) == 2
        state = collect_state(record.state, record.state.context, record.state.context)
        assert len(state.leaves) == 1
        increments = {dot for deltas in state.fields.values() for dot in deltas}
        assert cy.store.actor in {dot.actor for dot in increments}

        def write() -> Write:
            clock = ada.store.root.clock
            return Write("x", ada.store.actor, clock.highest(ada.store.actor) + 2, 1 << 60, frozenset())

        deleted = delete(state, write(), view(state).siblings[0].rev)
        (leaf,) = put(deleted, write(), None, b"{}").leaves.values()
        assert all(dot in leaf.clock for dot in increments)


def test_what_came_since_a_store_entered_stays_as_it_is() -> None:
    """It enters with tombstones that others have collected. The edit that has come meanwhile is nobody's stray."""
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob, crdtdb.open("memory:") as cid:
        ada["notes"].put("a", {"tags": crdtdb.Set(["one"])})
        bob["notes"].put("a", {"tags": crdtdb.Set(["two"])})
        crdtdb.sync(ada, bob)
        ada["notes"].resolve("a", {})
        crdtdb.sync(ada, bob)
        crdtdb.sync(ada, cid)
        collect(cid.store)
        before = ada["notes"].get("a").state.leaves.keys()
        gone = before - cid["notes"].get("a").state.leaves.keys()
        assert gone, "the resolution closed a branch, and cid has collected that"

        ada.store.replication.reset_identity("an older copy of its disk")
        with bob["notes"].edit("a") as document:
            document["tags"].add("three")
        crdtdb.sync(ada, bob)
        edited = bob["notes"].get("a").state
        assert edited.leaves.keys() > gone
        ada.store.replication.discard([(("notes", "a"), list(gone))], cid.store.root.clock)

        state = ada["notes"].get("a").state
        assert state.leaves.keys() == edited.leaves.keys() - gone
        assert state.fields == edited.fields
        for one in (cid, bob):
            crdtdb.sync(ada, one)
            assert "three" in one["notes"].get("a")["tags"]
            assert one["notes"].get("a").fields == {("tags",): "set"}


def test_what_a_store_brought_along_is_written_anew() -> None:
    """Nobody else may ever have seen it: under its old name somebody could count it as lost."""
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        ada["notes"].put("a", {"n": 1})
        crdtdb.sync(ada, bob)
        bob["notes"].put("a", {"n": 2}, rev=bob["notes"].get("a").rev)
        (gone,) = ada["notes"].get("a").state.leaves
        ada["notes"].take([{"_id": "a", "_rev": "1-" + "0" * 32, "n": 3}])
        (brought,) = ada["notes"].get("a").state.leaves.keys() - {gone}
        ada.store.replication.reset_identity("an older copy of its disk")
        ada.store.replication.discard([(("notes", "a"), [gone])], bob.store.root.clock)
        state = ada["notes"].get("a").state
        assert not state.leaves.keys() & {gone, brought}
        assert [dot.actor for dot in state.leaves] == [ada.store.actor]
        crdtdb.sync(ada, bob)
        assert sorted(one.body["n"] for one in bob["notes"].siblings("a")) == [2, 3]


def test_whoever_holds_what_was_written_anew_gives_it_up() -> None:
    """Ada was copied from cid, say, and wrote cid's edit anew. Cid hears of that in a rumor by bob, who never had it."""
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob, crdtdb.open("memory:") as cid:
        ada["notes"].put("a", {"n": 1})
        for one in (bob, cid):
            crdtdb.sync(ada, one)
        bob["notes"].put("a", {"n": 2}, rev=bob["notes"].get("a").rev)
        cid["notes"].take([{"_id": "a", "_rev": "1-" + "0" * 32, "n": 3}])
        crdtdb.sync(ada, cid)
        gone = [dot for dot in ada["notes"].get("a").state.leaves if dot.actor != cid.store.actor]
        ada.store.replication.reset_identity("a copy of cid's disk")
        ada.store.replication.discard([(("notes", "a"), gone)], bob.store.root.clock)
        crdtdb.sync(ada, bob)
        rumor = bob.store.replication.rumor([("notes", "a")])
        assert rumor is not None
        cid.store.replication.receive(DeltaBatch(rumor))
        for one, other in ((bob, cid), (cid, ada)):
            crdtdb.sync(one, other)
        assert ada["notes"].digest() == bob["notes"].digest() == cid["notes"].digest()
        for one in (ada, bob, cid):
            assert sorted(shown.body["n"] for shown in one["notes"].siblings("a")) == [2, 3]
            check_store(one.store)


def test_a_rumor_after_a_collection_brings_back_nothing_that_was_hidden() -> None:
    """Ada has collected a deleted leaf, and with it a twin that this hid. Cid still has both, and hears of ada's next edit."""
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob, crdtdb.open("memory:") as cid:
        ada["notes"].put("a", {"n": 1})
        crdtdb.sync(ada, cid)
        bob["notes"].put("a", {"n": 1})  # the same revision, and another write
        cid["notes"].take([{"_id": "a", "_rev": "1-" + "0" * 32, "n": 2}])
        cid["notes"].resolve("a", {"n": 3})
        for one, other in ((bob, cid), (cid, ada), (ada, bob)):
            crdtdb.sync(one, other)
        assert len(cid["notes"].get("a").state.leaves) > 2
        collect(ada.store)
        assert len(ada["notes"].get("a").state.leaves) == 1
        ada["notes"].put("a", {"n": 4}, rev=ada["notes"].get("a").rev)
        rumor = ada.store.replication.rumor([("notes", "a")])
        assert rumor is not None
        cid.store.replication.receive(DeltaBatch(rumor))
        assert [one.body for one in cid["notes"].siblings("a")] == [{"n": 4}]
        crdtdb.sync(ada, cid)
        assert ada["notes"].digest() == cid["notes"].digest()


def test_a_clock_of_too_many_actors_is_no_rumor(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes along whole; then peers are poked, and ask."""
    monkeypatch.setattr("crdtdb.store.replication.rumor.RUMOR_ACTORS_MAX", 1)
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        ada["notes"].put("a", {"n": 1})
        assert ada.store.replication.rumor([("notes", "a")]) is not None
        bob["notes"].put("b", {"n": 1})
        crdtdb.sync(ada, bob)
        assert ada.store.replication.rumor([("notes", "a")]) is None


@pytest.mark.parametrize("line", [["0" * 32], ["0" * 32, "1" * 32, "2" * 32]])
def test_a_revision_made_elsewhere_takes_nothing_along_of_a_deleted_document(line: list[str]) -> None:
    """Others may have collected that with all its fields, and would never hold them again."""
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        ada["notes"].put("a", {"likes": crdtdb.Counter(3), "text": crdtdb.Text("hi"), "tags": crdtdb.Set(["x"])})
        crdtdb.sync(ada, bob)
        ada["notes"].delete("a", ada["notes"].get("a").rev)
        crdtdb.sync(ada, bob)
        collect(bob.store)
        assert bob.store.read("notes", "a") is None
        named = {"_rev": f"{len(line)}-{line[0]}", "_revisions": {"start": len(line), "ids": line}}
        assert ada["notes"].take([{"_id": "a", "n": 1, **named}]) == [None]
        assert ada["notes"].get("a") == {"n": 1}
        crdtdb.sync(ada, bob)
        for db in (ada, bob):
            collect(db.store)
            assert db["notes"].get("a") == {"n": 1}
            check_store(db.store)
        assert ada["notes"].digest() == bob["notes"].digest()


def test_who_enters_doesnt_go_on_with_what_the_others_have_deleted() -> None:
    """One of them may have collected it already, and another not yet: with the second alone it was compared."""
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob, crdtdb.open("memory:") as cid:
        ada["notes"].put("a", {"likes": crdtdb.Counter(8)})  # and nobody has heard of it when ada is retired
        bob["notes"].put("a", {"likes": crdtdb.Counter(7)})
        bob["notes"].delete("a", bob["notes"].get("a").rev)
        crdtdb.sync(bob, cid)
        collect(cid.store)
        ada.store.replication.reset_identity("it was retired")
        pull(ada.store, bob.store)
        shown = ada["notes"].get("a").body
        assert ada.store.replication.discard([(("notes", "a"), []), (("notes", "b"), [])], bob.store.root.clock) == [
            ("notes", "a")
        ]
        for one, other in ((ada, bob), (bob, cid), (ada, cid)):
            crdtdb.sync(one, other)
        for db in (ada, bob, cid):
            collect(db.store)
            assert db["notes"].get("a") == shown
            check_store(db.store)
        assert len({db["notes"].digest() for db in (ada, bob, cid)}) == 1
