"""Import of external revisions: one read and one write per document."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from crdtdb.documents import State, Write
from crdtdb.documents.external_revisions import ExternalRevision, Import
from crdtdb.errors import InvalidInputError, NotFoundError
from crdtdb.store.commit.transaction import Transaction

Taken = bool | InvalidInputError | NotFoundError
"""Whether a revision was new; or the error that refused it."""


def import_revisions(
    transaction: Transaction, name: str, doc_id: str, revisions: Sequence[ExternalRevision]
) -> list[Taken]:
    """Import external revisions into one document, in this order; return the outcome of each.

    One that is refused leaves nothing, and stops no other.
    """
    transaction.ledger.create(name)
    outcomes: list[Taken] = []
    while len(outcomes) < len(revisions):
        try:
            outcomes += _import_some(transaction, name, doc_id, revisions[len(outcomes) :])
        except (InvalidInputError, NotFoundError) as error:
            outcomes.append(error)
    return outcomes


def _import_some(
    transaction: Transaction, name: str, doc_id: str, revisions: Sequence[ExternalRevision]
) -> list[Taken]:
    """Import as many revisions as one write can: all, unless the document has fields, which each may have seen differently."""
    history = transaction.history(name, doc_id)
    read = partial(transaction.read_then, name, doc_id)
    outcomes: list[Taken] = []

    def change(state: State, write: Write) -> State:
        importing = Import(state, write, history.known, read)
        if not importing.plain:
            outcomes.append(importing.take(revisions[0]))
            return importing.state() if outcomes[0] else state
        for foreign in revisions:
            if outcomes:
                write.stamp = transaction.ledger.stamp()
            outcomes.append(_outcome(importing, foreign))
        after = importing.state() if write.dot is not None else state
        transaction.rows.changes.update(history.kept_in_passing(importing.passed, state, after))
        return after

    transaction.write(name, doc_id, change)
    for foreign, outcome in zip(revisions, outcomes, strict=False):
        if outcome is False and not foreign.deleted and foreign.text is not None:
            transaction.rows.changes.update(history.filled(foreign.rev, foreign.text))
    return outcomes


def _outcome(importing: Import, foreign: ExternalRevision) -> Taken:
    try:
        return importing.take(foreign)
    except (InvalidInputError, NotFoundError) as error:
        return error
