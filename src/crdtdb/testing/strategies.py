"""Hypothesis strategies: JSON, dot sets and histories of replicas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from hypothesis import strategies as st

from crdtdb.causality import Dot, DotSet
from crdtdb.documents import State, view
from crdtdb.errors import ConflictError
from crdtdb.testing.replicas import Replica

NAMES = ("ada", "bob", "cy", "dan")


def json_values(leaves_max: int = 12) -> st.SearchStrategy[object]:
    """Any JSON value that crdtdb keeps."""
    scalars = (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text()
    )
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=leaves_max,
    )


def dots() -> st.SearchStrategy[Dot]:
    """Dots of three actors with small counters, so that sets of them meet."""
    return st.builds(Dot, st.sampled_from([b"A" * 16, b"B" * 16, b"C" * 16]), st.integers(1, 24))


def dot_sets() -> st.SearchStrategy[DotSet]:
    """Sets of such dots."""
    return st.lists(dots(), max_size=24).map(DotSet.of)


@dataclass
class Written:
    """One write as it happened: the state of its replica before and after."""

    replica: str
    what: str
    before: State
    after: State
    seen: State | None = None
    """What its author had looked at, if that isn't what was there."""


@dataclass
class History:
    """A random program of writes and deliveries on one document, played on the pure core."""

    replicas: dict[str, Replica] = field(default_factory=lambda: {name: Replica(name) for name in NAMES})
    written: list[Written] = field(default_factory=list)
    looked: dict[str, State] = field(default_factory=dict)

    def states(self) -> list[State]:
        """Return every state that a write left, and where each replica is now."""
        return [one.after for one in self.written] + [replica.state() for replica in self.replicas.values()]


_WRITES = ["put"] * 4 + ["delete"] * 3 + ["increment"] * 4 + ["look"] * 2 + ["resolve_seen"] * 2 + ["resolve"]

_STEPS = st.tuples(
    st.sampled_from([*_WRITES, *["hear"] * 5, "hear all"]),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.integers(0, 5),
    st.integers(0, 2),
)
_Step = tuple[str, str, str, int, int]


@st.composite
def histories(draw: st.DrawFn, steps_max: int = 24) -> History:
    """Draw a history. Bodies are few, so that equal edits happen; any sibling may be the one written on."""
    return _played(NAMES, draw(st.lists(_STEPS, max_size=steps_max)))


def history_of(seed: int) -> History:
    """Return the history of a seed: longer than those of Hypothesis, in rounds of writes that don't know each other.

    What takes three such writes, as a body that only a deleted leaf still has, comes about once in a hundred seeds.
    """
    rng, names = Random(seed), NAMES[:3]  # noqa: S311
    steps: list[_Step] = []
    for _ in range(6):
        kinds = rng.choices(_WRITES, k=rng.randint(2, 5)) + ["hear"] * rng.randint(0, 3)
        steps += [(what, rng.choice(names), rng.choice(names), rng.randrange(6), rng.randrange(3)) for what in kinds]
    return _played(names, [*steps, ("hear all", names[0], "", 0, 0)])


def _played(names: Sequence[str], steps: Iterable[_Step]) -> History:
    history = History({name: Replica(name) for name in names})
    for what, name, other, body, pick in steps:
        replica = history.replicas[name]
        if what == "hear":
            replica.hear(history.replicas[other])
        elif what == "hear all":
            for one in history.replicas.values():
                replica.hear(one)
        elif what == "look":
            history.looked[name] = replica.state()
        else:
            _write(history, replica, what, body, pick)
    return history


def _write(history: History, replica: Replica, what: str, body: int, pick: int) -> None:
    shown, before = replica.view(), replica.state()
    siblings = shown.siblings
    chosen = siblings[pick % len(siblings)].rev if siblings else None
    seen: State | None = None
    if what == "put":
        replica.put("a", {"n": body}, chosen)
    elif chosen is None:
        return
    elif what == "delete":
        replica.delete("a", chosen)
    elif what == "resolve":
        replica.resolve("a", {"n": body})
    elif what == "resolve_seen":
        seen = history.looked.get(replica.name, before)
        try:
            replica.resolve("a", {"n": body}, seen=[sibling.rev for sibling in view(seen).siblings])
        except ConflictError:
            return
    else:
        replica.increment("a", "likes", body, chosen)
    history.written.append(Written(replica.name, what, before, replica.state(), seen))
