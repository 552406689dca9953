"""Fields in a document: splits a value into body and fields, and joins them.

A document is read and written as one JSON object. A value at the place of a field isn't part of the body: `absorb` removes it
from the client's value and makes operations of the difference, `overlay` inserts it into the reader's value. A body with a
plain value at the place of a field (from an author without the field) shows the plain value: nothing is hidden silently, and
`conflicts` names the place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, cast

from crdtdb.canonical_json import JSON, canonical_merged, document_text, load, merged_text
from crdtdb.causality import Dot
from crdtdb.crdts import (
    LIFE,
    Address,
    Draft,
    Field,
    Fields,
    GapError,
    Journals,
    Map,
    OpenSequence,
    Place,
    SequenceField,
    Signature,
    Spot,
    catalogue,
    check_update,
    kind_of,
    lives,
    open_at_hand,
)
from crdtdb.documents.given import Given, holder_of, place
from crdtdb.errors import EncodingError, SchemaError, TooLargeError
from crdtdb.limits import FIELD_ADDRESSES_MAX, FIELDS_BYTES_MAX

Schema = Mapping[Place, str]
"""The kinds of fields that a collection's documents have, by their paths."""


CONTRADICTION = "?"
"""In a schema, the kind of a path for which two types were declared at the same time."""

NO_SCHEMA: Schema = MappingProxyType({})
NOTHING_GIVEN: Given = MappingProxyType({})

_READER = Signature(Dot(bytes(16), 1), 0)


class Unread:
    """A text or list in a value, not opened yet: `read` opens it."""

    __slots__ = ("_kind", "_spot")

    def __init__(self, spot: Spot, kind: type[SequenceField]) -> None:
        self._spot, self._kind = spot, kind

    def read(self) -> JSON:
        """Open it."""
        return self._kind.value(self._spot)


class Plain:
    """The body of a document during an edit: parsed on first access."""

    __slots__ = ("_text", "_value")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._value: dict[str, JSON] | None = None

    @property
    def value(self) -> dict[str, JSON]:
        """The body, to be changed in place."""
        if self._value is None:
            self._value = load(self._text)
        return self._value

    def text(self) -> bytes:
        """Return the text of the body as it is now. Raises InvalidDocumentError, TooLargeError."""
        return self._text if self._value is None else document_text(self._value)


def reading(fields: Fields, journals: Journals, open_sequence: OpenSequence = open_at_hand) -> Draft:
    """Return fields to be looked at."""
    return Draft(fields, journals, _READER, open_sequence)


def values(draft: Draft) -> dict[str, Any]:
    """Return the values of the fields as nested objects. Texts and lists are `Unread`."""
    return _values(draft.at(()))


def _values(spot: Spot) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for child in spot.children():
        kind = catalogue.shown_kind(child)
        field = catalogue.field_type(kind) if kind is not None else None
        if field is None:
            beneath = _values(child)
            if beneath:
                found[child.path[-1]] = beneath
        elif issubclass(field, SequenceField):
            found[child.path[-1]] = Unread(child, field)
        elif field is Map:
            found[child.path[-1]] = _values(child)
        else:
            found[child.path[-1]] = field.value(child)
    return found


