"""Descriptions of replications, as CouchDB has them: checked, read, and shown without their passwords."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from crdtdb.couchdb.replication.endpoint import Peer
from crdtdb.couchdb.replication.replication import Wanted
from crdtdb.database.validation import check_name
from crdtdb.errors import InvalidInputError

_FIELDS = frozenset(
    {
        "_id",
        "_rev",
        "source",
        "target",
        "continuous",
        "create_target",
        "cancel",
        "doc_ids",
        "selector",
        "filter",
        "query_params",
        "since_seq",
    }
)
_HIDDEN = "***"


def check_spec(spec: Mapping[str, Any]) -> None:
    """Raise InvalidInputError unless this says what is to be replicated."""
    unknown = spec.keys() - _FIELDS
    if unknown:
        raise InvalidInputError(f"a replication has {', '.join(sorted(_FIELDS))}, not {str(min(unknown))[:80]!r}")
    for side in ("source", "target"):
        _check_side(side, spec.get(side))
    for flag in ("continuous", "create_target", "cancel"):
        if not isinstance(spec.get(flag, False), bool):
            raise InvalidInputError(f"`{flag}` is true or false")
    ids = spec.get("doc_ids")
    if ids is not None and (not isinstance(ids, list) or not all(isinstance(one, str) for one in ids)):
        raise InvalidInputError("`doc_ids` is an array of ids")
    for name, kind in (("selector", dict), ("query_params", dict), ("filter", str)):
        if spec.get(name) is not None and not isinstance(spec[name], kind):
            raise InvalidInputError(f"`{name}` is {'an object' if kind is dict else 'text such as app/mine'}")
    wanted_by(spec)


def check_described(doc_id: str, body: Mapping[str, Any]) -> None:  # noqa: ARG001
    """Raise InvalidInputError unless a document of `system.replicator` describes a replication."""
    check_spec({name: value for name, value in body.items() if not name.startswith("_")})


def _check_side(side: str, given: Any) -> None:
    said: Any = {"url": given} if isinstance(given, str) else given
    known = isinstance(said, Mapping) and not said.keys() - {"url", "auth", "headers", "tls"}
    if not known or not isinstance(said.get("url"), str):
        raise InvalidInputError(
            f"`{side}` is a collection's name, a URL, or an object with `url` and perhaps `auth`, `headers`, `tls`"
        )
    if "://" in said["url"]:
        Peer.of(said["url"])
    else:
        check_name(said["url"])
    auth = said.get("auth")
    basic = auth.get("basic") if isinstance(auth, Mapping) else None
    if auth is not None and not (isinstance(basic, Mapping) and {"username", "password"} <= basic.keys()):
        raise InvalidInputError(f'`{side}.auth` is {{"basic": {{"username": …, "password": …}}}}')
    for part in ("headers", "tls"):
        found = said.get(part) or {}
        if not isinstance(found, Mapping) or not all(isinstance(one, str) for one in found.values()):
            raise InvalidInputError(f"`{side}.{part}` is an object of texts")


def wanted_by(spec: Mapping[str, Any]) -> Wanted:
    """Return what a description asks for, beside where. Raises InvalidInputError."""
    ids = spec.get("doc_ids")
    wanted = Wanted(
        continuous=bool(spec.get("continuous")),
        create_target=bool(spec.get("create_target")),
        doc_ids=tuple(ids) if ids is not None else None,
        selector=spec.get("selector"),
        filter=spec.get("filter"),
        query_params=spec.get("query_params") or {},
    )
    return replace(wanted, since_seq=spec["since_seq"]) if "since_seq" in spec else wanted


def without_secrets(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description as it may be shown."""
    found = dict(spec)
    for side in ("source", "target"):
        given = found.get(side)
        if isinstance(given, str) and "://" in given:
            found[side] = _hidden(given)
        elif isinstance(given, Mapping):
            shown = {key: value for key, value in given.items() if key == "url"}
            shown["url"] = _hidden(str(shown.get("url")))
            found[side] = {**shown, **{key: _HIDDEN for key in given if key != "url"}}
    return found


def _hidden(url: str) -> str:
    scheme, slashes, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{slashes}{user.partition(':')[0]}:{_HIDDEN}@{place}" if at else url
