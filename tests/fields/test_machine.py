"""Three stores, random edits of every type, partial exchanges, rumors, deletes, re-creation, restarts; against the model."""

from __future__ import annotations

from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import crdtdb
from crdtdb.backends.memory import MemoryBackend
from crdtdb.database import Database
from crdtdb.database.pull import pull
from crdtdb.documents import view
from crdtdb.errors import NotFoundError
from crdtdb.store import MissingAncestorError, Store
from crdtdb.testing.invariants import check_store
from crdtdb.wire.delta_batch import DeltaBatch
from tests.examples import examples
from tests.fields import model
from tests.fields.model import Event
from tests.inside import session_of

IDS = ("a", "b")


class Machine:
    """The stores, and what each of them has heard of."""

    def __init__(self, seed: int, nodes: int = 3) -> None:
        self.rng = Random(seed)
        self.backends = [MemoryBackend() for _ in range(nodes)]
        self.ticks = count(1_700_000_000_000)
        self.stores = [self.open(n) for n in range(nodes)]
        self.known: list[dict[str, set[Event]]] = [{one: set() for one in IDS} for _ in range(nodes)]
        self.numbers = count(1)
        self.letters = map(chr, count(0x4E00))
        self.late: list[tuple[list[object], str, set[Event]]] = []

    def open(self, node: int) -> Store:
        return Store(self.backends[node], wall=lambda: next(self.ticks), draw=self.rng.randbytes)

    def collection(self, node: int) -> crdtdb.Collection:
        return Database(self.stores[node]).collection("notes")

    def event(
        self, node: int, doc_id: str, what: str, path: str = "", value: Any = None, text: str | None = None
    ) -> Event:
        made = Event(next(self.numbers), what, path, value, frozenset(self.known[node][doc_id]), text)
        self.known[node][doc_id].add(made)
        return made

    # Writing

    def write(self, node: int, doc_id: str) -> None:
        notes, rng = self.collection(node), self.rng
        if doc_id not in notes:
            self.create(node, doc_id)
            return
        what = rng.choice(["edit"] * 7 + ["delete", "put", "whole"])
        if what == "delete":
            notes.delete(doc_id, notes.get(doc_id).rev)
        elif what == "put":
            before = notes.get(doc_id)
            notes.put(doc_id, {**before, "title": rng.randint(0, 2)}, before.rev)
        elif what == "whole":
            self.put_whole(node, doc_id)
        else:
            self.edit(node, doc_id)

    def create(self, node: int, doc_id: str) -> None:
        notes, rng = self.collection(node), self.rng
        life = self.life(node, doc_id)
        if self.known[node][doc_id]:
            self.event(node, doc_id, "reset")
        body: dict[str, Any] = {"title": rng.randint(0, 2)}
        if rng.random() < 0.7:
            by = rng.randint(0, 3)
            body["likes"] = crdtdb.Counter(by)
            self.event(node, doc_id, "add", "likes", by)
        if rng.random() < 0.7:
            on = rng.random() < 0.5
            body["on"] = crdtdb.Flag(on)
            self.event(node, doc_id, "flag", "on", on)
        if rng.random() < 0.7:
            body["tags"] = crdtdb.Set(["x"])
            self.event(node, doc_id, "element", "tags", "x")
        if rng.random() < 0.7:
            body["reg"], body["mv"] = crdtdb.Register("old"), crdtdb.MultiValue(["old"])
            self.event(node, doc_id, "write", "reg", "old")
            self.event(node, doc_id, "write", "mv", "old")
        if rng.random() < 0.7:
            body["m"] = crdtdb.Map({"k": 1, "n": crdtdb.Counter(2)})
            self.event(node, doc_id, "here", "m")
            self.event(node, doc_id, "write", "m.k", 1)
            self.event(node, doc_id, "add", "m.n", 2)
        for path, kind in (("body", crdtdb.Text), ("items", crdtdb.List)):
            if rng.random() < 0.7:
                letter = rng.choice(["", "=", next(self.letters)])  # "=": others may begin with it, too
                body[path] = kind(letter if path == "body" else list(letter))
                self.event(node, doc_id, "begin", path, text=life)
                self.event(node, doc_id, "type", path, letter, life)
        notes.put(doc_id, body)

    def life(self, node: int, doc_id: str) -> str:
        """Return the name of the life that a document begins now: who puts it on the same deleted revision begins the same."""
        record = self.stores[node].read("notes", doc_id)
        winner = view(record.state).winner if record is not None else None
        return f"after {winner.rev}" if winner is not None else "first"

    def put_whole(self, node: int, doc_id: str) -> None:
        """Write as a client does that knows no fields."""
        notes, rng = self.collection(node), self.rng
        before = notes.get(doc_id)
        body = dict(before)
        if "likes" in body:
            by = rng.randint(-2, 2)
            body["likes"] += by
            self.event(node, doc_id, "add", "likes", by) if by else None
        if "tags" in body:
            body["tags"] = [*body["tags"], "y"] if "y" not in body["tags"] else [t for t in body["tags"] if t != "y"]
            self.event(node, doc_id, "element" if "y" in body["tags"] else "discard", "tags", "y")
        if "body" in body:
            text = self.shown_text(node, doc_id, "body", before["body"])
            if text is not None:
                letter = next(self.letters)
                at = rng.randint(0, len(body["body"]))
                body["body"] = body["body"][:at] + letter + body["body"][at:]
                self.event(node, doc_id, "type", "body", letter, text)
        notes.put(doc_id, body, before.rev)

    def edit(self, node: int, doc_id: str) -> None:
        notes, rng = self.collection(node), self.rng
        with notes.edit(doc_id) as doc:
            for path in rng.sample(["likes", "on", "tags", "reg", "mv", "m", "body", "items"], 2):
                if path not in doc:
                    continue
                getattr(self, f"edit_{path}")(node, doc_id, doc[path])

    def edit_likes(self, node: int, doc_id: str, field: Any) -> None:
        by = self.rng.randint(1, 5)
        field.increment(by)
        self.event(node, doc_id, "add", "likes", by)

    def edit_on(self, node: int, doc_id: str, field: Any) -> None:
        on = self.rng.random() < 0.5
        field.enable() if on else field.disable()
        self.event(node, doc_id, "flag", "on", on)

    def edit_tags(self, node: int, doc_id: str, field: Any) -> None:
        value = self.rng.choice("xyz")
        if self.rng.random() < 0.6:
            field.add(value)
            self.event(node, doc_id, "element", "tags", value)
        elif value in field.value:
            field.remove(value)
            self.event(node, doc_id, "discard", "tags", value)
        else:
            field.discard(value)  # which does nothing

    def edit_reg(self, node: int, doc_id: str, field: Any) -> None:
        value = next(self.numbers)
        field.set(value)
        self.event(node, doc_id, "write", "reg", value)

    def edit_mv(self, node: int, doc_id: str, field: Any) -> None:
        value = next(self.numbers)
        field.set(value)
        self.event(node, doc_id, "write", "mv", value)

    def edit_m(self, node: int, doc_id: str, field: Any) -> None:
        what = self.rng.choice(["k", "n", "drop"])
        here = field.value
        if what == "k":
            value = next(self.numbers)
            field.set("k", value)
            self.event(node, doc_id, "write", "m.k", value)
        elif what == "n":
            by = self.rng.randint(1, 3)
            if "n" in here:
                field["n"].increment(by)
            else:
                field["n"] = crdtdb.Counter(by)
            self.event(node, doc_id, "add", "m.n", by)
        elif "n" in here:
            field.remove("n")
            self.event(node, doc_id, "drop", "m.n")
        self.event(node, doc_id, "here", "m")

    def edit_body(self, node: int, doc_id: str, field: Any) -> None:
        self.type_in(node, doc_id, field, "body")

    def edit_items(self, node: int, doc_id: str, field: Any) -> None:
        self.type_in(node, doc_id, field, "items")

    def type_in(self, node: int, doc_id: str, field: Any, path: str) -> None:
        here = field.value
        text = self.shown_text(node, doc_id, path, here)
        if text is None:
            return
        if here and self.rng.random() < 0.3:
            at = self.rng.randrange(len(here))
            field.delete(at)
            self.event(node, doc_id, "erase", path, here[at], text)
        else:
            at, letter = self.rng.randint(0, len(here)), next(self.letters)
            field.insert(at, letter if path == "body" else [letter])
            self.event(node, doc_id, "type", path, letter, text)

    def shown_text(self, node: int, doc_id: str, path: str, here: Any) -> str | None:
        """Return the life of the text that shows: the one with these characters; None if two are alike."""
        mine = [one for one in self.known[node][doc_id] if one.path == path or one.what == "reset"]
        created = {one.text for one in mine if one.text is not None}
        alike = [
            text
            for text in created
            if frozenset(here) in model.texts([one for one in mine if one.text == text or one.what == "reset"])
        ]
        assert alike, f"{path} shows {here!r}, which nobody wrote"
        return alike[0] if len(alike) == 1 else None

    # Talking

    def hear(self, node: int, other: int) -> None:
        pull(self.stores[node], self.stores[other])
        for one in IDS:
            self.known[node][one] |= self.known[other][one]

    def rumor(self, node: int, other: int, doc_id: str) -> None:
        """Hear of one document alone: now, later, or out of order."""
        parcel = self.stores[other].replication.rumor([("notes", doc_id)])
        if parcel is not None:
            self.late.append((parcel, doc_id, set(self.known[other][doc_id])))
        if not self.late:
            return
        chosen, its_id, known = self.rng.choice(self.late)
        try:
            self.stores[node].replication.receive(DeltaBatch(chosen))
        except MissingAncestorError:
            return
        self.known[node][its_id] |= known

    def half(self, node: int, other: int) -> None:
        """An exchange that is cut off before its clock is taken over."""
        outgoing = self.stores[other].replication.outgoing(self.stores[node].root.clock)
        if not outgoing.nothing:
            try:
                self.stores[node].replication.receive(DeltaBatch(outgoing.next_page().parcel), advance=False)
                for one in IDS:
                    if self.brings(node, other, one):
                        self.known[node][one] |= self.known[other][one]
            except MissingAncestorError:
                pass
        outgoing.close()

    def brings(self, node: int, other: int, doc_id: str) -> bool:
        """Whether a document came along: it is held in the state that the other has, or in one that includes it."""
        mine, theirs = (self.stores[n].read("notes", doc_id) for n in (node, other))
        return (
            theirs is not None
            and mine is not None
            and mine.state.context >= theirs.state.context.restrict(theirs.state.actors())
        )

    def restart(self, node: int) -> None:
        if self.rng.random() < 0.5:
            session_of(self.stores[node]).identity.stopped(
                self.backends[node]
            )  # a clean stop goes on as the same actor
        self.stores[node] = self.open(node)

    # Checking

    def check(self, node: int) -> None:
        notes = self.collection(node)
        for doc_id in IDS:
            try:
                shown = dict(notes.get(doc_id))
            except NotFoundError:
                continue
            self.compare(node, doc_id, shown)

    def compare(self, node: int, doc_id: str, shown: dict[str, Any]) -> None:
        known = self.known[node][doc_id]

        def of(path: str) -> list[Event]:
            return sorted(
                (
                    one
                    for one in known
                    if one.path == path or one.what == "reset" or (one.what == "drop" and one.path == path)
                ),
                key=lambda one: one.number,
            )

        for path, rule in (("likes", model.counter), ("on", model.flag), ("tags", model.elements)):
            assert (path in shown) == model.exists(of(path)), f"{doc_id}.{path} of {shown}"
            if path in shown:
                assert shown[path] == rule(of(path)), f"{doc_id}.{path}"
        for path in ("reg", "mv"):
            assert (path in shown) == model.exists(of(path))
            if path == "reg" and path in shown:
                assert shown[path] in model.register(of(path))
            elif path in shown:
                assert set(shown[path]) == model.register(of(path))
        entries = shown.get("m", {})
        assert ("n" in entries) == model.exists(of("m.n"))
        assert entries.get("n", 0) == model.counter(of("m.n"))
        for path in ("body", "items"):
            wanted = model.texts(of(path))
            assert (path in shown) == bool(wanted), f"{doc_id}.{path} of {shown}, {wanted}"
            if path in shown:
                assert len(set(shown[path])) == len(shown[path]), f"{path} has something twice: {shown[path]}"
                assert frozenset(shown[path]) in wanted
                with self.collection(node).edit(doc_id) as doc:
                    others = [frozenset(one) for one in doc[path].conflicts]
                assert sorted(map(sorted, [frozenset(shown[path]), *others])) == sorted(map(sorted, wanted))


