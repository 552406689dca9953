"""What a certificate says of who stands at the other end: the form in which TLS hands it to gossip and to HTTP."""

from __future__ import annotations

from typing import NamedTuple


class PeerIdentity(NamedTuple):
    """Of which cluster, in which role, and who; and what decides whether that still holds."""

    cluster: str
    role: str
    name: str
    serial: str = ""
    """The certificate's serial number, in hexadecimal without leading zeros."""
    expires: float = float("inf")
    """The last second of its time, in seconds since 1970."""
    authority: str = ""
    """The identifier of the key that signed it, in hexadecimal."""

    @property
    def who(self) -> tuple[str, str, str]:
        """Cluster, role and name, whichever certificate says so."""
        return self[:3]
