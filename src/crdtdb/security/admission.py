"""Who may stay connected: open connections are bounded in all and by address, and the idle make room for the new.

A connection costs a file descriptor, and its TLS session some 50 kB, before its client is known. Refusing what comes beyond a
bound would let idle connections keep all other clients out. So the connection that was idle for longest is closed instead, of
the address that has most. A connection that is being answered is never closed for another.
"""

from __future__ import annotations

import errno
import logging
import resource
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from crdtdb.clock import monotonic_seconds
from crdtdb.errors import ConfigurationError
from crdtdb.limits import ACCEPT_PAUSE_SECONDS
from crdtdb.security.addresses import block_of

T = TypeVar("T")
_log = logging.getLogger("crdtdb.connections")
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_LOG_SECONDS = 60.0
_DESCRIPTORS_MIN = 64


class Admitted:
    """One open connection. It is idle until it says otherwise."""

    __slots__ = ("_table", "address", "close")

    def __init__(self, table: Connections, address: str, close: Callable[[], None]) -> None:
        self._table, self.address, self.close = table, address, close

    def busy(self) -> None:
        """It is being answered: it stays whatever comes."""
        self._table.mark(self, idle=False)

    def idle(self) -> None:
        """It waits for the other side: it makes room if need be."""
        self._table.mark(self, idle=True)

    def remove(self) -> None:
        """It is closed. Twice does no harm."""
        self._table.remove(self)


class Connections:
    """The open connections of one listener."""

    def __init__(self, name: str, connections_max: int, of_address_max: int) -> None:
        """`name` is for the log."""
        self._name, self._most, self._of_address_most = name, connections_max, of_address_max
        self._idle: dict[str, dict[Admitted, None]] = {}
        """By address, those that are idle for longest first."""
        self._counts: dict[str, int] = {}
        self._busy: set[Admitted] = set()
        self._seldom = Seldom()

    def __len__(self) -> int:
        return sum(self._counts.values())

    def admit(self, host: str, close: Callable[[], None]) -> Admitted | None:
        """Take a connection from a host, if need be in the place of an idle one; None if all are busy."""
        address = block_of(host)
        if self._counts.get(address, 0) >= self._of_address_most:
            crowded = self._close_idle(address)
        elif len(self) >= self._most:
            with_idle = [one for one, idle in self._idle.items() if idle]
            crowded = self._close_idle(max(with_idle, key=lambda one: self._counts[one], default=address))
        else:
            crowded = True
        if not crowded:
            self._seldom.warn("%s: connections from %s are refused: all there may be are busy", self._name, host)
            return None
        admitted = Admitted(self, address, close)
        self._counts[address] = self._counts.get(address, 0) + 1
        self._idle.setdefault(address, {})[admitted] = None
        return admitted

    def _close_idle(self, address: str) -> bool:
        """Close the connection of an address that was idle for longest; return whether there was one."""
        oldest = next(iter(self._idle.get(address, ())), None)
        if oldest is None:
            return False
        self._seldom.warn("%s: closing idle connections of %s: there are too many", self._name, address)
        self.remove(oldest)
        oldest.close()
        return True

    def mark(self, admitted: Admitted, idle: bool) -> None:
        """Note whether a connection waits for its other side."""
        was_idle = self._idle.get(admitted.address, {}).pop(admitted, False) is None
        if not was_idle and admitted not in self._busy:
            return  # closed by now
        self._busy.discard(admitted)
        if idle:
            self._idle[admitted.address][admitted] = None
        else:
            self._busy.add(admitted)

    def remove(self, admitted: Admitted) -> None:
        """Forget a connection. Twice does no harm."""
        address = admitted.address
        was_idle = self._idle.get(address, {}).pop(admitted, False) is None
        if not was_idle and admitted not in self._busy:
            return
        self._busy.discard(admitted)
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address], self._idle[address]


class Seldom:
    """Writes warnings of one kind to the log at most once a minute: a flood must not fill the disk."""

    def __init__(self) -> None:
        self._next = 0.0

    def warn(self, text: str, *values: object) -> None:
        """Write a warning, unless there was one within the minute."""
        if monotonic_seconds() >= self._next:
            self._next = monotonic_seconds() + _LOG_SECONDS
            _log.warning(text, *values)


async def accept_all(name: str, accept: Callable[[], Awaitable[T]], take: Callable[[T], None]) -> None:
    """Accept connections until cancelled, whatever goes wrong: without file descriptors it pauses and tries again."""
    seldom = Seldom()
    while True:
        try:
            accepted = await accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                seldom.warn("%s: no connection can be accepted for now: %s", name, error.strerror)
            await anyio.sleep(ACCEPT_PAUSE_SECONDS)
            continue
        take(accepted)


def raise_descriptor_limit() -> None:
    """Let this process open as many files and sockets as it may at most. Raises ConfigurationError if that is too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS_MIN:
        raise ConfigurationError(f"`ulimit -n` allows {hard} open files, a node needs at least {_DESCRIPTORS_MIN}")


def connections_within(most: int) -> int:
    """Return how many connections a listener may have: at most a quarter of the open files that the process may have.

    There are two listeners, and the store needs files of its own: if it can't open one, the node ends.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else max(1, min(most, soft // 4))
