"""Reconciliation of two stores by sums of buckets. Rule 12.

A store that enters takes over what the others know; an audit finds what was lost.

    initiator                          responder
    compare(clock) ───────────────────▶ snapshot; in an audit not before it covers that clock
              ◀─────────────────────── pages, as in an exchange, and none is the last
              ◀─────────────────────── sums of its buckets
    list(buckets that differ) ────────▶
              ◀─────────────────────── their dots
    want(dots that were lost here) ───▶
              ◀─────────────────────── those documents, whole: the last page

The clock of a store that enters advances when all is mended, at once: what is cut off starts over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import islice
from typing import Any

from crdtdb.causality import Dot, DotSet
from crdtdb.cluster.engine.transitions import Machine
from crdtdb.store import Comparing, Place, Store, Summing, Sums, compare, differing, sums_of
from crdtdb.wire.delta_batch import DeltaBatch
from crdtdb.wire.messages import BucketDots, BucketsRequest, BucketSums, Compare, DotsRequest, Message

_SUMS_IN_MESSAGE = 4_000
_DOTS_IN_MESSAGE = 10_000
STEP_DOCUMENTS = 200
_MEND_DOCUMENTS = 100
WANTED_MAX = 10_000
"""Lost dots that are asked for at once; the next audit asks for the rest."""


@dataclass
class Finding:
    """What an audit found in comparison with one member. Ids are `collection/id`."""

    peer: str
    documents: int = 0
    lost_here: list[str] = field(default_factory=list)
    lost_there: list[str] = field(default_factory=list)
    contradictory: list[str] = field(default_factory=list)
    rot_here: list[str] = field(default_factory=list)
    claims: bool = True
    """Whether the responder's rows agree with each other: if not, it needs an audit with repair of its own."""
    mended: list[str] = field(default_factory=list)
    failed: str | None = None
    """Why there is no finding."""

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return self.claims and not (self.lost_here or self.lost_there or self.contradictory or self.rot_here)


class Pace:
    """How fast documents are read for audits: by the second, and no faster after a pause."""

    def __init__(self, documents_a_second: float, now: float) -> None:
        self._rate, self._left, self._at = documents_a_second, 0.0, now

    def refill(self, now: float) -> None:
        """Time has passed."""
        self._left, self._at = min(self._rate, self._left + (now - self._at) * self._rate), now

    @property
    def allows(self) -> bool:
        """Whether another step may be made now."""
        return self._left > 0

    def take(self) -> None:
        """A step is made."""
        self._left -= STEP_DOCUMENTS


class Answer(Enum):
    """What a responder does."""

    PAGING = auto()
    """Sends the pages of its snapshot."""
    SUMMING = auto()
    """Sums its documents, to send the sums once they are complete."""
    ANSWERING = auto()
    """Waits for the buckets and dots that the initiator asks for."""
    RETURNING = auto()
    """Sends the documents that the initiator has lost."""
    OVER = auto()


class AnswerEvent(Enum):
    """What happens to a responder."""

    LAST_PAGE = auto()
    SUMMED = auto()
    WANTED = auto()
    """The initiator has said which documents it lost, if any."""


_ANSWER = {
    (Answer.PAGING, AnswerEvent.LAST_PAGE): Answer.SUMMING,
    (Answer.SUMMING, AnswerEvent.SUMMED): Answer.ANSWERING,
    (Answer.ANSWERING, AnswerEvent.WANTED): Answer.RETURNING,
    (Answer.RETURNING, AnswerEvent.WANTED): Answer.RETURNING,
    (Answer.RETURNING, AnswerEvent.LAST_PAGE): Answer.OVER,
}


