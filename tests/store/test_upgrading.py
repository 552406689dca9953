"""Stores that an older crdtdb wrote open, hold what they held, and are of this format from then on."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

import crdtdb
from crdtdb.backends import open_backend
from crdtdb.store import Store
from crdtdb.store.layout import keys
from crdtdb.store.layout.keys import FORMAT_VERSION, OLDEST_VERSION
from crdtdb.store.layout.version import check_format
from crdtdb.testing.invariants import check_store
from tests.store.fixtures.make import described, fill

FIXTURES = Path(__file__).parent / "fixtures"


def unpacked(version: int, tmp_path: Path) -> Path:
    with tarfile.open(FIXTURES / f"store-{version}.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / "store"


@pytest.mark.parametrize("version", range(OLDEST_VERSION, FORMAT_VERSION))
def test_a_store_of_an_older_format_opens_and_holds_what_it_held(version: int, tmp_path: Path) -> None:
    place = unpacked(version, tmp_path)
    expected = json.loads((FIXTURES / f"store-{version}.json").read_text())
    for _ in range(2):
        with crdtdb.open(str(place)) as db:
            assert described(db) == expected
            check_store(db.store)
            notes = db.store.collection("notes")
            assert (notes.documents, notes.deleted, notes.conflicts) == (4, 1, 1)
            assert notes.size > 50
            assert db["notes"].attachment("file", "a.txt") == b"attached " * 1_000
            assert db["notes"].get("plain", rev=db["notes"].history("plain")[1].rev)["title"] == "x"
    with crdtdb.open(str(place)) as db, crdtdb.open("memory:") as other:
        crdtdb.sync(db, other)
        assert described(other) == expected
        db["notes"].resolve("conflict", {"who": "both"})
        assert db.store.collection("notes").conflicts == 0
        check_store(db.store)


def test_an_upgrade_is_whole_or_not_there(tmp_path: Path) -> None:
    place = unpacked(OLDEST_VERSION, tmp_path)
    backend = open_backend(str(place))

    def fail(batch: object, durable: bool) -> None:
        raise crdtdb.StoreFullError("the disk is full")

    backend.write = fail  # type: ignore[method-assign]
    with pytest.raises(crdtdb.StoreFullError):
        Store(backend)
    backend.close()
    backend = open_backend(str(place))
    assert check_format(backend) == OLDEST_VERSION
    backend.close()
    with crdtdb.open(str(place)) as db:
        check_store(db.store)


def test_the_next_fixture_can_be_made(tmp_path: Path) -> None:
    with crdtdb.open(str(tmp_path / "store")) as db:
        fill(db)
        check_store(db.store)
        found = described(db)
    with crdtdb.open(str(tmp_path / "store")) as db:
        assert described(db) == found


def test_indexes_that_design_documents_define_are_built_after_an_upgrade(tmp_path: Path) -> None:
    path = str(tmp_path / "data")
    with crdtdb.open(path) as db:
        notes = db["notes"]
        notes.bulk([{"_id": f"d{n}", "n": n} for n in range(20)])
        notes.create_index(["n"])
        expected = [doc.id for doc in notes.find({"n": {"$gt": 10}})]
    backend = open_backend(path)
    rows: dict[bytes, bytes | None] = {keys.FORMAT: b"crdtdb 5"}
    for kind in (b"i", b"I", b"j"):
        rows.update(dict.fromkeys((key for key, _ in backend.scan(*keys.rest(kind))), None))
    backend.write(rows, durable=True)
    backend.close()
    with crdtdb.open(path) as db:
        found = db["notes"].find({"n": {"$gt": 10}})
        assert found.plan.index is not None
        assert [doc.id for doc in found] == expected
