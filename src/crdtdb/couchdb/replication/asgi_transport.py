"""A way to an application in the same process: requests without a network, whose answers stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import anyio
import httpx
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream

Application = Callable[..., Any]


class StreamingASGITransport(httpx.AsyncBaseTransport):
    """Calls an ASGI application in tasks of a group. `scope` is added to each request's, which no network can do."""

    def __init__(self, app: Application, tasks: TaskGroup, scope: MutableMapping[str, Any]) -> None:
        self._app, self._tasks, self._scope = app, tasks, scope

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer when its head is there; its body comes as it is read."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "https",
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "server": ("inside", 443),
            "client": ("inside", 0),
            "state": {},
            **self._scope,
        }
        incoming = request.stream.__aiter__() if isinstance(request.stream, httpx.AsyncByteStream) else None
        send, receive = anyio.create_memory_object_stream[dict[str, Any]](4)
        gone = anyio.CancelScope()
        asked = False

        async def receiving() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                chunk = await anext(incoming, None) if incoming is not None else None
                if chunk is not None:
                    return {"type": "http.request", "body": chunk, "more_body": True}
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await anyio.sleep_forever()
            raise AssertionError

        async def run() -> None:
            with send, gone, suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # nobody reads on
                await self._app(scope, receiving, send.send)

        self._tasks.start_soon(run)
        try:
            head = await receive.receive()
        except BaseException as error:
            gone.cancel()
            receive.close()
            send.close()
            if isinstance(error, anyio.EndOfStream):
                raise httpx.RemoteProtocolError("the application ended without an answer") from error
            raise
        return httpx.Response(head["status"], headers=head["headers"], stream=_Body(receive, gone))


class _Body(httpx.AsyncByteStream):
    def __init__(self, receive: MemoryObjectReceiveStream[dict[str, Any]], gone: anyio.CancelScope) -> None:
        self._receive, self._gone = receive, gone

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for message in self._receive:
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                return

    async def aclose(self) -> None:
        self._receive.close()
        self._gone.cancel()
