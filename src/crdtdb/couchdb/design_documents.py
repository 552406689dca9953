"""Design documents in JavaScript: what they define, and how it runs over the documents of their collection."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from threading import Lock
from typing import Any, NamedTuple

from crdtdb.canonical_json import canonical
from crdtdb.crdts import OpenSequence
from crdtdb.database.queries.views import Fold, ViewIndex
from crdtdb.documents import State, VisibleLeaf, view
from crdtdb.documents.attachments import KEY as ATTACHMENTS
from crdtdb.documents.attachments import as_read
from crdtdb.documents.fields import read_all
from crdtdb.errors import InvalidInputError, NotFoundError, ReduceError, ScriptError
from crdtdb.javascript import Emission, Function, Scripts
from crdtdb.query.definitions import DESIGN
from crdtdb.query.reducing import Reducer, built_in
from crdtdb.store import Record, Store
from crdtdb.store.layout.index_rows import shown, shown_leaf

_LANGUAGE = "javascript"
_SEEN = 2
"""Which version of what a map function sees: rows that were made of an earlier one are made again."""
_log = logging.getLogger("crdtdb.scripts")
_SIGNATURE_BYTES = 16
_REDUCED_ROWS = 200
_REDUCED_AGAIN = 50


class ViewFunctions(NamedTuple):
    """A view's functions. `reduce` is the name of one that is built in, a function, or None."""

    map: Function
    reduce: str | Function | None

    @property
    def signature(self) -> bytes:
        """What the view's rows are kept under: equal for equal functions of equal modules."""
        named = canonical([_LANGUAGE, _SEEN, self.map.digest()])
        return blake2b(named, digest_size=_SIGNATURE_BYTES).digest()


class Design:
    """One design document in JavaScript, read as far as somebody looks."""

    def __init__(self, doc_id: str, body: Mapping[str, Any]) -> None:
        self.doc_id, self._body = doc_id, body

    @cached_property
    def views(self) -> dict[str, ViewFunctions]:
        """Its views by their names. What is none is left out."""
        given = self._body.get("views")
        if not isinstance(given, Mapping):
            return {}
        modules = {"views": {"lib": given["lib"]}} if "lib" in given else None
        found = {}
        for name, one in given.items():
            source = one.get("map") if isinstance(one, Mapping) and name != "lib" else None
            if not isinstance(source, str):
                continue
            where = f"{self.doc_id}/_view/{name}"
            reduce = one.get("reduce")
            if isinstance(reduce, str) and not reduce.startswith("_"):
                reduce = Function(f"{where} (reduce)", reduce, modules)
            found[name] = ViewFunctions(Function(where, source, modules), reduce or None)
        return found

    @property
    def signature(self) -> str:
        """A name that changes when one of its views does."""
        named = canonical({name: one.signature.hex() for name, one in self.views.items()})
        return blake2b(named, digest_size=_SIGNATURE_BYTES).hexdigest()

    def view(self, name: str) -> ViewFunctions:
        """Return a view. Raises NotFoundError."""
        found = self.views.get(name)
        if found is None:
            raise NotFoundError(f"{self.doc_id} has no view {name!r}")
        return found

    def filter(self, name: str) -> Function:
        """Return a function that filters changes. Raises NotFoundError."""
        filters = self._body.get("filters")
        source = filters.get(name) if isinstance(filters, Mapping) else None
        if not isinstance(source, str):
            raise NotFoundError(f"{self.doc_id} has no filter {name!r}")
        return Function(f"{self.doc_id}/_filter/{name}", source, self._body)

    @cached_property
    def validate(self) -> Function | None:
        """The function that refuses documents, None if it has none."""
        source = self._body.get("validate_doc_update")
        return Function(f"{self.doc_id}/validate_doc_update", source, self._body) if isinstance(source, str) else None


