"""The flow of an exchange: who may send which page when. Rule 5: a clock advances with the last page and never before.

    initiator                    responder
    ask(clock) ─────────────────▶ snapshot
              ◀───────────────── page 0 … page n, no more ahead than there is credit for
    more(k)  ─────────────────▶   up to page k
              ◀───────────────── last page, with the snapshot's clock

A page that is missing, doubled or out of order ends the exchange: what was merged is kept, and another begins later.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Form(IntEnum):
    """How documents are asked for. A node that can't use one form asks for the next, which takes more bytes."""

    BRIEF = 0
    """By what they add to what the initiator's clock covers, where that is known."""
    PLAIN = 1
    """With the newest steps of their paths and the updates that the clock lacks."""
    WHOLE = 2
    """With whole paths and journals, whatever the clock says."""


@dataclass(slots=True)
class Asking:
    """An exchange that this node asked for."""

    exchange: int
    peer: str
    heard: float
    """When the last page came, or it was asked."""
    expected: int = 0
    merged: int = 0
    """Pages that are merged: those that wait for it make no room for others."""
    form: Form = Form.BRIEF

    def take(self, number: int, now: float) -> bool:
        """Take note of a page; return whether it is the one that was expected."""
        if number != self.expected:
            return False
        self.expected += 1
        self.heard = now
        return True

    def wanted(self, pages_ahead: int) -> int:
        """Return the pages wanted by now."""
        return self.merged + pages_ahead


@dataclass(slots=True)
class PageFlow:
    """An exchange that this node answers."""

    exchange: int
    wanted: int
    heard: float
    sent: int = 0
    large: int | None = None
    """The number of a large page that the other side hasn't merged yet, as far as is known: none goes out behind it."""

    @property
    def may_send(self) -> bool:
        """Whether the next page may go out."""
        return self.sent < self.wanted and self.large is None

    def went_out(self, large: bool) -> None:
        """Take note that a page was sent. A `large` one travels in parts, and those behind it would overtake it."""
        if large:
            self.large = self.sent
        self.sent += 1

    def more(self, wanted: int, now: float, pages_ahead: int) -> None:
        """Take a credit. A peer is sent no more than `pages_ahead` at once, whatever the credit."""
        if self.large is not None and wanted > self.large + pages_ahead:
            self.large = None
        self.wanted = min(max(self.wanted, wanted), self.sent + pages_ahead)
        self.heard = now
