"""Compaction: the values of replaced revisions go, their names stay; and with them the contents that nobody else has.

Local to a store, and asked for by an operator, or by the age that is configured: what goes can't be read here by its revision
any more, nor serve as the common ancestor of a three-way merge.
"""

from __future__ import annotations

from itertools import islice

from crdtdb.backends import Reader
from crdtdb.documents.local import LOCAL
from crdtdb.documents.stamps import milliseconds
from crdtdb.store import keys
from crdtdb.store.records import StoreTables, decode_past, encode_past
from crdtdb.store.transaction import Transaction

_SLICE_DOCUMENTS = 200


def compact_slice(
    transaction: Transaction, rows: Reader, tables: StoreTables, name: str, after: str, before: int | None = None
) -> str | None:
    """Compact some documents of a collection with ids above `after`; return the last id, None if there are no more.

    With `before`, in milliseconds since 1970, only what was written before, and is stable.
    """
    collection = transaction.held.collections.get(name)
    if collection is None:
        return None
    start, stop = keys.document(collection.number, after.encode() + b"\0"), keys.document(collection.number + 1, b"")
    raws = [key[5:] for key, _ in islice(rows.scan(start, stop), _SLICE_DOCUMENTS)]
    for raw in raws:
        if raw.startswith(LOCAL.encode()):
            continue  # their older values still hold until the newest is served
        _compact(transaction, rows, tables, name, raw.decode(), before)
    return raws[-1].decode() if len(raws) == _SLICE_DOCUMENTS else None


def _compact(
    transaction: Transaction, rows: Reader, tables: StoreTables, name: str, doc_id: str, before: int | None
) -> None:
    state = transaction.load(name, doc_id).state
    number, raw = transaction.collection(name).number, doc_id.encode()
    leaves = {leaf.rev for leaf in state.leaves.values()}
    texts = [body.text for body in state.bodies.values()]
    history = keys.history(number, raw)
    for key, _ in rows.scan(*keys.rest(history)):
        value = transaction.get(key)
        past = decode_past(key, value, history, tables) if value is not None else None
        if past is None or past.text is None:
            continue
        stable = past.dot is not None and past.dot in transaction.held.stable
        young = before is not None and (milliseconds(past.stamp) >= before or not stable)
        if past.rev in leaves or young:
            texts.append(past.text)
        else:
            transaction.rows[key] = encode_past(past.parent, tables, past.deleted, past.stamp, past.dot)
    transaction.contents.keep_only(number, raw, texts)
