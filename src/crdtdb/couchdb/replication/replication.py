"""One replication: what a source has and a target lacks is brought there, and a checkpoint at both says how far that is.

The protocol and the form of checkpoints are CouchDB's. Source: "CouchDB Replication Protocol", version 3, in the documentation
of Apache CouchDB.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any

import anyio

from crdtdb.canonical_json import canonical, dump
from crdtdb.clock import http_date, monotonic_seconds, wall_milliseconds
from crdtdb.couchdb.replication.due import Due, Refusal
from crdtdb.couchdb.replication.endpoint import Endpoint
from crdtdb.couchdb.replication.errors import PeerError, ReplacedDatabaseError, ReplicationError
from crdtdb.couchdb.replication.transfer import Transfer
from crdtdb.errors import InvalidInputError

_log = logging.getLogger("crdtdb.replications")
_BATCH_CHANGES = 200
_CHECKPOINT_SECONDS = 5.0
_HISTORY = 50
_VERSION = 4
_TRIES = 8
_NOT_FOUND, _CONFLICT = 404, 409
_WAIT_SECONDS, _WAIT_SECONDS_MAX = 0.25, 60.0
_DUE_SECONDS, _DUE_SECONDS_MAX = 30.0, 900.0
"""When a continuous replication tries again what couldn't be brought: each time after twice as long."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be replicated. At most one of `doc_ids`, `selector` and `filter`."""

    continuous: bool = False
    create_target: bool = False
    doc_ids: tuple[str, ...] | None = None
    selector: Mapping[str, Any] | None = None
    filter: str | None = None
    """A function of a design document of the source, as DESIGN/NAME."""
    query_params: Mapping[str, Any] = field(default_factory=dict)
    since_seq: Any = None
    """Begin behind this seq of the source, whatever a checkpoint says."""

    def __post_init__(self) -> None:
        """Check it. Raises InvalidInputError."""
        if sum(one is not None for one in (self.doc_ids, self.selector, self.filter)) > 1:
            raise InvalidInputError("a replication has one of `doc_ids`, `selector` and `filter`, and not several")

    def filtered(self) -> dict[str, Any]:
        """Return what is asked of the changes feed beside where to begin."""
        if self.doc_ids is not None:
            return {"query": {"filter": "_doc_ids"}, "body": {"doc_ids": list(self.doc_ids)}}
        if self.selector is not None:
            return {"query": {"filter": "_selector"}, "body": {"selector": self.selector}}
        if self.filter is not None:
            given = {
                key: value if isinstance(value, str) else dump(value).decode()
                for key, value in self.query_params.items()
            }
            return {"query": {"filter": self.filter, **given}}
        return {}


@dataclass
class Progress:
    """How far a replication has come, for whoever watches it. `changes_pending` is what the source says, None if nothing."""

    session: str = ""
    begun: int = 0
    source_seq: Any = 0
    changes_read: int = 0
    changes_pending: int | None = None
    missing_checked: int = 0
    missing_found: int = 0
    docs_read: int = 0
    docs_written: int = 0
    doc_write_failures: int = 0
    """How many revisions couldn't be brought, and are due."""
    failures: list[dict[str, Any]] = field(default_factory=list)
    """The first of them, at most a hundred."""
    waiting: str | None = None
    """Why it tries again, None while all goes well."""

    def counts(self) -> dict[str, Any]:
        """Return the counts as CouchDB names them."""
        return {
            "missing_checked": self.missing_checked,
            "missing_found": self.missing_found,
            "docs_read": self.docs_read,
            "docs_written": self.docs_written,
            "doc_write_failures": self.doc_write_failures,
        }


