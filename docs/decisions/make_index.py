"""Writes `index.md` from the decision files: `python docs/decisions/make_index.py`.

A decision is one file `NNNN-title.md`: the heading `# N. Title`, a list with its status, its date and its links
to other decisions, then the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
STATUSES = ("accepted", "proposed", "rejected", "superseded")
COUNTERPARTS = {"Supersedes": "Superseded by", "Amends": "Amended by"}
"""Each link to another decision, and the link that the other decision has back."""

INTRODUCTION = """\
# Decisions

What was chosen, why, and what was rejected: one file each. [Dependencies](dependencies.md) has a line for each package.

To add one, take the next free number and write `NNNN-title.md` after the shape of the last one (status, date, `Supersedes` or
`Amends` with the link back in the other file), then run `python docs/decisions/make_index.py`, which writes this page.

| | decision | date | status |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Decision:
    """The head of a decision file: `links` maps a label such as "Supersedes" to file names."""

    file: str
    number: int
    title: str
    status: str
    date: str
    links: dict[str, list[str]]


def slug(title: str) -> str:
    """Return the part of a file's name that follows from its title: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower().replace("'", "")).strip("-")


def read(path: Path) -> Decision:
    """Return the head of one decision file.

    Raises:
        ValueError: the heading, the status, the date or a link is missing or malformed.

    """
    heading, _, rest = path.read_text(encoding="utf-8").partition("\n")
    found = re.fullmatch(r"# (\d+)\. (.+)", heading)
    if not found:
        raise ValueError(f"{path.name}: the first line is {heading!r}, and must be '# N. Title'")
    rows = dict(re.findall(r"^- ([A-Z][a-z ]+): (.+)$", rest.lstrip("\n").partition("\n\n")[0], re.MULTILINE))
    status, date = rows.pop("Status", ""), rows.pop("Date", "")
    if status not in STATUSES:
        raise ValueError(f"{path.name}: the status is {status!r}, and must be one of {', '.join(STATUSES)}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        raise ValueError(f"{path.name}: the date is {date!r}, and must be YYYY-MM-DD")
    links = {label: re.findall(r"\[\d{4}\]\(([^)]+)\)", value) for label, value in rows.items()}
    if unknown := [
        label for label in links if label not in {*COUNTERPARTS, *COUNTERPARTS.values()} or not links[label]
    ]:
        raise ValueError(
            f"{path.name}: {unknown[0]!r} is no link to another decision, such as '- Supersedes: [0001](…)'"
        )
    return Decision(path.name, int(found[1]), found[2], status, date, links)


def decisions(folder: Path = FOLDER) -> list[Decision]:
    """Return all decisions of a folder, by their numbers."""
    return [read(path) for path in sorted(folder.glob("[0-9]*.md"))]


def index(entries: list[Decision]) -> str:
    """Return the text of the index page."""
    rows = []
    for entry in entries:
        notes = [entry.status]
        for label in ("Superseded by", "Amended by"):
            targets = [f"[{file[:4]}]({file})" for file in entry.links.get(label, [])]
            if targets:
                notes = [note for note in notes if note != "superseded"] + [f"{label.lower()} {', '.join(targets)}"]
        rows.append(f"| {entry.number:04} | [{entry.title}]({entry.file}) | {entry.date} | {', '.join(notes)} |\n")
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    (FOLDER / "index.md").write_text(index(decisions()), encoding="utf-8")
