"""Makes commands of what callers of the library give: checked, and for one collection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crdtdb.database.commands.base import Command, Data
from crdtdb.database.commands.edits import Attach, Delete, Put, PutIfAbsent
from crdtdb.database.commands.imports import ImportRevision
from crdtdb.database.commands.patches import MergePatch
from crdtdb.database.validation import (
    check_attachment_name,
    check_body,
    check_id,
    check_patch,
    check_rev,
    check_whole,
    read_revisions,
)
from crdtdb.documents.external_revisions import ExternalRevision
from crdtdb.errors import CrdtdbError, InvalidInputError


class CommandFactory:
    """Makes the commands of one collection. Each method raises InvalidInputError, a subclass mostly, and TooLargeError."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def put(self, doc_id: str, body: Mapping[str, Any], rev: str | None = None) -> Put:
        """Return the put of a body; `rev` may also stand in it."""
        check_id(doc_id)
        text, given = check_whole(body)
        return Put(self._name, doc_id, text, check_rev(rev if rev is not None else body.get("_rev")), given)

    def put_if_absent(self, doc_id: str, body: Mapping[str, Any]) -> PutIfAbsent:
        """Return the put of a body where there is no live document."""
        return PutIfAbsent(self._name, check_id(doc_id), *check_whole(body))

    def delete(self, doc_id: str, rev: str | None = None) -> Delete:
        """Return the deletion of a sibling."""
        return Delete(self._name, check_id(doc_id), check_rev(rev))

    def patch(self, doc_id: str, patch: Mapping[str, Any], rev: str | None = None) -> MergePatch:
        """Return a JSON merge patch."""
        return MergePatch(self._name, check_id(doc_id), check_patch(patch), check_rev(rev))

    def attach(self, doc_id: str, name: str, data: bytes, content_type: str, rev: str | None = None) -> Attach:
        """Return the write of an attachment."""
        attachment = Data(content_type, data)
        return Attach(self._name, check_id(doc_id), check_attachment_name(name), attachment, check_rev(rev))

    def detach(self, doc_id: str, name: str, rev: str | None = None) -> Attach:
        """Return the removal of an attachment."""
        return Attach(self._name, check_id(doc_id), name, None, check_rev(rev))

    def of_bulk(self, body: Mapping[str, Any]) -> Command | CrdtdbError:
        """Return the put or deletion of a document with `_id`, `_rev` and `_deleted`, or the error that refuses it."""
        try:
            if not isinstance(body, Mapping):
                raise InvalidInputError(f"a document is an object (a dict), not {type(body).__name__}")
            rest = dict(body)
            doc_id, rev = check_id(rest.pop("_id", None)), check_rev(rest.pop("_rev", None))
            if rest.pop("_deleted", False):
                return Delete(self._name, doc_id, rev)
            text, given = check_whole(rest)
            return Put(self._name, doc_id, text, rev, given)
        except CrdtdbError as error:
            return error

    def of_revision(self, body: Mapping[str, Any]) -> ImportRevision | CrdtdbError:
        """Return the import of a revision with `_id`, `_rev` and `_revisions`, or the error that refuses it."""
        try:
            if not isinstance(body, Mapping):
                raise InvalidInputError(f"a document is an object (a dict), not {type(body).__name__}")
            doc_id, rev = check_id(body.get("_id")), check_rev(body.get("_rev"))
            if rev is None:
                raise InvalidInputError(f"document {doc_id!r} comes without its _rev")
            _, ancestors = read_revisions(body.get("_revisions"), rev)
            text, deleted = check_body(body), bool(body.get("_deleted"))
            revision = ExternalRevision(rev, ancestors, text if not deleted else None, deleted)
            return ImportRevision(self._name, doc_id, revision)
        except CrdtdbError as error:
            return error
