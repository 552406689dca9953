"""/{db}/_all_docs, _bulk_docs, _bulk_get, _revs_diff, _missing_revs, _purge: many documents at once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crdtdb.canonical_json import canonical_merged, dump
from crdtdb.couchdb import Options, Outcome, ParsedDocument, Tree, Trees, Writes, parse_document, put_local, seq_now
from crdtdb.couchdb.errors import bad_request, checked_id, checked_rev, query_parse_error
from crdtdb.couchdb.local_documents import local_rows
from crdtdb.documents import Rev
from crdtdb.documents.local import LOCAL
from crdtdb.errors import CrdtdbError, InvalidDocumentError, TooLargeError
from crdtdb.http.content import accepts
from crdtdb.http.context import (
    attachment_bytes_max_of,
    collection_of,
    database_of,
    drawn_id,
    duty_of,
    trees_of,
    writes_of,
)
from crdtdb.http.errors import as_result, words
from crdtdb.http.json_io import (
    ROWS_MAX,
    JSONAnswer,
    flag,
    json_parameter,
    number,
    read_documents,
    read_object,
    read_optional_object,
)
from crdtdb.http.multipart import MIXED, RELATED, mixed, wants
from crdtdb.http.resources.documents import open_revs, options_of
from crdtdb.http.streaming import Writer, between, streamed
from crdtdb.limits import BULK_DOCUMENTS_MAX
from crdtdb.query.selectors import ABSENT
from crdtdb.threads import COMMITS, QUERIES

_COUNTED_MAX = 10_000
"""How many rows are counted at most for an `offset`, which is null beyond: counting costs as much as reading."""


async def all_documents(request: Request) -> Response:
    """GET or POST /{db}/_all_docs : a range of ids, or `keys`."""
    return await _rows_of(request, None)


async def design_documents(request: Request) -> Response:
    """GET or POST /{db}/_design_docs : the same of the design documents alone."""
    return await _rows_of(request, "_design/")


async def _rows_of(request: Request, within: str | None) -> Response:
    trees, collection = trees_of(request), collection_of(request)
    body = await read_optional_object(request) if request.method == "POST" else {}
    keys = body.get("keys", json_parameter(request, "keys"))
    if keys is not None and not isinstance(keys, list):
        raise bad_request("`keys` parameter must be an array.")
    query = _AllDocs(request, body)
    if keys is not None and query.key is not ABSENT:
        raise query_parse_error("`keys` is incompatible with `key`, `start_key` and `end_key`")
    writer = Writer(trees.store)
    query.options = query.options._replace(mark=writer.mark)
    if keys is not None and within is not None:
        keys = [key for key in keys if isinstance(key, str) and key.startswith(within)]
    head = await QUERIES.run(query.head, trees, keys, within, len(collection))
    if query.update_seq:
        head["update_seq"] = seq_now(trees.store, trees.name)
    rows = map(writer.pieces, query.rows(trees, keys, within))
    return await streamed(QUERIES, between(dump(head)[:-1] + b',"rows":[\n', rows, lambda: b"\n]}\n"))


class _AllDocs:
    """What is asked of `_all_docs`, in the query or in the body."""

    def __init__(self, request: Request, body: dict[str, Any]) -> None:
        self._body = body
        self.include = self._flag(request, "include_docs")
        self.options = Options(
            conflicts=self._flag(request, "conflicts"),
            attachments=self._flag(request, "attachments"),
            encodings=self._flag(request, "att_encoding_info"),
        )
        self.descending = self._flag(request, "descending")
        self.inclusive_end = self._flag(request, "inclusive_end", True)
        self.update_seq = self._flag(request, "update_seq")
        self.skip = self._number(request, "skip") or 0
        self.limit = self._number(request, "limit")
        for name in ("sorted", "stable"):
            self._flag(request, name)
        for name, allowed in (("stale", ("ok", "update_after")), ("update", ("true", "false", "lazy"))):
            if request.query_params.get(name, allowed[0]) not in allowed:
                raise query_parse_error(f"Invalid value for `{name}`.")
        if flag(request, "reduce"):
            raise query_parse_error("Reduce is invalid for map-only views.")
        if flag(request, "group") or number(request, "group_level"):
            raise query_parse_error("Invalid use of grouping on a map view.")
        self.key = self._bound(request, "key")
        start, end = self._bound(request, "startkey", "start_key"), self._bound(request, "endkey", "end_key")
        self.start = self.key if self.key is not ABSENT else start
        self.end = self.key if self.key is not ABSENT else end
        self.inclusive_end = self.inclusive_end or self.key is not ABSENT

    def _bound(self, request: Request, *names: str) -> Any:
        """Return where a range begins or ends, ABSENT if nothing is said."""
        for name in names:
            if name in self._body:
                return self._body[name]
            if name in request.query_params:
                return json_parameter(request, name)
        return ABSENT

    @property
    def _is_empty(self) -> bool:
        """Whether a range has an end that no id comes before: every id is above what is no string."""
        ends = self.end is not ABSENT and not isinstance(self.end, str)
        return ends or (self.key is not ABSENT and not isinstance(self.key, str))

    def head(self, trees: Trees, keys: list[Any] | None, within: str | None, total: int) -> dict[str, Any]:
        """Return what stands before the rows: how many there are in all, and how many come before these."""
        if within is not None:
            total = _counted(trees.all(within, within[:-1] + "0", False))
        if keys is not None:
            return {"total_rows": total, "offset": None}
        before = 0
        if isinstance(self.start, str) and not self._is_empty:
            first, last = within or "", within[:-1] + "0" if within is not None else None
            skipped = (
                trees.all(max(first, self.start + "\0"), last, True)
                if self.descending
                else trees.all(first, min(self.start, last or self.start), False)
            )
            before = _counted(skipped)
        offset = min(total, before + self.skip) if before <= _COUNTED_MAX else None
        return {"total_rows": total, "offset": offset}

    def _flag(self, request: Request, name: str, default: bool = False) -> bool:
        value = self._body.get(name)
        if value is not None and not isinstance(value, bool):
            raise bad_request(f"`{name}` is true or false")
        return value if isinstance(value, bool) else flag(request, name, default)

    def _number(self, request: Request, name: str) -> int | None:
        value = self._body.get(name)
        if value is not None and (type(value) is not int or value < 0):
            raise bad_request(f"`{name}` is a number from 0")
        return min(value, ROWS_MAX) if value is not None else number(request, name)

    def rows(self, trees: Trees, keys: list[Any] | None, within: str | None) -> Iterator[dict[str, Any]]:
        """Yield the rows."""
        stop = None if self.limit is None else self.skip + self.limit
        if keys is not None:
            chosen = keys[::-1] if self.descending else keys
            return (self._row_of_key(trees, key) for key in chosen[self.skip : stop])
        if self._is_empty:
            return iter(())
        return (self._row(tree) for tree in islice(self._range(trees, within), self.skip, stop))

    def _range(self, trees: Trees, within: str | None) -> Iterator[Tree]:
        start, end = (one if isinstance(one, str) else None for one in (self.start, self.end))
        low, high = (end, start) if self.descending else (start, end)
        # The range is half open: a name's own successor is the name with a NUL behind it.
        high_in = self.inclusive_end or self.descending
        low_in = self.inclusive_end or not self.descending
        first = "" if low is None else low if low_in else low + "\0"
        last = None if high is None else high + "\0" if high_in else high
        if within is not None:
            first, last = max(first, within), min(last or within[:-1] + "0", within[:-1] + "0")
        return trees.all(first, last, self.descending)

    def _row(self, tree: Tree) -> dict[str, Any]:
        row: dict[str, Any] = {"id": tree.doc_id, "key": tree.doc_id, "value": {"rev": str(tree.winner.leaf.rev)}}
        if self.include:
            row["doc"] = tree.document(None, self.options)
        return row

    def _row_of_key(self, trees: Trees, key: Any) -> dict[str, Any]:
        if not isinstance(key, str):
            canonical_merged(key)  # it is written back as it came, unless it is nested too deeply
        if isinstance(key, str) and key.startswith(LOCAL):
            return next(local_rows(trees.store, trees.name, [key], False))
        tree = trees.find(key) if isinstance(key, str) else None
        if tree is None:
            return {"key": key, "error": "not_found"}
        if not tree.deleted:
            return self._row(tree)
        row = {"id": key, "key": key, "value": {"rev": str(tree.winner.leaf.rev), "deleted": True}}
        return {**row, "doc": None} if self.include else row


def _counted(trees: Iterator[Tree]) -> int:
    """Return how many there are, at most one more than `_COUNTED_MAX`."""
    return sum(1 for _ in islice(trees, _COUNTED_MAX + 1))


async def bulk_docs(request: Request) -> JSONAnswer:
    """POST /{db}/_bulk_docs : many documents in one commit, each with its own result.

    What isn't a document refuses the request, as in CouchDB; one that is too large, or that can't be kept, is refused alone.
    """
    writes, name = writes_of(request), collection_of(request).name
    body = await read_documents(request)
    documents = body.get("docs")
    if not isinstance(documents, list):
        raise bad_request("POST body must include `docs` parameter.")
    if len(documents) > BULK_DOCUMENTS_MAX:
        raise TooLargeError(f"{len(documents):,} documents at once, the limit is {BULK_DOCUMENTS_MAX:,}")
    new_edits = body.get("new_edits", True)
    if not isinstance(new_edits, bool):
        raise bad_request("`new_edits` is true or false")
    if body.get("all_or_nothing") is True:
        return JSONAnswer([_not_implemented(document) for document in documents], 417)
    most = attachment_bytes_max_of(request)
    read = [_read(one, new_edits, most) for one in documents]
    plain = [one for one in read if not isinstance(one, _Local)]
    outcomes = iter(await duty_of(writes).run(_written_in_order, writes, plain, new_edits))
    results = []
    for document, parsed in zip(documents, read, strict=True):
        if isinstance(parsed, _Local):
            rev = await COMMITS.run(put_local, database_of(request).store, name, parsed.doc_id, parsed.body)
            outcome: Outcome = parsed.doc_id, rev
        else:
            outcome = next(outcomes)
        if isinstance(outcome, CrdtdbError):
            named = parsed.doc_id if isinstance(parsed, ParsedDocument) else document.get("_id")
            results.append(as_result(named, outcome))
            if not new_edits and isinstance(document.get("_rev"), str):
                results[-1]["rev"] = document["_rev"]  # of several revisions of one document, as CouchDB does
        elif new_edits:
            results.append({"ok": True, "id": outcome[0], "rev": str(outcome[1])})
    return JSONAnswer(results, 201)


def _written_in_order(writes: Writes, documents: list[ParsedDocument | CrdtdbError], new_edits: bool) -> list[Outcome]:
    """Write documents; revisions made elsewhere in the order of their ids, as CouchDB's feed has them. Return the outcomes."""
    if new_edits:
        return writes.bulk(documents, new_edits)
    places = sorted(range(len(documents)), key=lambda place: getattr(documents[place], "doc_id", ""))
    outcomes = dict(zip(places, writes.bulk([documents[place] for place in places], new_edits), strict=True))
    return [outcomes[place] for place in range(len(documents))]


