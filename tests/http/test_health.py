"""The health listener: no certificate, two paths, the bounds of every listener."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx
import pytest

from crdtdb.config import NodeConfig, check
from crdtdb.errors import ConfigurationError
from crdtdb.http.health import health_app
from crdtdb.node import serving
from crdtdb.security.authority import create_authority, issue
from tests.http.test_api import Cluster, anyio_backend

__all__ = ["anyio_backend"]
pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("with_metrics", [False, True])
async def test_two_paths_and_nothing_else(with_metrics: bool) -> None:
    cluster = Cluster()
    transport = httpx.ASGITransport(health_app(cluster, with_metrics=with_metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://health") as client:
        assert (await client.get("/_up")).json()["status"] == "ok"
        assert (await client.head("/_up")).status_code == 200
        assert (await client.get("/_metrics")).status_code == (200 if with_metrics else 404)
        cluster.why_not_ready = "the node is joining"
        starting = await client.get("/_up")
        assert (starting.status_code, starting.json()["reason"]) == (404, "the node is joining")
        for method, path in (
            ("GET", "/"),
            ("GET", "/notes"),
            ("GET", "/_all_dbs"),
            ("POST", "/_session"),
            ("GET", "/_up/"),
            ("GET", "/_cluster"),
        ):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["error"]) == (404, "not_found"), path
        refused = await client.put("/_up", json={})
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET,HEAD")


async def test_a_node_answers_a_probe_without_certificate(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    create_authority(certs)
    issue(certs, "node", "n1", ["127.0.0.1"])
    config = NodeConfig(
        name="n1",
        data=str(tmp_path / "n1"),
        certs=str(certs),
        listen="127.0.0.1:0",
        http="127.0.0.1:0",
        health="127.0.0.1:0",
        health_metrics=True,
    )
    async with serving(config) as node, httpx.AsyncClient(base_url=f"http://127.0.0.1:{node.health_port}") as client:
        with anyio.fail_after(30):
            while (await client.get("/_up")).status_code != 200:  # noqa: ASYNC110 - a probe asks again, too
                await anyio.sleep(0.05)
        assert "crdtdb_documents" in (await client.get("/_metrics")).text
        assert (await client.get("/_all_dbs")).status_code == 404
        async with await anyio.connect_tcp("127.0.0.1", node.health_port or 0) as stream:
            await stream.send(b"GET /_up HTTP/1.1\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n")
            with anyio.fail_after(10):
                assert b" 431 " in await stream.receive(), "the bounds of the other listener hold here too"
        async with httpx.AsyncClient(base_url=node.url.replace("https", "http")) as plain:
            with pytest.raises(httpx.HTTPError):
                await plain.get("/_up")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (NodeConfig(name="n1", data="d", health="7201"), "--health '7201': an address is HOST:PORT"),
        (NodeConfig(name="n1", data="d", health_metrics=True), "--health-metrics needs a listener"),
    ],
)
async def test_wrong_settings_are_named(config: NodeConfig, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        check(config)
