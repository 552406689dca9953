"""/_notify on real nodes over TLS: server-sent events and WebSockets, resumed here and at another node."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from crdtdb.cli.demo.cluster import DemoCluster, wait_until
from crdtdb.security.authority import issue
from crdtdb.security.tls import Credentials
from tests.processes.commands import command

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    """One for all tests here: each leaves it running for the next."""
    with DemoCluster(
        tmp_path_factory.mktemp("notify"), names=("n1", "n2"), flags=("--cors", "https://app.example")
    ) as made:
        issue(made.certs, "admin", "root")
        issue(made.certs, "client", "bob")
        made.start_all()
        made.wait_meshed()
        made.ask("n1", "PUT", "orders")
        made.wait_equal(["orders"])
        yield made


def tls(cluster: DemoCluster, who: str = "ada") -> ssl.SSLContext:
    return Credentials(cluster.certs, who).http_client()


def socket(cluster: DemoCluster, node: str, **options: Any) -> ClientConnection:
    url = cluster.url(node).replace("https", "wss") + "/_notify"
    made: ClientConnection = connect(url, ssl=options.pop("ssl", tls(cluster)), open_timeout=10, **options)
    return made


def events(lines: Iterator[str], count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        line = next(lines)
        if line.startswith("data: "):
            found.append(json.loads(line[6:]))
    return found


def test_events_are_told_once_and_go_on_from_the_last_one(cluster: DemoCluster) -> None:
    with httpx.Client(base_url=cluster.url("n1"), verify=tls(cluster), timeout=20) as client:
        query = {"collection": "ord*", "kinds": "created,deleted", "include_docs": "true"}
        with client.stream("GET", "/_notify", params=query) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            next(lines)
            rev = cluster.ask("n2", "PUT", "orders", "1", body={"n": 1})["rev"]
            (first,) = events(lines, 1)
            assert (first["kind"], first["id"], first["rev"], first["doc"]["n"]) == ("created", "1", rev, 1)
            assert wait_until(lambda: len(cluster.ask("n2", "GET", "system.notifys", "_all_docs")["rows"]) == 1, 10)
        rev = cluster.ask("n1", "PUT", "orders", "1", body={"n": 2, "_rev": rev})["rev"]
        cluster.ask("n1", "DELETE", "orders", "1", rev=rev)
        cluster.ask("n1", "PUT", "orders", "2", body={})
        cluster.ask("n1", "PUT", "tasks")
        cluster.ask("n1", "PUT", "tasks", "3", body={})
        cluster.wait_equal(["orders", "tasks"])
        told = []
        for headers, body in (({"last-event-id": first["since"]}, {}), ({}, {"since": first["since"]})):
            asked = {"patterns": [{"collection": "orders"}], **body}
            with client.stream("POST", "/_notify", json=asked, headers=headers) as answer:
                lines = answer.iter_lines()
                told.append([(one["kind"], one["id"]) for one in events(lines, 2)])
        assert told == [[("deleted", "1"), ("created", "2")]] * 2
        # At another node, where what was told before isn't told again.
        with (
            httpx.Client(base_url=cluster.url("n2"), verify=tls(cluster), timeout=20) as other,
            other.stream("GET", "/_notify", params={"collection": "orders", "since": first["since"]}) as answer,
        ):
            lines = answer.iter_lines()
            assert [one["id"] for one in events(lines, 2)] == ["1", "2"]
    assert wait_until(lambda: cluster.ask("n1", "GET", "system.notifys", "_all_docs")["rows"] == [], 10)


def test_bad_questions_get_clear_answers(cluster: DemoCluster) -> None:
    with httpx.Client(base_url=cluster.url("n1"), verify=tls(cluster), timeout=20) as client:
        for query, words in (
            ({"kinds": "made"}, "kinds of changes are"),
            ({"since": "nowhere"}, "isn't a place"),
            ({"collection": ""}, "a pattern has"),
        ):
            answer = client.get("/_notify", params=query)
            assert (answer.status_code, words in answer.json()["reason"]) == (400, True), answer.text
        assert client.post("/_notify", json={"patterns": {}}).status_code == 400


def test_many_subscriptions_over_one_socket(cluster: DemoCluster) -> None:
    cluster.ask("n1", "PUT", "bills")
    cluster.wait_equal(["bills"])
    with socket(cluster, "n1") as open_socket:

        def say(message: Any) -> dict[str, Any]:
            open_socket.send(message if isinstance(message, str) else json.dumps(message))
            answer: dict[str, Any] = json.loads(open_socket.recv(10))
            return answer

        assert say({"subscribe": "mine", "patterns": [{"collection": "bills"}]})["subscribed"] == "mine"
        assert (
            say({"subscribe": "chores", "patterns": [{"collection": "chores"}], "since": "0"})["subscribed"] == "chores"
        )
        refused: list[Any] = [
            "no json",
            [],
            {},
            {"subscribe": "mine"},
            {"subscribe": "x", "patterns": [{"kinds": ["made"]}]},
        ]
        for wrong in refused:
            assert say(wrong)["error"] == "bad_request", wrong
        open_socket.send(b"\xff\x00")
        assert json.loads(open_socket.recv(10))["error"] == "bad_request"
        cluster.ask("n2", "PUT", "bills", "1", body={})
        told = json.loads(open_socket.recv(10))
        assert (told["subscription"], told["kind"], told["id"]) == ("mine", "created", "1")
        assert say({"unsubscribe": "mine"}) == {"unsubscribed": "mine"}
        again = say({"subscribe": "again", "patterns": [{"collection": "bills"}], "since": told["since"]})
        assert again["subscribed"] == "again"
        cluster.ask("n2", "PUT", "bills", "2", body={})
        told = json.loads(open_socket.recv(10))
        assert (told["subscription"], told["id"]) == ("again", "2")


def test_who_may_open_a_socket(cluster: DemoCluster) -> None:
    with socket(cluster, "n1", origin="https://app.example"), socket(cluster, "n1", origin=cluster.url("n1")):
        pass
    with pytest.raises(InvalidStatus, match="403"):
        socket(cluster, "n1", origin="https://evil.example")
    nobody = ssl.create_default_context(cafile=str(cluster.certs / "ca.pem"))
    with pytest.raises(InvalidStatus, match="403"):
        socket(cluster, "n1", ssl=nobody)
    with socket(cluster, "n1", ssl=tls(cluster, "bob")) as open_socket:
        code, said = command(cluster, "n2", "cert", "revoke", "bob", "--dir", str(cluster.certs))
        assert code == 0, said
        with pytest.raises(ConnectionClosed):
            open_socket.recv(15)


def test_a_node_that_stops_ends_its_sockets(cluster: DemoCluster) -> None:
    with socket(cluster, "n2") as open_socket:
        open_socket.send(json.dumps({"subscribe": "mine"}))
        open_socket.recv(10)
        assert cluster.stop("n2") == 0
        with pytest.raises(ConnectionClosed):
            open_socket.recv(10)
