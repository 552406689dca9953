"""What every request finds: the database, the cluster, and the collection that its path names."""

from __future__ import annotations

import os
from typing import cast

from starlette.requests import Request

from crdtdb.collection import Collection
from crdtdb.database import Database
from crdtdb.errors import UnavailableError
from crdtdb.http.errors import missing_database
from crdtdb.http.port import ClusterPort


def database_of(request: Request) -> Database:
    """Return the node's database."""
    return cast("Database", request.app.state.database)


def cluster_of(request: Request) -> ClusterPort:
    """Return what the node knows of its cluster."""
    return cast("ClusterPort", request.app.state.cluster)


def collection_of(request: Request) -> Collection:
    """Return the collection in the path. Raises RefusedError if it doesn't exist, InvalidIdError for a bad name."""
    database = database_of(request)
    collection = database.collection(request.path_params["db"])
    if collection.name not in database:
        raise missing_database()
    return collection


def ready(request: Request) -> None:
    """Raise UnavailableError while the node takes no writes."""
    why_not = cluster_of(request).why_not_ready
    if why_not is not None:
        raise UnavailableError(f"{why_not}. Try again in a moment, or at another node")


def drawn_id() -> str:
    """Return a new id for a document that came without one."""
    return os.urandom(16).hex()
