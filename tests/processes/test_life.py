"""The life of a cluster on real processes, by the commands that an operator has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from crdtdb.cli.demo.cluster import DemoCluster, wait_until
from crdtdb.security.authority import issue
from crdtdb.security.tls import Credentials
from tests.processes.commands import command

pytestmark = pytest.mark.processes


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DemoCluster]:
    with DemoCluster(tmp_path, flags=("--tombstone-grace", "0")) as made:
        issue(made.certs, "admin", "root")
        yield made


def test_what_is_counted_can_be_scraped(cluster: DemoCluster) -> None:
    cluster.start_all()
    cluster.wait_meshed()
    cluster.ask("n1", "PUT", "notes")
    for n in range(5):
        cluster.ask("n1", "PUT", "notes", f"d{n}", body={"n": n})
        cluster.ask("n1", "GET", "notes", f"d{n}")
    cluster.wait_equal(["notes"])
    with httpx.Client(verify=Credentials(cluster.certs, "ada").http_client(), timeout=10) as client:
        found = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for name in ("n1", "n2")
            for family in text_string_to_metric_families(client.get(f"{cluster.url(name)}/_metrics").text)
            for sample in family.samples
        }
    assert found["crdtdb_documents", "notes"] == 5
    assert found["crdtdb_conflicts", "notes"] == 0
    assert found["crdtdb_body_bytes", "notes"] == 5 * len('{"n":0}')
    assert found["crdtdb_gossip_sockets",] >= 2
    assert found["crdtdb_http_sockets",] >= 1
    assert found["crdtdb_store_bytes",] > 100
    assert found["crdtdb_rumors_new_total",] >= 1
    assert found["crdtdb_locks", "held"] == found["crdtdb_subscribers",] == 0
    assert found["crdtdb_gossip_frames_waiting",] < 10


def stability(cluster: DemoCluster, node: str) -> dict[str, Any]:
    code, said = command(cluster, node, "stability", "--json", who="ada")
    assert code == 0, said
    found: dict[str, Any] = json.loads(said)
    return found


def ids(cluster: DemoCluster, node: str) -> list[str]:
    return [row["id"] for row in cluster.ask(node, "GET", "notes", "_all_docs")["rows"]]


def test_delete_retire_return_backup_restore_and_audit(cluster: DemoCluster, tmp_path: Path) -> None:
    cluster.start_all()
    cluster.ask("n1", "PUT", "notes")
    documents = [{"_id": f"d{n:04}", "n": n} for n in range(1_000)]
    written = cluster.ask("n1", "POST", "notes", "_bulk_docs", body={"docs": documents})
    cluster.wait_equal(["notes"])
    backup = tmp_path / "monday.crdtdb"
    code, said = command(cluster, "n1", "backup", str(backup), who="ada")
    assert (code, backup.exists()) == (6, False), said
    assert "administrator" in said
    code, said = command(cluster, "n1", "backup", str(backup))
    assert (code, list(tmp_path.glob("*.part"))) == (0, []), said

    # A member that is away holds back what the others delete.
    cluster.kill("n3")
    deleted = [{"_id": one["id"], "_rev": one["rev"], "_deleted": True} for one in written[1:]]
    cluster.ask("n2", "POST", "notes", "_bulk_docs", body={"docs": deleted})
    cluster.wait_equal(["notes"], ["n1", "n2"])
    assert wait_until(lambda: stability(cluster, "n1")["waiting"]["stability"] == 999, 20)
    assert wait_until(lambda: len(stability(cluster, "n1")["held_back_by"]) == 1, 20)
    (holder,) = stability(cluster, "n1")["held_back_by"]
    assert holder["name"] == "n3"
    assert "retire" in holder["why"]

    # Retired, it holds nothing back; it is refused, and comes back by --rejoin.
    assert command(cluster, "n1", "retire", "n2")[0] == 2, "a member that is there"
    assert command(cluster, "n1", "retire", "n9")[0] == 3
    code, said = command(cluster, "n1", "retire", "n3")
    assert code == 0, said
    assert wait_until(lambda: cluster.ask("n2", "GET", "notes")["doc_del_count"] == 0, 20)
    cluster.start("n3")
    assert wait_until(lambda: "was retired" in cluster.log("n3").read_text(), 20)
    cluster.stop("n3")
    cluster.start("n3", flags=["--rejoin"])
    cluster.wait_ready("n3")
    cluster.wait_equal(["notes"])
    assert ids(cluster, "n3") == ["d0000"]

    # An old backup brings nothing back that was deleted.
    cluster.stop("n2")
    code, said = command(cluster, "", "restore", str(backup), "--data", str(tmp_path / "n2"))
    assert (code, "empty" in said) == (1, True), said
    (tmp_path / "n2").rename(tmp_path / "n2.old")
    code, said = command(cluster, "", "restore", str(backup), "--data", str(tmp_path / "n2"))
    assert code == 0, said
    cluster.start("n2", ["n1"])
    cluster.wait_ready("n2", 40)
    cluster.wait_equal(["notes"])
    assert ids(cluster, "n2") == ["d0000"]
    cluster.wait_meshed()
    for name in cluster.names:
        code, said = command(cluster, name, "audit")
        assert (code, said.count("equal")) == (0, 2), said
    assert all("Traceback" not in cluster.log(name).read_text() for name in cluster.names)


def test_a_broken_backup_writes_nothing(cluster: DemoCluster, tmp_path: Path) -> None:
    broken = tmp_path / "broken.crdtdb"
    for content in (b"", b"no backup", b"\0" * 4_096):
        broken.write_bytes(content)
        code, said = command(cluster, "", "restore", str(broken), "--data", str(tmp_path / "new"))
        assert code == 1, said
        assert "backup" in said
        assert "Traceback" not in said
        assert not (tmp_path / "new").exists()
    code, said = command(cluster, "", "restore", str(tmp_path / "nothing"), "--data", str(tmp_path / "new"))
    assert (code, "No such file" in said) == (1, True), said
