"""One database of a replication: a client of what CouchDB's protocol asks of it, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from crdtdb.canonical_json import dump, parse
from crdtdb.couchdb.replication.due import Refusal
from crdtdb.couchdb.replication.errors import (
    PeerError,
    ReplacedDatabaseError,
    ReplicationError,
    UnreadableAnswerError,
)
from crdtdb.errors import InvalidInputError

_SECONDS = 60.0
_WAIT_SECONDS_MAX = 5.0
"""How long a database is asked to wait for a change: in between it is looked whether it is still the same."""
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class Peer(NamedTuple):
    """Where a database is, and how to come in there. `transport` and `verify` are httpx's."""

    url: str
    """With a scheme and the database's name, and without a password."""
    auth: tuple[str, str] | None = None
    headers: Mapping[str, str] = {}
    verify: Any = True
    transport: httpx.AsyncBaseTransport | None = None
    identity: str | None = None
    """What it is known as in a checkpoint's name, if that isn't its URL."""

    @classmethod
    def of(cls, url: str, **others: Any) -> Peer:
        """Return a peer of a URL, in which a name and a password may stand. Raises InvalidInputError."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.strip("/"):
            raise InvalidInputError(
                f"{_without_password(url)[:200]!r} isn't the URL of a database, such as https://host:5984/name"
            )
        if parts.username:
            others.setdefault("auth", (parts.username, parts.password or ""))
        host = parts.hostname if ":" not in parts.hostname else f"[{parts.hostname}]"
        port = f":{parts.port}" if parts.port is not None else ""
        return cls(urlunsplit((parts.scheme, host + port, parts.path.rstrip("/"), "", "")), **others)


def _without_password(url: str) -> str:
    scheme, slashes, rest = url.partition("://")
    return scheme + slashes + rest.rpartition("@")[2] if "@" in rest else url


class Endpoint:
    """A database. Use it in an `async with`. What it raises says which database it is, and whether to try again."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._http = httpx.AsyncClient(
            auth=peer.auth,
            headers={"accept": "application/json", **peer.headers},
            verify=peer.verify,
            transport=peer.transport,
            timeout=httpx.Timeout(_SECONDS, read=_SECONDS * 1.5),
            follow_redirects=False,
            trust_env=False,
        )
        self._has_bulk_get = True

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    @property
    def name(self) -> str:
        """What to call it in a message: its URL."""
        return self._peer.url

    @property
    def identity(self) -> str:
        """What it is known as in a checkpoint's name."""
        return self._peer.identity or self._peer.url

    async def information(self) -> dict[str, Any] | None:
        """Return its counts, None if there is no such database."""
        found: dict[str, Any] | None = await self._json("GET", "", missing=None)
        return found

    async def create(self) -> None:
        """Make it, unless it is there."""
        await self._json("PUT", "", also=(412,))

    async def local(self, local_id: str) -> dict[str, Any] | None:
        """Return a local document, None if there is none."""
        found: dict[str, Any] | None = await self._json("GET", f"_local/{quote(local_id, safe='')}", missing=None)
        return found

    async def put_local(self, local_id: str, document: Mapping[str, Any]) -> str:
        """Write a local document; return its revision."""
        written = await self._json("PUT", f"_local/{quote(local_id, safe='')}", body=document)
        rev: str = written["rev"]
        return rev

    async def changes(self, since: Any, limit: int, wait: bool, filtered: Mapping[str, Any]) -> dict[str, Any]:
        """Return some changes after a seq; with `wait` wait for one, for a while."""
        query: dict[str, Any] = {"style": "all_docs", "limit": limit, "since": _as_parameter(since)}
        if wait:
            query.update(feed="longpoll", timeout=int(_WAIT_SECONDS_MAX * 1000))
        query.update(filtered.get("query", {}))
        body = filtered.get("body")
        found = await self._json("POST" if body is not None else "GET", "_changes", body=body, query=query)
        if not isinstance(found.get("results"), list):
            raise ReplicationError(f"{self.name}: its _changes aren't CouchDB's: {str(found)[:200]}")
        return dict(found)

    async def lacking(self, revs: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
        """Return which of these revisions it lacks."""
        return dict(await self._json("POST", "_revs_diff", body=revs)) if revs else {}

    async def revisions(self, wanted: Mapping[str, Sequence[str]]) -> tuple[list[dict[str, Any]], list[Refusal]]:
        """Return revisions with their histories and with stubs of their attachments, and those that it doesn't give."""
        if self._has_bulk_get:
            asked = [{"id": doc_id, "rev": rev} for doc_id, revs in wanted.items() for rev in revs]
            answer = await self._json("POST", "_bulk_get", body={"docs": asked}, query={"revs": "true"}, missing=False)
            if answer is not False:
                rows: dict[str, list[dict[str, Any]]] = {}
                for row in answer["results"]:
                    rows.setdefault(row["id"], []).extend(row["docs"])
                return _sorted_out(wanted, rows)
            self._has_bulk_get = False  # an older CouchDB
        rows = {}
        for doc_id, revs in wanted.items():
            query = {"open_revs": dump(list(revs)).decode(), "revs": "true"}
            rows[doc_id] = await self._json("GET", _document(doc_id), query=query, missing=[])
        return _sorted_out(wanted, rows)

    async def put_revisions(self, documents: Sequence[Mapping[str, Any]]) -> list[Refusal]:
        """Take revisions that were made elsewhere; return those that it refuses."""
        answer = await self._json("POST", "_bulk_docs", body={"docs": documents, "new_edits": False})
        refused = list[Refusal]()
        for row in answer:
            if "error" in row:
                # Who doesn't say which revision, or which document, it refuses may mean any.
                same_id = [one for one in documents if one["_id"] == row.get("id")] or documents
                meant = [one for one in same_id if one["_rev"] == row.get("rev")] or same_id
                words = str(row["error"]), str(row.get("reason"))
                refused += [Refusal(one["_id"], one["_rev"], *words) for one in meant]
        return refused

    async def commit(self) -> None:
        """Return when all that it took is durable; not every server knows the question."""
        await self._json("POST", "_ensure_full_commit", body={}, missing=None)

    @asynccontextmanager
    async def with_attachments(self, doc_id: str, rev: str) -> AsyncIterator[httpx.Response]:
        """Give a revision with its history and attachments, as a stream: of several parts if it can, JSON otherwise."""
        query = {"rev": rev, "revs": "true", "attachments": "true"}
        headers = {"accept": "multipart/related, application/json;q=0.5", "accept-encoding": "identity"}
        try:
            async with self._http.stream("GET", self._url(_document(doc_id)), params=query, headers=headers) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                    raise self._refused("GET", _document(doc_id), answer)
                yield answer
        except httpx.HTTPError as error:
            raise PeerError(f"{self.name}: {error or type(error).__name__}") from error

    async def put_parts(
        self, doc_id: str, rev: str, headers: Mapping[str, str], parts: AsyncIterator[bytes]
    ) -> Refusal | None:
        """Take a revision with its attachments, of several parts as they come; return the refusal, None if it was taken."""
        try:
            answer = await self._http.put(
                self._url(_document(doc_id)), params={"new_edits": "false"}, content=parts, headers=headers
            )
        except httpx.HTTPError as error:
            raise PeerError(f"{self.name}: {error or type(error).__name__}") from error
        if answer.status_code in _TRY_AGAIN:
            raise self._refused("PUT", _document(doc_id), answer)
        if answer.status_code == 404:
            raise ReplacedDatabaseError(f"there is no database {self.name}")
        if answer.status_code >= 400:
            return Refusal(doc_id, rev, *_words(answer))
        return None

    def _url(self, path: str) -> str:
        return f"{self._peer.url}/{path}" if path else self._peer.url

    async def _json(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        missing: Any = ...,
        also: Sequence[int] = (),
    ) -> Any:
        """Return the JSON of an answer; `missing` for 404, if it is given. Raises PeerError, ReplicationError."""
        content = dump(body) if body is not None else None
        headers = {"content-type": "application/json"} if content is not None or method == "POST" else {}
        try:
            answer = await self._http.request(method, self._url(path), content=content, params=query, headers=headers)
        except httpx.HTTPError as error:
            raise PeerError(f"{self.name}: {error or type(error).__name__}") from error
        except httpx.InvalidURL as error:
            raise ReplicationError(f"{self.name}: {error}") from error
        if answer.status_code in (404, 405, 501) and missing is not ...:
            return missing
        if answer.status_code >= 300 and answer.status_code not in also:
            raise self._refused(method, path, answer)
        try:
            return parse(answer.content)
        except ValueError as error:
            raise UnreadableAnswerError(
                f"{self.name}: the answer to {method} {path} isn't JSON: {answer.text[:100]!r}"
            ) from error

    def _refused(self, method: str, path: str, answer: httpx.Response) -> PeerError | ReplicationError:
        word, reason = _words(answer)
        status = answer.status_code
        message = f"{self.name}: {method} {path or 'of the database'} was answered by {status}, {word}: {reason}"
        return PeerError(message, status) if status in _TRY_AGAIN else ReplicationError(message, status)


def _words(answer: httpx.Response) -> tuple[str, str]:
    """Return the error and the reason that an answer gives."""
    try:
        told = parse(answer.content)
        return str(told["error"]), str(told["reason"])
    except (ValueError, KeyError, TypeError):
        return str(answer.status_code), answer.text[:200]


def _sorted_out(
    wanted: Mapping[str, Sequence[str]], rows: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[list[dict[str, Any]], list[Refusal]]:
    """Return the documents among rows, and what of the wanted isn't among them."""
    documents = [row["ok"] for found in rows.values() for row in found if "ok" in row]
    there = {(document["_id"], document["_rev"]) for document in documents}
    reasons = {
        (doc_id, row["error"].get("rev")): (str(row["error"].get("error")), str(row["error"].get("reason")))
        for doc_id, found in rows.items()
        for row in found
        if isinstance(row.get("error"), dict)
    }
    return documents, [
        Refusal(doc_id, rev, *reasons.get((doc_id, rev), ("not_found", "the source doesn't have it")))
        for doc_id, revs in wanted.items()
        for rev in revs
        if (doc_id, rev) not in there
    ]


def _document(doc_id: str) -> str:
    """Return a document's path: the slash of a design document's id stands as it is."""
    kind, slash, rest = doc_id.partition("/")
    return f"{kind}/{quote(rest, safe='')}" if kind == "_design" and slash else quote(doc_id, safe="")


def _as_parameter(seq: Any) -> str:
    return seq if isinstance(seq, str) else dump(seq).decode()
