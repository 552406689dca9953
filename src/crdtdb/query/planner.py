"""How a query is answered: which index it reads, from where to where, and what it costs.

An index serves a query if every document that matches is in it: the query must ask for something at each of its fields, and
for all that the index's own selector asks for. Among those that serve, one in whose order the answer is wanted wins, then the
one of which most fields have one value, or a bound, then the one of fewest fields, then the first by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from crdtdb.errors import NoUsableIndexError
from crdtdb.query.collation import LAST, sort_key, text_range
from crdtdb.query.definitions import IndexDefinition
from crdtdb.query.selectors import Condition, Path, Selector, path_of

ALL = "_all_docs"
_ID: Path = ("_id",)
NO_INDEX = "No matching index found, create an index to optimize query time."
SORTED = "The documents are sorted in memory: create an index over the fields of the sort."
_LOWEST = b""
_FIELDS_OF_ALL = 1_000
"""So that reading every document comes last."""


class Range(NamedTuple):
    """Part of an index: keys from `start` on, before `stop`. The whole, if nothing narrows it."""

    start: bytes = _LOWEST
    stop: bytes = LAST
    fixed: int = 0
    """How many fields have one value in all of it."""
    bounded: bool = False
    """Whether the next field has a bound."""

    @property
    def narrowed(self) -> int:
        """By how many fields it is less than the whole."""
        return self.fixed + self.bounded


class Plan(Struct, frozen=True):
    """How one query is answered."""

    index: IndexDefinition | None
    """None: all documents are read, in the order of their ids."""
    range: Range
    """Of the index's keys; or, without one, of the sort keys of ids."""
    ordered: bool
    """Whether the index has the order that is wanted, so that nothing need be sorted."""
    reverse: bool
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What tells this plan from others, for a bookmark that is of one."""
        return ALL if self.index is None else f"{self.index.ddoc}/{self.index.name}"


def plan(
    selector: Selector,
    sort: Sequence[str],
    descending: bool,
    indexes: Iterable[IndexDefinition],
    use: tuple[str, str | None] | None = None,
    fallback: bool = True,
) -> Plan:
    """Return how to answer a query. `use` names the design document, and perhaps the index, that it would have.

    Without `fallback` the query is refused rather than answered by reading every document. Raises NoUsableIndexError.
    """
    conditions = _Conditions(selector.conditions())
    found = [one for one in indexes if conditions.serves(one, use is not None)]
    warnings: list[str] = []
    if use is not None:
        chosen = [one for one in found if one.ddoc == use[0] and use[1] in (None, one.name)]
        if not chosen:
            said = " ".join(part for part in use if part)
            warnings.append(f"{said} was not used because it does not contain a valid index for this query.")
        found = chosen or [one for one in found if conditions.serves(one, False)]
    wanted = conditions.unfixed(map(path_of, sort))
    plans = [_through(one, conditions, wanted, descending) for one in found]
    best = min([*plans, Plan(None, conditions.range([_ID]), wanted in ([], [_ID]), descending)], key=_cost)
    if not best.ordered:
        warnings.append(SORTED)
    if best.index is None and not best.range.narrowed:
        warnings.append(NO_INDEX)
        if not fallback:
            raise NoUsableIndexError(
                "No index exists for this query: create one over the fields of its selector and its sort, or allow_fallback"
            )
    return replace(best, warnings=tuple(warnings))


def _cost(plan: Plan) -> tuple[int, int, int, int, str, str]:
    index, narrowed = plan.index, plan.range.narrowed
    if plan.ordered and (index is not None or narrowed):
        rank = 0
    elif narrowed:
        rank = 1
    else:
        rank = 2 if plan.ordered else 3
    if index is None:
        return rank, -plan.range.fixed, -narrowed, 1 if narrowed else _FIELDS_OF_ALL, "", ""
    return rank, -plan.range.fixed, -narrowed, len(index.fields), index.ddoc, index.name


def _through(index: IndexDefinition, conditions: _Conditions, wanted: list[Path], descending: bool) -> Plan:
    """Return the plan that reads an index. It has the order of its fields, less those that have one value."""
    order = [*conditions.unfixed(index.paths), _ID]
    ordered = order[: len(wanted)] == wanted
    return Plan(index, conditions.range(index.paths), ordered, descending)


class _Conditions:
    """What all documents meet that a query means, by paths."""

    def __init__(self, conditions: Iterable[Condition]) -> None:
        self._all = list(conditions)
        self._by_path: dict[Path, list[Condition]] = {}
        for one in self._all:
            self._by_path.setdefault(one.path, []).append(one)

    def serves(self, index: IndexDefinition, named: bool) -> bool:
        """Whether every document that is meant is in an index."""
        if not all(any(one.needs for one in self._by_path.get(path, ())) for path in index.paths):
            return False
        return index.partial is None or named or self._implies(index.partial)

    def _implies(self, partial: Selector) -> bool:
        known = {(one.path, one.operator, sort_key(one.argument)) for one in self._all}
        asked = list(partial.all_conditions())
        if len(asked) != len(list(partial.conditions())):
            return False  # it has alternatives
        return all((one.path, one.operator, sort_key(one.argument)) in known for one in asked)

    def unfixed(self, paths: Iterable[Path]) -> list[Path]:
        """Return the paths that don't have one value in all documents that are meant."""
        return [path for path in paths if not any(one.operator == "$eq" for one in self._by_path.get(path, ()))]

    def range(self, paths: Iterable[Path]) -> Range:
        """Return between which keys all of them stand, in an index over these paths."""
        prefix, count = b"", 0
        for path in paths:
            low, high, fixed = self._bounds(path)
            if fixed:
                prefix, count = prefix + low, count + 1
                continue
            return Range(prefix + low, prefix + high, count, low != _LOWEST or high != LAST)
        return Range(prefix, prefix + LAST, count)

    def _bounds(self, path: Path) -> tuple[bytes, bytes, bool]:
        """Return the first key and one behind the last that a field may have; and whether it is one value, the first."""
        low, high = _LOWEST, LAST
        for one in self._by_path.get(path, ()):
            if one.operator == "$eq":
                return sort_key(one.argument), LAST, True
            if one.operator in ("$gt", "$gte"):
                key = sort_key(one.argument)
                low = max(low, key + LAST if one.operator == "$gt" else key)
            elif one.operator in ("$lt", "$lte"):
                key = sort_key(one.argument)
                high = min(high, key + LAST if one.operator == "$lte" else key)
            elif one.operator == "$beginsWith":
                first, last = text_range(one.argument)
                low, high = max(low, first), min(high, last)
        return low, high, False