class _Local(NamedTuple):
    """A local document among others."""

    doc_id: str
    body: dict[str, Any]


def _not_implemented(document: Any) -> dict[str, Any]:
    doc_id = document.get("_id") if isinstance(document, dict) else None
    reason = "all_or_nothing is not supported"
    return {"id": doc_id, "rev": "0-", "error": "not_implemented", "reason": reason}


def _read(document: Any, new_edits: bool, attachment_bytes_max: int) -> ParsedDocument | _Local | CrdtdbError:
    """Return a document, or what refuses it alone. Raises CouchError for what isn't one."""
    doc_id = document.get("_id") if isinstance(document, dict) else None
    if isinstance(doc_id, str) and doc_id.startswith(LOCAL) and doc_id != LOCAL:
        return _Local(doc_id, document)
    try:
        found = parse_document(document, drawn_id() if new_edits else None)
        found.check_attachments(attachment_bytes_max)
    except (InvalidDocumentError, TooLargeError) as error:
        return error
    if not new_edits:
        found.external()
    return found


async def bulk_get(request: Request) -> Response:
    """POST /{db}/_bulk_get : revisions of many documents."""
    trees, options = trees_of(request), options_of(request)
    latest = flag(request, "latest")
    asked = (await read_object(request)).get("docs")
    if not isinstance(asked, list):
        raise bad_request("Missing JSON list of 'docs'.")
    writer = Writer(trees.store)
    for kind in () if accepts(request, "application/json") else (MIXED, RELATED):
        boundary = wants(request, kind)
        if boundary is not None:
            parts = options._replace(attachments=True, parts=True)
            rows = (row for one in asked for row in _rows_got(trees, one, parts, latest)[1])
            return mixed(trees.store, rows, boundary, kind)
    marked = options._replace(mark=writer.mark)
    results = (_got(writer, *_rows_got(trees, one, marked, latest)) for one in asked)
    return await streamed(QUERIES, between(b'{"results":[\n', results, lambda: b"\n]}\n"))


