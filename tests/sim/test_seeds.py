"""Histories from seeds: long ones, short ones, some with indexes; and each rule broken, and found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import blake2b
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crdtdb.backends.memory import MemoryBackend
from crdtdb.causality import EMPTY, DotSet, Lineages
from crdtdb.cluster.engine.anti_entropy import AntiEntropy
from crdtdb.cluster.engine.boundary import Boundary
from crdtdb.cluster.engine.entry import Entry
from crdtdb.cluster.engine.maintenance import Upkeep
from crdtdb.cluster.engine.page_merging import Merging
from crdtdb.cluster.engine.roster import Roster
from crdtdb.cluster.engine.system_documents import Inspection
from crdtdb.crdts import Counter, Journal, SequenceField, Spot, join_vectors
from crdtdb.database.system_collection import SystemCollection
from crdtdb.documents import alternatives
from crdtdb.documents import delta_states as successors
from crdtdb.documents.garbage import collect
from crdtdb.gossip import Membership, Stability, membership
from crdtdb.store import identity
from crdtdb.store.commit import document_rows, transaction
from crdtdb.store.commit.core import StoreCore
from crdtdb.store.gc import tombstones as collecting
from crdtdb.store.identity import Identity
from crdtdb.store.layout import keys
from crdtdb.store.layout.contents import ContentMissingError, Contents
from crdtdb.store.layout.index_rows import Index, Indexing
from crdtdb.store.layout.places import RecentPlaces
from crdtdb.store.layout.records import Past
from crdtdb.store.replication import exchange, receiving
from crdtdb.store.replication import reconciliation as comparing
from crdtdb.store.replication.port import ReplicationStore
from crdtdb.testing.simulate import SimulationError, simulate
from crdtdb.testing.virtual import VirtualBackend
from crdtdb.wire.messages import Member
from tests.inside import rows_of_disk
from tests.sim.seeds import (
    FAILED_INDEXED,
    FAILED_LONG,
    FAILED_SHORT,
    INDEXED_DRAWN,
    LONG_DRAWN,
    SHORT_DRAWN,
    commit_hash,
    drawn,
)

CORES = os.cpu_count() or 1
LONG = list(dict.fromkeys((*FAILED_LONG, *drawn("long", LONG_DRAWN))))
SHORT = [*FAILED_SHORT, *drawn("short", SHORT_DRAWN)]
INDEXED = [*FAILED_INDEXED, *drawn("indexed", INDEXED_DRAWN)]
STEP = 5
"""Seeds a test: few enough that two workers share them evenly."""


@pytest.mark.parametrize("first", range(0, len(LONG), STEP))
def test_long_histories(first: int) -> None:
    for seed in LONG[first : first + STEP]:
        simulate(seed)


@pytest.mark.parametrize("first", range(0, len(SHORT), STEP))
def test_short_histories(first: int) -> None:
    for seed in SHORT[first : first + STEP]:
        simulate(seed, nodes=3, seconds=4.0)


@pytest.mark.parametrize("first", range(0, len(INDEXED), STEP))
def test_histories_with_indexes(first: int) -> None:
    for seed in INDEXED[first : first + STEP]:
        simulate(seed, nodes=3, seconds=6.0, queries=True)


@pytest.mark.parametrize("seed", range(6))
def test_a_member_gone_mad(seed: int) -> None:
    """The others stay up, stay joined with each other, and hold the same once it is put out."""
    simulate(seed, nodes=3, seconds=4.0, rogue=True)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(CORES))
def test_many_members_gone_mad(part: int) -> None:
    wanted = int(os.environ.get("CRDTDB_SOAK_SEEDS", "10000")) // 5
    for seed in range(part, wanted, CORES):
        simulate(seed, rogue=True)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(CORES))
def test_many_seeds(part: int) -> None:
    wanted = int(os.environ.get("CRDTDB_SOAK_SEEDS", "10000"))
    for seed in drawn("soak", wanted, commit_hash())[part::CORES]:
        simulate(seed)
        simulate(seed, nodes=3, seconds=4.0)
        simulate(seed, nodes=3, seconds=6.0, queries=True)


def test_one_seed_is_one_history() -> None:
    """The same seed gives the same trace in another process, whatever its hash seed."""
    here = simulate(5, nodes=4, seconds=3.0)
    program = "from crdtdb.testing.simulate import simulate; print(simulate(5, nodes=4, seconds=3.0).trace)"
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parent.parent.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.strip() == here.trace


def acknowledge_early(patch: pytest.MonkeyPatch) -> None:
    """Rule 2 off: a sync node acknowledges what isn't durable."""
    write = VirtualBackend.write
    patch.setattr(VirtualBackend, "write", lambda self, batch, durable: write(self, batch, durable=False))
    patch.setattr(StoreCore, "flush", lambda self: None)


