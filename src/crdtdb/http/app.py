"""The ASGI application: routes from the resources, certificates checked before anything else."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from crdtdb.couchdb import RefusedError
from crdtdb.couchdb.designing import Designs
from crdtdb.database import Database
from crdtdb.errors import CrdtdbError
from crdtdb.http import (
    attachments,
    bulk,
    changes,
    conflicts,
    databases,
    documents,
    fields,
    local_documents,
    locks,
    metrics,
    notify,
    openapi,
    patches,
    queries,
    views,
)
from crdtdb.http import cluster as cluster_resource
from crdtdb.http.answers import JSONAnswer
from crdtdb.http.bell import Bell
from crdtdb.http.errors import answer_error
from crdtdb.http.gathering import Gathering
from crdtdb.http.paths import Segments
from crdtdb.http.port import PEER, ClusterPort
from crdtdb.limits import ATTACHMENT_BYTES_MAX
from crdtdb.scripting import Scripts

RESOURCES = (
    openapi,
    cluster_resource,
    metrics,
    locks,
    notify,
    databases,
    bulk,
    changes,
    queries,
    views,
    patches,
    conflicts,
    fields,
    local_documents,
    documents,
    attachments,
)
"""Those with routes, the most particular paths first: an attachment's name may contain slashes."""

_CORS_HEADERS = (
    "accept",
    "authorization",
    "content-type",
    "origin",
    "referer",
    "x-csrf-token",
    "if-match",
    "if-none-match",
    "x-lock",
)
_CORS_METHODS = ("GET", "PUT", "PATCH", "POST", "HEAD", "DELETE")


def make_app(
    database: Database,
    cluster: ClusterPort,
    *,
    cors_origins: Sequence[str] = (),
    attachment_bytes_max: int = ATTACHMENT_BYTES_MAX,
    scripts: Scripts | None = None,
) -> Starlette:
    """Return the application for a node's database.

    Pages from `cors_origins` may use it with the browser's client certificate. An attachment has at most
    `attachment_bytes_max` bytes. JavaScript of design documents runs by `scripts`, which whoever gives them closes.
    """
    app = Starlette(
        routes=[*documents.SHORTCUTS, *(route for resource in RESOURCES for route in resource.ROUTES)],
        exception_handlers={
            RefusedError: answer_error,
            CrdtdbError: answer_error,
            HTTPException: answer_error,
            Exception: answer_error,
        },
    )
    app.router.redirect_slashes = False
    app.state.database, app.state.cluster = database, cluster
    app.state.scripts = scripts if scripts is not None else Scripts()
    app.state.designs = Designs(database.store, app.state.scripts)
    app.state.gathering = Gathering(database.store)
    app.state.bell, app.state.attachment_bytes_max = Bell(database.store), attachment_bytes_max
    # The last one is the first that a request meets. A browser asks for permission without its certificate.
    app.add_middleware(Segments)
    app.add_middleware(locks.LocksChecked, locks=cluster.locks)
    app.add_middleware(_CertificatesOnly, cluster=cluster, origins=cors_origins)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_credentials=True,
            allow_methods=list(_CORS_METHODS),
            allow_headers=list(_CORS_HEADERS),
            expose_headers=["etag", "content-type", "cache-control", "accept-ranges", "location", "server"],
            max_age=600,
        )
    return app


class _CertificatesOnly:
    """Lets nobody in without a certificate of the cluster, and nobody whose certificate counts no more."""

    def __init__(self, app: ASGIApp, cluster: ClusterPort, origins: Sequence[str]) -> None:
        self._app, self._cluster, self._origins = app, cluster, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            certified = scope.get(PEER)
            why: str | None = "A client certificate of this cluster is needed: `crdtdb cert client`."
            if certified is not None:
                why = self._cluster.why_refused(certified)
            if why is not None:
                await JSONAnswer({"error": "unauthorized", "reason": why}, 401)(scope, receive, send)
                return
        if scope["type"] == "websocket" and not self._may_open(scope):
            await send(
                {"type": "websocket.close", "code": 1008, "reason": "a client certificate and an allowed origin"}
            )
            return
        await self._app(scope, receive, send)

    def _may_open(self, scope: Scope) -> bool:
        """Whether a WebSocket may be opened: a browser sends its certificate along for whatever page asks it to."""
        certified = scope.get(PEER)
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get(b"origin")
        allowed = origin is None or origin in self._origins or origin == f"https://{headers.get(b'host', '')}"
        return certified is not None and self._cluster.why_refused(certified) is None and allowed
