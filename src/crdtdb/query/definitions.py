"""Definitions of indexes, as CouchDB keeps them: views of design documents whose `language` is "query".

An index is replicated because its design document is: each node keeps the rows of it for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha1
from typing import Any, NamedTuple

from crdtdb.canonical_json import canonical
from crdtdb.errors import CrdtdbError, InvalidInputError
from crdtdb.query.collation import sort_key
from crdtdb.query.selectors import ABSENT, Path, Selector, compile_selector, path_of, value_at

DESIGN = "_design/"
LANGUAGE = "query"
_FIELDS_MAX = 32
_NAME_MAX = 512


class IndexDefinition(NamedTuple):
    """What an index is over: the values of some fields, of the documents that have all of them and match its selector."""

    ddoc: str
    """The id of its design document."""
    name: str
    fields: tuple[str, ...]
    descending: bool = False
    partial: Selector | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths of its fields."""
        return tuple(map(path_of, self.fields))

    def key(self, document: Mapping[str, Any]) -> bytes | None:
        """Return where a document stands in the index, None if it isn't in it."""
        parts = []
        for field in self.fields:
            value = value_at(document, path_of(field))
            if value is ABSENT:
                return None
            parts.append(sort_key(value))
        return b"".join(parts) if self.partial is None or self.partial(document) else None

    def json(self) -> dict[str, Any]:
        """Return what CouchDB shows of it as `def`."""
        return definition_json(self.fields, self.descending, self.partial.given if self.partial is not None else None)

    def view(self) -> dict[str, Any]:
        """Return what stands for it in its design document."""
        way = "desc" if self.descending else "asc"
        shown = self.json()
        return {
            "map": {**shown, "fields": dict.fromkeys(self.fields, way)},
            "reduce": "_count",
            "options": {"def": shown},
        }


def definition_json(fields: Sequence[str], descending: bool, partial: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what CouchDB shows of an index as `def`."""
    way = "desc" if descending else "asc"
    only = {"partial_filter_selector": partial} if partial is not None else {}
    return {"fields": [{field: way} for field in fields], **only}


def check_definition(given: object, ddoc: str | None = None, name: str | None = None) -> IndexDefinition:
    """Return an index that was asked for as `{"fields": ["age", {"name": "asc"}], "partial_filter_selector": {…}}`.

    Names that aren't given are made from the definition, so that who asks for the same twice gets one index. Raises
    InvalidInputError.
    """
    if not isinstance(given, Mapping):
        raise InvalidInputError(f'an index is an object such as {{"fields": ["age"]}}, not {str(given)[:80]!r}')
    unknown = given.keys() - {"fields", "partial_filter_selector"}
    if unknown:
        raise InvalidInputError(f"an index has `fields` and `partial_filter_selector`, not {str(min(unknown))[:80]!r}")
    fields, descending = ordered_fields(given.get("fields"), "the `fields` of an index")
    if not fields:
        raise InvalidInputError("the `fields` of an index are at least one")
    partial = given.get("partial_filter_selector")
    selector = compile_selector(partial) if partial else None
    if selector is not None and any(
        "$regex" in str(one.argument) or one.operator == "$regex" for one in selector.all_conditions()
    ):
        raise InvalidInputError("a partial_filter_selector can't have $regex: it would be tried at every write")
    digest = sha1(canonical([fields, descending, partial or None]), usedforsecurity=False).hexdigest()
    ddoc = _checked_name(ddoc if ddoc is not None else digest, "ddoc").removeprefix(DESIGN)
    return IndexDefinition(
        DESIGN + ddoc, _checked_name(name if name is not None else digest, "name"), fields, descending, selector
    )


def ordered_fields(given: object, what: str) -> tuple[tuple[str, ...], bool]:
    """Return fields and whether they descend, from `["age", {"name": "desc"}]`: all go the same way.

    Raises InvalidInputError.
    """
    if not isinstance(given, (list, tuple)) or len(given) > _FIELDS_MAX:
        raise InvalidInputError(
            f"{what} are an array of at most {_FIELDS_MAX} names, or of objects such as {{name: asc}}",
            fault="invalid_sort_json",
        )
    names, ways = [], set()
    for one in given:
        pair = {one: "asc"} if isinstance(one, str) else one
        if not isinstance(pair, Mapping) or len(pair) != 1 or next(iter(pair.values())) not in ("asc", "desc"):
            raise InvalidInputError(
                f'{what} have names, or objects such as {{"name": "desc"}}, not {str(one)[:80]!r}',
                fault="invalid_sort_field",
            )
        ((name, way),) = pair.items()
        if not isinstance(name, str) or not name:
            raise InvalidInputError(f"{what} have names that are strings, and not empty", fault="invalid_sort_field")
        names.append(name)
        ways.add(way)
    if len(ways) > 1:
        raise InvalidInputError(
            f"{what} go the same way, all asc or all desc: sorts that mix them aren't supported",
            fault="unsupported_mixed_sort",
        )
    if len(set(names)) < len(names):
        raise InvalidInputError(f"{what} are {names}: one of them twice")
    return tuple(names), ways == {"desc"}


def read_definitions(ddoc: str, body: Mapping[str, Any]) -> list[IndexDefinition]:
    """Return the indexes that a design document defines; what is no definition is left out, as CouchDB wouldn't build it."""
    views = body.get("views")
    if body.get("language") != LANGUAGE or not isinstance(views, Mapping):
        return []
    found = []
    for name, view in views.items():
        mapped = view.get("map") if isinstance(view, Mapping) else None
        fields = mapped.get("fields") if isinstance(mapped, Mapping) else None
        if not isinstance(mapped, Mapping) or not isinstance(fields, (Mapping, list)):
            continue
        listed = (
            [{field: way} for field, way in _declared(view, fields).items()] if isinstance(fields, Mapping) else fields
        )
        partial = mapped.get("partial_filter_selector")
        try:
            found.append(
                check_definition(
                    {"fields": listed, **({"partial_filter_selector": partial} if partial else {})}, ddoc, name
                )
            )
        except CrdtdbError:
            continue
    return found


def _declared(view: Mapping[str, Any], fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields in the order of the definition: objects of documents are kept in the order of their keys."""
    options = view.get("options")
    definition = options.get("def") if isinstance(options, Mapping) else None
    listed = definition.get("fields") if isinstance(definition, Mapping) else None
    if not isinstance(listed, list):
        return fields
    names = [next(iter(one)) if isinstance(one, Mapping) and one else one for one in listed]
    in_order = {name: fields[name] for name in names if isinstance(name, str) and name in fields}
    return in_order if len(in_order) == len(fields) else fields


def _checked_name(name: object, what: str) -> str:
    if not isinstance(name, str) or not name or len(name) > _NAME_MAX or name == DESIGN:
        raise InvalidInputError(
            f"the `{what}` of an index is a string of 1 to {_NAME_MAX} characters, not {str(name)[:80]!r}"
        )
    return name
