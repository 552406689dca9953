"""One TLS connection between nodes: frames in order, out of a bounded queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from socket import socket

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from crdtdb.errors import ProtocolError
from crdtdb.limits import SEND_QUEUE_FRAMES_MAX, SEND_SECONDS_MAX
from crdtdb.wire.frames import Frames, frame

Received = Callable[[bytes], Awaitable[None]]


class Connection:
    """Reads and writes until one side is done."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._frames = Frames()
        self._outgoing: MemoryObjectSendStream[bytes]
        self._queued: MemoryObjectReceiveStream[bytes]
        self._outgoing, self._queued = anyio.create_memory_object_stream[bytes](SEND_QUEUE_FRAMES_MAX)
        self._urgent: deque[bytes] = deque(maxlen=SEND_QUEUE_FRAMES_MAX)

    def send(self, payload: bytes, urgent: bool = False) -> None:
        """Queue a payload, an `urgent` one before all others that wait.

        Raises anyio.WouldBlock if the other side reads too slowly, ClosedResourceError at the end.
        """
        if not urgent or not self.waiting:
            self._outgoing.send_nowait(frame(payload))
        else:
            self._urgent.append(frame(payload))  # sent before the next frame that waits

    @property
    def socket(self) -> socket:
        """What carries the connection."""
        raw: socket = self._stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's `extra`, not Django's
        return raw

    @property
    def waiting(self) -> int:
        """How many frames wait to be sent."""
        return self._outgoing.statistics().current_buffer_used

    def greeted(self) -> None:
        """Take frames of full size."""
        self._frames.greeted()

    def finish(self) -> None:
        """Close when everything that was queued has gone out."""
        self._outgoing.close()

    async def run(self, received: Received) -> str:
        """Carry frames until the connection ends; return why it did."""
        reason = "closed by the other side"
        async with anyio.create_task_group() as tasks:

            async def write() -> None:
                nonlocal reason
                try:
                    async with self._queued:
                        async for data in self._queued:
                            for one in (*self._take_urgent(), data):
                                with anyio.fail_after(SEND_SECONDS_MAX):
                                    await self._stream.send(one)
                    reason = "closed by this node"
                except TimeoutError:
                    reason = "the other side reads too slowly"
                except anyio.EndOfStream:
                    pass  # a TLS stream says so to a sender, too, once the other side has closed
                except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                    reason = "the connection broke"
                tasks.cancel_scope.cancel()

            tasks.start_soon(write)
            try:
                await self._read(received)
            except ProtocolError as error:
                reason = str(error)
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                pass
            except (anyio.BrokenResourceError, OSError):
                reason = "the connection broke"
            tasks.cancel_scope.cancel()
        with anyio.move_on_after(1, shield=True):
            await self._stream.aclose()
        self._outgoing.close()
        self._queued.close()
        return reason

    def _take_urgent(self) -> list[bytes]:
        taken = list(self._urgent)
        self._urgent.clear()
        return taken

    async def _read(self, received: Received) -> None:
        while True:
            data = await self._stream.receive(256 * 1024)
            self._frames.feed(data)
            while (payload := self._frames.next()) is not None:
                await received(payload)
