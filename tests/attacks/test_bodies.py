"""Requests that are large, or become large when they are read, by a client who may only read."""

from __future__ import annotations

import json

import pytest

from crdtdb.cli.demo.cluster import DemoCluster
from crdtdb.limits import REQUEST_BYTES_MAX
from tests.attacks.watch import MB, Watch, at_once, client_of

pytestmark = pytest.mark.processes
SIZE = REQUEST_BYTES_MAX - 1_000
MANY = 64 * MB
"""Enough for values that take more than a request may."""


@pytest.mark.parametrize("piece", [b"{},", b"[1],", b'"x",'], ids=["objects", "arrays", "strings"])
def test_bodies_that_become_many_values(cluster: DemoCluster, piece: bytes) -> None:
    body = b'{"keys":[' + piece * (MANY // len(piece)) + b"1]}"
    with client_of(cluster, "n1") as client, Watch(cluster, "n1", growth_bytes_max=250 * MB):
        answer = client.post("/after/_all_docs", content=body)
    assert answer.status_code == 413
    assert "memory" in answer.json()["reason"]


@pytest.mark.soak
def test_many_large_bodies_at_once(cluster: DemoCluster) -> None:
    body = b'{"selector":{"text":"' + b"x" * SIZE + b'"}}'
    watch = Watch(cluster, "n1", growth_bytes_max=1_000 * MB, answer_seconds_max=10, suspected_max=0.6)
    with client_of(cluster, "n1") as client, watch:
        answers = at_once([lambda: client.post("/after/_find", content=body, timeout=120)] * 6)
    assert {answer.status_code for answer in answers} <= {200, 503}
    with client_of(cluster, "n1") as client:
        found = client.post("/after/_find", content=json.dumps({"selector": {"text": "x" * MB}}))
        assert found.status_code == 200, "all was given back"
