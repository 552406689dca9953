"""`crdtdb get|put|delete|conflicts|resolve`: documents of a node."""

from __future__ import annotations

import json
from typing import Any

import click

from crdtdb.cli.client import NodeClient, read_json, show_json, with_node
from crdtdb.errors import InvalidInputError


@click.command()
@click.argument("collection")
@click.argument("doc_id", metavar="ID")
@click.option("--rev", help="A revision; the current one if not given.")
@click.option("--conflicts", is_flag=True, help="Name the revisions of the other siblings.")
@with_node
def get(client: NodeClient, collection: str, doc_id: str, rev: str | None, conflicts: bool, as_json: bool) -> None:
    """Print a document.

    \b
    Example:  crdtdb get notes a --as ada
    """
    query = {"rev": rev} if rev is not None else {}
    found = client.ask("GET", collection, doc_id, **query, **({"conflicts": "true"} if conflicts else {}))
    if as_json:
        show_json(found)
    else:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))


@click.command()
@click.argument("collection")
@click.argument("doc_id", metavar="ID")
@click.argument("document")
@click.option("--rev", help="The revision that it replaces; none for a new document.")
@click.option("--create", is_flag=True, help="Make the collection if it doesn't exist.")
@with_node
def put(
    client: NodeClient, collection: str, doc_id: str, document: str, rev: str | None, create: bool, as_json: bool
) -> None:
    """Write DOCUMENT: JSON, @FILE, or - for standard input.

    \b
    Example:  crdtdb put notes a '{"title": "x"}' --create --as ada
    """
    body = _object(read_json(document))
    if create:
        make_collection(client, collection)
    written = client.ask("PUT", collection, doc_id, body=body, **({"rev": rev} if rev is not None else {}))
    _show_written(written, as_json)


@click.command()
@click.argument("collection")
@click.argument("doc_id", metavar="ID")
@click.option("--rev", required=True, help="The revision to delete: the current one, or another sibling.")
@with_node
def delete(client: NodeClient, collection: str, doc_id: str, rev: str, as_json: bool) -> None:
    """Delete a document, or one of its siblings.

    \b
    Example:  crdtdb delete notes a --rev 1-9c8f… --as ada
    """
    _show_written(client.ask("DELETE", collection, doc_id, rev=rev), as_json)


@click.command()
@click.argument("collection")
@click.argument("doc_id", metavar="[ID]", required=False)
@with_node
def conflicts(client: NodeClient, collection: str, doc_id: str | None, as_json: bool) -> None:
    """List the documents with more than one body or a conflict of a field, with all that is kept; or those of one.

    \b
    Example:  crdtdb conflicts notes --as ada
    """
    if doc_id is not None:
        found = [client.ask("GET", collection, doc_id, "_siblings")]
    else:
        found = client.ask("GET", collection, "_conflicts")["rows"]
    if as_json:
        show_json(found)
        return
    if not found:
        click.echo("no conflicts")
    from crdtdb.cli.render import conflict_table, out

    for row in found:
        out().print(conflict_table(row["id"], row["siblings"]))


@click.command()
@click.argument("collection")
@click.argument("doc_id", metavar="ID")
@click.argument("document", required=False)
@click.option("--rev", help="Keep the body of this sibling instead of giving one.")
@click.option("--seen", multiple=True, metavar="REV", help="A sibling to replace; all that are there if not given.")
@with_node
def resolve(
    client: NodeClient,
    collection: str,
    doc_id: str,
    document: str | None,
    rev: str | None,
    seen: tuple[str, ...],
    as_json: bool,
) -> None:
    """Replace the siblings of a document by DOCUMENT (JSON, @FILE or -), or by the sibling --rev.

    It shows the siblings and replaces these alone: what is written meanwhile stays beside the new body, as a conflict. If you
    decided on what `crdtdb conflicts` showed, name that by --seen, once for each revision.

    \b
    Example:  crdtdb resolve notes a '{"title": "both"}' --as ada
              crdtdb resolve notes a --rev 2-1f0e… --as ada
              crdtdb resolve notes a '{}' --seen 2-1f0e… --seen 2-77ab… --as ada
    """
    if (document is None) == (rev is None):
        raise click.UsageError("give either a DOCUMENT or --rev")
    siblings = client.ask("GET", collection, doc_id, "_siblings")["siblings"]
    body = _meant(siblings, rev)["body"] if rev is not None else _object(read_json(document or ""))
    replaced = [_meant(siblings, one)["rev"] if one.endswith("…") else one for one in seen]
    if len(siblings) > 1 and not as_json:
        from crdtdb.cli.render import conflict_table, out

        out().print(conflict_table(doc_id, siblings))
    body = {**body, "_seen": replaced or [one["rev"] for one in siblings]}
    _show_written(client.ask("POST", collection, doc_id, "_resolve", body=body), as_json)


def _meant(siblings: list[dict[str, Any]], rev: str) -> dict[str, Any]:
    """Return the sibling of a revision, which may be cut short with `…` as `crdtdb conflicts` shows it."""
    short = rev.removesuffix("…") if rev.endswith("…") else None
    found = [one for one in siblings if one["rev"] == rev or (short and one["rev"].startswith(short))]
    if len(found) != 1:
        raise InvalidInputError(f"{rev} is none of the siblings: {', '.join(one['rev'] for one in siblings)}")
    return found[0]


def make_collection(client: NodeClient, name: str) -> None:
    """Make a collection unless it exists."""
    if name not in client.ask("GET", "_all_dbs"):
        try:
            client.ask("PUT", name)
        except InvalidInputError:
            if name not in client.ask("GET", "_all_dbs"):  # another client was faster
                raise


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInputError('a document is a JSON object, such as \'{"title": "x"}\'')
    return value


def _show_written(written: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(written)
    else:
        click.echo(f"{written['id']}  {written['rev']}")
