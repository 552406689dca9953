"""View rows: emitted keys and values in key order, and the feed position.

A query brings its view up to date with the changes feed. The store identifies a view by a signature; its function and language
are outside the store. Entries have the layout of index entries, with the emitted keys and values beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from msgspec import Struct

from crdtdb.backends import Reader
from crdtdb.query.collation import sort_key, term_order
from crdtdb.store.layout import keys
from crdtdb.store.layout.batch import RowBatch
from crdtdb.store.layout.rows import decode_row, encode_row

Emission = tuple[Any, Any]
Get = Callable[[bytes], bytes | None]


class ViewState(Struct, frozen=True, gc=False):
    """Local number of a view, the seq of its last change, and its number of rows."""

    number: int
    seq: int = 0
    rows: int = 0


class ViewRow(NamedTuple):
    """Emitted row: document id, key and value."""

    id: str
    key: Any
    value: Any


def read_view(get: Get, collection: int, signature: bytes) -> ViewState | None:
    """Return the row of a view, None before its first query."""
    value = get(keys.view(collection, signature))
    return ViewState(*decode_row(value)) if value is not None else None


def views_of(rows: Reader, collection: int) -> Iterator[tuple[bytes, ViewState]]:
    """Yield the views that a collection has rows of, by their signatures."""
    beginning = keys.view(collection, b"")
    for key, value in rows.scan(*keys.rest(beginning)):
        yield key[len(beginning) :], ViewState(*decode_row(value))


def put_emissions(
    batch: RowBatch,
    collection: int,
    signature: bytes,
    before: ViewState,
    seq: int,
    emitted: Iterable[tuple[bytes, list[Emission]]],
) -> ViewState:
    """Replace the rows that documents emit, and record the view's position in the feed."""
    rows = before.rows
    for raw, emissions in emitted:
        rows += _put(batch, before.number, raw, emissions)
    after = ViewState(before.number, seq, rows)
    batch.changes[keys.view(collection, signature)] = encode_row([after.number, after.seq, after.rows])
    return after


def _put(batch: RowBatch, number: int, raw: bytes, emissions: list[Emission]) -> int:
    """Put one document's entries in the place of those it had; return by how many rows the view grew."""
    place = keys.entered(number, raw)
    value = batch.get(place)
    before: list[tuple[bytes, int]] = decode_row(value) if value is not None else []
    entries: dict[bytes, list[Emission]] = {}
    for emission in emissions:
        entries.setdefault(sort_key(emission[0]), []).append(emission)
    for key, _ in before:
        if key not in entries:
            batch.changes[keys.entry(number, key, raw)] = None
    for key, together in entries.items():
        batch.changes[keys.entry(number, key, raw)] = encode_row(together)
    if before or entries:
        batch.changes[place] = encode_row([[key, len(one)] for key, one in entries.items()]) if entries else None
    return len(emissions) - sum(count for _, count in before)


def scan_view(rows: Reader, number: int, start: bytes, stop: bytes, reverse: bool) -> Iterator[tuple[bytes, ViewRow]]:
    """Yield the rows of a view between two keys, each with its sort key."""
    prefix = keys.entries(number)
    for key, value in rows.scan(prefix + start, prefix + stop, reverse=reverse):
        place, raw = keys.read_entry(key)
        emissions: list[Emission] = decode_row(value)
        if len(emissions) > 1:  # in this order whichever way the keys go, as in CouchDB
            emissions.sort(key=lambda one: term_order(one[1]))
        for emission in emissions:
            yield place, ViewRow(raw.decode(), *emission)