def draw_no_tags(patch: pytest.MonkeyPatch) -> None:
    """Rule 3 for files that were put back off: all sessions of an actor are one, so its two histories look alike."""
    patch.setattr("crdtdb.store.identity.draw_tag", lambda draw, milliseconds: bytes(16))


def keep_the_actor(patch: pytest.MonkeyPatch) -> None:
    """Rule 3 off: after an unclean stop a node goes on as the actor that it was, and neither peers nor lineages tell more."""
    draw_no_tags(patch)
    load = identity.load_identity

    def same(backend: VirtualBackend, draw: Callable[[int], bytes]) -> Identity:
        backend.write({b"!running": None}, durable=True)
        return load(backend, draw)

    patch.setattr("crdtdb.store.identity.load_identity", same)
    patch.setattr(Entry, "renew_actor", lambda self, why: self._readiness.sure())


def rename_nothing(patch: pytest.MonkeyPatch) -> None:
    """Rule 3 for files that were put back halved: that lineages part is of no consequence."""
    patch.setattr(Lineages, "forks", lambda *_: ([], []))


def advance_with_every_page(patch: pytest.MonkeyPatch) -> None:
    """Rules 4 and 5 off: the clock takes over the sender's before everything is here."""
    receive = receiving.receive
    patch.setattr(
        "crdtdb.store.replication.port.receive",
        lambda transaction, parcel, advance, *rest: receive(transaction, parcel, True, *rest),
    )


def advance_with_every_slice(patch: pytest.MonkeyPatch) -> None:
    """Rules 4 and 18 off: the clock takes over the sender's with the first slice of the last page."""
    patch.setattr(Merging, "in_last_slice", property(lambda self: True))


def forget_the_context(patch: pytest.MonkeyPatch) -> None:
    """Context at rest off: what a document had seen beyond the clock isn't kept."""
    patch.setattr(document_rows, "uncovered", lambda context, clock: EMPTY)


def ship_no_context(patch: pytest.MonkeyPatch) -> None:
    """Merge without a context: what was replaced comes back."""
    patch.setattr(DotSet, "restrict", lambda self, actors: EMPTY)


def never_exchange(patch: pytest.MonkeyPatch) -> None:
    """Rule 7 halved: rumors alone."""
    patch.setattr(AntiEntropy, "tick", lambda self, joining, now: None)
    patch.setattr(AntiEntropy, "request", lambda self, peer, now: None)


def tear_batches(patch: pytest.MonkeyPatch) -> None:
    """Rule 1 off: a kill in the middle of a batch leaves half of it."""
    write = VirtualBackend.write

    def torn(self: VirtualBackend, batch: dict[bytes, bytes | None], durable: bool) -> None:
        rows = list(batch.items())
        half = len(rows) // 2
        write(self, dict(rows[:half]), durable=durable)
        write(self, dict(rows[half:]), durable=durable)

    patch.setattr(VirtualBackend, "write", torn)


def take_updates_with_gaps(patch: pytest.MonkeyPatch) -> None:
    """Closure of journals off: a state is merged though updates that its author had seen are missing."""

    def careless(mine: Journal, theirs: Journal) -> Journal:
        updates = {dot: one for dot, one in theirs.updates.items() if dot.counter > mine.vector.get(dot.actor, 0)}
        return Journal(
            join_vectors(mine.vector, theirs.vector), mine.creations | theirs.creations, updates, theirs.snapshots
        )

    patch.setattr("crdtdb.crdts.field_store.join_journals", careless)
    patch.setattr(Journal, "checked", lambda self: self)


def share_a_client_id(patch: pytest.MonkeyPatch) -> None:
    """Rule 3 off for Yrs: every actor writes texts and lists under one client id."""
    patch.setattr("crdtdb.crdts.sequences.client_of", lambda writer: 7)


def make_texts_by_their_writes(patch: pytest.MonkeyPatch) -> None:
    """One text a path off: each write that begins one begins its own, as it was before there were lives."""

    def begin(cls: type[SequenceField], spot: Spot, value: Any) -> str:
        dot = spot.draft.signature.dot
        part = blake2b(f"{dot.actor.hex()}:{dot.counter}".encode(), digest_size=8).hexdigest()
        cls.change(spot, [(0, 0, value)] if value else [], part)
        return part

    patch.setattr(SequenceField, "begin", classmethod(begin))


