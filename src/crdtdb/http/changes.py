"""/{db}/_changes: the changes feed, at once, by long poll, or for as long as the client stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from crdtdb.document import Change
from crdtdb.errors import InvalidInputError, StoreClosedError
from crdtdb.feed import Feed
from crdtdb.http.answers import JSONAnswer, flag, number, read_object
from crdtdb.http.documents import as_couchdb
from crdtdb.http.state import cluster_of, collection_of
from crdtdb.wallclock import monotonic_seconds

_FEEDS = ("normal", "longpoll", "continuous")
_TIMEOUT_MILLISECONDS_MAX = 60_000
_LOOK_UP_SECONDS = 0.5


async def changes(request: Request) -> Response:
    """GET or POST /{db}/_changes."""
    collection = collection_of(request)
    kind = request.query_params.get("feed", "normal")
    if kind not in _FEEDS:
        raise InvalidInputError(f"feed is one of {', '.join(_FEEDS)}, not {kind[:40]!r}")
    ids = await _ids(request)
    since = _since(request, collection.last_seq)
    feed = collection.feed(since, ids=ids)
    store = collection.durable
    if kind == "continuous":
        return StreamingResponse(_continuous(request, feed), media_type="application/json")
    await to_thread.run_sync(store)
    rows = await to_thread.run_sync(lambda: _take(request, feed))
    if not rows and kind == "longpoll":
        deadline = monotonic_seconds() + _timeout(request)
        cluster = cluster_of(request)
        while not (rows or monotonic_seconds() > deadline or cluster.stopping or await request.is_disconnected()):
            if await _rang(feed):
                await to_thread.run_sync(store)
                rows = await to_thread.run_sync(lambda: _take(request, feed))
    last = max(row["seq"] for row in rows) if rows and number(request, "limit") is not None else feed.since
    return JSONAnswer({"results": rows, "last_seq": last, "pending": max(0, collection.last_seq - last)})


def _take(request: Request, feed: Feed) -> list[dict[str, Any]]:
    limit = number(request, "limit")
    rows: list[dict[str, Any]] = []
    for change in feed.take():
        if limit is not None and len(rows) >= limit:
            break
        rows.append(_row(request, change))
    return rows[::-1] if flag(request, "descending") else rows


async def _continuous(request: Request, feed: Feed) -> AsyncIterator[bytes]:
    """Yield a line for each change, and an empty one now and then so that both ends know of each other."""
    heartbeat = (number(request, "heartbeat", 60_000) or 60_000) / 1000
    limit = number(request, "limit")
    sent, quiet = 0, monotonic_seconds()
    cluster = cluster_of(request)
    while (limit is None or sent < limit) and not cluster.stopping:
        for change in feed.take():
            yield orjson.dumps(_row(request, change)) + b"\n"
            sent, quiet = sent + 1, monotonic_seconds()
            if limit is not None and sent >= limit:
                return
        if not await _rang(feed) and monotonic_seconds() - quiet >= heartbeat:
            quiet = monotonic_seconds()
            yield b"\n"


async def _rang(feed: Feed) -> bool:
    """Wait a moment for the bell. A thread that waits can't be cancelled, so it looks up twice a second."""
    try:
        return await to_thread.run_sync(feed.wait, _LOOK_UP_SECONDS, abandon_on_cancel=True)
    except StoreClosedError:
        raise InvalidInputError("the node is stopping") from None


def _row(request: Request, change: Change) -> dict[str, Any]:
    revs = change.leaves if request.query_params.get("style") == "all_docs" else (change.rev,)
    row: dict[str, Any] = {"seq": change.seq, "id": change.id, "changes": [{"rev": rev} for rev in revs]}
    if change.deleted:
        row["deleted"] = True
    if flag(request, "include_docs"):
        row["doc"] = as_couchdb(change.doc, conflicts=flag(request, "conflicts"))
    return row


def _since(request: Request, last_seq: int) -> int:
    if request.query_params.get("since") == "now":
        return last_seq
    return number(request, "since", 0) or 0


def _timeout(request: Request) -> float:
    asked = number(request, "timeout", _TIMEOUT_MILLISECONDS_MAX) or 0
    return min(asked, _TIMEOUT_MILLISECONDS_MAX) / 1000


async def _ids(request: Request) -> frozenset[str] | None:
    chosen = request.query_params.get("filter")
    if chosen is None:
        return None
    if chosen != "_doc_ids" or request.method != "POST":
        raise InvalidInputError(f"the filter {chosen[:40]!r} isn't known: POST with filter=_doc_ids and `doc_ids`")
    ids = (await read_object(request)).get("doc_ids")
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise InvalidInputError("doc_ids is an array of strings")
    return frozenset(ids)


ROUTES = [Route("/{db}/_changes", changes, methods=["GET", "POST"])]
