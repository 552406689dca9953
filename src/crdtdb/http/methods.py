"""Which methods a path takes, decided before it is routed.

A path belongs to the most particular routes that match it: `/{db}/_find` to those of `_find`, though it would do for the id of
a document, too. Any other method is answered 405, and `Allow` has all that would have served.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

OVERRIDE = "x-http-method-override"
"""The header by which clients behind old proxies name another method in a POST."""

_WITHOUT_HEAD = frozenset({"/_uuids", "/_db_updates", "/{db}/_revs_limit", "/{db}/_security", "/{db}/_index"})
"""Paths of which CouchDB doesn't list HEAD, though it serves it."""
_WITHOUT_PUT = frozenset({"/{db}"})
"""A database that exists can't be made: where it doesn't, the answer is 404."""


def template(route: Route) -> str:
    """Return a route's path without the kinds of its parameters."""
    return route.path.replace(":path", "").replace(":ordinary", "")


def routes_of(routes: Sequence[BaseRoute], path: str) -> list[Route]:
    """Return the most particular routes that match a decoded path, whatever the method."""
    found: list[Route] = []
    best = -1
    for route in routes:
        if isinstance(route, Route) and route.path_regex.match(path):
            literal = sum(not part.startswith("{") for part in route.path.split("/"))
            if literal > best:
                found, best = [], literal
            if literal == best:
                found.append(route)
    return found


def allowed(routes: Sequence[BaseRoute], path: str) -> list[str]:
    """Return the methods that a decoded path takes, in the alphabet's order; none if there is no such path."""
    methods: set[str] = set()
    for route in routes_of(routes, path):
        here = set(route.methods or ())
        here -= {"HEAD"} if template(route) in _WITHOUT_HEAD else set()
        here -= {"PUT"} if template(route) in _WITHOUT_PUT else set()
        methods |= here
    return sorted(methods)


def is_of_database(routes: Sequence[BaseRoute], name: str) -> bool:
    """Whether a path that begins with this name is about a database, and not about the server."""
    return bool(name) and not any(isinstance(one, Route) and one.path.split("/")[1] == name for one in routes)


class Refused(BaseRoute):
    """Takes the requests with a method that their path doesn't know. Asked first, and only about paths with a `_` name."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the request is to be refused."""
        if scope["type"] != "http" or "/_" not in scope["path"]:
            return Match.NONE, {}
        found = routes_of(self._routes, scope["path"])
        if not found or any(scope["method"] in (route.methods or ()) for route in found):
            return Match.NONE, {}
        return Match.FULL, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - Starlette's signature
        """Raise the refusal, which becomes an answer where all errors do."""
        raise HTTPException(405)


def method_of(scope: Scope) -> str:
    """Return the method that a request means: a POST may name another in a header."""
    if scope["method"] != "POST":
        return str(scope["method"])
    named = Request(scope).headers.get(OVERRIDE, "")
    return named.upper() if named else "POST"
