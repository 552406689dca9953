"""An edit of one document: what is done in a `with` block is one commit at its end, or nothing if the block raises.

    with notes.edit("post") as post:
        post["likes"].increment()
        post["text"].insert(0, "Hello")
        post["title"] = "x"

Each step is tried at once on what the document was at the beginning, so what can't be done is an error where it stands. At the
end the steps are applied to what the document is by then. Positions in a text or list mean the places that they meant at the
beginning, whatever others typed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

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
    Step,
    catalogue,
)
from crdtdb.documents import Plain, Schema
from crdtdb.documents.fields import declared, kind_declared, overlay
from crdtdb.errors import InvalidDocumentError, InvalidInputError, NotFoundError, TooLargeError
from crdtdb.jsontext import JSON, canonical, load
from crdtdb.limits import OPERATIONS_MAX

_TRIED = Signature(Dot(b"\xff" * 16, 2**62), 2**63)
"""Signs what is only tried: no store has this actor."""


class Shadow:
    """A text or list as an edit leaves it, without touching the one that is open: the steps are noted, and counted."""

    def __init__(self, under: Sequence, text: bool) -> None:
        self._under, self._text = under, text
        self.steps: list[Step] = []
        self.noted = 0
        """How many steps there were, before some became one."""
        self._length: int | None = None

    @property
    def length(self) -> int:
        """How long it is by now."""
        if self._length is None:
            self._length = self._under.length
        return self._length

    def value(self) -> JSON:
        """What it is by now."""
        value: Any = self._under.value()
        for at, removed, added in self.steps:
            value = value[:at] + added + value[at + removed :]
        return cast("JSON", value)

    @contextmanager
    def editing(self) -> Iterator[Callable[[Step], None]]:
        """Note steps. Raises InvalidInputError for one that is out of range."""
        yield self.add

    def taken(self) -> bytes | None:
        """Nothing: what is tried makes no update."""
        return None

    def add(self, step: Step) -> None:
        """Note a step. One that goes on where the last one ended is made one with it, as typing is."""
        at, removed, added = step
        if not 0 <= at <= at + removed <= self.length:
            what = "characters" if self._text else "values"
            raise InvalidInputError(
                f"positions {at} to {at + removed} are outside of {self.length} {what}: nothing was written"
            )
        self._length = self.length + len(added) - removed
        self.noted += 1
        if self.steps:
            last_at, last_removed, last_added = self.steps[-1]
            if not removed and at == last_at + len(last_added):
                self.steps[-1] = (last_at, last_removed, last_added + added)
                return
            if not added and last_at <= at and at + removed == last_at + len(last_added):
                self.steps[-1] = (last_at, last_removed, last_added[: at - last_at])
                return
            if not added and not last_added and at in (last_at, last_at - removed):
                self.steps[-1] = (at, last_removed + removed, added)
                return
        self.steps.append(step)


class Noted(NamedTuple):
    """One step of an edit, to be applied at its end."""

    apply: Callable[[Draft, Plain], None]


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
        self._noted: list[Noted] = []
        self._steps = 0
        self._at_hand: dict[Place, tuple[type[SequenceField], Shadow]] = {}
        self._adopted: set[Address] = set()
        self._played: set[Address] = set()

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
            raise InvalidDocumentError(f"{path[0][:80]!r}: names that begin with '_' are kept for the database")
        self._adopt(path)
        spot = self.draft.at(path)
        kind = catalogue.shown_kind(spot) or kind_declared(self.schema, path)
        if isinstance(value, Field):
            declared(path, value.kind, self.schema)
            if _holds(self.body.value, path) and catalogue.shown_kind(spot) is None:
                self._plain(lambda body: _discard(body, path))
            self._try(path, kind, lambda draft: catalogue.put(draft.at(path), value))
        elif kind is not None:
            field = catalogue.field_type(kind)
            wanted = field(value)
            self._try(path, kind, lambda draft: catalogue.put(draft.at(path), wanted))
        elif self._in_map(path):
            self.apply(path[:-1], "set", {"key": path[-1], "value": value})
        else:
            plain = load(canonical(value))
            self._try(path, None, lambda draft: _remove_below(draft.at(path)))
            self._plain(lambda body: _put(body, path, plain))

    def remove(self, path: Place) -> None:
        """Remove what stands at a path. Raises NotFoundError if nothing does."""
        spot = self.draft.at(path)
        held = _holds(self.body.value, path)
        if not held and not spot.kinds() and not any(spot.children()):
            raise NotFoundError(f"there is nothing at {'.'.join(path)!r} to remove")
        if spot.kinds() or any(spot.children()):
            self._try(path, None, lambda draft: catalogue.remove(draft.at(path)))
        if held:
            self._plain(lambda body: _discard(body, path))

    def settle(self, path: Place) -> None:
        """Drop what is kept beside the field at a path."""
        self._try(path, None, lambda draft: catalogue.settle(draft.at(path)))
        if _holds(self.body.value, path):
            self._plain(lambda body: _discard(body, path))

    def play(self, draft: Draft, body: Plain) -> None:
        """Apply all steps to what the document is now."""
        self._played.clear()
        for one in self._noted:
            one.apply(draft, body)

    def look(self, path: Place) -> Any:
        """Return what stands at a path by now, as plain JSON. Raises NotFoundError."""
        spot = self.draft.at(path)
        if _holds(self.body.value, path):
            return _get(self.body.value, path)
        if spot.kinds() or any(spot.children()):
            return catalogue.value(spot)
        raise NotFoundError(f"there is nothing at {'.'.join(path)!r}")

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
        if address in self._played:
            return
        self._played.add(address)
        shadow, spot = self._shadows.get(address), draft.at(address.path)
        steps = shadow.steps if shadow is not None else []
        base = self._base.get(address)
        if address in self._adopted:
            field.change(spot, steps, field.part(spot))
        elif base is None and not spot.dots(field.kind, address.part):
            field.change(spot, steps, field.begin(spot, field.empty))
        elif draft.vector(address) == (base or EMPTY_JOURNAL).vector:
            field.change(spot, steps, address.part)
        else:
            draft.rebase(address, (base or EMPTY_JOURNAL).vector, steps)
            field.change(spot, [], address.part)

    def _adopt(self, path: Place) -> None:
        """Show a plain value that stands where the schema has a field as that field: the write will make it one."""
        kind = self.schema.get(path)
        if kind is None or catalogue.shown_kind(self.draft.at(path)) is not None or not _holds(self.body.value, path):
            return
        field = catalogue.field_type(kind)
        try:
            value = field.checked(_get(self.body.value, path))
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

    def _in_map(self, path: Place) -> bool:
        return len(path) > 1 and catalogue.shown_kind(self.draft.at(path[:-1])) == "map"

    def _plain(self, change: Callable[[dict[str, JSON]], None]) -> None:
        change(self.body.value)
        self._note(lambda _, body: change(body.value))

    def _note(self, apply: Callable[[Draft, Plain], None]) -> None:
        self._count()
        self._noted.append(Noted(apply))

    def _count(self) -> None:
        self._steps += 1
        if self._steps > OPERATIONS_MAX:
            raise TooLargeError(f"an edit has at most {OPERATIONS_MAX:,} steps: make several")


class ObjectEdit:
    """An object inside a document that is being edited: the document itself, one of its objects, or a map."""

    def __init__(self, session: Session, path: Place = ()) -> None:
        self._session, self._path = session, path

    def __getitem__(self, key: str) -> Any:
        if not isinstance(key, str):
            raise InvalidInputError(
                f"what stands in a document has a name, a string, not {key!r}: see `value` for a list"
            )
        path = (*self._path, key)
        spot = self._session.draft.at(path)
        kind = catalogue.shown_kind(spot) or kind_declared(self._session.schema, path)
        if kind is not None:
            return FieldEdit(self._session, path, kind)
        value = self._session.look(path)
        return ObjectEdit(self._session, path) if isinstance(value, dict) else value

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise InvalidInputError(f"what stands in a document has a name, a string, not {key!r}")
        self._session.assign((*self._path, key), value)

    def __delitem__(self, key: str) -> None:
        self._session.remove((*self._path, key))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self.value

    def __iter__(self) -> Iterator[str]:
        return iter(self.value)

    @property
    def value(self) -> dict[str, Any]:
        """What the object is by now, as plain JSON."""
        session, path = self._session, self._path
        shown = catalogue.value(session.draft.at(path))
        plain = _get(session.body.value, path) if _holds(session.body.value, path) else {}
        merged: dict[str, Any] = load(canonical(plain)) if isinstance(plain, dict) else {}
        return overlay(merged, shown if isinstance(shown, dict) else {})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'.'.join(self._path) or 'document'}: {self.value!r}>"


class FieldEdit(ObjectEdit):
    """A field that is being edited: its operations are its methods. `value` is what it shows by now."""

    def __init__(self, session: Session, path: Place, kind: str) -> None:
        super().__init__(session, path)
        self.kind = kind

    def __getattr__(self, operation: str) -> Callable[..., None]:
        if operation.startswith("_"):
            raise AttributeError(operation)
        function = catalogue.field_type(self.kind).operations.get(operation)
        if function is None:
            known = ", ".join(catalogue.field_type(self.kind).operations)
            raise InvalidInputError(
                f"a {self.kind} such as {'.'.join(self._path)!r} has no operation {operation!r}: it has {known}"
            )

        def call(*args: Any, **kwargs: Any) -> None:
            names, _ = catalogue.parameters(function)
            if len(args) > len(names):
                what = f"{operation!r} of the {self.kind} {'.'.join(self._path)!r}"
                raise InvalidInputError(f"{what} takes {', '.join(names) or 'nothing'}, not {len(args)} values")
            self._session.apply(self._path, operation, {**dict(zip(names, args, strict=False)), **kwargs})

        return call

    @property
    def value(self) -> Any:
        """What the field shows by now."""
        spot = self._session.draft.at(self._path)
        return catalogue.value(spot) if spot.kinds() else catalogue.field_type(self.kind).nothing()

    @property
    def conflicts(self) -> list[Any]:
        """What is kept beside the value that shows: a text that was created twice at the same time, say."""
        return catalogue.conflicting(self._session.draft.at(self._path))

    def settle(self) -> None:
        """Keep what shows, and drop what `conflicts` has."""
        self._session.settle(self._path)

    def __len__(self) -> int:
        return len(self.value)


class DocumentEdit(ObjectEdit):
    """A document that is being edited. `written` is the document after the commit."""

    def __init__(self, session: Session, doc_id: str) -> None:
        super().__init__(session)
        self.id = doc_id
        self.written: Any = None

    def perform(self, operations: Iterable[Any]) -> None:
        """Perform operations that came as JSON: objects with `path`, `operation`, and what that takes.

        Besides the operations of the types there are `assign` with a `value` and, to make a field, its `type`; `unassign`,
        which removes what stands at the path; and `settle`, which drops what is kept beside a field that was created twice.
        Raises InvalidInputError, naming the operation by its place in the list.
        """
        for number, one in enumerate(operations, 1):
            try:
                self._perform(one)
            except InvalidInputError as error:
                error.args = (f"operation {number}: {error}",)
                raise
            except NotFoundError as error:
                raise InvalidInputError(f"operation {number}: {error}") from error

    def _perform(self, one: Any) -> None:
        if not isinstance(one, Mapping):
            raise InvalidInputError(f"an operation is an object with `path` and `operation`, not {str(one)[:80]!r}")
        arguments = dict(one)
        path, operation = _path_in(arguments.pop("path", None)), arguments.pop("operation", None)
        if operation == "assign":
            kind, given = arguments.pop("type", None), [arguments.pop("value")] if "value" in arguments else []
            _none_left(arguments)
            if kind is not None:
                self._session.assign(path, catalogue.field_type(kind)(*given))
            elif given:
                self._session.assign(path, given[0])
            else:
                raise InvalidInputError("`assign` takes a `value`, a `type`, or both")
        elif operation in ("unassign", "settle"):
            _none_left(arguments)
            self._session.remove(path) if operation == "unassign" else self._session.settle(path)
        elif isinstance(operation, str):
            self._session.apply(path, operation, arguments)
        else:
            raise InvalidInputError(f"`operation` is the name of one, not {str(operation)[:80]!r}")


def _path_in(path: Any) -> Place:
    if isinstance(path, str):
        path = [path]
    if not isinstance(path, list) or not path or not all(isinstance(key, str) for key in path):
        raise InvalidInputError(
            f"`path` is a key, or the list of the keys that lead to a field, not {str(path)[:80]!r}"
        )
    return tuple(path)


def _none_left(arguments: Mapping[str, Any]) -> None:
    if arguments:
        raise InvalidInputError(f"{', '.join(map(repr, arguments))}: the operation takes no such thing")


def _remove_below(spot: Spot) -> None:
    for child in list(spot.children()):
        catalogue.remove(child)


def _holds(body: Any, path: Place) -> bool:
    for key in path:
        if not isinstance(body, dict) or key not in body:
            return False
        body = body[key]
    return True


def _get(body: Any, path: Place) -> Any:
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
