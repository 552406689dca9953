"""Engines without a network: an honest pair, and a member gone mad that talks to one of them."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

import crdtdb
from crdtdb.backends.memory import MemoryBackend
from crdtdb.causality import EMPTY, DotSet, Lineage, Lineages, Session
from crdtdb.cluster.engine.actions import Dial, Log, Send
from crdtdb.cluster.engine.engine import Engine
from crdtdb.cluster.engine.node_identity import NodeIdentity
from crdtdb.couchdb import Checkpoints, Trees, local_ids, put_local
from crdtdb.couchdb.replication.spec import check_described
from crdtdb.database import Database
from crdtdb.database.system_collection import SystemCollection
from crdtdb.errors import InvalidInputError
from crdtdb.gossip import GossipConfig
from crdtdb.security import Permissions
from crdtdb.security.peer import PeerIdentity
from crdtdb.security.revocation import Revocations
from crdtdb.security.users import Users
from crdtdb.store import Store
from crdtdb.store.layout.contents import content_of
from crdtdb.testing.invariants import check_store
from crdtdb.wire.cbor import decode, encode
from crdtdb.wire.codec import clock_digest, decode_message, encode_message
from crdtdb.wire.messages import (
    MINOR,
    Ack,
    Audit,
    BucketDots,
    BucketsRequest,
    BucketSums,
    Compare,
    DotsRequest,
    Fetch,
    Greeting,
    Hello,
    LineagesMessage,
    LockAnswer,
    LockAsk,
    LockCheck,
    LockFree,
    LockHold,
    LockTell,
    LockTold,
    LockTurn,
    Member,
    Message,
    PageCredit,
    PageMessage,
    Part,
    Piece,
    Ping,
    Probe,
    Refuse,
    Retry,
    Rumor,
    Status,
    SyncHint,
    SyncRequest,
    Ticket,
    UpToDate,
    Welcome,
)
from tests.inside import roster_digest
from tests.store.worlds import Node

CONFIG = GossipConfig(showing_interval=1.0, tombstone_grace=0.0)
FILE = b"a file" * 100


def certified(name: str) -> PeerIdentity:
    """The certificate of a node."""
    return PeerIdentity("c", "node", name)


class Peer:
    """An engine over a store in memory, that can be stopped and opened again."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self.name, self.seed, self.backend = name, seed, MemoryBackend()
        self.numbers = iter(range(1, 1_000_000))
        self.sent: list[tuple[int, bytes]] = []
        self.logs: list[str] = []
        self.now = 0.0
        self.start()

    def start(self) -> None:
        self.node = Node(f"{self.name}{self.seed}", self.backend)
        self.database = Database(self.node.store)
        self.engine = Engine(
            self.database, NodeIdentity("c", self.name, self.name, offline=True), CONFIG, Random(self.seed), self.now
        )
        self.pass_time(0.1)

    @property
    def store(self) -> Store:
        return self.node.store

    def open(self, peer: str, address: str | None = None) -> int:
        """A connection is there, with `peer` at its other end."""
        number = next(self.numbers)
        self.engine.opened(number, address, certified(peer), self.now)
        return number

    def hear(self, link: int, payload: bytes) -> None:
        """A frame comes, and everything is done that follows from it."""
        self.engine.received(link, payload, self.now)
        self.work()

    def work(self) -> None:
        for _ in range(100):
            more = self.engine.work()
            self.perform()
            if not more:
                return

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.engine.tick(self.now)
        self.work()

    def perform(self) -> None:
        for action in self.engine.take():
            if isinstance(action, Send):
                self.sent.append((action.link, action.payload))
            elif isinstance(action, Log):
                self.logs.append(f"{action.level} {action.text}")
            elif isinstance(action, Dial):
                self.engine.dial_failed(action.address, "nobody is there", self.now)

    def said(self, link: int, kind: type[Any]) -> list[Any]:
        """Return what was sent over a link, of one kind."""
        return [m for number, payload in self.sent if number == link and type(m := decode_message(payload)) is kind]


