"""Large documents on simulated nodes: they reach who lacks them, whatever their size."""

from __future__ import annotations

import crdtdb
from crdtdb.testing.processor import TURN_SECONDS_MAX, Processor
from crdtdb.testing.world import SimulatedNode
from tests.sim.test_histories import Village


def test_a_joiner_gets_documents_larger_than_a_frame() -> None:
    """Three siblings of seven megabytes, and a text of ten that two typed. History 30."""
    village = Village("ada")
    ada = village.world.nodes["ada"].database
    assert ada is not None
    with crdtdb.open("memory:") as one, crdtdb.open("memory:") as other:
        for number, db in enumerate((one, other, ada)):
            db["notes"].put("siblings", {"v": str(number) * 7_000_000})
        for letter, db in (("x", one), ("y", other)):
            db.collection("notes", schema={"text": crdtdb.Text}).put("text", {"text": letter * 5_000_000})
            crdtdb.sync(db, ada)
    ada["notes"].put("behind them", {"v": 1})
    village.world.nodes["bob"] = SimulatedNode(village.world, "bob", "sync")
    village.world.nodes["bob"].name = "bob"
    village.start("bob")
    village.wait(lambda: village.engine("bob").readiness.ready and "behind them" in village.notes("bob"), 20)
    assert len(village.notes("bob").siblings("siblings")) == 3
    assert len(village.notes("bob").get("text")["text"]) == 10_000_000
    assert village.notes("bob").digest() == ada["notes"].digest()


def test_history_27_the_poison_document() -> None:
    """A set grows element by element and 600 conflicts come at once while bob is away. He returns while others write."""
    village = Village("ada", "bob", "cy")
    ada = village.world.nodes["ada"].database
    assert ada is not None
    ada.collection("notes", schema={"set": crdtdb.Set})
    village.wait_equal()
    village.world.nodes["bob"].stop()
    ada["notes"].put("grown", {"set": []})
    for number in range(400):
        with ada["notes"].edit("grown") as edit:
            edit["set"].add(str(number))
    ada["plain"].take([{"_id": "split", "_rev": f"1-{number:032x}", "n": number} for number in range(600)])
    village.pass_time(2)
    village.world.processor = Processor()
    with village.world.processor.metered():
        village.start("bob")
        village.pass_time(0.3)
        noted = len(village.world.schedule)
        for number in range(20):
            village.notes("ada").put(f"a{number}", {"n": number})
            village.notes("cy").put(f"c{number}", {"n": number})
            village.pass_time(0.1)
        village.wait(lambda: village.engine("bob").readiness.ready and "c19" in village.notes("bob"), 10)
        village.pass_time(2)
    assert 0 < village.world.longest_turn < TURN_SECONDS_MAX
    assert not [line for line in village.world.schedule[noted:] if "suspect" in line or "closing" in line]
    village.world.processor = None
    village.wait_equal()
    bob = village.world.nodes["bob"].database
    assert bob is not None
    assert len(bob["plain"].siblings("split")) == 600
    assert len(bob["notes"].get("grown")["set"]) == 400
