"""The life of a cluster on simulated nodes: collection, retirement and return, copies and backups, audits."""

from __future__ import annotations

import io

import pytest

from crdtdb.backends.memory import MemoryBackend
from crdtdb.cluster.engine.reconciliation import Finding
from crdtdb.errors import BackupError, InvalidInputError, NotFoundError
from crdtdb.gossip import GossipConfig
from crdtdb.store import Store
from crdtdb.store.backup import check_backup, restore_backup
from crdtdb.store.layout import keys
from crdtdb.testing.virtual import VirtualDisk
from crdtdb.testing.world import SimulatedNode
from crdtdb.wire.messages import BucketDots, PageMessage
from tests.inside import backend_of
from tests.sim.test_histories import Village


def store_of(village: Village, name: str) -> Store:
    database = village.world.nodes[name].database
    assert database is not None
    return database.store


def wait_collected(village: Village, *names: str) -> None:
    stores = [store_of(village, name) for name in names or village.world.nodes]
    village.wait(
        lambda: (
            len({store.root.clock for store in stores}) == 1
            and all(store.root.stable >= store.root.clock and store.collector.waiting(1) == (0, 0) for store in stores)
        )
    )


def rows_of(store: Store, name: str) -> set[bytes]:
    """Return all keys that belong to a collection, but for its counts."""
    number = store.root.collections[name].number.to_bytes(4, "big")
    own = {key for prefix in b"dhtsqG" for key, _ in backend_of(store).scan(*keys.rest(bytes([prefix]) + number))}
    places = {
        key
        for prefix in b"lg"
        for key, value in backend_of(store).scan(*keys.rest(bytes([prefix])))
        if value[:4] == number
    }
    return own | places


def audit(village: Village, name: str, repair: bool = False) -> list[Finding]:
    found: list[Finding] = []
    peers = sorted(village.engine(name).links.ways)
    village.engine(name).audits.ask(peers, repair, found.append)
    village.wait(lambda: len(found) == len(peers))
    return found


def test_deleted_documents_leave_no_key_behind() -> None:
    village = Village("ada", "bob", "cy")
    notes = village.notes("ada")
    notes.put("stays", {"v": 1})
    notes.bulk([{"_id": f"n{n:04}", "n": n} for n in range(1_000)])
    wait_collected(village)
    notes.bulk([{"_id": one.id, "_rev": one.rev, "_deleted": True} for one in list(notes.all()) if one.id != "stays"])
    wait_collected(village)
    for name in village.world.nodes:
        store = store_of(village, name)
        assert store.collection("notes").deleted == 0
        assert len(rows_of(store, "notes")) == 3, "a document, its row in the feed, its dot in the log"
    # And a document that is made anew, with the same body, gets a name that nobody knows as deleted.
    first = notes.put("n0000", {"n": 0})
    again = Village("ada").notes("ada").put("n0000", {"n": 0})
    assert first.rev != again.rev


def test_a_member_that_is_away_holds_collection_back_until_it_is_retired() -> None:
    village = Village("ada", "bob", "cy")
    village.notes("ada").put("x", {"v": 1})
    wait_collected(village)
    village.cut_off("cy")
    village.notes("ada").delete("x", village.notes("ada").get("x").rev)
    village.pass_time(60)
    assert store_of(village, "ada").collection("notes").deleted == 1, "suspected dead isn't gone"
    (holder,) = village.engine("ada").upkeep.stability.holders(store_of(village, "ada").root.clock)
    assert holder.name == "cy"
    assert holder.writes >= 1
    with pytest.raises(NotFoundError, match="members are ada, bob, cy"):
        village.engine("ada").upkeep.retire("dan")
    with pytest.raises(InvalidInputError, match="alive"):
        village.engine("ada").upkeep.retire("bob", peers=["bob"])
    with pytest.raises(InvalidInputError, match="itself"):
        village.engine("ada").upkeep.retire("ada", force=True)
    village.engine("ada").upkeep.retire("cy")
    wait_collected(village, "ada", "bob")
    assert rows_of(store_of(village, "bob"), "notes") == set()


