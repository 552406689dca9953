"""A comparison goes on with the dots that it was told the sums of, and with no others: it takes out what isn't among them."""

from __future__ import annotations

import crdtdb
from crdtdb.causality import DotSet
from crdtdb.cluster.engine.reconciliation import ReconciliationInitiator, ReconciliationResponder
from crdtdb.database.pull import pull
from crdtdb.store.replication.reconciliation import discard
from crdtdb.wire.messages import BucketDots, BucketsRequest, BucketSums, DotsRequest, Message


def compared(
    ada: crdtdb.Database, bob: crdtdb.Database
) -> tuple[ReconciliationInitiator, ReconciliationResponder, BucketsRequest]:
    """Ada, who enters, and bob, up to where ada has asked for the dots of the buckets that differ."""
    initiator = ReconciliationInitiator(1, "bob", ada.store, audit=False, repair=True)
    responder = ReconciliationResponder(1, bob.store.replication.comparing(ada.store.root.clock), audit=False)
    initiator.paged(bob.store.root.clock)
    responder.page_ended()
    while responder.busy:
        for message in responder.step():
            assert isinstance(message, BucketSums)
            initiator.sums(message)
    messages: list[Message] = []
    while not messages:
        messages = initiator.step()
    (wanted,) = messages
    assert isinstance(wanted, BucketsRequest)
    return initiator, responder, wanted


def test_what_was_lost_on_the_way_is_taken_for_no_ones_absence() -> None:
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        for number in range(20):
            bob["notes"].put(str(number), {"n": number})
        crdtdb.sync(ada, bob)
        ada.store.replication.reset_identity("for the test")
        bob["notes"].delete("3", bob["notes"].get("3").rev)
        initiator, responder, wanted = compared(ada, bob)
        (whole,) = responder.list(wanted)
        assert isinstance(whole, BucketDots)
        before = ada["notes"].digest()

        half = BucketDots(whole.exchange, True, whole.dots[::2])
        assert not initiator.dots(half), "the rest was lost, and the sums say so"
        assert ada["notes"].digest() == before
        assert not initiator.busy, "nothing is mended"
        initiator.close()
        responder.close()


def test_sums_that_come_twice_ask_once() -> None:
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        bob["notes"].put("a", {"n": 1})
        ada["notes"].put("b", {"n": 1})
        initiator, responder, wanted = compared(ada, bob)
        initiator.sums(BucketSums(1, True, True, ()))
        assert initiator.step() == []
        (whole,) = responder.list(wanted)
        assert isinstance(whole, BucketDots)
        assert initiator.dots(whole)
        assert initiator.dots(whole), "that they come twice changes nothing"
        initiator.close()
        responder.close()


def test_sums_that_come_again_when_all_is_equal_end_nothing_twice() -> None:
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        bob["notes"].put("a", {"n": 1})
        crdtdb.sync(ada, bob)
        initiator = ReconciliationInitiator(1, "bob", ada.store, audit=False, repair=True)
        responder = ReconciliationResponder(1, bob.store.replication.comparing(ada.store.root.clock), audit=False)
        initiator.paged(bob.store.root.clock)
        responder.page_ended()
        (sums,) = responder.step()
        assert isinstance(sums, BucketSums)
        initiator.sums(sums)
        assert initiator.step() == [DotsRequest(1, ())]
        assert initiator.done
        initiator.sums(sums)
        assert initiator.step() == [], "a frame that comes twice asks for nothing again"
        initiator.close()
        responder.close()


def test_documents_that_are_wanted_before_the_sums_end_nothing() -> None:
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        bob["notes"].put("a", {"n": 1})
        responder = ReconciliationResponder(1, bob.store.replication.comparing(ada.store.root.clock), audit=False)
        assert not responder.wanted(DotsRequest(1, ()))
        assert responder.page_ended(), "the sums are still to come"
        (sums,) = responder.step()
        assert isinstance(sums, BucketSums)
        assert responder.wanted(DotsRequest(1, ()))
        assert not responder.page_ended()
        responder.close()


def test_a_write_that_only_the_entrant_has_seen_goes_on_under_a_dot_of_its_own() -> None:
    """A third store may count the old dot as lost, or hold it still: what is written again covers it, and stays."""
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob, crdtdb.open("memory:") as third:
        first = bob["notes"].put("a", {"of": "bob"})
        ada["notes"].put("a", {"of": "ada"})
        pull(ada.store, bob.store)
        pull(third.store, ada.store)
        (old,) = (dot for dot in ada.store.read("notes", "a").state.leaves if dot not in bob.store.root.clock)  # type: ignore[union-attr]
        bob["notes"].delete("a", first.rev)
        gone = [dot for dot in ada.store.read("notes", "a").state.dots() if dot != old and dot in bob.store.root.clock]  # type: ignore[union-attr]
        assert gone
        clock, brought = bob.store.root.clock, DotSet.of([old])
        assert ada.store.submit(lambda transaction: discard(transaction, "notes", "a", gone, clock, brought))
        record = ada.store.read("notes", "a")
        assert record is not None
        assert old not in set(record.state.dots())
        assert [sibling.body for sibling in ada["notes"].siblings("a")] == [{"of": "ada"}]
        pull(third.store, ada.store)
        held = third.store.read("notes", "a")
        assert held is not None
        assert old not in set(held.state.dots()), "who still holds the old dot drops it"
        assert {"of": "ada"} in [sibling.body for sibling in third["notes"].siblings("a")]
