"""Real PouchDB, pouchdb-upsert, delta-pouch and nano over TLS, against one node and against a cluster."""

from __future__ import annotations

import json
import random
import ssl
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from crdtdb.cli.demo.cluster import DemoCluster, wait_until
from crdtdb.security.authority import issue
from tests.interop.stories import need_node, tell

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    need_node()
    folder: Path = tmp_path_factory.mktemp("interop")
    with DemoCluster(folder, ("n1", "n2"), flags=("--logins",)) as made:
        made.start_all()
        yield made


def make(cluster: DemoCluster, *names: str) -> None:
    for name in names:
        cluster.ask("n1", "PUT", name)
    cluster.wait_equal(names)


def test_the_immediate_conflict_upsert_and_put_if_not_exists(cluster: DemoCluster) -> None:
    make(cluster, "notes")
    tell(cluster, "immediateConflict")
    cluster.ask("n1", "DELETE", "notes")


def test_the_eventual_conflict_read_and_resolved_both_ways(cluster: DemoCluster) -> None:
    make(cluster, "notes")
    tell(cluster, "eventualConflict")
    cluster.ask("n1", "DELETE", "notes")


def test_pouchdb_find_finds_at_a_node_what_it_finds_by_itself(cluster: DemoCluster) -> None:
    make(cluster, "people")
    assert tell(cluster, "find") > 30


def test_map_and_reduce_at_a_node_are_those_of_pouchdb(cluster: DemoCluster) -> None:
    make(cluster, "rows")
    assert tell(cluster, "mapReduce") > 20


def test_validation_and_filters_of_a_replication(cluster: DemoCluster) -> None:
    make(cluster, "guarded")
    tell(cluster, "guarded")


def test_people_with_passwords_and_no_certificate(cluster: DemoCluster) -> None:
    make(cluster, "guarded-notes", "open-notes")
    issue(cluster.certs, "admin", "root")
    where = ("--url", cluster.url("n1"), "--certs", str(cluster.certs), "--as", "root")
    for name, password, role in (("mia", "a long password", "editors"), ("guest", "a guest password", "guests")):
        crdtdb("user", "add", name, "--role", role, "--password-stdin", *where, given=password)
    security = {"members": {"roles": ["editors"]}, "readers": {"roles": ["guests"]}, "admins": {"names": ["ada"]}}
    crdtdb("access", "guarded-notes", json.dumps(security), *where)
    assert json.loads(crdtdb("user", "list", "--json", *where)) == [
        {"name": "guest", "roles": ["guests"]},
        {"name": "mia", "roles": ["editors"]},
    ]
    tell(cluster, "people")
    crdtdb("user", "remove", "mia", *where)
    known = ssl.create_default_context(cafile=cluster.certs / "ca.pem")
    answer = httpx.get(f"{cluster.url('n1')}/guarded-notes", auth=("mia", "a long password"), verify=known)
    assert answer.status_code == 401
    issue(cluster.certs, "client", "late", days=0.5 / 86_400)
    known.load_cert_chain(cluster.certs / "late.pem", cluster.certs / "late.key")
    assert wait_until(lambda: is_refused(f"{cluster.url('n1')}/_up", known), 10)


def is_refused(url: str, context: ssl.SSLContext) -> bool:
    try:
        return httpx.get(url, verify=context).status_code == 401
    except httpx.HTTPError:
        return True  # TLS itself lets it in no more


def crdtdb(*arguments: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "crdtdb", *arguments], input=given + "\n", capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_doc_is_a_delta(cluster: DemoCluster) -> None:
    make(cluster, "deltas")
    tell(cluster, "deltas")


def test_live_sync_of_two_clients_through_two_nodes_of_which_one_is_killed(cluster: DemoCluster) -> None:
    make(cluster, "live")

    def start() -> None:
        cluster.start("n1")
        cluster.wait_ready("n1")

    tell(cluster, "liveSync", {"kill n1": lambda: cluster.kill("n1"), "start n1": start})
    cluster.wait_equal(["live"])


def test_who_moves_to_another_node_goes_on_where_it_was(cluster: DemoCluster) -> None:
    make(cluster, "moves")
    changed = tell(cluster, "moves", {"wait equal": lambda: cluster.wait_equal(["moves"])})
    assert changed == ["later"]


