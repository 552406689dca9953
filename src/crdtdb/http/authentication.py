"""Who asks: a certificate of the cluster; or, where a node lets users in, a session's cookie or a password. No other way in.

A browser sends a certificate or a cookie along for whatever page asks it to: a request that changes something and names the
page it comes from is taken only from the node's own pages, and from those that the configuration allows.
"""

from __future__ import annotations

import binascii
import logging
from base64 import b64decode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crdtdb.cluster_port import PEER, WHO, ClusterPort
from crdtdb.http.json_io import JSONAnswer
from crdtdb.limits import PASSWORDS_WAITING_MAX
from crdtdb.security import Principal
from crdtdb.security.peer import PeerIdentity
from crdtdb.security.users import SESSION_SECONDS, Users, attempt_keys
from crdtdb.threads import PASSWORDS

COOKIE = "AuthSession"
_ANYBODY = b"/_session"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_CREDENTIALS_MAX = 4_096
_NEEDED = "A client certificate of this cluster is needed: `crdtdb cert client`."
_log = logging.getLogger("crdtdb.acts")


class TurnedAwayError(Exception):
    """Carries the answer for who may not come in."""

    def __init__(self, status: int, word: str, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.answer = JSONAnswer({"error": word, "reason": reason}, status, headers or {})


class Authentication:
    """Rejects requests without a known principal, and puts the principal into the scope."""

    def __init__(
        self, app: ASGIApp, cluster: ClusterPort, users: Users | None, origins: frozenset[str], same_site: str
    ) -> None:
        """Users may come by a password unless `users` is None. Pages of `origins` may change things.

        `same_site` is how far browsers may send the cookie along: "strict", or "none" where other sites' pages may use it.
        """
        self._app, self._cluster, self._users, self._origins = app, cluster, users, origins
        self._same_site = same_site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get(WHO) is not None:
            await self._app(scope, receive, send)  # from within this process: no network puts that into a scope
            return
        if scope["type"] == "websocket":
            if not self._may_open(scope):
                await send(
                    {"type": "websocket.close", "code": 1008, "reason": "a client certificate and an allowed origin"}
                )
                return
            scope = {**scope, WHO: _of_certificate(scope[PEER])}
        elif scope["type"] == "http":
            try:
                who, renewed = await self._who(scope)
                self._check_origin(scope)
            except TurnedAwayError as error:
                await error.answer(scope, receive, send)
                return
            scope, send = {**scope, WHO: who}, _renewing(send, renewed, self._same_site)
        await self._app(scope, receive, send)

    async def _who(self, scope: Scope) -> tuple[Principal | None, str | None]:
        """Return who asks, and a new session if the one that was shown is half over."""
        certified: PeerIdentity | None = scope.get(PEER)
        if certified is not None:
            why = self._cluster.why_refused(certified)
            if why is not None:
                raise TurnedAwayError(401, "unauthorized", why)
            return _of_certificate(certified), None
        found: tuple[Principal | None, str | None] | None = None
        if self._users is not None:
            headers = Headers(scope=scope)
            found = await self._by_password(scope, headers, self._users) or self._by_cookie(headers, self._users)
        if found is None and (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0] == _ANYBODY:
            return None, None
        if found is None:
            offered = {"www-authenticate": 'Basic realm="crdtdb"'} if self._users is not None else None
            also = " Or log in: this node takes users' passwords." if self._users is not None else ""
            raise TurnedAwayError(401, "unauthorized", _NEEDED + also, offered)
        return found

    async def _by_password(self, scope: Scope, headers: Headers, users: Users) -> tuple[Principal, None] | None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            if len(given) > _CREDENTIALS_MAX:
                raise ValueError("too long")
            name, colon, password = b64decode(given, validate=True).decode().partition(":")
        except (ValueError, binascii.Error) as error:
            raise TurnedAwayError(400, "bad_request", "Authorization header has invalid base64 value") from error
        if not colon:
            raise TurnedAwayError(
                401, "unauthorized", "The header Authorization isn't Basic with a name and a password."
            )
        return await log_in(scope, users, name, password), None

    @staticmethod
    def _by_cookie(headers: Headers, users: Users) -> tuple[Principal, str | None] | None:
        session = session_in(headers)
        found = users.of_session(session) if session is not None else None
        if found is None:
            return None
        principal, left = found
        return principal, users.session(principal.name) if left < SESSION_SECONDS / 2 else None

    def _check_origin(self, scope: Scope) -> None:
        """Refuse what a foreign page would change with this browser's certificate, cookie, or a password that it remembers."""
        if scope["method"] in _SAFE:
            return
        headers = Headers(scope=scope)
        if not self._is_allowed(headers):
            raise TurnedAwayError(
                403, "forbidden", f"Pages of {headers['origin'][:200]} may change nothing here: see the setting `cors`."
            )

    def _is_allowed(self, headers: Headers) -> bool:
        """Whether the page that a request comes from, if a browser names one, is the node's own or one that may."""
        origin = headers.get("origin")
        return origin is None or origin in self._origins or origin == f"https://{headers.get('host', '')}"

    def _may_open(self, scope: Scope) -> bool:
        """Whether a WebSocket may be opened: by certificate, and from a page that is allowed."""
        certified: PeerIdentity | None = scope.get(PEER)
        known = certified is not None and self._cluster.why_refused(certified) is None
        return known and self._is_allowed(Headers(scope=scope))


def _of_certificate(certified: PeerIdentity) -> Principal:
    return Principal(certified.name, "certificate", admin=certified.role == "admin")


async def log_in(scope: Scope, users: Users, name: str, password: str) -> Principal:
    """Return who has a name and a password. Raises an answer of 401, or of 429 after too many failures."""
    address = (scope.get("client") or ("?", 0))[0]
    remembered = users.remembered(name, password)
    if remembered is not None:
        return remembered
    _refuse_for(users.attempts.wait(*attempt_keys(name, address)))
    if PASSWORDS.waiting >= PASSWORDS_WAITING_MAX:
        raise TurnedAwayError(503, "service_unavailable", "Too many log in at the same time: try again in a second.")
    found, wait = await PASSWORDS.run(users.log_in, name, password, address)
    _refuse_for(wait)
    if found is None:
        _log.warning("a wrong name or password: %r from %s", name[:80], address)
        raise TurnedAwayError(401, "unauthorized", "Name or password is incorrect.")
    return found


def _refuse_for(seconds: float) -> None:
    """Raise an answer of 429 if an attempt must wait."""
    if seconds > 0:
        raise TurnedAwayError(
            429,
            "too_many_requests",
            f"Too many wrong passwords: try again in {seconds:.0f} s.",
            {"retry-after": str(int(seconds) + 1)},
        )


def session_in(headers: Headers) -> str | None:
    """Return the session that a request shows."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE) or None


def cookie_of(session: str, same_site: str) -> str:
    """Return the header that sets, or with an empty session takes away, the cookie."""
    seconds = SESSION_SECONDS if session else 0
    return f"{COOKIE}={session}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite={same_site.capitalize()}"


def _renewing(send: Send, session: str | None, same_site: str) -> Send:
    if session is None:
        return send

    async def with_cookie(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if "set-cookie" not in headers:
                headers.append("set-cookie", cookie_of(session, same_site))
        await send(message)

    return with_cookie
