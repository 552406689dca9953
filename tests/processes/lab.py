"""A network of its own for each node: namespaces joined by a switch in this process that delays, loses and cuts.

Each namespace has one tunnel device, and the switch moves IP packets between them. So it needs root and /dev/net/tun, and no
module for traffic control in the kernel. The machine's own network stays as it is: whoever wants to talk to a node does so
from a namespace, too, in a thread that has entered it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import selectors
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TypeVar

_T = TypeVar("_T")

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_PACKETS_MAX = 20_000


def why_impossible() -> str | None:
    """Return why there can be no lab here, None if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root, which no package brings"
    if not os.access("/dev/net/tun", os.W_OK):
        return "there is no /dev/net/tun, which no package brings"
    if subprocess.run(["which", "ip"], capture_output=True, check=False).returncode:
        return "there is no `ip`: install iproute2"
    return None


class Lab:
    """Namespaces by name, each with an address. Use it in a `with`."""

    def __init__(self, names: list[str], seed: int) -> None:
        """Make the namespaces, and begin to switch. Nothing is lost or late yet."""
        self._dice = Random(seed)
        self._prefix = f"crdtdb{os.getpid()}"
        self.addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
        self._names = {address: name for name, address in self.addresses.items()}
        self.delay = (0.0, 0.0)
        """The least and the most that a packet takes, in seconds."""
        self.loss = 0.0
        self.cut: set[frozenset[str]] = set()
        """Pairs that can't hear each other."""
        self.packets = self.lost = 0
        self._fds: dict[int, str] = {}
        self._stopping = False
        self._switch = threading.Thread(target=self._run, daemon=True)
        try:
            for number, name in enumerate(names, 1):
                self._add(number, name)
        except BaseException:
            self.close()
            raise
        self._switch.start()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def command(self, name: str, *command: str) -> list[str]:
        """Return a command that runs another in a namespace."""
        return ["ip", "netns", "exec", self._namespace(name), *command]

    def inside(self, name: str, work: Callable[[], _T]) -> _T:
        """Do something in a namespace: in a thread that has entered it, so that its sockets are there."""
        found: list[_T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                self.enter(name)
                found.append(work())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]

    def enter(self, name: str) -> None:
        """Let the calling thread, and what it opens from now on, be in a namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(f"/run/netns/{self._namespace(name)}", os.O_RDONLY)
        try:
            if libc.setns(descriptor, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Take it all away."""
        self._stopping = True
        if self._switch.is_alive():
            self._switch.join()
        for descriptor in self._fds:
            os.close(descriptor)
        self._fds = {}
        for name in self.addresses:
            if Path(f"/run/netns/{self._namespace(name)}").exists():
                _ip("netns", "delete", self._namespace(name))

    def _namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def _add(self, number: int, name: str) -> None:
        namespace, device = self._namespace(name), f"ct{os.getpid() % 100_000}n{number}"
        _ip("netns", "add", namespace)
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        self._fds[descriptor] = name
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", device.encode(), _IFF_TUN | _IFF_NO_PI))
        _ip("link", "set", device, "netns", namespace)
        for words in (
            ("addr", "add", f"{self.addresses[name]}/24", "dev", device),
            ("link", "set", device, "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-netns", namespace, *words)

    def _run(self) -> None:
        ways = {name: descriptor for descriptor, name in self._fds.items()}
        waiting: list[tuple[float, int, int, bytes]] = []
        with selectors.DefaultSelector() as selector:
            for descriptor in self._fds:
                selector.register(descriptor, selectors.EVENT_READ)
            while not self._stopping:
                pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 0.05
                for key, _ in selector.select(min(pause, 0.05)):
                    self._read(key.fd, ways, waiting)
                while waiting and waiting[0][0] <= time.monotonic():
                    _, _, descriptor, packet = heapq.heappop(waiting)
                    _write(descriptor, packet)

    def _read(self, descriptor: int, ways: dict[str, int], waiting: list[tuple[float, int, int, bytes]]) -> None:
        for _ in range(64):
            try:
                packet = os.read(descriptor, 2048)
            except BlockingIOError:
                return
            if packet[:1] != b"E":
                continue  # not IPv4 without options
            source, target = self._fds[descriptor], self._names.get(".".join(map(str, packet[16:20])))
            if target is None or frozenset((source, target)) in self.cut:
                continue
            self.packets += 1
            if self._dice.random() < self.loss or len(waiting) > _PACKETS_MAX:
                self.lost += 1
                continue
            due = time.monotonic() + self._dice.uniform(*self.delay)
            heapq.heappush(waiting, (due, self.packets, ways[target], packet))


def _write(descriptor: int, packet: bytes) -> None:
    with contextlib.suppress(OSError):  # a full queue, or a device that is down: a packet less
        os.write(descriptor, packet)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
