"""What an edit has tried so far, and what it will do at its end.

Each step is tried at once on what the document was at the beginning, so what can't be done is an error where it stands. At
the end `play` applies the steps to what the document is by then. Positions in a text or list mean the places that they meant at
the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from crdtdb.canonical_json import JSON, document_text, load
from crdtdb.causality import Dot
from crdtdb.crdts import (
    EMPTY_JOURNAL,
    Address,
    Draft,
    Field,
    Fields,
    Journal,
    Journals,
    OpenSequence,
    Place,
    Positional,
    Sequence,
    SequenceField,
    Signature,
    Spot,
    catalogue,
)
from crdtdb.database.editing.shadow import Shadow
from crdtdb.documents import Plain, Schema
from crdtdb.documents.fields import declared, kind_declared
from crdtdb.documents.given import take_given
from crdtdb.errors import InvalidDocumentError, InvalidInputError, NotFoundError, TooLargeError
from crdtdb.limits import OPERATIONS_MAX

_TRIED = Signature(Dot(b"\xff" * 16, 2**62), 2**63)
"""Signs what is only tried: no store has this actor."""


class Session:
    """What an edit has tried so far, and what it will do."""

    def __init__(
        self,
        fields: Fields,
        journals: Journals,
        body: bytes,
        schema: Schema,
        opener: OpenSequence,
    ) -> None:
        self.body, self.schema = Plain(body), schema
        self._base, self._opener = journals, opener
        self._shadows: dict[Address, Shadow] = {}
        self.draft = Draft(fields, journals, _TRIED, self._shadow)
        self._noted: list[Callable[[Draft, Plain], None]] = []
        self._steps = 0
        self._at_hand: dict[Place, tuple[type[SequenceField], Shadow]] = {}
        self._adopted: set[Address] = set()
        self._played: dict[Address, str] = {}
        """The texts and lists whose steps were made, and the parts at which they are."""

    def _shadow(self, address: Address, journal: Journal, _: bytes) -> Sequence:
        made = self._shadows.get(address)
        if made is None:
            text = address.kind == "text"
            under = (
                self._opener(address, journal, b"") if address in self._base else Sequence("text" if text else "list")
            )
            made = self._shadows[address] = Shadow(under, text)
        return cast("Sequence", made)

    # Steps

    def _apply_by_position(self, path: Place, operation: str, arguments: Mapping[str, Any]) -> bool:
        """Note one more step in a text or list that has been edited already: nothing else about it can have changed."""
        at_hand = self._at_hand.get(path)
        if at_hand is None:
            return False
        field, shadow = at_hand
        function = field.operations.get(operation)
        if not isinstance(function, Positional):
            return False
        catalogue.check_arguments(function, arguments, f"{operation!r} of the {field.kind} {'.'.join(path)!r}")
        self._count()
        shadow.add(function.step(shadow.length, **arguments))
        return True

    def apply(self, path: Place, operation: str, arguments: Mapping[str, Any]) -> None:
        """Apply an operation of the field at a path."""
        if self._apply_by_position(path, operation, arguments):
            return
        self._adopt(path)
        kind = catalogue.shown_kind(self.draft.at(path)) or kind_declared(self.schema, path)

        def act(draft: Draft) -> None:
            catalogue.apply(draft.at(path), operation, arguments, kind)

        self._try(path, kind, act)

    def assign(self, path: Place, value: Any) -> None:
        """Put a value at a path: a field, what a field is to become, or plain JSON."""
        if path[0].startswith("_"):
            raise InvalidDocumentError(f"{path[0][:80]!r}: names that begin with '_' are reserved for the database")
        self._adopt(path)
        spot = self.draft.at(path)
        if self._is_covered(spot) and not isinstance(value, Field):
            plain = load(document_text(value))
            self._plain(lambda body: _put(body, path, plain))
            return
        kind = catalogue.shown_kind(spot) or kind_declared(self.schema, path)
        if isinstance(value, Field):
            declared(path, value.kind, self.schema)
            if holds(self.body.value, path) and catalogue.shown_kind(spot) is None:
                self._plain(lambda body: _discard(body, path))
            self._bring(path, kind, value)
        elif kind is not None:
            self._bring(path, kind, catalogue.field_type(kind)(value))
        elif self._in_map(path):
            self.apply(path[:-1], "set", {"key": path[-1], "value": value})
        elif isinstance(value, Mapping) and self._has_fields(path, value):
            self._assign_object(path, value)
        else:
            plain = load(document_text(value))
            self._try(path, None, lambda draft: _remove_below(draft.at(path)))
            self._plain(lambda body: _put(body, path, plain))

    def _bring(self, path: Place, kind: str | None, wanted: Field) -> None:
        """Bring a field to a value, by the difference to what it shows in this edit: what others do meanwhile stays."""
        spot = self.draft.at(path)
        before = wanted.value(spot) if kind == wanted.kind and spot.kinds() else None

        def act(draft: Draft) -> None:
            there = draft.at(path)
            if before is not None and wanted.kind in there.kinds():
                wanted.differ(there, before, wanted.initial)
            else:
                catalogue.put(there, wanted)

        self._try(path, kind or wanted.kind, act)

    def _has_fields(self, path: Place, value: Mapping[str, Any]) -> bool:
        """Whether an object that is to stand at a path has fields in it, or is to have them."""
        declared_below = any(place[: len(path)] == path for place in self.schema)
        return declared_below or any(self.draft.at(path).children()) or bool(take_given(value)[1])

    def _assign_object(self, path: Place, value: Mapping[str, Any]) -> None:
        """Bring an object to a value name by name, so that its fields get theirs by operations."""
        held = get_at(self.body.value, path) if holds(self.body.value, path) else None
        keys = {child.path[-1] for child in self.draft.at(path).children()}
        keys.update(held if isinstance(held, dict) else ())
        for key in sorted(keys - value.keys()):
            self.remove((*path, key))
        if not isinstance(held, dict):
            self._plain(lambda body: _put(body, path, {}))
        for key, one in value.items():
            self.assign((*path, key), one)

    def remove(self, path: Place) -> None:
        """Remove what stands at a path. Raises NotFoundError if nothing does."""
        spot = self.draft.at(path)
        held = holds(self.body.value, path)
        if not held and not spot.kinds() and not any(spot.children()):
            raise NotFoundError(f"there is nothing at {'.'.join(path)!r} to remove")
        if not self._is_covered(spot) and (spot.kinds() or any(spot.children())):
            self._try(path, None, lambda draft: catalogue.remove(draft.at(path)))
        if held:
            self._plain(lambda body: _discard(body, path))

    def settle(self, path: Place) -> None:
        """Drop what is kept beside the field at a path."""
        self._try(path, None, lambda draft: catalogue.settle(draft.at(path)))
        if holds(self.body.value, path):
            self._plain(lambda body: _discard(body, path))

    def play(self, draft: Draft, body: Plain) -> None:
        """Apply all steps to what the document is now."""
        self._played.clear()
        for apply in self._noted:
            apply(draft, body)

    def look(self, path: Place) -> Any:
        """Return what stands at a path by now, as plain JSON. Raises NotFoundError."""
        spot = self.draft.at(path)
        if holds(self.body.value, path):
            return get_at(self.body.value, path)
        if spot.kinds() or any(spot.children()):
            return catalogue.value(spot)
        raise NotFoundError(
            f"there is nothing at {'.'.join(path)!r}: assign a value first, such as crdtdb.Counter(0), or declare its type"
        )

    def _try(self, path: Place, kind: str | None, act: Callable[[Draft], None]) -> None:
        field = catalogue.catalogue().get(kind or "")
        by_position = field is not None and issubclass(field, SequenceField)
        self._at_hand.clear()
        before = {address: shadow.noted for address, shadow in self._shadows.items()}
        act(self.draft)
        if by_position:
            sequence_field = cast("type[SequenceField]", field)
            self._note_positions(path, sequence_field, before)
        else:
            self._note(lambda draft, _: act(draft))

    def _note_positions(self, path: Place, field: type[SequenceField], before: Mapping[Address, int]) -> None:
        """Note the steps that an operation made in a text or list, as positions in what it was at the beginning."""
        part = field.part(self.draft.at(path)) or ""
        address = Address(path, field.kind, part)
        shadow = self._shadows.get(address)
        if shadow is not None and shadow.noted == before.get(address, 0) and address in self._base:
            return
        if shadow is not None:
            self._at_hand[path] = (field, shadow)
        self._note(lambda draft, _: self._play_positions(draft, address, field))

    def _play_positions(self, draft: Draft, address: Address, field: type[SequenceField]) -> None:
        spot = draft.at(address.path)
        if address in self._played:  # all its steps were made, and it may have been removed in between
            spot.replace(field.kind, b"", self._played[address])
            return
        shadow = self._shadows.get(address)
        steps, planted = (shadow.steps, shadow.planted) if shadow is not None else ([], None)
        base, part = self._base.get(address), address.part
        if address in self._adopted:
            part = field.part(spot) or part
            field.change(spot, steps, part)
        elif base is None and not spot.dots(field.kind, part):
            part = field.begin(spot, field.empty if planted is None else planted)
            field.change(spot, steps, part)
        elif draft.vector(address) == (base or EMPTY_JOURNAL).vector:
            if planted is not None and draft.sequence(address).untouched:  # or a step that made its map did it
                draft.plant(address, planted)
            field.change(spot, steps, part)
        else:
            first = [(0, 0, planted)] if planted is not None else []
            draft.rebase(address, (base or EMPTY_JOURNAL).vector, [*first, *steps])
            field.change(spot, [], part)
        self._played[address] = part

    def _adopt(self, path: Place) -> None:
        """Show a plain value that stands where the schema has a field as that field: the write will make it one."""
        kind = self.schema.get(path)
        if kind is None or catalogue.shown_kind(self.draft.at(path)) is not None or not holds(self.body.value, path):
            return
        field = catalogue.field_type(kind)
        try:
            value = field.checked(get_at(self.body.value, path))
        except InvalidDocumentError as error:
            where = ".".join(path)
            raise InvalidInputError(f"{where!r} is declared as a {kind}, and holds what isn't one: {error}") from error
        field.create(self.draft.at(path), value)
        _discard(self.body.value, path)
        for address in [address for address in self._shadows if address.path == path]:
            under = Sequence("text" if address.kind == "text" else "list")
            with under.editing() as step:
                step((0, 0, value))
            self._shadows[address] = Shadow(under, address.kind == "text")
            self.draft.use(address, cast("Sequence", self._shadows[address]))
            self._adopted.add(address)

    def _is_covered(self, spot: Spot) -> bool:
        """Whether the body has a plain value over fields at a spot, which other siblings show."""
        if not holds(self.body.value, spot.path) or not (spot.kinds() or any(spot.children())):
            return False
        in_object = isinstance(get_at(self.body.value, spot.path), dict)
        return not in_object or catalogue.shown_kind(spot) not in (None, "map")

    def _in_map(self, path: Place) -> bool:
        return len(path) > 1 and catalogue.shown_kind(self.draft.at(path[:-1])) == "map"

    def _plain(self, change: Callable[[dict[str, JSON]], None]) -> None:
        change(self.body.value)
        self._note(lambda _, body: change(body.value))

    def _note(self, apply: Callable[[Draft, Plain], None]) -> None:
        self._count()
        self._noted.append(apply)

    def _count(self) -> None:
        self._steps += 1
        if self._steps > OPERATIONS_MAX:
            raise TooLargeError(f"an edit has at most {OPERATIONS_MAX:,} steps: make several")


def _remove_below(spot: Spot) -> None:
    for child in list(spot.children()):
        catalogue.remove(child)


def holds(body: Any, path: Place) -> bool:
    for key in path:
        if not isinstance(body, dict) or key not in body:
            return False
        body = body[key]
    return True


def get_at(body: Any, path: Place) -> Any:
    for key in path:
        body = body[key]
    return body


def _put(body: dict[str, Any], path: Place, value: JSON) -> None:
    for depth, key in enumerate(path[:-1], 1):
        below = body.setdefault(key, {})
        if not isinstance(below, dict):
            raise InvalidInputError(
                f"there is a {type(below).__name__} at {'.'.join(path[:depth])!r}, which has no keys"
            )
        body = below
    body[path[-1]] = value


def _discard(body: Any, path: Place) -> None:
    for key in path[:-1]:
        body = body.get(key) if isinstance(body, dict) else None
    if isinstance(body, dict):
        body.pop(path[-1], None)
