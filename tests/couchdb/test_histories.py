"""Histories of checkpoints, attachments and seqs, on stores and on simulated nodes."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

import crdtdb
from crdtdb.couchdb import ChangesFeed, Options, Trees, Wanted, Writes, get_local, parse_document, put_local, seq_now
from crdtdb.couchdb.errors import CouchError
from crdtdb.database import Database
from crdtdb.database.commands import Data
from crdtdb.store import ContentMissingError
from crdtdb.testing.invariants import check_store
from crdtdb.wire.delta_batch import DeltaBatch
from crdtdb.wire.messages import Piece
from tests.inside import deliver_all
from tests.sim.test_histories import Village


@pytest.fixture
def two() -> Iterator[tuple[Database, Database]]:
    with crdtdb.open("memory:") as one, crdtdb.open("memory:") as other:
        one.create("notes")
        crdtdb.sync(one, other)
        yield one, other


def test_history_20_the_early_checkpoint(two: tuple[Database, Database]) -> None:
    """A push checkpoint reaches B before the documents it speaks of; A dies: the client must re-send."""
    here, there = two
    put_local(here.store, "notes", "_local/c", {"at": 1})
    crdtdb.sync(here, there)
    assert get_local(there.store, "notes", "_local/c")["at"] == 1
    here["notes"].put("a", {"n": 1})
    put_local(here.store, "notes", "_local/c", {"at": 2, "_rev": "0-1"})
    parcel = here.store.replication.rumor([("notes", "_local/c")])
    assert parcel is not None
    there.store.replication.receive(DeltaBatch(parcel))
    assert get_local(there.store, "notes", "_local/c")["at"] == 1  # the one before still holds
    crdtdb.sync(here, there)
    assert get_local(there.store, "notes", "_local/c")["at"] == 2
    for one in two:
        check_store(one.store)


def test_the_higher_of_two_checkpoints_wins_on_both_sides(two: tuple[Database, Database]) -> None:
    here, there = two
    put_local(here.store, "notes", "_local/c", {"at": "here"})
    put_local(there.store, "notes", "_local/c", {"at": "there"})
    put_local(there.store, "notes", "_local/c", {"at": "there again", "_rev": "0-1"})
    crdtdb.sync(here, there)
    assert {get_local(one.store, "notes", "_local/c")["at"] for one in two} == {"there again"}


def test_history_21_the_attachment_behind() -> None:
    """A document is acknowledged by all while one node alone has its attachment's bytes: that isn't allowed to count."""
    village = Village("n1", "n2", "n3")
    one = village.world.nodes["n1"].database
    assert one is not None
    one.create("notes")
    village.wait_equal()
    lost = [village.lose(Piece, to=name) for name in ("n2", "n3")]
    data = Random(7).randbytes(700_000)
    Writes(one.store, "notes").attach("a", None, "f", Data("image/png", data))
    clock = one.store.root.clock
    village.pass_time(5)
    assert any(lost), "they tried"
    for name in ("n2", "n3"):
        database = village.world.nodes[name].database
        assert database is not None
        assert "a" not in database["notes"]
        assert not database.store.root.clock >= clock
        check_store(database.store)
    deliver_all(village.world)  # nothing is lost any more
    village.wait_equal()
    for node in village.world.nodes.values():
        assert node.database is not None
        tree = Trees(node.database.store, "notes").get("a")
        entry = tree.attachments(None)["f"]
        assert b"".join(node.database.store.attachments.read(bytes.fromhex(entry["sha256"]))) == data


def test_a_store_never_takes_a_document_without_its_contents(two: tuple[Database, Database]) -> None:
    here, there = two
    document = parse_document({"_id": "a", "_attachments": {"f": {"data": "aGVsbG8="}}})
    here.store.submit(Writes(here.store, "notes").writing(document))
    outgoing = here.store.replication.outgoing(there.store.root.clock)
    page = outgoing.next_page()
    before = there.store.root.clock
    with pytest.raises(ContentMissingError):
        there.store.replication.receive(DeltaBatch(page.parcel), page.last)
    outgoing.close()
    assert there.store.root.clock == before
    crdtdb.sync(here, there)
    assert Trees(there.store, "notes").get("a").document(None, Options(attachments=True))["_attachments"]["f"]["data"]


def ids(db: Database, since: str, limit: int | None = None) -> tuple[list[str], str]:
    feed = ChangesFeed(Trees(db.store, "notes"), since, Wanted())
    rows = feed.take(limit)
    return [row["id"] for row in rows], feed.last_seq


def test_a_seq_serves_at_another_node(two: tuple[Database, Database]) -> None:
    here, there = two
    for n in range(5):
        here["notes"].put(f"h{n}", {})
        there["notes"].put(f"t{n}", {})
    crdtdb.sync(here, there)
    everything, seq = ids(here, "0")
    assert len(everything) == 10
    assert ids(there, seq)[0] == []
    there["notes"].put("new", {})
    there["notes"].put("h1", {"n": 2}, there["notes"].get("h1").rev)
    assert ids(there, seq)[0] == ["new", "h1"]
    assert ids(here, seq)[0] == []


def test_a_seq_of_the_midst_claims_nothing_that_was_not_given(two: tuple[Database, Database]) -> None:
    """Read half at one node, which then dies: whatever wasn't read comes from the other, whatever changed meanwhile."""
    here, there = two
    rng = Random(3)
    for n in range(30):
        here["notes"].put(f"d{n}", {"n": n})
    crdtdb.sync(here, there)
    for n in range(0, 30, 3):  # moves these rows behind the reader's place; the change dies with this node
        here["notes"].put(f"d{n}", {"n": -n}, here["notes"].get(f"d{n}").rev)
    first, seq = ids(here, "0", rng.randint(5, 15))
    rest, _ = ids(there, seq)
    assert set(first) | set(rest) == {f"d{n}" for n in range(30)}


def test_a_seq_of_a_dropped_collection_reads_as_0(two: tuple[Database, Database]) -> None:
    here, there = two
    here["notes"].put("old", {})
    seq = seq_now(here.store, "notes")
    here.drop("notes")
    here["notes"].put("new", {})
    crdtdb.sync(here, there)
    assert ids(here, seq)[0] == ["new"]
    assert ids(there, seq)[0] == ["new"]
    for wrong in ("x", "1-%%%", "1-AAAA", "-", "99999999999999999999"):
        with pytest.raises(CouchError):
            ids(here, wrong)
