"""Contract of a field type: one class per type, and one catalogue entry.

| it says | by |
|---|---|
| what it can hold | `checked` |
| how it begins | `create` |
| what can be done to it | `operations`, functions of a spot and of arguments by name |
| which operations lead from one value to another | `differ` |
| what it shows | `value`, and `others` for what it keeps beside that |
| what its removal leaves to be known | `reset` |
| which bytes may stand at its addresses | `check` |
| a random operation, for tests | `sample` |

Join isn't among them: what a type adds are deltas under dots, and those of all types merge by the same rule
(`crdtdb.crdts.field_store`). `crdtdb.testing.laws` tries every type of the catalogue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from crdtdb.canonical_json import JSON
from crdtdb.crdts.draft import Spot

if TYPE_CHECKING:
    from random import Random

Operation = Callable[..., None]
_EMPTY: Any = object()


class Field(ABC):
    """Type of field. An instance is an initial value: `crdtdb.Counter(5)`."""

    kind: ClassVar[str]
    """The name of the type, as it stands in addresses, schemas and requests."""
    operations: ClassVar[Mapping[str, Operation]]
    summary: ClassVar[str]
    """The result of concurrent edits, in a few words."""

    def __init__(self, initial: Any = _EMPTY) -> None:
        """Begin with a value, empty by default. Raises InvalidDocumentError for a value that the type can't hold."""
        self.initial = self.checked(initial if initial is not _EMPTY else self.nothing())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.initial!r})"

    @classmethod
    @abstractmethod
    def nothing(cls) -> JSON:
        """Return the value of an empty field."""

    @classmethod
    @abstractmethod
    def checked(cls, value: Any) -> Any:
        """Return a value that the type can hold. Raises InvalidDocumentError."""

    @classmethod
    @abstractmethod
    def create(cls, spot: Spot, value: Any) -> None:
        """Create the field. `value` has passed `checked`."""

    @classmethod
    @abstractmethod
    def value(cls, spot: Spot) -> JSON:
        """Return what the field shows."""

    @classmethod
    def others(cls, spot: Spot) -> list[JSON]:  # noqa: ARG003
        """Return the values beside the one that shows: a conflict of the field, unless empty."""
        return []

    @classmethod
    @abstractmethod
    def differ(cls, spot: Spot, before: Any, after: Any) -> None:
        """Apply the operations that lead from one value to another. Both are checked; what the field shows may be a third."""

    @classmethod
    def assign(cls, spot: Spot, value: Any) -> None:
        """Bring the field to a value, by the operations that lead there from what it shows. `value` is checked."""
        cls.differ(spot, cls.value(spot), value)

    @classmethod
    def settle(cls, spot: Spot) -> None:  # noqa: ARG003
        """Drop what `others` returns: nothing, for most types."""
        return

    @classmethod
    def reset(cls, spot: Spot) -> None:
        """Remove the field: every delta of it that is known here."""
        for part in spot.parts(cls.kind):
            spot.remove(cls.kind, part)

    @classmethod
    @abstractmethod
    def check(cls, part: str, content: bytes) -> None:
        """Raise EncodingError, ValueError or TypeError for bytes that this type wouldn't have written at this part."""

    @classmethod
    @abstractmethod
    def sample(cls, rng: Random, value: JSON) -> tuple[str, dict[str, Any]]:
        """Return a random operation, with its arguments, that a field of this value can take."""
