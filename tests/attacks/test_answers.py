"""Small requests for large answers: they are streamed, and what nobody reads isn't made."""

from __future__ import annotations

import json
import socket
import time
from base64 import b64decode
from collections.abc import Iterator

import httpx
import pytest

from crdtdb.cli.demo.cluster import DemoCluster
from tests.attacks.raw import many, tls
from tests.attacks.watch import MB, Watch, at_once, client_of, fill

pytestmark = pytest.mark.processes
TEXT = "x" * 1_000_000
GROWTH = 130 * MB


@pytest.fixture(scope="module")
def client(cluster: DemoCluster) -> Iterator[httpx.Client]:
    """A reader, and ten documents of a megabyte, one of which has an attachment of 3 MB."""
    fill(cluster, "heavy", [{"_id": f"d{number}", "text": TEXT} for number in range(10)])
    with client_of(cluster, "n1") as client:
        rev = client.get("/heavy/d0").json()["_rev"]
        assert client.put("/heavy/d0/a.bin", params={"rev": rev}, content=b"0123456789" * 300_000).status_code == 201
        yield client


def length_of(client: httpx.Client, method: str, path: str, body: object = None) -> int:
    """Return how long an answer is, which isn't kept."""
    content = json.dumps(body) if body is not None else None
    with client.stream(method, path, content=content) as answer:
        assert answer.status_code == 200
        return sum(len(piece) for piece in answer.iter_raw())


HUNDRED = [f"d{number % 10}" for number in range(100)]


@pytest.mark.parametrize(
    ("method", "path", "body", "least"),
    [
        ("POST", "/heavy/_bulk_get", {"docs": [{"id": doc_id} for doc_id in HUNDRED]}, 100 * len(TEXT)),
        ("POST", "/heavy/_bulk_get?attachments=true", {"docs": [{"id": "d0"}] * 40}, 40 * 5_000_000),
        ("POST", "/heavy/_all_docs?include_docs=true", {"keys": HUNDRED}, 100 * len(TEXT)),
        ("GET", "/heavy/_all_docs?include_docs=true", None, 10 * len(TEXT)),
        ("GET", "/heavy/_changes?include_docs=true&attachments=true", None, 10 * len(TEXT)),
        ("GET", "/heavy/_changes?include_docs=true&descending=true", None, 10 * len(TEXT)),
        ("POST", "/heavy/_find", {"selector": {}, "limit": 1_000}, 10 * len(TEXT)),
    ],
    ids=["bulk_get", "attachments", "keys", "all_docs", "changes", "newest", "find"],
)
def test_an_answer_much_larger_than_its_request(
    cluster: DemoCluster, client: httpx.Client, method: str, path: str, body: object, least: int
) -> None:
    with Watch(cluster, "n1", growth_bytes_max=GROWTH):
        assert length_of(client, method, path, body) > least


def test_all_that_is_known_of_one_document(cluster: DemoCluster, client: httpx.Client) -> None:
    """Thirty revisions of 2 MB, and a conflict of eight times 2 MB: each body is written when its turn comes."""
    large, path, rev = TEXT * 2, "/heavy/revised", ""
    for number in range(30):
        document = {"text": f"{large}{number}", **({"_rev": rev} if rev else {})}
        rev = client.put(path, content=json.dumps(document)).json()["rev"]
    siblings = [{"_id": "several", "_rev": f"1-{number}", "text": f"{large}{number}"} for number in range(8)]
    pushed = {"docs": siblings, "new_edits": False}
    assert client.post("/heavy/_bulk_docs", content=json.dumps(pushed)).json() == []
    with Watch(cluster, "n1", growth_bytes_max=GROWTH, answer_seconds_max=1.0):
        assert length_of(client, "GET", f"{path}/_history") > 30 * len(large)
    for listing in ("/heavy/several/_siblings", "/heavy/_conflicts", "/heavy/several/_why"):
        with Watch(cluster, "n1", growth_bytes_max=GROWTH, answer_seconds_max=1.0):
            assert length_of(client, "GET", listing) > 8 * len(large)


def test_large_answers_that_are_not_read(cluster: DemoCluster, client: httpx.Client) -> None:
    """Thirty at once, of 100 MB each: of each a page is in memory, here one document in its various forms."""
    body = json.dumps({"docs": [{"id": doc_id} for doc_id in HUNDRED]}).encode()
    request = b"POST /heavy/_bulk_get HTTP/1.1\r\nHost: n1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    opened: list[socket.socket] = []

    def ask() -> socket.socket:
        connection = tls(cluster, who="ada")
        connection.sendall(request)
        return connection

    with Watch(cluster, "n1", growth_bytes_max=450 * MB), many(opened):
        opened += at_once([ask] * 30)
        time.sleep(3)


def test_attachments_within_documents_come_whole(client: httpx.Client) -> None:
    wanted = b"0123456789" * 300_000
    inline = {"attachments": "true", "include_docs": "true"}
    got = client.post("/heavy/_bulk_get", params=inline, content='{"docs":[{"id":"d0"}]}').json()
    leaves = client.get(
        "/heavy/d0", params={**inline, "open_revs": "all"}, headers={"accept": "application/json"}
    ).json()
    rows = client.get("/heavy/_all_docs", params={**inline, "key": '"d0"'}).json()["rows"]
    changes = client.get("/heavy/_changes", params=inline).json()["results"]
    for answer in (
        client.get("/heavy/d0", params={"attachments": "true"}).json(),
        got["results"][0]["docs"][0]["ok"],
        leaves[0]["ok"],
        rows[0]["doc"],
        next(row["doc"] for row in changes if row["id"] == "d0"),
    ):
        assert b64decode(answer["_attachments"]["a.bin"]["data"]) == wanted
        assert answer["text"] == TEXT


@pytest.mark.parametrize("pattern", ["(x|x)*$", "(x?){3000}x{3000}", "(x)*z|(x)+q"])
def test_a_regular_expression_that_takes_for_ever(cluster: DemoCluster, client: httpx.Client, pattern: str) -> None:
    fill(cluster, "texts", [{"_id": f"d{number}", "text": "x" * 3_000 + "!"} for number in range(50)])
    body = json.dumps({"selector": {"text": {"$regex": pattern}}})
    with Watch(cluster, "n1", growth_bytes_max=GROWTH):
        answers = at_once([lambda: client.post("/texts/_find", content=body)] * 8)
    for answer in answers:
        assert answer.status_code in (200, 413)
        if answer.status_code == 413:
            assert "took over" in answer.json()["reason"]


def test_a_regular_expression_over_large_texts(cluster: DemoCluster, client: httpx.Client) -> None:
    body = json.dumps({"selector": {"text": {"$regex": "((x)|(y))*[^x]"}}})
    with Watch(cluster, "n1", growth_bytes_max=500 * MB):
        answers = at_once([lambda: client.post("/heavy/_find", content=body)] * 3)
    assert {answer.status_code for answer in answers} <= {200, 413}
