"""Histories that need a network, played on simulated nodes: production engines, stores and messages."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

import crdtdb
from crdtdb.cluster.engine.engine import Engine
from crdtdb.couchdb import Trees
from crdtdb.database.collection import Collection
from crdtdb.errors import NotFoundError
from crdtdb.gossip import GossipConfig, Stability
from crdtdb.store import Store
from crdtdb.testing.invariants import check_store
from crdtdb.testing.world import SimulatedNode, World
from crdtdb.wire.codec import decode_message
from crdtdb.wire.messages import PageMessage, Rumor
from tests.inside import deliver_all, deliver_by, deliver_of, set_synced, synced_of


class Village:
    """Some nodes that find each other, and small words for what happens to them."""

    def __init__(self, *names: str, config: GossipConfig | None = None) -> None:
        self.world = World(Random(1), config or GossipConfig(collection_interval=3.0, tombstone_grace=0.0), Store)
        for name in names:
            self.world.nodes[name] = SimulatedNode(self.world, name, "sync")
        for name in names:
            self.start(name)
        self.wait(lambda: all(len(self.engine(name).links.ways) == len(names) - 1 for name in names))

    def start(self, name: str) -> None:
        self.world.nodes[name].start()

    def engine(self, name: str) -> Engine:
        engine = self.world.nodes[name].engine
        assert engine is not None
        return engine

    def notes(self, name: str) -> Collection:
        database = self.world.nodes[name].database
        assert database is not None
        return database["notes"]

    def cut_off(self, name: str) -> None:
        others = [other for other in self.world.nodes if other != name]
        self.world.weather.cut |= {frozenset((name, other)) for other in others}

    def heal(self) -> None:
        self.world.weather.cut = set()

    def pass_time(self, seconds: float) -> None:
        self.world.timeline.run(self.world.timeline.now + seconds)

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        assert self.world.timeline.run(self.world.timeline.now + seconds, condition), "it didn't happen in time"

    def wait_equal(self, *names: str) -> None:
        stores = [self.world.nodes[name].database for name in names or self.world.nodes]
        self.wait(lambda: len({db.store.root.clock for db in stores if db is not None}) == 1)
        assert len({db["notes"].digest() for db in stores if db is not None}) == 1
        for db in stores:
            assert db is not None
            check_store(db.store)

    def lose(
        self, kind: type[object], *, to: str, after: int = 0, when: Callable[[Any], bool] = lambda _: True
    ) -> list[bytes]:
        """Lose messages of a kind on their way to a node, all but the first few; return where the lost are kept."""
        lost: list[bytes] = []
        deliver, seen = deliver_of(self.world), [0]

        def perhaps(other: SimulatedNode, link: int, payload: bytes) -> None:
            message = decode_message(payload)
            if other.name == to and isinstance(message, kind) and when(message):
                seen[0] += 1
                if seen[0] > after:
                    lost.append(payload)
                    return
            deliver(other, link, payload)

        deliver_by(self.world, perhaps)
        return lost

    def lose_nothing(self) -> None:
        deliver_all(self.world)


def test_history_8_the_half_exchange() -> None:
    """Bob has half of ada's snapshot when she dies for good. His clock hasn't moved: cy still gives him the rest."""
    village = Village("ada", "bob", "cy")
    village.notes("ada").put("old", {"v": 1})
    village.wait_equal()
    village.cut_off("bob")
    old = village.notes("ada").get("old")
    village.notes("ada").put("old", {"v": 2}, old.rev)
    village.notes("ada").bulk([{"_id": f"n{n:05}", "n": n, "text": "x" * 150} for n in range(6000)])
    village.wait_equal("ada", "cy")

    # He hears ada alone, and of her only the first page.
    village.world.weather.cut = {frozenset(("bob", "cy"))}
    lost = village.lose(PageMessage, to="bob", after=1)
    village.wait(lambda: bool(lost))
    village.world.nodes["ada"].kill()
    before = len(village.notes("bob"))
    assert 0 < before < 6001
    bob, cy = village.world.nodes["bob"].database, village.world.nodes["cy"].database
    assert bob is not None
    assert cy is not None
    assert not bob.store.root.clock >= cy.store.root.clock

    village.lose_nothing()
    village.heal()
    village.wait_equal("bob", "cy")
    assert len(village.notes("bob")) == 6001
    assert village.notes("bob").get("old")["v"] == 2


def test_history_9_the_late_frame() -> None:
    """A rumor waits in a slow queue while the document it tells is replaced and deleted: it revives nothing."""
    village = Village("ada", "bob", "cy")
    village.notes("ada").put("a", {"v": "first"})
    village.wait_equal()
    lost = village.lose(Rumor, to="bob")
    first = village.notes("ada").get("a")
    village.notes("ada").put("a", {"v": "slow"}, first.rev)
    village.wait(lambda: bool(lost))
    slow = lost[0]
    village.lose_nothing()
    village.notes("ada").delete("a", village.notes("ada").get("a").rev)
    village.wait_equal()
    village.pass_time(10)  # all have acknowledged, and nothing is left of the document
    digest = village.notes("bob").digest()
    link = next(number for number, ends in village.world.links.items() if ends == ("ada", "bob"))
    for _ in range(2):
        deliver_of(village.world)(village.world.nodes["bob"], link, slow)
        village.pass_time(3)
        assert village.notes("bob").digest() == digest
        with pytest.raises(NotFoundError):
            village.notes("bob").get("a")
    village.wait_equal()


def test_history_19_the_dropped_collection() -> None:
    """Bob is cut off while ada drops `notes` and makes it again: his old documents aren't in the new one."""
    village = Village("ada", "bob", "cy")
    village.notes("ada").put("a", {"v": "old"})
    village.wait_equal()
    village.cut_off("bob")
    village.notes("bob").put("b", {"v": "bob's old"})
    ada = village.world.nodes["ada"].database
    assert ada is not None
    ada.drop("notes")
    village.notes("ada").put("c", {"v": "new"})
    village.pass_time(5)
    village.heal()
    village.wait_equal()
    for name in ("ada", "bob", "cy"):
        assert [document.id for document in village.notes(name).all()] == ["c"]


