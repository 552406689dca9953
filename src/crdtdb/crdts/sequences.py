"""Sequences of Yrs, by pycrdt: the only module that imports it.

A `Sequence` is the open form of a text or list: made from updates, edited by position, and giving back the one update
that an edit is. Positions are code points; Yrs counts bytes of UTF-8, so they are translated, for free where every
character is one byte. An item of a list is kept as the canonical text of its JSON: Yrs would turn integers into floats
and end the process's thread on some of them.

Nothing here is trusted: an update that Yrs can't read, or panics at, is an EncodingError.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Items
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from hashlib import blake2b
from itertools import accumulate, count
from typing import Any, Literal, TypeVar

import orjson

from crdtdb.canonical_json import JSON, canonical
from crdtdb.causality import Dot
from crdtdb.errors import EncodingError, InvalidInputError

Kind = Literal["text", "list"]
Step = tuple[int, int, Any]
"""One edit by position: where, how many items go, and what comes: a string for a text, a list of values for a list."""

_T = TypeVar("_T")
_CLIENT_BITS = 53
_ROOT = "s"
_NO_STATE = b"\x00"
_CHUNK = 2_048
_STEPS_A_TRANSACTION = 128


@cache
def _yrs() -> Any:
    """Import pycrdt when the first text or list is opened: most commands and many services never do."""
    import pycrdt

    return pycrdt


def writer_under(writer: bytes, creations: Iterable[Dot]) -> bytes:
    """Return the identity with which a writer signs updates under some creations of the collection.

    After a drop a text begins again where it had been, and others may still have what this writer typed into it under other
    creations: a client id that counted from 0 a second time would be taken for that.
    """
    return writer + b"".join(b"%b%d," % (dot.actor, dot.counter) for dot in sorted(creations))


def client_of(writer: bytes) -> int:
    """Return the Yrs client id of an actor, of the revision that an edit derives from, or of a whole value.

    53 bits of a hash: an id used by two writers would make them diverge for ever, and among 10,000 actors that has
    a probability of one in a hundred million.
    """
    return int.from_bytes(blake2b(writer, digest_size=8).digest(), "big") >> (64 - _CLIENT_BITS)


class Sequence:
    """Open text or list. Not safe for concurrent use, in any thread."""

    def __init__(self, kind: Kind, contents: Iterable[bytes] = (), writer: bytes = b"") -> None:
        """Apply updates. What is edited here is signed by `writer`. Raises EncodingError."""
        self.kind: Kind = kind
        self.writer = writer
        self._doc: Any = _yrs().Doc(client_id=client_of(writer), allow_multithreading=True)
        self._root: Any = _yrs().Text() if kind == "text" else _yrs().Array()
        self._doc[_ROOT] = self._root
        self._updates: list[bytes] = []
        self._transaction = ExitStack()
        self._doc.observe(self._noted)
        self._ruler: _Ruler | None = None
        self._plain: str | None = None
        self.size = 0
        """Total bytes of the applied updates: an upper bound of the snapshot's size."""
        for content in contents:
            self.apply(content)

    def _noted(self, event: Any) -> None:
        self._updates.append(event.update)

    def apply(self, content: bytes) -> None:
        """Apply an update. Raises EncodingError if it is malformed; then the sequence may be half changed: drop it."""
        _guarded(partial(self._doc.apply_update, content), "an update of a text or list")
        self._updates.clear()
        self.size += len(content)
        self._ruler = self._plain = None

    @property
    def untouched(self) -> bool:
        """Whether nothing was ever inserted, not even what was deleted since."""
        return bool(self._doc.get_state() == _NO_STATE)

    def plant(self, value: Any, planter: bytes) -> bytes | None:
        """Insert a whole value as the first thing that ever was inserted; return the update, None for an empty value.

        The update follows from `planter` and the value alone, so stores that plant the same plant it once. It stands on
        nothing: it can be applied to whatever the sequence holds by now.
        """
        planted = Sequence(self.kind, (), planter)
        with planted.editing() as step:
            step((0, 0, value))
        update = planted.taken()
        if update is not None:
            self.apply(update)
        return update

    @property
    def length(self) -> int:
        """Number of code points of a text, or of values of a list."""
        return self._measured().length if self.kind == "text" else len(self._root)

    def value(self) -> JSON:
        """Return the text, or the list of values."""
        if self.kind == "text":
            if self._plain is None:
                self._plain = _guarded(lambda: str(self._root), "a text")
            return self._plain
        return [_loaded(item) for item in _guarded(lambda: list(self._root), "a list")]

    def snapshot(self) -> bytes:
        """Return everything as one update."""
        return bytes(_guarded(self._doc.get_update, "a text or list"))

    @contextmanager
    def editing(self) -> Iterator[Callable[[Step], None]]:
        """Edit by steps; `taken` is the update afterwards. Steps that raise leave the sequence half changed: drop it."""
        with ExitStack() as transaction:
            self._transaction = transaction
            steps = count(1)

            def step(one: Step) -> None:
                self._step(one)
                if next(steps) % _STEPS_A_TRANSACTION == 0:
                    self._begin()

            self._begin()
            yield step

    def _begin(self) -> None:
        """End the transaction of Yrs and begin another: within one its cost grows with the square of the steps."""
        self._transaction.close()
        self._transaction.enter_context(self._doc.transaction())

    def taken(self) -> bytes | None:
        """Return the update that the last `editing` made, None if it changed nothing."""
        made, self._updates = self._updates, []
        taken = _yrs().merge_updates(*made) if len(made) > 1 else made[0] if made else None
        self.size += len(taken) if taken is not None else 0
        return taken

    @staticmethod
    def joined(*updates: bytes) -> bytes:
        """Return updates as one."""
        return bytes(_yrs().merge_updates(*updates))

    def changes(self, content: bytes) -> list[Step]:
        """Apply an update and return what it did, as steps by position in this sequence."""
        events: list[list[dict[str, Any]]] = []
        self._root.observe(lambda event: events.append(list(event.delta)))
        self.apply(content)
        return [step for delta in events for step in self._steps_of(delta)]

    def _steps_of(self, delta: list[dict[str, Any]]) -> Iterator[Step]:
        at = 0
        for part in delta:
            if "retain" in part:
                at += part["retain"]
            elif "delete" in part:
                yield at, part["delete"], "" if self.kind == "text" else []
            else:
                inserted = part["insert"]
                yield at, 0, inserted if self.kind == "text" else [_loaded(item) for item in inserted]
                at += len(inserted.encode()) if self.kind == "text" else len(inserted)

    def step_in_bytes(self, step: Step) -> None:
        """Take over a step of `changes`, whose positions in a text are bytes, as Yrs counts."""
        at, removed, added = step
        if self.kind == "text":
            self._ruler = self._plain = None
            self._replace(at, removed, added)
        else:
            self._replace(at, removed, encode_items(added))

    def _step(self, step: Step) -> None:
        at, removed, added = step
        if not 0 <= at <= at + removed <= self.length:
            raise InvalidInputError(
                f"positions {at} to {at + removed} are outside the {self.kind}, which has {self.length} "
                f"{'characters' if self.kind == 'text' else 'values'}"
            )
        if self.kind == "text":
            self._plain = None
            ruler = self._measured()
            first = ruler.bytes_before(at)
            bytes_removed = ruler.bytes_before(at + removed) - first if removed else 0
            self._replace(first, bytes_removed, added)
            ruler.replace(at, removed, added, bytes_removed)
        else:
            self._replace(at, removed, encode_items(added))

    def _replace(self, at: int, removed: int, added: Any) -> None:
        if removed:
            del self._root[at : at + removed]
        if added and self.kind == "text":
            self._root.insert(at, added)
        elif added:
            for start in range(0, len(added), _STEPS_A_TRANSACTION):
                self._root[at + start : at + start] = added[start : start + _STEPS_A_TRANSACTION]
                if len(added) > _STEPS_A_TRANSACTION:
                    self._begin()

    def _measured(self) -> _Ruler:
        if self._ruler is None:
            self._ruler = _Ruler(lambda: str(self._root), len(self._root))
        return self._ruler


