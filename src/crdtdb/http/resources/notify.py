"""/_notify: what changes in any collection, chosen by patterns: as server-sent events, or over a WebSocket.

Each change is sent once to each subscriber, with a place from which another subscription goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from crdtdb.aio.notifier import ChangeNotifier, Waiter
from crdtdb.canonical_json import dump, parse
from crdtdb.cluster_port import WHO, SubscriptionsPort
from crdtdb.database import Database
from crdtdb.database.feeds.watch import Notice, Pattern, Watch
from crdtdb.errors import InvalidDocumentError, InvalidInputError
from crdtdb.http.context import bell_of, cluster_of, database_of, permissions_of
from crdtdb.http.json_io import flag, read_object
from crdtdb.http.permissions import MayRead, reader, who_in
from crdtdb.security import Principal
from crdtdb.threads import QUERIES

_HEARTBEAT_SECONDS = 15.0
_PAUSE_SECONDS = 0.02
_SLICE = 100
_SUBSCRIPTIONS_MAX = 100
"""On one WebSocket."""


class Subscription:
    """What one subscriber asked for. Reads in a worker thread, some changes at a time."""

    def __init__(self, database: Database, asked: dict[str, Any], may_read: MayRead) -> None:
        """Of collections that its subscriber may not read it tells nothing. Raises InvalidInputError."""
        self._may_read = may_read
        unknown = asked.keys() - {"patterns", "since", "include_docs", "subscribe"}
        patterns, since = asked.get("patterns", [{}]), asked.get("since")
        self.include_docs = asked.get("include_docs", False)
        if unknown or not isinstance(patterns, list) or not all(isinstance(one, dict) for one in patterns):
            raise InvalidInputError(
                'it is {"patterns": [{"collection": "orders-*"}], "since": place, "include_docs": false}'
            )
        if not isinstance(self.include_docs, bool) or not isinstance(since, str | None):
            raise InvalidInputError('`include_docs` is true or false, `since` a place, "0", or null for now')
        self.patterns = patterns
        self._watch = Watch(database.store, [Pattern.of(one) for one in patterns], since)

    async def take(self) -> list[dict[str, Any]]:
        """Return some of what has changed; nothing if there is no more by now."""
        return await QUERIES.run(self._take)

    def _take(self) -> list[dict[str, Any]]:
        chosen = (notice for notice in self._watch.poll() if self._may_read(notice.collection))
        return [self._told(notice) for notice in islice(chosen, _SLICE)]

    def _told(self, notice: Notice) -> dict[str, Any]:
        told: dict[str, Any] = {"kind": notice.kind, "collection": notice.collection, "since": self._watch.place}
        if notice.doc is not None:
            told |= {"id": notice.id, "rev": notice.rev}
            if notice.conflicts:
                told["conflicts"] = list(notice.conflicts)
            if self.include_docs and not notice.doc.deleted:
                told["doc"] = {"_id": notice.id, "_rev": notice.rev, **dict(notice.doc)}
        return told

    @property
    def place(self) -> str:
        """Where it stands."""
        return self._watch.place


async def events(request: Request) -> StreamingResponse:
    """GET or POST /_notify : follow what changes, as server-sent events."""
    if request.method == "POST":
        asked = await read_object(request)
    else:
        query = request.query_params
        pattern: dict[str, Any] = {name: query[name] for name in ("collection", "id") if name in query}
        if "kinds" in query:
            pattern["kinds"] = query["kinds"].split(",")
        asked = {"patterns": [pattern], "since": query.get("since"), "include_docs": flag(request, "include_docs")}
    if "last-event-id" in request.headers:
        asked["since"] = request.headers["last-event-id"]
    may_read = reader(permissions_of(request), who_in(request))
    subscription = await QUERIES.run(Subscription, database_of(request), asked, may_read)
    return _Events(request, subscription)


class _Events(StreamingResponse):
    """An answer that lasts as long as its subscriber."""

    def __init__(self, request: Request, subscription: Subscription) -> None:
        headers = {"cache-control": "no-cache"}
        super().__init__(_events(bell_of(request), subscription), media_type="text/event-stream", headers=headers)
        self._subscriptions = cluster_of(request).subscriptions
        self._who, self._patterns = who_in(request).name, subscription.patterns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self._subscriptions.add(self._who, self._patterns, "events")
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._subscriptions.remove(name)


async def _events(bell: ChangeNotifier, subscription: Subscription) -> AsyncIterator[bytes]:
    yield b": \nid: %b\n\n" % subscription.place.encode()
    with bell.waiting() as waiter:
        while not bell.stopping:
            waiter.arm()
            told = await subscription.take()
            for one in told:
                yield b"event: %b\ndata: %b\nid: %b\n\n" % (
                    one["kind"].encode(),
                    dump(one),
                    one["since"].encode(),
                )
            if not told and not await _next(waiter):
                yield b":\n\n"


async def _next(waiter: Waiter) -> bool:
    """Wait for a commit, and a moment more: who follows little of what is written needn't look at each of a thousand."""
    rung = await waiter.wait(_HEARTBEAT_SECONDS)
    await anyio.sleep(_PAUSE_SECONDS)
    return rung


