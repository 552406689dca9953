"""What a request needs, by its route: one table, asked before any of them runs. A route that isn't in it can't be served.

What a path names is decided by the route that takes it, after its segments were decoded: an odd path is taken by a route, and
needs what that needs, or by none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from functools import wraps
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from crdtdb.cluster_port import WHO
from crdtdb.couchdb.errors import CouchError
from crdtdb.http.content import check_json
from crdtdb.http.methods import template
from crdtdb.http.paths import id_of, part
from crdtdb.query.definitions import DESIGN
from crdtdb.security import Level, Permissions, Principal

LEVEL = "crdtdb.level"
"""The key in the ASGI scope under which a route of a collection finds what who asks may do with it, a `Level`."""
MayRead = Callable[[str], bool]
Endpoint = Callable[[Request], Awaitable[Response]]


class Need(Enum):
    """What a request needs: a role, or a right."""

    ANYBODY = "anybody"
    KNOWN = "a user, or a certificate"
    CERTIFICATE = "a certificate"
    ADMINISTRATOR = "a certificate of an administrator"
    READ = "may read the collection"
    WRITE = "may write to the collection"
    OWN = "is an admin of the collection"


_LEVELS = {Need.READ: Level.READ, Need.WRITE: Level.WRITE, Need.OWN: Level.ADMIN}
_READING = ("_all_docs", "_design_docs", "_changes", "_bulk_get", "_revs_diff", "_missing_revs", "_find", "_explain")

NEEDS: dict[str, Need] = {
    "GET /": Need.KNOWN,
    "GET /_up": Need.KNOWN,
    "GET /_uuids": Need.KNOWN,
    "GET /_openapi": Need.KNOWN,
    "GET /_all_dbs": Need.KNOWN,
    "GET /_session": Need.ANYBODY,
    "POST /_session": Need.ANYBODY,
    "DELETE /_session": Need.ANYBODY,
    "GET /_dbs_info": Need.KNOWN,
    "POST /_dbs_info": Need.KNOWN,
    "GET /_cluster": Need.CERTIFICATE,
    "GET /_cluster/stability": Need.CERTIFICATE,
    "GET /_metrics": Need.CERTIFICATE,
    "GET /_locks": Need.CERTIFICATE,
    "POST /_locks": Need.CERTIFICATE,
    "PUT /_locks/{lock}": Need.CERTIFICATE,
    "DELETE /_locks/{lock}": Need.CERTIFICATE,
    "GET /_notify": Need.CERTIFICATE,
    "POST /_notify": Need.CERTIFICATE,
    # An administrator's: these ask for that themselves, as they write down who tried which act, too.
    "POST /_cluster/retire": Need.CERTIFICATE,
    "POST /_cluster/revoke": Need.CERTIFICATE,
    "POST /_cluster/audit": Need.CERTIFICATE,
    "GET /_cluster/backup": Need.CERTIFICATE,
    "POST /_replicate": Need.ADMINISTRATOR,
    "GET /_scheduler/jobs": Need.ADMINISTRATOR,
    "GET /_active_tasks": Need.ADMINISTRATOR,
    "GET /_membership": Need.CERTIFICATE,
    "GET /_replicator": Need.ADMINISTRATOR,
    "POST /_replicator": Need.ADMINISTRATOR,
    "GET /_replicator/{id}": Need.ADMINISTRATOR,
    "PUT /_replicator/{id}": Need.ADMINISTRATOR,
    "DELETE /_replicator/{id}": Need.ADMINISTRATOR,
    "GET /_users": Need.ADMINISTRATOR,
    "POST /_users": Need.ADMINISTRATOR,
    "PUT /_users": Need.ADMINISTRATOR,
    "GET /_users/_all_docs": Need.ADMINISTRATOR,
    "GET /_users/{name}": Need.KNOWN,  # it is shown to administrators, and to the user
    "PUT /_users/{name}": Need.ADMINISTRATOR,
    "DELETE /_users/{name}": Need.ADMINISTRATOR,
    "PUT /{db}": Need.CERTIFICATE,
    "GET /{db}": Need.READ,
    "DELETE /{db}": Need.OWN,
    "POST /{db}": Need.WRITE,
    "GET /{db}/_security": Need.READ,
    "PUT /{db}/_security": Need.OWN,
    "POST /{db}/_compact": Need.OWN,
    "POST /{db}/_view_cleanup": Need.OWN,
    "POST /{db}/_purge": Need.OWN,
    "PUT /{db}/_revs_limit": Need.OWN,
    "PUT /{db}/_schema": Need.OWN,
    "POST /{db}/_index": Need.OWN,
    "POST /{db}/_index/_bulk_delete": Need.OWN,
    "DELETE /{db}/_index/_design/{design}/json/{name}": Need.OWN,
    "DELETE /{db}/_index/{ddoc}/json/{name}": Need.OWN,
    "POST /{db}/_ensure_full_commit": Need.READ,
    "POST /{db}/_bulk_docs": Need.WRITE,
    "POST /{db}/_update_many": Need.WRITE,
    "POST /{db}/_delete_many": Need.WRITE,
    "POST /{db}/{id}/_resolve": Need.WRITE,
    "POST /{db}/{id}/_edit": Need.WRITE,
    "PUT /{db}/_local/{local}": Need.READ,  # where a replication is: who may read may come back
    "DELETE /{db}/_local/{local}": Need.READ,
    "COPY /{db}/_local/{local}": Need.WRITE,
    "POST /{db}/_local_docs": Need.READ,
    **{
        f"{method} /{{db}}/{what}": Need.READ
        for what in ("_local", "_local/{local}/{attachment}")
        for method in ("GET", "PUT", "DELETE")
    },
    "POST /{db}/_design/{design}/_view/{view}": Need.READ,
    "POST /{db}/_design/{design}/_view/{view}/queries": Need.READ,
    **{f"POST /{{db}}/{what}": Need.READ for what in _READING},
    **{
        f"GET /{{db}}/{what}": Need.READ
        for what in (
            "_all_docs",
            "_design_docs",
            "_changes",
            "_digest",
            "_revs_limit",
            "_index",
            "_conflicts",
            "_schema",
            "_local_docs",
            "_local/{local}",
            "{id}/_siblings",
            "{id}/_history",
            "{id}/_why",
            "_design/{design}/_view/{view}",
            "_design/{design}/_info",
            "_design/{design}",
            "_design/{design}/{attachment}",
            "{id}",
            "{id}/{attachment}",
        )
    },
    **{
        f"{method} /{{db}}/{what}": Need.WRITE
        for what in ("{id}", "{id}/{attachment}")
        for method in ("PUT", "DELETE", "PATCH", "COPY")
        if method in ("PUT", "DELETE") or what == "{id}"
    },
    **{
        f"{method} /{{db}}/_design/{what}": Need.OWN
        for what in ("{design}", "{design}/{attachment}")
        for method in ("PUT", "DELETE", "PATCH", "COPY")
        if method in ("PUT", "DELETE") or what == "{design}"
    },
}


_FREE = ("/_session", "/_notify", "/_locks", "/_cluster", "{id}/_", "_conflicts", "_update_many", "_delete_many")
"""Paths, or parts of some, that take a POST of any media type: CouchDB has other rules for them, or none of them."""


def brings_json(path: str) -> bool:
    """Whether a POST to a route must say that it brings JSON."""
    return not any(one in path for one in _FREE)


def asking_first(route: BaseRoute, permissions: Permissions) -> BaseRoute:
    """Return a route that asks what a request needs before it runs. Raises KeyError for one that isn't in the table."""
    if not isinstance(route, Route):
        return route  # the WebSocket, which authentication opens for certificates alone
    path = template(route)
    needs = {method: NEEDS[f"{method} {path}"] for method in sorted((route.methods or set()) - {"HEAD"})}
    needs["HEAD"] = needs.get("GET", Need.READ)
    endpoint: Endpoint = route.endpoint
    only_json = "POST" in needs and brings_json(path)

    @wraps(endpoint)
    async def asked(request: Request) -> Response:
        _check(request, needs[request.method], permissions)
        if only_json and request.method == "POST":
            check_json(request)
        return await endpoint(request)

    return Route(route.path, asked, methods=sorted(route.methods or ()), include_in_schema=route.include_in_schema)


