"""Every error that crdtdb raises: one class per kind.

Each says what was wrong, with which value, and what to do. `maybe_done` tells whether the refused operation may have
happened all the same; it is False except where an answer was lost on the way. An error that a standard exception
describes is one of those too, so that `except KeyError` and `except ValueError` work as a Python programmer expects.
"""

from __future__ import annotations

from typing import Self


class CrdtdbError(Exception):
    """The base of every error of this package."""

    maybe_done = False

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class ConflictError(CrdtdbError):
    """A write named a revision that isn't current (any more), or none where there is one. Nothing was written."""

    def __init__(self, doc_id: str, given: str | None, current: tuple[str, ...]) -> None:
        named = f"revision {given}" if given else "no revision"
        now = ", ".join(current) if current else "none"
        super().__init__(
            f"document {doc_id!r}: the write names {named}, the current one is {now}. "
            "Read the document again and repeat the change on what you find."
        )
        self.doc_id, self.given, self.current = doc_id, given, current


class NotFoundError(CrdtdbError, KeyError):
    """There is no such document, revision or collection."""

    def __init__(self, message: str, *, deleted: bool = False) -> None:
        super().__init__(message)
        self.deleted = deleted


class InvalidInputError(CrdtdbError, ValueError):
    """An argument is not what the call takes: its type, its form or its range.

    `fault` names the rule that it breaks where a check has several, for callers with words of their own; "" elsewhere.
    """

    def __init__(self, message: str, *, fault: str = "") -> None:
        super().__init__(message)
        self.fault = fault


class InvalidIdError(InvalidInputError):
    """A document id or collection name that isn't allowed."""


class InvalidDocumentError(InvalidInputError):
    """A value that isn't JSON as crdtdb keeps it: NaN, a lone surrogate, an integer of too many digits, an unknown type."""


class UndecidedFieldError(InvalidInputError):
    """A resolution that doesn't say what becomes of a field of which two things are kept, such as two types."""


class SelectorError(InvalidInputError):
    """A selector that isn't one: an operator that doesn't exist, or an argument that it can't take."""


class ReduceError(InvalidInputError):
    """A value that a reduce that is built in can't take: `value`."""

    def __init__(self, message: str, value: object) -> None:
        super().__init__(message)
        self.value = value


class NoUsableIndexError(InvalidInputError):
    """A query that was to be answered from an index only, and there is none that serves it."""


class BookmarkError(InvalidInputError):
    """A bookmark that isn't of this query, or of an index that isn't used any more."""


class SchemaError(InvalidInputError):
    """A schema that contradicts what is declared already, or isn't one."""


class MissingStubError(InvalidInputError):
    """A write keeps an attachment that no revision before it has."""


class InvalidRevError(InvalidInputError):
    """A revision that isn't of the form `generation-digest`."""


class SystemCollectionError(InvalidInputError):
    """A collection that the database keeps of itself can be read, and not written."""


class TooLargeError(InvalidInputError):
    """A document, frame or request is larger, deeper or wider than its limit. See `crdtdb.limits`."""


class StoreError(CrdtdbError):
    """The store could not do what it was asked."""


class StoreLockedError(StoreError):
    """Another process, or another part of this one, has the store open."""


class StoreFormatError(StoreError):
    """The store was written in a format that this version of crdtdb doesn't know."""


class StoreCorruptedError(StoreError):
    """What was read from the store isn't what was written."""


class StoreFullError(StoreError):
    """The disk is full. Nothing of the refused commit was written."""


class StoreFilesError(StoreError):
    """The process, or the system, has too many files open to open those of the store."""


class StorePermissionError(StoreError):
    """The operating system doesn't allow the store's files to be read or written."""


class StoreClosedError(StoreError):
    """The store has been closed, or closed itself after a failed write."""


class NestedCommitError(StoreError):
    """A write or a snapshot inside a commit of the same store: it would wait for itself. Nothing of it was written."""

    def __init__(self) -> None:
        super().__init__(
            "the store can't be written, closed or asked for a snapshot inside a commit: by work given to `submit`, by a "
            "callback that changes a document, or by a listener. Use the transaction that the work was given, or do it after "
            "the commit"
        )


class ForkedError(StoreError):
    """A store was used in a process that was forked from the one that opened it. Nothing was read or written."""

    def __init__(self, owner: int, child: int) -> None:
        super().__init__(
            f"the store belongs to process {owner}, which opened it; process {child} was forked from that one and can't use "
            "it. Open a store in the child, after the fork: in gunicorn's post_fork, Celery's worker_process_init, or the "
            "initializer of a pool"
        )
        self.owner, self.child = owner, child


class BackendMissingError(StoreError):
    """No such backend, or the package that it needs isn't installed."""


class ExtraMissingError(CrdtdbError, ImportError):
    """A part of crdtdb whose packages aren't installed: the message names the extra that brings them."""

    @classmethod
    def of(cls, error: ModuleNotFoundError, what: str, extra: str) -> Self:
        """Return the error for a part of crdtdb that failed to import a package. Raises `error` if that is crdtdb's own."""
        if error.name is None or error.name.split(".")[0] == "crdtdb":
            raise error
        return cls(f"{what} needs the package {error.name!r}, which isn't installed: pip install 'crdtdb[{extra}]'")


class BackupError(CrdtdbError):
    """A backup that isn't whole, isn't one, or has no place to go."""


class EncodingError(CrdtdbError, ValueError):
    """Bytes that aren't a valid encoding of what was expected."""


class ProtocolError(CrdtdbError):
    """A peer sent what the protocol doesn't allow at that point."""


class DotCollisionError(CrdtdbError):
    """Two contents under one dot: an actor's counter was used twice. The exchange stops and both contents stay."""


class HistoryForkedError(CrdtdbError):
    """A store was put back from a backup and written again: one dot names two contents. Nothing was merged."""


class CertificateError(CrdtdbError):
    """A certificate or key is missing, unreadable, expired or of the wrong role."""


class ConfigurationError(CrdtdbError, ValueError):
    """A flag, environment variable or configuration file that makes no sense."""


class ScriptError(CrdtdbError):
    """A function of a design document threw, took too much time or memory, or isn't one. Nothing else was harmed."""


class ScriptingMissingError(CrdtdbError):
    """JavaScript of design documents was asked for, and its engine isn't installed."""


class LockError(CrdtdbError):
    """A lock isn't held, or not any more, or not under the token that was given; or it couldn't be had in time."""


class UnavailableError(CrdtdbError):
    """The node can't take this now: it is still joining its cluster, too busy, or stopping. Try again later."""


class ConvergenceError(CrdtdbError):
    """Two stores that should hold the same don't."""