class Socket:
    """One WebSocket: any number of subscriptions, each under a name that its client gives it.

    {"subscribe": "mine", "patterns": [{"collection": "orders"}], "since": null}  ->  {"subscribed": "mine", "since": place}
    {"unsubscribe": "mine"}                                                       ->  {"unsubscribed": "mine"}
    and then {"subscription": "mine", "kind": "created", "collection": "orders", "id": "7", "rev": "1-…", "since": place}
    """

    def __init__(
        self, socket: WebSocket, database: Database, bell: ChangeNotifier, subscriptions: SubscriptionsPort
    ) -> None:
        self._socket, self._database, self._bell, self._subscriptions = socket, database, bell, subscriptions
        self._all: dict[str, tuple[Subscription, str]] = {}
        who: Principal = socket.scope[WHO]
        self._who, self._may_read = who.name, reader(socket.app.state.permissions, who)
        self._waiter = Waiter()

    async def run(self) -> None:
        """Serve it until it is closed."""
        await self._socket.accept()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._tell)
                await self._listen()
                tasks.cancel_scope.cancel()
        finally:
            for _, shown in self._all.values():
                self._subscriptions.remove(shown)

    async def _listen(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                asked = parse((message.get("text") or "").encode())
                if not isinstance(asked, dict):
                    raise InvalidInputError("a message is an object")
                answer = await self._do(asked)
            except (InvalidInputError, InvalidDocumentError) as error:
                answer = {"error": "bad_request", "reason": str(error)}
            await self._socket.send_text(dump(answer).decode())

    async def _do(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked.get("subscribe", asked.get("unsubscribe"))
        if not isinstance(name, str) or len(name) > 200:
            raise InvalidInputError('a message is {"subscribe": NAME, "patterns": [...]} or {"unsubscribe": NAME}')
        if "unsubscribe" in asked:
            found = self._all.pop(name, None)
            if found is not None:
                self._subscriptions.remove(found[1])
            return {"unsubscribed": name}
        if name in self._all or len(self._all) >= _SUBSCRIPTIONS_MAX:
            raise InvalidInputError(f"{name[:80]!r} is subscribed already, or {_SUBSCRIPTIONS_MAX} others are")
        subscription = await QUERIES.run(Subscription, self._database, asked, self._may_read)
        self._all[name] = subscription, self._subscriptions.add(self._who, subscription.patterns, "websocket")
        self._waiter.ring()
        return {"subscribed": name, "since": subscription.place}

    async def _tell(self) -> None:
        with self._bell.waiting() as self._waiter:
            while not self._bell.stopping:
                self._waiter.arm()
                told = False
                for name, (subscription, _) in list(self._all.items()):
                    for one in await subscription.take():
                        told = True
                        if name in self._all:
                            await self._socket.send_text(dump({"subscription": name, **one}).decode())
                if not told:
                    await _next(self._waiter)
        await self._socket.close(1001, "the node is stopping")


async def socket(websocket: WebSocket) -> None:
    """WS /_notify : any number of subscriptions over one connection."""
    state = websocket.app.state
    await Socket(websocket, state.database, state.bell, state.cluster.subscriptions).run()


ROUTES = [
    Route("/_notify", events, methods=["GET", "POST"]),
    WebSocketRoute("/_notify", socket),
]
