"""Certificates that are revoked, replaced and expire, on nodes that go on running."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from crdtdb.cli.client import NodeClient
from crdtdb.cli.demo.cluster import DemoCluster, wait_until
from crdtdb.errors import CertificateError, UnavailableError
from crdtdb.security.authority import issue, rotate
from crdtdb.security.certificates import read_certificate, serial_of
from crdtdb.security.tls import Credentials
from tests.processes.commands import command

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    """One for all tests here: each leaves it running for the next."""
    with DemoCluster(tmp_path_factory.mktemp("certificates")) as made:
        issue(made.certs, "admin", "root")
        issue(made.certs, "client", "eve")
        issue(made.certs, "client", "fay")
        made.start_all()
        made.wait_meshed()
        yield made


def serial_at(cluster: DemoCluster, name: str, certs: Path) -> str:
    """Return the serial number of the certificate that a node shows to who connects now."""
    context = Credentials(certs, "ada").http_client()
    port = cluster.http[name]
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        der = secured.getpeercert(binary_form=True)
    assert der is not None
    (folder := certs / "seen").mkdir(exist_ok=True)
    (folder / "seen.pem").write_text(ssl.DER_cert_to_PEM_cert(der))
    return serial_of(read_certificate(folder / "seen.pem"))


def members_connected(cluster: DemoCluster, at: str) -> set[str]:
    return {one["name"] for one in cluster.ask(at, "GET", "_cluster")["members"] if one["connected"]}


def test_who_may_not_and_what_makes_no_sense(cluster: DemoCluster) -> None:
    code, said = command(cluster, "n1", "cert", "revoke", "eve", "--dir", str(cluster.certs), who="ada")
    assert (code, "administrator" in said) == (6, True), said
    code, said = command(cluster, "n1", "cert", "revoke", "nobody", "--dir", str(cluster.certs))
    assert (code, "no certificate of 'nobody'" in said) == (3, True), said
    code, said = command(cluster, "n1", "cert", "revoke", "eve", "--old", "--dir", str(cluster.certs))
    assert (code, "no replaced certificate" in said) == (3, True), said
    code, said = command(cluster, "n1", "cert", "revoke")
    assert (code, "whose certificate?" in said) == (2, True), said
    code, said = command(cluster, "n1", "cert", "revoke", "--serial", "xyz")
    assert (code, "isn't a serial number" in said) == (2, True), said
    assert "system.revocations" not in cluster.ask("n1", "GET", "_cluster")["collections"]


def test_a_revoked_client_is_out_on_every_node_within_seconds(cluster: DemoCluster) -> None:
    cluster.ask("n1", "PUT", "notes")
    cluster.wait_equal(["notes"])
    feed = httpx.Client(base_url=cluster.url("n2"), verify=Credentials(cluster.certs, "eve").http_client(), timeout=10)
    with feed, feed.stream("GET", "/notes/_changes", params={"feed": "continuous", "heartbeat": "200"}) as answer:
        lines = answer.iter_raw()
        next(lines)
        code, said = command(cluster, "n1", "cert", "revoke", "eve", "--dir", str(cluster.certs), "--why", "lost")
        assert (code, "is revoked" in said) == (0, True), said
        with pytest.raises(httpx.TransportError):
            for _ in range(100):
                next(lines)
    with NodeClient(cluster.url("n3"), cluster.certs, "eve") as eve:

        def refused() -> bool:
            try:
                eve.ask("GET", "notes")
            except CertificateError as error:
                return "was revoked" in str(error)
            except UnavailableError:
                pass
            return False

        assert wait_until(refused, 10)
    code, said = command(
        cluster, "n2", "get", "system.revocations", serial_of(read_certificate(cluster.certs / "eve.pem"))
    )
    assert (code, '"lost"' in said, '"root"' in said) == (0, True, True), said
    code, said = command(cluster, "n2", "cert", "revoke", "eve", "--dir", str(cluster.certs))
    assert (code, "was revoked before" in said) == (0, True), said
    assert cluster.ask("n1", "GET", "notes")["doc_count"] == 0  # others go on


def test_certificates_are_replaced_while_everything_goes_on(cluster: DemoCluster) -> None:
    certs = cluster.certs
    before = serial_at(cluster, "n1", certs)
    rotate(certs, "n1")
    after = serial_of(read_certificate(certs / "n1.pem"))
    assert wait_until(lambda: serial_at(cluster, "n1", certs) == after != before, 10)
    code, said = command(cluster, "n2", "cert", "revoke", "n1", "--old", "--dir", str(certs))
    assert (code, before in said) == (0, True), said
    cluster.wait_meshed()
    cluster.ask("n1", "PUT", "notes", "a", body={"n": 1})
    cluster.wait_equal(["notes"])


def test_the_authority_is_replaced_while_everything_goes_on(cluster: DemoCluster, tmp_path: Path) -> None:
    certs = cluster.certs
    cluster.ask("n1", "GET", "notes")  # by a connection that is kept while certificates are replaced
    (old := tmp_path / "old").mkdir()
    for name in ("ca.pem", "fay.pem", "fay.key"):
        (old / name).write_bytes((certs / name).read_bytes())
    code, said = command(cluster, "", "cert", "rotate-authority", "--dir", str(certs))
    assert code == 0, said
    code, said = command(cluster, "", "cert", "rotate-authority", "--finish", "--dir", str(certs))
    assert (code, "ada, eve, fay, n1, n2, n3, root" in said) == (6, True), said
    for name in ("n1", "n2", "n3", "ada", "eve", "fay", "root"):
        cluster.ask("n1", "PUT", "notes", name, body={"n": 1})
        code, said = command(cluster, "", "cert", "rotate", name, "--dir", str(certs))
        assert code == 0, said
    newest = serial_of(read_certificate(certs / "n3.pem"))
    assert wait_until(lambda: serial_at(cluster, "n3", certs) == newest, 10)
    code, said = command(cluster, "", "cert", "rotate-authority", "--finish", "--dir", str(certs))
    assert code == 0, said

    def old_is_out() -> bool:
        try:
            with NodeClient(cluster.url("n2"), old, "fay") as eve:
                eve.ask("GET", "notes")
        except (CertificateError, UnavailableError):
            return True
        return False

    assert wait_until(old_is_out, 10)
    cluster.reconnect()
    cluster.wait_meshed()
    cluster.ask("n2", "PUT", "notes", "after", body={"n": 2})
    cluster.wait_equal(["notes"])
    code, said = command(cluster, "", "cert", "list", "--dir", str(certs))
    assert (code, "replaced, old authority" in said) == (0, True), said


def test_a_revoked_node_is_parted_with_and_refused_with_the_reason_in_both_logs(cluster: DemoCluster) -> None:
    before = {name: len(cluster.log(name).read_text()) for name in cluster.names}
    code, said = command(cluster, "n1", "cert", "revoke", "n3", "--dir", str(cluster.certs))
    assert code == 0, said
    assert wait_until(lambda: all(members_connected(cluster, at) == {"n1", "n2"} for at in ("n1", "n2")), 10)
    assert wait_until(lambda: "was revoked" in cluster.log("n1").read_text()[before["n1"] :], 10)
    assert wait_until(lambda: "refuses this node" in cluster.log("n3").read_text()[before["n3"] :], 10)
    assert "was revoked" in cluster.log("n3").read_text()[before["n3"] :]
    # With a new certificate, brought into its place, it is back without a restart.
    rotate(cluster.certs, "n3")
    assert wait_until(lambda: members_connected(cluster, "n1") == {"n1", "n2", "n3"}, 20)


def test_what_expires_soon_is_said_in_status_log_and_metrics(tmp_path: Path) -> None:
    with DemoCluster(tmp_path, names=("n1", "n2")) as cluster:
        (cluster.certs / "n2.pem").unlink()
        issue(cluster.certs, "node", "n2", ["127.0.0.1"], days=12)
        cluster.start_all()
        cluster.wait_meshed()
        mine = cluster.ask("n2", "GET", "_cluster")["warnings"]
        assert ["n2.pem expires in 12 days" in one for one in mine] == [True]
        assert cluster.ask("n1", "GET", "_cluster")["warnings"] == ["the certificate of n2 expires in 12 days"]
        assert "expires in 12 days" in cluster.log("n2").read_text()
        code, said = command(cluster, "n2", "status", who="ada")
        assert (code, "expires in 12 days" in " ".join(said.split())) == (0, True), said
        with httpx.Client(verify=Credentials(cluster.certs, "ada").http_client(), timeout=10) as ada:
            metrics = ada.get(f"{cluster.url('n2')}/_metrics").text
        assert 'crdtdb_certificate_expires_seconds{of="certificate"}' in metrics
