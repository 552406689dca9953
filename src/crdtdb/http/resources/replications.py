"""/_replicate, /_replicator and /_scheduler/jobs: moving documents from and to other databases, of CouchDB too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from starlette.requests import Request
from starlette.routing import Route

from crdtdb.couchdb import CouchError
from crdtdb.errors import UnavailableError
from crdtdb.http.context import drawn_id, ready
from crdtdb.http.json_io import JSONAnswer, read_object
from crdtdb.http.paths import part
from crdtdb.http.permissions import who_in
from crdtdb.security import Principal
from crdtdb.threads import COMMITS, READS


class JobPort(Protocol):
    """A replication under way."""

    def told(self) -> dict[str, Any]:
        """Return what is said of it."""


class ReplicatorPort(Protocol):
    """What runs replications."""

    @property
    def jobs(self) -> Mapping[str, JobPort]:
        """Those that are under way here."""

    async def replicate(self, spec: Mapping[str, Any], who: Principal) -> dict[str, Any]:
        """Replicate, and return what is to be answered."""

    def documents(self) -> dict[str, dict[str, Any]]:
        """Return those that are described."""

    def put(self, doc_id: str, spec: Mapping[str, Any]) -> str:
        """Describe one; return its revision."""

    def delete(self, doc_id: str, rev: str | None) -> None:
        """Describe one no more."""


def _replicator(request: Request) -> ReplicatorPort:
    found: ReplicatorPort | None = request.app.state.replicator
    if found is None:
        raise UnavailableError("this application runs no replications: a node does")
    return found


async def replicate(request: Request) -> JSONAnswer:
    """POST /_replicate : bring to a target what a source has; answered when it is done, or begun if it is continuous."""
    spec, replicator = await read_object(request), _replicator(request)
    ready(request)
    answer = await replicator.replicate(spec, who_in(request))
    return JSONAnswer(answer, 202 if "_local_id" in answer else 200)


async def jobs(request: Request) -> JSONAnswer:
    """GET /_scheduler/jobs : the replications that are under way at this node, and how far they are."""
    found = [one.told() for one in _replicator(request).jobs.values()]
    return JSONAnswer({"total_rows": len(found), "offset": 0, "jobs": found})


async def tasks(request: Request) -> JSONAnswer:
    """GET /_active_tasks : what is under way at this node: its replications."""
    return JSONAnswer([{"type": "replication", **one.told()} for one in _replicator(request).jobs.values()])


async def described(request: Request) -> JSONAnswer:
    """GET /_replicator : the replications that are described, of which each is run by one node."""
    found = await READS.run(_replicator(request).documents)
    return JSONAnswer({"total_rows": len(found), "docs": list(found.values())})


async def get(request: Request) -> JSONAnswer:
    """GET /_replicator/{id} : one of them, with its state if it is done."""
    found = (await READS.run(_replicator(request).documents)).get(part(request, "id"))
    if found is None:
        raise CouchError(404, "not_found", "missing")
    return JSONAnswer(found)


async def put(request: Request) -> JSONAnswer:
    """PUT /_replicator/{id}, or POST /_replicator : describe one, or replace its description: then it begins again."""
    spec, replicator = await read_object(request), _replicator(request)
    ready(request)
    doc_id = part(request, "id") if "id" in request.path_params else str(spec.get("_id") or drawn_id())
    rev = await COMMITS.run(replicator.put, doc_id, spec)
    return JSONAnswer({"ok": True, "id": doc_id, "rev": rev}, 201)


async def delete(request: Request) -> JSONAnswer:
    """DELETE /_replicator/{id}?rev= : describe one no more: it ends."""
    ready(request)
    await COMMITS.run(_replicator(request).delete, part(request, "id"), request.query_params.get("rev"))
    return JSONAnswer({"ok": True, "id": part(request, "id")})


ROUTES = [
    Route("/_replicate", replicate, methods=["POST"]),
    Route("/_scheduler/jobs", jobs, methods=["GET"]),
    Route("/_active_tasks", tasks, methods=["GET"]),
    Route("/_replicator", described, methods=["GET"]),
    Route("/_replicator", put, methods=["POST"]),
    Route("/_replicator/{id}", get, methods=["GET"]),
    Route("/_replicator/{id}", put, methods=["PUT"]),
    Route("/_replicator/{id}", delete, methods=["DELETE"]),
]
