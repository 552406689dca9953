"""`crdtdb cert`: the authority of a cluster, and what it signs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from crdtdb.cluster.certificates import Role

_FOLDER = click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("certs"), show_default=True,
    help="The folder with the authority.",
)  # fmt: skip


@click.group()
def cert() -> None:
    """Make the certificates of a cluster.

    \b
    Example:  crdtdb cert authority --dir certs
              crdtdb cert node n1 --dir certs --host 10.0.0.1 --host n1.local
              crdtdb cert client ada --dir certs
    """


@cert.command()
@_FOLDER
def authority(folder: Path) -> None:
    """Make the authority of a new cluster: ca.pem, which every node gets, and ca.key, which none needs.

    \b
    Example:  crdtdb cert authority --dir certs
    """
    from crdtdb.cluster.certificates import cluster_of, create_authority, read_certificate

    path = create_authority(folder)
    click.echo(f"made the authority of cluster {cluster_of(read_certificate(path))} in {folder}")


@cert.command()
@click.argument("name")
@_FOLDER
@click.option(
    "--host", "hosts", multiple=True, help="An address or name under which clients reach the node. May be repeated."
)
@click.option("--days", type=click.FloatRange(min=0), default=825, show_default=True, help="How long it is valid.")
def node(name: str, folder: Path, hosts: tuple[str, ...], days: float) -> None:
    """Sign a certificate for the node NAME.

    \b
    Example:  crdtdb cert node n1 --dir certs --host 127.0.0.1
    """
    _sign(folder, "node", name, hosts or ("127.0.0.1", "::1", "localhost"), days)


@cert.command()
@click.argument("name")
@_FOLDER
@click.option("--days", type=click.FloatRange(min=0), default=825, show_default=True, help="How long it is valid.")
def admin(name: str, folder: Path, days: float) -> None:
    """Sign a certificate for the administrator NAME, who may use the HTTP API and change the cluster.

    \b
    Example:  crdtdb cert admin root --dir certs
    """
    _sign(folder, "admin", name, (), days)


@cert.command()
@click.argument("name")
@_FOLDER
@click.option("--days", type=click.FloatRange(min=0), default=825, show_default=True, help="How long it is valid.")
def client(name: str, folder: Path, days: float) -> None:
    """Sign a certificate for the client NAME, who may use the HTTP API.

    \b
    Example:  crdtdb cert client ada --dir certs
    """
    _sign(folder, "client", name, (), days)


def _sign(folder: Path, role: Role, name: str, hosts: tuple[str, ...], days: float) -> None:
    from crdtdb.cluster.certificates import issue

    path = issue(folder, role, name, hosts, days)
    click.echo(f"made {path} and {path.with_suffix('.key')}")
