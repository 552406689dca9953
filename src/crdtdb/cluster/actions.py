"""What the engine wants done: its actions, on their way to whoever performs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from crdtdb.limits import FRAME_BYTES_MAX
from crdtdb.wire.codec import encode_message
from crdtdb.wire.messages import Message


class Send(NamedTuple):
    """Send a payload over a link. If the link is gone, nothing happens."""

    link: int
    payload: bytes


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


Action: TypeAlias = Send | Dial | Close | Log


@dataclass(slots=True)
class Outbox:
    """Actions on their way out of the engine, and how much was sent of each kind of message."""

    actions: list[Action] = field(default_factory=list)
    sent: dict[str, list[int]] = field(default_factory=dict)
    """Kind of message -> [messages, bytes]."""

    def send(self, link: int, message: Message) -> None:
        """Send a message over a link."""
        payload = encode_message(message)
        if len(payload) > FRAME_BYTES_MAX:
            self.log(
                "ERROR",
                f"a message of {len(payload):,} bytes can't be sent, the limit is {FRAME_BYTES_MAX:,}: "
                "resolve the conflicts of your largest documents (crdtdb conflicts)",
            )
            return
        counts = self.sent.setdefault(type(message).__name__.lower(), [0, 0])
        counts[0] += 1
        counts[1] += len(payload) + 4
        self.actions.append(Send(link, payload))

    def log(self, level: str, text: str) -> None:
        """Tell the operator."""
        self.actions.append(Log(level, text))

    def take(self) -> list[Action]:
        """Return what is to be done, in order, and forget it."""
        taken, self.actions = self.actions, []
        return taken