def test_history_10_the_strangers_copy() -> None:
    """Cy has x and is cut off; the others retire him, delete x and collect it. He comes back: x doesn't live on there.

    What he alone has written does, the edit of what was deleted too.
    """
    village = Village("ada", "bob", "cy")
    for doc_id in ("x", "edited"):
        village.notes("ada").put(doc_id, {"v": doc_id})
    wait_collected(village)
    village.cut_off("cy")
    village.notes("cy").put("own", {"v": "cy's"})
    edited = village.notes("cy").get("edited")
    village.notes("cy").put("edited", {"v": "by cy"}, edited.rev)
    for doc_id in ("x", "edited"):
        village.notes("ada").delete(doc_id, village.notes("ada").get(doc_id).rev)
    village.pass_time(10)
    village.engine("bob").upkeep.retire("cy")
    wait_collected(village, "ada", "bob")
    before = store_of(village, "cy").identity
    village.heal()
    village.wait(
        lambda: village.engine("cy").readiness.ready and store_of(village, "cy").identity.store_id != before.store_id
    )
    wait_collected(village)
    for name in village.world.nodes:
        assert {one.id: one["v"] for one in village.notes(name).all()} == {"own": "cy's", "edited": "by cy"}
    assert all(one.clean for one in audit(village, "ada"))


def test_history_10_the_joiner_that_was_cut_off() -> None:
    """Dan begins to join and is cut off with half of a page; the members go on without him and collect what he has."""
    village = Village("ada", "bob")
    village.notes("ada").bulk([{"_id": f"n{n:05}", "n": n, "text": "x" * 150} for n in range(6_000)])
    wait_collected(village)
    dan = village.world.nodes["dan"] = SimulatedNode(village.world, "dan", "sync")
    village.lose(PageMessage, to="dan", when=lambda page: page.number > 0)
    dan.start()
    village.wait(
        lambda: dan.database is not None and "notes" in dan.database and 0 < len(dan.database["notes"]) < 6_000
    )
    village.wait(lambda: "dan" in village.engine("ada").upkeep.roster.members())
    dan.kill()
    village.lose_nothing()
    village.engine("ada").upkeep.retire("dan")
    notes = village.notes("ada")
    notes.bulk([{"_id": one.id, "_rev": one.rev, "_deleted": True} for one in list(notes.all())])
    wait_collected(village, "ada", "bob")
    dan.start()
    village.wait(lambda: dan.engine is not None and dan.engine.readiness.ready)
    wait_collected(village)
    assert list(village.notes("dan").all()) == []


@pytest.mark.parametrize("with_its_log", [False, True])
def test_history_11_the_rotten_bucket(with_its_log: bool) -> None:
    """Ada loses a document without knowing. An audit brings it back, and carries the loss to nobody."""
    village = Village("ada", "bob")
    village.notes("ada").put("x", {"v": 1})
    village.notes("ada").put("y", {"v": 2})
    wait_collected(village)
    store = store_of(village, "ada")
    number = store.collection("notes").number
    lost: dict[bytes, bytes | None] = {keys.document(number, b"x"): None}
    if with_its_log:
        lost.update(
            {key: None for key, value in backend_of(store).scan(*keys.rest(b"l")) if value == keys.place(number, b"x")}
        )
    backend_of(store).write(lost, durable=True)
    assert "x" not in village.notes("ada")

    (seen,) = audit(village, "bob")
    assert not seen.clean
    assert "x" in village.notes("bob")
    (here,) = audit(village, "ada")
    assert here.lost_here == ["notes/x"]
    assert here.mended == []
    assert bool(here.rot_here) is not with_its_log
    audit(village, "bob", repair=True)  # finds it, and tells ada to mend
    village.wait(lambda: "x" in village.notes("ada"))
    assert village.notes("ada").get("x")["v"] == 1
    assert village.notes("ada").digest() == village.notes("bob").digest()
    assert all(one.clean for name in ("ada", "bob") for one in audit(village, name))


