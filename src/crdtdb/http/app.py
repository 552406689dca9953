"""The ASGI application: routes from the resources, certificates checked before anything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute

from crdtdb.aio.group_commit import AsyncGroupCommit
from crdtdb.aio.notifier import ChangeNotifier
from crdtdb.cluster_port import ClusterPort
from crdtdb.couchdb import CouchError
from crdtdb.couchdb.design_documents import Designs
from crdtdb.database import Database
from crdtdb.errors import CrdtdbError
from crdtdb.http import openapi
from crdtdb.http.authentication import Authentication
from crdtdb.http.bodies import Bodies
from crdtdb.http.errors import answer_error, answer_nobody
from crdtdb.http.methods import Refused
from crdtdb.http.paths import Segments
from crdtdb.http.permissions import asking_first
from crdtdb.http.resources import (
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
    patches,
    queries,
    sessions,
    views,
)
from crdtdb.http.resources import cluster as cluster_resource
from crdtdb.http.resources import replications as replicate
from crdtdb.http.resources import users as user_documents
from crdtdb.javascript import Scripts
from crdtdb.limits import ATTACHMENT_BYTES_MAX, REQUEST_BYTES_MAX
from crdtdb.security import Permissions
from crdtdb.security.users import COST, FIRST_COST, Users
from crdtdb.wire.messages import SCHEMES_SINCE

RESOURCES = (
    openapi,
    sessions,
    user_documents,
    replicate,
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
    request_bytes_max: int = REQUEST_BYTES_MAX,
    scripts: Scripts | None = None,
    logins: bool = False,
) -> Starlette:
    """Return the application for a node's database.

    Pages from `cors_origins` may use it with the browser's client certificate. An attachment has at most
    `attachment_bytes_max` bytes, and a request's JSON `request_bytes_max`. JavaScript of design documents runs by `scripts`,
    which the caller closes.
    With `logins` users may come by a password, without a certificate.
    """
    permissions = Permissions(database.store)
    users = Users(database.store, cost=lambda: COST if cluster.all_speak(SCHEMES_SINCE) else FIRST_COST)
    served = [asking_first(route, permissions) for route in all_routes()]
    shortcuts = [asking_first(route, permissions) for route in documents.SHORTCUTS]
    app = Starlette(
        routes=[*shortcuts, Refused(served), *served],
        exception_handlers={
            CouchError: answer_error,
            CrdtdbError: answer_error,
            HTTPException: answer_error,
            ClientDisconnect: answer_nobody,
            RecursionError: answer_error,
            Exception: answer_error,
        },
    )
    app.router.redirect_slashes = False
    app.state.database, app.state.cluster = database, cluster
    app.state.permissions, app.state.users = permissions, users
    app.state.logins = users if logins else None
    app.state.same_site = "none" if cors_origins else "strict"
    app.state.replicator = None  # a node puts its own there
    app.state.scripts = scripts if scripts is not None else Scripts()
    app.state.designs = Designs(database.store, app.state.scripts)
    app.state.gathering = AsyncGroupCommit(database.store)
    app.state.bell, app.state.attachment_bytes_max = ChangeNotifier(database.store), attachment_bytes_max
    # The last one is the first that a request meets. A browser asks for permission without its certificate.
    app.add_middleware(Segments)
    app.add_middleware(Bodies, request_bytes_max=request_bytes_max)
    app.add_middleware(locks.LocksChecked, locks=cluster.locks)
    app.add_middleware(
        Authentication,
        cluster=cluster,
        users=app.state.logins,
        origins=frozenset(cors_origins),
        same_site=app.state.same_site,
    )
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


def all_routes() -> Iterator[BaseRoute]:
    """Yield the routes of all resources, the most particular first."""
    for resource in RESOURCES:
        yield from resource.ROUTES
