"""The database for services on anyio: asyncio and trio.

async with crdtdb.aio.open("./data") as db:
    notes = db.collection("notes")
    await notes.put("a", {"title": "x"})

Reads run where they are called: LevelDB answers in microseconds. Writes wait for a disk, so they run in a worker thread, and
those of tasks that write at the same time share one commit, and one fsync.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Some
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from anyio import lowlevel

from crdtdb import database, forks
from crdtdb.aio.group_commit import LoopGroupCommits
from crdtdb.database.collection import Collection as Blocking
from crdtdb.database.commands import Command
from crdtdb.database.document import Change, Document, Revision, Seen, Sibling
from crdtdb.database.editing import DocumentEdit
from crdtdb.database.feeds.watch import KINDS, Notice, Pattern, Watch
from crdtdb.database.queries.cursor import QueryCursor
from crdtdb.database.queries.indexes import IndexInfo
from crdtdb.database.queries.update_many import Change as Wanted
from crdtdb.database.queries.update_many import ChangedMany
from crdtdb.database.resolution import Choice
from crdtdb.database.resolvers import Resolver
from crdtdb.errors import CrdtdbError, StoreClosedError
from crdtdb.store import Durability
from crdtdb.threads import ATTACHMENTS, COMMITS, QUERIES, WAITING

_T = TypeVar("_T")
_Event = TypeVar("_Event", covariant=True)
_WAIT_SECONDS = 0.5


class Collection:
    """As `crdtdb.database.collection.Collection`, with writes to await."""

    def __init__(self, blocking: Blocking, commits: LoopGroupCommits | None = None) -> None:
        """Use `Database.collection`. The collections of a database share its `commits`."""
        self.blocking = blocking
        self._commits = commits or LoopGroupCommits(blocking.store)
        self.name = blocking.name
        forks.own(self)

    async def put(self, doc_id: str, body: Mapping[str, Any], rev: str | None = None) -> Document:
        """Write a document and return it. Raises ConflictError and what bad input raises."""
        return await self._write(self.blocking.commands.put(doc_id, body, rev))

    async def delete(self, doc_id: str, rev: str | None = None) -> Document:
        """Delete one sibling. Raises ConflictError, NotFoundError."""
        return await self._write(self.blocking.commands.delete(doc_id, rev))

    async def upsert(
        self, doc_id: str, change: Callable[[dict[str, Any]], Mapping[str, Any] | None]
    ) -> Document | None:
        """Replace a document by what `change`, called in a worker thread, makes of it."""
        return await COMMITS.run(self.blocking.upsert, doc_id, change)

    async def put_if_absent(self, doc_id: str, body: Mapping[str, Any]) -> Document:
        """Write a document unless there is one; return the one that is there now."""
        return await self._write(self.blocking.commands.put_if_absent(doc_id, body))

    async def resolve(
        self,
        doc_id: str,
        body: Mapping[str, Any] | Choice,
        rev: str | None = None,
        *,
        seen: Seen | None = None,
    ) -> Document:
        """As `Collection.resolve`; a function is called in a worker thread."""
        return await COMMITS.run(partial(self.blocking.resolve, doc_id, body, rev, seen=seen))

    async def attach(
        self,
        doc_id: str,
        name: str,
        data: bytes,
        content_type: str = "application/octet-stream",
        rev: str | None = None,
    ) -> Document:
        """As `Collection.attach`."""
        return await self._write(self.blocking.commands.attach(doc_id, name, data, content_type, rev))

    async def detach(self, doc_id: str, name: str, rev: str | None = None) -> Document:
        """As `Collection.detach`."""
        return await self._write(self.blocking.commands.detach(doc_id, name, rev))

    async def attachment(self, doc_id: str, name: str, rev: str | None = None) -> bytes:
        """As `Collection.attachment`."""
        return await ATTACHMENTS.run(self.blocking.attachment, doc_id, name, rev)

    async def bulk(self, documents: Iterable[Mapping[str, Any]]) -> list[Document | CrdtdbError]:
        """Write many documents in one commit; each has its own result."""
        return await COMMITS.run(self.blocking.bulk, list(documents))

    async def _write(self, command: Command) -> Document:
        """Commit a command together with those of other tasks."""
        written = await self._commits.here().submit(command.apply)
        if self.blocking.grown:
            await COMMITS.run(self.blocking.fold)
        return self.blocking.written(command, written)

    @asynccontextmanager
    async def edit(self, doc_id: str, rev: str | None = None) -> AsyncIterator[DocumentEdit]:
        """Edit a document: what is done in the `async with` block is one commit at its end. Raises as the blocking one does."""
        editing = self.blocking.edit(doc_id, rev)
        steps = editing.__enter__()
        try:
            yield steps
        except BaseException as error:
            if not editing.__exit__(type(error), error, error.__traceback__):
                raise
        else:
            await COMMITS.run(editing.__exit__, None, None, None)

    async def declare(self, schema: Mapping[str, Any], *, replace: bool = False) -> dict[str, Any]:
        """Say which fields the documents have. Raises SchemaError."""
        return await COMMITS.run(partial(self.blocking.declare, schema, replace=replace))

    async def why(self, doc_id: str) -> dict[str, Any]:
        """Explain a document. Raises NotFoundError."""
        return self.blocking.why(doc_id)

    async def get(
        self, doc_id: str, rev: str | None = None, *, conflicts: bool = False, crdt: bool = False
    ) -> Document:
        """Return a document. Raises NotFoundError."""
        return self.blocking.get(doc_id, rev, conflicts=conflicts, crdt=crdt)

    async def siblings(self, doc_id: str) -> list[Sibling]:
        """Return all bodies that a document has. Raises NotFoundError."""
        return self.blocking.siblings(doc_id)

    async def history(self, doc_id: str) -> list[Revision]:
        """Return every known revision. Raises NotFoundError."""
        return self.blocking.history(doc_id)

    def all(
        self,
        start: str | None = None,
        end: str | None = None,
        *,
        keys: Iterable[str] | None = None,
        descending: bool = False,
        skip: int = 0,
        limit: int | None = None,
        inclusive_end: bool = True,
    ) -> AsyncIterator[Document]:
        """Yield documents in the order of their ids."""
        documents = self.blocking.all(
            start,
            end,
            keys=keys,
            descending=descending,
            skip=skip,
            limit=limit,
            inclusive_end=inclusive_end,
        )
        return _Steps(documents)

    def find(self, selector: Mapping[str, Any], **options: Any) -> _Found:
        """Find the documents that a selector means, as `crdtdb.Collection.find` does, by `async for`."""
        return _Found(self.blocking.find(selector, **options))

    def explain(self, selector: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """Return how `find` would answer."""
        return self.blocking.explain(selector, **options)

    async def create_index(self, fields: Sequence[str | Mapping[str, str]], **options: Any) -> IndexInfo:
        """Make an index unless there is one, and build it. Raises InvalidInputError."""
        return await COMMITS.run(partial(self.blocking.create_index, fields, **options))

    def indexes(self) -> list[IndexInfo]:
        """Return the indexes."""
        return self.blocking.indexes()

    async def drop_index(self, ddoc: str, name: str) -> None:
        """Drop an index. Raises NotFoundError."""
        await COMMITS.run(self.blocking.drop_index, ddoc, name)

    async def patch(self, doc_id: str, patch: Mapping[str, Any], rev: str | None = None) -> Document:
        """Change some values of a document. Raises NotFoundError, ConflictError."""
        return await self._write(self.blocking.commands.patch(doc_id, patch, rev))

    async def update_many(self, selector: Mapping[str, Any], change: Wanted, **options: Any) -> ChangedMany:
        """Change what a selector means, as `crdtdb.Collection.update_many` does."""
        return await COMMITS.run(partial(self.blocking.update_many, selector, change, **options))

    async def delete_many(self, selector: Mapping[str, Any], **options: Any) -> ChangedMany:
        """Delete what a selector means, as `crdtdb.Collection.delete_many` does."""
        return await COMMITS.run(partial(self.blocking.delete_many, selector, **options))

    def changes(
        self,
        since: int = 0,
        *,
        live: bool = False,
        ids: Some[str] | None = None,
        where: Callable[[Document], bool] | None = None,
    ) -> AsyncIterator[Change]:
        """Yield the changes after `since`; with `live` wait for more, until cancelled or the database is closed."""
        return _FeedIterator(self.blocking.feed(since, ids=ids, where=where), live)

    def watch(self, ids: str = "*", kinds: Iterable[str] = KINDS, since: str | None = None) -> _Notices:
        """Follow what changes in this collection, as `crdtdb.Collection.watch` does, by `async for`."""
        return _Notices(self.blocking.watch(ids, kinds, since))


class _Steps(AsyncIterator[_T]):
    """An iterator for `async for`, which may be abandoned at any point, unlike an async generator."""

    def __init__(self, steps: Iterator[_T]) -> None:
        self._steps = steps
        forks.own(self)

    async def __anext__(self) -> _T:
        await lowlevel.checkpoint()
        for step in self._steps:
            return step
        raise StopAsyncIteration


class _Found(AsyncIterator[Document]):
    """The documents of a query, each read in a worker thread: a query without an index may read for long."""

    def __init__(self, finder: QueryCursor) -> None:
        self._finder, self._found = finder, iter(finder)
        forks.own(self)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Advice on how the query could be faster."""
        return self._finder.warnings

    @property
    def bookmark(self) -> str | None:
        """The `bookmark` for a query that continues after the last document."""
        return self._finder.bookmark

    async def __anext__(self) -> Document:
        found = await QUERIES.run(next, self._found, None)
        if found is None:
            raise StopAsyncIteration
        return found


