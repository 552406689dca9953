"""Local records, such as replication checkpoints, kept beside the documents.

A record is a document in no feed and without conflicts: of two concurrent versions the highest revision wins, then the highest
digest. It carries the node clock of its writer, and a node serves it only once it covers that clock: a checkpoint that arrives
before its documents has no effect yet, and the previous version is served.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from crdtdb.canonical_json import document_text, load
from crdtdb.causality import ACTOR_BYTES, DotSet
from crdtdb.documents.replacement import clock_of
from crdtdb.documents.revisions import NO_PATH, Rev, child_digest
from crdtdb.documents.state import Body, Leaf, State
from crdtdb.documents.write_context import Write
from crdtdb.errors import EncodingError
from crdtdb.limits import LOCAL_GENERATION_MAX

LOCAL = "_local/"


class Local(NamedTuple):
    """A record: its revision, of which clients see the generation alone, and its value, None for one that was deleted."""

    rev: Rev
    value: dict[str, Any] | None
    clock: DotSet


def write_local(state: State, write: Write, generation: int, value: dict[str, Any] | None, clock: DotSet) -> State:
    """Replace all that is known of a record. `clock` is the node clock of the writer before this write."""
    seen = {actor.hex(): [list(pair) for pair in ranges] for actor, ranges in clock.items()}
    text = document_text({"clock": seen, "value": value})
    dot = write.sign()
    context = state.context.add(dot)
    rev = Rev(generation, child_digest(None, deleted=value is None, body=text))
    replaced = [leaf.clock for leaf in state.leaves.values()]
    leaf = Leaf(
        rev, NO_PATH, clock_of(replaced, (), dot, context), value is None, dot, rev, write.stamp, write.creations
    )
    return State({dot: leaf}, {dot: Body(text, write.creations)}, state.fields, context, state.journals)


def locals_in(state: State) -> list[Local]:
    """Return the records that a state holds, the winner first. What can't be read is left out."""
    found = []
    for leaf in sorted(state.leaves.values(), key=lambda leaf: leaf.rev, reverse=True):
        body = state.bodies.get(leaf.body_dot)
        record = read_local(leaf.rev, body.text) if body is not None else None
        if record is not None:
            found.append(record)
    return found


def read_local(rev: Rev, text: bytes) -> Local | None:
    """Read the text of a record, None for one that no node has written: another node may have sent anything."""
    try:
        return _read(rev, load(text))
    except (TypeError, ValueError, LookupError, AttributeError):
        return None


def check_local(rev: Rev, text: bytes) -> None:
    """Raise EncodingError for the text of a record that no node has written."""
    try:
        _read(rev, load(text))
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise EncodingError(f"a local record has the clock of its writer, and a value: {error}") from error


def _read(rev: Rev, said: Any) -> Local:
    value = said["value"]
    if rev.generation > LOCAL_GENERATION_MAX:
        raise ValueError(f"a local record has at most {LOCAL_GENERATION_MAX:,} revisions")
    if value is not None and type(value) is not dict:
        raise TypeError("the value of a local record is an object, or null")
    clock = {bytes.fromhex(actor): [(first, last) for first, last in ranges] for actor, ranges in said["clock"].items()}
    numbers = (bound for ranges in clock.values() for pair in ranges for bound in pair)
    if any(len(actor) != ACTOR_BYTES for actor in clock) or not all(type(one) is int for one in numbers):
        raise TypeError("a clock has actors, and ranges of counters")
    return Local(rev, value, DotSet.from_ranges(clock))


def served(records: Iterable[Local], clock: DotSet) -> Local | None:
    """Return the newest record, given newest first, that speaks of nothing which isn't here."""
    return next((record for record in records if record.clock <= clock), None)
