"""The embedded database: collections over one store.

with crdtdb.open("./data") as db:
    notes = db.collection("notes")
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from crdtdb import forks
from crdtdb.database.collection import Collection
from crdtdb.database.feeds.watch import Pattern, Watch
from crdtdb.database.resolvers import Resolver, resolver_named
from crdtdb.database.sync import synchronize
from crdtdb.database.validation import check_name
from crdtdb.errors import InvalidInputError
from crdtdb.store import SYSTEM, Durability, Store


class Database:
    """All collections of one store. Safe to use from any number of threads."""

    def __init__(self, store: Store) -> None:
        """Use `crdtdb.open`; or give a store that is open, which `close` will close."""
        self.store = store
        self._resolvers: dict[str, Resolver] = {}
        self._settled: dict[str, int] = {}
        self.compacting: set[str] = set()
        """The names of the collections that are being compacted."""
        forks.own(self)
        self.sweep()

    def collection(
        self, name: str, *, schema: Mapping[str, Any] | None = None, resolver: str | Resolver | None = None
    ) -> Collection:
        """Return a collection, which its first write makes.

        `schema` declares which fields its documents have, as `Collection.declare` does: `{"likes": crdtdb.Counter}`.
        `resolver` resolves its conflicts from now on, as soon as `settle` or a sync sees them: "last_write_wins",
        "first_write_wins", "three_way_merge", or a function of a `Conflict`. Give the same on every node. Raises
        InvalidIdError, InvalidInputError; SchemaError if the schema contradicts what is declared.
        """
        collection = Collection(self.store, name)
        if schema is not None:
            collection.declare(schema)
        if resolver is not None:
            self._resolvers[name] = resolver_named(resolver)
            self._settled[name] = 0
            self.settle()
        return collection

    def __getitem__(self, name: str) -> Collection:
        return self.collection(name)

    def __contains__(self, name: object) -> bool:
        return name in self.store.root.names

    def collections(self, *, system: bool = False) -> list[str]:
        """Return the names of the collections; with `system` also of those that the database keeps of itself."""
        return sorted(name for name in self.store.root.names if system or not name.startswith(SYSTEM))

    def watch(self, *patterns: Pattern | Mapping[str, Any], since: str | None = None) -> Watch:
        """Follow what changes in any collection: iterate over the `Notice`s, which wait for what is to come.

        Without patterns everything is meant. A pattern is `{"collection": "orders-*", "id": "2026-*", "kinds": ["created"]}`,
        each part optional. `since` is the `place` of an earlier watch, "0" for the beginning, None for now. Raises
        InvalidInputError.
        """
        wanted = [one if isinstance(one, Pattern) else Pattern.of(one) for one in patterns]
        return Watch(self.store, wanted or [Pattern()], since)

    def create(self, name: str) -> bool:
        """Make an empty collection; return whether it wasn't there."""
        check_name(name)
        return self.store.submit(lambda transaction: transaction.ledger.create(name))

    def drop(self, name: str) -> None:
        """Drop a collection with all its documents, here and, by replication, everywhere.

        What others write to it at the same time is dropped too; a collection made anew elsewhere at the same time stays.
        Raises NotFoundError.
        """
        check_name(name)
        self.store.submit(lambda transaction: transaction.ledger.drop(name))
        self.sweep()

    def compact(self, name: str) -> None:
        """Let go of the values of a collection's replaced revisions, and of attachments that nothing else has.

        What goes can't be read by its revision any more, here; names, history and everything that shows stay. Other nodes
        keep what they have. Raises NotFoundError.
        """
        check_name(name)
        self.store.collection(name)
        if name in self.compacting:
            return
        self.compacting.add(name)
        try:
            self.store.collector.compact(name)
            self.store.collector.reclaim()
        finally:
            self.compacting.discard(name)

    def sweep(self) -> None:
        """Remove from the store all that dropped collections left behind."""
        while self.store.sweeper.sweep():
            pass

    def settle(self) -> int:
        """Let the resolvers have the conflicts that came since the last time; return how many they resolved."""
        settled = 0
        for name, resolver in list(self._resolvers.items()):
            collection = Collection(self.store, name)
            last = collection.last_seq
            if last != self._settled.get(name, 0):
                since = self._settled[name] if self._settled[name] < last else 0
                settled += collection.settle(resolver, since)
                self._settled[name] = last
        return settled

    def close(self) -> None:
        """Finish the commits under way, and close. Closing twice does no harm."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open(url: str, *, durability: Durability = "sync") -> Database:  # noqa: A001 - crdtdb.open, as in gzip and shelve
    """Open the database that a path or URL names, or make it.

    A path is a LevelDB directory; "memory:" keeps nothing; "sqlite:FILE" is one file. A write is acknowledged when it would
    outlive a loss of power (durability "sync"), or only the end of the process ("buffered"). Raises StoreLockedError,
    StoreFormatError, StoreCorruptedError, StorePermissionError, StoreFullError, BackendMissingError, InvalidInputError.
    """
    if not isinstance(url, str) or not url:
        raise InvalidInputError(f"a database is opened by a path or URL, such as './data' or 'memory:', not {url!r}")
    store = Store.open(url, durability)
    try:
        return Database(store)
    except BaseException:
        store.close()
        raise


class _Moved(NamedTuple):
    pulled: int
    pushed: int


class Synced(_Moved):
    """How many documents went each way: a pair, with what was put right on the way as attributes.

    `renamed` counts the sessions of which one side renamed its writes, since a database was put back from a backup and written
    again; `new_actors` the databases that write under a new actor since then; `mended` names the documents, as `collection/id`,
    that differed though both sides had heard of all.
    """

    renamed: int
    new_actors: int
    mended: tuple[str, ...]

    def __new__(
        cls, pulled: int, pushed: int, renamed: int = 0, new_actors: int = 0, mended: tuple[str, ...] = ()
    ) -> Self:
        """Make one: two that moved as many documents each way are equal, whatever was put right."""
        made = super().__new__(cls, pulled, pushed)
        made.renamed, made.new_actors, made.mended = renamed, new_actors, mended
        return made

    def __repr__(self) -> str:
        return (
            f"Synced(pulled={self.pulled}, pushed={self.pushed}, renamed={self.renamed}, new_actors={self.new_actors}, "
            f"mended={self.mended})"
        )


def sync(one: Database, other: Database) -> Synced:
    """Exchange what either of two databases in this process lacks. Afterwards they hold the same.

    Raises InvalidInputError for a database and itself, ConvergenceError if they can't be made equal: one of them is damaged.
    """
    if one.store is other.store:
        raise InvalidInputError("a database can't be synced with itself: give two")
    done = synchronize(one.store, other.store)
    for database in (one, other):
        database.sweep()
        database.settle()
    return Synced(*done)