def settle_what_nobody_saw(patch: pytest.MonkeyPatch) -> None:
    """Resolutions that replace what their authors saw, off for fields: any type that a resolution doesn't name goes."""

    def greedy(draft: Any, bodies: Any, text: bytes, given: Any, doc_id: str, seen: Any) -> None:
        alternatives.decide(draft, bodies, text, given, doc_id, None)

    patch.setattr("crdtdb.documents.writes.decide", greedy)


def plant_as_oneself(patch: pytest.MonkeyPatch) -> None:
    """Equal beginnings off: who writes a whole value types it, as himself."""
    patch.setattr("crdtdb.crdts.sequences.Sequence.untouched", property(lambda self: False))


def count_documents_without_contents(patch: pytest.MonkeyPatch) -> None:
    """Rule 4 for attachments off: a document is kept, and counts as held, though its contents aren't here."""
    refer = Contents.refer

    def careless(self: Contents, number: int, raw: bytes, texts: Iterable[bytes]) -> None:
        with suppress(ContentMissingError):
            refer(self, number, raw, texts)

    patch.setattr(Contents, "refer", careless)


def fold_the_counter(patch: pytest.MonkeyPatch) -> None:
    """A counter that replaces what others added, not only what its own actor did."""
    increment = Counter.operations["increment"]

    def greedy(spot: Spot, by: int = 1) -> None:
        for dot in list(spot.dots("counter")):
            if dot.actor != spot.draft.signature.dot.actor:
                spot.draft.remove_dot(spot.address("counter"), dot)
        increment(spot, by)

    patch.setitem(Counter.operations, "increment", greedy)


def ask_nobody(patch: pytest.MonkeyPatch) -> None:
    """Rule 8 off: what is here counts as stable."""
    patch.setattr(Stability, "advance", lambda self, roster, mine, now: mine)


def collect_what_is_not_stable(patch: pytest.MonkeyPatch) -> None:
    """Rule 9 off: tombstones and bodies go at once."""
    patch.setattr(
        collecting,
        "collect",
        lambda state, stable, told: collect(state, state.context, state.context),
    )
    waiting = keys.waiting
    patch.setattr(keys, "waiting", lambda actor, counter: waiting(actor, 1))


def let_the_retired_in(patch: pytest.MonkeyPatch) -> None:
    """Rule 10 off: who was retired goes on as if nothing had happened."""
    patch.setattr(Roster, "entries", lambda self: {})


def join_before_being_named(patch: pytest.MonkeyPatch) -> None:
    """Rule 11 off: a joiner takes writes as soon as it has one snapshot, and is named by nobody."""
    patch.setattr(Upkeep, "is_member", lambda self: True)
    patch.setattr(Upkeep, "_is_unknown", lambda self, member: False)
    patch.setattr(Roster, "write", lambda self, entry: False)


def never_compare(patch: pytest.MonkeyPatch) -> None:
    """Rule 12 off, and the floor of rule 5: who lacks what was collected takes over the clock all the same."""
    patch.setattr(ReplicationStore, "collected_since", lambda self, theirs: False)
    patch.setattr(ReplicationStore, "discard", lambda *_: [])


def believe_all_that_is_gone(patch: pytest.MonkeyPatch) -> None:
    """Rule 12 halved: what only who enters has goes as well."""
    patch.setattr(comparing, "_strays", lambda *rest: [])


def write_at_rest(patch: pytest.MonkeyPatch) -> None:
    """Rule 13 off: what a node says of itself is new each time."""
    numbers = count()
    write = Roster.write
    patch.setattr(Roster, "write", lambda self, entry: write(self, entry._replace(version=str(next(numbers)))))


def greet_anybody(patch: pytest.MonkeyPatch) -> None:
    """Rule 16 off: a copy of a store is let in beside the original."""
    patch.setattr("crdtdb.cluster.engine.handshakes.refusal_of", lambda *rest: None)


def send_everything(patch: pytest.MonkeyPatch) -> None:
    """Rule 6 off: whatever the receiver lacks, it gets all there is."""
    begin = exchange.Outgoing.__init__

    def all_of_it(
        self: exchange.Outgoing, snapshot: Any, held: Any, tables: Any, theirs: DotSet, *rest: Any, **named: Any
    ) -> None:
        begin(self, snapshot, held, tables, theirs if theirs >= held.clock else EMPTY, *rest, **named)

    patch.setattr(exchange.Outgoing, "__init__", all_of_it)


def believe_any_guess(patch: pytest.MonkeyPatch) -> None:
    """Rule 6 halved: what a successor leaves out is taken from what is there, and nobody looks whether it is the same."""
    patch.setattr(successors, "_sum", lambda hashes: 0)


