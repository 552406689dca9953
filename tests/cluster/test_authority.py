"""The authority: what it signs, how certificates and the authority itself are replaced, and what goes wrong on the way."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtensionOID

from crdtdb.errors import CertificateError
from crdtdb.security import certificates
from crdtdb.security.authority import create_authority, finish_rotation, issue, issued, rotate, rotate_authority
from crdtdb.security.certificates import certified_in, read_certificate, read_certificates, soon_expired
from crdtdb.security.tls import Credentials


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certs = tmp_path / "certs"
    create_authority(certs)
    issue(certs, "node", "n1", ["127.0.0.1", "n1.local"])
    issue(certs, "client", "ada")
    return certs


def test_a_rotated_certificate_says_the_same_with_another_key(folder: Path) -> None:
    before = read_certificate(folder / "n1.pem")
    _, old = rotate(folder, "n1")
    after = read_certificate(folder / "n1.pem")
    new = certified_in(after)
    assert new is not None
    assert new.who == old.who
    assert new.serial != old.serial
    assert after.public_key() != before.public_key()
    hosts = [one.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME) for one in (before, after)]
    assert hosts[0].value == hosts[1].value
    found = [(one.certified.name, one.current) for one in issued(folder)]
    assert sorted(found) == [("ada", True), ("n1", False), ("n1", True)]
    Credentials(folder, "n1")


def test_credentials_take_over_what_replaced_their_files(folder: Path) -> None:
    credentials = Credentials(folder, "n1")
    assert not credentials.refresh()
    first = credentials.certified
    rotate(folder, "n1")
    assert credentials.refresh()
    assert credentials.certified != first
    assert not credentials.refresh()


@pytest.mark.parametrize("broken", ["n1.pem", "n1.key", "ca.pem"])
def test_credentials_that_can_not_be_used_change_nothing(folder: Path, broken: str) -> None:
    credentials = Credentials(folder, "n1")
    certified, context = credentials.certified, credentials.gossip_server()
    good = (folder / broken).read_bytes()
    (folder / broken).write_bytes(b"half a fi")
    with pytest.raises(CertificateError):
        credentials.refresh()
    assert (credentials.certified, credentials.gossip_server()) == (certified, context)
    assert not credentials.refresh()  # said once
    (folder / broken).write_bytes(good)
    assert credentials.refresh()


def test_a_certificate_for_somebody_else_is_not_taken_over(folder: Path) -> None:
    credentials = Credentials(folder, "n1")
    for ending in ("pem", "key"):
        (folder / f"n1.{ending}").write_bytes((folder / f"ada.{ending}").read_bytes())
    with pytest.raises(CertificateError, match="somebody else"):
        credentials.refresh()
    assert credentials.certified is not None
    assert credentials.certified.role == "node"


def test_an_authority_is_replaced_in_steps(folder: Path) -> None:
    with pytest.raises(CertificateError, match="begins with another"):
        finish_rotation(folder)
    credentials = Credentials(folder, "n1")
    old = certified_in(read_certificate(folder / "ada.pem"))
    assert old is not None
    rotate_authority(folder)
    assert len(read_certificates(folder / "ca.pem")) == 2
    with pytest.raises(CertificateError, match="two authorities already"):
        rotate_authority(folder)
    assert credentials.refresh()
    assert credentials.signed_by_authority(old)
    with pytest.raises(CertificateError, match="ada, n1"):
        finish_rotation(folder)
    rotate(folder, "n1")
    rotate(folder, "ada")
    new = certified_in(read_certificate(folder / "ada.pem"))
    assert new is not None
    assert credentials.refresh()
    assert credentials.signed_by_authority(new)
    finish_rotation(folder)
    assert credentials.refresh()
    assert credentials.signed_by_authority(new)
    assert not credentials.signed_by_authority(old)


def test_a_key_of_another_authority_signs_nothing(folder: Path, tmp_path: Path) -> None:
    create_authority(tmp_path / "other")
    (folder / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(CertificateError, match="isn't the key of"):
        issue(folder, "client", "bob")
    assert not (folder / "bob.pem").exists()


def test_the_authority_is_not_rotated_like_a_certificate(folder: Path) -> None:
    with pytest.raises(CertificateError, match="rotate-authority"):
        rotate(folder, "ca")
    with pytest.raises(CertificateError, match="can't read"):
        rotate(folder, "nobody")


def test_thirty_days_before_the_end_somebody_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = read_certificate(folder / "n1.pem")
    moment = certificates.now
    for days, told in ((794, 0), (796, 1), (826, 1)):
        monkeypatch.setattr(certificates, "now", lambda days=days: moment() + timedelta(days=days))
        assert len(soon_expired([("n1", certificate)])) == told, days
    assert "has expired" in soon_expired([("n1", certificate)])[0]
