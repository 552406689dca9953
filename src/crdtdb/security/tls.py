"""TLS: the only module that imports ssl. Version 1.3, certificates on both sides, one authority.

Certificates and authority may be replaced while a node runs: it looks at its files, and new connections use what is there.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from crdtdb.errors import CertificateError
from crdtdb.security.certificates import (
    certified_as,
    certified_in,
    check_usable,
    key_of,
    read_certificate,
    read_certificates,
    soon_expired,
)
from crdtdb.security.peer import PeerIdentity

TLSError = ssl.SSLError


class Credentials:
    """The certificate, key and authority of one node or client, from a folder that `crdtdb cert` filled."""

    def __init__(self, folder: Path, name: str) -> None:
        """Check that everything is there, and in its time. Raises CertificateError."""
        self.authority, self.certificate, self.key = folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key"
        self._read()
        self._files = self._state_of_files()

    def _read(self) -> None:
        self.authorities = read_certificates(self.authority)
        check_usable(self.certificate)
        if not self.key.is_file():
            raise CertificateError(f"can't find the key {self.key}, which belongs beside its certificate")
        self.own = read_certificate(self.certificate)
        self.certified = certified_in(self.own)
        self._client = self._context(ssl.PROTOCOL_TLS_CLIENT, ssl.CERT_REQUIRED)
        self._client.check_hostname = False  # a node's name is checked by the handshake, whatever its address
        self._required = self._context(ssl.PROTOCOL_TLS_SERVER, ssl.CERT_REQUIRED)
        self._optional = self._context(ssl.PROTOCOL_TLS_SERVER, ssl.CERT_OPTIONAL)

    def refresh(self) -> bool:
        """Take over what has replaced the files; return whether something has.

        Raises CertificateError if what is there can't be used: then everything stays as it was, until the files change again.
        """
        found = self._state_of_files()
        if found == self._files:
            return False
        self._files = found
        before = vars(self).copy()
        try:
            self._read()
            if self.certified is None or before["certified"] is None or self.certified.who != before["certified"].who:
                raise CertificateError(
                    f"{self.certificate} is now a certificate for somebody else: the old one stays in use"
                )
        except CertificateError:
            vars(self).update(before)
            raise
        return True

    def expiring(self) -> list[str]:
        """Return a sentence for each of the certificates that expires within 30 days."""
        return soon_expired([(f"the certificate {self.certificate}", self.own), ("the authority", self.authorities[0])])

    def expiries(self) -> dict[str, float]:
        """Return until when the certificate and the authority are valid, in seconds since 1970."""
        return {
            "certificate": self.own.not_valid_after_utc.timestamp(),
            "authority": self.authorities[0].not_valid_after_utc.timestamp(),
        }

    def signed_by_authority(self, certified: PeerIdentity) -> bool:
        """Whether an authority signed a certificate that is still one."""
        return certified.authority in {key_of(one) for one in self.authorities}

    def gossip_client(self) -> ssl.SSLContext:
        """Return the context for dialing a node."""
        return self._client

    def gossip_server(self) -> ssl.SSLContext:
        """Return the context of a gossip port: whoever has no certificate of the authority isn't let in."""
        return self._required

    def http_server(self) -> ssl.SSLContext:
        """Return the context of an HTTP port: certificates are asked for, and checked for each path.

        It stays the same, as the port does, and hands each new connection on to the one that is current.
        """
        context = self._context(ssl.PROTOCOL_TLS_SERVER, ssl.CERT_OPTIONAL)

        def current(connection: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:  # noqa: ARG001
            connection.context = self._optional

        context.sni_callback = current
        return context

    def http_client(self) -> ssl.SSLContext:
        """Return the context for requests to a node, whose certificate must be for the host that is asked."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT, ssl.CERT_REQUIRED)

    def _context(self, protocol: int, verify: ssl.VerifyMode) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            context.verify_mode = verify
        try:
            context.load_verify_locations(self.authority)
            context.load_cert_chain(self.certificate, self.key)
        except (ssl.SSLError, OSError) as error:
            raise CertificateError(f"{self.certificate} and {self.key} can't be used: {error}") from error
        return context

    def _state_of_files(self) -> list[Any]:
        found: list[Any] = []
        for path in (self.authority, self.certificate, self.key):
            try:
                status = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return found


def client_context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    """Return the context for requests to a server of another authority, with a certificate of its, if it asks for one.

    All are PEM; without `ca` the machine's own authorities count. Raises CertificateError.
    """
    try:
        context = ssl.create_default_context(cadata=ca)
        if cert is not None:
            with TemporaryDirectory() as folder:  # ssl takes certificates from files alone
                path = Path(folder) / "client.pem"
                path.touch(0o600)
                path.write_text(cert + "\n" + (key or ""))
                context.load_cert_chain(path)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise CertificateError(f"the certificates that were given can't be used: {error}") from error
    return context


def certified_by(ssl_object: ssl.SSLObject | None) -> PeerIdentity | None:
    """Return what the other end of a connection was certified as, None without a certificate."""
    der = ssl_object.getpeercert(binary_form=True) if ssl_object is not None else None
    return certified_as(der) if der is not None else None
