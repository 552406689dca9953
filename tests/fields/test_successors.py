"""Documents told as successors: the same state comes out as if it had been sent, or the receiver asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import crdtdb
from crdtdb.backends.memory import MemoryBackend
from crdtdb.causality import DotSet
from crdtdb.cluster.engine.actions import Outbox, Send
from crdtdb.cluster.engine.links import Link
from crdtdb.crdts import Journals
from crdtdb.database import Database
from crdtdb.database.pull import pull
from crdtdb.documents import NOTHING, State
from crdtdb.errors import CrdtdbError, DotCollisionError, EncodingError, TooLargeError
from crdtdb.gossip import GossipConfig
from crdtdb.store import MissingAncestorError, Store
from crdtdb.testing.invariants import check_store
from crdtdb.wire.cbor import decode, encode
from crdtdb.wire.codec import decode_message, encode_message
from crdtdb.wire.delta_batch import DeltaBatch, NotFollowingError
from crdtdb.wire.delta_states import is_successor
from crdtdb.wire.frames import frame
from crdtdb.wire.messages import PageMessage, SyncRequest
from tests.cluster.accepting import exchanges_of
from tests.examples import examples
from tests.fields.test_machine import IDS, Machine
from tests.nonsense import spoil

EDITS: dict[str, Callable[[Any], object]] = {
    "keystroke": lambda doc: doc["body"].insert(3, "x"),
    "append": lambda doc: doc["items"].append(7),
    "add": lambda doc: doc["tags"].add("new"),
    "discard": lambda doc: doc["tags"].discard("tag 3"),
    "increment": lambda doc: doc["likes"].increment(),
    "flag": lambda doc: doc["on"].enable(),
    "register": lambda doc: doc["reg"].set("later"),
    "nested": lambda doc: doc["m"]["n"].increment(),
}


class Pair:
    """Two stores that both have one document with a field of each type."""

    def __init__(self) -> None:
        rng, ticks = Random(7), iter(range(1_700_000_000_000, 1_800_000_000_000))
        self.ada, self.bob = (Store(MemoryBackend(), wall=lambda: next(ticks), draw=rng.randbytes) for _ in range(2))
        self.notes(self.ada).put(
            "a",
            {
                "title": "t",
                "body": crdtdb.Text("lorem ipsum " * 100),
                "items": crdtdb.List([1, 2]),
                "tags": crdtdb.Set([f"tag {n}" for n in range(50)]),
                "likes": crdtdb.Counter(2),
                "on": crdtdb.Flag(False),
                "reg": crdtdb.Register("r"),
                "m": crdtdb.Map({"n": crdtdb.Counter(1)}),
            },
        )
        pull(self.bob, self.ada)

    def notes(self, store: Store) -> crdtdb.Collection:
        return Database(store).collection("notes")

    def edit(self, store: Store, *edits: Callable[[Any], object]) -> None:
        for edit in edits:
            with self.notes(store).edit("a") as document:
                edit(document)

    def told(self, brief: bool = True) -> DeltaBatch:
        outgoing = self.ada.replication.outgoing(self.bob.root.clock, brief=brief)
        page = outgoing.next_page()
        outgoing.close()
        return DeltaBatch(page.parcel)

    def agree(self) -> None:
        pull(self.bob, self.ada)
        pull(self.ada, self.bob)
        assert self.ada.live_view().digest("notes") == self.bob.live_view().digest("notes")
        for store in (self.ada, self.bob):
            check_store(store)


def is_brief(parcel: DeltaBatch) -> bool:
    return all(is_successor(decode(one.encoded)) for one in parcel.documents)


def mine(store: Store, name: str, doc_id: str) -> State:
    record = store.read(name, doc_id)
    return record.state if record is not None else NOTHING


def at_rest(journals: Journals) -> object:
    return {address: (dict(one.vector), one.creations, dict(one.updates)) for address, one in journals.items()}


def same(brief: DeltaBatch, plain: DeltaBatch, receiver: Store) -> int:
    """Check that each document that comes as a successor is the state that comes otherwise; return how many there were."""
    found = 0
    assert [one[:2] for one in brief.documents] == [one[:2] for one in plain.documents]
    for short, full in zip(brief.documents, plain.documents, strict=True):
        if not is_successor(decode(short.encoded)):
            assert brief.state(short, lambda _: lambda: ()) == plain.state(full, lambda _: lambda: ())
            continue
        here = mine(receiver, short.name, short.doc_id)
        try:
            state, context = brief.state(short, lambda _: lambda: (), here)
        except NotFollowingError:
            continue
        wanted, its_context = plain.state(full, lambda _: lambda: ())
        assert state.bodies == wanted.bodies
        assert state.fields == wanted.fields
        assert its_context <= context <= brief.clock
        ((dot, leaf),) = state.leaves.items()
        ((its_dot, its_leaf),) = wanted.leaves.items()
        assert dot == its_dot
        shared = min(len(leaf.path.known), len(its_leaf.path.known))
        assert leaf.path.known[:shared] == its_leaf.path.known[:shared]
        for part in ("rev", "clock", "deleted", "body_dot", "body_rev", "stamp", "creations", "native"):
            assert getattr(leaf, part) == getattr(its_leaf, part), part
        # A journal of which nothing came along is as the receiver has it.
        news = {address: one for address, one in wanted.journals.items() if one.updates}
        assert at_rest({address: state.journals[address] for address in news}) == at_rest(news)
        found += 1
    return found


def compare(node: Store, other: Store) -> int:
    found = 0
    pages = [other.replication.outgoing(node.root.clock, brief=brief) for brief in (True, False)]
    if not pages[0].nothing:
        brief, plain = (DeltaBatch(one.next_page().parcel) for one in pages)
        found = same(brief, plain, node)
    for one in pages:
        one.close()
    return found


def run(seed: int, steps: int = 60) -> int:
    machine = Machine(seed, nodes=2 + seed % 2)
    rng, found = machine.rng, 0
    for _ in range(steps):
        node, other = rng.sample(range(len(machine.stores)), 2)
        what = rng.choice(["write", "write", "hear", "rumor", "half"])
        if what == "write":
            machine.write(node, rng.choice(IDS))
            continue
        found += compare(machine.stores[node], machine.stores[other])
        machine.rumor(node, other, rng.choice(IDS)) if what == "rumor" else getattr(machine, what)(node, other)
    return found


@examples(50)
@given(st.integers(0, 2**32))
def test_a_successor_is_the_state_that_would_have_been_sent(seed: int) -> None:
    run(seed)


def test_most_edits_come_as_successors_however_little_the_stores_talk() -> None:
    assert sum(run(seed) for seed in range(20)) > 50


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_is_told_by_itself(what: str) -> None:
    pair = Pair()
    pair.edit(pair.ada, EDITS[what])
    told = pair.told()
    assert is_brief(told)
    assert sum(len(one.encoded) for one in told.documents) < 140
    assert len(told.documents) == same(told, pair.told(brief=False), pair.bob) == 1
    pair.bob.replication.receive(told, advance=True)
    pair.agree()


def test_a_keystroke_in_a_megabyte_fits_150_bytes() -> None:
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        ada["notes"].put("a", {"body": crdtdb.Text("lorem ipsum " * 87_400)})
        crdtdb.sync(ada, bob)
        with ada["notes"].edit("a") as document:
            document["body"].insert(524_400, "x")
        page = ada.store.replication.outgoing(bob.store.root.clock, brief=True).next_page()
        assert len(frame(encode_message(PageMessage(1, 0, True, page.parcel)))) <= 150
        bob.store.replication.receive(DeltaBatch(page.parcel), advance=True)
        assert bob["notes"].get("a")["body"] == ada["notes"].get("a")["body"]


def test_several_edits_come_with_the_names_between() -> None:
    pair = Pair()
    pair.edit(pair.ada, *EDITS.values())
    told = pair.told()
    assert is_brief(told)
    assert same(told, pair.told(brief=False), pair.bob) == 1
    pair.bob.replication.receive(told, advance=True)
    pair.agree()
    revs = [[(one.rev, one.parent) for one in pair.notes(store).history("a")] for store in (pair.ada, pair.bob)]
    assert revs[0] == revs[1]


def test_a_body_beside_many_elements_comes_without_them() -> None:
    pair = Pair()
    notes = pair.notes(pair.ada)
    before = notes.get("a")
    notes.put("a", {**before, "title": "another"}, before.rev)
    told = pair.told()
    assert is_brief(told)
    assert sum(len(one.encoded) for one in told.documents) < 140
    pair.bob.replication.receive(told, advance=True)
    pair.agree()


def test_one_removal_is_found_by_its_hash_and_for_more_the_receiver_asks() -> None:
    pair = Pair()
    pair.edit(pair.ada, EDITS["discard"])
    assert same(pair.told(), pair.told(brief=False), pair.bob) == 1
    pair.edit(pair.ada, lambda doc: doc["tags"].discard("tag 4"))
    assert is_brief(pair.told())
    before = pair.bob.live_view().digest("notes")
    with pytest.raises(MissingAncestorError, match="builds on a state that isn't here"):
        pair.bob.replication.receive(pair.told(), advance=True)
    assert pair.bob.live_view().digest("notes") == before
    pair.agree()


def test_what_two_write_in_one_text_at_the_same_time_is_told_by_itself() -> None:
    pair = Pair()
    pair.edit(pair.ada, EDITS["keystroke"])
    pair.edit(pair.bob, EDITS["keystroke"], EDITS["keystroke"])
    told = pair.told()
    assert is_brief(told)
    assert same(told, pair.told(brief=False), pair.bob) == 1
    pair.bob.replication.receive(told, advance=True)
    pair.agree()
    assert len(pair.notes(pair.bob).get("a")["body"]) == 1_203


def test_what_the_receiver_has_taken_away_meanwhile_it_asks_for() -> None:
    pair = Pair()
    pair.edit(pair.ada, EDITS["keystroke"])
    pair.edit(pair.bob, EDITS["discard"])
    told = pair.told()
    assert is_brief(told)
    with pytest.raises(MissingAncestorError):
        pair.bob.replication.receive(told, advance=True)
    pair.agree()


def test_a_conflict_and_a_deletion_come_as_they_are() -> None:
    pair = Pair()
    for store, title in ((pair.ada, "one"), (pair.bob, "other")):
        before = pair.notes(store).get("a")
        pair.notes(store).put("a", {**before, "title": title}, before.rev)
    pull(pair.ada, pair.bob)
    assert not is_brief(pair.told())
    pair.agree()
    pair.notes(pair.ada).delete("a", pair.notes(pair.ada).get("a").rev)
    assert not is_brief(pair.told())
    pair.agree()


def test_whoever_has_nothing_gets_everything() -> None:
    pair = Pair()
    pair.edit(pair.ada, EDITS["keystroke"])
    outgoing = pair.ada.replication.outgoing(DotSet(), brief=True)
    assert not is_brief(DeltaBatch(outgoing.next_page().parcel))
    outgoing.close()


def test_rumors_tell_what_they_told_by_what_came_after() -> None:
    pair = Pair()
    sizes = []
    for edit in (EDITS["add"], EDITS["increment"], EDITS["nested"]):
        pair.edit(pair.ada, edit)
        encoded = pair.ada.replication.rumor([("notes", "a")], brief=True)
        assert encoded is not None
        sizes.append(len(encode(encoded)))
        parcel = DeltaBatch(encoded)
        assert is_brief(parcel)
        pair.bob.replication.receive(parcel)
    assert pair.ada.live_view().digest("notes") == pair.bob.live_view().digest("notes")
    assert max(sizes) < 250
    plain = pair.ada.replication.rumor([("notes", "a")])
    assert plain is not None
    assert not is_brief(DeltaBatch(plain))


def test_a_rumor_that_was_lost_is_asked_for() -> None:
    pair = Pair()
    for what in ("add", "increment", "flag"):
        pair.edit(pair.ada, EDITS[what])
        encoded = pair.ada.replication.rumor([("notes", "a")], brief=True)
    assert encoded is not None
    with pytest.raises(MissingAncestorError):
        pair.bob.replication.receive(DeltaBatch(encoded))
    pair.agree()


def test_a_text_that_no_rumor_brought_is_asked_for() -> None:
    """The second rumor tells of two edits, of which the first began a text; it brings the newest update, which is another's."""
    pair = Pair()
    pair.edit(pair.ada, EDITS["add"])
    pair.ada.replication.rumor([("notes", "a")], brief=True)
    pull(pair.bob, pair.ada)
    pair.edit(pair.ada, lambda doc: doc.__setitem__("second", crdtdb.Text("begun")), EDITS["append"])
    encoded = pair.ada.replication.rumor([("notes", "a")], brief=True)
    assert encoded is not None
    with pytest.raises(MissingAncestorError):
        pair.bob.replication.receive(DeltaBatch(encoded))
    pair.agree()
    assert pair.notes(pair.bob).get("a")["second"] == "begun"


