"""Draft of a document's fields during one edit: one delta per address.

All steps of an edit share one dot. A step that removes takes away the dots that stand there now; so what another replica
adds at the same time stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from crdtdb.causality import Dot
from crdtdb.crdts import lives
from crdtdb.crdts.field_store import HEADS, LIFE, Address, Delta, Fields, Journals, Place
from crdtdb.crdts.journal import EMPTY_JOURNAL, Journal, Vector, upto
from crdtdb.crdts.sequences import Kind, Sequence, Step, encode_items
from crdtdb.crdts.signature import Signature
from crdtdb.errors import TooLargeError
from crdtdb.limits import FIELD_KEY_BYTES_MAX, FIELD_PATH_STEPS_MAX, SEQUENCE_BYTES_MAX, SEQUENCES_MAX

_NO_DOTS: Mapping[Dot, Delta] = {}
_NO_KINDS: Mapping[str, dict[Address, None]] = {}


OpenSequence = Callable[[Address, Journal, bytes], Sequence]
"""Given an address, its journal and the writer, returns the open text or list."""


def open_at_hand(address: Address, journal: Journal, writer: bytes) -> Sequence:
    """Open a sequence from the updates in the journal."""
    return Sequence(kind_of(address), journal.contents(), writer)


def kind_of(address: Address) -> Kind:
    """Return which of the two kinds of sequences stands at an address."""
    return "text" if address.kind == "text" else "list"


class Draft:
    """Fields under change. Make one, let the types edit it by `at`, and take the `outcome`."""

    def __init__(
        self, fields: Fields, journals: Journals, signature: Signature, open_sequence: OpenSequence = open_at_hand
    ) -> None:
        """Begin with the fields as they are."""
        self.signature = signature
        self._fields = dict(fields)
        self._owned: dict[Address, dict[Dot, Delta]] = {}
        self._starts: dict[Address, frozenset[Dot]] = {}
        self._starting, self._journals = journals, dict(journals)
        self._added: dict[Address, int] = {}
        """The bytes that the edit adds to each text and list, without what it copies of others' updates."""
        self._open, self._sequences = open_sequence, dict[Address, Sequence]()
        self._places: dict[Place, dict[str, dict[Address, None]]] | None = None
        self.preferred: dict[Place, tuple[str, str]] = {}
        """The kind and part to show at a path with several fields; the empty kind means the fields inside it."""
        self.covered: frozenset[Place] = frozenset()
        """The paths at which the leaf shows a plain value: its author can't see the fields there."""

    def at(self, path: Place) -> Spot:
        """Return the spot of a path. Raises TooLargeError for one that is too long."""
        if len(path) > FIELD_PATH_STEPS_MAX:
            raise TooLargeError(f"a path of {len(path)} keys, the limit is {FIELD_PATH_STEPS_MAX}")
        for key in path:
            if len(key.encode()) > FIELD_KEY_BYTES_MAX:
                raise TooLargeError(f"the key {key[:40]!r}… of a field, the limit is {FIELD_KEY_BYTES_MAX} bytes")
        return Spot(self, path)

    def deltas(self, address: Address) -> Mapping[Dot, Delta]:
        """Return the deltas at an address."""
        return self._fields.get(address, _NO_DOTS)

    def addresses(self, path: Place) -> Iterator[Address]:
        """Yield the addresses of one path, in no order, those without deltas left out."""
        if self.covered and self.is_covered(path):
            return iter(())
        kinds = self._index().get(path, _NO_KINDS)
        return (address for addresses in kinds.values() for address in addresses if self._fields.get(address))

    def kinds(self, path: Place) -> set[str]:
        """Return the kinds of fields at one path, however many elements each has."""
        if self.covered and self.is_covered(path):
            return set()
        kinds = self._index().get(path, _NO_KINDS)
        return {
            kind
            for kind, addresses in kinds.items()
            if any(address.part != REMNANT and self._fields.get(address) for address in addresses)
        }

    def below(self, path: Place) -> list[Place]:
        """Return the paths that begin with this one and go on, and at which there is a field."""
        depth = len(path)
        return sorted(
            place for place in self._index() if len(place) > depth and place[:depth] == path and self.kinds(place)
        )

    def is_covered(self, path: Place) -> bool:
        """Whether a plain value shows at a path, or where an object would have to be that leads to it."""
        return any(path[:depth] in self.covered for depth in range(1, len(path) + 1))

    def add(self, address: Address, content: bytes) -> None:
        """Put this edit's delta at an address."""
        self._own(address)[self.signature.dot] = Delta(content, self.signature.creations)
        self._listed(address)

    def remove(self, address: Address) -> None:
        """Remove the deltas at an address that the author has seen."""
        if self._fields.get(address):
            owned = self._own(address)
            for dot in list(owned):
                if self.sees(dot):
                    del owned[dot]
            self._listed(address)

    def sees(self, dot: Dot) -> bool:
        """Whether the author of the edit has seen a delta, and so can remove it."""
        seen = self.signature.seen
        return seen is None or dot in seen or dot == self.signature.dot

    def remove_dot(self, address: Address, dot: Dot) -> None:
        """Remove one delta."""
        self._own(address).pop(dot, None)
        self._listed(address)

    def sequence(self, address: Address) -> Sequence:
        """Return the open text or list of an address; its updates so far are those of this draft."""
        found = self._sequences.get(address)
        if found is None:
            journal = self._journals.get(address, EMPTY_JOURNAL)
            found = self._sequences[address] = self._open(address, journal, self.signature.writer)
        return found

    def use(self, address: Address, sequence: Sequence) -> None:
        """Set the open text or list of an address."""
        self._sequences[address] = sequence

    def vector(self, address: Address) -> Vector:
        """Return what the journal at an address held before this edit."""
        return self._starting.get(address, EMPTY_JOURNAL).vector

    def change(self, address: Address, steps: list[Step]) -> None:
        """Edit a text or list by position."""
        self._grow(address, _edited(self.sequence(address), steps))

    def rebase(self, address: Address, base: Vector, steps: list[Step]) -> None:
        """Edit a text or list by positions in its value at a vector.

        The steps are played on a copy from then, and what Yrs makes of them is what they are now. Raises GapError if the
        journal doesn't go back so far.
        """
        journal = self._journals.get(address, EMPTY_JOURNAL)
        update = _edited(self._then(address, base, b"rebase"), steps)
        if update is None:
            return
        now, sequence = self._open(address, journal, b"rebase"), self.sequence(address)
        with sequence.editing():
            for step in now.changes(update):
                sequence.step_in_bytes(step)
        self._grow(address, sequence.taken())

    def rewrite(self, address: Address, value: Any, steps: Callable[[int], list[Step]]) -> None:
        """Bring a text or list to a whole value: by `steps`, given its length, from what the author of the edit saw.

        Where that is a text that was never typed in, the value is planted: it counts once, however many write it so. An edit
        that derives from a revision made elsewhere is made on the text as its author had seen it, and signed by the revision:
        so the update is the same on every node. Raises GapError if the journal doesn't go back so far.
        """
        origin = self.signature.origin is not None
        sequence = self._as_seen(address) if origin else self.sequence(address)
        if sequence.untouched:
            self._grow(address, sequence.plant(value, self._planter(address, value)))
        else:
            self._grow(address, _edited(sequence, steps(sequence.length)))
        if origin:
            self._sequences.pop(address, None)

    def plant(self, address: Address, value: Any) -> None:
        """Insert a whole value into a text or list as if it were the first thing there."""
        self._grow(address, self.sequence(address).plant(value, self._planter(address, value)))

    def _planter(self, address: Address, value: Any) -> bytes:
        """Return what the Yrs client id of a planted value follows from."""
        items = [value] if isinstance(value, str) else encode_items(value)
        keys = (self.signature.doc_id, address.kind, address.part, str(len(address.path)), *address.path, *items)
        return b"planted" + b"".join(b"%d:%b" % (len(key), key) for key in map(str.encode, keys))

    def knows(self, address: Address) -> bool:
        """Whether the author of the edit has seen the text or list at an address."""
        return any(map(self.sees, self.deltas(address))) or bool(
            self._seen_of(self._journals.get(address, EMPTY_JOURNAL))
        )

    def _as_seen(self, address: Address) -> Sequence:
        base = self._seen_of(self._journals.get(address, EMPTY_JOURNAL))
        return self._then(address, base, self.signature.writer)

    # Lives

    def part(self) -> str:
        """Return the part of a text or list that is made now: the name of the life that the author of the edit sees."""
        if self.signature.root and not self._lives():
            self.add(LIFE, lives.begun_by(self.signature.root).encoded())
        return lives.current(self._lives()).part

    def begin_life(self, anchor: str | None = None) -> None:
        """Begin the next life, once an edit: by what `anchor` names, or by a removal from what the edit's author had seen."""
        if self.signature.dot in self.deltas(LIFE):
            return
        if anchor is None:
            heads = sorted(dot for dot in self.deltas(HEADS) if self.sees(dot))
            name = b"".join(b"%b%d," % (dot.actor, dot.counter) for dot in heads)
        else:
            name = anchor.encode()
        following = lives.current(self._lives()).after(name)
        self.remove(LIFE)
        self.add(LIFE, following.encoded())

    def _lives(self) -> list[bytes]:
        return [delta.content for dot, delta in self.deltas(LIFE).items() if self.sees(dot)]

    def _then(self, address: Address, base: Vector, writer: bytes) -> Sequence:
        """Open a text or list as it was at a vector."""
        journal = self._journals.get(address, EMPTY_JOURNAL)
        return self._open(address, journal._replace(vector=base, updates=upto(journal, base)), writer)

    def _seen_of(self, journal: Journal) -> Vector:
        seen = self.signature.seen
        if seen is None:
            return journal.vector
        return {
            actor: highest for actor in journal.vector if (highest := min(seen.highest(actor), journal.vector[actor]))
        }

    def _grow(self, address: Address, update: bytes | None) -> None:
        if update is None:
            return
        dot, journal = self.signature.dot, self._journals.get(address, EMPTY_JOURNAL)
        creations = self.signature.creations
        added = self._added[address] = self._added.get(address, 0) + len(update)
        if added > SEQUENCE_BYTES_MAX:
            raise TooLargeError(f"an edit of {added:,} bytes, the limit of a text or list is {SEQUENCE_BYTES_MAX:,}")
        whole = not journal.outlives_none_of(creations)
        if whole:
            update = self._copy(address, journal, update)
        earlier = journal.updates.get(dot)
        if earlier is not None:  # a second change in one edit
            update = Sequence.joined(earlier.content, update)
        new = address not in self._journals
        self._journals[address] = journal.grown(dot, update, creations, whole=whole)
        if new and len(self._journals) > SEQUENCES_MAX:
            raise TooLargeError(
                f"a document holds at most {SEQUENCES_MAX:,} texts and lists, those of its earlier lives included"
            )

    def _copy(self, address: Address, journal: Journal, update: bytes) -> bytes:
        """Return an update together with all of the text or list: what it builds on may go before it."""
        sequence = self._open(address, journal, b"copy")
        sequence.apply(update)
        return sequence.snapshot()

    def touched(self) -> set[Address]:
        """Return where the edit has changed something so far."""
        return {a for a, owned in self._owned.items() if owned.keys() != self._starts[a]} | {
            address for address, journal in self._journals.items() if self.signature.dot in journal.updates
        }

    def standing(self) -> Iterator[Address]:
        """Yield every address with deltas, in no order."""
        return (address for address, deltas in self._fields.items() if deltas)

    def outcome(self) -> Outcome:
        """Return the fields after the edit, with its dot among the heads if it changed anything."""
        touched = self.touched()
        if not touched:
            return Outcome(self._fields, self._journals, [], self._sequences)
        self._freshen({address.path for address in touched})
        dot = self.signature.dot
        signed = [(address, dot, owned[dot].content) for address, owned in self._owned.items() if dot in owned]
        signed += [
            (address, dot, journal.updates[dot].content)
            for address, journal in self._journals.items()
            if dot in journal.updates
        ]
        fields = {address: deltas for address, deltas in self._fields.items() if deltas}
        return Outcome(fields, self._journals, signed, self._sequences)

    def _freshen(self, paths: set[Place]) -> None:
        """Put the edit's dot at the heads and at every map above what it touched: an update wins over their removal."""
        above = {path[:depth] for path in paths for depth in range(1, len(path))}
        for address in [HEADS, *(Address(path, HEADS.kind) for path in sorted(above))]:
            if address is HEADS or self._fields.get(address):
                self.remove(address)
                self.add(address, b"")

    def _own(self, address: Address) -> dict[Dot, Delta]:
        owned = self._owned.get(address)
        if owned is None:
            owned = self._owned[address] = dict(self._fields.get(address, _NO_DOTS))
            self._starts[address] = frozenset(owned)
            self._fields[address] = owned
        return owned

    def _listed(self, address: Address) -> None:
        """Add an address with deltas to the index, for constant-time lookups."""
        if self._places is None:
            return
        kinds = self._places.setdefault(address.path, {})
        if self._fields.get(address):
            kinds.setdefault(address.kind, {})[address] = None
        else:
            kinds.get(address.kind, {}).pop(address, None)

    def _index(self) -> dict[Place, dict[str, dict[Address, None]]]:
        if self._places is None:
            self._places = {}
            for address in self.standing():
                self._places.setdefault(address.path, {}).setdefault(address.kind, {})[address] = None
        return self._places


