"""The one place where tests reach what isn't public, each thing by a name of its own.

A test that needs one of these looks at how something is kept, not at what it promises. What is here may change with the
code under it, and nothing else in the tests has to.
"""

from __future__ import annotations

from typing import Any

from crdtdb.backends import leveldb
from crdtdb.store.open_sequences import OpenSequences


def attempts_of(owner: Any) -> Any:
    """Return the members that a dialer tries, and when."""
    return owner._attempts


def backend_of(owner: Any) -> Any:
    """Return the backend under a store: what it reads and writes there goes around every rule."""
    return owner._backend


def child_of(owner: Any) -> Any:
    """Return the child under a process of JavaScript."""
    return owner._child


def committer_of(owner: Any) -> Any:
    """Return the group commit of a store."""
    return owner._committer


def connection_of(owner: Any) -> Any:
    """Return the connection of a backend to SQLite."""
    return owner._connection


def deliver_of(owner: Any) -> Any:
    """Return the function with which a simulated network delivers a frame."""
    return owner._deliver


def engine_of(owner: Any) -> Any:
    """Return the engine under a node's cluster."""
    return owner._engine


def failed_of(owner: Any) -> Any:
    """Return the failed attempts to log in that are remembered."""
    return owner._failed


def hand_over_of(owner: Any) -> Any:
    """Return the step with which a group commit is handed to its thread."""
    return owner._hand_over


def ids_of(owner: Any) -> Any:
    """Return the actors by which locks know their members."""
    return owner._ids


def index_of(owner: Any) -> Any:
    """Return the index under a view."""
    return owner._index


def large_patterns(owner: Any) -> Any:
    """Return the lock under which patterns are matched against large texts."""
    return owner._large


def roster_digest(owner: Any) -> Any:
    """Return the digest of the roster by which locks are asked."""
    return owner._digest


def rows_of_disk(owner: Any) -> Any:
    """Return the rows of a virtual disk."""
    return owner._rows


def sequences_of(owner: Any) -> Any:
    """Return the texts and lists that a store holds open."""
    return owner._sequences


def store_of(owner: Any) -> Any:
    """Return the store under a collection."""
    return owner._store


def synced_of(owner: Any) -> Any:
    """Return what a virtual disk would keep after a loss of power."""
    return owner._synced


def types_of(owner: Any) -> Any:
    """Return the types that a catalogue of fields holds."""
    return owner._TYPES


def view_processes(owner: Any) -> Any:
    """Return the processes that run map and reduce functions."""
    return owner._views


def voter_of(owner: Any) -> Any:
    """Return the votes that a node has promised."""
    return owner._voter


def waiting_of(owner: Any) -> Any:
    """Return the writes that wait for the next group commit."""
    return owner._waiting


def forget_sequences(store: Any) -> None:
    """Let a store hold no text or list open."""
    store._reader._sequences = OpenSequences()


def set_wall(store: Any, wall: Any) -> None:
    """Let a store read the time from `wall`."""
    store._wall = store.collector._wall = wall


def set_synced(disk: Any, rows: Any) -> None:
    """Let a virtual disk keep `rows` after a loss of power."""
    disk._synced = rows


def deliver_by(world: Any, deliver: Any) -> None:
    """Let a simulated network deliver frames by another function."""
    world._deliver = deliver


def deliver_all(world: Any) -> None:
    """Let a simulated network deliver frames by its own function again."""
    del world._deliver


def hand_over_by(commits: Any, hand_over: Any) -> None:
    """Let a group commit be handed to its thread by another function."""
    commits._hand_over = hand_over


def forget_the_fork() -> None:
    """Let LevelDB be opened in a forked child as in a process that isn't one."""
    leveldb._inherited = False


def session_of(owner: Any) -> Any:
    """Return the session of a store: its identity and its tag."""
    return owner._session


def core_of(owner: Any) -> Any:
    """Return what the faces of a store share."""
    return owner._core


def wall_of(owner: Any) -> Any:
    """Return the clock of the wall that a store reads."""
    return owner._wall
