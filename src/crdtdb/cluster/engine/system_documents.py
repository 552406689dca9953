"""Inspection of what a peer sends for the database itself: documents of system collections, and local records.

What a peer has written itself must be as the owner of the collection writes it, or the frame is refused. What it passes on may
be anything: it can have come from a member of an older version, and to refuse it would part those who hold it from those who
don't. That is kept, so that all hold the same, and counts as absent wherever it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from crdtdb.causality import Actor
from crdtdb.cluster.engine.locks import LOCKS, check_lock
from crdtdb.cluster.engine.roster import NODES, check_node
from crdtdb.cluster.engine.system_collections import NOTIFYS, check_shown
from crdtdb.couchdb.replication.spec import check_described
from crdtdb.database.system_collection import Check, check_system_document
from crdtdb.documents import State
from crdtdb.documents.local import LOCAL, check_local
from crdtdb.errors import EncodingError, InvalidDocumentError
from crdtdb.security import ACCESS, REPLICATOR, SECURITY, USERS, check_security
from crdtdb.security.revocation import REVOCATIONS, check_revocation
from crdtdb.security.users import check_user
from crdtdb.store import SYSTEM

_CHECKS: Mapping[str, Check] = {
    NODES: check_node,
    LOCKS: check_lock,
    NOTIFYS: check_shown,
    REVOCATIONS: check_revocation,
    ACCESS: lambda name, body: check_security(body),  # noqa: ARG005
    SECURITY: lambda name, body: check_security(body["written"]),  # noqa: ARG005
    USERS: check_user,
    REPLICATOR: check_described,
}


class Inspection:
    """Looks at the documents that one peer sends."""

    def __init__(self, written_by: Set[Actor]) -> None:
        """`written_by` are the actors that the peer writes as."""
        self._written_by = written_by

    def __call__(self, name: str, doc_id: str, state: State) -> None:
        """Raise EncodingError for a document that the peer itself has written, and that no sound node writes."""
        for leaf in state.leaves.values():
            body = state.bodies.get(leaf.body_dot)
            if body is None or leaf.body_dot.actor not in self._written_by:
                continue
            if doc_id.startswith(LOCAL):
                check_local(leaf.rev, body.text)
            elif name.startswith(SYSTEM) and not leaf.deleted and name in _CHECKS:
                try:
                    check_system_document(_CHECKS[name], doc_id, body.text)
                except InvalidDocumentError as error:
                    raise EncodingError(f"the document {doc_id[:200]!r} of {name} is {error}") from error
