"""Three processes, and the worst documents that the bounds allow in a short time: they cut no node off, and all arrive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from crdtdb.cli.client import NodeClient
from crdtdb.cli.demo.cluster import CLIENT, DemoCluster, wait_until

pytestmark = pytest.mark.processes

CONFLICTS, ELEMENTS, ADDED_AT_ONCE = 900, 1_000, 10
TEXT_BYTES, BODY_BYTES = 5_000_000, 7_000_000
WRITE_SECONDS_MAX = 5.0
SUSPECT_SECONDS_MAX = 2.0
"""Less than the 5 s after which a suspect counts as dead. On a quiet machine nobody is suspected at all."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DemoCluster]:
    with DemoCluster(tmp_path) as made:
        yield made


class Bystander(Thread):
    """Somebody who writes through one node and looks at its members, with a connection of its own."""

    def __init__(self, cluster: DemoCluster, node: str) -> None:
        super().__init__(daemon=True)
        self._cluster, self._node, self._ending = cluster, node, Event()
        self.written: list[str] = []
        self.longest_write = self.longest_suspicion = 0.0
        self.dead: set[str] = set()
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            with NodeClient(self._cluster.url(self._node), self._cluster.certs, CLIENT) as client:
                suspected: dict[str, float] = {}
                while not self._ending.wait(0.05):
                    self._write(client)
                    self._look(client, suspected)
        except BaseException as error:
            self.failed = error

    def _write(self, client: NodeClient) -> None:
        doc_id, began = f"{self._node} {len(self.written)}", time.monotonic()
        client.ask("PUT", "plain", doc_id, body={"by": self._node})
        self.longest_write = max(self.longest_write, time.monotonic() - began)
        self.written.append(doc_id)

    def _look(self, client: NodeClient, suspected: dict[str, float]) -> None:
        now = time.monotonic()
        for one in client.ask("GET", "_cluster")["members"]:
            if one["status"] == "alive":
                suspected.pop(one["name"], None)
                continue
            since = suspected.setdefault(one["name"], now)
            self.longest_suspicion = max(self.longest_suspicion, now - since)
            if one["status"] == "dead":
                self.dead.add(one["name"])

    def finish(self) -> None:
        self._ending.set()
        self.join(20)
        assert not self.is_alive(), f"{self._node} doesn't answer any more"
        if self.failed is not None:
            raise self.failed


def write_the_worst(cluster: DemoCluster) -> None:
    conflicts = [{"_id": "split", "_rev": f"1-{number:032x}", "n": number} for number in range(CONFLICTS)]
    cluster.ask("n1", "POST", "plain", "_bulk_docs", body={"docs": conflicts, "new_edits": False})
    for first in range(0, ELEMENTS, ADDED_AT_ONCE):
        add = [{"path": "set", "operation": "add", "element": f"element {first + n}"} for n in range(ADDED_AT_ONCE)]
        cluster.ask("n1", "POST", "typed", "grown", "_edit", body={"operations": add})
    cluster.ask("n2", "PUT", "typed", "long", body={"text": "x" * TEXT_BYTES})
    cluster.ask("n1", "PUT", "plain", "big", body={"v": "y" * BODY_BYTES})


def test_a_node_comes_back_to_the_worst_documents_while_all_write(cluster: DemoCluster) -> None:
    cluster.start_all()
    cluster.ask("n1", "PUT", "plain")
    cluster.ask("n1", "PUT", "typed")
    cluster.ask("n1", "PUT", "typed", "_schema", body={"set": "set", "text": "text"})
    cluster.ask("n1", "PUT", "typed", "grown", body={"set": []})
    cluster.wait_equal(["plain", "typed"])
    cluster.stop("n3")
    write_the_worst(cluster)
    bystanders = {name: Bystander(cluster, name) for name in ("n1", "n2")}
    cluster.start("n3")
    cluster.wait_ready("n3")
    for name in ("n1", "n2"):  # what they say of n3 from now on is about a node that is up
        assert wait_until(lambda name=name: all_alive(cluster, name), 20)  # type: ignore[misc]
    bystanders["n3"] = Bystander(cluster, "n3")
    for one in bystanders.values():
        one.start()
    assert wait_until(lambda: has_all(cluster), 30)
    time.sleep(1.0)
    for one in bystanders.values():
        one.finish()
    cluster.wait_equal(["plain", "typed"])
    for name, one in bystanders.items():
        said = f"{name}: writes took up to {one.longest_write:.2f} s, suspicions {one.longest_suspicion:.2f} s"
        assert one.written, said
        assert not one.dead, said
        assert one.longest_suspicion <= SUSPECT_SECONDS_MAX, said
        assert one.longest_write <= WRITE_SECONDS_MAX, said
    for doc_id in [doc_id for one in bystanders.values() for doc_id in one.written]:
        assert cluster.ask("n3", "GET", "plain", doc_id)["by"] == doc_id[:2]
    warned = {one["id"] for one in cluster.ask("n3", "GET", "_cluster")["large_documents"]}
    assert {"split", "long", "big"} <= warned


def all_alive(cluster: DemoCluster, name: str) -> bool:
    return all(one["status"] == "alive" for one in cluster.ask(name, "GET", "_cluster")["members"])


def has_all(cluster: DemoCluster) -> bool:
    split = cluster.ask("n3", "GET", "plain", "split", conflicts="true")
    return (
        len(split["_conflicts"]) == CONFLICTS - 1
        and len(cluster.ask("n3", "GET", "typed", "grown")["set"]) == ELEMENTS
        and len(cluster.ask("n3", "GET", "typed", "long")["text"]) == TEXT_BYTES
        and len(cluster.ask("n3", "GET", "plain", "big")["v"]) == BODY_BYTES
    )
