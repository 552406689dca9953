"""The boundary of failures: where an error ends that a peer's frame or a replicated document has caused.

An error out of a frame closes the link that the frame came over, whatever kind of error it is, and for a while no connection
with that peer is kept, longer each time. The peer is the name that its certificate proves, not one that a frame merely says:
only a holder of a node's key can have that node kept out. An error out of a duty of the node itself ends that run of the duty,
which is tried again later. Both are logged with who or what it was. A StoreError passes: this node's own disk has failed, and
the node ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crdtdb.cluster.engine.actions import Outbox
from crdtdb.cluster.engine.links import Link, Links
from crdtdb.errors import CrdtdbError, ProtocolError, StoreError
from crdtdb.limits import HOLD_OFF_SECONDS_FIRST, HOLD_OFF_SECONDS_MAX, REASON_CHARACTERS_MAX

if TYPE_CHECKING:
    from types import TracebackType

_DUTY_PAUSE_SECONDS = 10.0


@dataclass(slots=True)
class _HoldOff:
    """How often in a row a peer's frames were refused, and until when it is kept out."""

    times: int
    until: float


class Boundary:
    """Contains what goes wrong while frames are handled and duties are done."""

    def __init__(self, links: Links, outbox: Outbox) -> None:
        self._links, self._outbox = links, outbox
        self._held_off: dict[str, _HoldOff] = {}
        self._paused: dict[str, float] = {}
        self.refused: dict[str, int] = {}
        """Frames that were refused for what they said, by the name of the peer."""
        self.faults: list[str] = []
        """Unexpected errors, the newest last: each of them is a fault of crdtdb."""

    def frame(self, link: Link, act: Callable[[], None], now: float) -> None:
        """Handle what came over a link, or what is due on it; on an error close the link, and keep the peer out for a while.

        A message that is merely out of place costs the link alone. Raises StoreError.
        """
        try:
            act()
        except StoreError:
            raise
        except ProtocolError as error:
            self._links.close(link, now, f"closing the connection with {link}: {error}")
        except Exception as error:  # noqa: BLE001 - whatever a frame brings about must not end the node
            self._refuse(link, error, now)

    def duty(self, what: str, act: Callable[[], object], now: float) -> bool:
        """Do what is due, unless it failed a moment ago; return whether it says that there is more. Raises StoreError."""
        if now < self._paused.get(what, now):
            return False
        try:
            return bool(act())
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - what it read came from others
            self._paused[what] = now + _DUTY_PAUSE_SECONDS
            self._outbox.log(
                "ERROR", f"{what} failed, trying again in {_DUTY_PAUSE_SECONDS:.0f} s: {self._said(error)}"
            )
            return False

    def held_off(self, name: str, now: float) -> float:
        """Return for how many seconds no connection with a peer is kept, 0 if one is."""
        entry = self._held_off.get(name)
        return max(0.0, entry.until - now) if entry is not None else 0.0

    def names_held_off(self, now: float) -> set[str]:
        """Return the names of the peers that are kept out."""
        return {name for name, entry in self._held_off.items() if entry.until > now}

    def _refuse(self, link: Link, error: Exception, now: float) -> None:
        name = link.peer or (link.certified.name if link.certified is not None else None)
        why = self._said(error)
        if name is None:
            self._links.close(link, now, f"closing the connection with {link}: {why}")
            return
        entry = self._held_off.get(name)
        lately = entry is not None and now < entry.until + HOLD_OFF_SECONDS_MAX
        times = entry.times + 1 if entry is not None and lately else 1
        pause = min(HOLD_OFF_SECONDS_FIRST * 2.0 ** min(times - 1, 30), HOLD_OFF_SECONDS_MAX)
        self._held_off[name] = _HoldOff(times, now + pause)
        self.refused[name] = self.refused.get(name, 0) + 1
        self._links.close(
            link, now, f"refused a frame of {link}, closing the connection and keeping it out for {pause:.0f} s: {why}"
        )
        for other in self._links.all():
            if other.peer == name:
                self._links.close(other, now)

    def _said(self, error: Exception) -> str:
        """Return an error in words. An unexpected one comes with its place in the code, and is kept as a fault."""
        if isinstance(error, CrdtdbError):
            return str(error)[:REASON_CHARACTERS_MAX]
        said = f"{type(error).__name__}: {error}"[:REASON_CHARACTERS_MAX] + f" (at {_place(error.__traceback__)})"
        self.faults = [*self.faults[-99:], said]
        return said


def _place(trace: TracebackType | None) -> str:
    """Return where an error was raised, as the module and the line."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}" if trace is not None else "?"