class Replication:
    """From one database to another. It is run once; cancelling it leaves a checkpoint from which another goes on."""

    def __init__(
        self,
        source: Endpoint,
        target: Endpoint,
        wanted: Wanted,
        watch: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """`watch` is called whenever there is progress."""
        self._source, self._target, self._wanted, self._watch = source, target, wanted, watch
        self.progress = Progress(session=os.urandom(16).hex())
        self._since: Any = 0
        self._recorded: Any = 0
        self._recorded_mark = (0, 0)
        self._logs: dict[Endpoint, dict[str, Any]] = {}
        self._lives: dict[Endpoint, Any] = {}
        self._checkpointed_at = monotonic_seconds()
        self._transfer = Transfer(source, target, self._count)
        self._due = Due()
        self._due_wait, self._due_at = _DUE_SECONDS, 0.0

    @property
    def id(self) -> str:
        """The name of its checkpoints: the same for whoever replicates the same between the same."""
        said = [self._source.identity, self._target.identity, self._wanted.filtered(), self._wanted.continuous]
        return md5(canonical(said), usedforsecurity=False).hexdigest()

    async def run(self) -> Progress:
        """Replicate what there is; a continuous one goes on until it is cancelled.

        What a database doesn't answer is tried again, longer and longer apart. Raises ReplicationError, and PeerError when a
        replication that isn't continuous has tried often enough.
        """
        self.progress.begun = wall_milliseconds()
        await self._patiently(self._begin)
        while True:
            try:
                if await self._step():
                    return self.progress
            except ReplacedDatabaseError as error:
                if not self._wanted.continuous:
                    raise ReplicationError(str(error)) from error
                _log.warning("replication %s begins again: %s", self.id, error)
                await self._patiently(self._begin)

    async def _step(self) -> bool:
        """Bring over some changes; return whether that was all."""
        read = await self._patiently(self._batch)
        if not read and not self._wanted.continuous:
            await self._patiently(self._retry)
            await self._patiently(self._checkpoint)
            return True
        if self._wanted.continuous and self._due and monotonic_seconds() >= self._due_at:
            await self._patiently(self._retry)
        if self._wanted.continuous and self._due.only_counted:
            await self._patiently(self._checkpoint)
            await self._patiently(self._begin)
        if not read or monotonic_seconds() - self._checkpointed_at > _CHECKPOINT_SECONDS:
            await self._patiently(self._check_lives)
            await self._patiently(self._checkpoint)
        return False

    async def _patiently(self, act: Callable[[], Any]) -> Any:
        """Do something, again if a database doesn't answer."""
        wait, tries = _WAIT_SECONDS, 0
        while True:
            try:
                done = await act()
            except (PeerError, ReplicationError) as error:
                if isinstance(error, ReplicationError):
                    if error.status == _NOT_FOUND and self._lives and act != self._begin:
                        raise ReplacedDatabaseError(str(error)) from error
                    if not (error.status == _NOT_FOUND and self._lives and self._wanted.continuous):
                        raise
                tries += 1
                if tries >= _TRIES and not self._wanted.continuous:
                    raise
                if self.progress.waiting is None:
                    _log.warning("replication %s waits: %s", self.id, error)
                self.progress.waiting = str(error)
                self._watch(self.progress)
                await anyio.sleep(wait)
                wait = min(wait * 2, _WAIT_SECONDS_MAX)
            else:
                self.progress.waiting = None
                return done

    async def _begin(self) -> None:
        lives = {self._source: await self._source.information(), self._target: await self._target.information()}
        if lives[self._source] is None:
            raise ReplicationError(f"there is no database {self._source.name}", _NOT_FOUND)
        if lives[self._target] is None:
            if not self._wanted.create_target:
                raise ReplicationError(
                    f"there is no database {self._target.name}: make it, or let it be made", _NOT_FOUND
                )
            await self._target.create()
            lives[self._target] = await self._target.information()
        for one in (self._source, self._target):
            self._logs[one] = await one.local(self.id) or {}
        common = common_seq(self._logs[self._source], self._logs[self._target])
        self._since = self._wanted.since_seq if self._wanted.since_seq is not None else common
        self._recorded, self._due = common, Due()
        self._lives = {one: _life(told) for one, told in lives.items()}
        self.progress.source_seq, self.progress.changes_pending = self._since, None

    async def _check_lives(self) -> None:
        """Raise ReplacedDatabaseError if a database isn't the one any more with which it began."""
        for one, life in self._lives.items():
            lost = "_rev" in self._logs[one] and await one.local(self.id) is None
            if lost or _life(await one.information()) != life:
                raise ReplacedDatabaseError(f"{one.name} was dropped, or made again")

    async def _batch(self) -> int:
        """Bring over some changes; return how many there were. After a failure the same are read again."""
        wait = self._wanted.continuous and self.progress.changes_pending == 0
        found = await self._source.changes(self._since, _BATCH_CHANGES, wait, self._wanted.filtered())
        rows = found["results"]
        pending = found.get("pending")
        revs = {
            row["id"]: [one["rev"] for one in row["changes"]] for row in rows if not row["id"].startswith("_local/")
        }
        lacking = await self._target.lacking(revs)
        refused = await self._transfer.bring({doc_id: one["missing"] for doc_id, one in lacking.items()})
        self._due.settle(revs)
        before = self._since
        for row in rows:
            self._due.add(before, [one for one in refused if one.doc_id == row["id"]])
            before = row.get("seq") or before
        self._tell(refused)
        self.progress.missing_checked += sum(map(len, revs.values()))
        self.progress.missing_found += sum(len(one["missing"]) for one in lacking.values())
        self.progress.changes_pending = 0 if pending is None and len(rows) < _BATCH_CHANGES else pending
        self.progress.changes_read += len(rows)
        self._since = self.progress.source_seq = found.get("last_seq", self._since)
        self._watch(self.progress)
        return len(rows)

    async def _retry(self) -> None:
        """Try again what is due."""
        if not self._due:
            return
        before = len(self._due)
        lacking = await self._target.lacking(self._due.revisions())
        refused = await self._transfer.bring({doc_id: one["missing"] for doc_id, one in lacking.items()})
        self._due.again(refused)
        self._due_wait = _DUE_SECONDS if len(self._due) < before else min(2 * self._due_wait, _DUE_SECONDS_MAX)
        self._due_at = monotonic_seconds() + self._due_wait
        self._tell([])

    def _count(self, read: int, written: int) -> None:
        self.progress.docs_read += read
        self.progress.docs_written += written
        self._watch(self.progress)

    def _tell(self, refused: list[Refusal]) -> None:
        """Say what couldn't be brought."""
        for one in refused:
            _log.warning("replication %s: %r at %s isn't brought: %s", self.id, one.doc_id, one.rev, one.reason)
        if refused:
            self._due_at = monotonic_seconds() + self._due_wait
        self.progress.doc_write_failures, self.progress.failures = len(self._due), self._due.listed()
        self._watch(self.progress)

    async def _checkpoint(self) -> None:
        """Say at both how far it has come, when that is durable at the target."""
        self._checkpointed_at = monotonic_seconds()
        mark, passed = (self.progress.changes_read, self._due.version), self._due.passed(self._since)
        if mark == self._recorded_mark or passed == self._recorded:
            return  # nothing came since, even if the source calls the same place by another name by now
        await self._target.commit()
        entry = {
            "session_id": self.progress.session,
            "start_time": http_date(self.progress.begun),
            "end_time": http_date(wall_milliseconds()),
            "start_last_seq": self._recorded,
            "end_last_seq": passed,
            "recorded_seq": passed,
            **self.progress.counts(),
        }
        for one in (self._target, self._source):
            await self._record(one, entry)
        self._recorded, self._recorded_mark = passed, mark

    async def _record(self, endpoint: Endpoint, entry: dict[str, Any]) -> None:
        log = self._logs[endpoint]
        history = [one for one in log.get("history", ()) if one.get("session_id") != entry["session_id"]]
        log = {
            **({"_rev": log["_rev"]} if "_rev" in log else {}),
            "_id": f"_local/{self.id}",
            "session_id": entry["session_id"],
            "source_last_seq": entry["recorded_seq"],
            "replication_id_version": _VERSION,
            "history": [entry, *history][:_HISTORY],
        }
        try:
            rev = await endpoint.put_local(self.id, log)
        except ReplicationError as error:
            if error.status != _CONFLICT:
                raise
            self._logs[endpoint] = await endpoint.local(self.id) or {}  # somebody else is at it as well
            raise PeerError(f"{endpoint.name}: another replication wrote this checkpoint") from error
        self._logs[endpoint] = {**log, "_rev": rev}


def _life(information: Mapping[str, Any] | None) -> Any:
    """Return what tells one life of a database from another, as far as its server does. None if it isn't there."""
    return None if information is None else information.get("instance_start_time")


def common_seq(source: Mapping[str, Any], target: Mapping[str, Any]) -> Any:
    """Return the seq of the source up to which two checkpoints agree, 0 if they don't."""
    if source.get("session_id") is not None and source.get("session_id") == target.get("session_id"):
        return source.get("source_last_seq", 0)
    known = {one.get("session_id"): one.get("recorded_seq", 0) for one in target.get("history", ())}
    for one in source.get("history", ()):
        if one.get("session_id") in known:
            return known[one["session_id"]]
    return 0
