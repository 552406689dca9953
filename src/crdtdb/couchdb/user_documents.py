"""Users in CouchDB's form: documents `org.couchdb.user:NAME` of a database `_users`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from crdtdb.couchdb.errors import CouchError, missing
from crdtdb.errors import ConflictError, InvalidInputError, NotFoundError
from crdtdb.security.users import Cost, Users

PREFIX = "org.couchdb.user:"
_OF_PASSWORDS = frozenset(
    {"password", "password_scheme", "pbkdf2_prf", "salt", "iterations", "derived_key", "password_sha"}
)
_OF_USERS = frozenset({"name", "type", "roles"}) | _OF_PASSWORDS
_SPECIAL = frozenset({"_id", "_rev", "_deleted", "_revisions"})


class UserDocuments:
    """Reads and writes users as documents. Errors are CouchDB's."""

    def __init__(self, users: Users) -> None:
        self._users = users

    def all(self) -> list[dict[str, Any]]:
        """Return all documents, by their ids."""
        found = self._users.revisions()
        return [_document(name, *found[name]) for name in sorted(found)]

    def get(self, doc_id: str) -> dict[str, Any]:
        """Return a document. Raises CouchError, 404."""
        name = doc_id.removeprefix(PREFIX)
        found = self._users.revisions().get(name) if doc_id.startswith(PREFIX) else None
        if found is None:
            raise missing()
        return _document(name, *found)

    def put(self, doc_id: str, doc: Mapping[str, Any]) -> str:
        """Write a document, and return its revision. Takes about 0.3 s of CPU where it brings a password.

        One that comes back with the `derived_key` that was shown keeps the password; one without any has none, and nobody can
        log in by it. Raises CouchError: 403 for what is no user; ConflictError.
        """
        name = _checked(doc_id, doc)
        known = self._users.revisions().get(name)
        _check_rev(doc_id, doc.get("_rev"), known)
        shown = _document(name, *known) if known is not None else {}
        password = doc.get("password")
        keep = password is None and "derived_key" in doc
        if keep and any(doc.get(part) != shown.get(part) for part in ("derived_key", "salt")):
            raise _forbidden("a password that was hashed elsewhere can't be checked here: send `password`")
        more = {key: value for key, value in doc.items() if key not in _OF_USERS and not key.startswith("_")}
        try:
            self._users.write(name, doc["roles"], password, keep=keep, more=more)
        except InvalidInputError as error:
            raise _forbidden(error.args[0]) from error
        return self._users.revisions()[name][0]

    def delete(self, doc_id: str, rev: str | None) -> str:
        """Remove a user, whose sessions end, and return the revision of the deletion. Raises CouchError, ConflictError."""
        name = doc_id.removeprefix(PREFIX)
        known = self._users.revisions().get(name) if doc_id.startswith(PREFIX) else None
        if known is None:
            raise missing()
        _check_rev(doc_id, rev, known)
        try:
            return self._users.remove(name)
        except NotFoundError as error:
            raise missing() from error


def _check_rev(doc_id: str, given: object, known: tuple[str, Mapping[str, Any]] | None) -> None:
    current = known[0] if known is not None else None
    if given != current:
        raise ConflictError(doc_id, str(given) if given else None, (current,) if current else ())


def _forbidden(reason: str) -> CouchError:
    return CouchError(403, "forbidden", reason)


def _checked(doc_id: str, doc: Mapping[str, Any]) -> str:
    """Return the name in a document that is one of a user's, as the validation of CouchDB's `_users` has it."""
    unknown = [key for key in doc if key.startswith("_") and key not in _SPECIAL]
    if unknown:
        raise CouchError(400, "doc_validation", f"Bad special document member: {unknown[0][:80]}")
    name, roles, password = doc.get("name"), doc.get("roles"), doc.get("password")
    if doc.get("type") != "user":
        raise _forbidden("doc.type must be user")
    if not isinstance(name, str) or not name:
        raise _forbidden("doc.name is required")
    if not isinstance(roles, list):
        raise _forbidden("doc.roles must be an array" if "roles" in doc else "doc.roles must exist")
    if not all(isinstance(role, str) for role in roles):
        raise _forbidden("doc.roles can only contain strings")
    if doc_id != PREFIX + name:
        raise _forbidden(f"Doc ID must be of the form {PREFIX}name")
    if any(role.startswith("_") for role in roles):
        raise _forbidden("No system roles (starting with underscore) in users db.")
    if password is not None and (not isinstance(password, str) or not password):
        raise _forbidden("the password is a string of at least a character")
    return name


def _document(name: str, rev: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is shown of a user.

    `derived_key` and `salt` follow from the hash and don't tell it: they only say that the password is still the same.
    """
    found = {"_id": PREFIX + name, "_rev": rev, **body.get("more", {})}
    if not body.get("passwordless"):
        secret = bytes.fromhex(body["hash"])
        found["password_scheme"], found["pbkdf2_prf"] = "scrypt", "sha256"  # scrypt is made of PBKDF2 with SHA-256
        found["iterations"] = Cost.of(body.get("scheme")).n
        found["salt"] = hmac.digest(secret, b"crdtdb shown salt", hashlib.sha256).hex()[:32]
        found["derived_key"] = hmac.digest(secret, b"crdtdb shown key", hashlib.sha256).hex()
    return {**found, "name": name, "type": "user", "roles": list(body["roles"])}
