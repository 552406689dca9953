"""The explanation of a document for people, within 80 columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from crdtdb.cli.render import short, table

_STYLES = {"one value": "green", "conflict": "yellow", "deleted": "red"}
_SHOWN_MAX = 400


def explanation(explained: dict[str, Any]) -> Iterator[RenderableType]:
    """Yield the parts of an explanation, to be printed one after the other."""
    names = explained["names"]
    yield Text.assemble(
        (f"{explained['collection']}/{explained['id']}", "bold"),
        "  ",
        (explained["state"], _STYLES[explained["state"]]),
        f"  {short(explained['rev'])}" if explained["rev"] else "",
    )
    yield Padding(Text(explained["why"]), (0, 0, 0, 2), expand=False)
    if explained["edits_unseen"]:
        edits = ", ".join(_dot(one, names) for one in explained["edits_unseen"])
        yield Padding(
            Text(f"shown with edits of fields that its author hadn't seen: {edits}"), (0, 0, 0, 2), expand=False
        )
    if explained["value"] is not None:
        yield Padding(Text(_json(explained["value"])), (0, 0, 0, 2), expand=False)
    yield Text("")
    yield table(
        "versions", "rev", "by", "at", "wrote", "", rows=[_version(one, names) for one in explained["versions"]]
    )
    yield Text("")
    clocks = [(short(one["rev"]), _clock(one["clock"], names)) for one in explained["versions"]]
    yield table("clocks", "rev", "has seen", rows=[*clocks, ("document", _clock(explained["clock"], names))])
    for one in explained["fields"]:
        yield Text("")
        yield from _field(one, names)


def _version(one: dict[str, Any], names: dict[str, str]) -> tuple[RenderableType, ...]:
    role = one["role"]
    if one["body"] is not None and role in ("winner", "sibling"):
        role = f"{role}: {_json(one['body'])}"
    if one["same_by"]:
        role += f" (the same by {', '.join(_dot(dot, names) for dot in one['same_by'])})"
    return Text(short(one["rev"])), Text(_dot(one, names)), Text(one["time"][11:19]), Text(one["wrote"]), Text(role)


def _field(one: dict[str, Any], names: dict[str, str]) -> Iterator[RenderableType]:
    yield Text.assemble((".".join(one["path"]), "bold"), f"  {one['type']}: {one['rule']}")
    yield Padding(Text(_json(one["value"])), (0, 0, 0, 2), expand=False)
    if "kept_beside" in one:
        for value in one["kept_beside"]:
            yield Padding(Text(f"kept beside it: {_json(value)}", style="yellow"), (0, 0, 0, 2), expand=False)
        if "shown_instead" in one:
            shown = f"a plain value of the body shows instead: {_json(one['shown_instead'])}"
            yield Padding(Text(shown, style="yellow"), (0, 0, 0, 2), expand=False)
    rows = [
        (
            Text(part["part"] or "·"),
            Text(
                ", ".join(
                    _dot(dot, names) + (f" at {dot['time'][11:19]}" if "time" in dot else "") for dot in part["dots"]
                )
            ),
        )
        for part in one["parts"]
    ]
    yield Padding(table(None, "part", "dots", rows=rows), (0, 0, 0, 2), expand=False)
    for journal in one.get("journals", []):
        vector = ", ".join(f"{_name(actor, names)}:{counter}" for actor, counter in journal["vector"].items())
        yield Padding(Text(f"updates in {journal['part']}: up to {vector}", style="dim"), (0, 0, 0, 2), expand=False)


def _dot(one: dict[str, Any], names: dict[str, str]) -> str:
    return f"{_name(one['node'], names)}:{one['counter']}"


def _name(actor: str, names: dict[str, str]) -> str:
    return names.get(actor, actor[:8])[:16]


def _clock(clock: dict[str, list[list[int]]], names: dict[str, str]) -> str:
    parts = []
    for actor, ranges in clock.items():
        shown = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
        parts.append(f"{_name(actor, names)}:{shown}")
    return "  ".join(parts)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}… ({len(text):,} characters)"