def meet(one: Peer, other: Peer, rounds: int = 30) -> None:
    """Connect two members both ways, and let them talk until they have nothing more to say."""
    ends: dict[tuple[str, int], tuple[Peer, int]] = {}
    for dialer, accepter in ((one, other), (other, one)):
        accepted = accepter.open(dialer.name)
        dialed = dialer.open(accepter.name, accepter.name)
        ends[dialer.name, dialed] = (accepter, accepted)
        ends[accepter.name, accepted] = (dialer, dialed)
    for member in (one, other):
        member.perform()
    for _ in range(rounds):
        for member in (one, other):
            member.pass_time(0.2)
            sent, member.sent = member.sent, []
            for link, payload in sent:
                end = ends.get((member.name, link))
                if end is not None:
                    end[0].hear(end[1], payload)
    for name, number in ends:
        for member in (one, other):
            if member.name == name:
                member.engine.closed(number, member.now)
                member.perform()


def check(member: Peer) -> None:
    """Whatever came, the store is whole, and opens again."""
    while member.store.sweeper.sweep():
        pass
    try:
        check_store(member.store)
    except AssertionError as error:
        if "the path of" not in str(error):  # a member may leave out what it likes of its own revisions' paths
            raise
    store = member.store
    for name in member.database.collections():
        collection = member.database.collection(name)
        for document in collection.all():
            dict(document)
            collection.why(document.id)
            collection.history(document.id)
            collection.siblings(document.id)
        for change in collection.changes():
            str(change)
        assert collection.schema is not None
    notes = member.database.collection("notes")
    list(notes.find({"n": {"$gt": 0}}))
    list(notes.find({"title": "x"}))
    Users(store).names()
    Permissions(store).of("notes")
    assert "none" not in Revocations(store)
    dict(SystemCollection(store, "system.replicator", check_described).bodies())
    member.engine.locks.overview()
    list(local_ids(store, "notes"))
    for name in store.root.names:
        trees = Trees(store, name)
        for tree in trees.all("", None, False):
            tree.document(None)
    list(Checkpoints(store, 60.0).young("notes"))


def furnish(database: Database, seed: str = "") -> None:
    """Documents of all kinds."""
    notes = database.collection("notes")
    notes.declare({"count": crdtdb.Counter})
    notes.put(
        f"a{seed}",
        {
            "title": "x",
            "likes": crdtdb.Counter(3),
            "tags": crdtdb.Set(["a", 1]),
            "reg": crdtdb.Register({"x": 1}),
            "body": crdtdb.Text("hello"),
            "items": crdtdb.List([1, "x"]),
        },
    )
    document = notes.put(f"b{seed}", {"n": 0})
    for n in range(3):
        document = notes.put(f"b{seed}", {"n": n + 1}, document.rev)
    notes.attach(f"b{seed}", "file", FILE, "text/plain", rev=document.rev)
    notes.delete(f"c{seed}", notes.put(f"c{seed}", {"n": 1}).rev)
    with suppress(InvalidInputError):  # a rogue may have written a design document under that id
        notes.create_index(["n"])
    put_local(database.store, "notes", f"_local/c{seed}", {"last_seq": 3})