class ReconciliationResponder:
    """A reconciliation that this node answers."""

    def __init__(self, exchange: int, comparing: Comparing, *, audit: bool) -> None:
        self.exchange, self._comparing, self.audit = exchange, comparing, audit
        self._machine = Machine(_ANSWER, Answer.PAGING)
        self._summing = Summing(comparing.moment)
        self.outgoing = comparing.outgoing

    def step(self) -> list[Message]:
        """Sum a little further; return what is to be sent."""
        if not self.summing or self._summing.step(STEP_DOCUMENTS):
            return []
        self._machine.step(AnswerEvent.SUMMED)
        rows = [(actor, number, *sums) for (actor, number), sums in sorted(self._summing.sums.items())]
        claims = not self._summing.rot
        return [BucketSums(self.exchange, last, claims, part) for part, last in _parts(rows, _SUMS_IN_MESSAGE)]

    @property
    def summing(self) -> bool:
        """Whether the next step reads on."""
        return self._machine.state is Answer.SUMMING

    @property
    def waits(self) -> bool:
        """Whether all pages have gone out, and no lost documents were asked for yet."""
        return self._machine.state in (Answer.SUMMING, Answer.ANSWERING)

    @property
    def busy(self) -> bool:
        """Whether there is something to do without hearing more."""
        return self.summing

    def page_ended(self) -> bool:
        """Take note that a last page has gone out; return whether the reconciliation goes on."""
        self._machine.step(AnswerEvent.LAST_PAGE)
        return self._machine.state is not Answer.OVER

    def list(self, message: BucketsRequest) -> list[Message]:
        """Return the dots of some buckets."""
        places = self._comparing.dots_in(message.buckets)
        rows = [(dot.actor, dot.counter, place.hash) for dot, place in sorted(places.items())]
        return [BucketDots(self.exchange, last, part) for part, last in _parts(rows, _DOTS_IN_MESSAGE)]

    def wanted(self, message: DotsRequest) -> bool:
        """Let the pages go on with the documents that hold some dots; return whether that is due."""
        if not self._machine.step(AnswerEvent.WANTED):
            return False
        self.outgoing = self._comparing.documents_with(Dot(actor, counter) for actor, counter in message.dots)
        return True

    def close(self) -> None:
        """Release the snapshot."""
        self._comparing.close()


class Compared(Enum):
    """What an initiator does."""

    GATHERING = auto()
    """Takes pages and the responder's sums, and sums its own documents."""
    LISTING = auto()
    """Waits for the dots of the buckets that differ."""
    MENDING = auto()
    """Takes out what the responder knows to be gone."""
    RETURNING = auto()
    """Takes back the documents that were lost here."""


class ComparedEvent(Enum):
    """What happens to an initiator."""

    DIFFERENT = auto()
    EQUAL = auto()
    LISTED = auto()
    MENDED = auto()


_COMPARED = {
    (Compared.GATHERING, ComparedEvent.DIFFERENT): Compared.LISTING,
    (Compared.GATHERING, ComparedEvent.EQUAL): Compared.RETURNING,
    (Compared.LISTING, ComparedEvent.LISTED): Compared.MENDING,
    (Compared.MENDING, ComparedEvent.MENDED): Compared.RETURNING,
}


