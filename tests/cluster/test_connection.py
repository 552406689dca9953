"""A connection between nodes: frames in order, and nobody waits for ever."""

from __future__ import annotations

import socket

import anyio
import anyio.to_thread
import pytest
from anyio.abc import ByteStream, SocketStream

from crdtdb.cluster import connection as module
from crdtdb.cluster.connection import Connection
from crdtdb.limits import SEND_QUEUE_FRAMES_MAX
from crdtdb.wire.frames import frame

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def pair() -> tuple[SocketStream, socket.socket]:
    """Return a stream, and the plain socket at its other end, which reads nothing by itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    return await SocketStream.from_socket(one), other


async def test_frames_arrive_in_order_and_what_was_queued_goes_out_before_the_end() -> None:
    one, other = await pair()
    connection, found = Connection(one), b""
    for n in range(100):
        connection.send(b"%d" % n)
    connection.finish()

    async def ignore(payload: bytes) -> None:
        raise AssertionError(f"nobody sent {payload!r}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connection.run, ignore)
        while data := await anyio.to_thread.run_sync(other.recv, 1000):
            found += data
    assert found == b"".join(frame(b"%d" % n) for n in range(100))
    other.close()


async def test_who_reads_too_slowly_is_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEND_SECONDS_MAX", 0.2)
    one, other = await pair()
    connection = Connection(one)
    with pytest.raises(anyio.WouldBlock):
        for _ in range(SEND_QUEUE_FRAMES_MAX + 1):
            connection.send(b"x" * 100_000)

    async def ignore(payload: bytes) -> None:
        raise AssertionError(f"nobody sent {payload!r}")

    with anyio.fail_after(10):
        assert await connection.run(ignore) == "the other side reads too slowly"
    other.close()


async def test_a_frame_beyond_the_bound_ends_the_connection() -> None:
    one, other = await pair()
    other.sendall(b"\xff\xff\xff\xff")

    async def ignore(payload: bytes) -> None:
        raise AssertionError(f"nobody sent {payload!r}")

    with anyio.fail_after(10):
        reason = await Connection(one).run(ignore)
    assert reason.startswith("a frame that says it has 4,294,967,295 bytes")
    other.close()


class ClosedByTheOther(ByteStream):
    """A stream whose other side has closed: a TLS stream then ends for a sender as it does for a reader."""

    async def send(self, item: bytes) -> None:
        raise anyio.EndOfStream

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        await anyio.sleep_forever()
        raise AssertionError

    async def send_eof(self) -> None:
        raise AssertionError

    async def aclose(self) -> None:
        pass


async def test_a_send_that_meets_the_other_sides_end_ends_the_connection_and_not_the_node() -> None:
    connection = Connection(ClosedByTheOther())
    connection.send(b"goodbye")

    async def ignore(payload: bytes) -> None:
        raise AssertionError(f"nobody sent {payload!r}")

    with anyio.fail_after(5):
        assert await connection.run(ignore) == "closed by the other side"
