"""Slow work of one kind holds up work of that kind alone: gossip, writes and validators have threads of their own."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import httpx
import pytest

from crdtdb.cli.demo.cluster import DemoCluster
from crdtdb.clock import monotonic_seconds
from tests.attacks.watch import MB, Watch, at_once, client_of, fill

pytestmark = pytest.mark.processes
LOOPING = "function (doc) { var until = Date.now() + 1000; while (Date.now() < until); emit(doc._id) }"


def test_sixty_slow_queries(cluster: DemoCluster) -> None:
    fill(cluster, "many", [{"_id": f"d{number:05}", "text": "x" * 40} for number in range(10_000)])
    slow = {"selector": {"text": {"$gt": "y"}}}
    with Watch(cluster, "n1", growth_bytes_max=150 * MB), client_of(cluster, "n1") as client:
        found = at_once([lambda: client.post("/many/_find", content=json.dumps(slow))] * 60)
        assert {one.status_code for one in found} == {200}


def test_a_burst_of_passwords(cluster: DemoCluster) -> None:
    """Ten are checked; of the others none costs a hash, which takes 16 MB and 50 ms of CPU."""
    with Watch(cluster, "n1", growth_bytes_max=100 * MB), client_of(cluster, "n1") as client:

        def guess(number: int) -> httpx.Response:
            body = json.dumps({"name": f"nobody{number}", "password": "guessing again"})
            return client.post("/_session", content=body)

        found = at_once([partial(guess, number) for number in range(100)])
        statuses = [one.status_code for one in found]
        assert statuses.count(401) == 10
        assert set(statuses) <= {401, 429, 503}


def test_two_slow_views_while_a_write_is_validated(cluster: DemoCluster) -> None:
    design: dict[str, Any] = {
        "views": {"one": {"map": LOOPING}, "two": {"map": LOOPING + " "}},
        "validate_doc_update": "function (doc) { if (doc.bad) throw({forbidden: 'bad'}) }",
    }
    with client_of(cluster, "n1", "root") as client:
        client.put("/guarded")
        for number in range(3):
            client.put(f"/guarded/d{number}", content="{}")
        assert client.put("/guarded/_design/app", content=json.dumps(design)).status_code == 201
        assert client.put("/guarded/first", content="{}").status_code == 201  # the validators' process has started

        def write() -> float:
            begun = monotonic_seconds()
            assert client.put("/guarded/good", content="{}").status_code == 201
            assert client.put("/guarded/bad", content='{"bad": true}').status_code == 403
            return monotonic_seconds() - begun

        views = [
            lambda name=name: client.get(f"/guarded/_design/app/_view/{name}", params={"limit": 1}).status_code
            for name in ("one", "two")
        ]
        with Watch(cluster, "n1", growth_bytes_max=100 * MB):
            statuses = at_once([*views, write])
        assert statuses[:2] == [200, 200]
        assert statuses[2] < 2.5