def _edited(sequence: Sequence, steps: list[Step]) -> bytes | None:
    """Edit an open text or list, and return the update that this is."""
    with sequence.editing() as step:
        for one in steps:
            step(one)
    return sequence.taken()


class Outcome(NamedTuple):
    """The fields after an edit. `signed` are its deltas, which distinguish it from other edits."""

    fields: Fields
    journals: Journals
    signed: list[tuple[Address, Dot, bytes]]
    sequences: Mapping[Address, Sequence]


class Spot(NamedTuple):
    """Path in a draft, which a field type edits."""

    draft: Draft
    path: Place

    def address(self, kind: str, part: str = "") -> Address:
        """Return an address of this path."""
        return Address(self.path, kind, part)

    def parts(self, kind: str) -> list[str]:
        """Return the parts of one kind that have deltas, in order."""
        return sorted(address.part for address in self.draft.addresses(self.path) if address.kind == kind)

    def kinds(self) -> set[str]:
        """Return the kinds of fields here: more than one is a conflict."""
        return self.draft.kinds(self.path)

    def dots(self, kind: str, part: str = "") -> Mapping[Dot, Delta]:
        """Return the deltas of a part."""
        return self.draft.deltas(Address(self.path, kind, part))

    def add(self, kind: str, content: bytes = b"", part: str = "") -> None:
        """Put the edit's delta beside the existing ones."""
        self.draft.add(Address(self.path, kind, part), content)

    def replace(self, kind: str, content: bytes = b"", part: str = "") -> None:
        """Replace the existing deltas by the edit's."""
        self.remove(kind, part)
        self.add(kind, content, part)

    def remove(self, kind: str, part: str = "") -> None:
        """Remove the existing deltas."""
        self.draft.remove(Address(self.path, kind, part))

    def child(self, key: str) -> Spot:
        """Return the spot of a key in the object that is here."""
        return self.draft.at((*self.path, key))

    def children(self) -> Iterator[Spot]:
        """Yield the spots one key further with deltas at or below them."""
        depth = len(self.path)
        for key in dict.fromkeys(place[depth] for place in self.draft.below(self.path)):
            yield Spot(self.draft, (*self.path, key))


REMNANT = "-"
"""The part in which a type records a removed field. It doesn't count as a field."""
