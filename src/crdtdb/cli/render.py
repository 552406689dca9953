"""Tables and colours. The only module of the commands that imports rich."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

_STATUS_STYLES = {"alive": "green", "suspect": "yellow", "dead": "red"}


@functools.cache
def out() -> Console:
    """Return the console of standard output."""
    return Console(highlight=False)


@functools.cache
def err() -> Console:
    """Return the console of standard error, for progress."""
    return Console(stderr=True, highlight=False)


def progress(what: str, total: int | None) -> Progress:
    """Return a progress bar on standard error, with one task."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err(),
        transient=not err().is_terminal,
        disable=not err().is_terminal,
    )
    bar.add_task(what, total=total)
    return bar


def table(title: str | None, *headings: str, rows: Iterable[Iterable[RenderableType]] = ()) -> Table:
    """Return a plain table."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def stacked(parts: Iterable[RenderableType]) -> Group:
    """Return things one below the other."""
    return Group(*parts)


def living() -> Live:
    """Return a place on the screen that can be updated. Use it in a `with`."""
    return Live(console=out(), auto_refresh=False)


def conflict_table(doc_id: str, siblings: list[dict[str, Any]]) -> Table:
    """Return the siblings of a document: the winner first."""
    rows = [
        (
            Text("winner" if number == 0 else "", style="green"),
            Text(short(one["rev"])),
            Text(str(one["node"])[:12]),
            Text(one["time"][11:19]),
            Text(json.dumps(one["body"], ensure_ascii=False), overflow="fold"),
        )
        for number, one in enumerate(siblings)
    ]
    return table(doc_id, "", "rev", "node", "time", "body", rows=rows)


def members_table(members: list[dict[str, Any]]) -> Table:
    """Return the members of a cluster."""
    rows = [
        (
            Text(one["name"] + (" (asked)" if one["me"] else "")),
            Text(one["address"]),
            Text(one["status"], style=_STATUS_STYLES[one["status"]]),
            Text("yes" if one["connected"] else "no"),
            Text("?" if one["behind"] is None else str(one["behind"])),
            Text("?" if one["ahead"] is None else str(one["ahead"])),
        )
        for one in members
    ]
    return table(None, "member", "address", "status", "connected", "it has more", "it lacks", rows=rows)


def short(rev: str) -> str:
    """Return a revision cut to what tells it apart."""
    generation, _, digest = rev.partition("-")
    return f"{generation}-{digest[:8]}…"
