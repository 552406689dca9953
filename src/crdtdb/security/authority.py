"""The authority of a cluster: what it signs, how it is replaced, and what it has signed so far.

It is one folder with ca.pem, ca.key and the certificates. Keep ca.key away from the nodes: they need ca.pem, and their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crdtdb.errors import CertificateError, InvalidInputError
from crdtdb.limits import NAME_BYTES_MAX
from crdtdb.security.certificates import (
    Role,
    certified_in,
    cluster_of,
    days_left,
    key_of,
    now,
    read_certificate,
    read_certificates,
    serial_of,
    signer_of,
)
from crdtdb.security.peer import PeerIdentity

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 825
ISSUED = "issued"
"""The folder in the authority's where each certificate is kept under its serial number, to be revoked by it one day."""
_CLOCK_SKEW = timedelta(hours=1)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Issued(NamedTuple):
    """A certificate that the authority signed."""

    certified: PeerIdentity
    days_left: float
    current: bool
    """Whether it is the one in NAME.pem."""
    outgoing: bool
    """Whether an authority signed it that is on its way out."""


def create_authority(folder: Path) -> Path:
    """Make the authority of a new cluster in a folder; return its certificate's path.

    Raises CertificateError if there is one already.
    """
    certificate = folder / "ca.pem"
    if certificate.exists():
        raise CertificateError(
            f"there is an authority in {folder} already: sign with it, or choose another folder for another cluster"
        )
    signed, key = _new_authority(os.urandom(8).hex())
    _write_key(folder, "ca", key)
    _write_certificates(folder, "ca", [signed])
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
        raise CertificateError(
            f"{folder / name}.pem exists: `crdtdb cert rotate {name}` makes a new one, or choose another name"
        )
    return _sign(folder, role, name, [_host(host) for host in hosts], days)


def rotate(folder: Path, name: str, days: float = CERTIFICATE_DAYS) -> tuple[Path, PeerIdentity]:
    """Sign a new certificate, with a new key, for who has one; return its path, and what it replaces.

    Role and hosts stay. The old one stays valid until it expires or is revoked. Raises CertificateError.
    """
    old = read_certificate(folder / f"{name}.pem")
    certified = certified_in(old)
    if certified is None or name == "ca":
        raise CertificateError(
            f"{folder / name}.pem wasn't signed by `crdtdb cert`: an authority is replaced by "
            "`crdtdb cert rotate-authority`"
        )
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [one for one in names if not isinstance(one, x509.UniformResourceIdentifier)]
    _write_certificates(folder / ISSUED, serial_of(old), [old])
    return _sign(folder, certified.role, certified.name, hosts, days), certified


def rotate_authority(folder: Path) -> Path:
    """Begin to replace the authority: what is signed from now on is signed by a new one, and ca.pem holds both.

    Raises CertificateError if that has begun already.
    """
    known = read_certificates(folder / "ca.pem")
    if len(known) > 1:
        raise CertificateError(
            f"{folder / 'ca.pem'} holds two authorities already: rotate the certificates, give all of "
            "it to every node and client, and then `crdtdb cert rotate-authority --finish`"
        )
    _load_authority(folder)
    signed, key = _new_authority(cluster_of(known[0]))
    _write_certificates(folder, "ca", [signed, *known])
    _write_key(folder, "ca", key)
    return folder / "ca.pem"


def finish_rotation(folder: Path) -> Path:
    """End the replacement of the authority: ca.pem holds the new one alone.

    Raises CertificateError if there is nothing to end, or if a certificate in the folder was signed by the old one.
    """
    known = read_certificates(folder / "ca.pem")
    if len(known) == 1:
        raise CertificateError(
            f"{folder / 'ca.pem'} holds one authority: `crdtdb cert rotate-authority` begins with another"
        )
    left = sorted(one.certified.name for one in issued(folder) if one.current and one.outgoing)
    if left:
        raise CertificateError(
            f"the old authority signed the certificates of {', '.join(left)}: "
            "`crdtdb cert rotate` each first, and bring them to where they are used"
        )
    _write_certificates(folder, "ca", known[:1])
    return folder / "ca.pem"


def issued(folder: Path) -> list[Issued]:
    """Return the certificates that the authority in a folder has signed, by name, the newest first. Raises CertificateError."""
    signing = key_of(read_certificate(folder / "ca.pem"))
    found: dict[str, tuple[x509.Certificate, bool]] = {}
    for path in [*folder.glob("*.pem"), *(folder / ISSUED).glob("*.pem")]:
        certificate = read_certificate(path)
        current = found.get(serial_of(certificate), (certificate, False))[1] or path.parent == folder
        found[serial_of(certificate)] = (certificate, current)
    rows = [
        Issued(certified, days_left(one), current, signer_of(one) != signing)
        for one, current in found.values()
        if (certified := certified_in(one)) is not None
    ]
    return sorted(rows, key=lambda one: (one.certified.name, -one.days_left))


def _new_authority(cluster: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"crdtdb cluster {cluster}")])
    builder = (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS, f"crdtdb://{cluster}/authority", ())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()), key


def _sign(folder: Path, role: str, name: str, hosts: Sequence[x509.GeneralName], days: float) -> Path:
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
    signed = builder.sign(authority_key, hashes.SHA256())
    _write_key(folder, name, key)
    _write_certificates(folder, name, [signed])
    _write_certificates(folder / ISSUED, serial_of(signed), [signed])
    return folder / f"{name}.pem"


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
    if key.public_key() != certificate.public_key():
        raise CertificateError(
            f"{folder / 'ca.key'} isn't the key of {folder / 'ca.pem'}: bring back the two that belong together"
        )
    return certificate, key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: float,
    uri: str,
    hosts: Sequence[x509.GeneralName],
) -> x509.CertificateBuilder:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
    names += hosts
    begin = now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _CLOCK_SKEW)
        .not_valid_after(begin + timedelta(days=days))
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


def _write_key(folder: Path, name: str, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(folder, f"{name}.key", pem, 0o600)


def _write_certificates(folder: Path, name: str, certificates: Sequence[x509.Certificate]) -> None:
    pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)
    _write(folder, f"{name}.pem", pem, 0o644)


def _write(folder: Path, name: str, content: bytes, mode: int) -> None:
    """Put a file into its place at once: a node may be reading it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = folder / f".{name}.new"
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        partial.replace(folder / name)
    except OSError as error:
        raise CertificateError(f"can't write to {folder}: {error.strerror}") from error
