"""A node that is busy with a document for seconds answers pings, and judges nobody by what it hadn't read. History 27."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import anyio
import pytest

from crdtdb.cluster import runtime
from crdtdb.cluster.engine.engine import Engine
from crdtdb.cluster.engine.heartbeats import Heartbeats
from crdtdb.cluster.engine.links import Link
from crdtdb.config import NodeConfig
from crdtdb.database import Database
from crdtdb.locks.leases import Stage
from crdtdb.node import Node, serving
from crdtdb.security.authority import create_authority, issue
from crdtdb.wire.codec import decode_message, encode_message
from crdtdb.wire.messages import Ack, Member, Ping, Status, SyncHint
from tests.inside import engine_of

MEMBER = Member("n2", bytes(16), bytes(16), "127.0.0.1:1", 1, Status.ALIVE)


class OneLink:
    """Stands in for the links of a node: there is one, which has greeted."""

    def __init__(self, peer: str | None) -> None:
        self.link = Link(7, None, None, 0.0, peer=peer)

    def get(self, number: int) -> Link | None:
        return self.link if number == 7 else None


def test_a_ping_is_answered_aside_and_nothing_else() -> None:
    heard: list[str] = []
    links: Any = OneLink("n2")
    heartbeats = Heartbeats(links, heard.append)
    heartbeats.clock_digest = b"12345678"
    payload = encode_message(Ping(5, (MEMBER,)))
    answer = heartbeats.answer(7, payload)
    assert answer is not None
    assert decode_message(answer) == Ack(5, (), b"12345678")
    assert heartbeats.answer(8, payload) is None
    for other in (encode_message(SyncHint()), encode_message(Ack(1, (), bytes(8))), payload[:-1], payload[:2], b""):
        assert heartbeats.answer(7, other) is None
    stranger: Any = OneLink(None)
    assert Heartbeats(stranger, heard.append).answer(7, payload) is None
    heartbeats.arrived(7, 3.0)
    heartbeats.arrived(9, 4.0)
    assert (heard, links.link.heard) == ([], 0.0)
    heartbeats.note_arrivals()
    assert (heard, links.link.heard) == (["n2"], 3.0)


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    folder = tmp_path / "certs"
    create_authority(folder)
    for name in ("n1", "n2"):
        issue(folder, "node", name, ["127.0.0.1"])
    return folder


class Running:
    """A node in a thread and an event loop of its own."""

    def __init__(self, certs: Path, name: str, *join: str) -> None:
        data = str(certs.parent / name)
        self._config = NodeConfig(
            name=name, data=data, certs=str(certs), listen="127.0.0.1:0", http="127.0.0.1:0", join=join
        )
        self._node: Future[Node] = Future()
        self._end = threading.Event()
        self._thread = threading.Thread(target=anyio.run, args=(self._serve,), daemon=True)
        self._thread.start()
        self.node = self._node.result(20)
        self.engine = engine_of(self.node.cluster)

    async def _serve(self) -> None:
        async with serving(self._config) as node:
            self._node.set_result(node)
            while not self._end.is_set():  # noqa: ASYNC110 - it is set by another thread
                await anyio.sleep(0.02)

    def stop(self) -> None:
        self._end.set()
        self._thread.join(20)

    def sees(self, name: str) -> str:
        other = self.engine.membership.others.get(name)
        return other.status.name if other is not None else "UNKNOWN"


@pytest.fixture
def two(certs: Path) -> Iterator[tuple[Running, Running]]:
    first = Running(certs, "n1")
    second = Running(certs, "n2", first.node.address)
    try:
        end = time.monotonic() + 20
        while not (first.engine.links.ways and second.engine.links.ways and second.engine.readiness.ready):
            assert time.monotonic() < end
            time.sleep(0.02)
        yield first, second
    finally:
        second.stop()
        first.stop()


def statuses_while_busy(two: tuple[Running, Running], seconds: float) -> set[tuple[str, str]]:
    """Let the first node do one thing for so long; return what the two believed of each other meanwhile and after."""
    first, second = two
    first.engine.reclaim = lambda: None
    tick = first.engine.tick
    busy = threading.Event()

    def slow(now: float) -> None:
        if not busy.is_set():
            busy.set()
            time.sleep(seconds)
        tick(now)

    first.engine.tick = slow
    assert busy.wait(10)
    end, seen = time.monotonic() + seconds + 1, set()
    while time.monotonic() < end:
        seen.add((first.sees("n2"), second.sees("n1")))
        time.sleep(0.02)
    return seen


def test_a_busy_node_is_taken_for_alive_and_takes_others_for_alive(two: tuple[Running, Running]) -> None:
    first, second = two
    ways = dict(first.engine.links.ways), dict(second.engine.links.ways)
    assert statuses_while_busy(two, 3.0) == {("ALIVE", "ALIVE")}
    assert first.engine.heartbeats.answered_aside > 0
    assert (first.engine.links.ways, second.engine.links.ways) == ways, "no connection was given up"


def test_without_heartbeats_it_would_be_suspected(
    two: tuple[Running, Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 18 off: pings wait behind what the engine does."""
    monkeypatch.setattr(Heartbeats, "answer", lambda *_: None)
    assert any("SUSPECT" in pair for pair in statuses_while_busy(two, 3.0))


def test_a_commit_wakes_gossip_and_nothing_polls(two: tuple[Running, Running], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two
    monkeypatch.setattr(runtime, "TICK_SECONDS", 30.0)
    time.sleep(0.3)  # the ticks that are under way
    has_news, looks = vars(Engine)["has_news"].fget, list[Engine]()

    def counted(engine: Engine) -> bool:
        looks.append(engine)
        return bool(has_news(engine))

    monkeypatch.setattr(Engine, "has_news", property(counted))
    time.sleep(0.5)
    assert len(looks) < 20, "two idle nodes look for news only when something has happened"
    monkeypatch.undo()
    monkeypatch.setattr(runtime, "TICK_SECONDS", 30.0)
    seen = threading.Event()
    second.engine.store.notifier.listeners.append(lambda committed: seen.set() if "notes" in committed.names else None)
    Database(first.engine.store)["notes"].put("a", {"n": 1})
    assert seen.wait(10), "a rumor doesn't wait for the next tick"


def test_a_lock_that_is_wanted_wakes_gossip(two: tuple[Running, Running], monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = two
    monkeypatch.setattr(runtime, "TICK_SECONDS", 30.0)
    time.sleep(0.3)
    changed = threading.Event()
    lease = first.node.cluster.locks.want("x", 30.0, 20.0, "n1", False, changed.set)
    assert changed.wait(10), "an order doesn't wait for the next tick"
    assert lease.stage is Stage.HELD
