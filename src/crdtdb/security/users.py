"""Users, who come by a name and a password, and the sessions that they get for it.

`system.users` holds for each what scrypt makes of the password, and the roles. A session is a text that says who and until
when, signed by what only the cluster knows of that user; so it serves at every node, and ends when the password changes or the
user goes.

Source of scrypt: Percival, Josefsson, "The scrypt Password-Based Key Derivation Function", RFC 7914 (2016).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from threading import Lock, Semaphore
from typing import Any, NamedTuple

from crdtdb.canonical_json import load
from crdtdb.clock import WallClock, iso, monotonic_seconds, wall_milliseconds
from crdtdb.database.system_collection import SystemCollection
from crdtdb.documents import NO_BODY
from crdtdb.errors import InvalidDocumentError, InvalidInputError, NotFoundError
from crdtdb.limits import SESSION_SKEW_SECONDS_MAX
from crdtdb.security import USERS, Principal
from crdtdb.security.addresses import block_of
from crdtdb.store import Store

SESSION_SECONDS = 600
_MEMORY_BYTES_MAX = 64 * 1024 * 1024
_WORK_MAX = 2**20
"""Blocks that a password may cost to hash: about two seconds."""
_SALT_BYTES = 16
_HASH_BYTES = 32
_AT_A_TIME = 2
_PASSWORD_MIN, _PASSWORD_MAX = 8, 1_024
_ROLES_MAX = 100
_FAILURES_MAX = 10
_FAILURES_SECONDS = 60.0
_FAILURES_KEPT = 10_000
_REMEMBERED_SECONDS = 60.0
_REMEMBERED_MAX = 1_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_SECRETS = ("salt", "hash", "scheme", "key", "passwordless")
_NOBODY: Mapping[str, Any] = {"salt": "00" * _SALT_BYTES, "hash": "00" * _HASH_BYTES, "roles": []}


class Cost(NamedTuple):
    """Parameters of scrypt: `n` rows of `r` blocks of 128 bytes, filled `p` times."""

    n: int
    r: int
    p: int

    @classmethod
    def of(cls, scheme: object) -> Cost:
        """Read the `scheme` of a user's document, such as "scrypt:32768:8:3". Raises InvalidDocumentError."""
        if scheme is None:
            return FIRST_COST
        match = _SCHEME.fullmatch(scheme) if isinstance(scheme, str) else None
        if match is None:
            raise InvalidDocumentError(f"the scheme of a password is scrypt:N:R:P, not {str(scheme)[:80]!r}")
        cost = cls(*map(int, match.groups()))
        power_of_two = cost.n > 1 and cost.n & (cost.n - 1) == 0
        if not power_of_two or cost.p < 1 or not 0 < 128 * cost.n * cost.r <= _MEMORY_BYTES_MAX // 2:
            raise InvalidDocumentError(f"scrypt can't run with {scheme}: N is a power of two, 128·N·R at most 32 MB")
        if cost.n * cost.r * cost.p > _WORK_MAX:
            raise InvalidDocumentError(f"hashing a password by {scheme} takes too long")
        return cost

    def __str__(self) -> str:
        return f"scrypt:{self.n}:{self.r}:{self.p}"


_SCHEME = re.compile(r"scrypt:([0-9]{1,8}):([0-9]{1,4}):([0-9]{1,4})")
FIRST_COST = Cost(2**14, 8, 1)
"""That of documents without a scheme, and of nodes that speak a protocol before 1.4 and know no other."""
COST = Cost(2**15, 8, 3)
"""What new hashes cost: a row of OWASP's Password Storage Cheat Sheet (2023), 32 MB and about 0.3 s of CPU."""


