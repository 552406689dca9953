"""Cables between nodes on one machine: TCP forwarders that can be cut.

One for each direction of each pair. A cable that is cut ends its connections and refuses new ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from threading import Thread
from typing import Any, TypeVar

_T = TypeVar("_T")


class Cable:
    """Forwards connections from a port of its own to a node's port."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.cut = False

    async def lay(self) -> None:
        """Open the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def set_cut(self, cut: bool) -> None:
        """Cut the cable, or mend it."""
        self.cut = cut
        for writer in list(self._writers) if cut else ():
            writer.transport.abort()

    async def remove(self) -> None:
        """Close the port and everything that goes through it."""
        await self.set_cut(True)
        if self._server is not None:
            self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.transport.abort()
            return
        try:
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, onward_writer}
        self._writers |= ends
        try:
            await asyncio.gather(_copy(reader, onward_writer), _copy(onward_reader, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(256 * 1024):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.transport.abort()


class Cables:
    """All cables, served by a thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="cables", daemon=True)
        self._thread.start()
        self._cables: dict[tuple[str, str], Cable] = {}

    def lay(self, one: str, other: str, target: int) -> int:
        """Lay the cable over which one node dials another; return the port to dial."""
        cable = self._cables[one, other] = Cable(target)
        self._run(cable.lay())
        return cable.port

    def cut(self, side: set[str]) -> None:
        """Cut every cable between this side and the others."""
        for (one, other), cable in self._cables.items():
            if (one in side) != (other in side):
                self._run(cable.set_cut(True))

    def mend(self) -> None:
        """Mend all cables."""
        for cable in self._cables.values():
            self._run(cable.set_cut(False))

    def close(self) -> None:
        """Remove all cables, and end the thread."""
        for cable in self._cables.values():
            self._run(cable.remove())
        self._run(_finish_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


async def _finish_tasks() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
