"""One process in which JavaScript runs: requests to it, answers from it, and its end if they don't come."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from struct import Struct

from crdtdb.clock import monotonic_seconds
from crdtdb.errors import ScriptError, ScriptingMissingError
from crdtdb.limits import SCRIPT_MEMORY_BYTES_MAX, SCRIPT_SECONDS_MAX

_WORKER = Path(__file__).with_name("worker.py")
_size = Struct(">I")
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_PATIENCE = 4.0
"""How many times as long as its CPU time a call may take: the machine may be busy. The process itself counts CPU."""
_GRACE_SECONDS = 5.0
_START_SECONDS = 30.0
_END_SECONDS = 2.0
_READ_BYTES = 256 * 1024


def _engine_folder() -> str:
    """Return the folder with the engine: the process looks for it nowhere else."""
    found = find_spec("_quickjs")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent)


def check_installed() -> None:
    """Raise ScriptingMissingError if there is no engine."""
    if find_spec("quickjs") is None:
        raise ScriptingMissingError(
            "JavaScript of design documents needs its engine: pip install 'crdtdb[javascript]', and start the node again"
        )


class Process:
    """A child process. One thread at a time may use it."""

    def __init__(self, seconds: float = SCRIPT_SECONDS_MAX, memory: int = SCRIPT_MEMORY_BYTES_MAX) -> None:
        """Start it. A call may take so many seconds of CPU, and a function hold so many bytes. Raises ScriptingMissingError."""
        check_installed()
        self._patience = seconds * _PATIENCE + _GRACE_SECONDS
        self._buffer = bytearray()
        self.layers: tuple[str, ...] = ()
        """What holds the process, once it was called: see `sandbox.py`."""
        try:
            # A session of its own: Ctrl-C is for the node, which then ends its processes itself.
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_WORKER), str(seconds), str(memory), _engine_folder()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env={"TZ": "UTC0"},  # or dates would ask for a file, and differ from node to node
            )
        except OSError as error:
            raise ScriptError(f"its process can't be started: {error.strerror}") from error

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self._child.poll() is None

    def call(self, name: bytes, definition: bytes, what: bytes, arguments: Sequence[bytes]) -> Iterator[bytes | str]:
        """Call a function with each of some arguments; yield an answer for each: JSON, or why there is none.

        Raises ScriptError if the process ended, or had to be ended.
        """
        parts = (name, definition, what, *arguments)
        request = _size.pack(len(parts)) + b"".join(_size.pack(len(part)) + part for part in parts)
        sent, buffer = 0, self._buffer
        view = memoryview(request)
        if not self.layers:
            self._wait_until_started()
        for _ in arguments:
            deadline = monotonic_seconds() + self._patience
            while (answer := _taken(buffer)) is None:
                sent += self._exchange(view[sent:], buffer, deadline)
            yield answer[1:] if answer[:1] == b"+" else answer[1:].decode("utf-8", "replace")

    def _wait_until_started(self) -> None:
        """Read what the process says first: what holds it. Raises ScriptError if it doesn't come."""
        deadline = monotonic_seconds() + _START_SECONDS
        while (said := _taken(self._buffer)) is None:
            self._exchange(memoryview(b""), self._buffer, deadline)
        self.layers = tuple(said[1:].decode("ascii", "replace").split(","))

    def _exchange(self, rest: memoryview, buffer: bytearray, deadline: float) -> int:
        """Write and read what is possible; return how many bytes of the request were taken."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        source, target = self._child.stdout.fileno(), self._child.stdin.fileno()
        left = deadline - monotonic_seconds()
        poll = select.poll()  # select itself takes no descriptors above 1,023, and a node has many connections
        poll.register(source, select.POLLIN)
        if rest:
            poll.register(target, select.POLLOUT)
        ready = {descriptor for descriptor, _ in poll.poll(max(0.0, left * 1000))}
        readable, writable = source in ready, target in ready
        if readable:
            data = os.read(source, _READ_BYTES)
            buffer += data
            if not data:
                with suppress(subprocess.TimeoutExpired):
                    self._child.wait(_END_SECONDS)  # it closed its output: it ends by itself
            if not data or len(buffer) > _ANSWER_BYTES_MAX:
                self.end()
                raise ScriptError(
                    self._why_ended() if not data else f"its answer has more than {_ANSWER_BYTES_MAX:,} bytes"
                )
        if writable:
            try:
                # As much as a pipe surely takes at once: more might wait for a child that waits to be read.
                return os.write(target, rest[: select.PIPE_BUF])
            except BrokenPipeError as error:
                self.end()
                raise ScriptError(self._why_ended()) from error
        if not readable and not writable and left <= 0:
            self.end()
            raise ScriptError(f"it took too long, and was ended after {self._patience:.0f} s")
        return 0

    def _why_ended(self) -> str:
        """Return why the process ended by itself, in words."""
        if self._child.returncode == -signal.SIGPROF:
            return "it took too long, and was stopped"
        return "its process ended: it held too much, or was killed"

    def kill(self) -> None:
        """Kill the process, though it may be in use: a caller that waits for an answer gets a ScriptError."""
        self._child.kill()

    def end(self) -> None:
        """End the process, at once. Twice does no harm."""
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._child.wait()


def _taken(buffer: bytearray) -> bytes | None:
    """Take an answer from what was read, None if it isn't whole yet."""
    if len(buffer) < _size.size:
        return None
    (size,) = _size.unpack_from(buffer)
    if len(buffer) < _size.size + size:
        return None
    answer = bytes(buffer[_size.size : _size.size + size])
    del buffer[: _size.size + size]
    return answer
