"""`crdtdb watch`: what changes, as it changes."""

from __future__ import annotations

import json
from typing import Any

import click

from crdtdb.cli.client import NodeClient, with_node


@click.command()
@click.option("--collection", default="*", show_default=True, help="Which collections: a pattern such as 'orders-*'.")
@click.option("--id", "doc_id", default="*", show_default=True, help="Which documents: a pattern such as '2026-*'.")
@click.option("--kind", "kinds", multiple=True, help="created, updated, deleted, conflict or dropped. May be repeated.")
@click.option("--since", help="The place of an earlier line, or 0 for the beginning.  [default: now]")
@click.option("--docs", is_flag=True, help="With the documents.")
@with_node
def watch(
    client: NodeClient,
    collection: str,
    doc_id: str,
    kinds: tuple[str, ...],
    since: str | None,
    docs: bool,
    as_json: bool,
) -> None:
    """Follow what changes, a line each, until Ctrl-C.

    \b
    Example:  crdtdb watch --collection 'orders-*' --kind created --as ada
    """
    pattern: dict[str, Any] = {"collection": collection, "id": doc_id}
    if kinds:
        pattern["kinds"] = list(kinds)
    body = {"patterns": [pattern], "since": since, "include_docs": docs}
    for line in client.lines("POST", "_notify", body=body):
        if not line.startswith(b"data: "):
            continue
        if as_json:
            click.echo(line[6:])
            continue
        told = json.loads(line[6:])
        what = f"{told['collection']}/{told['id']} {told['rev']}" if "id" in told else told["collection"]
        text = f"{told['kind']} {what}"
        click.echo(f"{text} {json.dumps(told['doc'], ensure_ascii=False)}" if "doc" in told else text)
