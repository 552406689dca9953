"""Calling functions of design documents: a few processes, started when they are needed, and what their answers mean."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, cast

from crdtdb.canonical_json import dump, parse
from crdtdb.errors import InvalidDocumentError, ScriptError
from crdtdb.javascript.pool import Pool
from crdtdb.javascript.process import Process, check_installed
from crdtdb.limits import DOCUMENT_DEPTH_MAX, SCRIPT_PROCESSES_MAX

_log = logging.getLogger("crdtdb.scripts")
_ARGUMENTS_MAX = 100
_AROUND_LEVELS = 4
Emission = tuple[Any, Any]
"""A key and a value."""


class Function(NamedTuple):
    """A function as a design document has it. `modules` is what `require` finds, None if there is none."""

    where: str
    """What to call it in an error, such as `_design/app/_view/by-age`."""
    source: str
    modules: Mapping[str, Any] | None = None

    def definition(self) -> bytes:
        """Return what defines it for the engine."""
        return dump({"source": self.source, "modules": self.modules})

    def digest(self) -> str:
        """Return what is equal for equal functions."""
        return sha256(self.definition()).hexdigest()


class Refusal(NamedTuple):
    """Why a document isn't to be written: `word` is "forbidden" or "unauthorized"."""

    word: str
    reason: str


class Scripts:
    """Runs functions in processes of their duty. Safe for threads; those that come when all are busy wait.

    Views, filters and validators have processes of their own: a slow view must not hold up writes.
    """

    def __init__(self, processes: int = SCRIPT_PROCESSES_MAX, start: Callable[[], Process] = Process) -> None:
        """At most `processes` run at a time for each duty."""
        self._views, self._filters, self._validators = (Pool(processes, start) for _ in range(3))

    def check_installed(self) -> None:
        """Raise ScriptingMissingError if there is no engine."""
        check_installed()

    def map(self, function: Function, documents: Sequence[Mapping[str, Any]]) -> list[list[Emission]]:
        """Return what a function emits for each document. One that throws over a document emits nothing for it: that is logged.

        Raises ScriptError if it takes too much time or memory.
        """
        found: list[list[Emission]] = []
        for document, answer in zip(
            documents, self._call(self._views, function, b"map", [dump(one) for one in documents]), strict=True
        ):
            thrown = answer.get("thrown", answer.get("reason"))
            if thrown is not None:
                _log.warning("%s threw over document %r: %s", function.where, document.get("_id"), thrown)
            found.append([(key, value) for key, value in answer.get("result", ())])
        return found

    def reduce(self, function: Function, keys: Sequence[Any] | None, values: Sequence[Any], again: bool) -> Any:
        """Return what a function reduces values to. Raises ScriptError."""
        (answer,) = self._call(self._views, function, b"reduce", [dump([keys, values, again])])
        return self._result(function, answer)

    def emits(self, function: Function, document: Mapping[str, Any]) -> bool:
        """Return whether a view's function emits anything for a document, for a filter. Raises ScriptError."""
        (answer,) = self._call(self._filters, function, b"map", [dump(document)])
        return bool(answer.get("result"))

    def filter(
        self, function: Function, documents: Sequence[Mapping[str, Any]], request: Mapping[str, Any]
    ) -> list[bool]:
        """Return whether a function lets each document pass. Raises ScriptError."""
        asked = dump(request)
        arguments = [b"[%b,%b]" % (dump(one), asked) for one in documents]
        return [
            bool(self._result(function, answer)) for answer in self._call(self._filters, function, b"filter", arguments)
        ]

    def validate(
        self,
        function: Function,
        document: Mapping[str, Any],
        before: Mapping[str, Any] | None,
        user: Mapping[str, Any],
        security: Mapping[str, Any],
    ) -> Refusal | None:
        """Return why a function refuses a document, None if it doesn't. Raises ScriptError."""
        (answer,) = self._call(self._validators, function, b"validate", [dump([document, before, user, security])])
        if "refused" in answer:
            return Refusal(answer["refused"], answer["reason"])
        self._result(function, answer)
        return None

    def close(self) -> None:
        """End all processes. Calls under way fail."""
        for pool in (self._views, self._filters, self._validators):
            pool.close()

    @staticmethod
    def _result(function: Function, answer: dict[str, Any]) -> Any:
        if "result" not in answer:
            raise ScriptError(f"{function.where} threw: {answer.get('thrown', answer.get('reason'))}")
        return answer["result"]

    def _call(self, pool: Pool, function: Function, what: bytes, arguments: list[bytes]) -> Iterator[dict[str, Any]]:
        definition, name = function.definition(), function.digest().encode()
        with pool.process() as process:
            for start in range(0, len(arguments), _ARGUMENTS_MAX):
                batch = arguments[start : start + _ARGUMENTS_MAX]
                for raw in self._answers(function, process, name, definition, what, batch):
                    answer = _checked(function, what, raw)
                    for line in answer["logged"]:
                        _log.info("%s says: %s", function.where, line)
                    yield answer

    @staticmethod
    def _answers(
        function: Function, process: Process, name: bytes, definition: bytes, what: bytes, batch: list[bytes]
    ) -> Iterator[bytes]:
        try:
            for answer in process.call(name, definition, what, batch):
                if isinstance(answer, str):
                    process.end()  # what else was asked for would have to be waited for
                    raise ScriptError(f"{function.where}: {_explained(answer)}")
                yield answer
        except ScriptError as error:
            if not str(error).startswith(function.where):
                raise ScriptError(f"{function.where}: {error}") from error
            raise


def _checked(function: Function, what: bytes, raw: bytes) -> dict[str, Any]:
    """Return an answer, if it has the form that it should. A function may have changed what writes it. Raises ScriptError."""
    try:
        answer = parse(raw)
    except InvalidDocumentError as error:
        raise ScriptError(f"{function.where}: its answer can't be read: {error}") from error
    good = isinstance(answer, dict) and isinstance(answer.get("logged"), list)
    if good and "refused" in answer:
        good = answer["refused"] in ("forbidden", "unauthorized") and isinstance(answer.get("reason"), str)
    elif good and "thrown" not in answer:
        good = "result" in answer and (what != b"map" or _are_emissions(answer["result"]))
    if not good:
        raise ScriptError(f"{function.where}: its answer isn't what such a function returns")
    if raw.count(b"[") + raw.count(b"{") > DOCUMENT_DEPTH_MAX and _is_deep(answer):
        raise ScriptError(f"{function.where}: its answer is nested deeper than {DOCUMENT_DEPTH_MAX} levels")
    return cast("dict[str, Any]", answer)


def _is_deep(answer: dict[str, Any]) -> bool:
    """Whether a value is nested deeper than a document may be, what stands around it not counted."""
    level: list[Any] = [answer]
    for _ in range(DOCUMENT_DEPTH_MAX + _AROUND_LEVELS):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _are_emissions(result: Any) -> bool:
    return isinstance(result, list) and all(isinstance(one, list) and len(one) == 2 for one in result)


def _explained(message: str) -> str:
    """Return what the engine says, in words for who wrote the function."""
    first = message.splitlines()[0] if message else "it failed"
    if "interrupted" in first:
        return "it took too long, and was stopped"
    if "out of memory" in first or "too long" in first or first == "null":  # not even the error found room
        return "it took too much memory, and was stopped"
    return first
