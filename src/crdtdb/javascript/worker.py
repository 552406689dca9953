"""The process in which JavaScript runs. It is started as a file, and imports nothing of crdtdb.

It says first what holds it (`sandbox.py`), then reads requests from standard input and writes answers to standard output, until
the input ends. A request is a number of parts: the name of a context, how it is defined, what is called, and an argument for
each call, all as JSON. There is an answer for each argument: b"+" and JSON, or b"-" and why there is none: the function took
too long, or too much.
"""

import re
import signal
import struct
import sys
from collections import OrderedDict
from pathlib import Path

sys.path += [str(Path(__file__).parent), sys.argv[3]]

import _quickjs
import sandbox  # type: ignore[import-not-found]

_CONTEXTS_MAX = 32
_STACK_BYTES = 512 * 1024
_BESIDE_BYTES = 512 * 1024 * 1024
_BOOTSTRAP = (Path(__file__).parent / "bootstrap.js").read_text()
_ESCAPE = re.compile(rb"\\(u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL)
"""An escape of JSON. `JSON.stringify` escapes of surrogates only those that are alone: half a character, which no UTF-8 has."""
_KILL_FACTOR, _KILL_SECONDS = 1.25, 0.05
"""So much later than the engine itself does the kernel stop a call: the engine doesn't look at its clock in all it does."""


def main(seconds: float, memory: int) -> None:
    """Answer requests. A call may take so many seconds of CPU; a context so many bytes."""
    layers = sandbox.enter(memory * 4 + _BESIDE_BYTES)
    _write(b"=" + ",".join(layers).encode())
    contexts: OrderedDict[bytes, tuple[_quickjs.Context, _quickjs.Object]] = OrderedDict()
    while True:
        parts = _read()
        if parts is None:
            return
        name, definition, what, *arguments = parts
        for argument in arguments:
            # The signal kills, since it has no handler: nothing in this process can delay it.
            signal.setitimer(signal.ITIMER_PROF, seconds * _KILL_FACTOR + _KILL_SECONDS)
            try:
                if name not in contexts:
                    contexts[name] = _made(definition.decode(), seconds, memory)
                contexts.move_to_end(name)
                answer = b"+" + _whole(contexts[name][1](what.decode(), argument.decode()))
            except Exception as error:  # noqa: BLE001 - whatever the engine says of it is the answer
                contexts.pop(name, None)
                answer = b"-" + (str(error) or type(error).__name__).encode("utf-8", "replace")
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            _write(answer)
        while len(contexts) > _CONTEXTS_MAX:
            contexts.popitem(last=False)


def _made(definition: str, seconds: float, memory: int) -> "tuple[_quickjs.Context, _quickjs.Object]":
    """Return a context, and what calls its function: taken before the function could put something else in its place."""
    context = _quickjs.Context()
    context.set_memory_limit(memory)
    context.set_max_stack_size(_STACK_BYTES)
    context.eval(_BOOTSTRAP)
    context.set_time_limit(seconds)
    call = context.get("__call")
    context.get("__define")(definition)
    return context, call


def _whole(answer: object) -> bytes:
    """Return an answer with U+FFFD for each half of a character, as JavaScript's own `toWellFormed` has it."""
    if not isinstance(answer, str):
        raise TypeError("its answer isn't JSON")
    return _ESCAPE.sub(_well_formed, answer.encode("utf-8", "replace"))


def _well_formed(escape: "re.Match[bytes]") -> bytes:
    return "\ufffd".encode() if len(escape[1]) > 1 else escape[0]


def _read() -> list[bytes] | None:
    head = sys.stdin.buffer.read(4)
    if len(head) < 4:
        return None
    parts = []
    for _ in range(struct.unpack(">I", head)[0]):
        (size,) = struct.unpack(">I", sys.stdin.buffer.read(4))
        parts.append(sys.stdin.buffer.read(size))
    return parts


def _write(answer: bytes) -> None:
    sys.stdout.buffer.write(struct.pack(">I", len(answer)) + answer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
