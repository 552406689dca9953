"""The roster as documents: `system.nodes` names every member, and is replicated like any other collection.

So the naming of a member has a dot, and a node that has the dot knows of the member. Stability rests on that: a joiner has
bootstrapped when what it received includes its own naming, and a node that counts acknowledgements has, with each of them,
learned of every member that was named before it (rules 8 and 11).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from crdtdb.canonical_json import load
from crdtdb.causality import ACTOR_BYTES, Actor, Dot
from crdtdb.database.system_collection import SystemCollection
from crdtdb.errors import InvalidDocumentError
from crdtdb.limits import ADDRESS_BYTES_MAX, NAME_BYTES_MAX
from crdtdb.store import Store

NODES = "system.nodes"
FORMER_MAX = 256


def check_node(name: str, body: dict[str, Any]) -> None:
    """Raise an error unless a document of `system.nodes` names a member."""
    hexadecimal = (body["store"], body["actor"], *body.get("former", ()))
    if not 1 <= len(name.encode()) <= NAME_BYTES_MAX:
        raise InvalidDocumentError(f"the name of a node has 1 to {NAME_BYTES_MAX} bytes")
    if any(len(bytes.fromhex(one)) != ACTOR_BYTES for one in hexadecimal):
        raise InvalidDocumentError(f"`store`, `actor` and `former` are {ACTOR_BYTES} bytes each, in hexadecimal")
    if type(body.get("former", [])) is not list or len(hexadecimal) > FORMER_MAX + 2:
        raise InvalidDocumentError(f"`former` is an array of at most {FORMER_MAX} actors")
    if type(body["version"]) is not str or len(body["address"].encode()) > ADDRESS_BYTES_MAX:
        raise InvalidDocumentError("`version` and `address` are texts, the address not too long")
    if type(body.get("retired", False)) is not bool:
        raise InvalidDocumentError("`retired` is true or false")


class Entry(NamedTuple):
    """A member as its document has it."""

    name: str
    store_id: bytes
    actor: Actor
    address: str
    version: str = ""
    retired: bool = False
    former: tuple[Actor, ...] = ()
    """The actors that this node has written as, and never will again; the newest last."""
    dot: Dot | None = None
    """The write that said so."""
    siblings: frozenset[Actor] = frozenset()
    """The actors that what was said of it at the same time names: what it wrote as while it was being retired, say."""

    def body(self) -> dict[str, Any]:
        """Return the document."""
        found: dict[str, Any] = {
            "name": self.name,
            "store": self.store_id.hex(),
            "actor": self.actor.hex(),
            "address": self.address,
            "version": self.version,
        }
        if self.former:
            found["former"] = [actor.hex() for actor in self.former]
        return {**found, "retired": True} if self.retired else found

    def after(self, known: Entry | None) -> Entry:
        """Return this entry as the one that follows another of the same name."""
        if known is None:
            return self
        former = [actor for actor in (*known.former, known.actor) if actor != self.actor]
        return self._replace(former=tuple(dict.fromkeys(former))[-FORMER_MAX:])


class Roster:
    """The members that this store knows of, read again whenever their collection has changed."""

    def __init__(self, store: Store) -> None:
        self._nodes = SystemCollection(store, NODES, check_node)
        self._entries: dict[str, Entry] = {}
        self._named: set[tuple[str, bytes]] = set()

    def entries(self) -> dict[str, Entry]:
        """Return every entry by its name, those of retired members too."""
        if self._nodes.changed():
            self._entries = self._read()
        return self._entries

    def members(self) -> dict[str, Entry]:
        """Return those that aren't retired."""
        return {name: one for name, one in self.entries().items() if not one.retired}

    def get(self, name: str) -> Entry | None:
        """Return an entry, None if there is none."""
        return self.entries().get(name)

    def has(self, name: str, store_id: bytes) -> bool:
        """Whether this store is a member under this name: one that comes back may have said something else meanwhile."""
        self.entries()
        return (name, store_id) in self._named

    def write(self, entry: Entry) -> bool:
        """Name a member, or say something new of it; return whether anything was written."""
        if entry.retired:  # whatever it has written as may come back with it
            known = self.get(entry.name)
            former = (*entry.former, *sorted((known.siblings if known is not None else frozenset()) - {entry.actor}))
            entry = entry._replace(former=tuple(dict.fromkeys(former))[-FORMER_MAX:])
        return self._nodes.say(entry.name, entry.body())

    def _read(self) -> dict[str, Entry]:
        entries = {}
        self._named = set()
        for name, shown in self._nodes.views():
            for value in (load(one.text) for one in shown.siblings if one.text is not None):
                if not value.get("retired", False):
                    self._named.add((name, bytes.fromhex(value["store"])))
            winner = shown.siblings[0]
            others = [load(one.text) for one in shown.siblings[1:] if one.text is not None]
            if winner.text is not None:
                value = load(winner.text)
                entries[name] = Entry(
                    name,
                    bytes.fromhex(value["store"]),
                    bytes.fromhex(value["actor"]),
                    value["address"],
                    value["version"],
                    value.get("retired", False),
                    tuple(map(bytes.fromhex, value.get("former", ()))),
                    winner.dot,
                    frozenset(
                        bytes.fromhex(one) for other in others for one in (other["actor"], *other.get("former", ()))
                    ),
                )
        return entries
