"""What every request finds: the database, the cluster, and the collection that its path names."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

from starlette.requests import Request

from crdtdb.aio.group_commit import AsyncGroupCommit
from crdtdb.aio.notifier import ChangeNotifier
from crdtdb.cluster_port import ClusterPort
from crdtdb.couchdb import CouchError, Trees, Writes
from crdtdb.couchdb.design_documents import Designs
from crdtdb.couchdb.errors import missing_database
from crdtdb.couchdb.validation import Author, DocumentValidator
from crdtdb.database import Database
from crdtdb.database.collection import Collection
from crdtdb.database.validation import check_name
from crdtdb.errors import InvalidIdError, UnavailableError
from crdtdb.http.paths import part
from crdtdb.http.permissions import level_in, who_in
from crdtdb.javascript import Scripts
from crdtdb.security import Level, Permissions
from crdtdb.store import Transaction
from crdtdb.threads import COMMITS, VALIDATION, Duty

T = TypeVar("T")


def database_of(request: Request) -> Database:
    """Return the node's database."""
    return cast("Database", request.app.state.database)


def cluster_of(request: Request) -> ClusterPort:
    """Return what the node knows of its cluster."""
    return cast("ClusterPort", request.app.state.cluster)


def bell_of(request: Request) -> ChangeNotifier:
    """Return what wakes those who wait for changes."""
    return cast("ChangeNotifier", request.app.state.bell)


def gathering_of(request: Request) -> AsyncGroupCommit:
    """Return what commits the writes of all requests."""
    return cast("AsyncGroupCommit", request.app.state.gathering)


def attachment_bytes_max_of(request: Request) -> int:
    """Return how many bytes an attachment may have."""
    return cast("int", request.app.state.attachment_bytes_max)


def name_of(request: Request) -> str:
    """Return the database's name in the path, allowed or not."""
    return part(request, "db")


def checked_name(name: str) -> str:
    """Return a database's name that is allowed. Raises RefusedError."""
    try:
        return check_name(name)
    except InvalidIdError as error:
        raise CouchError(
            400,
            "illegal_database_name",
            f"Name: '{name[:80]}'. Only lowercase characters (a-z), digits (0-9), and any of the characters "
            "_, $, (, ), +, -, and / are allowed. Must begin with a letter.",
        ) from error


def collection_of(request: Request) -> Collection:
    """Return the collection in the path. Raises RefusedError if it doesn't exist: no other has a name that isn't allowed."""
    name = name_of(request)
    database = database_of(request)
    if name not in database:
        raise missing_database()
    return database.collection(name)


def trees_of(request: Request) -> Trees:
    """Return the collection in the path as a reader of revision trees sees it. Raises RefusedError."""
    return Trees(database_of(request).store, collection_of(request).name, lambda: ready(request))


def writes_of(request: Request) -> Writes:
    """Return what writes to the collection in the path. Raises RefusedError; UnavailableError while no writes are taken."""
    ready(request)
    designs = level_in(request) >= Level.ADMIN
    return Writes(database_of(request).store, collection_of(request).name, guard_of(request), designs)


def scripts_of(request: Request) -> Scripts:
    """Return what runs JavaScript."""
    return cast("Scripts", request.app.state.scripts)


def designs_of(request: Request) -> Designs:
    """Return the design documents in JavaScript."""
    return cast("Designs", request.app.state.designs)


def guard_of(request: Request) -> DocumentValidator | None:
    """Return what the writes of a request must pass, None if no design document of the collection has a say in them."""
    name = name_of(request)
    validators = designs_of(request).validators(name)
    if not validators:
        return None
    author = Author(user_of(request), permissions_of(request).of(name))
    return DocumentValidator(database_of(request).store, name, validators, scripts_of(request), author)


def user_of(request: Request) -> dict[str, Any]:
    """Return who asks, as functions of design documents are told."""
    who = who_in(request)
    roles = {*who.roles, *(["_admin"] if level_in(request) >= Level.ADMIN and _is_named(request) else [])}
    return {"db": name_of(request), "name": who.name, "roles": sorted(roles)}


def _is_named(request: Request) -> bool:
    """Whether who asks is an administrator, or a named admin of the collection: not just any principal where none is named."""
    who = who_in(request)
    admins = permissions_of(request).of(name_of(request))["admins"]
    return who.admin or who.name in admins["names"] or not who.roles.isdisjoint(admins["roles"])


def permissions_of(request: Request) -> Permissions:
    """Return who may do what."""
    return cast("Permissions", request.app.state.permissions)


async def commit(request: Request, writes: Writes, work: Callable[[Transaction], T]) -> T:
    """Commit one write of a request: together with those of others, or by itself if a validation function comes first."""
    if writes.guarded:
        return await VALIDATION.run(writes.submit, work)
    return await gathering_of(request).submit(work)


def duty_of(writes: Writes) -> Duty:
    """Return whose threads a write takes: validation by JavaScript must not hold those of writes that need none."""
    return VALIDATION if writes.guarded else COMMITS


def ready(request: Request) -> None:
    """Raise UnavailableError while the node takes no writes."""
    why_not = cluster_of(request).why_not_ready
    if why_not is not None:
        raise UnavailableError(f"{why_not}. Try again in a moment, or at another node")


def drawn_id() -> str:
    """Return a new id for a document that came without one."""
    return os.urandom(16).hex()
