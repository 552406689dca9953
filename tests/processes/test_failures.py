"""What canhazdb did wrong, on real processes: kills, cuts, starts in any order, and nodes that are down."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import httpx
import pytest

from crdtdb.cli.demo.cluster import DemoCluster, wait_until
from crdtdb.errors import ConflictError, CrdtdbError, NotFoundError
from crdtdb.security.tls import Credentials

pytestmark = pytest.mark.processes


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DemoCluster]:
    with DemoCluster(tmp_path) as made:
        yield made


def put(cluster: DemoCluster, node: str, doc_id: str, body: dict[str, object]) -> str:
    """Write over whatever is there."""
    try:
        rev = cluster.ask(node, "GET", "notes", doc_id)["_rev"]
    except NotFoundError:
        rev = None
    written: dict[str, str] = cluster.ask(node, "PUT", "notes", doc_id, body={**body, **({"_rev": rev} if rev else {})})
    return written["rev"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    with DemoCluster(tmp_path_factory.mktemp("failures")) as made:
        made.start_all()
        yield made


@pytest.fixture
def whole(running: DemoCluster) -> DemoCluster:
    """A cluster that others have used: all nodes run, are connected and hold an empty collection of notes."""
    for name in running.names:
        if not running.running(name):
            running.start(name)
            running.wait_ready(name)
    running.wait_meshed()
    if "notes" in running.ask("n1", "GET", "_all_dbs"):
        running.ask("n1", "DELETE", "notes")
        assert wait_until(lambda: all("notes" not in running.ask(n, "GET", "_all_dbs") for n in running.names), 20)
    running.ask("n1", "PUT", "notes")
    running.wait_equal(["notes"])
    return running


def test_a_killed_node_catches_up_with_what_it_missed(whole: DemoCluster) -> None:
    put(whole, "n1", "a", {"n": 0})
    put(whole, "n1", "b", {"n": 0})
    whole.wait_equal(["notes"])
    whole.kill("n3")
    for n in (1, 2, 3):
        put(whole, "n1", "a", {"n": n})
    whole.ask("n2", "DELETE", "notes", "b", rev=whole.ask("n2", "GET", "notes", "b")["_rev"])
    whole.start("n3")
    whole.wait_ready("n3")
    whole.wait_equal(["notes"])
    for name in whole.names:
        assert whole.ask(name, "GET", "notes", "a", conflicts="true") == whole.ask("n1", "GET", "notes", "a")
        assert whole.ask(name, "GET", "notes", "a")["n"] == 3
        with pytest.raises(NotFoundError, match="deleted"):
            whole.ask(name, "GET", "notes", "b")


def test_a_connection_that_was_cut_resumes_by_itself(whole: DemoCluster) -> None:
    whole.wait_equal(["notes"])
    whole.wait_meshed()
    for round_ in range(2):
        whole.cables.cut({"n1"})
        put(whole, "n1", f"mine{round_}", {"n": 1})
        put(whole, "n2", f"theirs{round_}", {"n": 2})
        whole.wait_equal(["notes"], ["n2", "n3"])
        with pytest.raises(NotFoundError):
            whole.ask("n1", "GET", "notes", f"theirs{round_}")
        whole.cables.mend()
        whole.wait_equal(["notes"])
        assert whole.ask("n3", "GET", "notes", f"mine{round_}")["n"] == 1
    whole.wait_meshed()


@pytest.mark.parametrize(
    "joins",
    [
        {"n1": [], "n2": ["n1"], "n3": ["n1"]},
        {"n3": ["n2"], "n2": ["n1"], "n1": []},
        {"n1": ["n2"], "n2": ["n3"], "n3": ["n1"]},
    ],
    ids=["a star", "a chain, the end first", "a ring of new nodes"],
)
def test_nodes_started_at_once_mesh(cluster: DemoCluster, joins: dict[str, list[str]]) -> None:
    for name, others in joins.items():
        cluster.start(name, others)
    for name in joins:
        cluster.wait_ready(name)
    cluster.wait_meshed()
    cluster.ask("n3", "PUT", "notes")
    put(cluster, "n3", "a", {"n": 1})
    cluster.wait_equal(["notes"])


def test_with_nodes_down_the_rest_read_and_write(cluster: DemoCluster) -> None:
    cluster.start_all()
    cluster.ask("n1", "PUT", "notes")
    put(cluster, "n1", "a", {"n": 0})
    cluster.wait_equal(["notes"])
    cluster.kill("n1")
    for name in ("n2", "n3"):
        put(cluster, name, f"one down, {name}", {"n": 1})
        assert cluster.ask(name, "GET", "notes", "a")["n"] == 0
    cluster.wait_equal(["notes"], ["n2", "n3"])
    cluster.kill("n2")
    put(cluster, "n3", "two down", {"n": 2})
    put(cluster, "n3", "a", {"n": 3})
    assert cluster.ask("n3", "GET", "notes", "a")["n"] == 3
    dead = wait_until(
        lambda: [one["status"] for one in cluster.ask("n3", "GET", "_cluster")["members"]] == ["dead", "dead", "alive"],
        20,
    )
    assert dead, cluster.ask("n3", "GET", "_cluster")["members"]

    # A restart with all others down: it can't ask them, and takes writes all the same, as a new actor.
    assert cluster.stop("n3") == 0
    cluster.start("n3")
    cluster.wait_ready("n3")
    assert "new actor" in cluster.log("n3").read_text()
    put(cluster, "n3", "alone", {"n": 4})
    cluster.start("n1")
    cluster.start("n2")
    cluster.wait_ready("n1")
    cluster.wait_ready("n2")
    cluster.wait_equal(["notes"])
    assert cluster.ask("n1", "GET", "notes")["doc_count"] == 5


def test_500_acknowledged_writes_survive_sigkill(cluster: DemoCluster) -> None:
    cluster.start("n1")
    cluster.wait_ready("n1")
    cluster.ask("n1", "PUT", "notes")
    acknowledged: list[str] = []

    def write() -> None:
        try:
            for n in range(10_000):
                written = cluster.ask("n1", "PUT", "notes", f"d{n}", body={"n": n})
                acknowledged.append(written["id"])
        except CrdtdbError:
            pass  # the kill

    writer = Thread(target=write)
    writer.start()
    assert wait_until(lambda: len(acknowledged) >= 500, 60)
    cluster.kill("n1")
    writer.join(30)
    assert len(acknowledged) >= 500
    cluster.start("n1")
    cluster.wait_ready("n1")
    found = {row["id"] for row in cluster.ask("n1", "GET", "notes", "_all_docs")["rows"]}
    assert set(acknowledged) <= found
    assert len(found) <= len(acknowledged) + 1


def test_a_clean_restart_keeps_the_data_and_the_actor(whole: DemoCluster) -> None:
    whole.wait_equal(["notes"])
    rev = put(whole, "n2", "a", {"n": 1})
    whole.wait_equal(["notes"])
    before = {one["name"]: one["actor"] for one in whole.ask("n1", "GET", "_cluster")["members"]}
    assert whole.stop("n2") == 0
    whole.start("n2")
    whole.wait_ready("n2")
    after = {one["name"]: one["actor"] for one in whole.ask("n2", "GET", "_cluster")["members"]}
    assert after == before
    assert whole.ask("n2", "GET", "notes", "a")["_rev"] == rev
    with pytest.raises(ConflictError):
        whole.ask("n2", "PUT", "notes", "a", body={"n": 2})


def test_10000_documents_reach_a_joiner_and_nothing_missing_costs_next_to_nothing(tmp_path: Path) -> None:
    with DemoCluster(tmp_path, ("n1", "n2")) as cluster:
        cluster.start("n1")
        cluster.wait_ready("n1")
        cluster.ask("n1", "PUT", "notes")
        for at in range(0, 10_000, 500):
            docs = [{"_id": f"d{n:05}", "n": n, "text": "some words " * 5} for n in range(at, at + 500)]
            cluster.ask("n1", "POST", "notes", "_bulk_docs", body={"docs": docs})
        cluster.start("n2", ["n1"])
        cluster.wait_ready("n2", 60)
        assert cluster.ask("n2", "GET", "notes")["doc_count"] == 10_000
        cluster.wait_equal(["notes"])

        # Started again, it asks once more: one round trip, and under a kilobyte for both ways.
        assert cluster.stop("n2") == 0
        before = cluster.ask("n1", "GET", "_cluster")["sent"]["uptodate"] if "uptodate" in sent(cluster, "n1") else None
        cluster.start("n2")
        cluster.wait_ready("n2")
        assert wait_until(lambda: cluster.ask("n2", "GET", "_cluster")["exchanges"] >= 1, 10)
        asked, answered = sent(cluster, "n2")["syncrequest"], sent(cluster, "n1")["uptodate"]
        answers = answered["messages"] - (before["messages"] if before else 0)
        assert asked["messages"] == answers
        per_exchange = asked["bytes"] / asked["messages"] + answered["bytes"] / answered["messages"]
        assert per_exchange < 300
        assert "page" not in sent(cluster, "n2")


def sent(cluster: DemoCluster, name: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = cluster.ask(name, "GET", "_cluster")["sent"]
    return found


def test_a_node_that_lost_its_disk_gets_everything_back_under_its_name(cluster: DemoCluster) -> None:
    """As the handbook says: move the directory aside, start with an empty one and --join."""
    cluster.start_all()
    cluster.ask("n1", "PUT", "notes")
    for n in range(20):
        put(cluster, "n1", f"d{n}", {"n": n})
    cluster.wait_equal(["notes"])
    cluster.wait_meshed()
    cluster.kill("n3")
    (cluster.folder / "n3").rename(cluster.folder / "aside")
    cluster.start("n3", ["n1"])
    cluster.wait_ready("n3", 30)
    cluster.wait_equal(["notes"])
    assert cluster.ask("n3", "GET", "notes")["doc_count"] == 20
    assert "is taken by a node with another store" in cluster.log("n1").read_text(), "until the old one counts as dead"
    cluster.wait_meshed()
    put(cluster, "n3", "new", {"n": 1})
    cluster.wait_equal(["notes"])


def test_a_node_whose_disk_is_full_ends_and_keeps_what_it_answered(tmp_path: Path) -> None:
    """The disk is a limit on the size of files: LevelDB's log can't grow beyond it."""
    with DemoCluster(tmp_path, ("n1",)) as cluster:
        cluster.start("n1", file_bytes_max=2_000_000)
        cluster.wait_ready("n1")
        cluster.ask("n1", "PUT", "notes")
        answered = []
        with pytest.raises(CrdtdbError, match="full|answer didn't come|can't reach"):
            for n in range(200):
                written = cluster.ask(
                    "n1", "PUT", "notes", f"d{n}", body={"text": random.Random(n).randbytes(20_000).hex()}
                )
                answered.append(written["id"])
        assert wait_until(lambda: not cluster.running("n1"), 10)
        assert "the disk is full" in cluster.log("n1").read_text()
        assert "Traceback" not in cluster.log("n1").read_text()
        cluster.start("n1")
        cluster.wait_ready("n1")
        assert [row["id"] for row in cluster.ask("n1", "GET", "notes", "_all_docs")["rows"]] == sorted(answered)


def test_a_node_stops_in_time_though_a_feed_is_open(whole: DemoCluster) -> None:
    put(whole, "n1", "a", {"n": 1})
    context = Credentials(whole.certs, "ada").http_client()
    seen: list[str] = []

    def follow() -> None:
        with httpx.stream("GET", f"{whole.url('n1')}/notes/_changes?feed=continuous", verify=context) as feed:
            seen.extend(feed.iter_lines())

    follower = Thread(target=follow)
    follower.start()
    time.sleep(0.5)  # it has begun to listen, or begins with both
    put(whole, "n1", "b", {"n": 2})
    time.sleep(0.7)
    began = time.monotonic()
    assert whole.stop("n1") == 0
    assert time.monotonic() - began < 5
    follower.join(5)
    assert not follower.is_alive()
    assert [line for line in seen if '"id":"b"' in line]
    assert "Traceback" not in whole.log("n1").read_text()
