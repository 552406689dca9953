"""What a replication couldn't bring: it stays due, and the checkpoint doesn't pass it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_DOCUMENTS_MAX = 10_000
_LISTED_MAX = 100


class Refusal(NamedTuple):
    """A revision that couldn't be brought, and why."""

    doc_id: str
    rev: str
    error: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Return it as CouchDB says it of a write."""
        return {"id": self.doc_id, "rev": self.rev, "error": self.error, "reason": self.reason}


class _Document(NamedTuple):
    before: Any
    """The seq of the source behind which the document's change stands."""
    refusals: list[Refusal]


class Due:
    """The documents that are due, in the order of their changes. Beyond a number of them they are counted alone."""

    def __init__(self) -> None:
        self._documents: dict[str, _Document] = {}
        self._beyond = 0
        self._beyond_before: Any = None
        self.version = 0
        """Grows with each change."""

    def add(self, before: Any, refusals: Iterable[Refusal]) -> None:
        """Note what couldn't be brought of the changes behind a seq."""
        for one in refusals:
            self.version += 1
            known = self._documents.get(one.doc_id)
            if known is None and len(self._documents) >= _DOCUMENTS_MAX:
                self._beyond_before = before if not self._beyond else self._beyond_before
                self._beyond += 1
            elif known is None:
                self._documents[one.doc_id] = _Document(before, [one])
            else:
                known.refusals.append(one)

    def settle(self, doc_ids: Iterable[str]) -> None:
        """Note that documents came, or have later changes that say what is due of them."""
        for doc_id in doc_ids:
            if self._documents.pop(doc_id, None) is not None:
                self.version += 1

    def again(self, refusals: Iterable[Refusal]) -> None:
        """Note what couldn't be brought again; all else that was due came."""
        kept: dict[str, list[Refusal]] = {}
        for one in refusals:
            kept.setdefault(one.doc_id, []).append(one)
        for doc_id, known in list(self._documents.items()):
            if doc_id in kept:
                self._documents[doc_id] = known._replace(refusals=kept[doc_id])
            else:
                self.settle([doc_id])

    def passed(self, since: Any) -> Any:
        """Return the seq up to which nothing is due, of a replication that has read up to `since`."""
        return next((one.before for one in self._documents.values()), self._beyond_before if self._beyond else since)

    @property
    def only_counted(self) -> bool:
        """Whether all that is left was counted alone: to know what, the changes must be read again."""
        return not self._documents and self._beyond > 0

    def revisions(self) -> Mapping[str, list[str]]:
        """Return what is due, to be tried again."""
        return {doc_id: [one.rev for one in known.refusals] for doc_id, known in self._documents.items()}

    def __len__(self) -> int:
        """How many revisions are due."""
        return sum(len(one.refusals) for one in self._documents.values()) + self._beyond

    def listed(self) -> list[dict[str, Any]]:
        """Return the first of them, at most a hundred."""
        every = (one for known in self._documents.values() for one in known.refusals)
        return [one.as_json() for one, _ in zip(every, range(_LISTED_MAX), strict=False)]
