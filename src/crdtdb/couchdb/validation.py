"""Validation: a committer that asks the `validate_doc_update` functions of design documents first.

Functions may take long, and a commit mustn't wait for them. So a write is tried in a transaction that is rolled back, the
functions get the documents that it would write, and then it is done, if the rows that it was tried on are unchanged. Otherwise
it is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from crdtdb.causality import Dot
from crdtdb.couchdb.design_documents import told
from crdtdb.couchdb.errors import CouchError
from crdtdb.database.commands import Command, Committer, Outcome, apply_each
from crdtdb.documents import view
from crdtdb.documents.local import LOCAL
from crdtdb.errors import CrdtdbError
from crdtdb.javascript import Function, Scripts
from crdtdb.query.definitions import DESIGN
from crdtdb.store import Store, Transaction
from crdtdb.store.layout import keys

T = TypeVar("T")
D = TypeVar("D")
_STATUSES = {"forbidden": 403, "unauthorized": 401}


class Author(NamedTuple):
    """The author of a write: the third and fourth argument of a function."""

    user: Mapping[str, Any]
    security: Mapping[str, Any]


class Proposal(NamedTuple):
    """A document as a write would leave it. `row` is the row that it would replace."""

    doc_id: str
    document: dict[str, Any]
    before: dict[str, Any] | None
    key: bytes
    row: bytes | None


class _TriedError(Exception):
    """Carries what a write would do out of the transaction, which it takes with it."""

    def __init__(self, proposals: list[Proposal]) -> None:
        super().__init__()
        self.proposals = proposals


class _StaleError(Exception):
    """What a write was tried on isn't there any more."""


class DocumentValidator(Committer):
    """The writes of one author to one collection."""

    def __init__(self, store: Store, name: str, validators: list[Function], scripts: Scripts, author: Author) -> None:
        super().__init__(store)
        self._name = name
        self._validators, self._scripts, self._author = validators, scripts, author

    def submit(self, work: Callable[[Transaction], T]) -> T:
        """Do work in a transaction, if nothing that it writes is refused.

        Raises CouchError, ScriptError, and what the work raises.
        """
        while True:
            proposals = self._tried(work)
            for one in proposals:
                refused = self.refusal(one)
                if refused is not None:
                    raise refused
            try:
                return self._store.submit(partial(_unless_stale, proposals, work))
            except _StaleError:
                continue

    def submit_each(self, commands: Sequence[Command | CrdtdbError]) -> list[Outcome]:
        """Apply commands in one commit; the outcome of one whose document is refused is the refusal. Raises ScriptError."""
        while True:
            proposals = self._tried(partial(apply_each, commands))
            refusals = {one.doc_id: refused for one in proposals if (refused := self.refusal(one)) is not None}
            chosen = [one if isinstance(one, CrdtdbError) else refusals.get(one.doc_id, one) for one in commands]
            try:
                return self._store.submit(partial(_unless_stale, proposals, partial(apply_each, chosen)))
            except _StaleError:
                continue

    def refusal(self, proposal: Proposal) -> CouchError | None:
        """Return why a document isn't to be written, None if nobody has anything against it. Raises ScriptError."""
        for function in self._validators:
            refused = self._scripts.validate(
                function, proposal.document, proposal.before, self._author.user, self._author.security
            )
            if refused is not None:
                return CouchError(_STATUSES[refused.word], refused.word, refused.reason)
        return None

    def _tried(self, work: Callable[[Transaction], T]) -> list[Proposal]:
        """Return what work would write. Raises what it raises."""

        def attempt(transaction: Transaction) -> None:
            first = len(transaction.written)
            work(transaction)
            written = dict.fromkeys(doc_id for name, doc_id in transaction.written[first:] if name == self._name)
            guarded = [doc_id for doc_id in written if _is_guarded(doc_id)]
            raise _TriedError([one for doc_id in guarded for one in self._proposals(transaction, doc_id)])

        try:
            self._store.submit(attempt)
        except _TriedError as tried:
            return tried.proposals
        raise AssertionError

    def _proposals(self, transaction: Transaction, doc_id: str) -> list[Proposal]:
        """Return what a write would leave that wasn't there: the leaves that are new."""
        key = keys.document(transaction.ledger.root.collections[self._name].number, doc_id.encode())
        row = transaction.rows.committed.get(key)
        record = self._store.read(self._name, doc_id)
        before, known = None, set[Dot]()
        if record is not None:
            known = set(record.state.leaves)
            winner = view(record.state).winner
            opener = self._store.opener(self._name, doc_id)
            before = told(doc_id, record.state, winner, opener) if winner is not None else None
        after, opener = transaction.load(self._name, doc_id).state, transaction.reader(self._name, doc_id)
        new = [leaf for leaf in view(after).leaves if leaf.dot not in known]
        return [Proposal(doc_id, told(doc_id, after, leaf, opener), before, key, row) for leaf in new]


def _unless_stale(proposals: list[Proposal], work: Callable[[Transaction], T], transaction: Transaction) -> T:
    if any(transaction.rows.get(one.key) != one.row for one in proposals):
        raise _StaleError
    return work(transaction)


def _is_guarded(doc_id: str) -> bool:
    """Whether functions are asked about a document: about designs, local records and schemas they aren't, as in CouchDB."""
    return not doc_id.startswith((DESIGN, LOCAL, "_"))
