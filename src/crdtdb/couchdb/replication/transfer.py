"""Bringing revisions from one database to another. What one document can't do doesn't keep the others back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from crdtdb.canonical_json import dump, parse
from crdtdb.couchdb.replication.due import Refusal
from crdtdb.couchdb.replication.endpoint import Endpoint
from crdtdb.couchdb.replication.errors import PeerError, ReplicationError, UnreadableAnswerError
from crdtdb.errors import CrdtdbError

_BATCH_BYTES = 4 * 1024 * 1024
_NOT_OF_A_DOCUMENT = frozenset({401, 403, 404, 408, 425, 429, 502, 503, 504})
"""Statuses that speak of the database or of the moment, whatever was asked."""

Missing = Mapping[str, Sequence[str]]


class Transfer:
    """Reads revisions from a source and writes them to a target."""

    def __init__(self, source: Endpoint, target: Endpoint, count: Callable[[int, int], None]) -> None:
        """`count` is called with how many documents were read and how many were written."""
        self._source, self._target, self._count = source, target, count
        self._refused: list[Refusal] = []

    async def bring(self, missing: Missing) -> list[Refusal]:
        """Bring revisions; return those that couldn't be brought. Raises PeerError, ReplicationError."""
        self._refused = []
        if missing:
            await self._bring(missing)
        return self._refused

    async def _bring(self, missing: Missing) -> None:
        """Bring them together; what one of them prevents, in halves."""
        try:
            found, absent = await self._source.revisions(missing)
        except (PeerError, ReplicationError) as error:
            if not _is_of_a_document(error):
                raise
            await self._halved(list(missing.items()), lambda half: self._bring(dict(half)), _refused_all(error))
            return
        self._refused += absent
        documents, size = list[dict[str, Any]](), 0
        for document in found:
            self._count(1, 0)
            if document.get("_attachments"):
                await self._with_attachments(document["_id"], document["_rev"])
                continue
            documents.append(document)
            size += len(dump(document))
            if size > _BATCH_BYTES:
                await self._write(documents)
                documents, size = [], 0
        await self._write(documents)

    async def _halved(
        self,
        items: list[Any],
        act: Callable[[list[Any]], Awaitable[None]],
        refuse: Callable[[list[Any]], list[Refusal]],
    ) -> None:
        """Do in halves what couldn't be done with all; a single item is refused."""
        if len(items) < 2:
            self._refused += refuse(items)
            return
        middle = len(items) // 2
        await act(items[:middle])
        await act(items[middle:])

    async def _write(self, documents: list[dict[str, Any]]) -> None:
        if not documents:
            return
        try:
            refused = await self._target.put_revisions(documents)
        except (PeerError, ReplicationError) as error:
            if not _is_of_a_document(error):
                raise
            message = str(error)
            await self._halved(
                documents, self._write, lambda one: [Refusal(it["_id"], it["_rev"], "refused", message) for it in one]
            )
            return
        self._refused += refused
        self._count(0, max(0, len(documents) - len(refused)))

    async def _with_attachments(self, doc_id: str, rev: str) -> None:
        """Bring one revision with its files, as a stream if the source has it in parts."""
        try:
            async with self._source.with_attachments(doc_id, rev) as answer:
                if answer.headers.get("content-type", "").startswith("multipart/related"):
                    headers = {
                        name: answer.headers[name]
                        for name in ("content-type", "content-length")
                        if name in answer.headers
                    }
                    refused = await self._target.put_parts(doc_id, rev, headers, answer.aiter_raw())
                    self._refused += [refused] if refused is not None else []
                    self._count(0, 1 if refused is None else 0)
                    return
                document = parse(await answer.aread())
        except (PeerError, ReplicationError, ValueError) as error:
            if isinstance(error, CrdtdbError) and not _is_of_a_document(error) and _status(error) != 404:
                raise
            self._refused.append(Refusal(doc_id, rev, "unreadable", str(error)))
            return
        await self._write([document])


def _status(error: CrdtdbError) -> int | None:
    return error.status if isinstance(error, (PeerError, ReplicationError)) else None


def _is_of_a_document(error: CrdtdbError) -> bool:
    """Whether less at a time may go well."""
    status = _status(error)
    return isinstance(error, UnreadableAnswerError) or (status is not None and status not in _NOT_OF_A_DOCUMENT)


def _refused_all(error: CrdtdbError) -> Callable[[list[Any]], list[Refusal]]:
    """Return what refuses documents with their revisions, for what their source answered."""
    return lambda items: [Refusal(doc_id, rev, "unreadable", str(error)) for doc_id, revs in items for rev in revs]
