"""Certificates as they are read. Roles stand in a URI:

    crdtdb://CLUSTER/authority         in ca.pem, which may hold two while one takes over from the other
    crdtdb://CLUSTER/node/NAME         in NAME.pem, with NAME.key
    crdtdb://CLUSTER/admin/NAME
    crdtdb://CLUSTER/client/NAME

Nobody becomes a node by asking: the role is signed. `crdtdb.security.authority` signs.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cryptography import x509

from crdtdb.clock import wall_milliseconds
from crdtdb.errors import CertificateError
from crdtdb.security.peer import PeerIdentity

Role = Literal["node", "client", "admin"]

EXPIRY_WARNING_DAYS = 30
"""So long before a certificate expires everybody is told."""


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Read the certificates in a file, at least one. Raises CertificateError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise CertificateError(
            f"can't read the certificate {path}: {error.strerror}. `crdtdb cert --help` says how to make one"
        ) from error
    except ValueError as error:
        raise CertificateError(f"{path} isn't a certificate: {error}") from error


def read_certificate(path: Path) -> x509.Certificate:
    """Read the first certificate in a file: of an authority, the one that signs. Raises CertificateError."""
    return read_certificates(path)[0]


def certified_as(der: bytes) -> PeerIdentity | None:
    """Return what a certificate says, None if it wasn't made for a cluster."""
    return certified_in(x509.load_der_x509_certificate(der))


def certified_in(certificate: x509.Certificate) -> PeerIdentity | None:
    """Return what a certificate says, None if it wasn't made for a cluster."""
    for uri in uris_of(certificate):
        parts = uri.split("/")
        if parts[:2] == ["crdtdb:", ""] and len(parts) == 5:
            expires = certificate.not_valid_after_utc.timestamp()
            return PeerIdentity(parts[2], parts[3], parts[4], serial_of(certificate), expires, signer_of(certificate))
    return None


def serial_of(certificate: x509.Certificate) -> str:
    """Return a certificate's serial number as people write it."""
    return format(certificate.serial_number, "x")


def uris_of(certificate: x509.Certificate) -> list[str]:
    """Return the URIs that a certificate names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def cluster_of(certificate: x509.Certificate) -> str:
    """Return the id of the cluster that an authority is for. Raises CertificateError."""
    for uri in uris_of(certificate):
        if uri.startswith("crdtdb://"):
            return uri.split("/")[2]
    raise CertificateError("the certificate names no cluster: it wasn't made by `crdtdb cert`")


def key_of(authority: x509.Certificate) -> str:
    """Return the identifier of an authority's key, as it stands in what that signs."""
    try:
        return authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    except x509.ExtensionNotFound:
        return ""


def signer_of(certificate: x509.Certificate) -> str:
    """Return the identifier of the key that signed a certificate."""
    try:
        named = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return ""
    return named.hex() if named is not None else ""


def days_left(certificate: x509.Certificate) -> float:
    """Return how many days a certificate is still valid; negative once it isn't."""
    return (certificate.not_valid_after_utc - now()).total_seconds() / 86_400


def check_usable(path: Path) -> None:
    """Check that a certificate is in its time. Raises CertificateError."""
    certificate = read_certificate(path)
    if now() > certificate.not_valid_after_utc:
        raise CertificateError(
            f"{path} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: make a new one by `crdtdb cert rotate`"
        )
    if now() < certificate.not_valid_before_utc:
        raise CertificateError(
            f"{path} isn't valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: is this clock right?"
        )


def soon_expired(certificates: Iterable[tuple[str, x509.Certificate]]) -> list[str]:
    """Return a sentence for each certificate that expires within 30 days."""
    found = []
    for what, certificate in certificates:
        left = days_left(certificate)
        if left < EXPIRY_WARNING_DAYS:
            at = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            when = f"expires in {max(1, round(left))} days, at {at}" if left > 0 else f"has expired at {at}"
            found.append(f"{what} {when}")
    return found


def now() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.fromtimestamp(wall_milliseconds() / 1000, UTC)
