"""`crdtdb status`: a cluster as one of its nodes sees it."""

from __future__ import annotations

import click

from crdtdb.cli.client import NodeClient, show_json, with_node


@click.command()
@with_node
def status(client: NodeClient, as_json: bool) -> None:
    """Show the members of the cluster and the collections, as one node sees them.

    \b
    Example:  crdtdb status --url https://127.0.0.1:7101 --certs certs --as ada
    """
    found = client.ask("GET", "_cluster")
    if as_json:
        show_json(found)
        return
    from crdtdb.cli.render import members_table, out, table

    ready = "[green]ready[/]" if found["ready"] else f"[yellow]not ready[/]: {found['waiting_for']}"
    out().print(f"cluster [bold]{found['cluster']}[/], node [bold]{found['name']}[/] on {found['backend']}: {ready}\n")
    out().print(members_table(found["members"]))
    if found["collections"]:
        rows = [
            (name, f"{one['documents']:,}", f"{one['deleted']:,}", str(one["seq"]))
            for name, one in found["collections"].items()
        ]
        out().print()
        out().print(table(None, "collection", "documents", "deleted", "last seq", rows=rows))