class ReconciliationInitiator:
    """A reconciliation that this node asked for."""

    def __init__(self, exchange: int, peer: str, store: Store, *, audit: bool, repair: bool) -> None:
        """An `audit` takes its snapshot before it asks; a store that enters does so when the pages are in."""
        self.exchange, self.audit, self.repair = exchange, audit, repair
        self.finding = Finding(peer)
        self._store = store
        self._machine = Machine(_COMPARED, Compared.GATHERING)
        self._mine: Comparing | None = store.replication.comparing(DotSet()) if audit else None
        self._summing = Summing(self._mine.moment) if self._mine is not None else None
        self._summed = False
        self._sums: Sums = {}
        self._asked: Sums = {}
        """The responder's sums of the buckets whose dots were asked for: once, whatever comes twice."""
        self._sums_are_in = self._paged = False
        self._dots: dict[Dot, int] = {}
        self.clock = DotSet()
        """That of the responder's snapshot."""
        self._mending: Iterator[tuple[tuple[str, str], list[Dot]]] = iter(())
        self._listed: dict[Dot, Place] = {}
        self.lost: list[Dot] = []
        self._contradictory: list[Dot] = []

    @property
    def done(self) -> bool:
        """Whether all is mended, so that the pages that follow are of lost documents."""
        return self._machine.state is Compared.RETURNING

    def ask(self) -> Compare:
        """Return the message to begin with."""
        clock = self._mine.moment.root.clock if self._mine is not None else self._store.replication.durable_clock()
        return Compare(self.exchange, clock, self.audit)

    def paged(self, clock: DotSet) -> None:
        """Take note that all pages of the snapshot are merged."""
        self.clock, self._paged = clock, True
        if self._mine is None:
            self._mine = self._store.replication.comparing(DotSet())
            self._summing = Summing(self._mine.moment)

    def sums(self, message: BucketSums) -> None:
        """Take the responder's sums."""
        if self._machine.state is not Compared.GATHERING:
            return
        self._sums.update({(actor, number): (dots, total) for actor, number, dots, total in message.sums})
        self.finding.claims = self.finding.claims and message.claims
        self._sums_are_in = self._sums_are_in or message.last

    def dots(self, message: BucketDots) -> bool:
        """Take the responder's dots; return whether they are those that its sums are of.

        If they aren't, something was lost or came twice, and to go on would be to take out what the responder holds.
        """
        if self._machine.state is not Compared.LISTING:
            return True
        self._dots.update({Dot(actor, counter): hash_ for actor, counter, hash_ in message.dots})
        if not message.last:
            return True
        if self.finding.claims and sums_of(self._dots) != self._asked:
            return False
        self._differ()
        return True

    @property
    def summing(self) -> bool:
        """Whether the next step reads on."""
        return self._summing is not None and not self._summed

    @property
    def busy(self) -> bool:
        """Whether there is something to do without hearing more."""
        return self.summing or self._machine.state is Compared.MENDING

    def step(self) -> list[Message]:
        """Sum or mend a little further; return what is to be sent."""
        if self._machine.state is Compared.MENDING:
            return self._mend()
        if self._machine.state is not Compared.GATHERING or self._summing is None:
            return []
        if not self._summed:
            self._summed = not self._summing.step(STEP_DOCUMENTS)
        if not (self._summed and self._sums_are_in and self._paged):
            return []
        self.finding.documents = self._summing.documents
        self.finding.rot_here = self._summing.rot[:100]
        buckets = differing(self._summing.sums, self._sums)
        if not buckets:
            return self._finish(ComparedEvent.EQUAL)
        self._machine.step(ComparedEvent.DIFFERENT)
        self._listed = self._mine.dots_in(buckets) if self._mine is not None else {}
        self._asked = {bucket: self._sums[bucket] for bucket in buckets if bucket in self._sums}
        return [BucketsRequest(self.exchange, tuple(buckets))]

    def _differ(self) -> None:
        """Compare the dots of the buckets that differ."""
        assert self._mine is not None
        self._machine.step(ComparedEvent.LISTED)
        difference = compare(self._listed, self._dots, self._mine.moment.root.clock, self.clock)
        if self.audit:
            # Under one dot one side may hold less than the other: whether they contradict each other the documents tell.
            self._contradictory = [dot for dots in difference.contradictory.values() for dot in dots]
            for (name, doc_id), dots in difference.here.items():
                if dots and self.finding.claims and self._store.replication.still_shows(name, doc_id, dots):
                    self.finding.lost_there.append(_named((name, doc_id)))
            self.lost = [*difference.there, *self._contradictory][:WANTED_MAX]
            self._mending = iter(())
        else:
            self._mending = iter(difference.here.items() if self.finding.claims else ())

    def _mend(self) -> list[Message]:
        slice_ = list(islice(self._mending, _MEND_DOCUMENTS))
        if slice_:
            self.finding.mended += [_named(where) for where in self._store.replication.discard(slice_, self.clock)]
            return []
        return self._finish(ComparedEvent.MENDED)

    def _finish(self, event: ComparedEvent) -> list[Message]:
        self._machine.step(event)
        return [DotsRequest(self.exchange, tuple(self.lost))]

    def restore(self, batch: DeltaBatch) -> None:
        """Take back some of the documents that were lost here."""
        taken = self._store.replication.restore_lost(batch, self.lost, repair=self.repair)
        self.finding.lost_here += [_named(where) for where in taken.lost]
        self.finding.mended += [_named(where) for where in taken.mended]
        self.finding.contradictory += [_named(where) for where in taken.contradictory]

    def close(self) -> None:
        """Release the snapshot."""
        if self._mine is not None:
            self._mine.close()


def _parts(rows: list[Any], most: int) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """Yield rows in parts, at least one, and with each whether it is the last."""
    for first in range(0, max(len(rows), 1), most):
        yield tuple(rows[first : first + most]), first + most >= len(rows)


def _named(where: tuple[str, str]) -> str:
    return "/".join(where)
