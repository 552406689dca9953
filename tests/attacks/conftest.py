"""One cluster of three nodes for all attacks: each must leave it whole for the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crdtdb.cli.demo.cluster import DemoCluster
from crdtdb.security.authority import issue


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    """Three nodes that let users in. n1 is the one that is attacked."""
    with DemoCluster(tmp_path_factory.mktemp("attacked"), flags=("--logins",)) as made:
        issue(made.certs, "admin", "root")
        made.start_all()
        made.ask("n1", "PUT", "after")
        yield made


@pytest.fixture(autouse=True)
def serves_on(cluster: DemoCluster) -> Iterator[None]:
    """After each attack the attacked node still takes writes, and its log has no traceback."""
    yield
    assert cluster.running("n1")
    assert cluster.ask("n1", "POST", "after", body={"still": "here"})["ok"]
    assert "Traceback" not in cluster.log("n1").read_text()