def check_user(name: str, body: Mapping[str, Any]) -> None:
    """Raise InvalidDocumentError unless a document of `system.users` is that of a user."""
    roles = body["roles"]
    if not _NAME.fullmatch(name) or len(bytes.fromhex(body["salt"])) < _SALT_BYTES:
        raise InvalidDocumentError("a user has a name, and a salt")
    if len(bytes.fromhex(body["hash"])) != _HASH_BYTES:
        raise InvalidDocumentError(f"the hash of a password has {_HASH_BYTES} bytes")
    Cost.of(body.get("scheme"))
    if type(body.get("key", "")) is not str or len(bytes.fromhex(body.get("key", ""))) not in (0, _HASH_BYTES):
        raise InvalidDocumentError(f"the key of a user's sessions has {_HASH_BYTES} bytes")
    if type(body.get("more", {})) is not dict:
        raise InvalidDocumentError("what else a user's document has is an object")
    if type(roles) is not list or len(roles) > _ROLES_MAX or not all(type(one) is str for one in roles):
        raise InvalidDocumentError(f"roles are an array of at most {_ROLES_MAX} names")


class Verdict(NamedTuple):
    """What came of a name and a password: who it is, None for a wrong one; or how many seconds later to try again."""

    principal: Principal | None
    wait: float = 0.0


