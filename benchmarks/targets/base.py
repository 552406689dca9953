"""What every target does, and how it is timed.

A target opens sessions; a session does the operations that its target is able to. `measure` times calls one by one, in the
process that makes them: a target that lives in another process, because it is written in another language, measures there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.documents import Document
from benchmarks.results import Durability

Ability = Literal["put", "get", "update", "bulk", "conflict", "siblings", "resolve", "changes", "load", "reopen"]


class Unavailable(Exception):
    """What a target needs isn't here; the message says what."""


class Timed(NamedTuple):
    """How long some calls took together, and each of them, in seconds."""

    seconds: float
    each: list[float]


class Session:
    """One target, open, with an empty store. What it doesn't override it isn't able to do."""

    def put(self, doc_id: str, document: Document) -> None:
        """Write a new document."""
        raise NotImplementedError

    def get(self, doc_id: str) -> Document:
        """Read a document, decoded."""
        raise NotImplementedError

    def update(self, doc_id: str) -> None:
        """Read a document, count its `touched` up, and write it in its place."""
        raise NotImplementedError

    def bulk(self, documents: Sequence[tuple[str, Document]]) -> None:
        """Write new documents in one batch."""
        raise NotImplementedError

    def conflict(self, doc_id: str, mine: Document, theirs: Document) -> None:
        """Make a document with a conflict: a revision, and another one beside it that came from elsewhere."""
        raise NotImplementedError

    def siblings(self, doc_id: str) -> list[Document]:
        """Read all bodies of a document in conflict."""
        raise NotImplementedError

    def resolve(self, doc_id: str, body: Document) -> None:
        """Leave one body of a document in conflict."""
        raise NotImplementedError

    def changes(self) -> int:
        """Read the changes feed from its beginning, with documents; return how many there were."""
        raise NotImplementedError

    def load(self, path: str) -> None:
        """Import JSON Lines."""
        raise NotImplementedError

    def reopen(self, doc_id: str) -> Document:
        """Close the store, open it again, and read a document."""
        raise NotImplementedError

    def measure(self, ability: Ability, calls: Sequence[tuple[Any, ...]]) -> Timed:
        """Make these calls one after the other, and time each."""
        act, each, clock = getattr(self, ability), [], time.perf_counter
        began = clock()
        for call in calls:
            before = clock()
            act(*call)
            each.append(clock() - before)
        return Timed(clock() - began, each)


class Target:
    """Something that can be measured. `most` is how many documents it is asked for at most: the slow get fewer."""

    name: str
    durability: Durability
    abilities: frozenset[Ability]
    most = 1_000_000

    def running(self, place: Path) -> AbstractContextManager[None]:  # noqa: ARG002
        """Run what the target needs beside its sessions, with an empty folder for it. Raises Unavailable."""
        return nullcontext()

    def open(self, place: Path) -> AbstractContextManager[Session]:
        """Open an empty store in an empty folder. Raises Unavailable."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{self.name}, {self.durability}"


def abilities_of(session: type[Session]) -> frozenset[Ability]:
    """Return what a kind of session overrides."""
    names: tuple[Ability, ...] = Ability.__args__  # type: ignore[attr-defined]
    return frozenset(name for name in names if getattr(session, name) is not getattr(Session, name))
