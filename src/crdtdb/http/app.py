"""The ASGI application: routes from the resources, certificates checked before anything else."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from crdtdb.database import Database
from crdtdb.errors import CrdtdbError
from crdtdb.http import changes, conflicts, databases, documents, fields
from crdtdb.http.answers import JSONAnswer
from crdtdb.http.errors import RefusedError, answer_error
from crdtdb.http.port import ClusterPort

PEER = "crdtdb.peer"
"""The key in the ASGI scope under which the server puts (cluster, role, name) of the client's certificate, or None."""


def make_app(database: Database, cluster: ClusterPort) -> Starlette:
    """Return the application for a node's database."""
    app = Starlette(
        # The most particular paths first: an id may contain slashes.
        routes=[*databases.ROUTES, *changes.ROUTES, *conflicts.ROUTES, *fields.ROUTES, *documents.ROUTES],
        exception_handlers={
            RefusedError: answer_error,
            CrdtdbError: answer_error,
            HTTPException: answer_error,
            Exception: answer_error,
        },
    )
    app.router.redirect_slashes = False
    app.state.database, app.state.cluster = database, cluster
    app.add_middleware(_CertificatesOnly)
    return app


class _CertificatesOnly:
    """Lets nobody in without a certificate of the cluster."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get(PEER) is None:
            refusal = JSONAnswer(
                {
                    "error": "unauthorized",
                    "reason": "A client certificate of this cluster is needed: `crdtdb cert client`.",
                },
                401,
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)
