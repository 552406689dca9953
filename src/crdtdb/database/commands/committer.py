"""The one way of commands into a store, alone or many in one commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from crdtdb.database.commands.base import (
    Command,
    discard,
)
from crdtdb.database.commands.imports import ImportRevision, without_empty_text
from crdtdb.errors import ConflictError, CrdtdbError, InvalidInputError, MissingStubError, NotFoundError
from crdtdb.store import Store, Transaction, Written
from crdtdb.store.commit.imports import import_revisions

T = TypeVar("T")


Outcome = Written | CrdtdbError
"""What a command of several came to: what it wrote, or the error that refused it."""


def apply_each(commands: Sequence[Command | CrdtdbError], transaction: Transaction) -> list[Outcome]:
    """Apply commands in one transaction, each with an outcome of its own: one that is refused stops no other.

    An error in the place of a command is its outcome. A missing stub refuses all, as in CouchDB. The revisions that are
    imported into one document are applied together, where the first of them stands: the document is read and written once.
    """
    together = _imports_together(commands)
    outcomes: dict[int, Outcome] = {}
    for place, command in enumerate(commands):
        if isinstance(command, CrdtdbError):
            outcomes[place] = command
        elif place in together:
            imports = together[place]
            outcomes.update(zip(imports, _import(list(imports.values()), transaction), strict=True))
        elif place not in outcomes:
            outcomes[place] = _outcome(command, transaction)
    return [outcomes[place] for place in range(len(commands))]


def _outcome(command: Command, transaction: Transaction) -> Outcome:
    try:
        return command.apply(transaction)
    except MissingStubError:
        raise
    except CrdtdbError as error:
        if isinstance(error, ConflictError | NotFoundError | InvalidInputError):
            discard(transaction, command)
        return error


def _imports_together(commands: Sequence[Command | CrdtdbError]) -> dict[int, dict[int, ImportRevision]]:
    """Return the imports into each document to which all commands are plain imports, by their places, by the first of these."""
    if not any(type(command) is ImportRevision for command in commands):
        return {}
    by_document: dict[tuple[str, str], dict[int, Command]] = {}
    for place, command in enumerate(commands):
        if not isinstance(command, CrdtdbError):
            by_document.setdefault((command.collection, command.doc_id), {})[place] = command
    together: dict[int, dict[int, ImportRevision]] = {}
    for of_document in by_document.values():
        imports = {
            place: one for place, one in of_document.items() if isinstance(one, ImportRevision) and not one.attachments
        }
        if 1 < len(imports) == len(of_document):
            together[next(iter(imports))] = imports
    return together


def _import(commands: list[ImportRevision], transaction: Transaction) -> list[Outcome]:
    """Import several revisions into one document."""
    name, doc_id = commands[0].collection, commands[0].doc_id
    revisions = [without_empty_text(command.revision) for command in commands]
    results = import_revisions(transaction, name, doc_id, revisions)
    record = transaction.load(name, doc_id)
    return [
        result if isinstance(result, CrdtdbError) else Written(record, None, revision.rev)
        for revision, result in zip(revisions, results, strict=True)
    ]


class Committer:
    """Commits work on documents: the one way of commands into a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def submit(self, work: Callable[[Transaction], T]) -> T:
        """Do work in a transaction, and return its result once it is committed. Raises what the work raises."""
        return self._store.submit(work)

    def submit_each(self, commands: Sequence[Command | CrdtdbError]) -> list[Outcome]:
        """Apply commands in one commit, and return the outcome of each. See `apply_each`."""
        return self._store.submit(partial(apply_each, commands))