class Designs:
    """The design documents in JavaScript of all collections, read again when one changes. Safe for threads."""

    def __init__(self, store: Store, scripts: Scripts) -> None:
        self._store, self._scripts = store, scripts
        self._known: dict[str, tuple[tuple[int, int] | None, dict[str, Design]]] = {}
        self._lock = Lock()

    def of(self, name: str) -> Mapping[str, Design]:
        """Return those of a collection by their ids."""
        version = self._store.derived.designs(name)
        known = self._known.get(name)
        if known is not None and known[0] == version:
            return known[1]
        found = {}
        if version is not None:
            for doc_id, record in self._store.live_view().documents(name, DESIGN, DESIGN[:-1] + "0"):
                body = shown(doc_id, record, self._store.opener(name, doc_id))
                if body is not None and body.get("language", _LANGUAGE) == _LANGUAGE:
                    found[doc_id] = Design(doc_id, body)
        with self._lock:
            self._known = {one: kept for one, kept in self._known.items() if one in self._store.root.collections}
            self._known[name] = (version, found)
        return found

    def get(self, name: str, doc_id: str) -> Design:
        """Return one of them. Raises NotFoundError."""
        found = self.of(name).get(doc_id)
        if found is None:
            raise NotFoundError(f"there is no design document {doc_id!r} in javascript")
        return found

    def validators(self, name: str) -> list[Function]:
        """Return the functions that refuse documents of a collection."""
        return [one.validate for one in self.of(name).values() if one.validate is not None]

    def view(self, name: str, functions: ViewFunctions) -> ViewIndex:
        """Return a view of a collection. Raises ScriptingMissingError, InvalidInputError for an unknown reduce."""
        self._scripts.check_installed()
        return ViewIndex(self._store, name, _ScriptMapper(self._scripts, functions), self._fold(functions.reduce))

    def clean(self, name: str) -> None:
        """Drop the rows of views that no design document has any more."""
        kept = {one.signature for design in self.of(name).values() for one in design.views.values()}
        self._store.derived.drop_views(name, kept)

    def _fold(self, reduce: str | Function | None) -> Fold | None:
        if reduce is None:
            return None
        if isinstance(reduce, str):
            made = built_in(reduce)
            return lambda: _GroupReducer(made())
        return lambda: _GroupReducer(_ScriptReducer(self._scripts, reduce))


class _ScriptMapper:
    """A map function of JavaScript."""

    def __init__(self, scripts: Scripts, functions: ViewFunctions) -> None:
        self._scripts, self._function = scripts, functions.map
        self.signature = functions.signature

    def map(self, store: Store, name: str, documents: Sequence[tuple[str, Record]]) -> list[list[Emission]]:
        """Return what the function emits for each document. Raises ScriptError."""
        seen = []
        for doc_id, record in documents:
            leaves = view(record.state).leaves
            seen.append({**told(doc_id, record.state, leaves[0], store.opener(name, doc_id)), **_conflicts(leaves[1:])})
        return self._scripts.map(self._function, seen)


def _conflicts(others: Sequence[VisibleLeaf]) -> dict[str, list[str]]:
    """Return the revisions beside the winner under the names that CouchDB's map functions know them by."""
    found: dict[str, list[str]] = {}
    for one in others:
        found.setdefault("_deleted_conflicts" if one.leaf.deleted else "_conflicts", []).append(str(one.leaf.rev))
    return found


class _GroupReducer:
    """A reduce of one group, which can fail without the others.

    Its value is null then if a function threw, and else an object that says what is wrong.
    """

    def __init__(self, reducer: Reducer) -> None:
        self._reducer = reducer
        self._failed: InvalidInputError | ScriptError | None = None

    def add(self, key: Any, doc_id: str, value: Any) -> None:
        """Take a row."""
        if self._failed is None:
            try:
                self._reducer.add(key, doc_id, value)
            except (InvalidInputError, ScriptError) as error:
                self._failed = error

    def result(self) -> Any:
        """Return what the rows come to."""
        try:
            if self._failed is None:
                return self._reducer.result()
        except (InvalidInputError, ScriptError) as error:
            self._failed = error
        if isinstance(self._failed, InvalidInputError):
            cause = {"caused_by": self._failed.value} if isinstance(self._failed, ReduceError) else {}
            return {"error": "builtin_reduce_error", "reason": str(self._failed), **cause}
        _log.warning("the value of a group is null: %s", self._failed)
        return None


class _ScriptReducer:
    """A reduce function of JavaScript, called with some rows at a time, and again with what those came to."""

    def __init__(self, scripts: Scripts, function: Function) -> None:
        self._scripts, self._function = scripts, function
        self._keys: list[Any] = []
        self._values: list[Any] = []
        self._reduced: list[Any] = []

    def add(self, key: Any, doc_id: str, value: Any) -> None:
        """Take a row. Raises ScriptError."""
        self._keys.append([key, doc_id])
        self._values.append(value)
        if len(self._keys) >= _REDUCED_ROWS:
            self._reduce()

    def _reduce(self) -> None:
        self._reduced.append(self._scripts.reduce(self._function, self._keys, self._values, False))
        self._keys, self._values = [], []
        if len(self._reduced) >= _REDUCED_AGAIN:
            self._reduced = [self._scripts.reduce(self._function, None, self._reduced, True)]

    def result(self) -> Any:
        """Return what the rows come to: reduced once more, as CouchDB does it even of one value. Raises ScriptError."""
        if self._keys:
            self._reduce()
        return self._scripts.reduce(self._function, None, self._reduced, True)


def told(doc_id: str, state: State, leaf: VisibleLeaf, open_sequence: OpenSequence) -> dict[str, Any]:
    """Return a leaf of a document as a function sees it: what it shows, with stubs of its attachments."""
    found: dict[str, Any] = read_all(shown_leaf(doc_id, state, leaf, open_sequence))
    attachments = found.get(ATTACHMENTS)
    if attachments:
        found[ATTACHMENTS] = {one: {**as_read(kept), "stub": True} for one, kept in attachments.items()}
    return found
