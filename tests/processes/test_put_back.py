"""Files of yesterday, under real nodes: put back in place, written again offline, and met."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from crdtdb.cli.demo.cluster import DemoCluster, wait_until
from crdtdb.errors import ConflictError

pytestmark = pytest.mark.processes


def files_of(folder: Path, kind: str) -> Path:
    return folder / ("n2" if kind == "leveldb" else "n2.db")


def put_back(copy: Path, place: Path) -> None:
    """Put files over files: directory and inodes stay."""
    if place.is_dir():
        for file in place.iterdir():
            file.unlink()
        shutil.copytree(copy, place, dirs_exist_ok=True)
    else:
        shutil.copyfile(copy, place)


def write(cluster: DemoCluster, name: str, doc_id: str, body: dict[str, object]) -> None:
    def written() -> bool:
        try:
            rev = cluster.ask(name, "GET", "notes", doc_id)["_rev"]
        except KeyError:
            rev = None
        try:
            cluster.ask(name, "PUT", "notes", doc_id, body={**body, **({"_rev": rev} if rev else {})})
        except ConflictError:
            return False
        return True

    assert wait_until(written, 10)


@pytest.mark.parametrize(
    ("kind", "first_met"),
    [
        ("leveldb", "by another"),
        ("sqlite", "by the one that knew"),
        pytest.param("leveldb", "by the one that knew", marks=pytest.mark.soak),
        pytest.param("sqlite", "by another", marks=pytest.mark.soak),
    ],
)
def test_a_node_runs_on_files_of_yesterday(tmp_path: Path, kind: str, first_met: str) -> None:
    with DemoCluster(tmp_path, backend=kind) as cluster:
        cluster.start_all()
        cluster.ask("n1", "PUT", "notes")
        write(cluster, "n2", "both", {"v": 0})
        cluster.wait_equal(["notes"])
        cluster.stop("n2")
        place, copy = files_of(tmp_path, kind), tmp_path / "copy"
        (shutil.copytree if place.is_dir() else shutil.copyfile)(place, copy)
        if first_met == "by another":
            cluster.stop("n3")  # knows nothing of what comes

        cluster.start("n2", ["n1"], flags=["--offline"])  # or it would take a new actor, if n3 isn't there
        cluster.wait_ready("n2")
        for n in range(3):
            write(cluster, "n2", f"first{n}", {"v": n})
        write(cluster, "n2", "both", {"v": "first"})
        cluster.wait_equal(["notes"], ["n1", "n2"])
        cluster.stop("n2")

        put_back(copy, place)
        if first_met == "by another":
            cluster.stop("n1")
        cluster.cables.cut({"n2"})
        cluster.start("n2", ["n1"], flags=["--offline"])
        cluster.wait_ready("n2")
        for n in range(9):
            write(cluster, "n2", f"second{n}", {"v": n})
        write(cluster, "n2", "both", {"v": "second"})
        cluster.cables.mend()
        if first_met == "by another":
            cluster.start("n3", ["n2"])
            cluster.wait_ready("n3")
            cluster.wait_equal(["notes"], ["n2", "n3"])
            cluster.start("n1", ["n2"])
            cluster.wait_ready("n1")
        cluster.wait_equal(["notes"])
        for name in cluster.names:
            held = {row["id"] for row in cluster.ask(name, "GET", "notes", "_all_docs")["rows"]}
            assert held == {"both", *(f"first{n}" for n in range(3)), *(f"second{n}" for n in range(9))}
            siblings = cluster.ask(name, "GET", "notes", "both", "_siblings")["siblings"]
            assert sorted(one["body"]["v"] for one in siblings) == ["first", "second"]
        write(cluster, "n2", "later", {})
        cluster.wait_equal(["notes"])
        said = "".join(cluster.log(name).read_text() for name in cluster.names)
        assert "put back from a backup and written again" in said
