"""Adds or removes one attachment by an edit of the body."""

from __future__ import annotations

from typing import Any

from crdtdb.crdts import Draft
from crdtdb.documents.attachments import KEY, New, attachments_in, with_attachments
from crdtdb.documents.fields import Plain
from crdtdb.documents.revisions import Rev
from crdtdb.documents.state import State
from crdtdb.documents.view import NO_BODY, view
from crdtdb.documents.write_context import Write
from crdtdb.documents.writes import edit, put
from crdtdb.errors import ConflictError, NotFoundError


def attach_to(name: str, new: New | None, rev: Rev | None, state: State, write: Write, *, exact: bool = False) -> State:
    """Replace the winner, or leaf `rev`, by a child with the attachment; without it, if that is None.

    An `exact` write names the leaf that it replaces, and makes the document if it is new or deleted. Raises NotFoundError,
    ConflictError.
    """
    shown = view(state)
    made = exact and rev is None and shown.deleted
    target = (shown.siblings[0] if shown.siblings else None) if rev is None else shown.find(rev)
    if exact and rev is None and not made:
        raise ConflictError(write.doc_id, None, tuple(str(sibling.rev) for sibling in shown.siblings))
    entries: dict[str, Any] = attachments_in(target.text) if target is not None and not made else {}
    top = shown.winner if made else target
    if new is None:
        if target is not None and name not in entries:
            raise NotFoundError(f"document {write.doc_id!r} has no attachment {name!r}")
        entries.pop(name, None)
    else:
        generation = top.leaf.rev.generation + 1 if top is not None else 1
        entries.update(attachments_in(with_attachments(NO_BODY, {name: new}, [], generation)))
    if made:
        plain = Plain(NO_BODY)
        plain.value[KEY] = entries
        return put(state, write, None, plain.text(), exact=True)

    def replace(_: Draft, plain: Plain) -> None:
        plain.value.pop(KEY, None)
        if entries:
            plain.value[KEY] = entries

    return edit(state, write, replace, rev, exact=exact)
