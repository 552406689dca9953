"""A store belongs to the process that opened it: what becomes of open objects in a forked child. Rule 17.

A forked child has a copy of all that its parent had open, and shares the open files, locks and sockets with it, but has none
of its threads. Using the copy would write into the parent's files behind its back, or wait for a lock whose owner isn't there.
So objects that belong to a process register here, and each fork turns the child's copies, in place, into objects that raise
ForkedError whatever is called on them. That costs nothing until there is a fork, and no way into a store can be forgotten.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from types import new_class
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from crdtdb.errors import ForkedError

T = TypeVar("T")

_HARMLESS = frozenset({"__class__", "__exit__", "__aexit__", "close", "aclose"})


class Process:
    """A process, and whether the code that asks runs in a forked child of it."""

    __slots__ = ("forked", "pid")

    def __init__(self) -> None:
        self.pid, self.forked = os.getpid(), False

    def check(self) -> None:
        """Raise ForkedError in a child that was forked since."""
        if self.forked:
            raise ForkedError(self.pid, os.getpid())


_process = Process()
_owned: WeakKeyDictionary[Any, Callable[[Any], None] | None] = WeakKeyDictionary()


def current() -> Process:
    """Return the process that runs now."""
    return _process


def own(thing: T, leave: Callable[[T], None] | None = None) -> None:
    """Let a forked child's copy of `thing` raise ForkedError at every use; closing it does nothing there.

    `leave` is called in the child before, to drop what it shares with the parent. It must not wait for any lock.
    """
    _owned[thing] = leave


def never_free(handle: object) -> None:
    """Keep an object for as long as this process runs, its end included: its destructor would act on what is the parent's."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))


def drop_socket(descriptor: int) -> None:
    """Put nothing in the place of a socket that a forked child shares with its parent: what is sent there goes nowhere.

    The number stays taken. The parent's connection or port lives on, and isn't kept open by the child.
    """
    if descriptor < 0:
        return  # it is closed
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


def in_this_process(rows: Iterable[T]) -> Iterator[T]:
    """Yield the rows, and raise ForkedError where a forked child goes on with them."""
    process = _process
    for row in rows:
        yield row
        process.check()


def _refuse(thing: Any, name: str) -> Any:
    if name not in _HARMLESS:
        raise ForkedError(object.__getattribute__(thing, "_owner_pid"), os.getpid())
    return object.__getattribute__(thing, name)


def _refuse_entry(thing: Any) -> Any:
    return thing.__enter__


def _nothing(*_: object) -> None:
    """Do nothing: the parent closes what it opened."""


async def _nothing_to_await(*_: object) -> None:
    """Do nothing: the parent closes what it opened."""


def _described(thing: Any) -> str:
    owner = object.__getattribute__(thing, "_owner_pid")
    return f"<{type(thing).__name__} of process {owner}, from which this one was forked>"


def _refusing(kind: type) -> type:
    """Return a class for the objects of another in a forked child. They can change to it, as it has that alone as its base."""
    body = {
        "__slots__": (),
        "__getattribute__": _refuse,
        "__repr__": _described,
        "__enter__": _refuse_entry,
        "__exit__": _nothing,
        "__aexit__": _nothing_to_await,
        "close": _nothing,
        "aclose": _nothing_to_await,
    }
    return new_class(kind.__name__, (kind,), exec_body=lambda namespace: namespace.update(body))


def _after_fork_in_child() -> None:
    global _process
    parent, _process = _process, Process()
    parent.forked = True
    kinds: dict[type, type] = {}
    failed: list[Exception] = []
    for thing, leave in list(_owned.items()):
        try:
            if leave is not None:
                leave(thing)
        except Exception as error:  # noqa: BLE001 - the others refuse, too, and then it is raised
            failed.append(error)
        kind = type(thing)
        if kind not in kinds:
            kinds[kind] = _refusing(kind)
        object.__setattr__(thing, "_owner_pid", parent.pid)
        object.__setattr__(thing, "__class__", kinds[kind])
    _owned.clear()
    if failed:
        raise ExceptionGroup("what a forked child shares with its parent could not be dropped", failed)


os.register_at_fork(after_in_child=_after_fork_in_child)
