"""/{db}/_changes: the changes feed, at once, by long poll, or for as long as the client stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from crdtdb.aio.notifier import Waiter
from crdtdb.canonical_json import dump
from crdtdb.clock import monotonic_seconds
from crdtdb.couchdb import ChangesFeed, Options, Tree, Wanted
from crdtdb.couchdb.errors import bad_request, query_parse_error
from crdtdb.documents import Rev
from crdtdb.errors import SelectorError
from crdtdb.http.context import bell_of, designs_of, name_of, scripts_of, trees_of, user_of
from crdtdb.http.json_io import decimal, json_parameter, number, read_optional_object
from crdtdb.http.streaming import Writer, between, streamed
from crdtdb.query.definitions import DESIGN
from crdtdb.query.selectors import compile_selector
from crdtdb.threads import ATTACHMENTS, FILTERS, QUERIES, Duty

_FEEDS = ("normal", "longpoll", "continuous", "eventsource")
_MILLISECONDS_MAX = 60_000
Written = Callable[[dict[str, Any]], AsyncIterator[bytes]]


async def changes(request: Request) -> Response:
    """GET or POST /{db}/_changes : what changed since a seq of whatever node."""
    trees = trees_of(request)
    kind = request.query_params.get("feed", "normal")
    if kind not in _FEEDS:
        raise bad_request("Supported `feed` types: normal, continuous, live, longpoll, eventsource")
    body = await read_optional_object(request) if request.method == "POST" else {}
    wanted, limit, descending = _wanted(request, body), number(request, "limit"), _says(request, "descending")
    writer = Writer(trees.store)
    wanted = wanted._replace(options=wanted.options._replace(mark=writer.mark))
    written = partial(_written, writer, wanted.include_docs and wanted.options.attachments)
    feed = await QUERIES.run(ChangesFeed, trees, "0" if descending else _since(request, kind), wanted)
    duty = _duty_of(request)
    waiting = _Waiting(request)
    if kind == "continuous":
        rows = _live(request, feed, duty, waiting, limit, written, _LINE)
        return StreamingResponse(_closed(rows, feed, duty), media_type="application/json")
    if kind == "eventsource":
        live = _live(request, feed, duty, waiting, limit, written, _EVENT)
        return StreamingResponse(live, media_type="text/event-stream", headers={"cache-control": "no-cache"})
    if descending:
        shown = count()
        newest = (writer.pieces(row) for row in feed.newest(limit) if next(shown) >= 0)
        every = trees.store.collection(trees.name)

        def end() -> bytes:
            pending = max(0, every.documents + every.deleted - next(shown)) if limit is not None else 0
            return b'\n],"last_seq":%b,"pending":%d}\n' % (dump(feed.last_seq), pending)

        return await streamed(duty, between(b'{"results":[\n', newest, end))
    rows = _once(request, feed, duty, waiting if kind == "longpoll" else None, limit, written)
    return StreamingResponse(await _begun(rows), media_type="application/json")


async def _begun(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return these parts when the first is there: what goes wrong at once, such as a filter, gets an answer of its own."""
    first = await anext(parts)

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    return all_of_them()


class _Waiting:
    """How long a client waits, and how often it wants to hear that the node is there."""

    def __init__(self, request: Request) -> None:
        asked = request.query_params.get("heartbeat")
        beat = _MILLISECONDS_MAX if asked == "true" else None if asked in (None, "false") else decimal(asked)
        if asked not in (None, "false") and not beat:
            raise bad_request("The heartbeat value should be a positive integer (in milliseconds).")
        self.heartbeat = beat / 1000 if beat else None
        timeout = number(request, "timeout")
        self.seconds = min(_MILLISECONDS_MAX if timeout is None else timeout, _MILLISECONDS_MAX) / 1000
        self._until = monotonic_seconds() + self.seconds

    @property
    def over(self) -> bool:
        """Whether it has been long enough. A feed with heartbeats waits for ever."""
        return self.heartbeat is None and monotonic_seconds() >= self._until

    async def wait(self, waiter: Waiter) -> bool:
        """Wait for the bell, the next heartbeat or the end; return whether it rang."""
        if self.heartbeat is not None:
            return await waiter.wait(self.heartbeat)
        return await waiter.wait(max(0.0, self._until - monotonic_seconds()))

    def heard(self) -> None:
        """Note that something was sent: the time begins again."""
        self._until = monotonic_seconds() + self.seconds


async def _once(
    request: Request, feed: ChangesFeed, duty: Duty, waiting: _Waiting | None, limit: int | None, written: Written
) -> AsyncIterator[bytes]:
    """Yield one JSON object, written as its rows are read; a long poll waits until there is one."""
    bell, sent, begun = bell_of(request), 0, False
    with bell.waiting(feed.name) as waiter:
        while limit is None or sent < limit:
            waiter.arm()
            rows = await duty.run(feed.take, None if limit is None else limit - sent)
            if not begun:
                yield b'{"results":[\n'
                begun = True
            for row in rows:
                if sent:
                    yield b",\n"
                async for piece in written(row):
                    yield piece
                sent += 1
            if not feed.exhausted:
                continue
            if sent or waiting is None or waiting.over or bell.stopping or feed.dropped:
                break
            if not await waiting.wait(waiter) and waiting.heartbeat is not None:
                yield b"\n"
    if not begun:
        yield b'{"results":[\n'
    pending = await duty.run(feed.pending)
    yield b'\n],\n"last_seq":%b,"pending":%d}\n' % (dump(feed.last_seq), pending)