def test_a_node_that_was_set_back_writes_as_a_new_actor() -> None:
    """Rule 3: ada's disk is put back to yesterday. Her peers know more of her actor than she does, and she hears it."""
    village = Village("ada", "bob")
    ada = village.world.nodes["ada"]
    village.notes("ada").put("a", {"v": 1})
    village.wait_equal()
    assert ada.database is not None
    actor = ada.database.store.actor
    ada.stop()
    backup = dict(synced_of(ada.disk))
    village.start("ada")
    village.wait(lambda: village.engine("ada").readiness.ready)
    assert ada.database is not None
    assert ada.database.store.actor == actor
    village.notes("ada").put("b", {"v": "after the backup"})
    village.wait_equal()
    ada.stop()
    set_synced(ada.disk, backup)
    village.start("ada")
    assert not village.engine("ada").readiness.ready, "it asks before it takes writes"
    village.wait(lambda: village.engine("ada").readiness.ready)
    assert ada.database is not None
    assert ada.database.store.actor != actor
    village.notes("ada").put("c", {"v": "new"})
    village.wait_equal()
    assert village.notes("ada").get("b")["v"] == "after the backup"


def test_a_killed_node_is_suspected_then_dead_and_comes_back() -> None:
    village = Village("ada", "bob", "cy")
    village.world.nodes["cy"].kill()
    village.wait(lambda: village.engine("ada").membership.others["cy"].status.name == "DEAD", 30)
    assert village.engine("bob").membership.others["ada"].status.name == "ALIVE"
    village.start("cy")
    village.wait(
        lambda: all(village.engine(name).membership.others["cy"].status.name == "ALIVE" for name in ("ada", "bob")), 30
    )
    village.notes("cy").put("a", {"v": 1})
    village.wait_equal()


def _increment(notes: Collection) -> None:
    with notes.edit("x") as doc:
        doc["likes"].increment(2)


def _type(notes: Collection) -> None:
    with notes.edit("x") as doc:
        doc["body"].append(" world")


