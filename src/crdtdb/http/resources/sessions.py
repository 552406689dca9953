"""/_session: who asks, and logging in and out for browsers."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.routing import Route

from crdtdb.canonical_json import parse
from crdtdb.cluster_port import WHO
from crdtdb.couchdb import CouchError
from crdtdb.couchdb.errors import bad_request
from crdtdb.http.authentication import TurnedAwayError, cookie_of, log_in
from crdtdb.http.json_io import JSONAnswer, flag, read_bytes
from crdtdb.http.paths import url_of
from crdtdb.limits import SESSION_REQUEST_BYTES_MAX
from crdtdb.security import Principal
from crdtdb.security.users import Users


async def session(request: Request) -> JSONAnswer:
    """GET /_session : who asks, and how the node knows."""
    who: Principal | None = request.scope[WHO]
    context = {"name": who.name if who is not None else None, "roles": _roles(who)}
    info: dict[str, Any] = {"authentication_handlers": _handlers(request)}
    if who is not None:
        info["authenticated"] = who.by
    elif flag(request, "basic"):
        raise CouchError(401, "unauthorized", "Please login.")
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
    onward = _onward(request)
    name, password = _credentials(request, await read_bytes(request, SESSION_REQUEST_BYTES_MAX))
    try:
        who = await log_in(request.scope, users, name, password)
    except TurnedAwayError as error:
        error.answer.headers["set-cookie"] = cookie_of("", request.app.state.same_site)
        return error.answer
    told = {"ok": True, "name": who.name, "roles": sorted(who.roles)}
    answer = JSONAnswer(told, 302 if onward else 200, {"cache-control": "no-store", **onward})
    answer.headers["set-cookie"] = cookie_of(users.session(who.name), request.app.state.same_site)
    return answer


def _onward(request: Request) -> dict[str, str]:
    """Return the header that sends a browser on to `next`: a path of this node, whatever it is made to look like."""
    onward = request.query_params.get("next")
    if onward is None:
        return {}
    path, question, query = onward.partition("?")
    location = url_of(request, *(part for part in path.split("/") if part))
    return {"location": location + question + quote(query, safe="=&%+")}


def _credentials(request: Request, data: bytes) -> tuple[str, str]:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind not in ("application/x-www-form-urlencoded", "application/json"):
        raise CouchError(
            415,
            "bad_content_type",
            "Content-Type must be 'application/x-www-form-urlencoded' or 'application/json'",
        )
    if kind == "application/x-www-form-urlencoded":
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


ROUTES = [
    Route("/_session", session, methods=["GET"]),
    Route("/_session", log_in_here, methods=["POST"]),
    Route("/_session", log_out, methods=["DELETE"]),
]
