"""Large documents on simulated nodes: they reach who lacks them, whatever their size."""

from __future__ import annotations

import crdtdb
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
