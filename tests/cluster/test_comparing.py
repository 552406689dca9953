"""A comparison goes on with the dots that it was told the sums of, and with no others: it takes out what isn't among them."""

from __future__ import annotations

import crdtdb
from crdtdb.cluster.engine.reconciliation import ReconciliationInitiator, ReconciliationResponder
from crdtdb.wire.messages import BucketDots, BucketsRequest, BucketSums, Message


def compared(
    ada: crdtdb.Database, bob: crdtdb.Database
) -> tuple[ReconciliationInitiator, ReconciliationResponder, BucketsRequest]:
    """Ada, who enters, and bob, up to where ada has asked for the dots of the buckets that differ."""
    asked = ReconciliationInitiator(1, "bob", ada.store, audit=False, repair=True)
    answered = ReconciliationResponder(1, bob.store.replication.comparing(ada.store.root.clock), audit=False)
    asked.paged(bob.store.root.clock)
    answered.page_ended()
    while answered.busy:
        for message in answered.step():
            assert isinstance(message, BucketSums)
            asked.sums(message)
    messages: list[Message] = []
    while not messages:
        messages = asked.step()
    (wanted,) = messages
    assert isinstance(wanted, BucketsRequest)
    return asked, answered, wanted


def test_what_was_lost_on_the_way_is_taken_for_no_ones_absence() -> None:
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        for number in range(20):
            bob["notes"].put(str(number), {"n": number})
        crdtdb.sync(ada, bob)
        ada.store.replication.reset_identity("for the test")
        bob["notes"].delete("3", bob["notes"].get("3").rev)
        asked, answered, wanted = compared(ada, bob)
        (whole,) = answered.list(wanted)
        assert isinstance(whole, BucketDots)
        before = ada["notes"].digest()

        half = BucketDots(whole.exchange, True, whole.dots[::2])
        assert not asked.dots(half), "the rest was lost, and the sums say so"
        assert ada["notes"].digest() == before
        assert not asked.busy, "nothing is mended"
        asked.close()
        answered.close()


def test_sums_that_come_twice_ask_once() -> None:
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        bob["notes"].put("a", {"n": 1})
        ada["notes"].put("b", {"n": 1})
        asked, answered, wanted = compared(ada, bob)
        asked.sums(BucketSums(1, True, True, ()))
        assert asked.step() == []
        (whole,) = answered.list(wanted)
        assert isinstance(whole, BucketDots)
        assert asked.dots(whole)
        assert asked.dots(whole), "that they come twice changes nothing"
        asked.close()
        answered.close()