class Attempts:
    """Counts attempts to log in by name and by address: beyond a bound none is checked for a while. Safe for threads.

    An attempt counts before it is checked, or a burst would have been let through by the time that the first has failed.
    """

    def __init__(self, clock: Callable[[], float] = monotonic_seconds) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = Lock()

    def wait(self, *keys: str) -> float:
        """Return in how many seconds an attempt is allowed for all of these, 0 if it is now."""
        with self._lock:
            return self._longest(keys)

    def begin(self, *keys: str) -> float:
        """Count an attempt as failed and return 0; or count nothing and return in how many seconds it is allowed."""
        with self._lock:
            wait = self._longest(keys)
            if wait == 0:
                self._count(keys)
            return wait

    def succeeded(self, *keys: str) -> None:
        """Take back what `begin` counted."""
        with self._lock:
            for key in keys:
                kept = self._failed.get(key, [])
                if kept:
                    kept.pop()

    def _longest(self, keys: tuple[str, ...]) -> float:
        now = self._clock()
        return max((self._wait(key, now) for key in keys), default=0.0)

    def _wait(self, key: str, now: float) -> float:
        failed = [at for at in self._failed.get(key, ()) if at > now - _FAILURES_SECONDS]
        if not failed:
            self._failed.pop(key, None)
        return failed[-_FAILURES_MAX] + _FAILURES_SECONDS - now if len(failed) >= _FAILURES_MAX else 0.0

    def _count(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            kept = self._failed.pop(key, [])  # to the end: what is forgotten first is the oldest
            self._failed[key] = [*kept[-_FAILURES_MAX:], self._clock()]
        while len(self._failed) > _FAILURES_KEPT:
            self._failed.popitem(last=False)


class Users:
    """All users, read again when one changes. Safe for threads."""

    def __init__(
        self,
        store: Store,
        wall: WallClock = wall_milliseconds,
        draw: Callable[[int], bytes] = os.urandom,
        cost: Callable[[], Cost] = lambda: COST,
    ) -> None:
        """`cost` returns what a new hash costs; a login by an older hash replaces it by one that costs that."""
        self._cost, self._store = cost, store
        self._kept, self._wall, self._draw = SystemCollection(store, USERS, check_user), wall, draw
        self._known: dict[str, Mapping[str, Any]] = {}
        self._working = Semaphore(_AT_A_TIME)  # each takes 32 MB
        self._secret = os.urandom(32)
        self._remembered: dict[bytes, float] = {}
        self.attempts = Attempts()
        self.hashed = 0
        """How many passwords were hashed since the start."""

    def _all(self) -> dict[str, Mapping[str, Any]]:
        if self._kept.changed():
            self._known = dict(self._kept.bodies())
            self._remembered = {}
        return self._known

    def names(self) -> list[tuple[str, list[str]]]:
        """Return the users with their roles."""
        return sorted((name, list(one["roles"])) for name, one in self._all().items())

    def revisions(self) -> dict[str, tuple[str, Mapping[str, Any]]]:
        """Return of each user the revision and the document, by name."""
        winners = ((name, shown.siblings[0]) for name, shown in self._kept.views())
        return {name: (str(winner.rev), load(winner.text or NO_BODY)) for name, winner in winners}

    def add(self, name: object, password: object, roles: Iterable[object] = ()) -> bool:
        """Make a user, or give one another password and other roles; return whether it is new. Raises InvalidInputError."""
        if not isinstance(password, str) or len(password) < _PASSWORD_MIN:
            raise InvalidInputError(f"a password has {_PASSWORD_MIN} to {_PASSWORD_MAX:,} characters")
        return self.write(name, roles, password)

    def write(
        self,
        name: object,
        roles: Iterable[object],
        password: str | None,
        *,
        keep: bool = False,
        more: Mapping[str, Any] | None = None,
    ) -> bool:
        """Make or change a user; return whether it is new. Raises InvalidInputError.

        Without a password it is the one before if `keep`, else none: nobody can log in by that name. `more` replaces what
        clients keep in the document beside, None leaves it.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInputError(
                "a user's name has letters, digits and ._@+-, begins with one of the first two, at most 128"
            )
        if password is not None and len(password) > _PASSWORD_MAX:
            raise InvalidInputError(f"a password has at most {_PASSWORD_MAX:,} characters")
        listed = sorted({one for one in roles if isinstance(one, str)})
        if len(listed) > _ROLES_MAX or not all(isinstance(one, str) and _ROLE.fullmatch(one) for one in roles):
            raise InvalidInputError(f"roles are at most {_ROLES_MAX}, of letters, digits and ._@+-, as names are")
        known = self._all().get(name)
        beside = dict(more) if more is not None else (known or {}).get("more", {})
        body = {**self._secrets(password, known if keep else None), "roles": listed, "changed": iso(self._wall())}
        self._kept.say(name, {**body, **({"more": beside} if beside else {})})
        return known is None

    def _secrets(self, password: str | None, kept: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the members that passwords and sessions are checked by."""
        if password is not None:
            return self._hashed(password)
        if kept is not None:
            return {part: kept[part] for part in _SECRETS if part in kept}
        drawn = {"salt": self._draw(_SALT_BYTES).hex(), "hash": self._draw(_HASH_BYTES).hex()}  # no password has it
        return {**drawn, "scheme": str(self._cost()), "passwordless": True}

    def _hashed(self, password: str) -> dict[str, str]:
        salt, cost = self._draw(_SALT_BYTES), self._cost()
        return {"salt": salt.hex(), "hash": self._derived(password, salt, cost).hex(), "scheme": str(cost)}

    def remove(self, name: str) -> str:
        """Remove a user, whose sessions end; return the revision of the deletion. Raises NotFoundError."""
        if name not in self._all() or not self._kept.delete(name):
            raise NotFoundError(f"there is no user {name[:80]!r}")
        record = self._store.read(USERS, name)
        return str(max(leaf.rev for leaf in record.state.leaves.values())) if record is not None else ""

    def log_in(self, name: str, password: str, address: str) -> Verdict:
        """Check a name and a password from an address, if not too many attempts failed. Takes about 0.3 s of CPU."""
        keys = attempt_keys(name, address)
        wait = self.attempts.begin(*keys)
        if wait > 0:
            return Verdict(None, wait)
        principal = self.verify(name, password)
        if principal is not None:
            self.attempts.succeeded(*keys)
        return Verdict(principal)

    def remembered(self, name: str, password: str) -> Principal | None:
        """Return who was found to have this name and password in the last minute, None if nobody was."""
        known = self._all().get(name)
        if known is None or self._remembered.get(self._token(name, password), 0.0) <= monotonic_seconds():
            return None
        return self._principal(name, known, "password")

    def _token(self, name: str, password: str) -> bytes:
        return hmac.digest(self._secret, f"{len(name)}:{name}{password}".encode("utf-8", "surrogatepass"), "sha256")

    def verify(self, name: str, password: str) -> Principal | None:
        """Return who has this name and password, None if nobody has. It takes as long for a name that nobody has."""
        remembered = self.remembered(name, password)
        if remembered is not None:
            return remembered
        known = self._all().get(name)
        user = known if known is not None else {**_NOBODY, "scheme": self._scheme_for_nobody(name)}
        cost = Cost.of(user.get("scheme"))
        derived = self._derived(password[:_PASSWORD_MAX], bytes.fromhex(user["salt"]), cost)
        if not hmac.compare_digest(derived, bytes.fromhex(user["hash"])) or known is None:
            return None
        if cost != self._cost():
            # Sessions go on under the key that they were signed by: the password is the same.
            known = {**known, **self._hashed(password), "key": _session_key(known).hex()}
            self._kept.say(name, dict(known))
        if len(self._remembered) >= _REMEMBERED_MAX:
            self._remembered = {}
        self._remembered[self._token(name, password)] = monotonic_seconds() + _REMEMBERED_SECONDS
        return self._principal(name, known, "password")

    def _scheme_for_nobody(self, name: str) -> str:
        """Return the scheme of some user, always the same for a name: time tells nobody which names there are."""
        schemes = [str(Cost.of(user.get("scheme"))) for _, user in sorted(self._all().items())] or [str(self._cost())]
        return schemes[
            int.from_bytes(hmac.digest(self._secret, name.encode("utf-8", "surrogatepass"), "sha256")[:8])
            % len(schemes)
        ]

    def _derived(self, password: str, salt: bytes, cost: Cost) -> bytes:
        with self._working:
            self.hashed += 1
            return hashlib.scrypt(
                password.encode("utf-8", "surrogatepass"),
                salt=salt,
                n=cost.n,
                r=cost.r,
                p=cost.p,
                maxmem=_MEMORY_BYTES_MAX,
                dklen=_HASH_BYTES,
            )

    @staticmethod
    def _principal(name: str, known: Mapping[str, Any], by: str) -> Principal:
        return Principal(name, by, frozenset(known["roles"]))

    # Sessions

    def session(self, name: str) -> str:
        """Return a session of a user, for `SESSION_SECONDS` from now. Raises NotFoundError."""
        known = self._all().get(name)
        if known is None:
            raise NotFoundError(f"there is no user {name[:80]!r}")
        said = f"{urlsafe_b64encode(name.encode()).decode().rstrip('=')}.{self._wall() // 1000 + SESSION_SECONDS:x}"
        return f"{said}.{_signed(known, said)}"

    def of_session(self, session: str) -> tuple[Principal, int] | None:
        """Return whose session it is, and for how many seconds more; None for one that is over, or that nobody has signed.

        A node whose clock goes before this one's may have issued it, up to `SESSION_SKEW_SECONDS_MAX` seconds from now.
        """
        said, _, signature = session.rpartition(".")
        encoded, _, until = said.partition(".")
        try:
            name = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            left = int(until, 16) - self._wall() // 1000
        except ValueError:
            return None
        known = self._all().get(name)
        wanted = _signed(known if known is not None else _NOBODY, said)
        if not hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), wanted.encode()) or known is None:
            return None
        if not 0 < left <= SESSION_SECONDS + SESSION_SKEW_SECONDS_MAX:
            return None
        return self._principal(name, known, "cookie"), min(left, SESSION_SECONDS)


def attempt_keys(name: str, address: str) -> tuple[str, str]:
    """Return under which keys an attempt counts."""
    return f"name {name[:200]}", f"address {block_of(address)}"


def _session_key(known: Mapping[str, Any]) -> bytes:
    if known.get("key"):
        return bytes.fromhex(known["key"])
    return hmac.digest(bytes.fromhex(known["hash"]), b"crdtdb session " + bytes.fromhex(known["salt"]), "sha256")


def _signed(known: Mapping[str, Any], said: str) -> str:
    return hmac.digest(_session_key(known), said.encode(), "sha256").hex()
