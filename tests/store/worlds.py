"""Stores for tests: small words for what they do to each other."""

from __future__ import annotations

from hashlib import blake2b
from itertools import count

from crdtdb.backends.memory import MemoryBackend
from crdtdb.canonical_json import canonical, load
from crdtdb.database.pull import pull
from crdtdb.documents import Rev, delete, put, resolve, view
from crdtdb.store import Store


class Node:
    """A store in memory whose actors follow from its name."""

    def __init__(self, name: str, backend: MemoryBackend | None = None) -> None:
        numbers = count()

        def draw(size: int) -> bytes:
            return blake2b(f"{name}{next(numbers)}".encode(), digest_size=size).digest()

        ticks = count(1_700_000_000_000)
        self.name = name
        self.store = Store(backend or MemoryBackend(), wall=lambda: next(ticks), draw=draw)

    def put(self, doc_id: str, body: object, rev: Rev | None = None, name: str = "notes") -> Rev:
        """Put on the winner, or on `rev`."""
        winner = rev or self.winner(doc_id, name)
        written = self.store.write(name, doc_id, lambda state, write: put(state, write, winner, canonical(body)))
        assert written.dot is not None
        return written.state.leaves[written.dot].rev

    def delete(self, doc_id: str, name: str = "notes") -> None:
        winner = self.winner(doc_id, name)
        self.store.write(name, doc_id, lambda state, write: delete(state, write, winner))

    def resolve(self, doc_id: str, body: object, name: str = "notes") -> None:
        self.store.write(name, doc_id, lambda state, write: resolve(state, write, canonical(body)))

    def drop(self, name: str = "notes") -> None:
        self.store.submit(lambda transaction: transaction.ledger.drop(name))
        self.sweep()

    def sweep(self) -> None:
        while self.store.sweeper.sweep():
            pass

    def winner(self, doc_id: str, name: str = "notes") -> Rev | None:
        record = self.store.read(name, doc_id)
        shown = view(record.state).winner if record is not None else None
        return shown.rev if shown is not None else None

    def bodies(self, doc_id: str, name: str = "notes") -> list[object]:
        record = self.store.read(name, doc_id)
        return [load(shown.text or b"{}") for shown in view(record.state).siblings] if record is not None else []

    def hear(self, other: Node) -> int:
        moved = pull(self.store, other.store)
        self.sweep()
        return moved

    def digest(self, name: str = "notes") -> str:
        return self.store.live_view().digest(name) if name in self.store.root.names else "-"