def _check(request: Request, need: Need, permissions: Permissions) -> None:
    if need is Need.ANYBODY:
        return
    who = who_in(request)
    if need is Need.ADMINISTRATOR and not who.admin:
        raise CouchError(
            403, "forbidden", "Only an administrator may do that: sign a certificate by `crdtdb cert admin NAME`."
        )
    if need is Need.CERTIFICATE and who.by != "certificate":
        raise CouchError(403, "forbidden", "That needs a client certificate of this cluster: a password isn't enough.")
    if "db" not in request.path_params:
        return
    level = permissions.level(who, part(request, "db"))
    request.scope[LEVEL] = level
    wanted = _LEVELS.get(need, Level.NONE)
    if need is Need.WRITE and id_in(request).startswith(DESIGN):
        wanted = Level.ADMIN  # however its slash is written
    if level < wanted:
        raise CouchError(403, "forbidden", f"{who.name} may not do that here: who may, stands in `_security`.")


def id_in(request: Request) -> str:
    """Return the document's id in the path, empty if there is none."""
    named: dict[str, Any] = request.path_params
    return id_of(request) if named.keys() & {"id", "design", "local"} else ""


def level_in(request: Request) -> Level:
    """Return what who asks may do with the collection in the path."""
    level: Level = request.scope[LEVEL]
    return level


def who_in(request: Request) -> Principal:
    """Return the principal of the request. Raises CouchError if there is none."""
    who: Principal | None = request.scope[WHO]
    if who is None:
        raise CouchError(401, "unauthorized", "You are not logged in.")
    return who


def reader(permissions: Permissions, who: Principal) -> MayRead:
    """Return a function that tells whether a principal may read a collection, at any time."""
    return lambda name: permissions.level(who, name) >= Level.READ
