"""Digest of a collection: equal on two nodes if their documents are equal."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from crdtdb.documents import State


def digest_of(documents: Iterable[tuple[str, State]]) -> str:
    """Return the digest of documents, given in one order."""
    digest = blake2b(digest_size=16)
    for doc_id, state in documents:
        parts = [doc_id.encode()]
        for dot, leaf in sorted(state.leaves.items()):
            parts += [dot.actor, b"%d" % dot.counter, str(leaf.rev).encode(), b"D" if leaf.deleted else b"L"]
        for dot, body in sorted(state.bodies.items()):
            parts += [dot.actor, b"%d" % dot.counter, body.text]
        for address, deltas in sorted(state.fields.items()):
            parts += [key.encode() for key in (address.kind, address.part, *address.path)]
            for dot, delta in sorted(deltas.items()):
                parts += [dot.actor, b"%d" % dot.counter, delta.content]
        for address, journal in sorted(state.journals.items()):
            parts += [key.encode() for key in (address.kind, address.part, *address.path)]
            parts += [b"%b%d" % (actor, counter) for actor, counter in sorted(journal.vector.items())]
        digest.update(b"".join(b"%d:%b" % (len(part), part) for part in parts))
    return digest.hexdigest()
