"""Actions of the engine: what the runtime, or the simulator, performs for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from crdtdb.limits import FRAME_BYTES_MAX, PART_BYTES_MIN
from crdtdb.wire.codec import encode_message
from crdtdb.wire.delta_batch import largest_in
from crdtdb.wire.messages import Ack, Message, PageMessage, Ping, Probe, Rumor
from crdtdb.wire.parts import cut


class Send(NamedTuple):
    """Send a payload over a link. If the link is gone, nothing happens."""

    link: int
    payload: bytes
    urgent: bool = False
    """Whether it may overtake what waits to be sent: a sign of life, whose order among other messages means nothing."""


class Dial(NamedTuple):
    """Connect to an address, and report `opened` or `dial_failed`."""

    address: str


class Close(NamedTuple):
    """Close a link once what was sent before has gone out."""

    link: int


class Log(NamedTuple):
    """Tell the operator. `level` is a name of the logging module."""

    level: str
    text: str


def _named(message: Message) -> str:
    return (
        largest_in(message.parcel)
        if isinstance(message, PageMessage | Rumor)
        else f"a {type(message).__name__.lower()}"
    )


_URGENT = frozenset((Ping, Ack, Probe))

Action: TypeAlias = Send | Dial | Close | Log


@dataclass(slots=True)
class Outbox:
    """Actions on their way out of the engine, and how much was sent of each kind of message."""

    actions: list[Action] = field(default_factory=list)
    sent: dict[str, list[int]] = field(default_factory=dict)
    """Kind of message -> [frames, bytes]."""
    in_parts: set[int] = field(default_factory=set)
    """The links to peers that take long messages in parts."""
    _messages: int = 0

    def send(self, link: int, message: Message) -> None:
        """Send a message over a link."""
        payload = encode_message(message)
        if len(payload) > PART_BYTES_MIN and link in self.in_parts:
            self._messages += 1
            for part in cut(self._messages, payload):
                self._send(link, type(message), encode_message(part))
        elif len(payload) <= FRAME_BYTES_MAX:
            self._send(link, type(message), payload)
        else:
            self.log(
                "ERROR",
                f"{_named(message)} can't be sent to a peer of protocol 1.3 or older: it takes {len(payload):,} bytes, and "
                f"without parts the limit is {FRAME_BYTES_MAX:,}. Upgrade the peer, or resolve the document's conflicts",
            )

    def _send(self, link: int, kind: type[Message], payload: bytes) -> None:
        counts = self.sent.setdefault(kind.__name__.lower(), [0, 0])
        counts[0] += 1
        counts[1] += len(payload) + 4
        self.actions.append(Send(link, payload, kind in _URGENT))

    def log(self, level: str, text: str) -> None:
        """Tell the operator."""
        self.actions.append(Log(level, text))

    def take(self) -> list[Action]:
        """Return what is to be done, in order, and forget it."""
        taken, self.actions = self.actions, []
        return taken
