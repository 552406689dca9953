"""The process in which JavaScript runs. It is started as a file, and imports nothing of crdtdb.

It reads requests from standard input and writes answers to standard output, until the input ends. A request is a number of
parts: the name of a context, how it is defined, what is called, and an argument for each call, all as JSON. There is an answer
for each argument: b"+" and JSON, or b"-" and why there is none: the function took too long, or too much.
"""

import resource
import struct
import sys
from collections import OrderedDict
from pathlib import Path

import quickjs

_CONTEXTS_MAX = 32
_STACK_BYTES = 512 * 1024
_BESIDE_BYTES = 512 * 1024 * 1024
_BOOTSTRAP = (Path(__file__).parent / "bootstrap.js").read_text()


def main(seconds: float, memory: int) -> None:
    """Answer requests. A call may take so many seconds of CPU; a context so many bytes."""
    # What an engine of one process may have, should its own limit fail; and nothing that it could write or start.
    resource.setrlimit(resource.RLIMIT_AS, (memory * 4 + _BESIDE_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    contexts: OrderedDict[bytes, quickjs.Context] = OrderedDict()
    while True:
        parts = _read()
        if parts is None:
            return
        name, definition, what, *arguments = parts
        for argument in arguments:
            try:
                if name not in contexts:
                    contexts[name] = _made(definition.decode(), seconds, memory)
                contexts.move_to_end(name)
                answer = contexts[name].get("__call")(what.decode(), argument.decode())
                _write(b"+" + answer.encode("utf-8", "replace"))
            except Exception as error:  # noqa: BLE001 - whatever the engine says of it is the answer
                contexts.pop(name, None)
                _write(b"-" + (str(error) or type(error).__name__).encode("utf-8", "replace"))
        while len(contexts) > _CONTEXTS_MAX:
            contexts.popitem(last=False)


def _made(definition: str, seconds: float, memory: int) -> quickjs.Context:
    context = quickjs.Context()
    context.set_memory_limit(memory)
    context.set_max_stack_size(_STACK_BYTES)
    context.eval(_BOOTSTRAP)
    context.set_time_limit(seconds)
    context.get("__define")(definition)
    return context


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
