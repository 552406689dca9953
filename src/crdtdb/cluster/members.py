"""The roster as documents: `system.nodes` names every member, and is replicated like any other collection.

So the naming of a member has a dot, and who has that dot knows of the member. That is what stability rests on: a joiner has
bootstrapped when what it received includes its own naming, and whoever counts the acknowledgements of others has, with each
of them, learned of every member that was named before it (rules 8 and 11).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from crdtdb.causality import Actor, Dot
from crdtdb.documents import State, Write, put, resolve, view
from crdtdb.jsontext import canonical, load
from crdtdb.store import Store, Transaction

NODES = "system.nodes"
FORMER_MAX = 256


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
        self._store = store
        self._read_at: tuple[int, int] | None = None
        self._entries: dict[str, Entry] = {}
        self._named: set[tuple[str, bytes]] = set()

    def entries(self) -> dict[str, Entry]:
        """Return every entry by its name, those of retired members too."""
        collection = self._store.held.collections.get(NODES)
        at = (collection.number, collection.seq) if collection is not None else None
        if at != self._read_at:
            self._entries = self._read() if at is not None else {}
            self._read_at = at
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
        text = canonical(entry.body())

        def work(transaction: Transaction) -> bool:
            with transaction.seeding():
                written = transaction.write(NODES, entry.name, lambda state, write: _say(state, write, text))
            return written.dot is not None

        return self._store.submit(work)

    def _read(self) -> dict[str, Entry]:
        entries = {}
        self._named = set()
        for doc_id, record in self._store.documents(NODES):
            shown = view(record.state).siblings
            for value in (load(one.text) for one in shown if one.text is not None):
                if not value.get("retired", False):
                    self._named.add((doc_id, bytes.fromhex(value["store"])))
            if shown and shown[0].text is not None:
                value = load(shown[0].text)
                entries[doc_id] = Entry(
                    doc_id,
                    bytes.fromhex(value["store"]),
                    bytes.fromhex(value["actor"]),
                    value["address"],
                    value["version"],
                    value.get("retired", False),
                    tuple(map(bytes.fromhex, value.get("former", ()))),
                    shown[0].dot,
                )
        return entries


def _say(state: State, write: Write, text: bytes) -> State:
    shown = view(state)
    if shown.deleted:
        return put(state, write, None, text)
    if not shown.conflict and shown.siblings[0].text == text:
        return state
    return resolve(state, write, text)
