"""TLS: the only module that imports ssl. Version 1.3, certificates on both sides, one authority."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from crdtdb.cluster.actions import Certified
from crdtdb.cluster.certificates import certified_in, check_usable, read_certificate, uris_of
from crdtdb.errors import CertificateError

TLSError = ssl.SSLError


class Credentials:
    """The certificate, key and authority of one node or client, from a folder that `crdtdb cert` filled."""

    def __init__(self, folder: Path, name: str) -> None:
        """Check that everything is there, and in its time. Raises CertificateError."""
        self.authority, self.certificate, self.key = folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key"
        read_certificate(self.authority)
        check_usable(self.certificate)
        if not self.key.is_file():
            raise CertificateError(f"can't find the key {self.key}, which belongs beside its certificate")
        self.certified = certified_in(uris_of(read_certificate(self.certificate)))

    def gossip_server(self) -> ssl.SSLContext:
        """Return the context of a gossip port: whoever has no certificate of the authority isn't let in."""
        return self._context(ssl.PROTOCOL_TLS_SERVER, ssl.CERT_REQUIRED)

    def http_server(self) -> ssl.SSLContext:
        """Return the context of an HTTP port: certificates are asked for, and checked for each path."""
        return self._context(ssl.PROTOCOL_TLS_SERVER, ssl.CERT_OPTIONAL)

    def gossip_client(self) -> ssl.SSLContext:
        """Return the context for dialing a node, whose name is checked by the handshake, not by its address."""
        context = self._context(ssl.PROTOCOL_TLS_CLIENT, ssl.CERT_REQUIRED)
        context.check_hostname = False
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


def certified_by(ssl_object: ssl.SSLObject | None) -> Certified | None:
    """Return what the other end of a connection was certified as, None without a certificate."""
    peer = ssl_object.getpeercert() if ssl_object is not None else None
    names: Any = (peer or {}).get("subjectAltName", ())
    return certified_in(value for kind, value in names if kind == "URI")
