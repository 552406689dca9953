"""/, /_up, /_cluster, /_all_dbs, and /{db}: CouchDB's databases are crdtdb's collections."""

from __future__ import annotations

import logging
import os
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.routing import Route

from crdtdb.couchdb import CouchError, parse_document, seq_now
from crdtdb.couchdb.errors import bad_request
from crdtdb.couchdb.update_seq import life_of
from crdtdb.database import Database
from crdtdb.documents.local import LOCAL
from crdtdb.http.context import (
    checked_name,
    cluster_of,
    collection_of,
    database_of,
    designs_of,
    drawn_id,
    name_of,
    permissions_of,
    ready,
)
from crdtdb.http.json_io import JSONAnswer, flag, number, read_body, read_object, text
from crdtdb.http.paths import url_of
from crdtdb.http.permissions import reader, who_in
from crdtdb.http.resources import local_documents
from crdtdb.http.resources.documents import write_document
from crdtdb.limits import REVS_LIMIT
from crdtdb.threads import COMMITS, HOUSEKEEPING

_UUIDS_MAX = 1_000
_acts = logging.getLogger("crdtdb.acts")
_INFOS_MAX = 1_000


async def welcome(request: Request) -> JSONAnswer:
    """GET / : who answers."""
    from crdtdb import __version__

    return JSONAnswer(
        {
            "couchdb": "Welcome",
            "version": __version__,
            "git_sha": "",
            "uuid": cluster_of(request).cluster,
            "features": [],
            "vendor": {"name": "crdtdb", "version": __version__},
        }
    )


async def up(request: Request) -> JSONAnswer:
    """GET /_up : whether writes are taken."""
    why_not = cluster_of(request).why_not_ready
    if why_not is None:
        return JSONAnswer({"status": "ok", "seeds": {}})
    return JSONAnswer({"status": "starting", "reason": why_not}, 404)


async def cluster(request: Request) -> JSONAnswer:
    """GET /_cluster : the members, and how far each is."""
    return JSONAnswer(cluster_of(request).status())


async def uuids(request: Request) -> JSONAnswer:
    """GET /_uuids : new ids for documents."""
    count = number(request, "count", 1) or 0
    if count > _UUIDS_MAX:
        raise bad_request("count parameter too large")
    return JSONAnswer({"uuids": [os.urandom(16).hex() for _ in range(count)]}, headers={"cache-control": "no-cache"})


async def all_databases(request: Request) -> JSONAnswer:
    """GET /_all_dbs : the names."""
    return JSONAnswer(_names(request))


def _names(request: Request) -> list[str]:
    names = sorted(database_of(request).collections(), reverse=flag(request, "descending"))
    key = text(request, "key")
    low, high = (
        (key, key) if key is not None else (text(request, "startkey", "start_key"), text(request, "endkey", "end_key"))
    )
    if flag(request, "descending"):
        low, high = high, low
    may_read = reader(permissions_of(request), who_in(request))
    names = [
        name for name in names if may_read(name) and (low is None or name >= low) and (high is None or name <= high)
    ]
    skip, limit = number(request, "skip", 0) or 0, number(request, "limit")
    return names[skip : None if limit is None else skip + limit]


async def all_information(request: Request) -> JSONAnswer:
    """GET or POST /_dbs_info : the counts of many."""
    if request.method == "GET":
        names = _names(request)
    else:
        names = (await read_object(request)).get("keys")  # type: ignore[assignment]
        if not isinstance(names, list):
            raise bad_request("`keys` member must exist.")
    if len(names) > _INFOS_MAX:
        raise bad_request(f"at most {_INFOS_MAX} databases at once")
    database, may_read = database_of(request), reader(permissions_of(request), who_in(request))
    return JSONAnswer(
        [
            {"key": name, "info": information_about(database, name)}
            if isinstance(name, str) and name in database and may_read(name)
            else {"key": name, "error": "not_found"}
            for name in names
        ]
    )


async def create(request: Request) -> JSONAnswer:
    """PUT /{db} : make it."""
    ready(request)
    name = checked_name(name_of(request))
    if not await COMMITS.run(database_of(request).create, name):
        raise CouchError(412, "file_exists", "The database could not be created, the file already exists.")
    return JSONAnswer({"ok": True}, 201, {"location": url_of(request, name)})


async def information(request: Request) -> JSONAnswer:
    """GET /{db} : its counts."""
    return JSONAnswer(information_about(database_of(request), collection_of(request).name))


def information_about(database: Database, name: str) -> dict[str, Any]:
    """Return what `GET /{db}` says of a collection."""
    counts = database.store.collection(name)
    return {
        "db_name": name,
        "doc_count": counts.documents,
        "doc_del_count": counts.deleted,
        "update_seq": seq_now(database.store, name),
        "purge_seq": 0,
        "instance_start_time": life_of(database.store, name),
        "compact_running": name in database.compacting,
        "sizes": dict.fromkeys(("file", "external", "active"), counts.size),
        "cluster": {"q": 1, "n": 1, "w": 1, "r": 1},
        "disk_format_version": 1,
        "props": {},
    }