class _Feed(Protocol[_Event]):
    """A feed: `crdtdb.database.feeds.changes.Feed` or `crdtdb.database.feeds.watch.Watch`."""

    def poll(self) -> Iterator[_Event]: ...

    def wait(self, timeout: float | None) -> bool: ...


class _FeedIterator(AsyncIterator[_T]):
    def __init__(self, source: _Feed[_T], live: bool) -> None:
        self._source, self._live = source, live
        self._events: Iterator[_T] = source.poll()
        forks.own(self)

    async def __anext__(self) -> _T:
        await lowlevel.checkpoint()
        while True:
            for event in self._events:
                return event
            if not self._live:
                raise StopAsyncIteration
            try:
                # A thread that waits can't be cancelled, so it looks up twice a second.
                while not await WAITING.run(self._source.wait, _WAIT_SECONDS, abandon_on_cancel=True):
                    pass
            except StoreClosedError:
                raise StopAsyncIteration from None
            self._events = self._source.poll()


class _Notices(_FeedIterator[Notice]):
    def __init__(self, watch: Watch) -> None:
        super().__init__(watch, live=True)
        self._watch = watch

    @property
    def place(self) -> str:
        """The place behind the last notice that was read, as text."""
        return self._watch.place


class Database:
    """As `crdtdb.Database`, with writes to await."""

    def __init__(self, blocking: database.Database) -> None:
        """Use `open`; or give a database that is open, which leaving the `async with` closes."""
        self.blocking = blocking
        self._commits = LoopGroupCommits(blocking.store)
        forks.own(self)

    def collection(self, name: str) -> Collection:
        """Return a collection, which its first write creates. Raises InvalidIdError."""
        return Collection(self.blocking.collection(name), self._commits)

    async def set_resolver(self, name: str, resolver: str | Resolver) -> None:
        """Resolve a collection's conflicts from now on, those that are there first."""
        await COMMITS.run(partial(self.blocking.collection, name, resolver=resolver))

    def collections(self) -> list[str]:
        """Return the names of the collections."""
        return self.blocking.collections()

    def watch(self, *patterns: Pattern | Mapping[str, Any], since: str | None = None) -> _Notices:
        """Follow what changes in any collection, as `crdtdb.Database.watch` does, by `async for`."""
        return _Notices(self.blocking.watch(*patterns, since=since))

    async def create(self, name: str) -> bool:
        """Make an empty collection; return whether it wasn't there."""
        return await COMMITS.run(self.blocking.create, name)

    async def drop(self, name: str) -> None:
        """Drop a collection. Raises NotFoundError."""
        await COMMITS.run(self.blocking.drop, name)

    async def aclose(self) -> None:
        """Finish the commits under way, and close."""
        await COMMITS.run(self.blocking.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.blocking.close()


def open(url: str, *, durability: Durability = "sync") -> Database:  # noqa: A001 - as crdtdb.open
    """Open a database as `crdtdb.open` does, for use in `async with`."""
    return Database(database.open(url, durability=durability))


async def sync(one: Database, other: Database) -> database.Synced:
    """Exchange what either of two databases in this process lacks."""
    return await COMMITS.run(database.sync, one.blocking, other.blocking)
