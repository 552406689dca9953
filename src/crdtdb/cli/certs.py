"""`crdtdb cert`: the authority of a cluster, and what it signs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crdtdb.cli.client import NodeClient, show_json, with_node
from crdtdb.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from crdtdb.security.authority import Issued
    from crdtdb.security.certificates import Role

_DAYS = click.option(
    "--days", type=click.FloatRange(min=0), default=825, show_default=True, help="How long it is valid."
)

_FOLDER = click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("certs"), show_default=True,
    help="The folder with the authority.",
)  # fmt: skip


@click.group()
def cert() -> None:
    """Make, replace and revoke the certificates of a cluster.

    \b
    Example:  crdtdb cert authority --dir certs
              crdtdb cert node n1 --dir certs --host 10.0.0.1 --host n1.local
              crdtdb cert client ada --dir certs
              crdtdb cert revoke ada --dir certs --as root
    """


@cert.command()
@_FOLDER
def authority(folder: Path) -> None:
    """Make the authority of a new cluster: ca.pem, which every node gets, and ca.key, which none needs.

    \b
    Example:  crdtdb cert authority --dir certs
    """
    from crdtdb.security.authority import create_authority
    from crdtdb.security.certificates import cluster_of, read_certificate

    path = create_authority(folder)
    click.echo(f"made the authority of cluster {cluster_of(read_certificate(path))} in {folder}")


@cert.command()
@click.argument("name")
@_FOLDER
@click.option(
    "--host", "hosts", multiple=True, help="An address or name under which clients reach the node. May be repeated."
)
@_DAYS
def node(name: str, folder: Path, hosts: tuple[str, ...], days: float) -> None:
    """Sign a certificate for the node NAME.

    \b
    Example:  crdtdb cert node n1 --dir certs --host 127.0.0.1
    """
    _sign(folder, "node", name, hosts or ("127.0.0.1", "::1", "localhost"), days)


@cert.command()
@click.argument("name")
@_FOLDER
@_DAYS
def admin(name: str, folder: Path, days: float) -> None:
    """Sign a certificate for the administrator NAME, who may use the HTTP API and change the cluster.

    \b
    Example:  crdtdb cert admin root --dir certs
    """
    _sign(folder, "admin", name, (), days)


@cert.command()
@click.argument("name")
@_FOLDER
@_DAYS
def client(name: str, folder: Path, days: float) -> None:
    """Sign a certificate for the client NAME, who may use the HTTP API.

    \b
    Example:  crdtdb cert client ada --dir certs
    """
    _sign(folder, "client", name, (), days)


def _sign(folder: Path, role: Role, name: str, hosts: tuple[str, ...], days: float) -> None:
    from crdtdb.security.authority import issue

    path = issue(folder, role, name, hosts, days)
    click.echo(f"made {path} and {path.with_suffix('.key')}")


@cert.command()
@click.argument("name")
@_FOLDER
@_DAYS
def rotate(name: str, folder: Path, days: float) -> None:
    """Sign a new certificate, with a new key, for NAME, who has one. Role and hosts stay.

    A running node takes it over within a second when the two files are brought into its folder. The old certificate stays valid
    until it expires, or is revoked.

    \b
    Example:  crdtdb cert rotate n1 --dir certs
              crdtdb cert revoke n1 --old --dir certs --as root
    """
    from crdtdb.security.authority import rotate as sign_anew

    path, old = sign_anew(folder, name, days)
    click.echo(
        f"made {path} and {path.with_suffix('.key')} anew; the certificate {old.serial} counts until it expires or is revoked"
    )


@cert.command("rotate-authority")
@_FOLDER
@click.option("--finish", is_flag=True, help="Take the old authority out of ca.pem.")
def rotate_authority(folder: Path, finish: bool) -> None:
    """Replace the authority of a cluster, in steps between which everything goes on.

    \b
    1. crdtdb cert rotate-authority           ca.pem holds the old one and the new one
       Bring ca.pem to every node and client.
    2. crdtdb cert rotate NAME                for each node, administrator and client
       Bring NAME.pem and NAME.key to where they are used.
    3. crdtdb cert rotate-authority --finish  ca.pem holds the new one alone
       Bring ca.pem to every node and client.
    """
    from crdtdb.security import authority as authorities

    if finish:
        path = authorities.finish_rotation(folder)
        click.echo(f"{path} holds the new authority alone: bring it to every node and client")
    else:
        path = authorities.rotate_authority(folder)
        click.echo(f"{path} holds the old authority and the new one: bring it to every node and client first")


@cert.command("list")
@_FOLDER
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
def list_certificates(folder: Path, as_json: bool) -> None:
    """Show what the authority in a folder has signed, and how long each certificate is valid.

    Which were revoked, the cluster knows: crdtdb export system.revocations --as ada

    \b
    Example:  crdtdb cert list --dir certs
    """
    from crdtdb.clock import iso
    from crdtdb.security.authority import issued

    found = issued(folder)
    if as_json:
        show_json([
            {
                "name": one.certified.name, "role": one.certified.role, "serial": one.certified.serial,
                "expires": iso(int(one.certified.expires * 1000)), "current": one.current, "old_authority": one.outgoing,
            }
            for one in found
        ])  # fmt: skip
        return
    from crdtdb.cli.render import out, table

    rows = [(one.certified.name, one.certified.role, one.certified.serial, _left(one), _state(one)) for one in found]
    out().print(table(None, "name", "role", "serial", "valid for", "", rows=rows))


def _left(one: Issued) -> str:
    if one.days_left <= 0:
        return "[red]expired[/]"
    return f"[yellow]{one.days_left:.0f} d[/]" if one.days_left < 30 else f"{one.days_left:.0f} d"


def _state(one: Issued) -> str:
    return ", ".join([*(["replaced"] if not one.current else []), *(["old authority"] if one.outgoing else [])])


@cert.command()
@click.argument("name", required=False)
@_FOLDER
@click.option("--old", is_flag=True, help="All of NAME's certificates but the one in NAME.pem.")
@click.option("--serial", "serials", multiple=True, help="The certificate with this serial number. May be repeated.")
@click.option("--why", default="", help="What is to be remembered of the reason.")
@with_node
def revoke(
    client: NodeClient,
    name: str | None,
    folder: Path,
    old: bool,
    serials: tuple[str, ...],
    why: str,
    as_json: bool,
) -> None:
    """Let the certificates of NAME count no more, on any node, within seconds and for good.

    Connections that are open are closed. Needs an administrator's certificate, and the authority's folder, which knows what
    it has signed for NAME; without it give --serial. A node whose certificate is revoked is still a member: see retire.

    \b
    Example:  crdtdb cert revoke ada --dir certs --why "laptop stolen" --as root
    """
    revoked = []
    for serial, who, role in _to_revoke(name, folder, old, serials):
        body: dict[str, Any] = {"serial": serial, "name": who, "role": role, "why": why}
        revoked.append(client.ask("POST", "_cluster", "revoke", body=body))
    if as_json:
        show_json(revoked)
        return
    for one in revoked:
        click.echo(f"{one['serial']} is revoked" if one["new"] else f"{one['serial']} was revoked before")


def _to_revoke(name: str | None, folder: Path, old: bool, serials: Iterable[str]) -> list[tuple[str, str, str]]:
    from crdtdb.security.authority import issued

    if name is None:
        if not serials or old:
            raise InvalidInputError("whose certificate? Give a NAME, or --serial as `crdtdb cert list` has it")
        return [(serial, "", "") for serial in serials]
    found = [
        one.certified
        for one in issued(folder)
        if one.certified.name == name and not (old and one.current) and (not serials or one.certified.serial in serials)
    ]
    if not found:
        which = "no such certificate" if serials else "no replaced certificate" if old else "no certificate"
        raise NotFoundError(f"the authority in {folder} has signed {which} of {name!r}: `crdtdb cert list` shows all")
    return [(one.serial, one.name, one.role) for one in found]