def overlay(body: dict[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    """Insert the values of fields into a body, in place. Plain values of the body stay."""
    for key, value in shown.items():
        mine = body.get(key, _ABSENT)
        if mine is _ABSENT:
            body[key] = value
        elif isinstance(mine, dict) and isinstance(value, dict):
            overlay(mine, value)
    return body


def read_all(value: Any) -> Any:
    """Open every `Unread` of a value."""
    if isinstance(value, Unread):
        return value.read()
    if isinstance(value, dict):
        return {key: read_all(one) for key, one in value.items()}
    return value


def whole(text: bytes, draft: Draft) -> dict[str, JSON]:
    """Return a body with the values of the fields: the whole value of a revision."""
    shown: dict[str, JSON] = read_all(overlay(load(text), values(draft)))
    return shown


def value_without_sequences(text: bytes, draft: Draft) -> bytes:
    """Return the text of a body with the values of small fields, without texts and lists."""
    value = overlay(load(text), values(draft))
    return merged_text(_without_unread(value))


def _without_unread(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_unread(one) for key, one in value.items() if not isinstance(one, Unread)}
    return value


def sequences_shown(draft: Draft) -> list[Address]:
    """Return the addresses of the texts and lists that show."""
    found = []
    for spot in _fields(draft.at(())):
        field = catalogue.field_type(catalogue.shown_kind(spot) or "")
        if issubclass(field, SequenceField):
            found.append(spot.address(field.kind, field.part(spot) or ""))
    return found


def absorb(draft: Draft, text: bytes, given: Given = NOTHING_GIVEN, schema: Schema = NO_SCHEMA) -> bytes:
    """Set the fields to their values in a whole document, and return the text of the rest, the body.

    Raises InvalidDocumentError for a value that the field at its place can't hold.
    """
    wanted = _wanted(text, given)
    _remove_unwanted(draft.at(()), wanted)
    return document_text(_absorbed(draft.at(()), wanted, schema))


def absorb_mentioned(draft: Draft, text: bytes, given: Given = NOTHING_GIVEN, schema: Schema = NO_SCHEMA) -> bytes:
    """Like `absorb`, but keep the fields that the document doesn't mention."""
    return document_text(_absorbed(draft.at(()), _wanted(text, given), schema))


def absorb_since(draft: Draft, text: bytes, given: Given, schema: Schema, read: Mapping[str, Any] | None) -> bytes:
    """Do as `absorb_mentioned` for an author who read other values of the fields than they show now.

    What stands in the document as it was read is left alone; what doesn't is applied as the difference to that. Raises GapError
    where what was read isn't known, or is a text or list that was changed: its positions are others by now.
    """
    wanted = _wanted(text, given)
    _apply_since(draft.at(()), wanted, read)
    return document_text(_absorbed(draft.at(()), wanted, schema))


def _apply_since(spot: Spot, wanted: dict[str, Any], read: Any) -> None:
    """Apply the differences to the value read, and remove the fields from the document."""
    for key, value in list(wanted.items()):
        child, before = Spot(spot.draft, (*spot.path, key)), read.get(key) if isinstance(read, Mapping) else None
        kind = catalogue.shown_kind(child)
        if kind is None and isinstance(value, dict):
            _apply_since(child, value, before)
        elif kind is not None and not isinstance(value, Field):
            field = catalogue.field_type(kind)
            after = field.checked(value)
            if before is None or (
                issubclass(field, SequenceField) and canonical_merged(before) != canonical_merged(after)
            ):
                raise GapError(f"the value read at {'.'.join(child.path)!r} isn't known here, and it has changed since")
            field.differ(child, field.checked(before), after)
            del wanted[key]


def without_fields(draft: Draft, text: bytes) -> bytes:
    """Return the text of a whole value without the values at the paths of fields."""
    value = load(text)
    for spot in _fields(draft.at(())):
        holder, key = holder_of(value, spot.path)
        if holder is not None:
            holder.pop(key, None)
    return document_text(value)


def _wanted(text: bytes, given: Given) -> dict[str, Any]:
    wanted: dict[str, Any] = load(text)
    for path, field in given.items():
        place(wanted, path, field)
    return wanted


def _remove_unwanted(spot: Spot, wanted: Mapping[str, Any]) -> None:
    for child in list(spot.children()):
        value = wanted.get(child.path[-1], _ABSENT)
        if value is _ABSENT:
            catalogue.remove_shown(child)
        elif isinstance(value, Mapping) and catalogue.shown_kind(child) is None:
            _remove_unwanted(child, value)


def _absorbed(spot: Spot, wanted: dict[str, Any], schema: Schema) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, value in wanted.items():
        child = Spot(spot.draft, (*spot.path, key))
        rest = _absorbed_at(child, value, schema)
        if rest is not _ABSENT:
            plain[key] = rest
    return plain


def _absorbed_at(child: Spot, value: Any, schema: Schema) -> Any:
    """Absorb one value; return its plain part, _ABSENT if there is none."""
    covered = child.draft.is_covered(child.path)
    kind = None if covered else catalogue.shown_kind(child) or kind_declared(schema, child.path)
    if isinstance(value, Field):
        declared(child.path, value.kind, schema)
        catalogue.put(spot_of(child), value)
    elif kind is not None:
        field = catalogue.field_type(kind)
        if catalogue.shown_kind(child) is None:
            field.create(spot_of(child), field.checked(value))
        else:
            field.assign(child, field.checked(value))
    elif isinstance(value, dict):
        return _absorbed(child, value, schema)
    else:
        for below in list(child.children()):
            catalogue.remove(below)
        return value
    return _ABSENT


def adopt(draft: Draft, text: bytes, schema: Schema) -> bytes:
    """Make fields of the plain values that stand where the schema has fields; return the text of the body without them.

    A value that its type can't hold stays plain: it was there before the schema.
    """
    body = load(text)
    for path, kind in schema.items():
        holder, key = holder_of(body, path)
        spot = draft.at(path)
        if holder is None or key not in holder or catalogue.shown_kind(spot) is not None:
            continue
        field = catalogue.catalogue().get(kind)
        if field is None:  # two types were declared at the same time
            continue
        try:
            value = field.checked(holder[key])
        except ValueError:
            continue
        field.create(spot, value)
        del holder[key]
    return merged_text(body)


def declared(path: Place, kind: str, schema: Schema) -> None:
    """Raise SchemaError if the schema has another type at a path."""
    wanted = kind_declared(schema, path)
    if wanted is not None and wanted != kind:
        raise SchemaError(f"the schema has a {wanted} at {'.'.join(path)!r}, not a {kind}")


def kind_declared(schema: Schema, path: Place) -> str | None:
    """Return the kind that a schema has for a path. Raises SchemaError if two were declared at the same time."""
    kind = schema.get(path)
    if kind == CONTRADICTION:
        raise SchemaError(
            f"two types were declared for {'.'.join(path)!r} at the same time, on two nodes: "
            "declare it again with replace=True before you write to it"
        )
    return kind


def spot_of(spot: Spot) -> Spot:
    """Return a spot whose path is checked, for a field that is new."""
    return spot.draft.at(spot.path)


def remove_fields(draft: Draft) -> None:
    """Remove every field that is known here."""
    for child in list(draft.at(()).children()):
        catalogue.remove(child)


def join_texts(draft: Draft) -> None:
    """Join the texts that older versions made at one path, each for itself."""
    for address in [one for one in draft.standing() if is_sequence(one) and not lives.is_of_a_life(one.part)]:
        spot = draft.at(address.path)
        if len(spot.parts(address.kind)) > 1:
            cast("type[SequenceField]", catalogue.field_type(address.kind)).join(spot)


def is_sequence(address: Address) -> bool:
    """Whether an address is that of a text or list."""
    return address.kind in ("text", "list")


def kinds(draft: Draft) -> dict[Place, str]:
    """Return which fields there are, by their paths."""
    return {spot.path: catalogue.shown_kind(spot) or "" for spot in _fields(draft.at(()))}


def check_size(before: Fields, after: Fields) -> None:
    """Raise TooLargeError if an edit makes the fields of a document larger than its limits allow."""
    if len(after) > max(FIELD_ADDRESSES_MAX, len(before)):
        raise TooLargeError(
            f"the document's fields would hold {len(after):,} elements and entries, the limit is {FIELD_ADDRESSES_MAX:,}"
        )
    if after is before or not after:
        return
    size = fields_bytes(after)
    if size > FIELDS_BYTES_MAX and size > fields_bytes(before):
        raise TooLargeError(f"the document's fields would have {size:,} bytes, the limit is {FIELDS_BYTES_MAX:,}")


def fields_bytes(fields: Fields) -> int:
    """Return how many bytes the small fields of a document have."""
    return sum(
        len(address.part) + sum(len(delta.content) for delta in deltas.values()) for address, deltas in fields.items()
    )


def check_received(fields: Fields, journals: Journals) -> None:
    """Raise EncodingError for fields that no type of the catalogue would have written.

    Kinds that this version doesn't know are left alone: a newer one may. They don't show here. How much it is isn't asked:
    two documents that were both allowed may be more together, and must be able to travel.
    """
    types = catalogue.catalogue()
    for delta in fields.get(LIFE, {}).values():
        lives.read_life(delta.content)
    for address, deltas in fields.items():
        known = types.get(address.kind)
        for delta in deltas.values() if known is not None else ():
            try:
                known.check(address.part, delta.content)  # type: ignore[union-attr]
            except (TypeError, ValueError, RecursionError) as error:
                raise EncodingError(f"not a delta of a {address.kind}: {error}") from error
    for address, journal in journals.items():
        if not is_sequence(address):
            raise EncodingError(f"a {address.kind} has no journal")
        for content in journal.contents():
            check_update(kind_of(address), content)


def _fields(spot: Spot) -> Iterator[Spot]:
    """Yield every field, outermost first, including the fields in maps."""
    for child in spot.children():
        if catalogue.shown_kind(child) is not None:
            yield child
        yield from _fields(child)


_ABSENT: Any = object()