def furnish_system(store: Store, name: str) -> None:
    """A document in each system collection."""
    sixteen = store.identity.store_id.hex()
    nobody: dict[str, list[str]] = {"names": [], "roles": []}
    node = {
        "name": name,
        "store": sixteen,
        "actor": store.actor.hex(),
        "address": "r:1",
        "version": "1",
        "former": [sixteen],
    }
    documents: dict[tuple[str, str], dict[str, Any]] = {
        ("system.nodes", name): node,
        ("system.nodes", "gone"): {**node, "name": "gone", "store": "00" * 16, "actor": "11" * 16, "retired": True},
        ("system.locks", "invoice"): {"node": name, "for": "ada", "token": 3, "ttl": 30.0},
        ("system.notifys", f"{name}.1"): {"node": name, "for": "ada", "patterns": [], "by": "sse"},
        ("system.collections", "notes"): {"documents": 1, "deleted": 0, "conflicts": 0, "bytes": 3, "schema": {}},
        ("system.revocations", "abc123"): {
            "serial": "abc123",
            "name": "eve",
            "role": "node",
            "why": "lost",
            "by": "ada",
        },
        ("system.access", "notes"): {"admins": {"names": ["ada"], "roles": []}, "members": nobody, "readers": nobody},
        ("system.users", "bob"): {
            "salt": "00" * 16,
            "hash": "11" * 32,
            "scheme": "scrypt:16384:8:1",
            "roles": ["editors"],
        },
        ("system.replicator", "job"): {"source": "notes", "target": "tasks", "continuous": True},
    }
    for (collection, doc_id), body in documents.items():
        SystemCollection(store, collection).say(doc_id, body)


