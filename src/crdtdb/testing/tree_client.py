"""Client of revision trees like PouchDB: CouchDB's protocol, no fields.

It keeps a tree of revisions for each document, pulls the leaves that it lacks together with their ancestors, writes and
deletes in its own tree, and pushes the leaves that the other side lacks, under the names that it gave them
(`new_edits=false`). It never writes as an actor.
"""

from __future__ import annotations

from hashlib import md5
from typing import Any, NamedTuple

from crdtdb.canonical_json import canonical
from crdtdb.couchdb import Options, Trees, Writes, parse_document
from crdtdb.documents import Rev
from crdtdb.store import Store


class Node(NamedTuple):
    """One revision in a client's tree. `value` is None for an ancestor of which the name alone came."""

    parent: Rev | None
    deleted: bool
    value: dict[str, Any] | None


class TreeClient:
    """One client's copy of a collection."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.documents: dict[str, dict[Rev, Node]] = {}

    def tree(self, doc_id: str) -> dict[Rev, Node]:
        """Return the revisions of a document that are known here."""
        return self.documents.setdefault(doc_id, {})

    def leaves(self, doc_id: str) -> dict[Rev, Node]:
        """Return the leaves of a document, deleted ones too."""
        tree = self.tree(doc_id)
        parents = {node.parent for node in tree.values()}
        return {rev: node for rev, node in tree.items() if rev not in parents}

    def live(self, doc_id: str) -> dict[Rev, dict[str, Any]]:
        """Return the values of the leaves that aren't deleted."""
        return {rev: node.value or {} for rev, node in self.leaves(doc_id).items() if not node.deleted}

    def put(self, doc_id: str, value: dict[str, Any], parent: Rev | None) -> Rev:
        """Write a child of a revision; return its name, which follows from its parent and value as PouchDB's does."""
        return self._add(doc_id, value, parent, False)

    def delete(self, doc_id: str, rev: Rev) -> Rev:
        """Delete a leaf; return the name of the tombstone."""
        return self._add(doc_id, {}, rev, True)

    def pull(self, store: Store, name: str, doc_ids: list[str]) -> None:
        """Take the leaves that a store shows and this client lacks, with the names of their ancestors."""
        trees = Trees(store, name)
        for doc_id in doc_ids:
            found, mine = trees.find(doc_id), self.tree(doc_id)
            for leaf in found.leaves if found is not None else ():
                if leaf.leaf.rev not in mine or mine[leaf.leaf.rev].value is None:
                    assert found is not None
                    self._take(mine, found.document(leaf.leaf.rev, Options(revs=True)))

    def push(self, store: Store, name: str, doc_ids: list[str]) -> list[Rev]:
        """Push the leaves that a store lacks; return their names."""
        pushed: list[Rev] = []
        for doc_id in doc_ids:
            known = Trees(store, name).known(doc_id)
            for rev, node in sorted(self.leaves(doc_id).items()):
                if node.value is not None and not known(rev):
                    line = [rev, *self._ancestors(doc_id, rev)]
                    body = {"_id": doc_id, "_revisions": {"start": rev.generation, "ids": [one.digest for one in line]}}
                    deleted = {"_deleted": True} if node.deleted else {}
                    store.submit(Writes(store, name).taking(parse_document({**node.value, **body, **deleted})))
                    pushed.append(rev)
        return pushed

    def _add(self, doc_id: str, value: dict[str, Any], parent: Rev | None, deleted: bool) -> Rev:
        content = canonical([str(parent), deleted, value])
        rev = Rev(parent.generation + 1 if parent is not None else 1, md5(content, usedforsecurity=False).hexdigest())
        self.tree(doc_id)[rev] = Node(parent, deleted, value)
        return rev

    def _ancestors(self, doc_id: str, rev: Rev) -> list[Rev]:
        tree, line = self.tree(doc_id), []
        parent = tree[rev].parent
        while parent is not None:
            line.append(parent)
            parent = tree[parent].parent if parent in tree else None
        return line

    @staticmethod
    def _take(mine: dict[Rev, Node], document: dict[str, Any]) -> None:
        start, ids = document["_revisions"]["start"], document["_revisions"]["ids"]
        line = [Rev(start - n, digest) for n, digest in enumerate(ids)]
        for n, rev in enumerate(line[1:], 1):
            parent = line[n + 1] if n + 1 < len(line) else None
            if rev not in mine or (mine[rev].parent is None and parent is not None):
                known = mine.get(rev, Node(None, False, None))
                mine[rev] = known._replace(parent=parent)
        value = {key: one for key, one in document.items() if not key.startswith("_")}
        mine[line[0]] = Node(line[1] if len(line) > 1 else None, bool(document.get("_deleted")), value)
