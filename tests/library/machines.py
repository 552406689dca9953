"""Two databases, one of them on a disk: what the state machines of queries and of views do to both."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import crdtdb
from crdtdb.crdts import Field

IDS = st.sampled_from(["a", "a\0", "b", "c\0", "d", "é"])


class TwoDatabases(RuleBasedStateMachine):
    """Deletes, merges and restarts. Whoever extends it says which fields there are, and adds writes and what must hold."""

    schema: ClassVar[dict[str, type[Field]]]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = str(Path(self.folder.name) / "data")

    @initialize()
    def begin(self) -> None:
        self.db = crdtdb.open(self.path, durability="buffered")
        self.other = crdtdb.open("memory:")
        self.db.collection("notes", schema=self.schema)
        crdtdb.sync(self.db, self.other)

    def notes(self, there: bool) -> crdtdb.Collection:
        return (self.other if there else self.db)["notes"]

    @rule(doc_id=IDS, there=st.booleans())
    def delete(self, doc_id: str, there: bool) -> None:
        notes = self.notes(there)
        if doc_id in notes:
            notes.delete(doc_id, notes.get(doc_id).rev)

    @rule()
    def merge(self) -> None:
        crdtdb.sync(self.db, self.other)

    @rule()
    def restart(self) -> None:
        self.db.close()
        self.db = crdtdb.open(self.path, durability="buffered")

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            self.other.close()
        self.folder.cleanup()