def _attach(notes: Collection) -> None:
    notes.attach("x", "more", b"more")


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("edit", [_increment, _type, _attach])
def test_history_29_the_retired_editor(edit: Callable[[Collection], None], restarted: bool) -> None:
    """Rita is retired while she is cut off, and ada wants to collect x. Rita edits x; bob, who hasn't heard, takes the edit.

    They meet, and ada reads: x has its body and its fields on all of them. Ada hadn't collected, since bob hadn't heard.
    """
    village = Village("ada", "bob", "rita")
    fields = {"likes": crdtdb.Counter(1), "body": crdtdb.Text("hello")}
    village.notes("ada").put("x", {"title": "x", **fields})
    village.notes("ada").attach("x", "file", b"bytes")
    village.wait_equal()
    village.pass_time(10)
    village.cut_off("rita")
    village.notes("ada").delete("x", village.notes("ada").get("x").rev)
    village.wait_equal("ada", "bob")
    village.pass_time(5)
    village.cut_off("bob")
    village.engine("ada").upkeep.retire("rita", force=True)
    if restarted:
        village.world.nodes["ada"].stop()
        village.start("ada")
    village.pass_time(15)

    edit(village.notes("rita"))
    wanted = dict(village.notes("rita").get("x"))
    village.world.weather.cut -= {frozenset(("bob", "rita"))}
    village.wait(lambda: "x" in village.notes("bob"))
    village.cut_off("rita")
    village.world.weather.cut -= {frozenset(("ada", "bob"))}
    village.wait(lambda: len(village.engine("bob").upkeep.roster.members()) == 2)
    for _ in range(3):
        for name in ("ada", "bob"):
            database = village.world.nodes[name].database
            assert database is not None
            assert Trees(database.store, "notes").all("", None, False)
        village.wait_equal("ada", "bob")
        village.pass_time(5)
    for name in ("ada", "bob"):
        assert {key: dict(village.notes(name).get("x"))[key] for key in wanted if key[0] != "_"} == {
            key: value for key, value in wanted.items() if key[0] != "_"
        }
        assert village.notes(name).attachment("x", "file") == b"bytes"
    village.heal()  # and rita comes back as a new store
    village.wait(lambda: village.engine("rita").readiness.ready)
    village.wait_equal()
    assert village.notes("rita").get("x")["title"] == "x"


def test_a_cluster_that_forgets_who_leaves_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 8 halved: who is retired counts no more, though others may not have heard of it."""
    advance = Stability.advance
    monkeypatch.setattr(Stability, "advance", lambda self, roster, mine, now, leavers: advance(self, roster, mine, now))
    with pytest.raises(AssertionError):
        test_history_29_the_retired_editor(_increment, restarted=False)


def test_once_all_have_heard_of_a_retirement_nobody_waits_for_who_is_gone() -> None:
    village = Village("ada", "bob", "rita")
    village.notes("ada").put("x", {"title": "x"})
    village.wait_equal()
    village.cut_off("rita")
    village.notes("ada").delete("x", village.notes("ada").get("x").rev)
    village.wait_equal("ada", "bob")
    village.engine("ada").upkeep.retire("rita", force=True)
    for name in ("ada", "bob"):
        database = village.world.nodes[name].database
        assert database is not None
        village.wait(lambda store=database.store: store.read("notes", "x") is None)  # type: ignore[misc]
        assert not village.engine(name).upkeep.stability.holders(database.store.root.clock)


def test_who_comes_back_brings_what_others_have_counted_as_lost() -> None:
    """Bob's disk loses what rita alone holds, too, and she has been retired by force. Ada counts it as lost.

    Rita comes back, and bob has it from her. Ada's clock says that she has it: she compares with who comes back.
    """
    village = Village("ada", "bob", "rita")
    bob = village.world.nodes["bob"]
    village.notes("ada").put("other", {})
    village.wait_equal()
    bob.copies.append((village.world.timeline.now, bob.disk.copy(None)))
    village.cut_off("ada")
    village.notes("bob").put("d", {"title": "d"})
    village.wait_equal("bob", "rita")
    village.cut_off("rita")
    assert bob.database is not None
    lost = bob.database.store.root.clock
    bob.rewind()
    village.start("bob")
    village.world.weather.cut -= {frozenset(("ada", "bob"))}
    village.wait(lambda: village.engine("bob").readiness.ready)
    village.engine("ada").upkeep.retire("rita", force=True)
    village.wait_equal("ada", "bob")
    village.cut_off("ada")
    ada = village.world.nodes["ada"].database
    assert ada is not None
    ada.store.collector.lose(lost - ada.store.root.clock)

    village.world.weather.cut -= {frozenset(("bob", "rita"))}
    village.wait(lambda: "d" in village.notes("bob"))
    village.heal()
    village.wait(lambda: "d" in village.notes("ada"))
    village.wait_equal()
