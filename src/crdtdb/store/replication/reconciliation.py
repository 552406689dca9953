"""Reconciliation of two stores by checksums of their dots. Rule 12.

Each live dot has a hash of its content. The hashes are summed in *buckets* of 1,024 counters of an actor: equal stores exchange
some twenty bytes for each bucket, others also the dots of the buckets that differ. The sums are taken from a snapshot, slice by
slice. The same pass compares each document with the dot log: a store whose rows contradict each other has lost data
undetected, so it makes no claims.

An *entering* store (it lacks what has been collected, or was restored, copied or retired) accepts a member's claim "you hold d,
my snapshot's clock covers d, and I don't hold d": d was replaced or collected, and the entering store removes it. A dot that
the clock doesn't cover is new, and stays; if its document loses other dots, the new writes are rewritten as external revisions
with their whole values, since their base is gone. An *audit* between members removes nothing. There a visible dot that both
have seen and only one holds was lost by the other, and is restored.

Source: Gonçalves, Almeida, Baquero, Fonte, "DottedDB" (2017), for buckets of dots; Demers et al., "Epidemic Algorithms for
Replicated Database Maintenance" (1987), for comparing sums of what is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from crdtdb.backends import Snapshot
from crdtdb.canonical_json import canonical_of, merged_text
from crdtdb.causality import Actor, Dot, DotSet
from crdtdb.crdts import REMNANT, GapError, OpenSequence
from crdtdb.documents import NO_BODY, Rev, State, Write, child_digest, merge, view
from crdtdb.documents.attachments import Content
from crdtdb.documents.external_revisions import ExternalRevision, take
from crdtdb.documents.fields import reading, whole
from crdtdb.documents.groups import is_ancestor
from crdtdb.documents.hashing import HASH_MASK, hashes
from crdtdb.documents.local import LOCAL
from crdtdb.errors import DotCollisionError
from crdtdb.store.commit.document_rows import uncovered
from crdtdb.store.commit.ledger import SYSTEM
from crdtdb.store.commit.transaction import Transaction
from crdtdb.store.layout import keys
from crdtdb.store.layout.contents import ContentMissingError
from crdtdb.store.layout.records import decode_record
from crdtdb.store.replication.exchange import AnswerForm, Outgoing
from crdtdb.store.snapshot import StoreSnapshot
from crdtdb.wire.delta_batch import DeltaBatch

BUCKET_COUNTERS = 1_024

Bucket = tuple[Actor, int]
Sums = dict[Bucket, tuple[int, int]]
"""How many live dots a bucket has, and the sum of their hashes modulo 2^64."""


class Place(NamedTuple):
    """A live dot: its document, and the hash of its content there."""

    name: str
    doc_id: str
    hash: int


def bucket_of(dot: Dot) -> Bucket:
    """Return the bucket of a dot."""
    return dot.actor, dot.counter // BUCKET_COUNTERS


class Summing:
    """Computes the bucket sums of a snapshot, in steps."""

    def __init__(self, moment: StoreSnapshot) -> None:
        self._moment = moment
        self._documents = self._walk()
        self.sums: Sums = {}
        self.documents = 0
        self.rot: list[str] = []
        """Errors in this store: rows that contradict each other. A store with errors makes no claims."""

    def step(self, documents: int) -> bool:
        """Add the hashes of up to `documents` documents; return whether there are more."""
        return all(next(self._documents, None) is not None for _ in range(documents))

    def _walk(self) -> Iterator[bool]:
        moment, logged = self._moment, dict[Bucket, int]()
        for name, doc_id, state in _documents(moment):
            self.documents += 1
            place = keys.place(moment.root.collections[name].number, doc_id.encode())
            for dot, one in hashes(name, doc_id, state).items():
                number, total = self.sums.get(bucket_of(dot), (0, 0))
                self.sums[bucket_of(dot)] = number + 1, (total + one) & HASH_MASK
                if moment.rows.get(keys.log(moment.tables.actor_number(dot.actor), dot.counter)) != place:
                    self.rot.append(f"{name}/{doc_id}: the dot log doesn't know {dot!r}")
            yield True
        for key, value in moment.rows.scan(*keys.rest(b"l")):
            if value:
                dot = Dot(moment.tables.actors[int.from_bytes(key[1:5], "big")], int.from_bytes(key[5:], "big"))
                logged[bucket_of(dot)] = logged.get(bucket_of(dot), 0) + 1
                yield True
        for bucket in logged.keys() | self.sums.keys():
            if logged.get(bucket, 0) != self.sums.get(bucket, (0, 0))[0]:
                actor, number = bucket
                first = number * BUCKET_COUNTERS
                self.rot.append(
                    f"{actor.hex()[:8]}:{first}-{first + BUCKET_COUNTERS - 1}: the dot log has {logged.get(bucket, 0)} live "
                    f"writes, the documents {self.sums.get(bucket, (0, 0))[0]}"
                )


class Comparing(NamedTuple):
    """Snapshot of a store to compare with another store's. Close it to release the snapshot."""

    moment: StoreSnapshot
    outgoing: Outgoing
    """The documents that the other store lacks, as in an exchange."""
    snapshot: Snapshot

    def dots_in(self, buckets: Iterable[Bucket]) -> dict[Dot, Place]:
        """Return the live dots of some buckets."""
        return dots_in(self.moment, buckets)

    def documents_with(self, dots: Iterable[Dot]) -> Outgoing:
        """Return the documents that hold some dots, whole."""
        root = self.moment.root
        lacking = root.clock - DotSet.of(dots)
        return Outgoing(Unclosed(self.snapshot), root, self.moment.tables, lacking, AnswerForm(whole=True))

    def close(self) -> None:
        """Release the snapshot."""
        self.snapshot.close()