def test_an_audit_brings_attachments_back_with_their_documents() -> None:
    """Ada's disk loses documents and, with them, what they have attached."""
    village = Village("ada", "bob")
    for doc_id in "xyz":
        village.notes("ada").put(doc_id, {})
        village.notes("ada").attach(doc_id, "f", doc_id.encode())
    wait_collected(village)
    store = store_of(village, "ada")
    lost = [key for prefix in b"dArqub" for key, _ in backend_of(store).scan(*keys.rest(bytes([prefix])))]
    backend_of(store).write({key: None for key in lost if key[:1] != b"d" or key[-1:] in b"xyz"}, durable=True)
    assert not set("xyz") & {one.id for one in village.notes("ada").all()}
    audit(village, "bob", repair=True)
    village.wait(lambda: all(doc_id in village.notes("ada") for doc_id in "xyz"))
    assert [village.notes("ada").attachment(doc_id, "f") for doc_id in "xyz"] == [b"x", b"y", b"z"]


def test_history_12_the_moving_peer() -> None:
    """Ada replaces d by e while bob compares himself with her, and dies. Bob still has d."""
    village = Village("ada", "bob", "cy")
    village.notes("ada").put("d", {"v": "old"})
    wait_collected(village)
    store_of(village, "bob").replication.reset_identity("for the test")
    village.world.nodes["bob"].stop()
    lost = village.lose(BucketDots, to="bob")
    village.world.weather.cut = {frozenset(("bob", "cy"))}
    village.start("bob")
    village.pass_time(1)
    village.notes("ada").put("d", {"v": "new"}, village.notes("ada").get("d").rev)
    village.pass_time(0.2)
    village.world.nodes["ada"].kill()
    village.lose_nothing()
    del lost
    assert village.notes("bob").get("d")["v"] in ("old", "new")
    village.heal()
    village.start("ada")
    wait_collected(village)
    assert {village.notes(name).get("d")["v"] for name in village.world.nodes} == {"new"}


def restored(village: Village, name: str, backup: bytes) -> None:
    """Put a backup in the place of a node's disk."""
    node = village.world.nodes[name]
    node.kill()
    node.disk = VirtualDisk(name)
    file = io.BytesIO(backup)
    check_backup(file)
    backend = node.disk.open()
    restore_backup(file, backend)
    backend.close()


def test_history_13_the_old_backup() -> None:
    """A restored store uses no dot again, brings nothing back that was deleted, and keeps what only it has."""
    village = Village("ada", "bob", "cy")
    village.notes("ada").put("gone", {"v": 1})
    village.notes("ada").put("changed", {"v": 1})
    wait_collected(village)
    village.cut_off("ada")
    village.notes("ada").put("only", {"v": "in the backup"})
    with store_of(village, "ada").backup() as pieces:
        backup = b"".join(pieces)
    clock, actor = store_of(village, "ada").root.clock, store_of(village, "ada").actor
    village.world.nodes["ada"].kill()
    village.heal()
    village.pass_time(10)
    village.notes("bob").delete("gone", village.notes("bob").get("gone").rev)
    village.notes("bob").put("changed", {"v": 2}, village.notes("bob").get("changed").rev)
    village.engine("bob").upkeep.retire("ada")
    wait_collected(village, "bob", "cy")
    restored(village, "ada", backup)
    village.start("ada")
    assert store_of(village, "ada").root.clock == clock
    assert store_of(village, "ada").actor != actor
    village.wait(lambda: village.engine("ada").readiness.ready)
    village.notes("ada").put("new", {"v": "after"})
    wait_collected(village)
    for name in village.world.nodes:
        found = {one.id: one["v"] for one in village.notes(name).all()}
        assert found == {"changed": 2, "only": "in the backup", "new": "after"}


def test_a_backup_alone_begins_a_cluster() -> None:
    """All members are lost. The first that is restored has nobody to be compared with; the next enters through it."""
    village = Village("ada")
    village.notes("ada").put("x", {"v": 1})
    with store_of(village, "ada").backup() as pieces:
        backup = b"".join(pieces)
    restored(village, "ada", backup)
    village.start("ada")
    village.wait(lambda: village.engine("ada").readiness.ready)
    assert not store_of(village, "ada").identity.entering
    village.world.nodes["bob"] = SimulatedNode(village.world, "bob", "sync")
    restored(village, "bob", backup)
    village.start("bob")
    village.wait(lambda: village.engine("bob").readiness.ready)
    wait_collected(village)
    assert {village.notes(name).get("x")["v"] for name in ("ada", "bob")} == {1}