def _got(writer: Writer, doc_id: str | None, found: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """Yield what is found of one document, in pieces: it may have a thousand leaves."""
    rows = (writer.pieces(row) for row in found)
    yield from between(b'{"id":%b,"docs":[' % dump(doc_id), rows, lambda: b"]}")


def _rows_got(trees: Trees, asked: Any, options: Options, latest: bool) -> tuple[str | None, Iterator[dict[str, Any]]]:
    """Return the id of a document that is asked for, and what is found of it, as `ok` or as `error`."""
    if not isinstance(asked, dict) or not asked:
        return None, _refused(None, None, bad_request("document must be a JSON object"))
    if "id" not in asked:
        return None, _refused(None, None, bad_request("document id missed"))
    try:
        doc_id = checked_id(asked["id"])
    except CrdtdbError as error:
        named = asked["id"] if isinstance(asked["id"], str) else None
        return named, _refused(named, None, error)
    rev, since = asked.get("rev"), asked.get("atts_since")
    try:
        # Without a revision all leaves are meant.
        revs = None if rev is None else [str(checked_rev(rev))]
        if not isinstance(since, (list, type(None))):
            rev = since  # which CouchDB shows there
            raise bad_request("att_since value must be array of revs.")
        if since:  # it goes before `attachments=false`, and an empty one says nothing
            options = options._replace(attachments=True, atts_since=frozenset(map(checked_rev, since)))
        found = open_revs(trees, doc_id, revs, options, latest)
        first = next(found)
    except CrdtdbError as error:
        return doc_id, _refused(doc_id, "undefined" if rev is None else rev, error)
    return doc_id, (one if "ok" in one else _lacking(doc_id, one["missing"]) for one in chain([first], found))


def _refused(doc_id: str | None, rev: Any, error: CrdtdbError) -> Iterator[dict[str, Any]]:
    _, word, reason = words(error)
    return iter([{"error": {"id": doc_id, "rev": rev, "error": word, "reason": reason}}])


def _lacking(doc_id: Any, rev: str) -> dict[str, Any]:
    return {"error": {"id": doc_id, "rev": rev, "error": "not_found", "reason": "missing"}}


async def revs_diff(request: Request) -> Response:
    """POST /{db}/_revs_diff : which of these revisions aren't here."""
    trees, asked = trees_of(request), await read_object(request)
    rows = (
        (b"%b:%b" % (dump(doc_id), dump(found)),)
        for doc_id, revs in asked.items()
        if (found := _missing(trees, doc_id, revs)) is not None
    )
    return await streamed(QUERIES, between(b"{", rows, lambda: b"}\n"))


async def missing_revs(request: Request) -> JSONAnswer:
    """POST /{db}/_missing_revs : the same in an older form."""
    trees, asked = trees_of(request), await read_object(request)
    missing = await QUERIES.run(lambda: {doc_id: _missing(trees, doc_id, revs) for doc_id, revs in asked.items()})
    return JSONAnswer({"missing_revs": {doc_id: found["missing"] for doc_id, found in missing.items() if found}})


def _missing(trees: Trees, doc_id: str, revs: Any) -> dict[str, Any] | None:
    """Return which revisions of a document aren't here, and which leaves may be their ancestors. No body is looked at."""
    known = trees.known(doc_id)
    wanted = _revs(revs)
    lacking = [rev for rev in wanted if not known(rev)]
    if not lacking:
        return None
    found: dict[str, Any] = {"missing": [str(rev) for rev in sorted(lacking)]}
    highest = max(rev.generation for rev in lacking)
    before = sorted({rev for rev in known.leaves if rev.generation < highest}, reverse=True)
    if before:
        found["possible_ancestors"] = [str(rev) for rev in before]
    return found


async def purge(request: Request) -> JSONAnswer:
    """POST /{db}/_purge : forget revisions, everywhere."""
    writes, asked = writes_of(request), await read_object(request)
    revs = {checked_id(doc_id): _revs(named) for doc_id, named in asked.items()}
    purged = await duty_of(writes).run(writes.purge, revs)
    return JSONAnswer({"purge_seq": None, "purged": purged.revs}, 201)


def _revs(revs: Any) -> list[Rev]:
    if not isinstance(revs, list):
        raise bad_request("Request body must be an object of arrays of revisions")
    return [checked_rev(rev) for rev in revs]


ROUTES = [
    Route("/{db}/_all_docs", all_documents, methods=["GET", "POST"]),
    Route("/{db}/_design_docs", design_documents, methods=["GET", "POST"]),
    Route("/{db}/_bulk_docs", bulk_docs, methods=["POST"]),
    Route("/{db}/_bulk_get", bulk_get, methods=["POST"]),
    Route("/{db}/_revs_diff", revs_diff, methods=["POST"]),
    Route("/{db}/_missing_revs", missing_revs, methods=["POST"]),
    Route("/{db}/_purge", purge, methods=["POST"]),
]
