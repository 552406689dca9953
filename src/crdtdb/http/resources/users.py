"""/_users: who may come by a password, also in CouchDB's form, as documents `org.couchdb.user:NAME`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from crdtdb.couchdb import CouchError
from crdtdb.couchdb.errors import bad_request
from crdtdb.couchdb.user_documents import PREFIX, UserDocuments
from crdtdb.errors import NotFoundError
from crdtdb.http.context import database_of, ready
from crdtdb.http.json_io import JSONAnswer, flag, read_object
from crdtdb.http.paths import part, url_of
from crdtdb.http.permissions import who_in
from crdtdb.http.resources.databases import information_about
from crdtdb.http.resources.documents import named_rev
from crdtdb.security import USERS
from crdtdb.security.users import Users
from crdtdb.threads import PASSWORDS

_acts = logging.getLogger("crdtdb.acts")


def _users_of(request: Request) -> Users:
    users: Users = request.app.state.users
    return users


def _documents_of(request: Request) -> UserDocuments:
    return UserDocuments(_users_of(request))


async def list_users(request: Request) -> JSONAnswer:
    """GET /_users : the users and their roles, beside the counts of a database. Role `admin`."""
    found = _users_of(request).names()
    counts = information_about(database_of(request), USERS) if USERS in database_of(request).store.root.names else {}
    users = [{"name": name, "roles": roles} for name, roles in found]
    return JSONAnswer({**counts, "db_name": "_users", "users": users})


async def make_database(request: Request) -> JSONAnswer:  # noqa: ARG001 - a route's signature
    """PUT /_users : it is always there. Role `admin`."""
    raise CouchError(412, "file_exists", "The database could not be created, the file already exists.")


async def all_documents(request: Request) -> JSONAnswer:
    """GET /_users/_all_docs : the users as documents, in CouchDB's form. Role `admin`."""
    found = await PASSWORDS.run(_documents_of(request).all)
    include = flag(request, "include_docs")
    rows = [
        {"id": doc["_id"], "key": doc["_id"], "value": {"rev": doc["_rev"]}, **({"doc": doc} if include else {})}
        for doc in found
    ]
    return JSONAnswer({"total_rows": len(rows), "offset": 0, "rows": rows})


async def get_user(request: Request) -> JSONAnswer:
    """GET /_users/{name} : one as a document, in CouchDB's form: for administrators, and for the user."""
    doc_id, who = part(request, "name"), who_in(request)
    if not who.admin and (who.by == "certificate" or doc_id != PREFIX + who.name):
        raise CouchError(403, "forbidden", "You are not allowed to access this db.")
    found = await PASSWORDS.run(_documents_of(request).get, doc_id)
    return JSONAnswer(found, headers={"etag": f'"{found["_rev"]}"'})


async def add_user(request: Request) -> JSONAnswer:
    """POST /_users : write a user in CouchDB's form, with its `_id`. Role `admin`."""
    doc = await read_object(request)
    return await _write(request, str(doc.get("_id", "")), doc)


async def put_user(request: Request) -> JSONAnswer:
    """PUT /_users/{name} : make a user, or give one another password and other roles. Role `admin`."""
    body, name = await read_object(request), part(request, "name")
    if name.startswith(PREFIX) or body.keys() & {"name", "type"}:
        return await _write(request, name, body)
    roles = body.get("roles", [])
    if set(body) - {"password", "roles"} or not isinstance(roles, list):
        raise bad_request('the body is {"password": "…", "roles": ["editors"]}')
    ready(request)
    new = await PASSWORDS.run(_users_of(request).add, name, body.get("password"), roles)
    _acts.info("admin %r: %s user %r", who_in(request).name, "make" if new else "change", name)
    return JSONAnswer({"ok": True, "name": name, "new": new}, 201)


async def _write(request: Request, doc_id: str, doc: Mapping[str, Any]) -> JSONAnswer:
    """Write a user's document, or delete it by `_deleted`."""
    ready(request)
    rev = named_rev(request)
    given = {**doc, "_rev": str(rev)} if rev is not None else dict(doc)
    if given.get("_deleted") is True:
        return await _delete(request, doc_id, given.get("_rev"))
    done = await PASSWORDS.run(_documents_of(request).put, doc_id, given)
    _acts.info("admin %r: write user %r", who_in(request).name, doc_id)
    headers = {"etag": f'"{done}"', "location": url_of(request, "_users", doc_id)}
    return JSONAnswer({"ok": True, "id": doc_id, "rev": done}, 201, headers)


async def _delete(request: Request, doc_id: str, rev: str | None) -> JSONAnswer:
    done = await PASSWORDS.run(_documents_of(request).delete, doc_id, rev)
    _acts.info("admin %r: remove user %r", who_in(request).name, doc_id)
    return JSONAnswer({"ok": True, "id": doc_id, "rev": done}, headers={"etag": f'"{done}"'})


async def delete_user(request: Request) -> JSONAnswer:
    """DELETE /_users/{name} : remove a user, whose sessions end. Role `admin`."""
    name = part(request, "name")
    ready(request)
    if name.startswith(PREFIX):
        rev = named_rev(request)
        return await _delete(request, name, str(rev) if rev is not None else None)
    try:
        await PASSWORDS.run(_users_of(request).remove, name)
    except NotFoundError as error:
        raise CouchError(404, "not_found", error.args[0]) from error
    _acts.info("admin %r: remove user %r", who_in(request).name, name)
    return JSONAnswer({"ok": True})


ROUTES = [
    Route("/_users", list_users, methods=["GET"]),
    Route("/_users", add_user, methods=["POST"]),
    Route("/_users", make_database, methods=["PUT"]),
    Route("/_users/_all_docs", all_documents, methods=["GET"]),
    Route("/_users/{name}", get_user, methods=["GET"]),
    Route("/_users/{name}", put_user, methods=["PUT"]),
    Route("/_users/{name}", delete_user, methods=["DELETE"]),
]