def resolve_unseen(patch: pytest.MonkeyPatch) -> None:
    """A resolution replaces whatever is there, whether its author saw it or not."""
    patch.setattr("crdtdb.documents.writes.seen_among", lambda shown, revs: list(shown.siblings))


def make_clients_actors(patch: pytest.MonkeyPatch) -> None:
    """Rule 14 off: whoever writes a document does so as an actor of his own."""
    write = transaction.Transaction.write

    def as_client(self: transaction.Transaction, name: str, doc_id: str, change: Any) -> Any:
        self._origin = self._origin._replace(actor=blake2b(doc_id.encode(), digest_size=16).digest())
        return write(self, name, doc_id, change)

    patch.setattr(transaction.Transaction, "write", as_client)


def bound_nothing(patch: pytest.MonkeyPatch) -> None:
    """Rule 15 off: whatever comes is taken."""
    patch.setattr("crdtdb.database.validation.DOCUMENT_ID_BYTES_MAX", 1 << 30)


def decode_at_each_dot(patch: pytest.MonkeyPatch) -> None:
    """Rule 17 off: an exchange decodes a document at each of its dots."""
    patch.setattr(RecentPlaces, "__contains__", lambda self, place: False)


def give_a_part_for_the_whole(patch: pytest.MonkeyPatch) -> None:
    """A revision is given without its fields where they aren't known any more."""
    patch.setattr(Past, "known", property(lambda self: self.text is not None))


def leave_indexes_behind(patch: pytest.MonkeyPatch) -> None:
    """Documents are written, and their entries in the indexes aren't."""
    patch.setattr(Indexing, "enter", lambda *_: None)


def keep_old_entries(patch: pytest.MonkeyPatch) -> None:
    """What a document was found by stays, when it changes."""
    enter = Indexing._enter

    def forgetful(self: Indexing, batch: Any, index: Index, raw: bytes, document: Any) -> None:
        enter(self, SimpleNamespace(changes=batch.changes, get=lambda key: None), index, raw, document)  # type: ignore[arg-type]

    patch.setattr(Indexing, "_enter", forgetful)


_SHORT = {"nodes": 3, "seconds": 4.0}
_FIRST = {
    "acknowledge_early": 66,
    "advance_with_every_slice": 69,
    "believe_any_guess": 71,
    "bound_nothing": 64,
    "decode_at_each_dot": 65,
    "make_clients_actors": 61,
    "rename_nothing": 81,
    "resolve_unseen": 63,
    "tear_batches": 79,
}
"""Where short histories begin to show a broken rule: others take seconds each, or minutes with the rule broken."""

_FIRST_LONG = {"forget_the_context": 88, "greet_anybody": 129, "never_compare": 63, "ship_no_context": 88}
"""Where long histories show what hardly any short one does."""


