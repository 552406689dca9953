"""Functions of design documents that take all they can, on a node whose cluster watches."""

from __future__ import annotations

import json

import pytest

from crdtdb.cli.demo.cluster import DemoCluster
from tests.attacks.watch import MB, Watch, at_once, client_of

pytestmark = pytest.mark.processes
GREEDY = {
    "searches": "function (doc) { 'a'.repeat(2e7).indexOf('a'.repeat(1e6) + 'b') }",
    "eats": "function (doc) { var all = []; while (true) all.push('x'.repeat(1e6) + all.length) }",
}


@pytest.mark.soak
def test_functions_that_take_all_they_can(cluster: DemoCluster) -> None:
    """Each is stopped after its seconds of CPU, whatever it calls, and nothing else waits for it."""
    design = {"views": {name: {"map": source} for name, source in GREEDY.items()}}
    with client_of(cluster, "n1", "root") as client:
        client.put("/greedy")
        client.put("/greedy/d", content="{}")
        assert client.put("/greedy/_design/app", content=json.dumps(design)).status_code == 201
        with Watch(cluster, "n1", growth_bytes_max=60 * MB):
            jobs = [lambda name=name: client.get(f"/greedy/_design/app/_view/{name}", timeout=90) for name in GREEDY]
            answers = at_once(jobs)
        for answer in answers:
            assert (answer.status_code, answer.json()["error"]) == (500, "script_error")
            assert "was stopped" in answer.json()["reason"], answer.json()["reason"]
        assert client.put("/greedy/e", content="{}").status_code == 201


def test_a_character_beyond_the_first_plane(cluster: DemoCluster) -> None:
    design = {
        "views": {"cut": {"map": "function (doc) { log(doc.text.slice(1)); emit(doc.text[0], doc.text) }"}},
        "filters": {"cut": "function (doc, req) { return doc.text && doc.text[0] !== req.query.x }"},
    }
    with client_of(cluster, "n1", "root") as client:
        client.put("/smiling")
        client.put("/smiling/%F0%9F%98%80", content=json.dumps({"text": "😀"}))
        assert client.put("/smiling/_design/app", content=json.dumps(design)).status_code == 201
        (row,) = client.get("/smiling/_design/app/_view/cut").json()["rows"]
        assert row == {"id": "😀", "key": "�", "value": "😀"}
        found = client.get("/smiling/_changes", params={"filter": "app/cut", "x": "a"})
        assert [one["id"] for one in found.json()["results"]] == ["😀"]
