"""A program that runs nodes and forks: `python -m tests.forks.nodes FOLDER`. It prints nothing if all is as it should be."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import httpx

from crdtdb.config import NodeConfig
from crdtdb.node import Node, serving
from crdtdb.security.authority import create_authority, issue
from crdtdb.security.tls import Credentials
from tests.forks.children import SECONDS_MAX, in_child, refused
from tests.inside import engine_of


def main(folder: Path) -> None:
    """Two nodes that have met, and a client of one: a child is refused, and neither uses nor keeps their connections."""
    create_authority(folder / "certs")
    for name in ("n1", "n2"):
        issue(folder / "certs", "node", name, ["127.0.0.1"])
    issue(folder / "certs", "client", "ada")
    end = os.pipe()
    waits: list[Callable[[], None]] = []

    def config(name: str, listen: str, http: str, *join: str) -> NodeConfig:
        certs = str(folder / "certs")
        return NodeConfig(name=name, data=str(folder / name), certs=certs, listen=listen, http=http, join=join)

    async def met(a: Node, b: Node) -> None:
        with anyio.fail_after(SECONDS_MAX):
            while not all(one.cluster.why_not_ready is None and both_connected(one) for one in (a, b)):  # noqa: ASYNC110
                await anyio.sleep(0.05)

    def both_connected(one: Node) -> bool:
        return [member["connected"] for member in one.cluster.status()["members"]] == [True, True]

    async def run() -> None:
        me = os.getpid()
        async with (
            serving(config("n1", "127.0.0.1:0", "127.0.0.1:0")) as first,
            serving(config("n2", "127.0.0.1:0", "127.0.0.1:0", first.address)) as second,
        ):
            await met(first, second)
            links, engine, status = dict(engine_of(first.cluster).links.ways), engine_of(first.cluster), first.cluster

            def child() -> None:
                refused("lock", lambda: first.lock("x"), me)
                refused("collection", lambda: first.database, me)
                refused("status", lambda: status.status(), me)
                refused("engine", lambda: engine.tick(0.0), me)
                gc.collect()

            def child_that_stays() -> None:
                child()
                os.close(end[1])
                os.read(end[0], 1)

            waits.append(in_child(child_that_stays))
            tls = Credentials(folder / "certs", "ada").http_client()
            async with httpx.AsyncClient(base_url=first.url, verify=tls, timeout=SECONDS_MAX) as client:
                assert (await client.put("/notes")).status_code == 201
                in_child(child)()
                assert (await client.put("/notes/a", json={"n": 1})).status_code == 201
                with anyio.fail_after(SECONDS_MAX):
                    while not has(second, "a"):  # noqa: ASYNC110
                        await anyio.sleep(0.02)
                assert dict(engine.links.ways) == links, "the nodes had to connect again"
            address, http = first.address, first.url.removeprefix("https://")
        async with serving(config("n1", address, http)) as again:  # the child that lives on doesn't keep the ports
            assert has(again, "a")
            assert again.database.blocking.store.identity.why is None

    def has(one: Node, doc_id: str) -> bool:
        return doc_id in one.database.blocking.collection("notes")

    logging.disable()
    anyio.run(run)
    os.close(end[1])
    for wait in waits:
        wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
