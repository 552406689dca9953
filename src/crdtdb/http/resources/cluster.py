"""/_cluster/… : what keeps a cluster healthy. A change to all of it needs a certificate of the role admin."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from crdtdb.couchdb import CouchError
from crdtdb.couchdb.errors import bad_request
from crdtdb.errors import NotFoundError
from crdtdb.http.context import cluster_of, database_of, ready
from crdtdb.http.json_io import JSONAnswer, read_object
from crdtdb.http.permissions import who_in
from crdtdb.threads import COMMITS, HOUSEKEEPING

_acts = logging.getLogger("crdtdb.acts")
"""The log of administrative acts: who did what to the cluster."""


def admin(request: Request, act: str) -> None:
    """Let administrators alone do something, and write it down. Raises RefusedError."""
    who = who_in(request)
    role, name = "admin" if who.admin else "client", who.name
    if not who.admin:
        _acts.warning("%s %r may not %s", role, name, act)
        raise CouchError(
            403, "forbidden", f"Only an administrator may {act}: sign a certificate by `crdtdb cert admin NAME`."
        )
    _acts.info("%s %r: %s", role, name, act)


async def stability(request: Request) -> JSONAnswer:
    """GET /_cluster/stability : what every member has, what waits to be collected, and who holds it back."""
    return JSONAnswer(await HOUSEKEEPING.run(cluster_of(request).stability))


async def retire(request: Request) -> JSONAnswer:
    """POST /_cluster/retire : take a member out for good."""
    body = await read_object(request)
    name, force = body.get("name"), body.get("force", False)
    if not isinstance(name, str) or not isinstance(force, bool):
        raise bad_request('the body is {"name": "n3"}, and "force": true for a member that is alive')
    admin(request, f"retire {name}{' by force' if force else ''}")
    ready(request)
    with _named():
        await COMMITS.run(lambda: cluster_of(request).retire(name, force))
    return JSONAnswer({"ok": True, "retired": name})


async def revoke(request: Request) -> JSONAnswer:
    """POST /_cluster/revoke : let a certificate count no more, anywhere."""
    body = await read_object(request)
    serial, given = body.get("serial"), [body.get(key, "") for key in ("name", "role", "why")]
    if not isinstance(serial, str) or not all(isinstance(one, str) for one in given):
        raise bad_request('the body is {"serial": "4f…"}, and what is to be remembered of it: "name", "role", "why"')
    admin(request, f"revoke the certificate {serial[:60]} of {given[1] or 'somebody'} {given[0]!r}")
    ready(request)
    name, role, why = given
    by = who_in(request).name
    new = await COMMITS.run(lambda: cluster_of(request).revoke(serial.lower(), name, role, why, by))
    return JSONAnswer({"ok": True, "serial": serial.lower(), "new": new})


async def audit(request: Request) -> JSONAnswer:
    """POST /_cluster/audit : compare what this node holds with every member; with `repair` bring back what was lost."""
    body = await read_object(request)
    repair, members = body.get("repair", False), body.get("members")
    if not isinstance(repair, bool) or not (members is None or _are_names(members)):
        raise bad_request('the body is {}, with "repair": true or false and "members": ["n2"] if not all are meant')
    admin(request, "repair by audit" if repair else "audit")
    with _named():
        findings = await HOUSEKEEPING.run(lambda: cluster_of(request).audit(repair, members), abandon_on_cancel=True)
    return JSONAnswer({"findings": findings, "clean": all(one["clean"] for one in findings)})


@contextmanager
def _named() -> Iterator[None]:
    """Say which member isn't there, where CouchDB has no words of its own."""
    try:
        yield
    except NotFoundError as error:
        raise CouchError(404, "not_found", error.args[0]) from error


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


async def backup(request: Request) -> Response:
    """GET /_cluster/backup : everything that this node holds at one moment."""
    admin(request, "take a backup")

    async def pieces() -> AsyncIterator[bytes]:
        with database_of(request).store.backup() as found:
            while (piece := await HOUSEKEEPING.run(lambda: next(found, None))) is not None:
                yield piece

    return StreamingResponse(pieces(), media_type="application/octet-stream")


ROUTES = [
    Route("/_cluster/stability", stability, methods=["GET"]),
    Route("/_cluster/retire", retire, methods=["POST"]),
    Route("/_cluster/revoke", revoke, methods=["POST"]),
    Route("/_cluster/audit", audit, methods=["POST"]),
    Route("/_cluster/backup", backup, methods=["GET"]),
]
