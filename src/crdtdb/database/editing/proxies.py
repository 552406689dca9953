"""What stands in a document that is being edited: objects, fields whose operations are methods, and the document itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from crdtdb.canonical_json import load, merged_text
from crdtdb.crdts import Place, catalogue
from crdtdb.database.editing.session import Session, get_at, holds
from crdtdb.documents.fields import kind_declared, overlay
from crdtdb.errors import InvalidInputError, NotFoundError


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
        plain = get_at(session.body.value, path) if holds(session.body.value, path) else {}
        merged: dict[str, Any] = load(merged_text(plain)) if isinstance(plain, dict) else {}
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
        """What is kept beside the value that shows: what somebody made of another type at the same time, say."""
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
        which removes what stands at the path; and `settle`, which drops what is kept beside the field that shows.
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