class Unclosed(NamedTuple):
    """A snapshot that stays open when its reader is closed."""

    snapshot: Snapshot

    def get(self, key: bytes) -> bytes | None:
        """Return a value."""
        return self.snapshot.get(key)

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield a range."""
        return self.snapshot.scan(start, stop, reverse=reverse)

    def close(self) -> None:
        """Leave it open."""


def _documents(moment: StoreSnapshot) -> Iterator[tuple[str, str, State]]:
    for name, collection in sorted(moment.root.collections.items()):
        for key, value in moment.rows.scan(*keys.rest(keys.document(collection.number, b""))):
            raw = key[5:]
            record = decode_record(value, moment.root.clock, moment.tables, moment.rows.get, key)
            yield name, raw.decode(), record.state


def sums_of(dots: Mapping[Dot, int]) -> Sums:
    """Return the bucket sums of dots with these hashes."""
    sums: Sums = {}
    for dot, hashed in dots.items():
        number, total = sums.get(bucket_of(dot), (0, 0))
        sums[bucket_of(dot)] = number + 1, (total + hashed) & HASH_MASK
    return sums


def differing(mine: Sums, theirs: Sums) -> list[Bucket]:
    """Return the buckets whose sums differ, in order."""
    return sorted(bucket for bucket in mine.keys() | theirs.keys() if mine.get(bucket) != theirs.get(bucket))


def dots_in(moment: StoreSnapshot, buckets: Iterable[Bucket]) -> dict[Dot, Place]:
    """Return the live dots of some buckets, as the documents hold them."""
    found: dict[Dot, Place] = {}
    names = {collection.number: name for name, collection in moment.root.collections.items()}
    states: dict[tuple[str, str], dict[Dot, int]] = {}
    for actor, number in buckets:
        actor_number = moment.tables.known_actor_number(actor)
        if actor_number is None:
            continue
        first = number * BUCKET_COUNTERS
        for key, value in moment.rows.scan(
            keys.log(actor_number, first), keys.log(actor_number, first + BUCKET_COUNTERS)
        ):
            if not value:
                continue
            collection, raw = keys.read_place(value)
            name, doc_id = names.get(collection, ""), raw.decode()
            if (name, doc_id) not in states:
                row = moment.rows.get(keys.document(collection, raw))
                if row is None:
                    continue
                place = keys.document(collection, raw)
                record = decode_record(row, moment.root.clock, moment.tables, moment.rows.get, place)
                states[name, doc_id] = hashes(name, doc_id, record.state)
            dot = Dot(actor, int.from_bytes(key[5:], "big"))
            if dot in states[name, doc_id]:
                found[dot] = Place(name, doc_id, states[name, doc_id][dot])
    return found


class Difference(NamedTuple):
    """Difference of some buckets, as the initiator of the reconciliation sees it."""

    here: dict[tuple[str, str], list[Dot]]
    """Documents with dots that only this store holds; of each the dots that the other store has seen, possibly none."""
    there: list[Dot]
    """Dots that only the other store holds, though this store has seen them."""
    contradictory: dict[tuple[str, str], list[Dot]]
    """Dots under which the two hold different contents."""


def compare(mine: Mapping[Dot, Place], theirs: Mapping[Dot, int], my_clock: DotSet, their_clock: DotSet) -> Difference:
    """Compare the dots of some buckets; each clock is that of the snapshot with the dots."""
    here: dict[tuple[str, str], list[Dot]] = {}
    contradictory: dict[tuple[str, str], list[Dot]] = {}
    for dot, place in sorted(mine.items()):
        where = (place.name, place.doc_id)
        if dot in theirs:
            if theirs[dot] != place.hash:
                contradictory.setdefault(where, []).append(dot)
        else:
            gone = here.setdefault(where, [])
            if dot in their_clock:
                gone.append(dot)
    there = [dot for dot in sorted(theirs) if dot not in mine and dot in my_clock]
    return Difference(here, there, contradictory)


def shows(state: State, dots: Iterable[Dot]) -> list[Dot]:
    """Return the dots that a document needs for its view. Garbage collection never removes these."""
    visible = [visible.leaf for visible in view(state).leaves if not visible.leaf.deleted]
    revs, bodies = {leaf.rev for leaf in visible}, {leaf.body_dot for leaf in visible}
    needed = {dot for dot, leaf in state.leaves.items() if leaf.rev in revs}
    needed |= {dot for dot in state.bodies if dot in bodies}
    if visible:
        needed |= {dot for address, deltas in state.fields.items() if address.part != REMNANT for dot in deltas}
    return [dot for dot in dots if dot in needed]


def discard(
    transaction: Transaction, name: str, doc_id: str, gone: Iterable[Dot], clock: DotSet, brought: DotSet
) -> bool:
    """Remove from a document the dots that another store has seen replaced or collected; return whether it changed.

    `gone` are these dots and `clock` the clock of that store. Writes outside the clock that this store `brought` along when it
    entered are rewritten under new dots: each leaf as an external revision with its whole value. Another store may still hold
    the old dots (the original of a copy, for example), and a third may count them as lost; so the new leaves cover the old
    dots, and each store that merges the new ones drops the old. Later writes came from a peer that has them, and stay. The same
    applies when no dot is gone yet but everything in the clock is deleted: members may collect the document without regard to
    edits of a non-member.
    """
    record = transaction.load(name, doc_id)
    before, going = record.state, set(gone)
    going &= set(before.dots())
    unseen = {dot for dot in before.dots() if dot not in clock and dot in brought}
    if not going and not _deleted_by_others(before, unseen, clock):
        return False
    strays = (
        []
        if doc_id.startswith(LOCAL) or name.startswith(SYSTEM)
        else _strays(before, going, unseen, transaction.opener(name, doc_id))
    )
    if not going and not strays:
        return False
    if strays:
        going |= unseen
    residue = record.residue | DotSet.of(going)
    transaction.documents.save(
        name, doc_id, record, _without(before, going), uncovered(residue, transaction.ledger.root.clock)
    )
    for stray in strays:
        transaction.rewrite(name, doc_id, partial(_taken, stray))
    return True


def _deleted_by_others(state: State, unseen: set[Dot], clock: DotSet) -> bool:
    """Whether a document without the `unseen` dots is deleted for a store of this clock."""
    others = [leaf for dot, leaf in state.leaves.items() if dot not in unseen]
    if not unseen or not others or not all(leaf.deleted for leaf in others):
        return False
    for dot, leaf in state.leaves.items():
        if dot in unseen and not leaf.deleted:
            top = leaf.rev.generation
            seen = (
                Rev(top - 1 - back, step.digest)
                for back, step in enumerate(leaf.path.all())
                if step.dot is not None and step.dot in clock
            )
            continued = next(seen, None)
            # The revision that it continues is a live leaf there, unless a write deleted it: that would be here, too.
            if continued is not None and not any(is_ancestor(continued, other) for other in others):
                return False
    return True


class _Stray(NamedTuple):
    """A leaf to rewrite: its whole value, and the writes that the new leaf covers."""

    foreign: ExternalRevision
    clock: DotSet


def _strays(state: State, going: set[Dot], unseen: set[Dot], opener: OpenSequence) -> list[_Stray]:
    """Return the writes of a document that only this store has seen, as whole external revisions, lowest first.

    Together they cover all `unseen` dots. A revision that stays under another dot needs no cover.
    """
    draft = None
    staying = {leaf.rev for dot, leaf in state.leaves.items() if dot not in going | unseen}
    found: list[_Stray] = []
    unnamed = DotSet.of(unseen)
    for one in view(state).leaves:
        if one.dot not in unseen or one.leaf.rev in staying:
            continue
        text = one.text
        if not one.leaf.deleted and state.fields:
            if draft is None:
                draft = reading(state.fields, state.journals, opener)
            text = merged_text(whole(text or NO_BODY, draft))
        own = text if not one.leaf.deleted else (text if one.leaf.body_rev == one.leaf.rev else None)
        digests = [step.digest for step in one.leaf.path.all()]
        rev = one.leaf.rev
        if one.heads and not one.leaf.deleted:  # its name means what its author saw; this is more, and comes after it
            digests.insert(0, rev.digest)
            rev = Rev(rev.next_generation, child_digest(rev, deleted=False, body=canonical_of(own or NO_BODY)))
        foreign = ExternalRevision(rev, digests, own if one.leaf.deleted else own or NO_BODY, one.leaf.deleted)
        found.append(_Stray(foreign, one.leaf.clock))
        unnamed = unnamed - one.leaf.clock
    found.sort(key=lambda one: one.foreign.rev)
    return [*found[:-1], found[-1]._replace(clock=found[-1].clock | unnamed)] if found else []


def _taken(stray: _Stray, state: State, write: Write) -> State:
    return take(state, write, stray.foreign, lambda _: False, lambda _: None, stray.clock)


class Taken(NamedTuple):
    """Documents with lost dots, those restored, and those whose contents differ between the stores."""

    lost: list[tuple[str, str]]
    mended: list[tuple[str, str]]
    contradictory: list[tuple[str, str]]


def restore_lost(transaction: Transaction, parcel: DeltaBatch, wanted: Iterable[Dot], repair: bool) -> Taken:
    """Restore documents of which this store has lost dots that its clock covers.

    Only visible dots are restored: the others may have been collected here. A document that has changed here since the other
    store read it stays as it is. `wanted` are the lost dots; without `repair` the documents are only reported. Raises
    ContentMissingError with all attachment contents that the documents need and the store lacks; then nothing is written.
    """
    lost, taken = set(wanted), Taken([], [], [])
    missing: dict[bytes, Content] = {}
    for shipped in parcel.documents:
        where = (shipped.name, shipped.doc_id)
        if shipped.name not in transaction.ledger.root.collections:
            taken.contradictory.append(where)
            continue
        record = transaction.load(shipped.name, shipped.doc_id)
        state, _ = parcel.state(shipped, transaction.older(shipped.name, shipped.doc_id))
        try:
            merge(record.state, state)
        except DotCollisionError:
            taken.contradictory.append(where)
            continue
        except GapError:
            continue
        back = set(shows(state, [dot for dot in state.dots() if dot in lost])) - set(record.state.dots())
        if not back or any(dot not in parcel.clock for dot in record.state.dots()):
            continue
        taken.lost.append(where)
        if not repair:
            continue
        mine = replace(record.state, context=record.state.context - DotSet.of(back))
        try:
            transaction.documents.save(shipped.name, shipped.doc_id, record, merge(mine, state), record.residue)
        except ContentMissingError as error:
            missing.update((content.sha256, content) for content in error.missing)
        taken.mended.append(where)
    if missing:
        raise ContentMissingError(list(missing.values()))
    return taken


def _without(state: State, dots: set[Dot]) -> State:
    fields = {
        address: kept
        for address, deltas in state.fields.items()
        if (kept := {dot: delta for dot, delta in deltas.items() if dot not in dots})
    }
    leaves = {dot: leaf for dot, leaf in state.leaves.items() if dot not in dots}
    bodies = {dot: body for dot, body in state.bodies.items() if dot not in dots}
    journals = state.journals if leaves or bodies or fields else {}
    return State(leaves, bodies, fields, state.context, journals)