@pytest.mark.parametrize(
    "broken",
    [
        acknowledge_early,
        keep_the_actor,
        draw_no_tags,
        rename_nothing,
        advance_with_every_page,
        advance_with_every_slice,
        forget_the_context,
        ship_no_context,
        never_exchange,
        tear_batches,
        take_updates_with_gaps,
        share_a_client_id,
        make_texts_by_their_writes,
        plant_as_oneself,
        settle_what_nobody_saw,
        fold_the_counter,
        count_documents_without_contents,
        ask_nobody,
        collect_what_is_not_stable,
        let_the_retired_in,
        join_before_being_named,
        never_compare,
        pytest.param(believe_all_that_is_gone, marks=pytest.mark.soak),  # too rare: tests/cluster/test_comparing.py
        write_at_rest,
        greet_anybody,
        send_everything,
        believe_any_guess,
        make_clients_actors,
        bound_nothing,
        resolve_unseen,
        decode_at_each_dot,
        give_a_part_for_the_whole,
    ],
)
def test_a_broken_rule_is_found(broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Some history fails with the rule broken, and the same one doesn't with the rule in force."""
    name = broken.__name__
    short: list[tuple[int, dict[str, Any]]] = [(seed, _SHORT) for seed in range(_FIRST.get(name, 60), 120)]
    long: list[tuple[int, dict[str, Any]]] = [(seed, {}) for seed in range(_FIRST_LONG.get(name, 60), 160)]
    for seed, shape in long if name in _FIRST_LONG else short + long:
        with monkeypatch.context() as patch:
            broken(patch)
            error = failure(seed, shape)
        if error is None:
            continue
        assert not isinstance(error.__cause__, TypeError | AttributeError), "the switch is broken, and not the rule"
        if failure(seed, shape) is None:
            return
    pytest.fail("no history shows that the rule is broken")


def failure(seed: int, shape: dict[str, Any]) -> SimulationError | None:
    """Play a history; return how it failed."""
    try:
        simulate(seed, heal_seconds=25, **shape)
    except SimulationError as error:
        return error
    return None


def handle_frames_without_a_boundary(patch: pytest.MonkeyPatch) -> None:
    """Rule 15 off: what goes wrong in a frame goes wrong in the node."""
    patch.setattr(Boundary, "frame", lambda self, link, act, now: act())


def believe_hearsay(patch: pytest.MonkeyPatch) -> None:
    """What others say of a member counts as much as what it says itself, whatever the incarnation."""
    greeted = Membership.greeted

    def as_before(self: Membership, member: Member, now: float) -> None:
        known = self.others.get(member.name)
        highest = max(member.incarnation, known.incarnation if known is not None else 0)
        greeted(self, member._replace(incarnation=highest), now)

    patch.setattr(membership, "INCARNATION_MAX", 2**64)
    patch.setattr(membership, "INCARNATION_JUMP_MAX", 2**64)
    patch.setattr("crdtdb.cluster.engine.pings.INCARNATION_MAX", 2**64)
    patch.setattr(Membership, "greeted", as_before)


def believe_documents(patch: pytest.MonkeyPatch) -> None:
    """What is in the database's own collections is as its owner wrote it."""
    patch.setattr(SystemCollection, "_is_sound", lambda self, doc_id, one: True)
    patch.setattr(Inspection, "__call__", lambda self, name, doc_id, state: None)


@pytest.mark.parametrize("broken", [handle_frames_without_a_boundary, believe_hearsay, believe_documents])
def test_a_rogue_that_is_believed_is_found(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    with pytest.raises(SimulationError, match="seed") as found:
        for seed in range(20):
            simulate(seed, nodes=3, seconds=4.0, heal_seconds=25, rogue=True)
    assert not isinstance(found.value.__cause__, TypeError | AttributeError), "the switch is broken, and not the rule"


def take_what_lives_under_unknown_creations(patch: pytest.MonkeyPatch) -> None:
    """Whole drops, off: a document is taken though it lives under a creation that a drop here couldn't see."""
    learn = receiving._learn

    def careless(transaction: transaction.Transaction, name: str, state: Any, clock: DotSet) -> None:
        known = transaction.ledger.root.names.get(name, frozenset())
        if all(known.isdisjoint(one) for one in receiving._creations(state)):
            learn(transaction, name, state, clock)

    patch.setattr(receiving, "_learn", careless)


@pytest.mark.parametrize(
    ("broken", "seeds", "short"),
    [
        (take_what_lives_under_unknown_creations, range(6, 40), {"nodes": 3, "seconds": 4.0}),
    ],
)
def test_a_broken_rule_of_which_few_histories_tell_is_found(
    broken: Callable[[pytest.MonkeyPatch], None],
    seeds: Iterable[int],
    short: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken(monkeypatch)
    with pytest.raises(SimulationError, match="Lost|equal clocks, but") as found:
        for seed in seeds:
            simulate(seed, **short)
    assert not isinstance(found.value.__cause__, TypeError | AttributeError), "the switch is broken, and not the rule"


def keep_what_was_dropped_of_a_text(patch: pytest.MonkeyPatch) -> None:
    """Strands of journals off: a text of several creations lives whole as long as one of them does."""
    living = Journal.living
    patch.setattr(Journal, "living", lambda journal, alive: None if living(journal, alive) is None else journal)


def test_a_text_that_keeps_what_was_dropped_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which store met both beginnings before it heard of the drop decides what it shows: few histories have that."""
    simulate(121, nodes=3, seconds=4.0, heal_seconds=25)
    keep_what_was_dropped_of_a_text(monkeypatch)
    with pytest.raises(SimulationError, match="equal clocks, but 'essays' differs"):
        simulate(121, nodes=3, seconds=4.0, heal_seconds=25)


@pytest.mark.parametrize("broken", [leave_indexes_behind, keep_old_entries])
def test_an_index_that_lies_is_found(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    with pytest.raises(SimulationError, match="finds|have rows"):
        for seed in range(20):
            simulate(seed, nodes=3, seconds=6.0, queries=True)


def test_the_memory_backend_is_what_the_virtual_disk_is_made_of() -> None:
    """A sanity check of the harness: without faults a virtual disk keeps everything."""
    backend = VirtualBackend.open("")
    backend.write({b"a": b"1"}, durable=False)
    assert backend.get(b"a") == b"1"
    assert isinstance(rows_of_disk(backend), MemoryBackend)
