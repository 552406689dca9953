"""Virtual disk and network with seeded faults: lost, repeated, reordered data."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random

from crdtdb.backends.memory import MemoryBackend
from crdtdb.backends.protocol import Batch, Capabilities, Snapshot
from crdtdb.errors import StoreClosedError, StoreFullError


class VirtualDisk:
    """Outlives the backends that are opened on it, with as much as a kill leaves."""

    def __init__(self, place: str | None = None) -> None:
        """`place` distinguishes a copy from the original."""
        self.place = place
        self._synced: dict[bytes, bytes] = {}
        self._log: list[Batch] = []
        self.full_in: int | None = None
        """After so many further writes the disk is full, for one write."""
        self.syncs = 0
        self.lies = False
        """Whether it says that it synced when it didn't."""

    def copy(self, place: str | None) -> VirtualDisk:
        """Return a disk with all that is on this one now, synced or not."""
        copied = VirtualDisk(place)
        copied._synced = dict(self._synced)
        for batch in self._log:
            copied._log.append(dict(batch))
        copied._keep(len(copied._log))
        return copied

    def open(self) -> VirtualBackend:
        """Mount it."""
        rows = MemoryBackend()
        rows.write(self._synced, durable=True)
        for batch in self._log:
            rows.write(batch, durable=True)
        return VirtualBackend(self, rows)

    def append(self, batch: Batch, durable: bool) -> None:
        """Take a batch of the backend."""
        if self.full_in is not None:
            self.full_in -= 1
            if self.full_in < 0:
                self.full_in = None
                raise StoreFullError("the virtual disk is full")
        self._log.append(batch)
        if durable:
            self.sync()

    def sync(self) -> None:
        """Keep everything for good."""
        if not self.lies:
            self._keep(len(self._log))
        self.syncs += 1

    def lose(self, rng: Random) -> None:
        """The power goes: of what wasn't synced a part may have reached the disk, in the order of writing."""
        self._keep(rng.randint(0, len(self._log)))
        self._log = []

    def _keep(self, batches: int) -> None:
        for batch in self._log[:batches]:
            for key, value in batch.items():
                if value is None:
                    self._synced.pop(key, None)
                else:
                    self._synced[key] = value
        del self._log[:batches]


class VirtualBackend:
    """A backend on a virtual disk."""

    def __init__(self, disk: VirtualDisk, rows: MemoryBackend) -> None:
        self._disk, self._rows = disk, rows
        self.dead = False

    @classmethod
    def open(cls, location: str) -> VirtualBackend:  # noqa: ARG003
        """Open an exclusive one."""
        return VirtualDisk().open()

    @property
    def capabilities(self) -> Capabilities:
        """Durable within its virtual world."""
        return Capabilities("virtual", durable=True, place=self._disk.place)

    def get(self, key: bytes) -> bytes | None:
        """Return a value."""
        return self._rows.get(key)

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield a range."""
        return self._rows.scan(start, stop, reverse=reverse)

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Apply a batch."""
        if self.dead:
            raise StoreClosedError("the virtual machine is off")
        self._disk.append(dict(batch), durable)
        self._rows.write(batch, durable=durable)

    def flush(self) -> None:
        """Sync the disk."""
        self._disk.sync()

    def size(self) -> None:
        """Nothing lies on a real disk."""

    def snapshot(self) -> Snapshot:
        """Return the rows as they are."""
        return self._rows.snapshot()

    def close(self) -> None:
        """Sync and unmount."""
        if not self.dead:
            self._disk.sync()
        self._rows.close()


@dataclass(order=True)
class _Event:
    at: float
    order: int
    act: Callable[[], None] = field(compare=False)


class Timeline:
    """Virtual time: a heap of what is going to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[_Event] = []
        self._orders = count()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Let something happen later."""
        heapq.heappush(self._events, _Event(self.now + seconds, next(self._orders), act))

    def run(self, until: float, enough: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass until a moment, or until there is enough; return whether there is."""
        while self._events and self._events[0].at <= until:
            event = heapq.heappop(self._events)
            self.now = event.at
            event.act()
            if enough():
                return True
        self.now = max(self.now, until)
        return False


@dataclass
class Weather:
    """How bad the network is: probabilities for each frame, and seconds of delay."""

    loss: float = 0.0
    doubling: float = 0.0
    delay: float = 0.005
    cut: set[frozenset[str]] = field(default_factory=set)
    """Pairs of nodes between which nothing passes."""

    def passes(self, one: str, other: str) -> bool:
        """Whether anything can go between two nodes."""
        return frozenset((one, other)) not in self.cut
