"""Revisions: content-derived `generation-digest` names, and their paths.

The same edit of the same parent gets the same name on every node, so two people who do the same make no conflict.
The form of the name and the order of names (highest generation, then highest digest) are CouchDB's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from hashlib import blake2b
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from crdtdb.causality import Dot
from crdtdb.crdts import Address
from crdtdb.errors import InvalidRevError, TooLargeError
from crdtdb.limits import GENERATION_MAX, REVS_LIMIT

DIGEST_BYTES = 16
_DIGEST_CHARACTERS_MAX = 64


class Rev(NamedTuple):
    """The name of a revision. The greater of two is the one that CouchDB would choose as the winner."""

    generation: int
    digest: str

    def __str__(self) -> str:
        return f"{self.generation}-{self.digest}"

    @property
    def next_generation(self) -> int:
        """The generation of a child. Raises TooLargeError where generations end, and only a revision made elsewhere can be."""
        if self.generation >= GENERATION_MAX:
            raise TooLargeError(
                f"the revision {self} has the highest generation that there is, so nothing can replace it: "
                "purge it, or put the document under another id"
            )
        return self.generation + 1

    @classmethod
    def parse(cls, text: str) -> Rev:
        """Read `generation-digest`: a number from 1 and 1 to 64 printable characters. Raises InvalidRevError."""
        if not isinstance(text, str):
            raise InvalidRevError(f"a revision is a string such as '3-5f1c…', not {text!r}")
        generation, dash, digest = text.partition("-")
        plain = generation.isascii() and generation.isdigit() and len(generation) <= 16
        if not dash or not plain or not 1 <= int(generation) <= GENERATION_MAX:
            raise InvalidRevError(f"{text[:80]!r} is not a revision: it must be a number from 1, a dash and a digest")
        if not 1 <= len(digest) <= _DIGEST_CHARACTERS_MAX or not digest.isascii() or not digest.isprintable():
            raise InvalidRevError(
                f"{text[:80]!r} is not a revision: the digest must have 1 to "
                f"{_DIGEST_CHARACTERS_MAX} printable ASCII characters"
            )
        return cls(int(generation), digest)


def child_digest(
    parent: Rev | None,
    *,
    deleted: bool,
    body: bytes | None,
    sweep: int = 0,
    deltas: Iterable[tuple[Address, Dot, bytes]] = (),
) -> str:
    """Return the digest of a revision, 32 hexadecimal characters: all that tells one edit from another.

    `parent` is the revision it replaces, None for a first one; then `sweep` counts too, or a document born again after
    its collection would carry a name that other nodes still know as deleted. `body` is the canonical JSON of a write that
    sets it, None for a delete or an edit of fields; `deltas` are the address, dot and content of the changes of fields.
    """
    # Lengths go in before each part, so that no two lists of parts run together into the same bytes.
    above = f"{parent.generation}-{parent.digest}".encode() if parent else b"@%d" % sweep
    text = b"8:crdtdb/1%d:%b1:%b" % (len(above), above, b"D" if deleted else b"L")
    if body is not None:
        text += b"4:body%d:%b" % (len(body), body)
    for address, dot, content in sorted(deltas):
        keys = [key.encode() for key in (address.kind, address.part, *address.path)]
        for part in (b"field", b"%d" % len(keys), *keys, dot.actor, b"%d" % dot.counter, content):
            text += b"%d:%b" % (len(part), part)
    return blake2b(text, digest_size=DIGEST_BYTES).hexdigest()


_MERGE_MARK = "3e46ed00"
_BODY_TAKING_MERGE_MARK = "3e46ed01"
_CLOSING_MARK = "c105ed00"


def merge_digest(digest: str, *, takes_body: bool) -> str:
    """Return the digest of a merge revision: it begins with a mark, since it may come to other nodes by way of a client.

    `takes_body` says that it shows another body than its parent: that of a branch which it joins to its own.
    """
    mark = _BODY_TAKING_MERGE_MARK if takes_body else _MERGE_MARK
    return mark + digest[len(mark) :]


def is_merge(digest: str) -> bool:
    """Whether a digest is that of a merge revision, which has no author. One of an older version isn't known as that."""
    return digest.startswith((_MERGE_MARK, _BODY_TAKING_MERGE_MARK))


def takes_body(digest: str) -> bool:
    """Whether a digest is that of a merge revision that shows another body than its parent."""
    return digest.startswith(_BODY_TAKING_MERGE_MARK)


def closing_digest(parent: Rev) -> str:
    """Return the digest of the deleted child by which a write that joins branches closes those that it doesn't continue.

    It follows from the parent alone, so all nodes that join these branches agree. Its mark says that no user deleted it.
    """
    return _CLOSING_MARK + child_digest(parent, deleted=True, body=None)[len(_CLOSING_MARK) :]


def is_closing(digest: str) -> bool:
    """Whether a digest is that of a closed branch, whose content lives on in another. One of an older version isn't known."""
    return digest.startswith(_CLOSING_MARK)