def test_a_backup_that_isnt_whole_is_refused() -> None:
    village = Village("ada")
    village.notes("ada").put("x", {"v": 1})
    with store_of(village, "ada").backup() as pieces:
        backup = b"".join(pieces)
    header = check_backup(io.BytesIO(backup))
    assert header.rows > 3
    flipped = bytearray(backup)
    flipped[len(backup) // 2] ^= 1
    for broken in (b"", b"x", backup[:-1], backup[: len(backup) // 2], bytes(flipped), backup + b"x", b"\x00" * 100):
        with pytest.raises(BackupError):
            check_backup(io.BytesIO(broken))
    full = MemoryBackend()
    full.write({b"a": b"1"}, durable=True)
    with pytest.raises(BackupError, match="data at that place"):
        restore_backup(io.BytesIO(backup), full)
    assert dict(full.scan(b"", b"\xff")) == {b"a": b"1"}


def test_history_14_the_two_clones() -> None:
    """One disk is copied twice; both copies start where nobody knows better, and write. No dot names two contents."""
    village = Village("ada", "bob")
    village.notes("ada").put("x", {"v": 1})
    wait_collected(village)
    village.world.nodes["ada"].stop()
    original = village.world.nodes["ada"].disk
    for name in ("cy", "dan"):
        village.world.nodes[name] = SimulatedNode(village.world, name, "sync")
        village.world.nodes[name].disk = original.copy(name)
        village.cut_off(name)
        village.start(name)
    village.pass_time(5)
    village.notes("cy").put("x", {"v": "cy's"}, village.notes("cy").get("x").rev)
    village.notes("dan").put("x", {"v": "dan's"}, village.notes("dan").get("x").rev)
    village.notes("dan").put("d", {"v": 1})
    assert store_of(village, "cy").actor != store_of(village, "dan").actor
    village.heal()
    village.start("ada")
    village.wait(lambda: all(village.engine(name).readiness.ready for name in village.world.nodes), 120)
    wait_collected(village)
    assert len({store_of(village, name).identity.store_id for name in village.world.nodes}) == 4
    for name in village.world.nodes:
        x = village.notes(name).get("x")
        assert {str(one.body["v"]) for one in village.notes(name).siblings("x")} == {"cy's", "dan's"}
        assert x.conflicts
        assert village.notes(name).get("d")["v"] == 1
    assert not any("two contents" in line for line in village.world.schedule)


def test_who_is_away_too_long_is_retired_by_a_majority_alone() -> None:
    config = GossipConfig(collection_interval=3.0, tombstone_grace=0.0, member_absence_max=20.0)
    village = Village("ada", "bob", "cy", config=config)
    village.notes("ada").put("x", {"v": 1})
    wait_collected(village)
    village.cut_off("cy")
    village.notes("cy").put("own", {"v": 1})
    village.pass_time(40)
    assert set(village.engine("ada").upkeep.roster.members()) == {"ada", "bob"}
    assert set(village.engine("cy").upkeep.roster.members()) == {"ada", "bob", "cy"}, "one of three retires nobody"
    village.heal()
    village.wait(lambda: set(village.engine("ada").upkeep.roster.members()) == {"ada", "bob", "cy"}, 60)
    wait_collected(village)
    assert village.notes("ada").get("own")["v"] == 1


def test_conflicts_outlive_a_restart_of_all_and_a_resolution_reaches_who_was_down() -> None:
    village = Village("ada", "bob", "cy")
    village.notes("ada").put("x", {"v": 0})
    wait_collected(village)
    village.cut_off("cy")
    for name in ("ada", "cy"):
        village.notes(name).put("x", {"v": name}, village.notes(name).get("x").rev)
    village.heal()
    wait_collected(village)
    for node in village.world.nodes.values():
        node.stop()
    for name in village.world.nodes:
        village.start(name)
        assert len(village.notes(name).siblings("x")) == 2
    village.wait(lambda: all(village.engine(name).readiness.ready for name in village.world.nodes))
    village.world.nodes["cy"].stop()
    village.notes("ada").resolve("x", {"v": "both"})
    village.pass_time(5)
    village.start("cy")
    wait_collected(village)
    for name in village.world.nodes:
        assert [one.body for one in village.notes(name).siblings("x")] == [{"v": "both"}]


def test_old_revisions_go_after_a_while_once_they_are_stable() -> None:
    config = GossipConfig(collection_interval=3.0, tombstone_grace=0.0, history_retention=20.0)
    village = Village("ada", "bob", config=config)
    notes = village.notes("ada")
    first = notes.put("a", {"n": 1})
    second = notes.put("a", {"n": 2}, first.rev)
    wait_collected(village)
    village.pass_time(5)
    assert notes.get("a", rev=first.rev)["n"] == 1
    village.cut_off("bob")
    village.pass_time(25)
    with pytest.raises(NotFoundError):
        notes.get("a", rev=first.rev)
    assert [one.rev for one in notes.history("a")] == [second.rev, first.rev], "the name stays"
    third = notes.put("a", {"n": 3}, second.rev)
    notes.put("a", {"n": 4}, third.rev)
    village.pass_time(40)
    assert notes.get("a", rev=third.rev)["n"] == 3, "bob hasn't seen it: it isn't stable"
    village.heal()
    village.pass_time(40)
    with pytest.raises(NotFoundError):
        notes.get("a", rev=third.rev)
    assert notes.get("a")["n"] == 4


def test_an_audit_reads_no_faster_than_it_should() -> None:
    config = GossipConfig(collection_interval=3.0, tombstone_grace=0.0, audit_documents_a_second=200.0)
    village = Village("ada", "bob", config=config)
    village.notes("ada").bulk([{"_id": f"n{n:04}", "n": n} for n in range(2_000)])
    wait_collected(village)
    begun = village.world.timeline.now
    (finding,) = audit(village, "ada")
    took = village.world.timeline.now - begun
    assert finding.clean
    assert finding.documents >= 2_000
    assert 8 < took < 20, "two thousand documents at two hundred a second"
    village.notes("bob").put("n0000", {"n": -1}, village.notes("bob").get("n0000").rev)
    village.wait(lambda: village.notes("ada").get("n0000")["n"] == -1, 5)  # and everything else goes on


def test_a_collected_branch_stays_closed_for_who_joins_later() -> None:
    """A client pushes a loser again that was resolved and collected before this node joined: it brings nothing new."""
    village = Village("ada", "bob")
    first = village.notes("ada").put("x", {"v": 1})
    wait_collected(village)
    village.cut_off("bob")
    village.notes("ada").put("x", {"v": "ada"}, first.rev)
    village.notes("bob").put("x", {"v": "bob"}, first.rev)
    village.heal()
    village.wait(lambda: bool(village.notes("ada").get("x").conflicts))
    siblings = village.notes("ada").siblings("x")
    village.notes("ada").resolve("x", {"v": "both"})
    wait_collected(village)
    record = store_of(village, "ada").read("notes", "x")
    assert record is not None
    assert len(record.state.leaves) == 1
    village.world.nodes["cy"] = SimulatedNode(village.world, "cy", "sync")
    village.start("cy")
    village.wait(lambda: village.engine("cy").readiness.ready)
    wait_collected(village)
    for name in ("ada", "cy"):
        notes = village.notes(name)
        for sibling in siblings:
            digest, parent = sibling.rev.partition("-")[2], first.rev.partition("-")[2]
            pushed = {
                "_id": "x",
                "_rev": sibling.rev,
                "_revisions": {"start": 2, "ids": [digest, parent]},
                **sibling.body,
            }
            assert notes.take([pushed]) == [None]
        assert [one.body for one in notes.siblings("x")] == [{"v": "both"}], name
        assert sorted(one.rev for one in notes.history("x")) == sorted(
            one.rev for one in village.notes("bob").history("x")
        )
    wait_collected(village)
    village.wait_equal()