class Rogue:
    """Knows what a member says when, and says it with one thing changed."""

    def __init__(self, name: str = "r", seed: int = 0) -> None:
        self.name, self.rng = name, Random(f"rogue {name} {seed}")
        self.store = Node(f"rogue{seed}").store
        furnish(Database(self.store), "r")
        furnish_system(self.store, name)
        self._parcels = [encode(one) for one in self._read()]
        self.actor = self.written_by = self.store.actor

    def _read(self) -> list[Any]:
        outgoing = self.store.replication.outgoing(EMPTY)
        found = []
        while True:
            page = outgoing.next_page()
            found.append(page.parcel)
            if page.last:
                break
        outgoing.close()
        whole = self.store.replication.outgoing(EMPTY, whole=True)
        found.append(whole.next_page().parcel)
        whole.close()
        places = [
            (name, doc_id) for name in self.store.root.names for doc_id, _ in self.store.live_view().documents(name)
        ]
        for at in range(0, len(places), 2):
            parcel = self.store.replication.rumor(places[at : at + 2])
            if parcel is not None:
                found.append(parcel)
        for doc_id in ("ar", "br"):
            with Database(self.store).collection("notes").edit(doc_id) as document:
                document["likes" if doc_id == "ar" else "x"] = 1 if doc_id == "br" else crdtdb.Counter(9)
        brief = self.store.replication.rumor([("notes", "ar")], brief=True)
        return [*found, brief] if brief is not None else found

    def rename(self, admits: bool) -> None:
        """Write everything as a new actor, so that it is news; `admits` is whether it says that it is that actor."""
        self.written_by = self.rng.randbytes(16)
        self.actor = self.written_by if admits else self.store.actor

    @property
    def clock(self) -> DotSet:
        """Its node clock."""
        return DotSet({self.written_by: self.store.root.clock.ranges(self.store.actor)})

    def parcel(self) -> Any:
        """Return a parcel of some of its documents."""
        return decode(self.rng.choice(self._parcels).replace(self.store.actor, self.written_by))

    def _lineages(self, victim: Engine) -> Message:
        """Return in which sessions the actors of this store wrote, or of the victim's: as it is, or as it might be."""
        store = self.rng.choice([self.store, victim.store])
        lineages = store.root.lineages
        if self.rng.random() < 0.3:
            session = Session(self.rng.randint(1, 9), self.rng.randbytes(16))
            lineages = Lineages({victim.store.actor: Lineage((session,), None)})
        return LineagesMessage(self.rng.random() < 0.5, store.root.clock, lineages)

    def _part(self, payload: bytes) -> Message:
        """Return one of two parts of a payload: the other comes soon, or never."""
        half, number = len(payload) // 2, self.rng.randrange(2)
        return Part(self.rng.randrange(2), number, 2, payload[half:] if number else payload[:half])

    def greeting(self) -> Greeting:
        """Return what it says of itself."""
        identity = self.store.identity
        return Greeting(
            1, MINOR, "c", self.name, identity.store_id, self.store.actor, f"{self.name}:1", 1, self.store.root.clock
        )

    def message(self, victim: Engine, exchange: int) -> Message:
        """Return a valid message of any kind, about an exchange of the victim's."""
        rng, clock, mine = self.rng, self.clock, self.written_by
        me, other = victim.membership.me, Member("n2", b"2" * 16, b"2" * 16, "n2", 3, Status.SUSPECT)
        members = tuple(
            rng.choice(
                [
                    (me._replace(status=Status.DEAD),),
                    (me._replace(incarnation=2**53 - 1), other),
                    tuple(victim.membership.others.values()),
                    (Member("made-up", rng.randbytes(16), rng.randbytes(16), "9.9.9.9:1", 5, Status.ALIVE),),
                    (),
                ]
            )
        )
        sha256, roster = content_of(FILE).sha256, roster_digest(victim.locks) or bytes(8)
        ticket = Ticket(rng.choice([1, 2**50, 2**63 - 1]), self.name, 1)
        token = rng.choice([0, 1, 7, 2**53, 2**62 - 1])
        dots = tuple((mine, counter, rng.getrandbits(64)) for counter in range(1, 4))
        makers: list[Any] = [
            lambda: Hello(self.greeting()),
            lambda: Welcome(self.greeting()),
            lambda: Refuse(rng.randint(1, 8), "so it is"),
            lambda: Ping(rng.randrange(9), members),
            lambda: Ack(rng.randrange(9), members, clock_digest(rng.choice([clock, victim.store.root.clock]))),
            lambda: Probe(rng.randrange(9), "n2", members),
            lambda: SyncRequest(exchange, rng.choice([EMPTY, clock]), rng.random() < 0.5, rng.random() < 0.5),
            lambda: PageMessage(exchange, 0, rng.random() < 0.7, self.parcel()),
            lambda: PageMessage(exchange, rng.randrange(3), rng.random() < 0.5, self.parcel()),
            lambda: PageMessage(exchange, 0, rng.random() < 0.7, self.parcel()),
            lambda: PageCredit(exchange, 9),
            lambda: UpToDate(exchange),
            lambda: Rumor(self.parcel(), ("n2",)),
            lambda: Rumor(self.parcel(), ("n2",)),
            lambda: Rumor(self.parcel(), ("n2",)),
            SyncHint,
            lambda: Retry(exchange, rng.choice(["joining", "compare", "x"])),
            lambda: Fetch(exchange, sha256, 0, 8),
            lambda: Piece(exchange, sha256, 0, True, rng.choice([FILE, FILE[1:], b"", None])),
            lambda: Compare(exchange, rng.choice([EMPTY, clock]), rng.random() < 0.5),
            lambda: BucketSums(exchange, True, True, ((mine, 0, 3, 2**64 - 1), (victim.store.actor, 0, 1, 5))),
            lambda: BucketsRequest(exchange, ((mine, 0), (victim.store.actor, 0))),
            lambda: BucketDots(exchange, True, dots),
            lambda: DotsRequest(exchange, ((mine, 1), (victim.store.actor, 1))),
            Audit,
            lambda: self._lineages(victim),
            lambda: LockAsk(1, roster, "invoice", ticket, 30_000),
            lambda: LockHold(1, roster, "invoice", ticket, token, 30_000),
            lambda: LockCheck(1, roster, "invoice", token),
            lambda: LockAnswer(rng.randrange(9), True, token, ""),
            lambda: LockFree("invoice", ticket, True),
            lambda: LockTurn("invoice"),
            lambda: LockTell(roster),
            lambda: LockTold(roster, token, (("invoice", ticket, token, 30_000),)),
            lambda: self._part(encode_message(PageMessage(exchange, 0, True, self.parcel()))),
            lambda: self._part(encode_message(Rumor(self.parcel(), ()))),
        ]
        found: Message = rng.choice(makers)()
        return found
