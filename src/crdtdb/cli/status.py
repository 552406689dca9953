"""`crdtdb status`: a cluster as one of its nodes sees it."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Any

import click

from crdtdb.cli.client import NodeClient, show_json, with_node
from crdtdb.errors import InvalidInputError

if TYPE_CHECKING:
    from rich.console import RenderableType

_REFRESH_SECONDS = 1.0


@click.command()
@click.option("--watch", is_flag=True, help="Go on showing it, once a second, until Ctrl-C.")
@with_node
def status(client: NodeClient, watch: bool, as_json: bool) -> None:
    """Show the members of the cluster and the collections, as one node sees them.

    \b
    Example:  crdtdb status --url https://127.0.0.1:7101 --certs certs --as ada
              crdtdb status --watch --as ada
    """
    if watch and as_json:
        raise InvalidInputError("--watch shows a table that lives; for programs ask for --json as often as you want")
    found = client.ask("GET", "_cluster")
    if as_json:
        show_json(found)
        return
    from crdtdb.cli.render import living, out

    if not watch:
        out().print(_shown(found, None))
        return
    pause = Event()
    with living() as table:
        while True:
            table.update(
                _shown(client.ask("GET", "_cluster"), client.ask("GET", "_cluster", "stability")), refresh=True
            )
            pause.wait(_REFRESH_SECONDS)


def _shown(found: dict[str, Any], stable: dict[str, Any] | None) -> RenderableType:
    from crdtdb.cli.render import members_table, stacked, table

    ready = "[green]ready[/]" if found["ready"] else f"[yellow]not ready[/]: {found['waiting_for']}"
    parts: list[RenderableType] = [
        f"cluster [bold]{found['cluster']}[/], node [bold]{found['name']}[/] on {found['backend']}: {ready}",
        "",
        members_table(found["members"]),
    ]
    for warning in found["warnings"]:
        parts += ["", f"[yellow]{warning}[/]"]
    if stable is not None:
        waiting = stable["waiting"]["stability"] + stable["waiting"]["clients"]
        who = ", ".join(one["name"] for one in stable["held_back_by"]) or "nobody"
        parts += [
            "",
            f"{stable['stable']:,} of {stable['writes']:,} writes stable, held back by {who}; {waiting:,} documents wait",
        ]
    if found["collections"]:
        rows = [
            (
                name,
                f"{one['documents']:,}",
                f"[yellow]{one['conflicts']:,}[/]" if one["conflicts"] else "0",
                f"{one['deleted']:,}",
                f"{one['bytes']:,}",
            )
            for name, one in found["collections"].items()
        ]
        parts += ["", table(None, "collection", "documents", "conflicts", "deleted", "bytes", rows=rows)]
    return stacked(parts)
