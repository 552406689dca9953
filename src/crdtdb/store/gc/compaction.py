"""Compaction: drops values of replaced revisions, and their attachments.

Local to a store, and started by an operator, or by the configured age: a dropped value can't be read here by its revision
any more, nor serve as the common ancestor of a three-way merge.

The search blocks no writer: it reads committed rows. A commit then drops what the search found, after it has checked the few
rows that may have changed. Writers wait for that commit, which takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from crdtdb.backends import Reader
from crdtdb.causality import DotSet
from crdtdb.documents.local import LOCAL
from crdtdb.documents.stamps import milliseconds
from crdtdb.store.commit.transaction import Transaction
from crdtdb.store.layout import keys
from crdtdb.store.layout.records import Past, StoreTables, decode_past, encode_past

_ROWS_LOOKED_AT = 1_000
_REVISIONS_IN_A_COMMIT = 100
_DOCUMENTS_IN_A_COMMIT = 20


class Due(NamedTuple):
    """Result of a search. `after` is the key to continue from, None at the end."""

    revisions: dict[bytes, list[bytes]]
    """The keys of revisions whose values can go, by the ids of their documents."""
    attached: list[bytes]
    """The ids of documents with references to attachments, some of which may be obsolete."""
    after: bytes | None

    def __bool__(self) -> bool:
        return bool(self.revisions or self.attached)


def replaced_values(
    rows: Reader, tables: StoreTables, collection: int, stable: DotSet, after: bytes, before: int | None = None
) -> Due:
    """Search some of a collection's replaced revisions, then its attachments, from the key `after` on.

    With `before`, in milliseconds since 1970, only stable values that were written before that time are due.
    """
    due = Due({}, [], None)
    found = 0
    for seen, (key, value) in enumerate(_walk(rows, collection, after), 1):
        raw = _id_in(key)
        if key[:1] == b"q":
            if raw not in due.attached:
                due.attached.append(raw)
        elif not raw.startswith(LOCAL.encode()):  # whose older values still hold until the newest is served
            past = decode_past(key, value, keys.history(collection, raw), tables)
            if past.text is not None and (before is None or _is_old(past, stable, before)):
                due.revisions.setdefault(raw, []).append(key)
                found += 1
        full = found >= _REVISIONS_IN_A_COMMIT or len(due.attached) >= _DOCUMENTS_IN_A_COMMIT
        if full or seen >= _ROWS_LOOKED_AT:
            return due._replace(after=key + b"\0")
    return due


def _walk(rows: Reader, collection: int, after: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the rows of replaced revisions, then those of references to contents, each document's together."""
    parts = []
    for prefix in (keys.history(collection, b"")[:5], keys.references(collection, b"")[:5]):
        start, stop = keys.rest(prefix)
        if after < stop:
            parts.append(rows.scan(max(start, after), stop))
    return chain.from_iterable(parts)


def _id_in(key: bytes) -> bytes:
    return key[7 : 7 + int.from_bytes(key[5:7], "big")]


def _is_old(past: Past, stable: DotSet, before: int) -> bool:
    return past.dot is not None and past.dot in stable and milliseconds(past.stamp) < before


def forget_values(transaction: Transaction, tables: StoreTables, name: str, collection: int, due: Due) -> None:
    """Drop what a search found, unless the collection was dropped and created again since."""
    now = transaction.ledger.root.collections.get(name)
    if now is None or now.number != collection:
        return
    for raw, found in due.revisions.items():
        leaves = {leaf.rev for leaf in transaction.load(name, raw.decode()).state.leaves.values()}
        history = keys.history(collection, raw)
        for key in found:
            value = transaction.rows.get(key)
            past = decode_past(key, value, history, tables) if value is not None else None
            if past is not None and past.text is not None and past.rev not in leaves:
                transaction.rows.changes[key] = encode_past(past.parent, tables, past.deleted, past.stamp, past.dot)
    for raw in due.attached:
        texts = [body.text for body in transaction.load(name, raw.decode()).state.bodies.values()]
        history = keys.history(collection, raw)
        older = (
            decode_past(key, value, history, tables).text for key, value in transaction.rows.scan(*keys.rest(history))
        )
        transaction.contents.keep_only(collection, raw, [*texts, *(text for text in older if text is not None)])
