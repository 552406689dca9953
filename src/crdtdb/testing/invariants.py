"""Invariants of every store at every moment, checked on its rows."""

from __future__ import annotations

from crdtdb.crdts import Address, Journal, Sequence, joined_vector, kind_of, within
from crdtdb.crdts.journal import join_journals
from crdtdb.documents import NO_BODY, NONE, DocumentView, State, Totals, totals, view
from crdtdb.documents.alternatives import disputes
from crdtdb.documents.attachments import contents_in
from crdtdb.documents.fields import reading
from crdtdb.documents.local import LOCAL
from crdtdb.documents.view import rev_number
from crdtdb.store import Store
from crdtdb.store.layout import keys
from crdtdb.store.layout.index_rows import is_indexed, shown
from crdtdb.store.layout.journals import JournalRows
from crdtdb.store.layout.records import decode_record
from crdtdb.store.layout.rows import decode_row, encode_row
from crdtdb.store.layout.view_rows import views_of
from crdtdb.store.root import CollectionStats, is_counted


def check_store(store: Store) -> None:
    """Raise AssertionError, saying which row is wrong, unless log, feed, clock, counts and history agree.

    Sweeps must be done. Call it while there are no writes.
    """
    backend, tables, held = store._backend, store._core.tables, store.root
    log = {key: value for key, value in backend.scan(*keys.rest(b"l")) if value}
    expected_log: dict[bytes, bytes] = {}
    for name, collection in held.collections.items():
        number = collection.number
        feed = {}
        journals: set[bytes] = set()
        counted = CollectionStats(number, seq=collection.seq, sweep=collection.sweep)
        for key, value in backend.scan(*keys.rest(keys.document(number, b""))):
            raw = key[5:]
            record = decode_record(value, held.clock, tables, backend.get, key)
            local = raw.startswith(LOCAL.encode())
            if not local:
                feed[keys.change(number, record.seq)] = raw
            seen = view(record.state)
            quick = store.read(name, raw.decode())
            if quick is not None and quick.single is not None:
                (only,) = seen.leaves
                assert seen.siblings == (only,), f"{name}/{raw!r} isn't single"
                assert (only.rev, only.text) == ((quick.single.generation, quick.single.digest), quick.single.text)
                assert quick.state == held.living(name, record.state)
            for body in record.state.bodies.values():
                for content in contents_in(body.text):
                    assert store.attachments.find(content.sha256) is not None, f"{name}/{raw!r} lacks {content}"
                    assert backend.get(keys.reference(content.sha256, number, raw)) is not None
            if is_counted(raw.decode()):
                counted = counted.changed(raw, NONE, record.state, counted.seq)
                assert totals(record.state) == Totals(
                    not seen.deleted,
                    seen.deleted and bool(record.state.leaves),
                    seen.conflict or _has_alternatives(record.state, seen),
                    sum(len(sibling.text or b"") for sibling in seen.siblings),
                    sum(rev_number(visible.rev) for visible in seen.leaves if not visible.leaf.deleted),
                )
            for dot in record.state.dots():
                assert dot in record.state.context, f"{name}/{raw!r}: its context doesn't cover its own {dot}"
                expected_log[keys.log(tables.actor_number(dot.actor), dot.counter)] = keys.place(number, raw)
            for address, journal in record.state.journals.items():
                journals |= _check_journal(JournalRows.of(backend, tables, number, raw, address), address, journal)
            for leaf in record.state.leaves.values():
                length = len(leaf.path.all())
                # Who made a revision elsewhere may not have brought all of its ancestors.
                stemmed = any(step.dot is None for step in leaf.path.all())
                assert stemmed or local or length == min(leaf.rev.generation - 1, 1000), (
                    f"{name}/{raw!r}: the path of {leaf.rev} has {length}"
                )
        rows = dict(backend.scan(*keys.rest(keys.change(number, 0)[:5])))
        assert rows == feed, f"{name}: the changes feed has rows {rows.keys() ^ feed.keys()}"
        journal_rows = {key for key, _ in backend.scan(*keys.rest(keys.journals(number, b"")[:5]))}
        assert journal_rows == journals, f"{name}: rows of journals that no document has: {journal_rows - journals}"
        assert collection == counted, f"{name}: it says {collection}, and there is {counted}"
    _check_indexes(store)
    assert log == expected_log, f"the dot log has rows {log.keys() ^ expected_log.keys()}"
    for actor, ranges in held.clock.items():
        row = backend.get(keys.clock(tables.actor_number(actor)))
        stored = decode_row(row) if row is not None else None
        assert stored == [bound for pair in ranges for bound in pair], (
            f"the clock of {actor.hex()[:8]} at rest is {stored}"
        )


def _has_alternatives(state: State, seen: DocumentView) -> bool:
    if seen.deleted:
        return False
    draft = reading(state.fields, state.journals)
    return any(dispute.hidden for dispute in disputes(draft, seen.siblings[0].text or NO_BODY))


def _check_indexes(store: Store) -> None:
    """Check that each index has an entry for each document that is to have one, and that no other rows are there."""
    backend, held = store._backend, store.root
    found: dict[bytes, bytes] = {}
    aside = set()
    """Those whose rows aren't looked at: indexes that aren't whole yet, and views, which follow when they are asked."""
    for name, collection in held.collections.items():
        aside |= {state.number for _, state in views_of(backend, collection.number)}
        for index in store.derived.indexes(name):
            if index.cursor is not None:
                aside.add(index.number)
                continue
            for doc_id, record in store.live_view().documents(name):
                document = shown(doc_id, record, store.opener(name, doc_id)) if is_indexed(doc_id) else None
                key = index.definition.key(document) if document is not None else None
                if key is not None:
                    raw = doc_id.encode()
                    found[keys.entry(index.number, key, raw)] = b""
                    found[keys.entered(index.number, raw)] = encode_row([key])
    rows = {key: value for kind in (b"I", b"j") for key, value in backend.scan(*keys.rest(kind))}
    rows = {key: value for key, value in rows.items() if int.from_bytes(key[1:5], "big") not in aside}
    assert rows == found, f"the indexes have rows {rows.keys() ^ found.keys()}"


def _check_journal(rows: JournalRows, address: Address, journal: Journal) -> set[bytes]:
    """Check that the rows of a journal reach its vector, and can be read; return their keys."""
    held = rows.all(journal.creations)
    joined = join_journals(Journal({}, frozenset()), held).all_strands()
    reached = {creations: strand.vector for creations, strand in joined.items()}
    stated = {creations: strand.vector for creations, strand in journal.all_strands().items()}
    for creations, vector in stated.items():
        longer = joined_vector(one for other, one in reached.items() if other >= creations)
        ahead = within(vector, longer) and within(reached.get(creations, {}), vector)
        assert ahead, f"the rows of {address} reach {reached}, the journal's vector is {stated}"
    assert joined_vector(reached.values()) == journal.vector, (
        f"the rows of {address} reach {reached}, the journal's vector is {stated}"
    )
    Sequence(kind_of(address), rows.contents(journal)[0]).value()
    return {key for key, _ in rows.scan(*keys.rest(rows.key))}
