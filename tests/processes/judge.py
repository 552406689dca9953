"""Judges a history of what clients did and were told, against what is there in the end. Knows nothing of crdtdb.

A document has one client at a time, which names the revision that it was told last, so the answers form one line. Whoever
got no answer doesn't know whether it was done, and leaves that document alone from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Did(NamedTuple):
    """One attempt. `rev` is what the answer named; None if it was refused, or there was none."""

    what: str
    """put, delete or add"""
    doc_id: str
    value: int
    rev: str | None
    known: bool
    """Whether an answer came."""


def judge(history: Iterable[Did], found: Mapping[str, dict[str, Any] | None], counters: Mapping[str, int]) -> list[str]:
    """Return what is wrong, a sentence each. `found` is each document in the end, None if it isn't there; `counters` what
    the counters show.
    """
    wrong = []
    lines: dict[str, list[Did]] = {}
    added: dict[str, list[int]] = {}
    for one in history:
        if one.what == "add":
            least, most = added.setdefault(one.doc_id, [0, 0])
            told = one.known and one.rev is not None
            added[one.doc_id] = [least + one.value * told, most + one.value * (told or not one.known)]
        else:
            lines.setdefault(one.doc_id, []).append(one)
    for doc_id, line in lines.items():
        done = [one for one in line if one.known and one.rev is not None]
        maybe = [one for one in line if not one.known]
        allowed = [_outcome(one) for one in (done[-1:] + maybe)]
        if not done:
            allowed.append(None)
        now = found.get(doc_id)
        shown = now["value"] if now is not None else None
        if shown not in allowed:
            last = f"{done[-1].what} to {done[-1].value} as {done[-1].rev}" if done else "nothing"
            wrong.append(
                f"{doc_id} shows {shown}; the last that was acknowledged is {last}, and {len(maybe)} are unknown"
            )
        if now is not None and now.get("conflicts"):
            wrong.append(f"{doc_id} has one client at a time, and yet conflicts: {now['conflicts']}")
    for doc_id, (least, most) in added.items():
        shown = counters.get(doc_id)
        if shown is None or not least <= shown <= most:
            wrong.append(f"the counter {doc_id} shows {shown}: {least} was acknowledged, and at most {most} asked for")
    for doc_id in found.keys() - lines.keys() - added.keys():
        wrong.append(f"{doc_id} is there, and nobody made it")
    return wrong


def _outcome(one: Did) -> int | None:
    return None if one.what == "delete" else one.value
