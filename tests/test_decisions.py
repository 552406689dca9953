"""Decisions are one file each: numbered without gaps, listed in a generated index, and linked both ways."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs.decisions import make_index

ROOT = Path(__file__).parent.parent
ENTRIES = make_index.decisions()


def test_numbers_have_no_gap_and_names_follow_from_titles() -> None:
    assert [entry.number for entry in ENTRIES] == list(range(1, len(ENTRIES) + 1))
    for entry in ENTRIES:
        assert entry.file == f"{entry.number:04}-{make_index.slug(entry.title)}.md"


def test_the_index_is_current() -> None:
    written = (make_index.FOLDER / "index.md").read_text(encoding="utf-8")
    assert written == make_index.index(ENTRIES), "run `python docs/decisions/make_index.py`"


def one_sided(entries: list[make_index.Decision]) -> list[str]:
    """Return what is wrong with the links of decisions: each needs its counterpart, and a status that fits."""
    heads = {entry.file: entry for entry in entries}
    opposite = make_index.COUNTERPARTS | {back: label for label, back in make_index.COUNTERPARTS.items()}
    wrong = []
    for entry in entries:
        for label, files in entry.links.items():
            for file in files:
                if file not in heads:
                    wrong.append(f"{entry.file}: {label} {file}, which doesn't exist")
                elif entry.file not in heads[file].links.get(opposite[label], []):
                    wrong.append(f"{file} lacks '{opposite[label]}: {entry.file}'")
        if (entry.status == "superseded") != ("Superseded by" in entry.links):
            wrong.append(f"{entry.file} is {entry.status}, and superseded by {entry.links.get('Superseded by')}")
    return wrong


def test_supersedes_and_superseded_by_are_mutual() -> None:
    assert not one_sided(ENTRIES)
    assert any(entry.links for entry in ENTRIES)


def test_a_link_in_one_direction_is_noticed() -> None:
    old = make_index.Decision("0001-a.md", 1, "a", "accepted", "2026-11-23", {})
    new = make_index.Decision("0002-b.md", 2, "b", "accepted", "2026-11-24", {"Supersedes": ["0001-a.md"]})
    assert one_sided([old, new]) == ["0001-a.md lacks 'Superseded by: 0002-b.md'"]
    gone = make_index.Decision("0003-c.md", 3, "c", "superseded", "2026-11-24", {"Superseded by": ["0009-z.md"]})
    assert one_sided([gone]) == ["0003-c.md: Superseded by 0009-z.md, which doesn't exist"]
    left = make_index.Decision("0004-d.md", 4, "d", "superseded", "2026-11-24", {})
    assert one_sided([left]) == ["0004-d.md is superseded, and superseded by None"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("## 1. A\n\n- Status: accepted\n- Date: 2026-11-23\n\nText.\n", "the first line"),
        ("# 1. A\n\n- Status: good\n- Date: 2026-11-23\n\nText.\n", "the status"),
        ("# 1. A\n\n- Status: accepted\n\nText.\n", "the date"),
        ("# 1. A\n\n- Status: accepted\n- Date: 2026-11-23\n- Supersedes: 3\n\nText.\n", "no link"),
        ("# 1. A\n\n- Status: accepted\n- Date: 2026-11-23\n- Replaces: [0003](0003-c.md)\n\nText.\n", "no link"),
    ],
)
def test_a_malformed_head_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "0001-a.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        make_index.read(path)


def test_decisions_are_linked_and_not_named_by_number() -> None:
    """A number alone can't be followed by a reader, nor checked: `test_docs.py` finds each link that leads nowhere."""
    for page in (*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")):
        for line in page.read_text(encoding="utf-8").splitlines():
            assert not re.search(r"\bdecisions? \d+", line), f"{page}: {line[:100]}"
