"""Who may stay connected: not those whose certificate was revoked, or whose time or authority is over.

A revocation is a document of `system.revocations`: it reaches every member, and each looks at it for every connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from crdtdb.clock import iso
from crdtdb.database.system_collection import SystemCollection
from crdtdb.errors import InvalidInputError
from crdtdb.security.peer import PeerIdentity
from crdtdb.store import Store

REVOCATIONS = "system.revocations"
_SERIAL = re.compile(r"[0-9a-f]{1,40}")


def check_revocation(serial: str, body: dict[str, Any]) -> None:  # noqa: ARG001
    """Raise InvalidInputError unless a document of `system.revocations` stands under a serial number."""
    if not _SERIAL.fullmatch(serial):
        raise InvalidInputError(f"{serial[:60]!r} isn't a serial number")


class Revocations:
    """The certificates that count no more, by their serial number."""

    def __init__(self, store: Store) -> None:
        self._kept = SystemCollection(store, REVOCATIONS)
        self._serials: frozenset[str] = frozenset()

    def __contains__(self, serial: object) -> bool:
        if self._kept.changed():
            listed = frozenset(one for one, _ in self._kept.views())
            self._serials = listed | self._kept.malformed  # what it says isn't looked at
        return serial in self._serials

    def revoke(self, serial: str, name: str, role: str, why: str, by: str, at: int) -> bool:
        """Revoke a certificate for good, `at` milliseconds since 1970; return whether it wasn't yet.

        Raises InvalidInputError for what is no serial number.
        """
        if not _SERIAL.fullmatch(serial):
            raise InvalidInputError(
                f"{serial[:60]!r} isn't a serial number: it is hexadecimal, as `crdtdb cert list` has it"
            )
        if serial in self:
            return False
        said: dict[str, Any] = {"serial": serial, "name": name, "role": role, "why": why, "by": by, "at": iso(at)}
        return self._kept.say(serial, said)


class Access:
    """Decides about one certificate at a time, as often as somebody asks."""

    def __init__(
        self, revocations: Revocations, signed_by_authority: Callable[[PeerIdentity], bool], clock: Callable[[], int]
    ) -> None:
        """`clock` returns milliseconds since 1970."""
        self.revocations = revocations
        self._signed_by_authority, self._clock = signed_by_authority, clock

    def why_refused(self, certified: PeerIdentity) -> str | None:
        """Return why a certificate doesn't count (any more), None if it does."""
        if certified.serial in self.revocations:
            return f"the certificate {certified.serial} of {certified.role} {certified.name!r} was revoked"
        if self._clock() > certified.expires * 1000:
            return f"the certificate of {certified.role} {certified.name!r} expired at {iso(int(certified.expires * 1000))}"
        if not self._signed_by_authority(certified):
            return f"the certificate of {certified.role} {certified.name!r} is of an authority that was replaced"
        return None
