"""A comparison goes on with the dots that it was told the sums of, and with no others: it takes out what isn't among them."""

from __future__ import annotations

import crdtdb
from crdtdb.cluster.comparing import AnsweredComparison, AskedComparison
from crdtdb.wire.messages import DotsOf, ListOf, Message, SumsOf


def compared(ada: crdtdb.Database, bob: crdtdb.Database) -> tuple[AskedComparison, AnsweredComparison, ListOf]:
    """Ada, who enters, and bob, up to where ada has asked for the dots of the buckets that differ."""
    asked = AskedComparison(1, "bob", ada.store, audit=False, repair=True)
    answered = AnsweredComparison(1, bob.store.comparing(ada.store.held.clock), audit=False)
    asked.paged(bob.store.held.clock)
    answered.page_ended()
    while answered.busy:
        for message in answered.step():
            assert isinstance(message, SumsOf)
            asked.sums(message)
    messages: list[Message] = []
    while not messages:
        messages = asked.step()
    (wanted,) = messages
    assert isinstance(wanted, ListOf)
    return asked, answered, wanted


def test_what_was_lost_on_the_way_is_taken_for_no_ones_absence() -> None:
    with crdtdb.open("memory:") as ada, crdtdb.open("memory:") as bob:
        for number in range(20):
            bob["notes"].put(str(number), {"n": number})
        crdtdb.sync(ada, bob)
        ada.store.begin_anew("for the test")
        bob["notes"].delete("3", bob["notes"].get("3").rev)
        asked, answered, wanted = compared(ada, bob)
        (whole,) = answered.list(wanted)
        assert isinstance(whole, DotsOf)
        before = ada["notes"].digest()

        half = DotsOf(whole.exchange, True, whole.dots[::2])
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
        asked.sums(SumsOf(1, True, True, ()))
        assert asked.step() == []
        (whole,) = answered.list(wanted)
        assert isinstance(whole, DotsOf)
        assert asked.dots(whole)
        assert asked.dots(whole), "that they come twice changes nothing"
        asked.close()
        answered.close()
