"""The health listener: `/_up` and, where an operator wants it, `/_metrics`, without TLS and without a certificate.

Load balancers, Kubernetes' probes and scrapers can't all present a client certificate. They get an address of their own, which
serves these two paths and knows nothing of documents.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from crdtdb.cluster_port import ClusterPort
from crdtdb.http.errors import answer_error
from crdtdb.http.methods import Refused
from crdtdb.http.resources import databases, metrics


def health_app(cluster: ClusterPort, *, with_metrics: bool = False) -> Starlette:
    """Return the application of the health listener: `/_up`, and `/_metrics` if `with_metrics`; all else is 404."""
    served = [route for route in databases.ROUTES if route.path == "/_up"]
    served += metrics.ROUTES if with_metrics else []
    app = Starlette(
        routes=[Refused(served), *served],
        exception_handlers={HTTPException: answer_error, Exception: answer_error},
    )
    app.router.redirect_slashes = False
    app.state.cluster = cluster
    app.state.database = frozenset[str]()  # no path is one of a database here
    return app