def run(seed: int, steps: int = 40) -> None:
    machine = Machine(seed)
    rng = machine.rng
    for _ in range(steps):
        node, other = rng.sample(range(3), 2)
        what = rng.choice(["write"] * 6 + ["hear", "hear", "rumor", "rumor", "half", "restart"])
        if what == "write":
            machine.write(node, rng.choice(IDS))
        elif what == "rumor":
            machine.rumor(node, other, rng.choice(IDS))
        elif what == "restart":
            machine.restart(node)
        else:
            getattr(machine, what)(node, other)
        machine.check(node)
        check_store(machine.stores[node])
    for _ in range(2):
        for node in range(3):
            for other in range(3):
                if node != other:
                    machine.hear(node, other)
    for node in range(3):
        machine.check(node)
        check_store(machine.stores[node])
    assert (
        len({store.live_view().digest("notes") if "notes" in store.root.names else "" for store in machine.stores}) == 1
    )
    collections = [machine.collection(node) for node in range(3)]
    shown = [{doc_id: dict(notes.get(doc_id)) for doc_id in IDS if doc_id in notes} for notes in collections]
    assert shown[0] == shown[1] == shown[2]


@examples(40)
@given(st.integers(0, 2**32))
def test_three_stores_show_what_the_model_says(seed: int) -> None:
    run(seed)


@pytest.mark.soak
def test_many_programs() -> None:
    for seed in range(5_000):
        run(seed, steps=80)