def test_fields_merge_and_are_no_conflict(cluster: DemoCluster) -> None:
    make(cluster, "fields")
    schema = {"likes": "counter", "tags": "set", "text": "text"}

    def made() -> None:
        cluster.ask("n1", "PUT", "fields", "_schema", body=schema)
        cluster.ask("n1", "PUT", "fields", "a", body={"title": "x", "likes": 5, "tags": ["t"], "text": "hello"})
        cluster.wait_equal(["fields"])

    def edited() -> None:
        for name, by in (("n1", 3), ("n2", 7)):
            operations: list[dict[str, Any]] = [{"path": ["likes"], "operation": "increment", "by": by}]
            if name == "n2":
                operations.append({"path": ["text"], "operation": "insert", "at": 5, "text": " world"})
            cluster.ask(name, "POST", "fields", "a", "_edit", body={"operations": operations})

    tell(
        cluster,
        "fields",
        {"make": made, "edit on both": edited, "wait equal": lambda: cluster.wait_equal(["fields"])},
    )
    before = cluster.digests(["fields"])
    for name in cluster.names:  # rule 13: at rest, reading writes nothing
        cluster.ask(name, "GET", "fields", "_changes", include_docs="true")
        cluster.ask(name, "GET", "fields", "a")
    assert cluster.digests(["fields"]) == before


def test_history_16_the_closed_branch(cluster: DemoCluster) -> None:
    make(cluster, "closed")
    tell(
        cluster,
        "closedBranch",
        {"resolve": lambda: cluster.ask("n1", "POST", "closed", "a", "_resolve", body={"title": "resolved"})},
    )


def test_history_32_the_value_that_comes_back(cluster: DemoCluster) -> None:
    make(cluster, "back")
    cluster.ask("n1", "PUT", "back", "_schema", body={"likes": "counter"})
    operations = [{"path": "likes", "operation": "increment"}]

    def count_up() -> object:
        return cluster.ask("n1", "POST", "back", "a", "_edit", body={"operations": operations})

    tell(cluster, "comesBack", {"count": count_up, "wait equal": lambda: cluster.wait_equal(["back"])})


def test_history_15_the_reborn_document(cluster: DemoCluster) -> None:
    make(cluster, "reborn")
    tell(cluster, "reborn")


def collected(cluster: DemoCluster, name: str) -> None:
    """Wait until every node has collected all that there is, once the clients' checkpoints are too old to hold it."""
    numbers = count()

    def done() -> bool:
        cluster.ask(
            "n1", "PUT", "other", f"d{next(numbers)}", body={}
        )  # the cut moves, and what was held back is looked at again
        found = [cluster.ask(node, "GET", "_cluster", "stability")["waiting"] for node in cluster.names]
        return found == [{"stability": 0, "clients": 0}] * len(found) and all(
            cluster.ask(node, "GET", "_cluster")["collections"][name]["deleted"] == 0 for node in cluster.names
        )

    assert wait_until(done, 40)


def test_histories_15_and_16_after_collection(tmp_path: Path) -> None:
    flags = ("--tombstone-grace", "0", "--checkpoint-ttl", "3")
    with DemoCluster(tmp_path, ("n1", "n2"), flags=flags) as cluster:
        cluster.start_all()
        make(cluster, "reborn2", "closed2", "other")
        tell(cluster, "rebornAfterCollection", {"collected": lambda: collected(cluster, "reborn2")})
        tell(
            cluster,
            "closedAfterCollection",
            {
                "resolve": lambda: cluster.ask("n1", "POST", "closed2", "a", "_resolve", body={"title": "resolved"}),
                "collected": lambda: collected(cluster, "closed2"),
                "wait equal": lambda: cluster.wait_equal(["closed2"]),
            },
        )


def test_attachments(cluster: DemoCluster) -> None:
    make(cluster, "files")
    tell(cluster, "attachments", {"wait equal": lambda: cluster.wait_equal(["files"])})


def test_nano(cluster: DemoCluster) -> None:
    tell(cluster, "nano")


def test_revision_trees_from_a_generator(cluster: DemoCluster) -> None:
    make(cluster, "trees")
    trees = {f"t{seed}": tree(random.Random(seed)) for seed in range(60)}
    tell(cluster, "trees", {"wait equal": lambda: cluster.wait_equal(["trees"])}, trees=trees)


def tree(rng: random.Random) -> list[dict[str, Any]]:
    """Return revisions of one document: branches, deletions, stemmed paths, missing ancestors, in any order, some twice."""
    nodes: list[tuple[str, ...]] = [(f"1-{rng.randrange(16**8):08x}",)]
    for _ in range(rng.randint(1, 12)):
        parent = rng.choice(nodes)
        nodes.append((f"{len(parent) + 1}-{rng.randrange(16**8):08x}", *parent))
    revisions = []
    for path in rng.sample(nodes, rng.randint(1, len(nodes))):
        kept = path if rng.random() < 0.8 else path[: rng.randint(1, len(path))]
        ids = [rev.split("-")[1] for rev in kept]
        revision: dict[str, Any] = {"_rev": path[0], "_revisions": {"start": len(path), "ids": ids}, "of": path[0]}
        if rng.random() < 0.25:
            revision["_deleted"] = True
        revisions.append(revision)
    return revisions + [rng.choice(revisions) for _ in range(2)]
