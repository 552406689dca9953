"""Who may do what with a collection: `system.access` says it, for each by its name, and is replicated like any other.

Whoever has a certificate of the cluster may do everything with a collection of which nothing is said. Users, who come by a
password, may do what they are named for, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from crdtdb.database.system_collection import SystemCollection
from crdtdb.errors import InvalidInputError
from crdtdb.store import SYSTEM, Store

ACCESS = "system.access"
USERS = "system.users"
REPLICATOR = "system.replicator"
"""How other databases are reached, with what passwords."""
SECURITY = "system.security"
"""The `_security` of collections as it was written. `system.access`, which older members read, says what it permits."""
KINDS = ("admins", "members", "readers")
_LISTED_MAX = 1_000
_NAME_MAX = 256
NOBODY_NAMED: Mapping[str, Any] = {kind: {"names": [], "roles": []} for kind in KINDS}
ADMINISTRATORS_ONLY: Mapping[str, Any] = {**NOBODY_NAMED, "members": {"names": [""], "roles": []}}
"""Names somebody, and nobody who could exist."""


class Level(IntEnum):
    """How much somebody may do with a collection; each includes those before it."""

    NONE = 0
    READ = 1
    WRITE = 2
    ADMIN = 3
    """Drop it, say who may do what, and write what computes over it: design documents, indexes, declarations of fields."""


class Principal(NamedTuple):
    """Who asks. `by` is "certificate", "cookie" or "password"; `admin` an administrator of the cluster, by certificate."""

    name: str
    by: str
    roles: frozenset[str] = frozenset()
    admin: bool = False


def check_security(given: object) -> dict[str, Any]:
    """Return what a `_security` permits: `{"admins": {"names": [], "roles": []}, "members": …, "readers": …}`.

    Other members permit nothing and are left out, as in CouchDB. Raises InvalidInputError.
    """
    if not isinstance(given, Mapping):
        raise InvalidInputError('security is an object such as {"members": {"names": ["ada"], "roles": ["editors"]}}')
    return {kind: _check_named(kind, given.get(kind, {})) for kind in KINDS}


def _check_named(kind: str, named: object) -> dict[str, list[str]]:
    if not isinstance(named, Mapping):
        raise InvalidInputError(f"`{kind}` is an object with `names` and `roles`")
    found = {}
    for part in ("names", "roles"):
        listed = named.get(part, [])
        if not isinstance(listed, list) or len(listed) > _LISTED_MAX or not all(map(_is_name, listed)):
            raise InvalidInputError(
                f"`{kind}.{part}` is an array of at most {_LISTED_MAX} strings of 1 to {_NAME_MAX} characters"
            )
        found[part] = sorted(set(listed))
    return found


def _check_written(name: str, body: Mapping[str, Any]) -> None:  # noqa: ARG001 - the signature of a check
    check_security(body["written"])


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _NAME_MAX


def level_of(principal: Principal, security: Mapping[str, Any]) -> Level:
    """Return what somebody may do with a collection of which this is said."""
    if principal.admin:
        return Level.ADMIN
    for kind, level in zip(KINDS, (Level.ADMIN, Level.WRITE, Level.READ), strict=True):
        named = security[kind]
        if principal.name in named["names"] or not principal.roles.isdisjoint(named["roles"]):
            return level
    if principal.by != "certificate" or _names_anybody(security, "members") or _names_anybody(security, "readers"):
        return Level.NONE
    return Level.WRITE if _names_anybody(security, "admins") else Level.ADMIN


def _names_anybody(security: Mapping[str, Any], kind: str) -> bool:
    return bool(security[kind]["names"] or security[kind]["roles"])


class Permissions:
    """What is said of all collections, read again when it changes."""

    def __init__(self, store: Store) -> None:
        self._kept = SystemCollection(store, ACCESS, lambda name, body: check_security(body))  # noqa: ARG005
        self._said: dict[str, Mapping[str, Any]] = {}
        self._written = SystemCollection(store, SECURITY, _check_written)
        self._shown: dict[str, dict[str, Any]] = {}

    def of(self, name: str) -> Mapping[str, Any]:
        """Return what is said of a collection."""
        if self._kept.changed():
            said = {one: check_security(body) for one, body in self._kept.bodies()}
            # What can't be read must not open what it closed.
            self._said = {**dict.fromkeys(self._kept.malformed, ADMINISTRATORS_ONLY), **said}
        return self._said.get(name, NOBODY_NAMED)

    def shown(self, name: str) -> Mapping[str, Any]:
        """Return the `_security` of a collection as it was written, where that is what is in force."""
        if self._written.changed():
            self._shown = {one: body["written"] for one, body in self._written.bodies()}
        said, written = self.of(name), self._shown.get(name)
        # An older member writes `system.access` alone, and one of the two documents may come before the other.
        return written if written is not None and check_security(written) == said else said

    def say(self, name: str, security: Mapping[str, Any]) -> None:
        """Set the `_security` of a collection, everywhere. Raises InvalidInputError."""
        checked = check_security(security)
        self._written.say(name, {"written": dict(security)})
        self._kept.say(name, checked)

    def level(self, principal: Principal, name: str) -> Level:
        """Return what somebody may do with a collection."""
        if name.startswith(SYSTEM):
            # Nobody but the database writes them; what has passwords in it is for administrators.
            hidden = name in (USERS, REPLICATOR) or principal.by != "certificate"
            return Level.ADMIN if principal.admin else Level.NONE if hidden else Level.READ
        return level_of(principal, self.of(name))
