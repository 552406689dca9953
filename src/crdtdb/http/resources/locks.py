"""/_locks: leases that a majority of the cluster grants, and the header `x-lock` of a write that needs one.

A lease ends after its time to live unless it is renewed, or lives for as long as the connection on which it was asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from crdtdb.aio.notifier import Waiter, ringing
from crdtdb.canonical_json import dump
from crdtdb.clock import monotonic_seconds
from crdtdb.cluster_port import LocksPort
from crdtdb.couchdb import CouchError
from crdtdb.couchdb.errors import bad_request
from crdtdb.errors import InvalidInputError, LockError, UnavailableError
from crdtdb.http.context import bell_of, cluster_of, ready
from crdtdb.http.errors import words
from crdtdb.http.json_io import JSONAnswer, decimal, number, read_object
from crdtdb.http.paths import part
from crdtdb.http.permissions import who_in
from crdtdb.locks.leases import Lease, Stage

HEADER = b"x-lock"
_TTL = 30.0
_HEARTBEAT_SECONDS = 5.0
_RENEW_SECONDS = 3.0


async def overview(request: Request) -> JSONAnswer:
    """GET /_locks : who holds which lock, since which token, and who waits for it."""
    return JSONAnswer({"locks": cluster_of(request).locks.overview()})


async def want(request: Request) -> Response:
    """POST /_locks : get a lock, or wait for it."""
    body = await read_object(request)
    name, ttl, wait, hold = body.get("name"), body.get("ttl", _TTL), body.get("wait", 0), body.get("hold", False)
    if not isinstance(name, str) or not _is_number(ttl) or not _is_number(wait) or not isinstance(hold, bool):
        raise bad_request('the body is {"name": "invoice/7", "ttl": 30, "wait": 10, "hold": false}, times in seconds')
    ready(request)
    desk, waiter = cluster_of(request).locks, Waiter()
    lease = desk.want(name, float(ttl), float(wait), who_in(request).name, hold, ringing(waiter))
    try:
        await _decided(request, lease, waiter)
        if lease.stage is not Stage.HELD:
            raise CouchError(423, "locked", f"could not acquire lock {name!r} within {wait} s: {lease.why}")
    except BaseException:
        desk.release(lease)
        raise
    return _Held(request, desk, lease, waiter) if hold else JSONAnswer(_told(desk, lease), 201)


async def renew(request: Request) -> JSONAnswer:
    """PUT /_locks/{lock} : let a lease live for another time."""
    body = await read_object(request)
    token = body.get("token")
    if not isinstance(token, int) or isinstance(token, bool):
        raise bad_request('the body is {"token": 12}, the token of the lease')
    desk = cluster_of(request).locks
    lease = _own(request, token)
    before, until = lease.until, monotonic_seconds() + _RENEW_SECONDS
    desk.renew(lease)
    while lease.until <= before and lease.stage is Stage.HELD:
        if monotonic_seconds() > until:
            raise UnavailableError("no majority of the members has answered: the lease isn't longer than before")
        await anyio.sleep(0.01)  # a round trip: not worth a bell
    if lease.stage is not Stage.HELD:
        raise LockError(f"the lock {lease.name!r} is lost: {lease.why}")
    return JSONAnswer(_told(desk, lease))


async def release(request: Request) -> JSONAnswer:
    """DELETE /_locks/{lock}?token= : give a lock back."""
    token = number(request, "token")
    if token is None:
        raise bad_request("whose lease? Give its token: DELETE /_locks/NAME?token=12")
    cluster_of(request).locks.release(_own(request, token))
    return JSONAnswer({"ok": True})


def _own(request: Request, token: int) -> Lease:
    lease = cluster_of(request).locks.held(part(request, "lock"), token)
    who = who_in(request)
    if lease.who != who.name and not who.admin:
        raise CouchError(403, "forbidden", f"The lease is {lease.who!r}'s: no other client may renew or release it.")
    return lease


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _told(desk: LocksPort, lease: Lease) -> dict[str, Any]:
    left = round(desk.seconds_left(lease), 3)
    return {"ok": True, "name": lease.name, "token": lease.token, "ttl": lease.ttl, "expires_in": left}


async def _decided(request: Request, lease: Lease, waiter: Waiter) -> None:
    """Wait until a lock is had or not; who has gone meanwhile doesn't want it any more."""
    while True:
        waiter.arm()
        if lease.stage in (Stage.HELD, Stage.OVER):
            return
        if await request.is_disconnected() or bell_of(request).stopping:
            raise UnavailableError("no client waits for the answer any more")
        await waiter.wait(0.5)


async def _while_held(request: Request, desk: LocksPort, lease: Lease, waiter: Waiter) -> AsyncIterator[bytes]:
    """Hold a lock for as long as the client stays: it reads a line now and then."""
    yield dump(_told(desk, lease)) + b"\n"
    while True:
        waiter.arm()
        if lease.stage is not Stage.HELD or bell_of(request).stopping:
            break
        if not await waiter.wait(min(_HEARTBEAT_SECONDS, lease.ttl / 3)):
            yield b"\n"
    why = lease.why if lease.stage is not Stage.HELD else "the node is stopping"
    yield (dump({"ok": False, "name": lease.name, "token": lease.token, "error": "lock_lost", "reason": why}) + b"\n")


class _Held(StreamingResponse):
    """An answer that lasts as long as the lock is held, and the other way round."""

    def __init__(self, request: Request, desk: LocksPort, lease: Lease, waiter: Waiter) -> None:
        super().__init__(_while_held(request, desk, lease, waiter), 201, media_type="application/x-ndjson")
        self._desk, self._lease = desk, lease

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._desk.release(self._lease)


class LocksChecked:
    """Lets a request through only if the leases that its header names are live: `x-lock: invoice%2F7=12, stock=9`."""

    def __init__(self, app: ASGIApp, locks: LocksPort) -> None:
        self._app, self._locks = app, locks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            named = [value for name, value in scope["headers"] if name == HEADER]
            try:
                for lock, token in _tokens(b",".join(named).decode("latin-1")) if named else ():
                    await self._check(lock, token)
            except (InvalidInputError, LockError, UnavailableError) as error:
                status, word, reason = words(error)
                await JSONAnswer({"error": word, "reason": reason}, status)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _check(self, lock: str, token: int) -> None:
        waiter, said = Waiter(), list[bool | None]()
        ring = ringing(waiter)

        def done(live: bool | None) -> None:
            said.append(live)
            ring()

        if self._locks.is_live(lock, token, done):
            return
        await waiter.wait(_HEARTBEAT_SECONDS)
        if not said or said[0] is None:
            raise UnavailableError(f"no majority of the members could be asked whether {token} holds the lock {lock!r}")
        if not said[0]:
            raise LockError(f"{token} isn't the token of a lease of the lock {lock!r} (any more): nothing was written")


def _tokens(header: str) -> list[tuple[str, int]]:
    found = []
    for one in header.split(","):
        name, equals, token = one.strip().rpartition("=")
        fencing_token = decimal(token)
        if not equals or fencing_token is None:
            raise InvalidInputError(
                f"x-lock: {one.strip()[:80]!r}: it is NAME=TOKEN, the name percent-encoded: invoice%2F7=12"
            )
        found.append((unquote(name), fencing_token))
    return found


ROUTES = [
    Route("/_locks", overview, methods=["GET"]),
    Route("/_locks", want, methods=["POST"]),
    Route("/_locks/{lock}", renew, methods=["PUT"]),
    Route("/_locks/{lock}", release, methods=["DELETE"]),
]
