"""The replications of a node: those that somebody asks for, and those that `system.replicator` describes.

A described one is run by one node of the cluster: whoever holds its lock. If that node goes, another goes on from the
checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup

from crdtdb.canonical_json import canonical, load
from crdtdb.clock import iso, wall_milliseconds
from crdtdb.couchdb.replication import Endpoint, Peer, PeerError, Progress, Replication, StreamingASGITransport
from crdtdb.couchdb.replication.spec import check_described, check_spec, wanted_by, without_secrets
from crdtdb.database import Database
from crdtdb.database.system_collection import SystemCollection
from crdtdb.database.validation import check_name
from crdtdb.documents import NO_BODY
from crdtdb.errors import ConflictError, CrdtdbError, LockError, NotFoundError, UnavailableError
from crdtdb.security import REPLICATOR, Principal
from crdtdb.security.tls import client_context
from crdtdb.threads import COMMITS

Locked = Callable[[str], AbstractAsyncContextManager[object]]
_log = logging.getLogger("crdtdb.replications")
_LOOK_SECONDS = 1.0
_STATE = "_replication_state"
_NAMED = 5
_REASON_CHARACTERS = 2_000


class Job:
    """A replication under way."""

    def __init__(self, spec: Mapping[str, Any], named: str | None = None) -> None:
        self.spec, self.named = spec, named
        self.progress = Progress()
        self.scope = anyio.CancelScope()
        self.id = ""
        self.state = "initializing"

    def told(self) -> dict[str, Any]:
        """Return what is said of it, without passwords."""
        hidden = without_secrets(self.spec)
        return {
            "id": self.id,
            "doc_id": self.named,
            "source": hidden.get("source"),
            "target": hidden.get("target"),
            "continuous": bool(self.spec.get("continuous")),
            "state": self.state,
            "start_time": iso(self.progress.begun) if self.progress.begun else None,
            "info": {
                **self.progress.counts(),
                "changes_pending": self.progress.changes_pending,
                "checkpointed_source_seq": self.progress.source_seq,
                "error": self.progress.waiting or _due_in(self.progress),
                "failures": self.progress.failures,
            },
        }


class Replicator:
    """Runs replications in tasks of a node."""

    def __init__(
        self,
        database: Database,
        cluster: str,
        name: str,
        app: Callable[..., Any],
        scope_of: Callable[[Principal], dict[str, Any]],
    ) -> None:
        """`cluster` and `name` identify the node. `app` is its ASGI application, the way to local databases.

        `scope_of` returns what a request's scope needs so that `app` takes it as one of that principal.
        """
        self._database, self._cluster, self._name, self._app, self._scope_of = database, cluster, name, app, scope_of
        self._kept = SystemCollection(database.store, REPLICATOR, check_described)
        self._tasks: TaskGroup | None = None
        self.jobs: dict[str, Job] = {}
        """By what they were asked for as, or by the id of what describes them."""

    # What somebody asks for

    async def replicate(self, spec: Mapping[str, Any], who: Principal) -> dict[str, Any]:
        """Replicate, and return CouchDB's answer when it is done; at once for one that is continuous, or is to be cancelled.

        Raises InvalidInputError, NotFoundError, ReplicationError, PeerError.
        """
        check_spec(spec)
        key = canonical({name: value for name, value in spec.items() if name not in ("cancel", "_id", "_rev")}).hex()
        if spec.get("cancel"):
            job = self.jobs.get(key)
            if job is None:
                raise NotFoundError("there is no such replication here")
            job.scope.cancel()
            return {"ok": True, "_local_id": job.id}
        if key in self.jobs:
            return {"ok": True, "_local_id": self.jobs[key].id}
        job = self.jobs[key] = Job(spec)
        if spec.get("continuous"):
            async with self._endpoints(spec, who) as (source, target):
                job.id = Replication(source, target, wanted_by(spec)).id
            self._group.start_soon(self._run_on, key, job, who)
            return {"ok": True, "_local_id": job.id}
        try:
            return answer_of(await self._run(job, who))
        finally:
            del self.jobs[key]

    async def _run_on(self, key: str, job: Job, who: Principal) -> None:
        """Run a continuous one until it is cancelled, or fails for good."""
        try:
            with job.scope:
                await self._run(job, who)
        except CrdtdbError as error:
            _log.error("replication %s ended: %s", job.id, error)
        finally:
            self.jobs.pop(key, None)

    async def _run(self, job: Job, who: Principal) -> Progress:
        async with self._endpoints(job.spec, who) as (source, target):
            replication = Replication(source, target, wanted_by(job.spec))
            job.id, job.progress, job.state = replication.id, replication.progress, "running"
            _log.info("replication %s: %s to %s", job.id, source.name, target.name)
            return await replication.run()

    @property
    def _group(self) -> TaskGroup:
        if self._tasks is None:
            raise UnavailableError("the node is starting, or about to end")
        return self._tasks

    @asynccontextmanager
    async def _endpoints(self, spec: Mapping[str, Any], who: Principal) -> AsyncIterator[tuple[Endpoint, Endpoint]]:
        async with AsyncExitStack() as stack:
            source = await stack.enter_async_context(Endpoint(self._peer(spec["source"], who)))
            target = await stack.enter_async_context(Endpoint(self._peer(spec["target"], who)))
            yield source, target

    def _peer(self, given: Any, who: Principal) -> Peer:
        said: Mapping[str, Any] = {"url": given} if isinstance(given, str) else given
        url, tls, auth = said["url"], said.get("tls"), (said.get("auth") or {}).get("basic")
        if "://" not in url:
            name = check_name(url)
            inside = StreamingASGITransport(self._app, self._group, self._scope_of(who))
            return Peer(
                f"https://{self._name}/{name.replace('/', '%2F')}", transport=inside, identity=f"{self._cluster}/{name}"
            )
        peer = Peer.of(url, headers=said.get("headers") or {})
        if auth is not None:
            peer = peer._replace(auth=(auth["username"], auth["password"]))
        if tls is not None:
            peer = peer._replace(verify=client_context(tls.get("ca"), tls.get("cert"), tls.get("key")))
        return peer

    # What is described

    def documents(self) -> dict[str, dict[str, Any]]:
        """Return what describes replications, by its ids, without passwords."""
        return {
            doc_id: {"_id": doc_id, "_rev": str(winner.rev), **without_secrets(load(winner.text or NO_BODY))}
            for doc_id, winner in ((doc_id, shown.siblings[0]) for doc_id, shown in self._kept.views())
        }

    def put(self, doc_id: str, spec: Mapping[str, Any]) -> str:
        """Describe a replication, or describe it anew; return its revision. Raises InvalidInputError, ConflictError."""
        check_spec(spec)
        known = self.documents().get(doc_id)
        if (known["_rev"] if known is not None else None) != spec.get("_rev"):
            raise ConflictError(doc_id, spec.get("_rev"), (known["_rev"],) if known is not None else ())
        self._kept.say(doc_id, {key: value for key, value in spec.items() if not key.startswith("_")})
        return self._database.collection(REPLICATOR).get(doc_id).rev

    def delete(self, doc_id: str, rev: str | None) -> None:
        """Describe one no more: it ends. Raises NotFoundError, ConflictError."""
        known = self.documents().get(doc_id)
        if known is None:
            raise NotFoundError(f"there is no replication {doc_id!r}")
        if known["_rev"] != rev:
            raise ConflictError(doc_id, rev, (known["_rev"],))
        self._kept.delete(doc_id)

    async def run(self, locked: Locked) -> None:
        """Run what is described, for as long as the node does. `locked` gives a lock of the cluster, or raises LockError."""
        running: dict[str, tuple[dict[str, Any], anyio.CancelScope]] = {}
        who = Principal("replicator", "certificate", admin=True)
        async with anyio.create_task_group() as self._tasks:
            while True:
                if self._kept.changed():
                    wanted = {doc_id: body for doc_id, body in self._kept.bodies() if _STATE not in body}
                    for doc_id, (body, scope) in list(running.items()):
                        if wanted.get(doc_id) != body:
                            scope.cancel()
                            del running[doc_id]
                    for doc_id, body in wanted.items():
                        if doc_id not in running:
                            running[doc_id] = body, anyio.CancelScope()
                            self._tasks.start_soon(self._described, doc_id, *running[doc_id], who, locked)
                await anyio.sleep(_LOOK_SECONDS)

    async def _described(
        self, doc_id: str, spec: dict[str, Any], scope: anyio.CancelScope, who: Principal, locked: Locked
    ) -> None:
        """Run one that is described, whenever this node is the one to do it, until it is done."""
        with scope:
            while True:
                job = Job(spec, doc_id)
                try:
                    async with locked(f"replicator/{doc_id}"):
                        if self._kept_as(doc_id) != spec:
                            return  # another node has done it, or it was described anew
                        self.jobs[doc_id] = job
                        state = _state_of(await self._run(job, who))
                except (LockError, UnavailableError):
                    await anyio.sleep(_LOOK_SECONDS)  # another node runs it, or this one can't now
                    continue
                except PeerError as error:
                    _log.warning("replication %r begins again: %s", doc_id, error)
                    await anyio.sleep(_LOOK_SECONDS)
                    continue
                except CrdtdbError as error:
                    _log.error("replication %r failed: %s", doc_id, error)
                    state = {_STATE: "failed", "_replication_state_reason": str(error)}
                finally:
                    self.jobs.pop(doc_id, None)
                state["_replication_state_time"] = iso(wall_milliseconds())
                await COMMITS.run(self._kept.say, doc_id, {**spec, **state})
                return

    def _kept_as(self, doc_id: str) -> dict[str, Any] | None:
        return next((body for one, body in self._kept.bodies() if one == doc_id), None)


def _due_in(progress: Progress) -> str | None:
    """Return how many revisions couldn't be brought, and the first of them, None if all came."""
    if not progress.doc_write_failures:
        return None
    first = ", ".join(f"{one['id']} at {one['rev']} ({one['reason']})" for one in progress.failures[:_NAMED])
    return f"{progress.doc_write_failures:,} revisions couldn't be brought and stay due: {first}"[:_REASON_CHARACTERS]


def _state_of(progress: Progress) -> dict[str, Any]:
    """Return the state of a described replication that has ended: it failed if anything is due."""
    due = _due_in(progress)
    if due is None:
        return {_STATE: "completed", "_replication_stats": progress.counts()}
    stats = {**progress.counts(), "failures": progress.failures}
    return {_STATE: "failed", "_replication_state_reason": due, "_replication_stats": stats}


def answer_of(progress: Progress) -> dict[str, Any]:
    """Return what CouchDB answers when a replication is done."""
    return {
        "ok": True,
        "session_id": progress.session,
        "source_last_seq": progress.source_seq,
        "replication_id_version": 4,
        "history": [{"session_id": progress.session, "end_last_seq": progress.source_seq, **progress.counts()}],
        **({"failures": progress.failures} if progress.failures else {}),
    }
