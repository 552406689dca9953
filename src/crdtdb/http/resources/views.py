"""/{db}/_design/{design}/_view/{view}: what functions of design documents emit, and what it comes to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crdtdb.canonical_json import dump
from crdtdb.couchdb import Options, Trees, seq_now
from crdtdb.couchdb.design_documents import ViewFunctions
from crdtdb.couchdb.errors import bad_request, query_parse_error
from crdtdb.database.queries.views import ViewIndex, ViewQuery
from crdtdb.errors import InvalidInputError
from crdtdb.http.context import designs_of, trees_of
from crdtdb.http.json_io import ROWS_MAX, JSONAnswer, decimal, parsed_parameter, read_object, read_optional_object
from crdtdb.http.paths import part
from crdtdb.http.streaming import Writer, between, streamed
from crdtdb.javascript import Function
from crdtdb.query.definitions import DESIGN
from crdtdb.query.selectors import ABSENT
from crdtdb.store import ViewRow
from crdtdb.threads import QUERIES, VIEWS

_JSON = ("key", "startkey", "start_key", "endkey", "end_key", "keys")
_WORDS: Mapping[str, Collection[Any]] = {
    "stale": ("ok", "update_after", "false", False),
    "update": ("true", "false", "lazy", True, False),
}
"""Parameters that have one of few values. What a view doesn't know is ignored, as in CouchDB."""
_STARTS, _ENDS = ("key", "startkey", "start_key"), ("key", "endkey", "end_key")
_COUNTED_MAX = 10_000
"""How many rows are counted at most for an `offset`, which is null beyond: counting costs as much as reading."""


async def view(request: Request) -> Response:
    """GET or POST /{db}/_design/{design}/_view/{view} : rows in the order of their keys, or what they are reduced to."""
    body = await read_optional_object(request) if request.method == "POST" else {}
    asked = {**{name: parsed_parameter(request, name, _JSON) for name in request.query_params}, **body}
    answer = _Answer(request, asked)
    if answer.fresh:
        await VIEWS.run(answer.index.update)
    rows = answer.rows()
    head = await VIEWS.run(answer.head)
    return await streamed(answer.duty, between(_opened(head), rows, lambda: b"\n]}\n"))


def _opened(head: dict[str, Any]) -> bytes:
    return dump(head)[:-1] + (b"," if head else b"") + b'"rows":[\n'


async def queries(request: Request) -> Response:
    """POST /{db}/_design/{design}/_view/{view}/queries : several queries of one view, an answer for each."""
    asked = (await read_object(request)).get("queries")
    if not isinstance(asked, list) or not asked or not all(isinstance(one, dict) for one in asked):
        raise bad_request("`queries` is an array of queries")
    answers = [_Answer(request, one) for one in asked]

    await VIEWS.run(answers[0].index.update)
    results = (between(_opened(one.head()), one.rows(), lambda: b"\n]}") for one in answers)
    return await streamed(VIEWS, between(b'{"results":[\n', results, lambda: b"\n]}\n"))


