"""Counter: concurrent increments and decrements each count once.

    ""    dot -> [first, total]          what one actor has added in a row, from the counter `first` up to the dot's
          dot -> [origin, amount]        what a revision made elsewhere added
    "-"   dot -> [[[actor, counter, total], ...], [origin, ...]]       what had been added when the field was removed

An actor replaces its own run of this session, so a counter is as large as it has actors, and each some sessions, however often
it is used: see `crdtdb.causality.lineage`. If the field is
removed and made again while another actor goes on with an old run, the removal knows how much of that run it had
seen: only the rest counts.

Source: Baquero, Almeida, Lerche, "The Problem with Embedded CRDT Counters and a Solution" (2016), for the problem; the
solution here is a baseline for each run instead of a new dot after each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from crdtdb.canonical_json import JSON
from crdtdb.causality import ACTOR_BYTES, Dot
from crdtdb.crdts.contract import Field
from crdtdb.crdts.draft import REMNANT, Spot
from crdtdb.crdts.field_store import Address, Delta, Fields
from crdtdb.errors import EncodingError, InvalidDocumentError, InvalidInputError
from crdtdb.limits import COUNTER_MAX, COUNTER_RUNS_MAX

if TYPE_CHECKING:
    from random import Random


_TOTAL_MAX = 2**63 - 1


class Counter(Field):
    """A whole number that can be incremented and decremented by many at once."""

    kind = "counter"
    summary = "all increments and decrements count"

    @classmethod
    def nothing(cls) -> int:
        """Zero."""
        return 0

    @classmethod
    def checked(cls, value: Any) -> int:
        """Take a whole number. A float without a fraction is one: JavaScript has no other numbers.

        What several nodes have added may be more than one may add, and is written back as it was read.
        """
        if isinstance(value, float) and value.is_integer() and abs(value) <= _TOTAL_MAX:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _TOTAL_MAX:
            raise InvalidDocumentError(f"a counter holds a whole number of 64 bits, not {str(value)[:80]!r}")
        return value

    @classmethod
    def create(cls, spot: Spot, value: Any) -> None:
        """Begin at a number; two who begin at the same time begin at the sum."""
        _add(spot, value)

    @classmethod
    def value(cls, spot: Spot) -> int:
        """Return the sum of all runs, less what removals had seen of them, and of all origins once."""
        removed, origins = _baseline(spot)
        total = 0
        added: dict[str, int] = {}
        for dot, delta in spot.dots(cls.kind).items():
            first, amount = orjson.loads(delta.content)
            if isinstance(first, str):
                added[first] = max(amount, added.get(first, amount))
                continue
            total += amount
            total -= sum(seen for _, seen in _within(removed, dot, first))
        return total + sum(amount for origin, amount in added.items() if origin not in origins)

    @classmethod
    def differ(cls, spot: Spot, before: Any, after: Any) -> None:
        """Add the difference."""
        if after != before:
            _add(spot, after - before)

    @classmethod
    def reset(cls, spot: Spot) -> None:
        """Remove the field, and keep how much of each run had been seen."""
        removed, origins = _baseline(spot)
        for dot, delta in spot.dots(cls.kind).items():
            first, amount = orjson.loads(delta.content)
            if not spot.draft.sees(dot):
                continue
            if isinstance(first, str):
                origins.add(first)
            else:
                earlier = _within(removed, dot, first)
                others = [seen for seen in removed.get(dot.actor.hex(), []) if seen not in earlier]
                removed[dot.actor.hex()] = [*others, (dot.counter, amount)]
        super().reset(spot)
        if removed or origins:
            runs = [[actor, *one] for actor, seen in sorted(removed.items()) for one in sorted(seen)]
            spot.replace(cls.kind, orjson.dumps([runs, sorted(origins)]), REMNANT)

    @classmethod
    def check(cls, part: str, content: bytes) -> None:
        """Take runs, origins and baselines."""
        if part == REMNANT:
            runs, origins = orjson.loads(content)
            for actor, counter, total in runs:
                if len(bytes.fromhex(actor)) != ACTOR_BYTES:
                    raise EncodingError("an actor is 16 bytes")
                _whole(counter)
                _whole(total)
            if not all(isinstance(origin, str) for origin in origins):
                raise EncodingError("an origin is a revision")
        elif part:
            raise EncodingError("a counter has no such part")
        else:
            first, amount = orjson.loads(content)
            if not isinstance(first, str):
                _whole(first)
            _whole(amount)

    @classmethod
    def sample(cls, rng: Random, value: JSON) -> tuple[str, dict[str, Any]]:  # noqa: ARG003
        """Step up or down."""
        return rng.choice(["increment", "decrement"]), {"by": rng.randint(0, 5)}


def increment(spot: Spot, by: int = 1) -> None:
    """Add `by`, a whole number."""
    _add(spot, _amount(by))


def decrement(spot: Spot, by: int = 1) -> None:
    """Take `by` away, a whole number."""
    _add(spot, -_amount(by))


Counter.operations = {"increment": increment, "decrement": decrement}


def _amount(by: Any) -> int:
    if isinstance(by, bool) or not isinstance(by, int) or abs(by) > COUNTER_MAX:
        raise InvalidInputError(
            f"a counter goes up or down by a whole number up to ±(2^53 - 1), not by {str(by)[:80]!r}"
        )
    return by


def _add(spot: Spot, by: int) -> None:
    signature = spot.draft.signature
    if signature.origin is not None:
        _add_of_origin(spot, by, signature.origin)
        return
    first, total = signature.dot.counter, by
    address = spot.address(Counter.kind)
    kept = _of_other_sessions(spot)
    for dot, delta in list(spot.dots(Counter.kind).items()):
        if dot.actor == signature.dot.actor and dot.counter not in kept:
            start, amount = orjson.loads(delta.content)
            if not isinstance(start, str):
                first, total = min(first, start), total + amount
                spot.draft.remove_dot(address, dot)
    if abs(total) > COUNTER_MAX:
        raise InvalidDocumentError(f"the counter would have {total} from this node, the limit is ±(2^53 - 1)")
    spot.add(Counter.kind, orjson.dumps([first, total]))


def _of_other_sessions(spot: Spot) -> set[int]:
    """Return the counters of the actor's runs that another history of it may have gone on with: those of other sessions.

    A store that was put back from a backup goes on from the same run as it did before, and what was in that run counts
    once. Too many runs are joined all the same.
    """
    signature = spot.draft.signature
    others = {
        dot.counter
        for dot, delta in spot.dots(Counter.kind).items()
        if dot.actor == signature.dot.actor and dot.counter < signature.since and not delta.content.startswith(b'["')
    }
    return others if len(others) < COUNTER_RUNS_MAX else set()


def _add_of_origin(spot: Spot, by: int, origin: str) -> None:
    mine = spot.dots(Counter.kind).get(spot.draft.signature.dot)
    if mine is not None:
        by += orjson.loads(mine.content)[1]
    if abs(by) > COUNTER_MAX:
        raise InvalidDocumentError(f"one revision would add {by} to the counter, the limit is ±(2^53 - 1)")
    spot.add(Counter.kind, orjson.dumps([origin, by]))


def _baseline(spot: Spot) -> tuple[dict[str, list[tuple[int, int]]], set[str]]:
    """Return, for each actor, the dots and totals of its runs that removals had seen; and the origins that they had.

    Removals of the same run had seen it at different times: the last of them counts.
    """
    removed: dict[str, list[tuple[int, int]]] = {}
    seen: set[str] = set()
    for delta in spot.dots(Counter.kind, REMNANT).values():
        runs, origins = orjson.loads(delta.content)
        seen.update(origins)
        found: dict[str, list[tuple[int, int]]] = {}
        for actor, counter, total in runs:
            found.setdefault(actor, []).append((counter, total))
        for actor, totals in found.items():
            removed[actor] = max(removed.get(actor, []), sorted(totals, reverse=True))
    return removed, seen


def _within(removed: Mapping[str, list[tuple[int, int]]], dot: Dot, first: int) -> list[tuple[int, int]]:
    """Return what removals had seen of the run from a counter to a dot."""
    return [seen for seen in removed.get(dot.actor.hex(), []) if first <= seen[0] <= dot.counter]


def renamed_baseline(content: bytes, renamed: Callable[[Dot], Dot]) -> bytes:
    """Return what removals had seen, with other names for the dots of runs."""
    runs, origins = orjson.loads(content)
    found = [[*renamed(Dot(bytes.fromhex(actor), counter)), total] for actor, counter, total in runs]
    return orjson.dumps([[[actor.hex(), counter, total] for actor, counter, total in sorted(found)], origins])


def unneeded_baselines(fields: Fields) -> list[tuple[Address, Dot]]:
    """Return the baselines of which no run that is here needs to know, and that name no origin.

    Once such a run is stable, none that does can arrive.
    """
    found = []
    for address, deltas in fields.items():
        if address.kind == Counter.kind and address.part == REMNANT:
            running = fields.get(address._replace(part=""), {})
            found += [(address, dot) for dot, delta in deltas.items() if not _is_needed(delta, running)]
    return found


def _is_needed(baseline: Delta, running: Mapping[Dot, Delta]) -> bool:
    runs, origins = orjson.loads(baseline.content)
    if origins:
        return True
    removed: dict[str, list[tuple[int, int]]] = {}
    for actor, counter, total in runs:
        removed.setdefault(actor, []).append((counter, total))
    for dot, delta in running.items():
        first, _ = orjson.loads(delta.content)
        if not isinstance(first, str) and _within(removed, dot, first):
            return True
    return False


def _whole(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise EncodingError("a counter counts in whole numbers")
