"""A page is merged in slices: others have their turn between them, and whatever happens, nothing is lost or counted early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

import crdtdb
from crdtdb.backends.memory import MemoryBackend
from crdtdb.causality import DotSet
from crdtdb.cluster.engine.actions import Outbox, Send
from crdtdb.cluster.engine.links import Link
from crdtdb.database import Database
from crdtdb.errors import EncodingError
from crdtdb.gossip import GossipConfig
from crdtdb.store import Received, Store
from crdtdb.testing.invariants import check_store
from crdtdb.wire.codec import decode_message, parcel_in
from crdtdb.wire.messages import Message, PageCredit, PageMessage, SyncRequest, UpToDate
from tests.cluster.accepting import exchanges_of

UPDATES = 20
CONFIG = GossipConfig(updates_merged_at_once=UPDATES)


class Asker:
    """Bob asks ada, and the messages go where a test wants them."""

    def __init__(self, documents: int) -> None:
        rng, ticks = Random(7), iter(range(1_700_000_000_000, 1_800_000_000_000))
        self.ada, self.bob = (Store(MemoryBackend(), wall=lambda: next(ticks), draw=rng.randbytes) for _ in range(2))
        self.ids = [f"d{number:04}" for number in range(documents)]
        self.notes, self.mine = Database(self.ada)["notes"], Database(self.bob)["notes"]
        for doc_id in self.ids:
            self.notes.put(doc_id, {"n": 0})
        crdtdb.sync(Database(self.ada), Database(self.bob))
        self.slices: list[tuple[int, bool]] = []
        receive = self.bob.replication.receive

        def noted(parcel: Any, advance: bool = False, *rest: Any, **named: Any) -> Received:
            received = receive(parcel, advance, *rest, **named)
            self.slices.append((received.documents, advance))
            return received

        self.bob.replication.receive = noted  # type: ignore[method-assign]
        self.outbox = Outbox()
        self.exchanges = exchanges_of(self.bob, self.outbox, CONFIG)
        self.link = Link(1, "ada:1", None, 0.0, peer="ada", minor=3)

    def update(self) -> None:
        for doc_id in self.ids:
            self.notes.put(doc_id, {"n": 1}, rev=self.notes.get(doc_id).rev)

    def sent(self) -> list[Message]:
        return [decode_message(one.payload) for one in self.outbox.take() if isinstance(one, Send)]

    def ask(self) -> Iterator[PageMessage]:
        """Let bob ask, and return the pages that ada answers with."""
        self.exchanges.ask(self.link, 1.0)
        (asked,) = self.sent()
        assert isinstance(asked, SyncRequest)
        outgoing = self.ada.replication.outgoing(asked.clock, asked.whole, brief=asked.brief)
        last, number = False, 0
        while not last:
            page = outgoing.next_page()
            last = page.last
            yield PageMessage(asked.exchange, number, last, page.parcel)
            number += 1
        outgoing.close()

    def take(self, page: PageMessage) -> None:
        self.exchanges.page(self.link, page, 1.0)

    def pump(self) -> bool:
        return self.exchanges.pump(lambda number, act: act(), 2.0)

    def updated(self) -> int:
        return sum(self.mine.get(doc_id)["n"] for doc_id in self.ids)

    def agree(self) -> bool:
        check_store(self.bob)
        return self.bob.root.clock >= self.ada.root.clock and self.mine.digest() == self.notes.digest()


def test_writers_and_frames_have_their_turn_between_slices() -> None:
    asker = Asker(5 * UPDATES + 3)
    asker.update()
    (page,) = asker.ask()
    asker.take(page)
    assert asker.slices == [(UPDATES, False)]
    asker.mine.put("meanwhile", {"n": 9})
    asker.mine.put(asker.ids[-1], {"n": 7}, rev=asker.mine.get(asker.ids[-1]).rev)
    turns = 1
    while asker.pump():
        turns += 1
        assert asker.slices[-1] == (UPDATES, False)
    assert turns == 5
    assert asker.slices[-1] == (3, True)
    assert asker.exchanges.finished == 1
    assert asker.bob.root.clock >= asker.ada.root.clock
    assert len(asker.mine.siblings(asker.ids[-1])) == 2
    check_store(asker.bob)


def test_first_revisions_come_in_one_commit() -> None:
    asker = Asker(1)
    for number in range(10 * UPDATES):
        asker.notes.put(f"new{number}", {"n": number})
    (page,) = asker.ask()
    asker.take(page)
    assert asker.slices == [(10 * UPDATES, True)]
    assert asker.agree()


def lose_the_link(asker: Asker) -> None:
    asker.exchanges.closed(1)


def say_that_nothing_is_missing(asker: Asker) -> None:
    asker.exchanges.same(asker.link, UpToDate(1))


def fall_silent(asker: Asker) -> None:
    asker.exchanges.tick(1_000.0)


@pytest.mark.parametrize("happen", [lose_the_link, say_that_nothing_is_missing, fall_silent])
def test_what_was_merged_is_kept_and_the_clock_waits(happen: Callable[[Asker], None]) -> None:
    asker = Asker(5 * UPDATES)
    asker.update()
    (page,) = asker.ask()
    asker.take(page)
    asker.pump()
    happen(asker)
    assert not asker.pump()
    assert asker.updated() == 2 * UPDATES
    assert not asker.bob.root.clock >= asker.ada.root.clock
    check_store(asker.bob)
    asker.sent()
    for again in asker.ask():
        asker.take(again)
        while asker.pump():
            pass
    assert asker.slices[2:] == [(UPDATES, False), (UPDATES, False), (UPDATES, True)]
    assert asker.agree()


def test_pages_wait_behind_the_one_that_is_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdtdb.store.replication.exchange.PAGE_DOCUMENTS_MAX", 2 * UPDATES)
    asker = Asker(6 * UPDATES)
    asker.update()
    for page in asker.ask():
        asker.take(page)
    assert asker.slices == [(UPDATES, False)]
    assert not asker.sent(), "no page is merged yet, so no other is wanted"
    while asker.pump():
        assert len(asker.slices) <= 6
    assert asker.slices == [(UPDATES, False)] * 5 + [(UPDATES, True)]
    wanted = [message.wanted for message in asker.sent() if isinstance(message, PageCredit)]
    assert wanted == [1 + CONFIG.pages_ahead, 2 + CONFIG.pages_ahead]
    assert asker.agree()


def test_who_sends_more_than_was_wanted_is_refused() -> None:
    asker = Asker(2 * UPDATES)
    asker.update()
    (page,) = asker.ask()
    with pytest.raises(EncodingError, match="more pages than were wanted"):
        for number in range(2 * CONFIG.pages_ahead + 2):
            asker.take(page._replace(number=number, last=False))


def test_a_later_slice_that_does_not_follow_is_asked_for_in_another_form() -> None:
    asker = Asker(1)
    with_fields = {"tags": crdtdb.Set(["a"]), "n": 0}
    for number in range(2 * UPDATES):
        asker.notes.put(f"f{number:04}", with_fields)
    crdtdb.sync(Database(asker.ada), Database(asker.bob))
    for number in range(2 * UPDATES):
        with asker.notes.edit(f"f{number:04}") as edit:
            edit["tags"].add("b")
    with asker.mine.edit(f"f{2 * UPDATES - 1:04}") as edit:  # so ada's edit doesn't follow on what is here
        edit["tags"].discard("a")
    (page,) = asker.ask()
    asker.take(page)
    assert asker.slices[-1] == (UPDATES, False)
    asker.pump()
    assert asker.exchanges.asked_again == 1
    (again,) = (message for message in asker.sent() if isinstance(message, SyncRequest))
    assert not again.brief
    assert all("b" in asker.mine.get(f"f{number:04}")["tags"] for number in range(UPDATES))
    assert not asker.bob.root.clock >= asker.ada.root.clock
    outgoing = asker.ada.replication.outgoing(again.clock, again.whole, brief=again.brief)
    last = outgoing.next_page()
    outgoing.close()
    asker.take(PageMessage(again.exchange, 0, last.last, last.parcel))
    while asker.pump():
        pass
    assert asker.exchanges.finished == 1
    assert asker.mine.get(f"f{2 * UPDATES - 1:04}")["tags"] == ["b"]
    check_store(asker.bob)


def test_slices_are_all_of_a_parcel_once_and_the_catalogue_comes_first() -> None:
    asker = Asker(3 * UPDATES)
    asker.update()
    asker.notes.put("behind", {"n": 1})
    for clock in (DotSet(), asker.bob.replication.durable_clock()):
        outgoing = asker.ada.replication.outgoing(clock, whole=False)
        encoded = outgoing.next_page().parcel
        outgoing.close()
        whole, slices = parcel_in(encoded), list(parcel_in(encoded).slices(UPDATES))
        assert [one for part in slices for one in part.documents] == whole.documents
        assert slices[0].catalogue == whole.catalogue
        assert not any(part.catalogue for part in slices[1:])
        assert len(slices) == 3
    assert [len(part.documents) for part in parcel_in([[], [], [], [], None, []]).slices(UPDATES)] == [0]