async def _live(
    request: Request,
    feed: ChangesFeed,
    duty: Duty,
    waiting: _Waiting,
    limit: int | None,
    written: Written,
    form: _Form,
) -> AsyncIterator[bytes]:
    """Yield rows for as long as the client stays."""
    bell, sent = bell_of(request), 0
    if form is _EVENT:
        yield b"\n"  # so that the answer begins
    with bell.waiting(feed.name) as waiter:
        while (limit is None or sent < limit) and not bell.stopping and not feed.dropped:
            waiter.arm()
            for row in await duty.run(feed.take, None if limit is None else limit - sent):
                yield form.before
                async for piece in written(row):
                    yield piece
                yield form.after(row)
                sent += 1
                waiting.heard()
            if not feed.exhausted or sent == limit:
                continue
            if waiting.over:
                return
            if not await waiting.wait(waiter) and waiting.heartbeat is not None:
                yield form.beat


async def _closed(rows: AsyncIterator[bytes], feed: ChangesFeed, duty: Duty) -> AsyncIterator[bytes]:
    async for row in rows:
        yield row
    yield dump({"last_seq": feed.last_seq, "pending": await duty.run(feed.pending)}) + b"\n"


def _duty_of(request: Request) -> Duty:
    """Return whose threads read the feed: a filter in JavaScript may wait long for its process."""
    chosen = request.query_params.get("filter")
    return QUERIES if chosen is None or (chosen.startswith("_") and chosen != "_view") else FILTERS


async def _written(writer: Writer, inline: bool, row: dict[str, Any]) -> AsyncIterator[bytes]:
    """Yield the JSON of a row, which may have attachments within it."""
    if not inline:
        yield dump(row)
        return
    async for piece in ATTACHMENTS.iterate(writer.pieces(row)):
        yield piece


class _Form(NamedTuple):
    """What stands around the rows of a feed that lasts, and what is sent when there are none."""

    before: bytes
    after: Callable[[dict[str, Any]], bytes]
    beat: bytes


def _end_of_event(row: dict[str, Any]) -> bytes:
    return b"\nid: %b\n\n" % dump(row["seq"]) if row["seq"] is not None else b"\n\n"


_LINE = _Form(b"", lambda _: b"\n", b"\n")
_EVENT = _Form(b"data: ", _end_of_event, b"event: heartbeat\ndata: \n\n")


def _wanted(request: Request, body: dict[str, Any]) -> Wanted:
    style = request.query_params.get("style", "main_only")
    if style not in ("main_only", "all_docs"):
        raise query_parse_error(f"Invalid style: {style[:40]}")
    keep, ids = _filter(request, body)
    return Wanted(
        style_all=style == "all_docs",
        include_docs=_says(request, "include_docs"),
        options=Options(
            conflicts=_says(request, "conflicts"),
            attachments=_says(request, "attachments"),
            encodings=_says(request, "att_encoding_info"),
        ),
        keep=keep,
        fields=_fields(request, body),
        ids=ids,
        seq_interval=_seq_interval(request),
    )


def _says(request: Request, name: str) -> bool:
    """Return a flag of this feed: what isn't `true` is false, as in CouchDB."""
    return request.query_params.get(name) == "true"


def _since(request: Request, kind: str) -> str:
    """Return from where on a client reads: an event source says it in a header when it comes again."""
    given = request.query_params.get("last-event-id") or request.query_params.get("since", "0")
    if kind == "eventsource":
        given = request.headers.get("last-event-id") or given
    return given.strip('"')


def _seq_interval(request: Request) -> int:
    given = request.query_params.get("seq_interval", "1")
    value = decimal(given)
    if not value:
        raise bad_request("invalid_seq_interval")
    return value


def _fields(request: Request, body: dict[str, Any]) -> tuple[str, ...] | None:
    given = body.get("fields") if request.query_params.get("filter") == "_selector" else None
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise bad_request("Selector error: fields must be JSON array")
    return tuple(given) or None


Keep = Callable[[Tree, Rev], bool]


def _filter(request: Request, body: dict[str, Any]) -> tuple[Keep | None, frozenset[str] | None]:
    chosen = request.query_params.get("filter")
    if not chosen:
        return None, None
    if chosen == "_doc_ids":
        ids = body.get("doc_ids", json_parameter(request, "doc_ids"))
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise bad_request("`doc_ids` filter parameter is not a list of doc ids.")
        return None, frozenset(ids)
    if chosen == "_design":
        return (lambda tree, _: tree.doc_id.startswith("_design/")), None
    if chosen == "_selector":
        try:
            matches = compile_selector(body.get("selector"))
        except SelectorError as error:
            raise bad_request(str(error)) from error
        return (lambda tree, rev: matches(tree.document(rev))), None
    return _by_function(request, chosen, body), None


def _by_function(request: Request, chosen: str, body: dict[str, Any]) -> Keep:
    """Return what asks a function of a design document: a filter, or for `_view` whether a view emits anything."""
    named = request.query_params.get("view", "") if chosen == "_view" else chosen
    ddoc, slash, function_name = named.partition("/")
    if not slash or "/" in function_name:
        what = (
            "`view` must be of the form `designname/viewname`"
            if chosen == "_view"
            else ("filter parameter must be of the form `designname/filtername`")
        )
        raise bad_request(what)
    scripts, design = scripts_of(request), designs_of(request).get(name_of(request), DESIGN + ddoc)
    if chosen == "_view":
        emitting = design.view(function_name).map
        scripts.check_installed()
        return lambda tree, rev: scripts.emits(emitting, tree.document(rev))
    function = design.filter(function_name)
    scripts.check_installed()
    asked = {
        "query": dict(request.query_params),
        "method": request.method,
        "path": request.url.path.strip("/").split("/"),
        "body": body,
        "userCtx": user_of(request),
    }
    return lambda tree, rev: scripts.filter(function, [tree.document(rev)], asked)[0]


ROUTES = [Route("/{db}/_changes", changes, methods=["GET", "POST"])]
