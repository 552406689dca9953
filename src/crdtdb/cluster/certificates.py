"""Certificates of a cluster: one private authority, and what it signs. Roles stand in a URI.

    crdtdb://CLUSTER/authority         in ca.pem, with ca.key beside it: keep that key away from the nodes
    crdtdb://CLUSTER/node/NAME         in NAME.pem and NAME.key
    crdtdb://CLUSTER/client/NAME

Nobody becomes a node by asking: the role is signed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crdtdb.cluster.actions import Certified
from crdtdb.errors import CertificateError, InvalidInputError
from crdtdb.limits import NAME_BYTES_MAX
from crdtdb.wallclock import wall_milliseconds

Role = Literal["node", "client", "admin"]

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 825
_CLOCK_SKEW = timedelta(hours=1)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def create_authority(folder: Path) -> Path:
    """Make the authority of a new cluster in a folder; return its certificate's path.

    Raises CertificateError if there is one already.
    """
    certificate = folder / "ca.pem"
    if certificate.exists():
        raise CertificateError(
            f"there is an authority in {folder} already: sign with it, or choose another folder for another cluster"
        )
    cluster = os.urandom(8).hex()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"crdtdb cluster {cluster}")])
    builder = (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS, f"crdtdb://{cluster}/authority", ())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    _write(folder, "ca", builder.sign(key, hashes.SHA256()), key)
    return certificate


def issue(folder: Path, role: Role, name: str, hosts: Sequence[str] = (), days: float = CERTIFICATE_DAYS) -> Path:
    """Sign a certificate with the authority in a folder; return its path.

    `hosts` are the names and addresses under which clients will reach a node. Raises CertificateError if there is no
    authority or the certificate exists, InvalidInputError for a name that can't be used.
    """
    if not _NAME.fullmatch(name) or len(name) > NAME_BYTES_MAX or name == "ca":
        raise InvalidInputError(
            f"{name!r} can't be a name: it has letters, digits and ._-, at most {NAME_BYTES_MAX}, and isn't 'ca'"
        )
    if (folder / f"{name}.pem").exists():
        raise CertificateError(f"{folder / name}.pem exists: choose another name, or remove it first")
    authority, authority_key = _load_authority(folder)
    cluster = cluster_of(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if role == "node" else [])
    builder = (
        _builder(subject, authority.subject, key.public_key(), days, f"crdtdb://{cluster}/{role}/{name}", hosts)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    _write(folder, name, builder.sign(authority_key, hashes.SHA256()), key)
    return folder / f"{name}.pem"


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate. Raises CertificateError."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise CertificateError(
            f"can't read the certificate {path}: {error.strerror}. `crdtdb cert --help` says how to make one"
        ) from error
    except ValueError as error:
        raise CertificateError(f"{path} isn't a certificate: {error}") from error


def uris_of(certificate: x509.Certificate) -> list[str]:
    """Return the URIs that a certificate names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def certified_in(uris: Iterable[str]) -> Certified | None:
    """Return the cluster, role and name that a certificate's URIs give, None if they give none."""
    for uri in uris:
        parts = uri.split("/")
        if parts[:2] == ["crdtdb:", ""] and len(parts) == 5:
            return Certified(parts[2], parts[3], parts[4])
    return None


def cluster_of(certificate: x509.Certificate) -> str:
    """Return the id of the cluster that an authority is for. Raises CertificateError."""
    for uri in uris_of(certificate):
        if uri.startswith("crdtdb://"):
            return uri.split("/")[2]
    raise CertificateError("the certificate names no cluster: it wasn't made by `crdtdb cert`")


def check_usable(path: Path) -> None:
    """Check that a certificate is in its time. Raises CertificateError."""
    certificate = read_certificate(path)
    now = _now()
    if now > certificate.not_valid_after_utc:
        raise CertificateError(
            f"{path} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: make a new one"
        )
    if now < certificate.not_valid_before_utc:
        raise CertificateError(
            f"{path} isn't valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: is this clock right?"
        )


def _load_authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = read_certificate(folder / "ca.pem")
    try:
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    except OSError as error:
        raise CertificateError(
            f"can't read the authority's key {folder / 'ca.key'}: {error.strerror}. Sign where the authority was made"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{folder / 'ca.key'} isn't a private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{folder / 'ca.key'} isn't a key that crdtdb made")
    return certificate, key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: float,
    uri: str,
    hosts: Sequence[str],
) -> x509.CertificateBuilder:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
    names += [_host(host) for host in hosts]
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise InvalidInputError(f"{host!r} is neither an address nor a host's name: {error}") from error


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        descriptor = os.open(folder / f"{name}.key", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise CertificateError(f"can't write to {folder}: {error.strerror}") from error


def _now() -> datetime:
    return datetime.fromtimestamp(wall_milliseconds() / 1000, UTC)
