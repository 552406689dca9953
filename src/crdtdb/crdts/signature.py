"""Signature of an edit: its author, time and collection creations."""

from __future__ import annotations

from typing import NamedTuple

from crdtdb.causality import Dot, DotSet
from crdtdb.crdts.journal import Creations
from crdtdb.crdts.sequences import writer_under


class Signature(NamedTuple):
    """Who makes an edit, when, and under which creations of the collection.

    `origin` is the revision made elsewhere that the edit derives from. Every store that derives the same from the same revision
    signs with the same origin, and it counts once.
    """

    dot: Dot
    stamp: int
    creations: Creations = frozenset()
    origin: str | None = None
    seen: DotSet | None = None
    """What the author of that revision had seen: only that can be removed. None is everything that is here."""
    since: int = 0
    """The first counter of the session in which the edit is made: what came before may be another history's as well."""
    tag: bytes = b""
    """What tells that session from any other of the actor."""
    doc_id: str = ""
    """The document whose fields are edited."""
    root: str = ""
    """What tells the document from an earlier one of its name, which may be forgotten here; empty if there was none."""

    @property
    def writer(self) -> bytes:
        """What the updates of texts and lists are signed with: no two histories of one actor may share it."""
        if self.origin is not None:
            return self.origin.encode()
        return writer_under(self.tag or self.dot.actor, self.creations)