class _Ruler:
    """Translates positions in code points to bytes.

    Where every character is one byte there is nothing to do. Otherwise the text is held in chunks with the lengths of each,
    so that an edit touches one chunk and not the text.
    """

    def __init__(self, read: Callable[[], str], size: int) -> None:
        text = read()
        self.length, self._size = len(text), size
        self._chunks: list[str] = []
        if self.length != size:
            self._chunks = [text[at : at + _CHUNK] for at in range(0, self.length, _CHUNK)]
        self._read = read
        self._measure()

    def bytes_before(self, at: int) -> int:
        """Return how many bytes stand before a position."""
        if self.length == self._size:
            return at
        number, inside = self._find(at)
        return self._bytes[number] + len(self._chunks[number][:inside].encode())

    def replace(self, at: int, removed: int, added: str, bytes_removed: int) -> None:
        """Follow an edit."""
        plain = self.length == self._size
        grown = len(added) if added.isascii() else len(added.encode())
        if plain and grown == len(added):
            self.length += len(added) - removed
            self._size = self.length
            return
        if plain or not self._chunks:  # the first character of several bytes
            self.__init__(self._read, self._size - bytes_removed + grown)  # type: ignore[misc]
            return
        self.length += len(added) - removed
        self._size += grown - bytes_removed
        number, inside = self._find(at)
        last, end = self._find(at + removed)
        merged = self._chunks[number][:inside] + added + self._chunks[last][end:]
        self._chunks[number : last + 1] = [merged[n : n + _CHUNK] for n in range(0, len(merged), _CHUNK)] or [""]
        self._measure()

    def _measure(self) -> None:
        self._chars = [0, *accumulate(map(len, self._chunks))]
        self._bytes = [0, *accumulate(len(chunk.encode()) for chunk in self._chunks)]

    def _find(self, at: int) -> tuple[int, int]:
        number = min(max(bisect_right(self._chars, at) - 1, 0), len(self._chunks) - 1)
        return number, at - self._chars[number]


def check_update(kind: Kind, content: bytes) -> None:
    """Raise EncodingError unless an update that arrived can be read by Yrs. Of several that were folded it may be any size."""
    Sequence(kind, (content,)).value()


def _loaded(item: Any) -> JSON:
    """Return the value of an item. One that crdtdb didn't write is shown as it is, if it is plain, and else as null."""
    if isinstance(item, str):
        try:
            return orjson.loads(item)  # type: ignore[no-any-return]
        except ValueError:
            return item
    return item if item is None or isinstance(item, (bool, int, float)) else None


def _guarded(call: Callable[[], _T], what: str) -> _T:
    """Call into Yrs. Its panics are BaseExceptions, which no caller would catch."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise EncodingError(f"{what} that Yrs can't read: {error}") from error


def encode_items(values: Items[JSON]) -> list[str]:
    """Return values as a list keeps them. Raises InvalidDocumentError."""
    return [canonical(value).decode() for value in values]