async def drop(request: Request) -> JSONAnswer:
    """DELETE /{db} : drop it, everywhere."""
    ready(request)
    collection = collection_of(request)
    if request.query_params.get("rev") is not None:
        raise bad_request(
            "You tried to DELETE a database with a ?=rev parameter. Did you mean to DELETE a document instead?"
        )
    await COMMITS.run(database_of(request).drop, collection.name)
    return JSONAnswer({"ok": True})


async def add(request: Request) -> JSONAnswer:
    """POST /{db} : a document whose id is drawn, unless it has one."""
    collection_of(request)
    body = await read_body(request)
    doc_id = body.get("_id") if isinstance(body, dict) else None
    if isinstance(doc_id, str) and doc_id.startswith(LOCAL):
        answer = await local_documents.write(request, name_of(request), doc_id, body)
    else:
        answer = await write_document(request, parse_document(body, drawn_id()))
    if "etag" in answer.headers:
        del answer.headers["etag"]  # that of a document, which has another URL
    return answer


async def compact(request: Request) -> JSONAnswer:
    """POST /{db}/_compact : discard the values of replaced revisions, in the background."""
    ready(request)
    database, name = database_of(request), collection_of(request).name
    answer = JSONAnswer({"ok": True}, 202)
    answer.background = BackgroundTask(HOUSEKEEPING.run, database.compact, name)
    return answer


async def clean_views(request: Request) -> JSONAnswer:
    """POST /{db}/_view_cleanup : drop the rows of views that no design document has any more."""
    await HOUSEKEEPING.run(designs_of(request).clean, collection_of(request).name)
    return JSONAnswer({"ok": True}, 202)


async def commit(request: Request) -> JSONAnswer:
    """POST /{db}/_ensure_full_commit : return when all that was acknowledged is durable."""
    await COMMITS.run(collection_of(request).durable)
    return JSONAnswer({"ok": True, "instance_start_time": life_of(database_of(request).store, name_of(request))}, 201)


async def revs_limit(request: Request) -> JSONAnswer:
    """GET /{db}/_revs_limit : how many ancestors of a revision are kept."""
    collection_of(request)
    return JSONAnswer(REVS_LIMIT)


async def set_revs_limit(request: Request) -> JSONAnswer:
    """PUT /{db}/_revs_limit : it is the same for all databases."""
    collection_of(request)
    if await read_body(request) != REVS_LIMIT:
        raise bad_request(f"crdtdb keeps {REVS_LIMIT} ancestors of each revision, in every database")
    return JSONAnswer({"ok": True})


async def security(request: Request) -> JSONAnswer:
    """GET /{db}/_security : who may do what: its admins, the members, who may write, and the readers."""
    return JSONAnswer(dict(permissions_of(request).shown(collection_of(request).name)))


async def set_security(request: Request) -> JSONAnswer:
    """PUT /{db}/_security : say who may do what, everywhere."""
    body, name = await read_object(request), collection_of(request).name
    ready(request)
    await COMMITS.run(permissions_of(request).say, name, body)
    _acts.info("%s %r: security of %s: %s", who_in(request).by, who_in(request).name, name, body)
    return JSONAnswer({"ok": True})


async def membership(request: Request) -> JSONAnswer:
    """GET /_membership : the names of the members."""
    names = sorted(cluster_of(request).status().get("members", {}))
    return JSONAnswer({"all_nodes": names, "cluster_nodes": names})


async def digest(request: Request) -> JSONAnswer:
    """GET /{db}/_digest : equal on two nodes if they hold the same."""
    collection = collection_of(request)
    found = await HOUSEKEEPING.run(collection.digest)
    return JSONAnswer({"db_name": collection.name, "digest": found})


ROUTES = [
    Route("/", welcome, methods=["GET"]),
    Route("/_up", up, methods=["GET"]),
    Route("/_cluster", cluster, methods=["GET"]),
    Route("/_membership", membership, methods=["GET"]),
    Route("/_uuids", uuids, methods=["GET"]),
    Route("/_all_dbs", all_databases, methods=["GET"]),
    Route("/_dbs_info", all_information, methods=["GET", "POST"]),
    Route("/{db}/_digest", digest, methods=["GET"]),
    Route("/{db}/_compact", compact, methods=["POST"]),
    Route("/{db}/_view_cleanup", clean_views, methods=["POST"]),
    Route("/{db}/_ensure_full_commit", commit, methods=["POST"]),
    Route("/{db}/_revs_limit", revs_limit, methods=["GET"]),
    Route("/{db}/_revs_limit", set_revs_limit, methods=["PUT"]),
    Route("/{db}/_security", security, methods=["GET"]),
    Route("/{db}/_security", set_security, methods=["PUT"]),
    Route("/{db}", create, methods=["PUT"]),
    Route("/{db}", information, methods=["GET"]),
    Route("/{db}", drop, methods=["DELETE"]),
    Route("/{db}", add, methods=["POST"]),
]