# What isn't so


def test_a_check_that_is_wrong_is_no_reason_to_believe_anything() -> None:
    pair = Pair()
    pair.edit(pair.ada, EDITS["add"])
    parcel = tampered(pair, lambda told: told.__setitem__(9, (told[9] + 1) % 2**64))
    before = pair.bob.live_view().digest("notes")
    with pytest.raises(MissingAncestorError):
        pair.bob.replication.receive(parcel, advance=True)
    assert pair.bob.live_view().digest("notes") == before
    pair.agree()


def tampered(pair: Pair, change: Callable[[list[Any]], object]) -> DeltaBatch:
    outgoing = pair.ada.replication.outgoing(pair.bob.root.clock, brief=True)
    encoded: list[Any] = decode(encode(outgoing.next_page().parcel))
    outgoing.close()
    told = decode(encoded[5][0][2])
    assert is_successor(told)
    change(told)
    encoded[5][0][2] = encode(told)
    return DeltaBatch(decode(encode(encoded)))


@examples(150)
@given(st.data())
def test_nonsense_in_any_place_is_refused_or_readable(data: st.DataObject) -> None:
    pair = Pair()
    pair.edit(pair.ada, *data.draw(st.lists(st.sampled_from(list(EDITS.values())), min_size=1, max_size=3)))
    before = pair.bob.live_view().digest("notes")

    try:
        pair.bob.replication.receive(tampered(pair, lambda told: spoil(data, told)), advance=True)
    except (EncodingError, DotCollisionError, TooLargeError, MissingAncestorError):
        assert pair.bob.live_view().digest("notes") == before
        pair.agree()
        return
    for document in pair.notes(pair.bob).all():
        with contextlib.suppress(CrdtdbError):
            dict(document)


