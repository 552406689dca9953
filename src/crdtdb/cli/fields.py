"""`crdtdb edit|why|schema`: fields of documents of a node."""

from __future__ import annotations

import json

import click

from crdtdb.cli.client import NodeClient, read_json, show_json, with_node
from crdtdb.cli.documents import make_collection
from crdtdb.errors import InvalidInputError


@click.command()
@click.argument("collection")
@click.argument("doc_id", metavar="ID")
@click.argument("operations")
@click.option("--rev", help="Refuse the edit unless this is the current revision.")
@with_node
def edit(client: NodeClient, collection: str, doc_id: str, operations: str, rev: str | None, as_json: bool) -> None:
    """Edit fields of a document: OPERATIONS is one operation or a list of them, as JSON, @FILE or -.

    \b
    Example:  crdtdb edit posts p '{"path": "likes", "operation": "increment"}'
              crdtdb edit posts p '[{"path": "body", "operation": "append",
                                     "text": "!"}]'
    """
    wanted = read_json(operations)
    if not isinstance(wanted, (dict, list)):
        raise InvalidInputError('an operation is an object: {"path": "likes", "operation": "increment"}')
    body = {"operations": wanted if isinstance(wanted, list) else [wanted], **({"rev": rev} if rev else {})}
    written = client.ask("POST", collection, doc_id, "_edit", body=body)
    if as_json:
        show_json(written)
    else:
        click.echo(f"{written['id']}  {written['rev']}")


@click.command()
@click.argument("collection")
@click.argument("doc_id", metavar="ID")
@with_node
def why(client: NodeClient, collection: str, doc_id: str, as_json: bool) -> None:
    """Say why a document is what it is: versions, clocks, fields with their dots, and why the winner won.

    \b
    Example:  crdtdb why posts p --as ada
    """
    explained = client.ask("GET", collection, doc_id, "_why")
    if as_json:
        show_json(explained)
        return
    from crdtdb.cli.render import out
    from crdtdb.cli.why import explanation

    for part in explanation(explained):
        out().print(part)


@click.command()
@click.argument("collection")
@click.argument("declaration", metavar="[SCHEMA]", required=False)
@click.option("--replace", is_flag=True, help="Replace declarations that differ, or were made twice.")
@click.option("--create", is_flag=True, help="Make the collection if it doesn't exist.")
@with_node
def schema(
    client: NodeClient, collection: str, declaration: str | None, replace: bool, create: bool, as_json: bool
) -> None:
    """Print which fields a collection's documents have; or declare some: SCHEMA is JSON, @FILE or -.

    \b
    Example:  crdtdb schema posts '{"likes": "counter", "body": "text"}'
    """
    if create:
        make_collection(client, collection)
    if declaration is None:
        found = client.ask("GET", collection, "_schema")
    else:
        wanted = read_json(declaration)
        query = {"replace": "true"} if replace else {}
        found = client.ask("PUT", collection, "_schema", body=wanted, **query)["schema"]
    if as_json:
        show_json(found)
    else:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