class _Answer:
    """One query of a view, read and checked."""

    def __init__(self, request: Request, asked: Mapping[str, Any]) -> None:
        self._trees: Trees = trees_of(request)
        self._writer = Writer(self._trees.store)
        self._asked = asked
        self._wrong_keys = query_parse_error if "keys" in request.query_params else bad_request
        if "queries" in asked:
            raise bad_request("`queries` go to the path of the view and /queries")
        for name, values in _WORDS.items():
            if name in asked and asked[name] not in values:
                raise query_parse_error(f"Invalid value for `{name}`: {str(asked[name])[:80]!r}")
        design = designs_of(request).get(self._trees.name, DESIGN + part(request, "design"))
        functions: ViewFunctions = design.view(part(request, "view"))
        self.index: ViewIndex = designs_of(request).view(self._trees.name, functions)
        self.fresh = asked.get("update", "true") not in ("false", False)
        self._include = self._flag("include_docs")
        self._reduced = functions.reduce is not None and self._flag("reduce", True)
        if self._flag("reduce") and functions.reduce is None:
            raise query_parse_error("Reduce is invalid for map-only views.")
        if self._reduced and self._include:
            raise query_parse_error("`include_docs` is invalid for reduce")
        if self._reduced and "conflicts" in asked:
            raise query_parse_error("`conflicts` is invalid for reduce views.")
        self.duty = VIEWS if self._reduced and isinstance(functions.reduce, Function) else QUERIES
        grouped = self._flag("group") or asked.get("group_level") is not None
        if grouped and not self._reduced:
            raise query_parse_error("Invalid use of grouping on a map view.")
        if self._reduced and asked.get("keys") is not None and not self._flag("group"):
            raise query_parse_error("Multi-key fetches for reduce views must use `group=true`")
        if "group" in asked and not self._flag("group") and (self._number("group_level") or 0) > 0:
            raise query_parse_error("Can't specify group=false and group_level>0 at the same time")
        try:
            self.query = self._query()
        except InvalidInputError as error:
            raise query_parse_error(str(error)) from error

    def _query(self) -> ViewQuery:
        asked = self._asked
        keys = asked.get("keys")
        if keys is not None and not isinstance(keys, list):
            raise self._wrong_keys("`keys` parameter must be an array.")
        start, end = (ABSENT, ABSENT) if keys is not None else (self._last_of(_STARTS), self._last_of(_ENDS))
        return ViewQuery(
            start=start,
            end=end,
            start_id=self._text("startkey_docid", "start_key_doc_id") if start is not ABSENT else None,
            end_id=self._text("endkey_docid", "end_key_doc_id") if end is not ABSENT else None,
            inclusive_end=self._flag("inclusive_end", True) or "key" in asked,
            descending=self._flag("descending"),
            keys=tuple(keys) if keys is not None else None,
            limit=self._number("limit"),
            skip=self._number("skip") or 0,
            group_level=None
            if self._flag("group") and "group_level" not in asked
            else self._number("group_level") or 0,
        )

    def _last_of(self, names: Sequence[str]) -> Any:
        """Return the key under these names that was given last: as in CouchDB it goes over the earlier ones."""
        return next((value for name, value in reversed(list(self._asked.items())) if name in names), ABSENT)

    def _text(self, *names: str) -> str | None:
        value = next((self._asked[name] for name in names if name in self._asked), None)
        if value is not None and not isinstance(value, str):
            raise query_parse_error(f"{names[0]} is a string")
        return value

    def _flag(self, name: str, default: bool = False) -> bool:
        value = self._asked.get(name, default)
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise query_parse_error(f"`{name}` is true or false")
        return value

    def _number(self, name: str) -> int | None:
        given = self._asked.get(name)
        value = decimal(given) if isinstance(given, str) else given
        if given is not None and (type(value) is not int or value < 0):
            raise query_parse_error(f'Invalid value for {name}: "{str(given)[:40]}"')
        return min(value, ROWS_MAX) if value is not None else None

    def head(self) -> dict[str, Any]:
        """Return what stands before the rows."""
        state = self.index.state
        told: dict[str, Any] = {}
        if not self._reduced:
            total = state.rows if state is not None else 0
            told = {"total_rows": total, "offset": self._offset(total)}
        if self._flag("update_seq"):
            told["update_seq"] = seq_now(self._trees.store, self._trees.name)
        return told

    def _offset(self, total: int) -> int | None:
        before = self.index.count_before(self.query, _COUNTED_MAX)
        return min(total, before + self.query.skip) if before <= _COUNTED_MAX else None

    def rows(self) -> Iterator[Iterable[bytes]]:
        """Yield the rows as JSON, each in pieces."""
        if self._reduced:
            return ((dump({"key": one.key, "value": one.value}),) for one in self.index.reduced(self.query))
        return (self._writer.pieces(self._row(one)) for one in self.index.rows(self.query))

    def _row(self, row: ViewRow) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": row.id, "key": row.key, "value": row.value}
        if self._include:
            shown["doc"] = self._document(row)
        return shown

    def _document(self, row: ViewRow) -> dict[str, Any] | None:
        """Return the row's document, or the one that its value links to by `_id`."""
        linked = row.value.get("_id") if isinstance(row.value, dict) else None
        tree = self._trees.find(linked if isinstance(linked, str) else row.id)
        options = Options(
            conflicts=self._flag("conflicts"), attachments=self._flag("attachments"), mark=self._writer.mark
        )
        return tree.document(None, options) if tree is not None and not tree.deleted else None


async def design_info(request: Request) -> JSONAnswer:
    """GET /{db}/_design/{design}/_info : which views a design document has, and how far each has come."""
    trees, doc_id = trees_of(request), DESIGN + part(request, "design")
    design = designs_of(request).get(trees.name, doc_id)
    shown, pending = {}, 0
    for name, functions in design.views.items():
        state = trees.store.derived.view(trees.name, functions.signature)
        behind = trees.store.collection(trees.name).seq - (state.seq if state is not None else 0)
        pending += behind
        shown[name] = {
            "signature": functions.signature.hex(),
            "rows": state.rows if state is not None else 0,
            "behind": behind,
        }
    about = {
        "signature": design.signature,
        "language": "javascript",
        "sizes": {"file": 0, "external": 0, "active": 0},
        "updates_pending": {"minimum": pending, "preferred": 0, "total": pending},
        "waiting_commit": False,
        "waiting_clients": 0,
        "updater_running": False,
        "update_seq": seq_now(trees.store, trees.name),
        "purge_seq": 0,
        "compact_running": False,
        "collator_versions": [],
        "views": shown,
    }
    return JSONAnswer({"name": part(request, "design"), "view_index": about})


ROUTES = [
    Route("/{db}/_design/{design}/_view/{view}", view, methods=["GET", "POST"]),
    Route("/{db}/_design/{design}/_view/{view}/queries", queries, methods=["POST"]),
    Route("/{db}/_design/{design}/_info", design_info, methods=["GET"]),
]
