"""A cluster of real processes on loopback, with fresh certificates, for the demo and for tests."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import SystemRandom
from threading import Event
from typing import Any

from crdtdb.cli.client import NodeClient
from crdtdb.cli.demo.cables import Cables
from crdtdb.clock import monotonic_seconds
from crdtdb.errors import ConvergenceError, CrdtdbError, UnavailableError
from crdtdb.security.authority import create_authority, issue

CLIENT = "ada"


class DemoCluster:
    """Starts, kills, cuts off and asks nodes. Use it in a `with`: it ends every process that it began."""

    def __init__(
        self,
        folder: Path,
        names: Sequence[str] = ("n1", "n2", "n3"),
        backend: str = "leveldb",
        flags: Sequence[str] = (),
    ) -> None:
        """Make certificates and cables in an empty folder. `backend` is "leveldb" or "sqlite"; every node gets the `flags`."""
        self.folder, self.names, self._backend, self._flags = folder, tuple(names), backend, tuple(flags)
        self.certs = folder / "certs"
        create_authority(self.certs)
        for name in names:
            issue(self.certs, "node", name, ["127.0.0.1"])
        issue(self.certs, "client", CLIENT)
        ports = free_ports(2 * len(names))
        self.gossip = dict(zip(names, ports[::2], strict=True))
        self.http = dict(zip(names, ports[1::2], strict=True))
        self.cables = Cables()
        self._reach = {
            (one, other): self.cables.lay(one, other, self.gossip[other])
            for one in names
            for other in names
            if one != other
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._clients: dict[str, NodeClient] = {}

    def __enter__(self) -> DemoCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, name: str) -> str:
        """Return the URL of a node."""
        return f"https://127.0.0.1:{self.http[name]}"

    def log(self, name: str) -> Path:
        """Return the file with a node's log."""
        return self.folder / f"{name}.log"

    def start(
        self, name: str, join: Iterable[str] = (), file_bytes_max: int | None = None, flags: Sequence[str] = ()
    ) -> None:
        """Start a node, which joins these others, with further flags; for a full disk its files can be limited."""
        place = self.folder / name
        command = [
            *(sys.executable, "-m", "crdtdb", "node", "--name", name, "--certs", str(self.certs)),
            *("--data", str(place) if self._backend == "leveldb" else f"sqlite:{place}.db"),
            *("--listen", f"127.0.0.1:{self.gossip[name]}", "--http", f"127.0.0.1:{self.http[name]}"),
            *self._flags,
            *flags,
        ]
        for other in self.names:
            if other != name:
                command += ["--reach", f"{other}=127.0.0.1:{self._reach[name, other]}"]
        for other in join:
            command += ["--join", f"127.0.0.1:{self._reach[name, other]}"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CRDTDB_NODE_")}
        with self.log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(  # noqa: S603 - this Python, and flags of our own
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        if file_bytes_max is not None:
            resource.prlimit(self._processes[name].pid, resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

    def start_all(self) -> None:
        """Start all nodes at once; the others join the first."""
        first = self.names[0]
        for name in self.names:
            self.start(name, () if name == first else (first,))
        for name in self.names:
            self.wait_ready(name)

    def kill(self, name: str) -> None:
        """End a node with SIGKILL."""
        self._end(name, signal.SIGKILL)

    def stop(self, name: str) -> int:
        """End a node with SIGTERM; return its exit code."""
        return self._end(name, signal.SIGTERM)

    def running(self, name: str) -> bool:
        """Whether a node's process is there."""
        return name in self._processes and self._processes[name].poll() is None

    def pid(self, name: str) -> int:
        """Return the process id of a node, also after its end."""
        return self._processes[name].pid

    def reconnect(self) -> None:
        """Close the connections to all nodes, so that the next requests read the certificates again."""
        for client in self._clients.values():
            client.__exit__()
        self._clients.clear()

    def ask(self, name: str, method: str, *path: str, body: Any = None, **query: Any) -> Any:
        """Send a request to a node. Raises what the answer stands for."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = NodeClient(self.url(name), self.certs, CLIENT)
        return client.ask(method, *path, body=body, **query)

    def wait_ready(self, name: str, seconds: float = 20) -> None:
        """Wait until a node takes writes. Raises UnavailableError with the end of its log."""

        def ready() -> bool:
            if not self.running(name):
                raise UnavailableError(f"{name} has ended: {_tail(self.log(name))}")
            return bool(self.ask(name, "GET", "_up")["status"] == "ok")

        if not wait_until(ready, seconds):
            raise UnavailableError(f"{name} isn't ready after {seconds:.0f} s: {_tail(self.log(name))}")

    def digests(self, collections: Sequence[str], names: Iterable[str] | None = None) -> dict[str, dict[str, str]]:
        """Return the digest of each collection on each node."""
        return {
            collection: {name: self.ask(name, "GET", collection, "_digest")["digest"] for name in names or self.names}
            for collection in collections
        }

    def wait_equal(self, collections: Sequence[str], names: Iterable[str] | None = None, seconds: float = 30) -> None:
        """Wait until all nodes hold the same. Raises ConvergenceError if they don't in time."""
        chosen = list(names or self.names)

        def equal() -> bool:
            return all(len(set(one.values())) == 1 for one in self.digests(collections, chosen).values())

        if not wait_until(equal, seconds):
            raise ConvergenceError(f"after {seconds:.0f} s the nodes differ: {self.digests(collections, chosen)}")

    def wait_meshed(self, seconds: float = 20) -> None:
        """Wait until each node is connected with all others. Raises UnavailableError if that doesn't happen in time."""

        def meshed() -> bool:
            rosters = [self.ask(name, "GET", "_cluster")["members"] for name in self.names]
            return all(
                len(roster) == len(self.names)
                and all(member["connected"] and member["status"] == "alive" for member in roster)
                for roster in rosters
            )

        if not wait_until(meshed, seconds):
            rosters = {name: self.ask(name, "GET", "_cluster")["members"] for name in self.names}
            raise UnavailableError(f"after {seconds:.0f} s not all nodes are connected: {rosters}")

    def close(self) -> None:
        """End every process, and remove the cables."""
        self.reconnect()
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        deadline = monotonic_seconds() + 8
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - monotonic_seconds()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.cables.close()

    def _end(self, name: str, number: signal.Signals) -> int:
        process = self._processes[name]
        process.send_signal(number)
        code = process.wait(10)
        client = self._clients.pop(name, None)
        if client is not None:
            client.__exit__()
        return code


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds, asking often; errors of nodes that are down count as not yet. False in the end."""
    deadline = monotonic_seconds() + seconds
    pause = Event()
    while True:
        try:
            if condition():
                return True
        except UnavailableError as error:
            if "has ended" in str(error):
                raise
        except CrdtdbError:
            pass
        if monotonic_seconds() > deadline:
            return False
        pause.wait(0.03)


def free_ports(count: int) -> list[int]:
    """Return ports without a listener, below those that systems lend to connections going out.

    A port of that range could be taken by another connection before the node that is to have it has started.
    """
    rng = SystemRandom()
    held: dict[int, socket.socket] = {}
    try:
        while len(held) < count:
            port, one = rng.randrange(10_000, 32_000), socket.socket()
            try:
                one.bind(("127.0.0.1", port))
                held[port] = one
            except OSError:
                one.close()
        return list(held)
    finally:
        for one in held.values():
            one.close()


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-8:]) if path.exists() else "it has no log"