def test_a_successor_where_whole_documents_were_asked_for_is_refused() -> None:
    pair = Pair()
    pair.edit(pair.ada, EDITS["add"])
    told = pair.told()
    with pytest.raises(EncodingError, match="where a whole one was requested"):
        told.state(told.documents[0], lambda _: lambda: ())


# Who speaks what


def sent(outbox: Outbox) -> list[SyncRequest]:
    messages = [decode_message(one.payload) for one in outbox.take() if isinstance(one, Send)]
    return [message for message in messages if isinstance(message, SyncRequest)]


@pytest.mark.parametrize(("minor", "brief"), [(1, False), (2, False), (3, True)])
def test_only_peers_of_this_version_are_asked_to_be_brief(minor: int, brief: bool) -> None:
    outbox = Outbox()
    exchanges = exchanges_of(Pair().bob, outbox, GossipConfig())
    exchanges.ask(Link(1, "ada:1", None, 0.0, peer="ada", minor=minor), 1.0)
    (asked,) = sent(outbox)
    assert asked.brief is brief
    assert len(decode(encode_message(asked))) == (5 if brief else 4)


def test_each_failure_asks_for_the_next_form() -> None:
    pair, outbox = Pair(), Outbox()
    pair.edit(pair.ada, EDITS["keystroke"])
    pair.edit(pair.bob, EDITS["discard"])
    exchanges = exchanges_of(pair.bob, outbox, GossipConfig())
    link = Link(1, "ada:1", None, 0.0, peer="ada", minor=3)
    exchanges.ask(link, 1.0)
    forms = []
    while asked := sent(outbox):
        (message,) = asked
        forms.append((message.brief, message.whole))
        outgoing = pair.ada.replication.outgoing(message.clock, message.whole, brief=message.brief)
        page = outgoing.next_page()
        outgoing.close()
        exchanges.page(link, PageMessage(message.exchange, 0, page.last, page.parcel), 1.0)
    assert forms == [(True, False), (False, False)]
    assert exchanges.asked_again == 1
    pair.agree()
