"""/_session: who asks, and logging in and out for browsers; /_users: who may."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.routing import Route

from crdtdb.canonical_json import parse
from crdtdb.cluster_port import WHO
from crdtdb.couchdb import CouchError
from crdtdb.couchdb.errors import bad_request
from crdtdb.errors import NotFoundError
from crdtdb.http.authentication import TurnedAwayError, cookie_of, log_in
from crdtdb.http.context import ready
from crdtdb.http.json_io import JSONAnswer, read_bytes, read_object
from crdtdb.http.paths import part
from crdtdb.http.permissions import who_in
from crdtdb.limits import SESSION_REQUEST_BYTES_MAX
from crdtdb.security import Principal
from crdtdb.security.users import Users
from crdtdb.threads import PASSWORDS

_acts = logging.getLogger("crdtdb.acts")


def _users_of(request: Request) -> Users:
    users: Users = request.app.state.users
    return users


async def session(request: Request) -> JSONAnswer:
    """GET /_session : who asks, and how the node knows."""
    who: Principal | None = request.scope[WHO]
    context = {"name": who.name if who is not None else None, "roles": _roles(who)}
    info: dict[str, Any] = {"authentication_handlers": _handlers(request)}
    if who is not None:
        info["authenticated"] = who.by
    return JSONAnswer({"ok": True, "userCtx": context, "info": info}, headers={"cache-control": "no-store"})


def _roles(who: Principal | None) -> list[str]:
    return sorted({*who.roles, *(["_admin"] if who.admin else [])}) if who is not None else []


def _handlers(request: Request) -> list[str]:
    return ["certificate", *(["cookie", "password"] if request.app.state.logins is not None else [])]


async def log_in_here(request: Request) -> JSONAnswer:
    """POST /_session : log in by `name` and `password`, for a cookie that is good for ten minutes and renews itself."""
    users: Users | None = request.app.state.logins
    if users is None:
        raise CouchError(403, "forbidden", "This node takes certificates alone: `logins` isn't set.")
    name, password = _credentials(request, await read_bytes(request, SESSION_REQUEST_BYTES_MAX))
    try:
        who = await log_in(request.scope, users, name, password)
    except TurnedAwayError as error:
        return error.answer
    answer = JSONAnswer(
        {"ok": True, "name": who.name, "roles": sorted(who.roles)}, headers={"cache-control": "no-store"}
    )
    answer.headers["set-cookie"] = cookie_of(users.session(who.name), request.app.state.same_site)
    return answer


def _credentials(request: Request, data: bytes) -> tuple[str, str]:
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        try:
            form = parse_qs(data.decode(), max_num_fields=10)
        except (ValueError, UnicodeDecodeError) as error:
            raise bad_request("the body is a form with `name` and `password`") from error
        given: Any = {key: values[0] for key, values in form.items()}
    else:
        given = parse(data)
    said = given if isinstance(given, dict) else {}
    name, password = (
        said.get("name", said.get("username")),
        said.get("password"),
    )  # as CouchDB: some clients say `username`
    if not isinstance(name, str) or not isinstance(password, str):
        raise bad_request("the body has a `name` and a `password`, as JSON or as a form")
    return name, password


async def log_out(request: Request) -> JSONAnswer:
    """DELETE /_session : take the cookie away."""
    answer = JSONAnswer({"ok": True})
    answer.headers["set-cookie"] = cookie_of("", request.app.state.same_site)
    return answer


async def list_users(request: Request) -> JSONAnswer:
    """GET /_users : the users and their roles. Role `admin`."""
    found = _users_of(request).names()
    return JSONAnswer({"users": [{"name": name, "roles": roles} for name, roles in found]})


async def put_user(request: Request) -> JSONAnswer:
    """PUT /_users/{name} : make a user, or give one another password and other roles. Role `admin`."""
    body, name = await read_object(request), part(request, "name")
    roles = body.get("roles", [])
    if set(body) - {"password", "roles"} or not isinstance(roles, list):
        raise bad_request('the body is {"password": "…", "roles": ["editors"]}')
    ready(request)
    new = await PASSWORDS.run(_users_of(request).add, name, body.get("password"), roles)
    _acts.info("admin %r: %s user %r", who_in(request).name, "make" if new else "change", name)
    return JSONAnswer({"ok": True, "name": name, "new": new}, 201)


async def delete_user(request: Request) -> JSONAnswer:
    """DELETE /_users/{name} : remove a user, whose sessions end. Role `admin`."""
    name = part(request, "name")
    ready(request)
    try:
        await PASSWORDS.run(_users_of(request).remove, name)
    except NotFoundError as error:
        raise CouchError(404, "not_found", error.args[0]) from error
    _acts.info("admin %r: remove user %r", who_in(request).name, name)
    return JSONAnswer({"ok": True})


ROUTES = [
    Route("/_session", session, methods=["GET"]),
    Route("/_session", log_in_here, methods=["POST"]),
    Route("/_session", log_out, methods=["DELETE"]),
    Route("/_users", list_users, methods=["GET"]),
    Route("/_users/{name}", put_user, methods=["PUT"]),
    Route("/_users/{name}", delete_user, methods=["DELETE"]),
]
