"""`crdtdb user` and `crdtdb access`: people who come by a password, and who may do what with a collection."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from crdtdb.cli.client import NodeClient, read_json, show_json, with_node
from crdtdb.errors import InvalidInputError
from crdtdb.security import KINDS


@click.group()
def user() -> None:
    """Make, list and remove users, who come by a password; for administrators.

    \b
    Example:  crdtdb user add mia --role editors --as root
    """


@user.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, help="A role that the user has. May be repeated.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input, a line.")
@with_node
def add(client: NodeClient, name: str, roles: tuple[str, ...], password_stdin: bool, as_json: bool) -> None:
    """Make a user, or give one another password and other roles.

    The password is asked for. Nodes let users in if they run with --logins.

    \b
    Example:  crdtdb user add mia --role editors --as root
    """
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    made = client.ask("PUT", "_users", name, body={"password": password, "roles": list(roles)})
    if as_json:
        show_json(made)
    else:
        click.echo(
            f"{name} is a user" if made["new"] else f"{name} has another password, and the roles that were given"
        )


@user.command("list")
@with_node
def list_users(client: NodeClient, as_json: bool) -> None:
    """List the users and their roles.

    \b
    Example:  crdtdb user list --as root
    """
    found = client.ask("GET", "_users")["users"]
    if as_json:
        show_json(found)
        return
    from crdtdb.cli.render import out, table

    out().print(table(None, "NAME", "ROLES", rows=[(one["name"], ", ".join(one["roles"])) for one in found]))


@user.command()
@click.argument("name")
@with_node
def remove(client: NodeClient, name: str, as_json: bool) -> None:
    """Remove a user, whose sessions end on every node.

    \b
    Example:  crdtdb user remove mia --as root
    """
    done = client.ask("DELETE", "_users", name)
    show_json(done) if as_json else click.echo(f"{name} is no user any more")


@click.command()
@click.argument("collection")
@click.argument("security", required=False)
@with_node
def access(client: NodeClient, collection: str, security: str | None, as_json: bool) -> None:
    """Print who may do what with a collection, or say it: SECURITY is JSON, @FILE or -.

    \b
    Example:  crdtdb access notes --as ada
              crdtdb access notes '{"members": {"roles": ["editors"]}}' \\
                  --as ada
    """
    if security is None:
        found = client.ask("GET", collection, "_security")
        show_json(found) if as_json else click.echo(json.dumps(found, indent=2))
        return
    wanted: Any = read_json(security)
    if not isinstance(wanted, dict):
        raise InvalidInputError('security is an object such as \'{"members": {"names": ["ada"]}}\'')
    unknown = sorted(set(wanted) - set(KINDS))
    if unknown:  # a slip of the pen would leave open what it means to close; over HTTP they are kept, as in CouchDB
        raise InvalidInputError(f"security has {', '.join(KINDS)}, not {unknown[0][:80]!r}")
    done = client.ask("PUT", collection, "_security", body=wanted)
    show_json(done) if as_json else click.echo(f"who may do what with {collection} is said, on every node")