def first_digest(body: bytes, sweep: int) -> bytes:
    """Return what `child_digest` does of a first revision that is a body alone, as bytes."""
    above = b"@%d" % sweep
    digest = blake2b(b"8:crdtdb/1%d:%b1:L4:body%d:" % (len(above), above, len(body)), digest_size=DIGEST_BYTES)
    digest.update(body)
    return digest.digest()


class Ancestor(NamedTuple):
    """One step of a path. `dot` is the write that made the revision where that is known."""

    digest: str
    dot: Dot | None


class Path:
    """The ancestors of a revision, newest first, at most `REVS_LIMIT`.

    Only the first few are in memory; the older ones are read on demand, which a plain write never needs. So a write to a
    document with 1,000 revisions costs no more than a write to a new document.
    """

    __slots__ = ("_known", "_older", "_reading")

    def __init__(
        self, known: Sequence[Ancestor] = (), older: Path | Callable[[], Iterable[Ancestor]] | None = None
    ) -> None:
        """Hold the newest ancestors `known`; `older` is the path, or reads the steps, that follow them."""
        self._known = tuple(known)
        self._older = older
        self._reading: Iterator[Ancestor] | None = None

    @property
    def known(self) -> tuple[Ancestor, ...]:
        """What can be had without reading."""
        return self._known

    @property
    def parent(self) -> Ancestor | None:
        """The newest ancestor, None for a first revision."""
        if not self._known and self._older is not None:
            self.all()
        return self._known[0] if self._known else None

    @property
    def complete(self) -> bool:
        """Whether all ancestors are held."""
        return self._older is None

    def all(self) -> tuple[Ancestor, ...]:
        """Return every ancestor, reading what isn't held."""
        if self._older is not None:
            steps = list(self._known)
            older: Path | Callable[[], Iterable[Ancestor]] | None = self._older
            if self._reading is not None:
                steps += islice(self._reading, REVS_LIMIT)
                older = None
            while older is not None and len(steps) < REVS_LIMIT:
                if isinstance(older, Path):
                    steps += older.all() if older._reading is not None else older._known
                    older = None if older._reading is not None else older._older
                else:
                    steps += islice(older(), REVS_LIMIT)
                    older = None
            self._known, self._older, self._reading = tuple(steps[:REVS_LIMIT]), None, None
        return self._known

    def step(self, back: int) -> Ancestor | None:
        """Return the ancestor so many steps behind the parent, reading no further than to it."""
        if back < len(self._known):
            return self._known[back]
        if self._older is None or back >= REVS_LIMIT:
            return None
        if isinstance(self._older, Path):
            return self._older.step(back - len(self._known))
        if self._reading is None:
            self._reading = iter(self._older())
        self._known += tuple(islice(self._reading, back + 1 - len(self._known)))
        return self._known[back] if back < len(self._known) else None

    def extended(self, digest: str, dot: Dot | None) -> Path:
        """Return the path of a child: this one with one more step in front."""
        step = Ancestor(digest, dot)
        return Path((step,), self if self._known or self._older else None)

    def leads_to(self, rev: Rev, generation: int) -> bool:
        """Whether `rev` is an ancestor of the revision of this generation whose path this is."""
        back = generation - rev.generation - 1
        if back < 0:
            return False
        step = self.step(back)
        return step is not None and step.digest == rev.digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Path) and [a.digest for a in self.all()] == [a.digest for a in other.all()]

    def __hash__(self) -> int:
        return hash(tuple(a.digest for a in self.all()))

    def __repr__(self) -> str:
        older = "" if self._older is None else ", …"
        return f"Path({', '.join(a.digest[:8] for a in self._known)}{older})"


NO_PATH = Path()


L = TypeVar("L")


class Ancestry(Generic[L]):
    """Which revisions lie on the paths of some others, for many questions: none costs a look at every path.

    Each path has a label. Paths are read at the generations alone that are asked for.
    """

    def __init__(self, paths: Iterable[tuple[Rev, Path, L]]) -> None:
        """Begin with revisions, their paths and the paths' labels."""
        self._paths = list(paths)
        self._labels: dict[int, dict[str, set[L]]] = {}
        """By generation and digest: the labels of the paths on which that revision lies."""

    def add(self, rev: Rev, path: Path, label: L) -> None:
        """Add a revision with its path."""
        self._paths.append((rev, path, label))
        for generation, labels in self._labels.items():
            _enter(labels, generation, rev, path, label)

    def labels(self, rev: Rev) -> Set[L]:
        """Return the labels of the paths on which a revision lies."""
        labels = self._labels.get(rev.generation)
        if labels is None:
            labels = self._labels[rev.generation] = {}
            for one in self._paths:
                _enter(labels, rev.generation, *one)
        return labels.get(rev.digest, frozenset())

    def __contains__(self, rev: Rev) -> bool:
        return bool(self.labels(rev))


def _enter(labels: dict[str, set[L]], generation: int, rev: Rev, path: Path, label: L) -> None:
    back = rev.generation - generation - 1
    step = path.step(back) if back >= 0 else None
    if step is not None:
        labels.setdefault(step.digest, set()).add(label)
